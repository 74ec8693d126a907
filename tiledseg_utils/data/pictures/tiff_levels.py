"""TIFF files: which pages are the picture and its smaller copies, and a sentence for the user if there are none.

A file is one picture if it has one page, or one page in full resolution and smaller copies of it, as slides have. The
copies are the levels of a pyramid: level 0 is the full resolution. What else a file holds, label and overviews of a
slide or further images, are other series, which have to be asked for.
"""

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tifffile
from tifffile import PHOTOMETRIC

from ...base.files import UserError
from .tiff_channels import channel_pages

SLIDES = {
    "svs": "Aperio",
    "ndpi": "Hamamatsu",
    "scn": "Leica",
    "bif": "Ventana",
    "philips": "Philips",
    "qpi": "PerkinElmer",
    "avs": "Argos",
    "sis": "Olympus",
}
COLOUR = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)


class Picture(NamedTuple):
    """A picture in a file: its page in full resolution, and what finds its smaller copies when they are asked for.

    `notes` are for the user; `problem` is the reason to refuse the picture, if there is one.
    """

    page: tifffile.TiffPage
    copies: Callable[[], Sequence[tifffile.TiffPage]]
    notes: list[str]
    problem: str = ""

    def levels(self) -> list[tifffile.TiffPage]:
        """The pages from the largest to the smallest."""
        return [self.page, *sorted(self.copies(), key=lambda page: -page.imagelength)]


def find_picture(path: str | os.PathLike, file: tifffile.TiffFile, series: int | None) -> Picture:
    """The picture of a file, or that of one of its series.

    Raises:
        UserError: the file has no such series.
    """
    return _main_picture(file) if series is None else _picture_of_series(path, file, series)


def pick_level(path: str | os.PathLike, picture: Picture, level: int) -> tuple[tifffile.TiffPage, tuple[float, float]]:
    """The page of a level, and the height and width of one of its pixels in pixels of the full image.

    Raises:
        UserError: there is no such level, or it is no smaller copy of the full image.
    """
    if level == 0:
        return picture.page, (1.0, 1.0)
    levels = picture.levels()
    if level >= len(levels):
        sizes = ", ".join(f"{number}: {page.imagelength} x {page.imagewidth}" for number, page in enumerate(levels))
        raise UserError(path, f"has no level {level}", f"Choose one of its levels ({sizes} pixels)")
    _check_agreement(path, level, levels[level], picture.page)
    return levels[level], _scale(levels[level], picture.page)


def _scale(page: tifffile.TiffPage, full: tifffile.TiffPage) -> tuple[float, float]:
    return full.imagelength / page.imagelength, full.imagewidth / page.imagewidth


def scales(picture: Picture) -> list[float]:
    """By how much pixels are larger than those of the full image, for each level."""
    return [_scale(page, picture.page)[0] for page in picture.levels()]


def refuse(path: str | os.PathLike, file: tifffile.TiffFile, picture: Picture, series: int | None) -> None:
    """Raise a UserError if the picture is none, and tell what can be done about it."""
    if picture.problem:
        remedy = "Save the page that you want as a file of its own"
        if channel_pages(file):
            remedy = "Its pages are channels. A network learns from those that the tiles of a preset name, such as "
            remedy += "channels: [0, 1]. For a network that takes RGB, save it as an RGB file"
        if series is None and len(file.series) > 1:
            remedy += f", or choose one with --series: {_list_series(file)}"
        raise UserError(path, picture.problem, remedy)


def _check_agreement(path: str | os.PathLike, level: int, page: tifffile.TiffPage, full: tifffile.TiffPage) -> None:
    """Raise a UserError unless a level is a smaller copy of the full image, as far as its tags tell."""
    down, across = _scale(page, full)
    rounding = 2 / min(page.imagelength, page.imagewidth)
    agreements = {
        "the size": min(down, across) > 1 and abs(down / across - 1) <= rounding,
        "the numbers": page.dtype == full.dtype,
        "the channels": page.samplesperpixel == full.samplesperpixel,
        "the colours": (page.photometric in COLOUR) == (full.photometric in COLOUR),
    }
    wrong = [what for what, agrees in agreements.items() if not agrees]
    if wrong:
        problem = f"has a level {level} that is no smaller copy of its full image: {' and '.join(wrong)} differ"
        raise UserError(path, problem, "Use level 0, or write the file again with the program that made it")


def _list_series(file: tifffile.TiffFile) -> str:
    """The series of a file with their sizes, at most eight."""
    listed = [f"{number} ({_shape(series.shape)})" for number, series in enumerate(file.series[:8])]
    return ", ".join([*listed, "..."] if len(file.series) > 8 else listed)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _picture_of_series(path: str | os.PathLike, file: tifffile.TiffFile, number: int) -> Picture:
    """One of the series of a file, as tifffile numbers them."""
    if number >= len(file.series):
        raise UserError(path, f"has no series {number}", f"Choose one of its series: {_list_series(file)}")
    series = file.series[number]
    planes = math.prod(series.shape) // series.keyframe.size
    problem = f"has {planes} focal planes, times or channels in series {number}" if planes != 1 else ""
    notes = [f"series {number} of {len(file.series)} used"] if len(file.series) > 1 else []
    return Picture(series.keyframe, lambda: [level.keyframe for level in series.levels[1:]], notes, problem)


def _main_picture(file: tifffile.TiffFile) -> Picture:
    """The picture of a file that holds one, beside smaller copies of it and what belongs to a slide."""
    first, series = file.pages.first, file.series
    if series[0].kind in SLIDES:
        return _slide(series)
    pages = [file.pages[index].aspage() for index in range(len(file.pages))]
    pictures = [page for page in pages if not (page.is_reduced or page.is_mask)] or [first]
    page, unmarked = pictures[0], _unmarked_copies(pictures)
    marked = [each for each in pages if each.is_reduced and not each.is_mask and each is not page]
    count = len(pages) + len(page.subifds or ())
    notes = [f"the largest of {count} pages used, the others are smaller copies or masks of it"] if count > 1 else []
    if count > 1 and page.is_tiled:
        notes = [f"slide or pyramid, level 0 of {count} pages used"]
    problem = ""
    if page is first and series[0].shape and math.prod(series[0].shape) != page.size and len(pictures) == 1:
        problem = f"is a stack of several pages, {_shape(series[0].shape)} numbers in one"
    elif len(pictures) > 1 and not unmarked:
        sizes = sorted({_shape(each.shape) for each in pictures})
        problem = f"is a stack of several pages, {len(pictures)} of {sizes[0]} pixels"
        if len(sizes) > 1:
            problem = f"holds {len(pictures)} pages of different sizes ({', '.join(sizes[:4])}), not one picture"
    elif page.is_reduced and page.subifds:
        problem = "begins with a thumbnail, as files of cameras do, and keeps its picture elsewhere"
    return Picture(page, lambda: [*_below(page), *marked, *unmarked], notes, problem)


def _below(page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
    """The pages below a page (SubIFDs), where OME-TIFF keeps its levels."""
    return [page.pages[index].aspage() for index in range(len(page.pages))] if page.subifds else []


def _slide(series: Sequence[tifffile.TiffPageSeries]) -> Picture:
    largest = max(series, key=lambda each: each.keyframe.imagelength * each.keyframe.imagewidth)
    level = largest.levels[0]
    page, maker = level.keyframe, SLIDES[series[0].kind]
    levels = max(len(each.levels) for each in series)
    rest = ", without label and overviews" if len(series) > 1 else ""
    notes = [f"slide ({maker}), level 0 of {levels} used{rest}"]
    problem = ""
    if math.prod(level.shape) != page.size:
        problem = f"is a slide ({maker}) with {math.prod(level.shape) // page.size} focal planes or channels"
    return Picture(page, lambda: [each.keyframe for each in largest.levels[1:]], notes, problem)


def _unmarked_copies(pages: Sequence[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """The smaller copies in a slide without flags: tiled pages, beside which may be a label and overviews."""
    first, others = pages[0], pages[1:]
    copies = [page for page in others if page.is_tiled and _is_copy(page, first)]
    rest = [page for page in others if page not in copies]
    labels_only = all(not page.is_tiled and page.imagelength < first.imagelength for page in rest)
    return copies if first.is_tiled and labels_only else []


def _is_copy(page: tifffile.TiffPage, first: tifffile.TiffPage) -> bool:
    factor = first.imagelength / page.imagelength
    same_proportions = abs(first.imagewidth - page.imagewidth * factor) <= 1.5 * factor
    same_numbers = page.dtype == first.dtype and page.samplesperpixel == first.samplesperpixel
    return factor > 1 and same_proportions and same_numbers
