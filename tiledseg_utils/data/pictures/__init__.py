"""Pictures: PNG, JPEG, TIFF and BMP files in, arrays out, and a sentence for the user where that cannot be done.

Whatever the file is, the other modules see `(H, W, 3)` uint8 RGB. A file's format is told by its first bytes, not by
its name. Every property of a file (its colours, depth, compression, layout) is either converted right or refused by
name; `data/README.md` lists the rules. Pixels are taken as stored: an orientation tag is not applied, but told.
"""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tifffile

from ...base.files import UserError, atomic_path, read_bytes
from .bitmaps import read_bitmap
from .part import MOST_CHANNELS, Image, ImagePart, check_channels, part_of, require_single
from .stored import Stored, look_up, tell_notes
from .tiff_rows import TiffRows
from .zarr_rows import ZarrRows, is_zarr

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}
SIGNATURES |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF")
PERCENTILES = (0.1, 99.9)  # of wider integers, that become 0 and 255

# What the decoders would print, the UserError says, together with the name of the file.
(cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2).setLogLevel(0)  # moved in OpenCV 5; 0 is silent
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def decode(image: Image, data: bytes | None = None) -> Stored:
    """Decode a PNG, JPEG, TIFF or BMP file, whose content is `data` if that is not to be read, or an OME-Zarr.

    Raises:
        UserError: as for `read_image`.
    """
    part = part_of(image)
    path = part.path
    if part.mpp is not None:
        raise UserError(path, "is decoded as it is stored, and mpp is given", "Use streaming.open_source to resample")
    if data is None and is_zarr(path):
        return _decode_zarr(part)
    data = read_bytes(path) if data is None else data
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if not data:
        raise UserError(path, "is an empty file", "Copy it again from its source")
    if kind is None:
        raise UserError(path, "is not a PNG, JPEG, TIFF or BMP image, whatever its name says", "Save it as PNG")
    if kind == "TIFF":
        return _decode_tiff(part, data)
    require_single(part)
    stored = read_bitmap(path, data, kind)
    return _all_channels(part, stored) if part.stored else stored


def _all_channels(part: ImagePart, stored: Stored) -> Stored:
    """A PNG, JPEG or BMP with the channels that are asked for, of which transparency is the last."""
    if stored.indices is not None:
        problem = "has a colour table, and its channels are asked for as they are stored"
        raise UserError(part.path, problem, "Save it in grey or RGB")
    pixels = stored.pixels if stored.alpha is None else np.dstack([stored.pixels, stored.alpha])
    check_channels(part, pixels.shape[2])
    chosen = range(pixels.shape[2]) if part.channels is None else part.channels
    return replace(stored, pixels=pixels[..., list(chosen)], dropped=0)


def _decode_tiff(part: ImagePart, data: bytes) -> Stored:
    path = part.path
    with contextlib.closing(TiffRows(part, io.BytesIO(data))) as rows:
        about = {"white_is_zero": rows.white_is_zero, "bits": rows.bits, "dropped": _dropped(rows, part)}
        about |= {"orientation": rows.orientation, "notes": tuple(rows.notes)}
        pixels, alpha = rows.read_all()
        if rows.palette is not None:
            colours, indices = look_up(path, pixels[..., 0], rows.palette)
            return Stored(colours, 3, False, alpha, indices, **about)
        _require_whole_numbers(path, pixels)
        return Stored(pixels, rows.channels, rows.is_lossy, alpha, **about)


def _decode_zarr(part: ImagePart) -> Stored:
    rows = ZarrRows(part)
    pixels = rows.read(0, rows.shape[0])
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    _require_whole_numbers(part.path, pixels)
    about = {"bits": 8 * rows.dtype.itemsize, "dropped": _dropped(rows, part), "notes": tuple(rows.notes)}
    return Stored(pixels, rows.channels, False, **about)


def _dropped(rows: TiffRows | ZarrRows, part: ImagePart) -> int:
    """How many channels are left out without having been asked."""
    return rows.channels - rows.colours if part.channels is None else 0


def _require_whole_numbers(path: Path, pixels: np.ndarray) -> None:
    """Raise a UserError for decimal numbers, of which it is not known what is black and what is white."""
    if pixels.dtype.kind not in "iu":
        nan = ", some of them not a number (NaN)" if np.isnan(pixels).any() else ""
        remedy = "Scale an image to 0-255 and save it as 8-bit; threshold a mask and save 0 and 255"
        remedy += "; save labels as whole numbers"
        raise UserError(path, f"holds decimal numbers ({pixels.dtype.name}){nan}", remedy)


def scale_to_uint8(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale integers so that `low` becomes 0 and `high` 255; where these are equal, keep the highest 8 bits."""
    bits = 8 * pixels.dtype.itemsize
    if low == high:
        return (pixels >> (bits - 8)).clip(0, 255).astype(np.uint8)
    scaled = (pixels.astype(np.float32 if bits <= 16 else np.float64) - low) * (255 / (high - low))
    return np.rint(scaled, out=scaled).clip(0, 255).astype(np.uint8)


def percentile_limits(pixels: np.ndarray) -> tuple[float, float]:
    """The values of integers that `read_image` scales to 0 and 255: the 0.1 and 99.9 percentiles of all channels."""
    safe = pixels.astype(np.float64) if pixels.dtype.kind == "i" else pixels  # NumPy's differences may overflow
    low, high = np.percentile(safe, PERCENTILES).tolist()
    if low == high:  # a few bright spots on an even background
        low, high = float(pixels.min()), float(pixels.max())
    return low, high


def to_rgb(stored: Stored) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of `read_image`; also return notes for the user."""
    pixels, used = stored.pixels, stored.pixels.shape[2]
    notes = list(stored.notes)
    if stored.dropped:
        notes.append(f"{stored.channels} channels, first {stored.channels - stored.dropped} used")
    if pixels.dtype != np.uint8:
        bits = 8 * pixels.dtype.itemsize
        low, high = percentile_limits(pixels)
        notes.append(f"{bits}-bit, " + ("constant" if low == high else f"scaled from {low:.0f}-{high:.0f}"))
        pixels = scale_to_uint8(pixels, low, high)
    dark = [name for index, name in enumerate(("red", "green", "blue")[:used]) if not stored.pixels[..., index].any()]
    notes += ["image is all zero"] if len(dark) == used else [f"{name} channel is all zero" for name in dark]
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if used == 1 else np.ascontiguousarray(pixels), notes


def read_image(image: Image) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP file, or an OME-Zarr, as `(H, W, 3)` uint8 RGB; also a part of one (`ImagePart`).

    8-bit values stay as they are. Wider integers are scaled, all channels together, so that their 0.1 and 99.9
    percentiles become 0 and 255: 12-bit data in a 16-bit file would be black otherwise. Where the percentiles coincide,
    minimum and maximum take their place; a constant image keeps its highest 8 bits. One channel, or two (grey and
    alpha), become three equal ones; of more than three (alpha, further stains) the first three are used. The rules for
    all other properties of files are those of `data/README.md`.

    What was done to the file (inverted, level 0 of a slide) or left undone (its orientation tag) is told on stderr,
    once per file.

    Raises:
        UserError: the file cannot be opened, is empty, cut, damaged or no image, has several pages, holds floats, or
            has colours or a compression that cannot be converted right.

    Example:
        from tiledseg_utils.data.pictures import read_image
        image = read_image("slide.tif")
    """
    stored = decode(image)
    tell_notes(part_of(image).path, stored.notes)
    return to_rgb(stored)[0]


def check_stored(path: str | os.PathLike, dtype: np.dtype, channels: int) -> None:
    """Raise a UserError unless an image that is to be read as it is stored has 1 to 8 channels of 8 or 16 bit."""
    if dtype not in (np.uint8, np.uint16):
        remedy = "Save it as whole numbers of 8 or 16 bit without a sign"
        raise UserError(path, f"holds {dtype.name}, and channels are read in 8 or 16 bit", remedy)
    if not 1 <= channels <= MOST_CHANNELS:
        raise UserError(path, f"has {channels} channels, and at most {MOST_CHANNELS} are read", "Choose some of them")


def read_channels(image: Image, channels: Sequence[int] | None = None) -> np.ndarray:
    """Read channels of an image as they are stored: `(H, W, C)` uint8 or uint16, not scaled.

    Args:
        image: what `read_image` takes.
        channels: their numbers, from 0; None reads all. Transparency of a PNG counts as its last one.

    Raises:
        UserError: as for `read_image`; it has no such channel, more than 8, or other numbers than 8 or 16 bit.
    """
    part = replace(part_of(image), stored=True, channels=None if channels is None else tuple(channels))
    stored = decode(part)
    tell_notes(part.path, stored.notes)
    check_stored(part.path, stored.pixels.dtype, stored.pixels.shape[2])
    return np.ascontiguousarray(stored.pixels)


def write_image(path: str | os.PathLike, array: np.ndarray, sync: bool = True) -> None:
    """Write an array without loss as PNG or TIFF, by the suffix of `path`; the file is complete or absent.

    uint8 `(H, W)` or `(H, W, 3)` RGB is written as it is, bool `(H, W)` as 0 and 255, and labels `(H, W)` of any other
    integer type as uint16 (PNG) or int32 (TIFF). `write_channels` writes other numbers of channels. `sync` is that of
    `files.atomic_path`.

    Raises:
        UserError: another suffix, shape or type, labels out of range, or a folder that cannot be written to.
    """
    path, is_png = Path(path), Path(path).suffix.lower() == ".png"
    if not is_png and path.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(path, "is not the name of a lossless image file", "Use the suffix .png or .tif")
    is_color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if array.size == 0 or array.dtype.kind not in "biu" or not (array.ndim == 2 or is_color):
        remedy = "Pass uint8 (H, W, 3) or (H, W), or bool or integer labels (H, W)"
        raise UserError(path, f"cannot hold {array.dtype} of shape {array.shape}", remedy)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        dtype = np.uint16 if is_png else np.int32
        if array.min() < 0 or array.max() > np.iinfo(dtype).max:
            remedy = "Number objects from 1" + ", or use .tif for labels above 65535" * is_png
            raise UserError(path, f"cannot hold labels from {array.min()} to {array.max()}", remedy)
        array = array.astype(dtype)
    with atomic_path(path, sync) as temporary:
        if is_png:
            array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if is_color else array
            temporary.write_bytes(cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
        else:
            tifffile.imwrite(temporary, array, compression="zlib", photometric="rgb" if is_color else "minisblack")


def write_channels(path: str | os.PathLike, array: np.ndarray, sync: bool = True) -> None:
    """Write channels, `(H, W, C)` uint8 or uint16, without loss as TIFF; `read_channels` reads them."""
    with atomic_path(Path(path), sync) as temporary:
        layout = {} if array.shape[2] == 1 else {"planarconfig": "contig"}
        pixels = array[..., 0] if array.shape[2] == 1 else array
        tifffile.imwrite(temporary, pixels, compression="zlib", photometric="minisblack", **layout)
