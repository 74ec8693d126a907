"""What an image is like, in a few numbers that need no network: its colour, its brightness, and how large objects are.

They tell a black fluorescence image from a stained slide, which is all that is needed to sort the images of a folder
into kinds (`measured_kinds`) and to choose how a network should see them (`tiles.choices`).
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from .composites import visible
from .images import Pair, read_pair
from .normalization import measure_contrast

COLOUR = 0.02
"""Mean difference between the channels above which an image counts as coloured. JPEG makes grey differ by less."""

THUMBNAIL = 48
"""Side of the small copy of an image, pixels."""


class Cues(NamedTuple):
    """What one image is like.

    Attributes:
        chroma: mean over pixels of the largest less the smallest channel, 0 (grey) to 1.
        brightness: the median grey level, 0 (black) to 1 (white).
        levels: how many grey levels lie between the `normalization.PERCENTILES`, 0 to 255.
        side: the shorter side, pixels.
        objects: how many the mask shows.
        diameter: of the usual object, pixels: half of the foreground is in objects as wide or narrower, so that specks
            do not count for much. None where there is no object. See `_widths`.
        extent: the longer side of the box around an object, pixels, of the usual one in the same sense; or None. Of a
            net, it is that of the whole net.
    """

    chroma: float
    brightness: float
    levels: float
    side: int
    objects: int
    diameter: float | None
    extent: int | None

    @property
    def colour(self) -> bool:
        """Whether the channels differ."""
        return self.chroma > COLOUR


def measure_cues(image: np.ndarray, labels: np.ndarray) -> Cues:
    """Measure an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) int32, 0 = background, of its objects.
    """
    chroma = (image.max(axis=2).astype(np.int16) - image.min(axis=2)).mean() / 255
    brightness = np.median(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) / 255
    contrast = measure_contrast([image])
    levels = contrast.high - contrast.low if contrast else 0.0
    areas, widths = _widths(labels)
    diameter = extent = None
    if areas.size:
        # The last digits of OpenCV's distances differ from run to run.
        diameter = round(float(_usual(widths, areas)), 1)
        boxes = [box for box in ndimage.find_objects(labels) if box]
        extents = np.array([max(side.stop - side.start for side in box) for box in boxes])
        extent = int(_usual(extents, areas))
    return Cues(float(chroma), float(brightness), float(levels), min(labels.shape), int(areas.size), diameter, extent)


def _usual(values: np.ndarray, areas: np.ndarray) -> np.number:
    """The median of a value of objects, (N,), in which each counts by its area."""
    order = np.argsort(values, kind="stable")
    return values[order[np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)]]


def _widths(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area and width of each object, pixels, (N,) each: the width is six times the mean distance from the edge.

    That is the diameter of a disc, and one and a half times the width of a band. So a net of membranes is as wide as a
    membrane, and nuclei that touch in a mask are about as wide as one of them, where the disc of their area is not.
    """
    labels = np.pad(labels, 1)
    is_object = labels > 0
    is_inner = is_object.copy()
    for axis in (0, 1):
        first, second = (np.moveaxis(each, axis, 0) for each in (labels, is_inner))
        differs = first[1:] != first[:-1]
        second[1:][differs] = False
        second[:-1][differs] = False
    # Pixels at an edge, also at that of the image, are half a pixel from it.
    distance = cv2.distanceTransform(is_inner.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) + 0.5
    label = labels[is_object]
    areas, sums = np.bincount(label), np.bincount(label, distance[is_object])
    there = areas > 0
    return areas[there], 6 * sums[there] / areas[there]


def measure_pairs(pairs: Iterable[Pair]) -> tuple[dict[str, Cues], dict[str, np.ndarray]]:
    """The cues of images, and a small copy of each, (48, 48, 3) uint8 RGB, by stem.

    Masks without instance labels count each connected component as an object. Of channels that are no colours, what
    `visible` shows is measured, which is stretched in each image.

    Raises:
        UserError: an image or its mask cannot be read.
    """

    def measure(pair: Pair) -> tuple[str, Cues, np.ndarray]:
        image, labels = read_pair(pair, labels=True)
        image = visible(image)
        small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        return pair.stem, measure_cues(image, labels), small

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(measure, pairs))
    return {stem: cues for stem, cues, _ in found}, {stem: small for stem, _, small in found}
