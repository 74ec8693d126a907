"""Pictures: PNG, JPEG, TIFF and BMP files in, arrays out, and a sentence for the user where that cannot be done.

Whatever the file is, the other modules see `(H, W, 3)` uint8 RGB. A file's format is told by its first bytes, not by
its name. Pixels are taken as stored: an orientation tag (EXIF) is not applied.
"""

import contextlib
import io
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile

from .files import UserError, atomic_path, read_bytes

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}
SIGNATURES |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF")
PERCENTILES = (0.1, 99.9)  # of wider integers, that become 0 and 255

# What the decoders would print, the UserError says, together with the name of the file.
(cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2).setLogLevel(0)  # moved in OpenCV 5; 0 is silent
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Stored:
    """What a file holds: integers `(H, W, 1)` or `(H, W, 3)` RGB, and its count of channels before any were dropped.

    Masks also need what images drop: `alpha`, `(H, W)`, the transparency if there is one, and `indices`, `(H, W)`, the
    stored numbers of a file with a colour table, whose colours `pixels` has.
    """

    pixels: np.ndarray
    channels: int
    is_jpeg: bool
    alpha: np.ndarray | None = None
    indices: np.ndarray | None = None


def decode(path: Path, data: bytes | None = None) -> Stored:
    """Decode a PNG, JPEG, TIFF or BMP file, whose content is `data` if that is not to be read from `path`.

    Raises:
        UserError: as for `read_image`.
    """
    data = read_bytes(path) if data is None else data
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if not data:
        raise UserError(path, "is an empty file", "Copy it again from its source")
    if kind is None:
        raise UserError(path, "is not a PNG, JPEG, TIFF or BMP image, whatever its name says", "Save it as PNG")
    # OpenCV may fill the missing part of a cut JPEG with grey and say nothing. Inside a scan 0xFF is escaped, so the
    # last end marker (D9) precedes the last scan marker (DA) only in a cut file, whatever thumbnails it holds.
    jpeg_is_cut = kind == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if jpeg_is_cut or (kind == "PNG" and b"IEND\xaeB`\x82" not in data):
        raise UserError(path, f"is a {kind} file that is cut short", "Copy or download it again")
    pixels, is_jpeg = _decode_tiff(path, data) if kind == "TIFF" else (_decode_cv2(path, data, kind), kind == "JPEG")
    if pixels.dtype.kind not in "iu":
        nan = ", some of them not a number (NaN)" if np.isnan(pixels).any() else ""
        remedy = "Scale an image to 0-255 and save it as 8-bit; threshold a mask and save 0 and 255"
        raise UserError(path, f"holds decimal numbers ({pixels.dtype.name}){nan}", remedy)
    pixels = np.atleast_3d(pixels)
    channels = pixels.shape[2]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    return Stored(pixels[..., : 3 if channels >= 3 else 1], channels, is_jpeg, alpha)


def _decode_cv2(path: Path, data: bytes, kind: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise UserError(path, f"is cut short, damaged, or a rare kind of {kind}", "Copy it again, or save it as PNG")
    return pixels


def open_tiff(path: Path, source: str | os.PathLike | BinaryIO) -> tifffile.TiffFile:
    """Open a TIFF of one page, whose bytes are all there; only its tags are read.

    Args:
        path: the name for errors.
        source: the file, or its content.

    Raises:
        UserError: the file is cut, damaged, or a stack of several pages.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tifffile.TiffFile(source))
            page, series = file.pages.first, file.series[0]
            count = sum(not each.is_reduced for each in file.pages)  # thumbnails do not count
            is_stack = count > 1 or math.prod(series.shape) != page.size or page.axes not in ("YX", "YXS", "SYX")
            ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
            file.filehandle.seek(page.offset)
            tag_count = file.filehandle.read(file.tiff.tagnosize)
            if int.from_bytes(tag_count, "little" if file.byteorder == "<" else "big") != len(page.tags):
                raise ValueError("tags are missing")  # tifffile would guess them
            if not ends or max(ends) > file.filehandle.size:
                raise ValueError("pixels are missing")
            if not is_stack:
                stack.pop_all()  # stays open
                return file
    except Exception as error:  # every layer of tifffile raises its own kind for bytes that make no sense
        raise _damaged_tiff(path, error) from error
    raise UserError(path, "is a stack of several pages", "Save each page, or channels as RGB, as one file")


def _damaged_tiff(path: Path, error: Exception) -> UserError:
    return UserError(path, f"is a cut or damaged TIFF ({error})", "Copy it again, or save it as PNG")


def lacks_codec(error: Exception) -> bool:
    """Tell a compression that tifffile alone cannot decode, but OpenCV perhaps can, from damage."""
    return "requires the 'imagecodecs'" in str(error) or isinstance(error, ImportError)


def _decode_tiff(path: Path, data: bytes) -> tuple[np.ndarray, bool]:
    pixels = None
    with open_tiff(path, io.BytesIO(data)) as file:
        page = file.pages.first
        try:
            if page.photometric != tifffile.PHOTOMETRIC.PALETTE:  # OpenCV looks up palettes
                pixels = np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else page.asarray()
        except Exception as error:  # as in open_tiff
            if not lacks_codec(error):
                raise _damaged_tiff(path, error) from error
    compression = getattr(page.compression, "name", f"number {page.compression}")
    if pixels is None:
        pixels = _decode_cv2(path, data, f"TIFF (compression {compression})")
    return pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels, "JPEG" in compression


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
    if low == high:  # a few bright spots on even ground
        low, high = float(pixels.min()), float(pixels.max())
    return low, high


def to_rgb(stored: Stored) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of `read_image`; also return notes for the user."""
    pixels, used = stored.pixels, stored.pixels.shape[2]
    notes = [f"{stored.channels} channels, first {used} used"] if stored.channels > used else []
    if pixels.dtype != np.uint8:
        bits = 8 * pixels.dtype.itemsize
        low, high = percentile_limits(pixels)
        notes.append(f"{bits}-bit, " + ("constant" if low == high else f"scaled from {low:.0f}-{high:.0f}"))
        pixels = scale_to_uint8(pixels, low, high)
    dark = [name for index, name in enumerate(("red", "green", "blue")[:used]) if not stored.pixels[..., index].any()]
    notes += ["image is all zero"] if len(dark) == used else [f"{name} channel is all zero" for name in dark]
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if used == 1 else np.ascontiguousarray(pixels), notes


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP file as `(H, W, 3)` uint8 RGB.

    8-bit values stay as they are. Wider integers are scaled, all channels together, so that their 0.1 and 99.9
    percentiles become 0 and 255: 12-bit data in a 16-bit file would be black otherwise. Where the percentiles coincide,
    minimum and maximum take their place; a constant image keeps its highest 8 bits. One channel, or two (grey and
    alpha), become three equal ones; of more than three (alpha, further stains) the first three are used.

    Raises:
        UserError: the file cannot be opened, is empty, cut, damaged or no image, has several pages, or holds floats.
    """
    return to_rgb(decode(Path(path)))[0]


def write_image(path: str | os.PathLike, array: np.ndarray, sync: bool = True) -> None:
    """Write an array without loss as PNG or TIFF, by the suffix of `path`; the file is complete or absent.

    uint8 `(H, W)` or `(H, W, 3)` RGB is written as it is, bool `(H, W)` as 0 and 255, and labels `(H, W)` of any other
    integer type as uint16 (PNG) or int32 (TIFF). `sync` is that of `files.atomic_path`.

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
