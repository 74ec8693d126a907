"""Scores of whole stitched images: integer pixel counts, per image and pooled, and paired comparison.

Tiles are never scored: they would count overlaps twice, cut objects apart, and change how many masks are empty.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
from scipy import stats
from skimage.measure import label

from ..base.files import UserError
from ..base.memory import release_freed_memory
from ..data.images import Pair, read_pair
from ..settings.parameters import Parameters
from ..settings.schema import check_value

SCORES = ("dice", "iou", "precision", "recall")

NOT_MEASURABLE = "not measurable: one tile"
"""What stands in a table for the seams of images that are a single tile."""


Predict = Callable[[np.ndarray], np.ndarray]
"""From an image (H, W, 3) uint8 RGB to its foreground probability (H, W) float32."""


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 1.0


@dataclass(frozen=True)
class Counts:
    """Pixels of one image (or, added up, of many): true and false positives and negatives.

    The rule for empty masks: a score whose denominator is zero is 1, because nothing was there to be missed or
    invented. So an empty image predicted empty scores 1, and one predicted foreground in it makes Dice 0.
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


def bootstrap_interval(values: np.ndarray, statistic: Callable, seed: int) -> list:
    """95 % confidence interval [low, high] of a statistic of one value per image, [None, None] for fewer than two.

    A percentile bootstrap of 9,999 resamplings of the images (Efron 1979).
    """
    if len(values) < 2:
        return [None, None]
    bootstrap = stats.bootstrap((values,), statistic, n_resamples=9999, method="percentile", rng=seed)
    return [float(limit) for limit in bootstrap.confidence_interval]


def paired_difference(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> dict:
    """Mean of `first - second` over the images, with a 95 % bootstrap confidence interval (Efron 1979).

    Images are resampled, not pixels, because pixels of one image are not independent; both values of an image stay
    together, so that differences between images cancel.

    Args:
        first, second: a score by image, for the same images.
        seed: of the 9,999 resamplings.

    Returns:
        {"mean", "ci95": [low, high]}; the interval is [None, None] for a single image.

    Raises:
        ValueError: the images are not the same.
    """
    if set(first) != set(second):
        raise ValueError(f"not the same images: {sorted(set(first) ^ set(second))}.")
    differences = np.array([first[stem] - second[stem] for stem in sorted(first)])
    return {"mean": float(differences.mean()), "ci95": bootstrap_interval(differences, np.mean, seed)}


class Meter(threading.Thread):
    """Measures a `with` block: `seconds`, and the memory of this process, sampled 50 times a second.

    `peak_mb` is the largest resident memory in MiB, `added_mb` what of it the block added to what was there before.

    Args:
        children: add the memory of child processes, and sample 5 times a second only: looking for them takes so long
            that 50 times would slow the block down by a tenth.
    """

    def __init__(self, children: bool = False):
        super().__init__(daemon=True)
        self.children = children
        self.seconds, self.peak_mb, self._stopped_event = 0.0, 0.0, threading.Event()

    def _sample(self) -> float:
        process, total = psutil.Process(), 0
        for member in [process, *(process.children(recursive=True) if self.children else ())]:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # It ended between the listing and the look.
        self.peak_mb = max(self.peak_mb, total / 2**20)
        return total / 2**20

    def run(self):
        while not self._stopped_event.wait(0.2 if self.children else 0.02):
            self._sample()

    def __enter__(self):
        release_freed_memory()  # Else the block would use what is left over from before, and seem to need nothing.
        self.before_mb = self._sample()
        self.start()
        self._started_at = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._started_at
        self._stopped_event.set()
        self.join()
        self._sample()

    @property
    def added_mb(self) -> float:
        return self.peak_mb - self.before_mb


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
    """A mask (H, W) bool of what is foreground in a probability (H, W): pixels first, then pieces of them.

    Args:
        probability: 0 to 1.
        threshold: pixels of a lower probability are background.
        min_area: smaller pieces, connected also over corners, are dropped, pixels.
        min_confidence: pieces of a lower mean probability are dropped. The edge of a cell may be doubtful to a network,
            but hardly the whole cell, unless it is pale; detectors rank what they find by such a score.

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


def score_images(
    predict: Predict, pairs: Sequence[Pair], threshold: float, min_area: int = 0, min_confidence: float = 0.0
) -> tuple[dict[str, np.ndarray], dict[str, Counts]]:
    """Predict images, find their foreground (`find_foreground`), and count: masks (H, W) bool and counts, by stem."""
    masks, counts = {}, {}
    for pair in pairs:
        image, reference = read_pair(pair)
        masks[pair.stem] = find_foreground(predict(image), threshold, min_area, min_confidence)
        counts[pair.stem] = count_pixels(masks[pair.stem], reference)
    return masks, counts


def sweep_images(predict: Predict, pairs: Sequence[Pair], thresholds: Sequence[float]) -> list[Counts]:
    """Pixels of all images together, for each of the ascending thresholds."""
    totals = [Counts(0, 0, 0, 0)] * len(thresholds)
    for pair in pairs:
        image, reference = read_pair(pair)
        counts = threshold_sweep(predict(image), reference, thresholds)
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
    return totals


def compare(
    ways: Mapping[str, Predict],
    pairs: Sequence[Pair],
    threshold: float,
    min_area: int = 0,
    min_confidence: float = 0.0,
    seed: int = 0,
    warm_up: np.ndarray | None = None,
) -> tuple[dict, dict]:
    """Predict the same images in two ways, and find their foreground alike (`find_foreground`).

    Each way first predicts `warm_up`, or the first image, so that compiling is not timed; reading is not timed either.

    Returns:
        results by way: `dice` and `iou` as in `summarize`, `seconds` of predicting, `megapixels_per_second`, and
        `added_mb`, the largest memory that predicting one image took on top of what was there; and under "difference"
        the first way's Dice less the second's as `paired_difference` gives it (`dice_mean`, `ci95`);
        masks by way and stem, (H, W) bool.
    """
    results, masks = {}, {}
    for way, predict in ways.items():
        predict(read_pair(pairs[0])[0] if warm_up is None else warm_up)
        meters = []

        def metered(image, predict=predict, meters=meters):
            with Meter() as meter:
                probability = predict(image)
            meters.append(meter)
            return probability

        masks[way], counts = score_images(metered, pairs, threshold, min_area, min_confidence)
        summary, seconds = summarize(counts), sum(meter.seconds for meter in meters)
        pixels = sum(mask.size for mask in masks[way].values())
        results[way] = {
            "dice": summary["dice"],
            "iou": summary["iou"],
            "seconds": round(seconds, 3),
            "megapixels_per_second": round(pixels / 1e6 / seconds, 3),
            "added_mb": round(max(meter.added_mb for meter in meters)),
        }
    difference = paired_difference(*(results[way]["dice"]["per_image"] for way in ways), seed)
    results["difference"] = {"dice_mean": difference["mean"], "ci95": difference["ci95"]}
    return results, masks


def result_rows(results: Mapping) -> list[dict]:
    """A table of what `compare` returns: a row for each way."""
    costs = ("seconds", "megapixels_per_second", "added_mb")
    return [
        {"way": way, "mean Dice": result["dice"]["mean"], "pooled Dice": result["dice"]["pooled"]}
        | {"mean IoU": result["iou"]["mean"]}
        | {name: result[name] for name in costs}
        for way, result in results.items()
        if way != "difference"
    ]
