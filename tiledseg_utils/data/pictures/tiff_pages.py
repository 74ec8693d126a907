"""TIFF files: which page of a file is the picture, and a sentence for the user if there is none.

tifffile reads the tags and imagecodecs unpacks the pixels; no other decoder takes part. A file is one picture if it has
one page, or one page in full resolution and smaller copies of it, as slides have. Only pages of this file count,
whatever its metadata say about other files of a set.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import tifffile
from tifffile import PHOTOMETRIC

from ...base.files import UserError
from .tiff_channels import channel_pages
from .tiff_levels import Picture, find_picture, pick_level, refuse

AS_PNG = "Save it as PNG, or as an RGB or grey TIFF without compression"
# Sets of files, whose other members tifffile would open, too.
OF_ONE_FILE = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}
# Numbers of compressions; what else a file may have is refused.
LOSSLESS = (1, 2, 3, 4, 5, 8, 32946, 32773, 34925, 34926, 50000)
JPEG, JPEG_2000, WEBP, JPEG_XL = 7, (33003, 33005, 34712), (34927, 50001), (50002, 52546)
READ = (*LOSSLESS, JPEG, *JPEG_2000, *WEBP, *JPEG_XL)
ABSURD_SIZE, ABSURD_RATIO = 2**26, 10**5  # bytes of a strip or tile, and how often they exceed what is stored
MOST_TAGS = 4096  # of a page, as in tifffile
COLOURS = dict.fromkeys((PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.PALETTE), 1)  # channels of each
COLOURS |= {PHOTOMETRIC.RGB: 3, PHOTOMETRIC.SEPARATED: 4, PHOTOMETRIC.YCBCR: 3}


@dataclass(frozen=True)
class Page:
    """The page of a TIFF that is read, and notes for the user on how it was chosen.

    `scale` is the height and width of one of its pixels in pixels of the full image, `picture` all its levels. `planes`
    are the pages of its channels, if each has its own.
    """

    file: tifffile.TiffFile
    tags: tifffile.TiffPage
    photometric: int
    notes: list[str]
    scale: tuple[float, float]
    picture: Picture
    planes: Sequence[tifffile.TiffPage] = ()


def damaged(path: str | os.PathLike, error: Exception) -> UserError:
    return UserError(path, f"is a cut or damaged TIFF ({error})", "Copy it again, or save it as PNG")


def open_page(
    path: str | os.PathLike,
    source: str | os.PathLike | BinaryIO,
    level: int = 0,
    series: int | None = None,
    stored: bool = False,
) -> Page:
    """Open the one picture of a TIFF, whose bytes are all there; only tags are read. The caller closes its `file`.

    Args:
        path: the name for errors.
        source: the file, or its content.
        level: of the pyramid, 0 is the full resolution.
        series: as tifffile numbers them; None is the picture of a file that has one.
        stored: channels are read as they are stored, so that each may have a page of its own.

    Raises:
        UserError: the file is cut or damaged, holds several pictures, or one that cannot be read right.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(_open(path, source))
            _check_chain(file)
            picture = find_picture(path, file, series)
            planes = channel_pages(file) if stored and picture.problem and not level and series is None else []
            if planes:
                notes = [f"{len(planes)} pages used as channels"]
                picture = Picture(planes[0], lambda: [], notes)
            tags, scale = pick_level(path, picture, level)
            for page in planes or [tags]:
                _check_that_all_is_there(file, page)
            photometric = _photometric(tags)
            refused = next((each for page in planes or [tags] for each in _problems(page, photometric)), "")
        except UserError:
            raise
        except Exception as error:  # every layer of tifffile raises its own kind for bytes that make no sense
            raise damaged(path, error) from error
        refuse(path, file, picture, series)
        if refused:
            raise UserError(path, f"is a TIFF with {refused}, which is not read", AS_PNG)
        stack.pop_all()  # stays open
        notes = [f"level {level} used, {tags.imagelength} x {tags.imagewidth} pixels"] if level else picture.notes
        return Page(file, tags, photometric, notes, scale, picture, planes)


def _open(path: str | os.PathLike, source: str | os.PathLike | BinaryIO) -> tifffile.TiffFile:
    """Open a TIFF by its content, but NDPI by its name: it looks like TIFF, with longer offsets."""
    if str(path).lower().endswith(".ndpi"):
        file = tifffile.TiffFile(source, is_ndpi=True, **OF_ONE_FILE)
        if file.series:
            return file
        file.close()
        if not isinstance(source, (str, os.PathLike)):
            source.seek(0)
    file = tifffile.TiffFile(source, is_ndpi=False, **OF_ONE_FILE)
    file.is_ndpi = bool(file.pages) and file.pages.first.is_ndpi
    return file


def _check_chain(file: tifffile.TiffFile) -> None:
    """Raise a ValueError unless the chain of pages ends; in one that does not, tifffile may go in circles."""
    tiff, handle = file.tiff, file.filehandle
    order = "little" if file.byteorder == "<" else "big"
    position, seen = file.pages.first.offset, set()
    while position:
        handle.seek(position)
        count = int.from_bytes(handle.read(tiff.tagnosize), order)
        if position in seen or not 0 < count <= MOST_TAGS:
            raise ValueError("its chain of pages has no end")
        seen.add(position)
        handle.seek(position + tiff.tagnosize + count * tiff.tagsize)
        position = int.from_bytes(handle.read(tiff.offsetsize), order)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape)


def _check_that_all_is_there(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Raise a ValueError if tags or pixels are missing, which tifffile would guess or fill in."""
    file.filehandle.seek(page.offset)
    tag_count = file.filehandle.read(file.tiff.tagnosize)
    if int.from_bytes(tag_count, "little" if file.byteorder == "<" else "big") != len(page.tags):
        raise ValueError("tags are missing")
    if 0 in page.shape:
        raise ValueError("no pixels")
    offsets, sizes = page.dataoffsets, page.databytecounts
    if not all(isinstance(number, int) and number >= 0 for number in (*offsets, *sizes)):
        raise ValueError("offsets of its pixels that are not whole numbers from 0")
    ends = [start + size for start, size in zip(offsets, sizes, strict=True)]
    if not ends or max(ends) > file.filehandle.size:
        raise ValueError("pixels are missing")
    if page.jpegheader is None and len(ends) != count_segments(page):
        raise ValueError(f"{len(ends)} strips or tiles instead of {count_segments(page)}")
    if any(_is_absurd(page, size) for size in sizes):
        raise ValueError(f"too few bytes for {_size(page.shape)} numbers")
    if any((start == 0) != (size == 0) for start, size in zip(offsets, sizes, strict=True)):
        raise ValueError("a strip or tile is empty")


def _is_absurd(page: tifffile.TiffPage, stored: int) -> bool:
    """Whether a strip or tile would unpack to a size that no picture has, so that its tags must be damaged."""
    rows, columns = segment_size(page)
    unpacked = min(rows, page.imagelength) * columns * page.shaped[4] * (page.dtype.itemsize if page.dtype else 1)
    return unpacked > ABSURD_SIZE and unpacked > ABSURD_RATIO * stored > 0


def segment_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """Rows and columns of a strip or tile."""
    return (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)


def count_segments(page: tifffile.TiffPage) -> int:
    """How many strips or tiles a picture needs."""
    rows, columns = segment_size(page)
    return page.shaped[0] * math.ceil(page.imagelength / rows) * math.ceil(page.imagewidth / columns)


def _photometric(page: tifffile.TiffPage) -> int:
    """What the numbers mean; if the file does not say, what libtiff assumes."""
    if 262 in page.tags:
        return int(page.photometric)
    return PHOTOMETRIC.RGB if page.samplesperpixel >= 3 else PHOTOMETRIC.MINISBLACK


def _problems(page: tifffile.TiffPage, photometric: int) -> Iterator[str]:
    """Name the properties that are not converted correctly here."""
    bits, colours, compression = page.bitspersample, COLOURS.get(photometric), _name(page.compression)
    unsigned = page.dtype is not None and page.dtype.kind in "bu"
    is_lossless, is_jpeg, in_planes = page.compression in LOSSLESS, page.compression == JPEG, page.planarconfig == 2
    if page.axes not in ("YX", "YXS", "SYX"):
        yield f"a volume ({_size(page.shape)} {page.axes})"
    if page.compression not in READ:
        yield f"the compression {compression}"
    if colours is None:
        yield f"the colours {_name(page.photometric)} (PhotometricInterpretation {photometric})"
        return
    if page.dtype is None or not isinstance(bits, int):
        yield f"numbers of {bits} bits and SampleFormat {page.sampleformat}"
        return
    if page.planarconfig not in (1, 2):
        yield f"PlanarConfiguration {page.planarconfig}"
    if page.samplesperpixel < colours:
        yield f"{page.samplesperpixel} channels, where its colours need {colours}"
    if (bits not in (1, 2, 4, 8, 16, 32, 64) and not is_lossless) or (is_jpeg and bits != 8):
        yield f"{bits} bits in {compression}"
    if bits < 8 and bits not in (1, 2, 4):
        yield f"numbers of {bits} bits"
    if photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB) and not unsigned:
        yield f"the colours {_name(page.photometric)} in numbers with sign or decimals"
    if photometric in (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR) and bits != 8:
        yield f"the colours {_name(page.photometric)} in {bits} bits"
    if photometric == PHOTOMETRIC.PALETTE and (not is_lossless or bits > 16 or 320 not in page.tags):
        yield f"a colour table in {compression} or {bits} bits" if 320 in page.tags else "colours of a missing table"
    if photometric == PHOTOMETRIC.SEPARATED and not _is_plain_cmyk(page):
        yield "other inks than CMYK (by its tags InkSet, NumberOfInks or DotRange)"
    if photometric == PHOTOMETRIC.YCBCR and not (is_lossless or is_jpeg):
        yield f"the colours YCBCR in {compression}"
    if photometric == PHOTOMETRIC.YCBCR and not (is_jpeg and not in_planes) and not _is_plain_ycbcr(page):
        yield "the colours YCBCR in reduced resolution, or of another range than 0-255"
    if is_jpeg and not in_planes and page.samplesperpixel != colours:
        yield f"{page.samplesperpixel} channels in JPEG, where its colours need {colours}"


def _is_plain_cmyk(page: tifffile.TiffPage) -> bool:
    dots = page.tags.valueof(336, (0, 255))
    return page.tags.valueof(332, 1) == 1 and page.tags.valueof(334, 4) == 4 and tuple(dots[:2]) == (0, 255)


def _is_plain_ycbcr(page: tifffile.TiffPage) -> bool:
    """Whether luminance and colours have one resolution, the full range and the usual weights (BT.601)."""
    ranges = page.tags.valueof(532, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1))
    weights = page.tags.valueof(529, (299, 1000, 587, 1000, 114, 1000))
    range_is_full = [a / b for a, b in zip(ranges[::2], ranges[1::2], strict=True)] == [0, 255, 128, 255, 128, 255]
    shares = [a / b for a, b in zip(weights[::2], weights[1::2], strict=True)]
    usual = all(abs(a - b) < 1e-3 for a, b in zip(shares, (0.299, 0.587, 0.114), strict=True))
    return page.subsampling == (1, 1) and range_is_full and usual


def _name(value: int) -> str:
    """The name of a compression or photometric interpretation."""
    return getattr(value, "name", f"number {value}")
