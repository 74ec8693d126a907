"""Masks of classes, from probabilities, and their scores: by class, and which class was taken for which."""

from collections.abc import Mapping, Sequence

import numpy as np

from .foreground import find_foreground
from .pixels import Counts
from .statistics import resample_sums


def find_classes(
    probabilities: np.ndarray, threshold: float, min_area: int = 0, min_confidence: float = 0.0
) -> np.ndarray:
    """The number of the class of each pixel, (H, W) uint8, from the probabilities of classes, (H, W, C).

    First comes what is foreground, by the probability of any class but the background, then which class it is: the most
    probable one but the background. So there is a mask of classes for every threshold, and its foreground is that of
    `find_foreground`.

    Args:
        probabilities: 0 to 1, adding up to 1 in each pixel; the first is that of the background. All are 0 where
            nothing was predicted.
        threshold, min_area, min_confidence: of the foreground, see `find_foreground`.

    Raises:
        UserError: as for `find_foreground`.
    """
    foreground = find_foreground(probabilities[..., 1:].sum(axis=-1), threshold, min_area, min_confidence)
    return np.where(foreground, probabilities[..., 1:].argmax(axis=-1) + 1, 0).astype(np.uint8)


def confusion(prediction: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by their class in the reference (rows) and in the prediction (columns), (C, C) int64.

    Args:
        prediction, reference: (H, W) numbers of classes, below `classes`.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape.")
    pairs = reference.astype(np.int64).ravel() * classes + prediction.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_counts(matrix: np.ndarray) -> list[Counts]:
    """The counts of each class against all others, from `confusion`."""
    matrix = np.asarray(matrix)
    hits, predicted, true = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return [
        Counts(int(tp), int(found - tp), int(there - tp), int(matrix.sum() - found - there + tp))
        for tp, found, there in zip(hits, predicted, true, strict=True)
    ]


def class_rows(matrices: Mapping[str, np.ndarray], names: Sequence[str], seed: int = 0) -> list[dict]:
    """Scores of each class over some images, the background last.

    The pooled scores come from the pixels of all images together, with a 95 % interval from 9,999 resamplings of the
    images (Efron 1979). The mean is over the images that show the class or are predicted to; None if none does.

    Args:
        matrices: of `confusion`, by stem; at least one.
        names: of the classes, the background first.
        seed: of the resamplings.

    Returns:
        {"class", "images", "mean_dice", "pooled_dice", "low", "high", "pooled_iou", "precision", "recall"}; images is
        the number that show the class, and the interval is None for a single image.
    """
    stack = np.stack(list(matrices.values()))
    total = class_counts(stack.sum(axis=0))
    dice_sums = _dice_sums(stack)  # (images, classes, 2)
    drawn = resample_sums(dice_sums.reshape(len(stack), -1), seed).reshape(-1, len(names), 2)
    several = len(stack) > 1
    rows = []
    for number in [*range(1, len(names)), 0]:
        twice, both = dice_sums[:, number].T
        own = _ratio(twice[both > 0], both[both > 0])
        low, high = np.percentile(_ratio(*drawn[:, number].T), [2.5, 97.5]).tolist() if several else (None, None)
        count = total[number]
        rows.append(
            {
                "class": names[number],
                "images": int(np.count_nonzero(stack[:, number].any(axis=-1))),
                "mean_dice": float(own.mean()) if own.size else None,
                "pooled_dice": count.dice,
                "low": low,
                "high": high,
                "pooled_iou": count.iou,
                "precision": count.precision,
                "recall": count.recall,
            }
        )
    return rows


def _dice_sums(stack: np.ndarray) -> np.ndarray:
    """Numerator and denominator of Dice for each image and class, (images, classes, 2), from (images, C, C)."""
    twice = 2 * np.diagonal(stack, axis1=1, axis2=2)
    return np.stack([twice, stack.sum(axis=1) + stack.sum(axis=2)], axis=-1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Their ratio; 1 where there was nothing to find and nothing was found."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 1.0)
