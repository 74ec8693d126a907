"""Scores of a folder of masks or label images against another one: per image, over all images, and by kind.

Files of the two folders belong together by their stems. What counts as a mask or as labels is decided as in data
folders (`data.masks`), for prediction and reference alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, progress
from ..data.classes import Classes, to_class_numbers
from ..data.images import MASK_ENDINGS, given_split, list_files, without_ending
from ..data.masks import read_either, to_labels
from ..data.pictures import decode
from ..data.tables import all_in_one
from .classes import confusion
from .matching import EMPTY_SCORES, Matches, match_sweep, mean_average_precision
from .pixels import Counts, count_pixels
from .statistics import resample_sums

OVERLAY = "_overlay"  # what `predict --overlay` writes beside a mask

RULES = {"default": {}, "every": {"ignore_border": 0}, "neurips": {"neurips_compat": True}}
"""Of `match_sweep`; "every" counts objects at the border, too, as StarDist and the Data Science Bowl 2018 do."""

COUNTS = ("tp", "fp", "fn", "iou_sum")
PIXEL_SCORES = ("dice", "iou")
OBJECT_SCORES = ("f1", "average_precision", "panoptic_quality")
RATIOS = {
    "dice": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "iou": ((1, 0, 0, 0), (1, 1, 1, 0)),
    "f1": ((2, 0, 0, 0), (2, 1, 1, 0)),
    "average_precision": ((1, 0, 0, 0), (1, 1, 1, 0)),
    "panoptic_quality": ((0, 0, 0, 2), (2, 1, 1, 0)),
}
"""Numerator and denominator of each score as sums of `COUNTS`, so that resampled counts give resampled scores."""


@dataclass(frozen=True)
class FilePair:
    """The files of one image: its prediction and its reference."""

    stem: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class ImageScore:
    """What one image scores: pixels, and objects at each threshold, or () where objects are not scored."""

    pixels: Counts
    sweep: tuple[Matches, ...] = ()


# ---------------------------------------------------------------- files


def _list_masks(folder: Path) -> dict[str, Path]:
    """Masks or label images by stem: those in a folder or, of a data folder, in its masks/ or labels/."""
    remedy = "Give a folder of masks or label images, or a data folder"
    if not folder.is_dir():
        raise UserError(folder, "is not a folder", remedy)
    inner = [folder / name for name in ("masks", "labels") if (folder / name).is_dir()]
    if len(inner) > 1:
        raise UserError(folder, "holds masks and labels", f"Give one of the two, such as {inner[1]}")
    problems: list[str] = []
    files = list_files(inner[0] if inner else folder, problems, MASK_ENDINGS)
    if problems:
        raise all_in_one(folder, problems, "Keep one mask or label image of each stem there, and nothing else")
    if not files:
        raise UserError(folder, "holds no masks and no label images", remedy)
    return files


def data_folder_of(folder: Path) -> Path:
    """The data folder that a folder of masks belongs to, or the folder itself."""
    is_inner = folder.name in ("masks", "labels") and (folder.parent / "images").is_dir()
    return folder.parent if is_inner else folder


def pair_files(prediction: Path, reference: Path, split: str | None = None) -> list[FilePair]:
    """Pair the files of two folders by stem; endings such as _label and _mask do not count.

    Args:
        prediction, reference: folders of masks or label images, or data folders.
        split: "train", "valid" or "test" takes the images of that split alone, by split.csv of the reference's data
            folder; None takes all.

    Returns:
        the pairs, sorted by stem. Overlays beside predicted masks are left out.

    Raises:
        UserError: a folder is missing or empty, or holds something else; a file has no partner; there is no split.
    """
    predicted, referred = _list_masks(prediction), _list_masks(reference)
    wanted = set(referred)
    if split:
        data = data_folder_of(reference)
        stems = list_files(data / "images", []) if (data / "images").is_dir() else referred
        splits = given_split(data, stems.keys()) if (data / "split.csv").exists() else {}
        wanted = {without_ending(stem, MASK_ENDINGS) for stem in splits if splits[stem] == split} & referred.keys()
        if not wanted:
            problem = f"has no split.csv with images for {split}"
            raise UserError(data, problem, "Score all images without --split, or add the split")
    known = set(referred) | {stem for stem in predicted if _is_overlay(stem, predicted)}
    problems = [f"{referred[stem]} has no partner in {prediction}" for stem in sorted(wanted - predicted.keys())]
    problems += [f"{predicted[stem]} has no partner in {reference}" for stem in sorted(predicted.keys() - known)]
    if problems:
        remedy = "Give both folders files of the same names; with --split test, only those of the test split count"
        raise all_in_one(prediction, problems, remedy)
    return [FilePair(stem, predicted[stem], referred[stem]) for stem in sorted(wanted)]


def _is_overlay(stem: str, files: Mapping[str, Path]) -> bool:
    return stem.endswith(OVERLAY) and stem.removesuffix(OVERLAY) in files


# ---------------------------------------------------------------- scores of images


def score_files(
    pairs: Sequence[FilePair], thresholds: Sequence[float], rules: str = "default", objects: str = "auto"
) -> dict[str, ImageScore]:
    """Score images one by one.

    Args:
        pairs: of `pair_files`.
        thresholds: of the IoU of objects, 0.5 to 1.
        rules: of `RULES`, for objects.
        objects: "auto" scores objects where both folders hold labels, and pixels alone where both hold masks;
            "components" takes the connected pieces of masks for objects; "none" scores pixels alone.

    Returns:
        by stem.

    Raises:
        UserError: a file cannot be read; two files differ in size; or, with "auto", one folder holds masks and the
            other one labels, or a mask lies among labels.
    """
    scores: dict[str, ImageScore] = {}
    found: dict[str, dict[Path, str]] = {"prediction": {}, "reference": {}}
    for pair in progress(pairs, unit="image"):
        labels = {}
        for side in found:
            path = getattr(pair, side)
            stored = read_either(path)
            labels[side] = to_labels(stored)
            found[side][path] = _nature(stored, labels[side])
        _check_sizes(pair, labels["prediction"], labels["reference"])
        pixels = count_pixels(labels["prediction"] > 0, labels["reference"] > 0)
        sweep = [] if objects == "none" else match_sweep(**labels, thresholds=thresholds, **RULES[rules])
        scores[pair.stem] = ImageScore(pixels, tuple(sweep))
    if objects == "auto" and not _have_labels(found):
        scores = {stem: ImageScore(score.pixels) for stem, score in scores.items()}
    return scores


def confuse_files(pairs: Sequence[FilePair], classes: Classes) -> dict[str, np.ndarray]:
    """Compare masks of classes: by stem, the pixels by their class in reference and prediction (`classes.confusion`).

    Raises:
        UserError: a file cannot be read, holds pixels of no class, or two files differ in size.
    """
    matrices = {}
    for pair in progress(pairs, unit="image"):
        files = (pair.prediction, pair.reference)
        prediction, reference = (to_class_numbers(path, decode(path), classes)[0] for path in files)
        _check_sizes(pair, prediction, reference)
        matrices[pair.stem] = confusion(prediction, reference, len(classes))
    return matrices


def _nature(stored: np.ndarray, labels: np.ndarray) -> str:
    """Whether a file holds labels, a mask or, with one object or none, what could be either."""
    if stored.dtype != bool:
        return "labels"
    return "mask" if labels.max(initial=0) > 1 else "either"


def _have_labels(found: Mapping[str, Mapping[Path, str]]) -> bool:
    """Whether both sides hold labels; False if both hold masks.

    Raises:
        UserError: they differ, or a mask lies among labels.
    """
    remedy = "Give labels of both (the command instances makes them), take pieces of masks for objects with --objects "
    remedy += "components, or score pixels alone with --objects none"
    for natures in found.values():
        strange = [path for path, nature in natures.items() if nature == "mask"]
        if strange and "labels" in natures.values():
            problem = f"is a mask (one value, in several pieces), but {len(natures) - len(strange)} others hold labels"
            raise UserError(strange[0], problem, remedy)
    kinds = {side: set(natures.values()) - {"either"} for side, natures in found.items()}
    if kinds["prediction"] and kinds["reference"] and kinds["prediction"] != kinds["reference"]:
        folders = {side: next(iter(natures)).parent for side, natures in found.items()}
        words = {side: "labels" if "labels" in kinds[side] else "masks" for side in kinds}
        problem = f"holds {words['prediction']}, but {folders['reference']} holds {words['reference']}"
        raise UserError(folders["prediction"], problem, remedy)
    return "mask" not in kinds["prediction"] | kinds["reference"]


def _check_sizes(pair: FilePair, prediction: np.ndarray, reference: np.ndarray) -> None:
    if prediction.shape != reference.shape:
        own, other = (f"{labels.shape[0]} x {labels.shape[1]}" for labels in (prediction, reference))
        problem = f"is {own} pixels (rows x columns), but its reference {pair.reference} is {other}"
        raise UserError(pair.prediction, problem, "Give the prediction at the size of the reference, never resized")


# ---------------------------------------------------------------- tables


def image_rows(scores: Mapping[str, ImageScore], thresholds: Sequence[float], kinds: Mapping[str, str]) -> list[dict]:
    """One row for each image: stem, kind (if known), scores of its pixels and, at each threshold, of its objects."""
    rows = []
    for stem, score in scores.items():
        row = {"stem": stem} | ({"kind": kinds[stem]} if kinds else {})
        row |= {name: getattr(score.pixels, name) for name in PIXEL_SCORES}
        if score.sweep:
            first = score.sweep[0]
            row |= {"predicted": first.tp + first.fp, "reference": first.tp + first.fn}
        if len(score.sweep) > 1:
            row["mean_average_precision"] = mean_average_precision(score.sweep)
        for threshold, matches in zip(thresholds, score.sweep, strict=bool(score.sweep)):
            names = (*OBJECT_SCORES, "tp", "fp", "fn")
            row |= {f"{name}_{threshold:g}": getattr(matches, name) for name in names}
        rows.append(row)
    return rows


def summary_rows(
    scores: Mapping[str, ImageScore], thresholds: Sequence[float], kinds: Mapping[str, str], seed: int = 0
) -> list[dict]:
    """Mean over images and pooled score with 95 % intervals, for all images and for each kind.

    Args:
        scores: of `score_files`; at least one.
        thresholds: those of its sweeps.
        kinds: by stem, or empty.
        seed: of the 9,999 resamplings of images (Efron 1979).

    Returns:
        {"kind", "images", "score", "threshold", "mean", "mean_low", "mean_high", "pooled", "pooled_low",
        "pooled_high"}; the kind is "all" for all images, the threshold empty for scores of pixels and for the mean of
        AP over several thresholds. Intervals of a single image are empty.
    """
    groups = {"all": list(scores)}
    for kind in sorted(set(kinds.values())):
        groups[kind] = [stem for stem in scores if kinds[stem] == kind]
    rows = []
    for kind, stems in groups.items():
        own = [scores[stem] for stem in stems]
        rows += [{"kind": kind, "images": len(own), **row} for row in _summarize(own, thresholds, seed)]
    return rows


@dataclass(frozen=True)
class _Measure:
    """A score of some images at one threshold, with what each image counts."""

    score: str
    threshold: float | str
    found: Sequence[Counts | Matches]

    def columns(self) -> np.ndarray:
        """The score and the `COUNTS` of each image, (N, 5); pixels have no sum of IoU."""
        names = (self.score, *COUNTS)
        return np.array([[getattr(count, name, 0) for name in names] for count in self.found], float)

    def estimate(self, sums: np.ndarray) -> np.ndarray:
        """Mean and pooled score, (..., 2), from sums of `columns` over N images, (..., 5)."""
        numerator, denominator = (sums[..., 1:] @ np.array(weights, float) for weights in RATIOS[self.score])
        first = self.found[0]
        empty = EMPTY_SCORES[first.empty] if isinstance(first, Matches) else 1.0
        pooled = np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), empty)
        return np.stack([sums[..., 0] / len(self.found), pooled], axis=-1)


def _summarize(scores: Sequence[ImageScore], thresholds: Sequence[float], seed: int) -> list[dict]:
    """Rows of `summary_rows` for one group of images."""
    measures = [_Measure(name, "", [score.pixels for score in scores]) for name in PIXEL_SCORES]
    for number, threshold in enumerate(thresholds if scores[0].sweep else ()):
        matches = [score.sweep[number] for score in scores]
        measures += [_Measure(name, threshold, matches) for name in OBJECT_SCORES]

    table = np.stack([measure.columns() for measure in measures], axis=1)  # (images, measures, 5)
    sums = resample_sums(table.reshape(len(scores), -1), seed).reshape(-1, *table.shape[1:])
    whole = np.stack([measure.estimate(table[:, place].sum(axis=0)) for place, measure in enumerate(measures)])
    drawn = np.stack([measure.estimate(sums[:, place]) for place, measure in enumerate(measures)], axis=1)

    names = [(measure.score, measure.threshold) for measure in measures]
    precisions = [place for place, (score, _) in enumerate(names) if score == "average_precision"]
    if len(precisions) > 1:
        names.append(("mean_average_precision", ""))
        whole = np.concatenate([whole, whole[precisions].mean(axis=0, keepdims=True)])
        drawn = np.concatenate([drawn, drawn[:, precisions].mean(axis=1, keepdims=True)], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0).tolist() if len(scores) > 1 else (None, None)

    rows = []
    for place, (score, threshold) in enumerate(names):
        row = {"score": score, "threshold": threshold}
        for column, way in enumerate(("mean", "pooled")):
            limits = (low[place][column], high[place][column]) if low else (None, None)
            row |= {way: float(whole[place, column]), f"{way}_low": limits[0], f"{way}_high": limits[1]}
        rows.append(row)
    return rows
