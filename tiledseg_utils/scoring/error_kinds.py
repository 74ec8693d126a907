"""Kinds of errors of a mask, and what each costs: the score that the mask would have without it.

TIDE (Bolya et al., ECCV 2020, arXiv:2008.08115) compares the errors of object detectors in this way.
"""

import cv2
import numpy as np
from skimage.measure import label

from .pixels import Counts, count_pixels

OUTLINE = 3
"""Pixels. Errors that near to an outline of the reference are errors of the outline."""


def error_kinds(prediction: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """The wrong pixels of a mask by kind; each is of one kind.

    Args:
        prediction, reference: (H, W) bool. Pixels that touch at a corner belong to the same piece.

    Returns:
        masks (H, W) bool: "invented pieces", of which more than half is background; "missed pieces" of the reference,
        of which more than half is missed; "outlines", what else is wrong within `OUTLINE` of an outline of the
        reference; and the "other" wrong pixels, such as a clump that hangs on a cell, or a lobe that is missed.
    """
    wrong = prediction ^ reference
    cells, kernel = reference.astype(np.uint8), np.ones((2 * OUTLINE + 1, 2 * OUTLINE + 1), np.uint8)
    near_outline = cv2.dilate(cells, kernel) != cv2.erode(cells, kernel)
    of_pieces = {
        "invented pieces": wrong & _mostly_outside(prediction, reference),
        "missed pieces": wrong & _mostly_outside(reference, prediction),
    }
    rest = wrong & ~of_pieces["invented pieces"] & ~of_pieces["missed pieces"]
    return {"outlines": rest & near_outline, **of_pieces, "other": rest & ~near_outline}


def _mostly_outside(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Those pieces of a mask of which more than half lies outside of another, (H, W) bool."""
    pieces = label(mask, connectivity=2)
    outside = np.bincount(pieces[~other], minlength=pieces.max() + 1)
    return mask & (outside > np.bincount(pieces.ravel()) / 2)[pieces]


def count_without(prediction: np.ndarray, reference: np.ndarray) -> dict[str, Counts]:
    """The pixel counts that a mask would have without the errors of each kind, see `error_kinds`."""
    kinds = error_kinds(prediction, reference)
    return {kind: count_pixels(prediction ^ wrong, reference) for kind, wrong in kinds.items()}
