"""From a probability map to a mask."""

import numpy as np
from skimage.measure import label

from ..base.files import UserError
from ..settings.parameters import Parameters
from ..settings.schema import check_value

SLACK = 1e-3
"""How far beyond 0 and 1 a probability may lie by rounding, where tiles are added up or numbers have 16 bits."""


def check_probabilities(values: np.ndarray, name: str, remedy: str, verb: str = "holds") -> None:
    """Raise a UserError that names the file or model `name` if values lie outside of 0 to 1, or are not a number."""
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())  # Both are nan if one value is.
    if not (low >= -SLACK and high <= 1 + SLACK):
        which = "that are nan" if np.isnan(low) else f"from {low:.4g} to {high:.4g}"
        raise UserError(name, f"{verb} values {which}, which are no probabilities", remedy)


def find_foreground(
    probability: np.ndarray, threshold: float, min_area: int = 0, min_confidence: float = 0.0
) -> np.ndarray:
    """The mask (H, W) bool of the foreground in a probability map (H, W): first pixels, then pieces of them.

    Args:
        probability: 0 to 1.
        threshold: pixels of a lower probability are background.
        min_area: smaller pieces are dropped, pixels. Pixels that touch at a corner belong to the same piece.
        min_confidence: pieces of a lower mean probability are dropped. A network may doubt the edge of a cell, but
            hardly the whole cell, unless it is pale; detectors rank what they find by such a score.

    Raises:
        UserError: a value is out of range, or a probability is not between 0 and 1.
    """
    for name, value in (("threshold", threshold), ("min_area", min_area), ("min_confidence", min_confidence)):
        check_value(Parameters, name, value)
    check_probabilities(probability, "the prediction", "Give a model whose last layer is a sigmoid")
    mask = probability >= threshold
    if min_area <= 1 and min_confidence <= threshold:
        return mask
    pieces = label(mask, connectivity=2)
    pixels, total = (np.bincount(pieces.ravel(), weights) for weights in (None, probability.ravel()))
    return mask & ((pixels >= min_area) & (total >= min_confidence * pixels))[pieces]
