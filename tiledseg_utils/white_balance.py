"""The ground of all images in one colour, so that a network need not learn every lamp and every film of plasma.

A bright-field camera records the lamp times what the specimen lets through. Lamp, exposure and dried plasma belong to
the slide, not to its cells, and show pure where there are none: on the ground. To divide by the colour of the ground
takes them out, the von Kries adaptation of colour constancy with the ground as its white (Ebner, "Color Constancy",
2007, chapter 6); histology does so before it takes stains apart (Macenko et al., ISBI 2009).

The colour is one for the whole image, found in one pass over its rows: what each tile found for itself would differ
from tile to tile, and so would the predictions.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from skimage.filters import threshold_otsu

from .streaming import Source, percentile_of_counts

GROUND = 220  # grey level that the ground becomes; above it is room for noise and for what shines
DARKEST, WIDEST = 170, 40  # of a ground's channels: less light, or further from grey, and there is none in the image


def ground_color(bands: Iterable[np.ndarray]) -> tuple[int, int, int] | None:
    """Find the colour of the ground: the median, by channel, of the brighter of two classes.

    Otsu's threshold of the green channel, in which stains are darkest, parts ground and cells (IEEE Transactions on
    Systems, Man, and Cybernetics 9, 1979).

    Args:
        bands: (h, W, 3) uint8 RGB, in any partition of the image's rows.

    Returns:
        red, green and blue, 0-255; None where the brighter class is dark or coloured, as in an image full of cells.
    """
    counts = np.zeros((3, 256, 256), np.int64)  # of pixels by channel, value of green, and own value
    for band in bands:
        green = band[..., 1].astype(np.intp) << 8
        for channel in range(3):
            counts[channel] += np.bincount((green + band[..., channel]).ravel(), minlength=2**16).reshape(256, 256)
    greens = counts[1].sum(axis=1)
    threshold = int(threshold_otsu(hist=(greens, np.arange(256)))) if np.count_nonzero(greens) > 1 else -1
    color = tuple(round(percentile_of_counts(counts[channel, threshold + 1 :].sum(axis=0), 50)) for channel in range(3))
    return color if min(color) >= DARKEST and max(color) - min(color) <= WIDEST else None


def apply_balance(pixels: np.ndarray, ground: tuple[int, int, int] | None) -> np.ndarray:
    """Scale the channels of (h, W, 3) uint8 RGB so that the ground becomes `GROUND`; without a ground, leave them."""
    if ground is None:
        return pixels
    levels = np.arange(256)[:, None] * (GROUND / np.array(ground)) + 0.5
    return cv2.LUT(pixels, np.clip(levels, 0, 255).astype(np.uint8)[None])


def balance_white(image: np.ndarray) -> np.ndarray:
    """Give the ground of an image, (H, W, 3) uint8 RGB, the grey of `GROUND`; an image without a ground stays as is."""
    return apply_balance(image, ground_color([image]))


class BalancedSource:
    """A `streaming.Source` whose rows come balanced; its first reading passes over the whole image once."""

    def __init__(self, source: Source):
        self.name, self.shape, self.dtype = source.name, source.shape, source.dtype
        self._source, self._ground = source, None
        self._searched = source.dtype != np.uint8  # decimal numbers have no levels to count, and stay as they are

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """As `Source.read_rows`."""
        if not self._searched:
            self._ground = ground_color(self._source.read_rows(*rows) for rows in self._source.chunks())
            self._searched = True
        return apply_balance(self._source.read_rows(start, stop), self._ground)
