"""How large a pixel is in reality, as far as a file says: OME, ImageJ, slides of Aperio, and the tags of TIFF.

Files of other formats say nothing that could be relied on: PNG and JPEG have a resolution for printers at best.
"""

import contextlib
import re
from pathlib import Path

import tifffile

from ..base.files import UserError, open_bytes
from .pictures.part import Image, ImagePart, part_of
from .pictures.tiff_levels import find_picture, pick_level
from .pictures.tiff_pages import OF_ONE_FILE
from .pictures.tiff_rows import TiffRows
from .pictures.zarr_rows import ZarrRows, is_zarr

MICROMETRES = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4}
MICROMETRES |= {"inch": 25400.0, "micrometer": 1.0, "micrometre": 1.0, "\\u00B5m": 1.0, "m": 1e6}
COARSEST = 50.0
"""µm. A resolution tag that makes pixels larger is that of a printer or a screen (300 dots per inch are 85 µm)."""

GIVE_IT = "Give the side of a pixel in µm with --pixel-size"


def read_pixel_size(image: Image) -> float | None:
    """The side of a pixel of a file, or of the part of it that is read, µm; None if the file does not say.

    Raises:
        UserError: pixels are no squares.
    """
    part = part_of(image)
    if part.mpp is not None:
        return part.mpp
    path = part.path
    if part.pixel_size is not None:
        return part.pixel_size * _scale_of(part)
    if is_zarr(path):
        return ZarrRows(part).pixel_size
    with open_bytes(path) as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
    sides = None
    with contextlib.suppress(Exception), tifffile.TiffFile(path, **OF_ONE_FILE) as tiff:  # Told when it is decoded.
        sides = _sides_of_part(tiff, part)
    if sides is None or min(sides) <= 0:
        return None
    if max(sides) > 1.01 * min(sides):
        problem = f"has pixels of {sides[1]:.4g} x {sides[0]:.4g} µm (height x width), which are no squares"
        raise UserError(path, problem, "Resample it to square pixels, or give the side to use with --pixel-size")
    return float(sides[0])


def find_pixel_size(image: Image) -> float | None:
    """As `read_pixel_size`, for those who can do without: also None if pixels are no squares."""
    try:
        return read_pixel_size(image)
    except UserError:
        return None


def _scale_of(part: ImagePart) -> float:
    """The width of a pixel of the part that is read, in pixels of the full image."""
    if part.level == 0:
        return 1.0
    if is_zarr(part.path):
        return ZarrRows(part).scale[1]
    with contextlib.closing(TiffRows(part, part.path)) as rows:
        return rows.scale[1]


def _sides_of_part(tiff: tifffile.TiffFile, part: ImagePart) -> tuple[float, float] | None:
    """Width and height of a pixel, µm, of the level and the series that are read."""
    if part.series is None and part.level == 0:
        return _sides(tiff.pages.first)
    picture = find_picture(part.path, tiff, part.series)
    if "<OME" in (tiff.pages.first.description or "")[:2000]:  # One description for all series.
        sides = _of_ome(tiff.pages.first.description, part.series or 0)
    else:
        sides = _sides(tiff.pages.first if part.series is None else picture.page)
    down, across = pick_level(part.path, picture, part.level)[1]
    return None if sides is None else (sides[0] * across, sides[1] * down)


def _sides(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Width and height of a pixel, µm, from the first description that has them."""
    text = page.description or ""
    if "<OME" in text[:2000]:
        return _of_ome(text)
    aperio = re.search(r"\bMPP ?= ?([0-9.]+)", text) if text.startswith("Aperio") else None
    if aperio:
        return float(aperio[1]), float(aperio[1])
    unit = re.search(r"^unit=(.+)$", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    if unit:
        factor = MICROMETRES.get(unit[1].strip())
        return _of_tags(page, factor) if factor else None
    factor = {2: MICROMETRES["inch"], 3: MICROMETRES["cm"]}.get(int(page.tags.valueof(296, 2)))
    sides = _of_tags(page, factor) if factor else None
    return sides if sides and max(sides) <= COARSEST else None


def _of_ome(text: str, series: int = 0) -> tuple[float, float] | None:
    pixels = re.findall(r"<Pixels\b[^>]*>", text)
    found = dict(re.findall(r'\b(PhysicalSize[XY](?:Unit)?)="([^"]*)"', pixels[series] if series < len(pixels) else ""))
    if "PhysicalSizeX" not in found:
        return None
    factors = [MICROMETRES.get(found.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    x = float(found["PhysicalSizeX"])
    y = float(found.get("PhysicalSizeY", x))
    return (x * factors[0], y * factors[1]) if all(factors) else None


def _of_tags(page: tifffile.TiffPage, factor: float) -> tuple[float, float] | None:
    """From pixels per unit, stored as fractions, where a unit has `factor` µm."""
    resolutions = [page.tags.valueof(code) for code in (282, 283)]
    if not all(resolutions) or not all(above and below for above, below in resolutions):
        return None
    return tuple(factor * below / above for above, below in resolutions)


def require_pixel_size(path: Path, pixel_size: float | None) -> None:
    """Refuse an image whose measurements cannot be told in µm.

    Raises:
        UserError: no pixel size is known.
    """
    if pixel_size is None:
        raise UserError(path, "does not say how large its pixels are, so that nothing can be told in µm", GIVE_IT)
