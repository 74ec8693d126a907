"""Scores of instances: which predicted object is which reference object, F1, panoptic quality, and intervals of them.

Pixels are counted once for each pair of objects that overlap, so time grows with the pixels, and memory with the pairs:
a slide of 100,000 nuclei needs no matrix of all by all.
"""

import functools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ..base.files import check_names
from .statistics import bootstrap_interval, paired_difference

SCORES = ("f1", "precision", "recall", "average_precision", "panoptic_quality")
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
EMPTY_SCORES = {"one": 1.0, "zero": 0.0, "nan": math.nan}

_COMPETITION_BORDER = 2  # The outer frame whose objects the competition removes, pixels.
_COMPETITION_PATCH, _COMPETITION_WHOLE = 2000, 25_000_000  # Images of so many pixels are scored in such patches.


@dataclass(frozen=True)
class Matches:
    """Objects of one image (or, added up, of many): true and false positives and negatives.

    Args:
        tp, fp, fn: matched objects, predicted ones without a match, reference ones without a match.
        iou_sum: of the matched pairs, 0 to tp.
        empty: what a score is whose denominator is zero, such as the F1 of no objects where none are: "one" (nothing
            was there to be missed or invented, as in `pixels.Counts`), "zero" (the competition's) or "nan"
            (undefined; `summarize_matches` leaves such images out, and says how many it used).
        fn_untold: those of `fn` that the competition's table leaves out of its column of missed objects, though not
            out of its F1: all in images, or patches of large images, without any predicted object.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float
    empty: str = "one"
    fn_untold: int = 0

    def __post_init__(self):
        check_names("empty", [self.empty], EMPTY_SCORES)

    def __add__(self, other: "Matches") -> "Matches":
        if self.empty != other.empty:
            raise ValueError(f"matches with different rules for empty images, {self.empty} and {other.empty}.")
        names = ("tp", "fp", "fn", "iou_sum", "fn_untold")
        return Matches(**{name: getattr(self, name) + getattr(other, name) for name in names}, empty=self.empty)

    def _ratio(self, numerator: float, denominator: float) -> float:
        return numerator / denominator if denominator else EMPTY_SCORES[self.empty]

    @property
    def precision(self) -> float:
        """TP / (TP + FP): the share of predicted objects that are right."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN): the share of reference objects that are found."""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), which is also the recognition quality of Kirillov et al."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), as the Data Science Bowl 2018 (Caicedo et al. 2019) and Cellpose call it."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def panoptic_quality(self) -> float:
        """Mean IoU of matched pairs times F1: segmentation times recognition quality (Kirillov et al., CVPR 2019)."""
        return self._ratio(2 * self.iou_sum, 2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True)
class Overlaps:
    """How many pixels every reference object shares with every predicted one.

    Args:
        reference_ids: (N + 1,) int64, ascending; the first is 0, the background.
        predicted_ids: (M + 1,) int64, likewise.
        pixels: (N + 1, M + 1) int64, sparse: sums of rows and columns are areas.
    """

    reference_ids: np.ndarray
    predicted_ids: np.ndarray
    pixels: sparse.csr_array


def _check_labels(prediction: np.ndarray, reference: np.ndarray) -> None:
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if labels.ndim != 2:
            raise ValueError(f"{name} must be (H, W), not {labels.shape}.")
        if labels.dtype.kind not in "iu" or not np.can_cast(labels.dtype, np.int64):
            remedy = "label the objects of a mask first" if labels.dtype == bool else "convert it to int32"
            raise ValueError(f"{name} must be of integers up to int64, not {labels.dtype}; {remedy}.")
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape.")


def _runs(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stretches of equal (predicted, reference) ids in two flat arrays: both ids and the length of each."""
    begins = np.ones(reference.size, bool)
    begins[1:] = (prediction[1:] != prediction[:-1]) | (reference[1:] != reference[:-1])
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=reference.size)
    return prediction[starts].astype(np.int64), reference[starts].astype(np.int64), lengths


def _add_equal_pairs(predicted: np.ndarray, reference: np.ndarray, pixels: np.ndarray) -> Overlaps:
    reference_ids, rows = np.unique(reference, return_inverse=True)
    predicted_ids, columns = np.unique(predicted, return_inverse=True)
    shape = (len(reference_ids), len(predicted_ids))
    return Overlaps(reference_ids, predicted_ids, sparse.coo_array((pixels, (rows, columns)), shape).tocsr())


def count_overlaps(prediction: np.ndarray, reference: np.ndarray, band_pixels: int = 2**22) -> Overlaps:
    """Count the pixels of every pair of overlapping objects, in one pass over bands of rows.

    Runs of pixels are sorted, not pixels: in label images there are far fewer. Beside the pairs, a band is all that
    is held in memory.

    Args:
        prediction, reference: (H, W) integers (int32 usually), 0 = background; ids may have gaps. May be np.memmap.
        band_pixels: about how many pixels to take at a time.

    Raises:
        ValueError: shapes differ, an array is not 2-D or not of integers up to int64, or has negative ids.
    """
    _check_labels(prediction, reference)
    height, width = reference.shape
    rows = max(1, band_pixels // max(1, width))
    pairs = [np.zeros((3, 1), np.int64)]  # No pixels of background, so that it is there, and comes first, in any case.
    for top in range(0, height, rows):
        band = [np.ravel(labels[top : top + rows]) for labels in (prediction, reference)]
        overlaps = _add_equal_pairs(*_runs(*band))
        for name, ids in (("reference", overlaps.reference_ids), ("prediction", overlaps.predicted_ids)):
            if ids.size and ids[0] < 0:
                raise ValueError(f"{name} has the negative id {ids[0]}; objects must have positive ones.")
        entries = overlaps.pixels.tocoo()
        pairs.append([overlaps.predicted_ids[entries.col], overlaps.reference_ids[entries.row], entries.data])
    return _add_equal_pairs(*np.concatenate(pairs, axis=1))


def _is_at_border(ids: np.ndarray, labels: np.ndarray, width: int) -> np.ndarray:
    """For each of `ids`, whether it is found in the outer `width` pixels of `labels`, as the background always is."""
    bottom, right = (max(0, side - width) for side in labels.shape)
    strips = labels[:width], labels[bottom:], labels[:, :width], labels[:, right:]
    return np.isin(ids, np.concatenate([[0], *map(np.ravel, strips)]))


def _overlapping_by_half(overlaps: Overlaps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and IoU of the pairs of objects with an IoU of 0.5 or more."""
    reference_areas, predicted_areas = overlaps.pixels.sum(axis=1), overlaps.pixels.sum(axis=0)
    row, column, shared = sparse.find(overlaps.pixels)
    iou = shared / (reference_areas[row] + predicted_areas[column] - shared)
    pairs = (iou >= 0.5) & (row > 0) & (column > 0)
    return row[pairs], column[pairs], iou[pairs]


def matched_ids(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the predicted and of the reference objects that match at IoU 0.5, also at the border; for pictures.

    Arguments and errors as in `count_overlaps`.
    """
    overlaps = count_overlaps(prediction, reference)
    row, column, _ = _overlapping_by_half(overlaps)
    return overlaps.predicted_ids[column], overlaps.reference_ids[row]


def _match(prediction: np.ndarray, reference: np.ndarray, border: int, either: bool) -> tuple[np.ndarray, int, int]:
    """IoU of the pairs that match at 0.5, and the numbers of predicted and reference objects that count.

    Objects in a frame of `border` pixels do not count, nor, with `either`, do those that overlap such a one by half.

    Two pairs of IoU >= 0.5 share an object only if it consists of the other two, which are halves of it: both pairs
    have IoU 0.5 then, and it does not matter which of them matches. Above 0.5 no object is in two pairs. So the first
    pair of every object is the best assignment already, and what matches at higher thresholds is part of it.
    """
    overlaps = count_overlaps(prediction, reference)
    ignored_reference = _is_at_border(overlaps.reference_ids, reference, border)
    ignored_predicted = _is_at_border(overlaps.predicted_ids, prediction, border)

    row, column, iou = _overlapping_by_half(overlaps)
    ignored = ignored_reference[row] | ignored_predicted[column]
    if either:
        ignored_reference[row[ignored]] = ignored_predicted[column[ignored]] = True
    pairs = np.flatnonzero(~ignored)
    for objects in (row, column):
        pairs = pairs[np.unique(objects[pairs], return_index=True)[1]]
    return iou[pairs], int(np.sum(~ignored_predicted)), int(np.sum(~ignored_reference))


def _competition_patches(prediction: np.ndarray, reference: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The image itself, or, if it is large, squares that are filled up with background on the right and below."""
    if reference.size < _COMPETITION_WHOLE:
        yield [prediction, reference]
        return
    side = _COMPETITION_PATCH
    for top in range(0, reference.shape[0], side):
        for left in range(0, reference.shape[1], side):
            patches = [labels[top : top + side, left : left + side] for labels in (prediction, reference)]
            yield [np.pad(patch, [(0, side - length) for length in patch.shape]) for patch in patches]


def match_sweep(
    prediction: np.ndarray,
    reference: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    ignore_border: int = 2,
    neurips_compat: bool = False,
    empty: str = "one",
) -> list[Matches]:
    """Match objects one to one where their IoU is at least t, for each t of `thresholds`, counting pixels once.

    Objects at the border of the image are cut off, and annotators differ about them. An object there is therefore
    ignored: it is nothing to find and nothing to be wrong about. So is what overlaps it with an IoU of 0.5 or more,
    since which of the two reaches the frame may depend on a single pixel. Large images are matched as a whole.

    The NeurIPS 2022 cell segmentation challenge (Ma et al. 2024) differs, and `neurips_compat` reproduces its numbers,
    to be compared with published ones. It removes objects in the outer 2 pixels from prediction and reference
    independently: a right object of which only one side reaches the frame becomes a false positive or negative. It
    cuts images of 25 million pixels and more into patches of 2000 x 2000, and removes objects at every cut (in the
    last row and column of patches, filled up with background, not those at the image's own border). Its scores are 0
    whenever nothing matched, even where nothing was to be found, and its table rounds them to four digits; for its
    column of missed objects see `Matches.fn_untold`. Not reproduced is what it does to ids beyond the reference's
    integer type, and to images of at most 4 pixels in height or width.

    Args:
        prediction, reference: (H, W) integers, as in `count_overlaps`.
        thresholds: of the IoU, 0.5 to 1. Below 0.5 a match would not be unique.
        ignore_border: width of the frame in pixels; 0 to ignore nothing.
        neurips_compat: the competition's rules; `ignore_border` and `empty` are then 2 and "zero", whatever is given.
        empty: the rule for images without objects, see `Matches`.

    Raises:
        ValueError: as in `count_overlaps`, or a threshold, `ignore_border` or `empty` out of range.
    """
    if not all(0.5 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds {list(thresholds)} must be from 0.5 to 1.")
    if ignore_border < 0:
        raise ValueError(f"ignore_border {ignore_border} must not be negative.")
    _check_labels(prediction, reference)
    parts = [[prediction, reference]]
    if neurips_compat:
        parts, ignore_border, empty = _competition_patches(prediction, reference), _COMPETITION_BORDER, "zero"
    totals = [Matches(0, 0, 0, 0.0, empty)] * len(thresholds)
    for part in parts:
        iou, predicted, referred = _match(*part, ignore_border, either=not neurips_compat)
        for number, threshold in enumerate(thresholds):
            matched = iou[iou >= threshold]
            tp, fn = len(matched), referred - len(matched)
            fn_untold = fn if neurips_compat and not predicted else 0
            totals[number] += Matches(tp, predicted - tp, fn, math.fsum(matched), empty, fn_untold)
    return totals


def match_instances(prediction: np.ndarray, reference: np.ndarray, threshold: float = 0.5, **rules) -> Matches:
    """Match objects one to one where their IoU is at least `threshold`; arguments and errors as in `match_sweep`.

    Example:
        from tiledseg_utils.data.masks import read_labels
        from tiledseg_utils.scoring.matching import match_instances
        matches = match_instances(read_labels("predicted.png"), read_labels("reference.png"))
        print(matches.f1, matches.panoptic_quality)
    """
    return match_sweep(prediction, reference, [threshold], **rules)[0]


def mean_average_precision(sweep: Sequence[Matches]) -> float:
    """Mean of TP / (TP + FP + FN) over thresholds, as in the Data Science Bowl 2018 (there 0.5, 0.55 ... 0.95)."""
    return float(np.mean([matches.average_precision for matches in sweep]))


def summarize_matches(matches: Mapping[str, Matches], seed: int = 0) -> dict:
    """Mean and median over images, pooled over all objects, and each image, for every one of `SCORES`.

    Args:
        matches: by image, at one threshold.
        seed: of the 9,999 resamplings of images for each 95 % interval (Efron 1979), a percentile bootstrap.

    Returns:
        by score: {"mean", "mean_ci95": [low, high], "median", "median_ci95", "pooled", "images", "per_image"};
        "images" is how many were averaged: all but those whose score is NaN, by the rule `empty`.

    Raises:
        ValueError: there are no images, or their rules for `empty` differ.
    """
    if not matches:
        raise ValueError("there are no images to summarize.")
    pooled = functools.reduce(operator.add, matches.values())
    summary = {}
    for score in SCORES:
        per_image = {stem: getattr(match, score) for stem, match in matches.items()}
        values = np.array([value for value in per_image.values() if not math.isnan(value)])
        summary[score] = {}
        for name, statistic in (("mean", np.mean), ("median", np.median)):
            summary[score][name] = float(statistic(values)) if len(values) else math.nan
            summary[score][f"{name}_ci95"] = bootstrap_interval(values, statistic, seed)
        summary[score] |= {"pooled": getattr(pooled, score), "images": len(values), "per_image": per_image}
    return summary


def compare_matches(
    first: Mapping[str, Matches], second: Mapping[str, Matches], score: str = "f1", seed: int = 0
) -> dict:
    """Mean of the first method's score less the second's, with the interval of `statistics.paired_difference`.

    Images are left out where a score is NaN (by the rule `empty`); "images" is how many were compared.

    Returns:
        {"mean", "ci95": [low, high], "images"}.

    Raises:
        ValueError: the images are not the same, the score is unknown, or no image has a score of both methods.
    """
    check_names("score", [score], SCORES)
    if set(first) != set(second):
        raise ValueError(f"not the same images: {sorted(set(first) ^ set(second))}.")
    pairs = {stem: (getattr(first[stem], score), getattr(second[stem], score)) for stem in first}
    pairs = {stem: values for stem, values in pairs.items() if not any(map(math.isnan, values))}
    if not pairs:
        raise ValueError(f"no image has a {score} of both methods.")
    columns = [{stem: values[method] for stem, values in pairs.items()} for method in (0, 1)]
    return paired_difference(*columns, seed) | {"images": len(pairs)}
