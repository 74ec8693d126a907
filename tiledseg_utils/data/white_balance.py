"""The background of all images in one colour, so that a network need not learn every lamp and every film of plasma.

A bright-field camera records the lamp times what the specimen lets through. Lamp, exposure and dried plasma belong to
the slide, not to its cells, and show alone where there are no cells: on the background. Dividing by the colour of the
background removes them: the von Kries adaptation of colour constancy with the background as its white (Ebner, "Color
Constancy", 2007, chapter 6), as in histology before stains are separated (Macenko et al., ISBI 2009).

In some microscopes, light reaches the camera that never passed through a cell (glare). Such stray light lies
on all pixels alike and pales the darkest ones most, the nuclei. It is subtracted first, as haze is in dark-object
subtraction (Chavez, Remote Sensing of Environment 24, 1988): the light of the darkest pixels beyond what nuclei let
through.

Background and stray light are measured for the whole image, in one pass over its rows. Measured tile by tile, they
would differ between tiles, and so would the predictions.
"""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from skimage.filters import threshold_otsu

from .streaming import percentile_of_counts

BACKGROUND = 220  # grey level that the background becomes; above it, there is room for noise and bright spots
DARKEST, WIDEST = 170, 40  # least value of its channels, and their widest spread: else the image has no background
NUCLEI = 20, 60  # green of the darkest nuclei, where the background is `BACKGROUND`; what is lighter is not a nucleus


class Light(NamedTuple):
    """The light of an image that did not pass through a cell.

    Attributes:
        background: red, green and blue of the background, 0-255.
        stray_light: share of the background's light that reaches every pixel; 0 if nothing is dark enough to measure.
    """

    background: tuple[int, int, int]
    stray_light: float


def measure_light(bands: Iterable[np.ndarray]) -> Light | None:
    """Find the background, which is the median of each channel in the brighter of two classes, and the stray light.

    Otsu's threshold of the green channel, in which stains are darkest, separates background and cells (IEEE
    Transactions on Systems, Man, and Cybernetics 9, 1979). The darkest of 10,000 pixels in that channel
    gives the stray light.

    Args:
        bands: (h, W, 3) uint8 RGB, which together are the image, however its rows are divided.

    Returns:
        None where the brighter class is dark or coloured, as in an image full of cells.
    """
    counts = np.zeros((3, 256, 256), np.int64)  # of pixels by channel, value of green, and own value
    for band in bands:
        green = band[..., 1].astype(np.intp) << 8
        for channel in range(3):
            counts[channel] += np.bincount((green + band[..., channel]).ravel(), minlength=2**16).reshape(256, 256)
    greens = counts[1].sum(axis=1)
    threshold = int(threshold_otsu(hist=(greens, np.arange(256)))) if np.count_nonzero(greens) > 1 else -1
    color = tuple(round(percentile_of_counts(counts[channel, threshold + 1 :].sum(axis=0), 50)) for channel in range(3))
    if min(color) < DARKEST or max(color) - min(color) > WIDEST:
        return None
    usual, lightest = NUCLEI
    dark = percentile_of_counts(greens, 0.01) * BACKGROUND / color[1]
    return Light(color, (dark - usual) / (BACKGROUND - usual) if usual < dark <= lightest else 0.0)


def apply_balance(pixels: np.ndarray, light: Light | None) -> np.ndarray:
    """Remove the stray light from (h, W, 3) uint8 RGB and turn its background into `BACKGROUND`.

    Without a `light`, nothing changes.
    """
    if light is None:
        return pixels
    passed = np.arange(256)[:, None] / np.array(light.background)
    levels = BACKGROUND * (passed - light.stray_light) / (1 - light.stray_light) + 0.5
    return cv2.LUT(pixels, np.clip(levels, 0, 255).astype(np.uint8)[None])


def balance_white(image: np.ndarray) -> np.ndarray:
    """As `apply_balance`, with the background and stray light of the image itself, (H, W, 3) uint8 RGB."""
    return apply_balance(image, measure_light([image]))
