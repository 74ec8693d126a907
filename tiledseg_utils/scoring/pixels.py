"""Scores of whole stitched images: integer pixel counts, per image and pooled.

Tiles are never scored: they would count overlaps twice, cut objects apart, and change how many masks are empty.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.images import Pair, read_pair
from .foreground import find_foreground

SCORES = ("dice", "iou", "precision", "recall")

Predict = Callable[[np.ndarray], np.ndarray]
"""From an image (H, W, 3) uint8 RGB to its foreground probability (H, W) float32."""


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 1.0


@dataclass(frozen=True)
class Counts:
    """Pixels of one image (or, added up, of many): true and false positives and negatives.

    The rule for empty masks: a score whose denominator is zero is 1, because there was nothing to miss or to invent.
    So an empty image that is predicted empty scores 1, and a single predicted pixel makes its Dice 0.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), the F1 score of pixels (Dice 1945)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN) (Jaccard 1901)."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of predicted foreground that is right."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN): the share of true foreground that is found."""
        return _ratio(self.tp, self.tp + self.fn)


def count_pixels(prediction: np.ndarray, reference: np.ndarray) -> Counts:
    """Compare two (H, W) bool masks.

    Raises:
        ValueError: shapes differ, or an array is not bool (a probability map must be thresholded first).

    Example:
        from tiledseg_utils.data.masks import read_mask
        from tiledseg_utils.scoring.pixels import count_pixels
        counts = count_pixels(read_mask("predicted.png"), read_mask("reference.png"))
        print(counts.dice, counts.iou)
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape.")
    if prediction.dtype != bool or reference.dtype != bool:
        raise ValueError(f"masks must be bool, not {prediction.dtype} and {reference.dtype}; apply a threshold first.")
    tp = int(np.count_nonzero(prediction & reference))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return Counts(tp, fp, fn, prediction.size - tp - fp - fn)


def threshold_sweep(probability: np.ndarray, reference: np.ndarray, thresholds: Sequence[float]) -> list[Counts]:
    """Counts of `probability >= t` for each t of `thresholds` (ascending), in one pass over the pixels.

    Args:
        probability: (H, W) float.
        reference: (H, W) bool.
    """
    bins = np.searchsorted(np.asarray(thresholds, probability.dtype), probability, side="right")
    at_least = [
        np.cumsum(np.bincount(bins[chosen], minlength=len(thresholds) + 1)[::-1])[::-1][1:]
        for chosen in (reference, ~reference)
    ]
    positives, negatives = int(reference.sum()), int((~reference).sum())
    return [
        Counts(int(tp), int(fp), positives - int(tp), negatives - int(fp)) for tp, fp in zip(*at_least, strict=True)
    ]


def score_rows(counts: Mapping[str, Counts]) -> list[dict]:
    """One row per image (stem, the four scores, the four counts), for a csv file or a table."""
    return [
        {"stem": stem, **{score: getattr(count, score) for score in SCORES}, **vars(count)}
        for stem, count in counts.items()
    ]


def summarize(counts: Mapping[str, Counts]) -> dict:
    """Mean and median over images, pooled over all pixels, and each image, for every score.

    The mean treats images alike; the pooled score treats pixels alike, so images with much foreground rule it.
    """
    pooled = sum(counts.values(), Counts(0, 0, 0, 0))
    summary = {}
    for score in SCORES:
        per_image = {stem: getattr(count, score) for stem, count in counts.items()}
        values = list(per_image.values())
        summary[score] = {
            "mean": float(np.mean(values)),
            "median": float(np.median(values)),
            "pooled": getattr(pooled, score),
            "per_image": per_image,
        }
    return summary


def score_images(
    predict: Predict,
    pairs: Sequence[Pair],
    threshold: float,
    min_area: int = 0,
    min_confidence: float = 0.0,
    watch: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Counts]]:
    """Predict images, find their foreground (`find_foreground`), and count: masks (H, W) bool and counts, by stem.

    `watch` is called with the probabilities, (H, W) float32, and the reference, (H, W) bool, of each image.
    """
    masks, counts = {}, {}
    for pair in pairs:
        image, reference = read_pair(pair)
        probability = predict(image)
        if watch is not None:
            watch(probability, reference)
        masks[pair.stem] = find_foreground(probability, threshold, min_area, min_confidence)
        counts[pair.stem] = count_pixels(masks[pair.stem], reference)
    return masks, counts
