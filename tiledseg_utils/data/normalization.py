"""What is done to the colours of a whole image before it is cut: its white is balanced, or its contrast stretched.

Both are measured for the whole image, in one pass over its rows. Measured tile by tile, they would differ between
tiles, and so would the predictions.
"""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from .streaming import Source, percentile_of_counts
from .white_balance import apply_balance, measure_light

PERCENTILES = (1, 99.8)  # of all channels together, that become 0 and 255: those of StarDist and CSBDeep


class Contrast(NamedTuple):
    """The grey levels between which an image lies, 0-255."""

    low: float
    high: float


def measure_contrast(bands: Iterable[np.ndarray]) -> Contrast | None:
    """The levels at `PERCENTILES` of (h, W, 3) uint8 bands, which together are the image; None if both are the same."""
    counts = np.zeros(256, np.int64)
    for band in bands:
        counts += np.bincount(band.ravel(), minlength=256)
    low, high = (percentile_of_counts(counts, percent) for percent in PERCENTILES)
    return Contrast(low, high) if low < high else None


def stretch_contrast(pixels: np.ndarray, contrast: Contrast | None) -> np.ndarray:
    """Spread the levels of (h, W, 3) uint8 RGB over 0 to 255; what lies outside is cut off. Without, nothing changes.

    All channels are stretched alike, so that hues stay.
    """
    if contrast is None:
        return pixels
    levels = (np.arange(256) - contrast.low) * (255 / (contrast.high - contrast.low))
    return cv2.LUT(pixels, np.rint(levels.clip(0, 255)).astype(np.uint8))


WHITE_BALANCE, CONTRAST = "white_balance", "contrast"

METHODS = {WHITE_BALANCE: (measure_light, apply_balance), CONTRAST: (measure_contrast, stretch_contrast)}
"""By name, what is measured in an image's bands, and how it is applied to pixels."""


def normalize(image: np.ndarray, method: str | None) -> np.ndarray:
    """An image, (H, W, 3) uint8 RGB, after one of `METHODS`; None leaves it as it is."""
    if method is None:
        return image
    measure, apply = METHODS[method]
    return apply(image, measure([image]))


class NormalizedSource:
    """A `streaming.Source` whose rows come normalized; its first reading passes over the whole image once.

    Args:
        source: the image.
        method: one of `METHODS`.
    """

    def __init__(self, source: Source, method: str):
        self.name, self.shape, self.dtype = source.name, source.shape, source.dtype
        self._source, self._measured = source, None
        self._measure, self._apply = METHODS[method]
        self._searched = source.dtype != np.uint8  # decimal numbers have no levels to count, and stay as they are

    def measure(self, known: tuple | None = None) -> tuple:
        """What is measured in a pass over the whole image, unless it is `known` from one; see `Source.measure`."""
        if known is not None:
            self._source.measure(known[0])
            self._measured, self._searched = known[1], True
        limits = self._source.measure()
        if not self._searched:
            self._measured = self._measure(self._source.read_rows(*rows) for rows in self._source.chunks())
            self._searched = True
        return limits, self._measured

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """As `Source.read_rows`."""
        self.measure()
        rows = self._source.read_rows(start, stop)
        return rows if self._measured is None else self._apply(rows, self._measured)
