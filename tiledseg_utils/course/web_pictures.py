"""Pictures for pages: WebP, where that is smaller than PNG, and sharp enough to read the text in them."""

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..base.files import atomic_path

QUALITY = 90  # Thin text is still free of halos; at 80, they can be seen.
LOSSLESS = 101  # What OpenCV calls it.
LARGEST_WEBP = 2**14 - 1  # pixels, the largest side that the format has


@dataclass(frozen=True)
class WebPicture:
    """A picture as a page carries it: its bytes, their format ("webp" or "png"), and its size in pixels."""

    content: bytes
    kind: str
    width: int
    height: int


def webp(picture: np.ndarray, quality: int) -> bytes:
    """A picture, (H, W, 3) uint8 RGB or (H, W, 4) RGBA, as WebP; `quality` is 1..100, or `LOSSLESS`."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return _encode(cv2.cvtColor(picture, order), quality)


@functools.lru_cache(maxsize=256)  # A figure is in its notebook as well, and the report is written more than once.
def smallest(png: bytes) -> WebPicture:
    """The smallest of a PNG file, the same without loss as WebP, and with hardly visible loss.

    Raises:
        ValueError: it is not a picture of 8 bits.
    """
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8:
        raise ValueError("not a PNG file of 8 bits")
    height, width = pixels.shape[:2]
    if max(height, width) > LARGEST_WEBP:
        return WebPicture(png, "png", width, height)
    found = [(png, "png"), (_encode(pixels, QUALITY), "webp")]
    if len(found[1][0]) > len(png) / 4:  # A photograph is far smaller, and takes long without loss; a chart is neither.
        found.append((_encode(pixels, LOSSLESS), "webp"))
    content, kind = min(found, key=lambda each: len(each[0]))
    return WebPicture(content, kind, width, height)


def _encode(pixels: np.ndarray, quality: int) -> bytes:
    """Pixels in OpenCV's order of channels as WebP."""
    return cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically; a power cut may take it, since a page can be made again."""
    with atomic_path(path, sync=False) as temporary:
        temporary.write_bytes(content)


def remove_others(folder: Path, kept: set[str]) -> None:
    """Delete the pictures of a folder that an earlier page left, but for those whose names are `kept`."""
    for path in [*folder.glob("*.webp"), *folder.glob("*.png")]:
        if path.name not in kept:
            path.unlink()
