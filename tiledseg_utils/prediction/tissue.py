"""Where a stained slide shows tissue: on a small copy of it, so that empty glass need not be read at all.

Glass is grey, stained tissue is not. So a pixel of the small copy is tissue if its saturation (HSV) exceeds the
threshold that parts all pixels best (Otsu 1979, doi 10.1109/TSMC.1979.4310076). One outside `LIMITS` is moved to the
nearer limit: where all is tissue, or all is glass, there are no two parts. Two pixels around tissue count as well.
"""

import math
from dataclasses import replace

import cv2
import numpy as np

from ..base.files import UserError
from ..data.resampling import resample_reader
from ..data.streaming import Source, open_source
from ..tiles.planning import Axis, Plan

LONGEST = 1024  # side of the small copy, pixels
LIMITS = (10, 60)  # of the threshold, saturation 0-255
AROUND = 2  # pixels of the small copy


def tissue_mask(source: Source) -> np.ndarray:
    """(h, w) bool, a small copy of an image, in which tissue is true.

    It is made from the smallest level of a pyramid that is not smaller; without a pyramid, in a pass over the image.

    Raises:
        UserError: nothing in the image has a colour, as in fluorescence.
    """
    if source.part is not None and source.part.mpp is None and source.part.level == 0:
        sizes = [max(source.shape) / scale for scale in source.scales()]
        level = max((number for number, size in enumerate(sizes) if size >= LONGEST), default=0)
        with open_source(replace(source.part, level=level)) as small:
            return _tissue(small)
    return _tissue(source)


def _tissue(source: Source) -> np.ndarray:
    factor = max(1.0, max(source.shape) / LONGEST)
    read, shape = resample_reader(source.read_rows, source.shape, np.dtype(np.uint8), factor)
    saturation = np.concatenate(
        [cv2.cvtColor(read(row, min(row + 16, shape[0])), cv2.COLOR_RGB2HSV)[..., 1] for row in range(0, shape[0], 16)]
    )
    threshold, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    tissue = saturation > np.clip(threshold, *LIMITS)
    if not tissue.any():
        problem = "shows no tissue: nothing in it has a colour"
        raise UserError(
            source.name, problem, "Leave out --tissue; --skip-contrast skips what is even, in any kind of image"
        )
    return cv2.dilate(tissue.astype(np.uint8), np.ones((2 * AROUND + 1,) * 2, np.uint8)).astype(bool)


def tiles_without_tissue(mask: np.ndarray, shape: tuple[int, int], plan: Plan) -> np.ndarray:
    """Which tiles of a plan show no tissue: (rows, columns of tiles) bool.

    Args:
        mask: see `tissue_mask`.
        shape: (H, W) of the image that the plan is for.
        plan: where tiles lie.
    """
    rows = _spans(plan.rows, shape[0], mask.shape[0])
    columns = _spans(plan.columns, shape[1], mask.shape[1])
    return np.array([[not mask[down, across].any() for across in columns] for down in rows])


def _spans(axis: Axis, side: int, small: int) -> list[slice]:
    """What each tile of an axis covers of a small copy, at least one pixel."""
    spans = []
    for origin in axis.origins:
        start = int(origin * small / side)
        stop = math.ceil(min(origin + axis.tile, side) * small / side)
        spans.append(slice(start, max(start + 1, stop)))
    return spans
