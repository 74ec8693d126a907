"""Methods of `instances` compared: outlines by match, maps of the three heads, tables and curves of scores."""

import colorsys
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from skimage.segmentation import find_boundaries

from ..data.images import Pair, read_pair
from ..prediction.dividing import BOUNDARY, FLOW, INTERIOR, methods_for
from ..prediction.instances import label_image
from ..scoring.matching import (
    THRESHOLDS,
    Matches,
    compare_matches,
    match_instances,
    match_sweep,
    matched_ids,
    summarize_matches,
)
from .claims import Claim, interval_text
from .plots import FOUND, INVENTED, MISSED

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_WHEEL = np.array([colorsys.hsv_to_rgb(hue / 256, 1, 1) for hue in range(256)], np.float32)


def outlines(image: np.ndarray, labels: np.ndarray, color: Sequence[int] = FOUND) -> np.ndarray:
    """Outline each instance of (H, W) labels on a copy of an RGB image, so that touching ones are told apart."""
    picture = image.copy()
    picture[find_boundaries(labels, mode="thick")] = color
    return picture


def match_picture(image: np.ndarray, labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Instances that match the reference at IoU 0.5 in green, others in vermilion, missed ones of it in blue."""
    found, met = matched_ids(labels, reference)
    picture = outlines(image, np.where(np.isin(reference, met), 0, reference), MISSED)
    picture = outlines(picture, np.where(np.isin(labels, found), 0, labels), INVENTED)
    return outlines(picture, np.where(np.isin(labels, found), labels, 0), FOUND)


def map_pictures(maps: np.ndarray) -> dict[str, np.ndarray]:
    """The maps (H, W, 6) of `models.instance_unet`, to be shown: classes as colours, directions as hues."""
    hue = np.arctan2(maps[..., FLOW][..., 0], maps[..., FLOW][..., 1]) / (2 * np.pi) % 1
    strength = np.hypot(*np.moveaxis(maps[..., FLOW], -1, 0)).clip(0, 1) * (maps[..., 0] >= 0.5)
    classes = np.stack([maps[..., BOUNDARY], maps[..., INTERIOR], np.zeros(maps.shape[:2])], -1)
    return {
        "foreground": maps[..., 0],
        "interior (green), boundary (red)": (255 * classes.clip(0, 1)).astype(np.uint8),
        "direction to the centre": (255 * _WHEEL[(255 * hue).astype(int)] * strength[..., None]).astype(np.uint8),
    }


def compare_methods(
    maps: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray], min_area: int
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, list[Matches]]]]:
    """Labels of every method that the maps allow, by method and stem, and what `matching.match_sweep` says of them.

    Args:
        maps: (H, W, C) by stem, as `models.instance_unet` predicts them.
        references: (H, W) int32 by stem.
        min_area: see `instances.label_rows`.
    """
    methods = methods_for(next(iter(maps.values())).shape[-1])
    found = {m: {stem: label_image(maps[stem], m, min_area=min_area) for stem in references} for m in methods}
    sweeps = {m: {stem: match_sweep(own[stem], references[stem]) for stem in references} for m, own in found.items()}
    return found, sweeps


CHOICES = {"threshold": (0.5, 0.4, 0.3), "flow_threshold": (0.0, 0.4, 0.8)}
"""What `choose_rule` tries, the usual values first: these stay unless another is better."""


def choose_rule(
    predict: Callable[[np.ndarray], np.ndarray], pairs: Sequence[Pair], min_area: int
) -> tuple[dict, list[dict]]:
    """The method, its threshold and its flow threshold with the highest F1 on some images with labels.

    They are tried one after the other, and then the methods once more. F1 is pooled over all nuclei and averaged over
    matches at an IoU from 0.5 to 0.9, since a few images would decide by chance at 0.5 alone.

    Args:
        predict: gives the maps of an `instance_unet` for an image, (H, W, C).
        pairs: images to choose by, which must not be test images.
        min_area: see `instances.label_rows`.

    Returns:
        the rule, for `instances.label_image`, and a row of method, threshold, flow_threshold and F1 for each that was
        tried.
    """
    maps, references, tried = {}, {}, []
    for pair in pairs:
        image, references[pair.stem] = read_pair(pair, labels=True)
        maps[pair.stem] = predict(image)
    rule = {"method": "watershed", "threshold": 0.5, "flow_threshold": 0.0}
    choices = {"method": methods_for(maps[pairs[0].stem].shape[-1]), **CHOICES}
    for name in (*choices, "method"):
        for value in choices[name]:
            candidate = {**rule, name: value}
            if not any(candidate == {key: row[key] for key in rule} for row in tried):
                found = {stem: label_image(maps[stem], **candidate, min_area=min_area) for stem in references}
                pooled = _pooled(match_sweep(found[stem], references[stem]) for stem in references)
                tried.append({**candidate, "f1": float(np.mean([matches.f1 for matches in pooled]))})
        best = max(tried, key=lambda row: row["f1"])  # The first of equal ones.
        rule = {key: best[key] for key in rule}
    return rule, tried


def _pooled(sweeps: Iterable[Sequence[Matches]]) -> list[Matches]:
    """Sweeps of several images, added up for each threshold."""
    return [functools.reduce(operator.add, matches) for matches in zip(*sweeps, strict=True)]


def score_rows(sweeps: Mapping[str, Mapping[str, Sequence[Matches]]], seed: int = 0) -> list[dict]:
    """A row per method: F1 at IoU 0.5 with its 95 % interval, pooled F1, F1 at 0.75, panoptic quality, miscount.

    Args:
        sweeps: see `compare_methods`.
        seed: of the bootstrap.
    """
    rows = []
    for method, images in sweeps.items():
        summary = summarize_matches({stem: sweep[0] for stem, sweep in images.items()}, seed)
        strict = {stem: sweep[THRESHOLDS.index(0.75)] for stem, sweep in images.items()}
        low, high = summary["f1"]["mean_ci95"]
        counts = [(sweep[0].tp + sweep[0].fp, sweep[0].tp + sweep[0].fn) for sweep in images.values()]
        rows.append(
            {
                "method": method,
                "f1": summary["f1"]["mean"],
                "low": low,
                "high": high,
                "median_f1": summary["f1"]["median"],
                "pooled_f1": summary["f1"]["pooled"],
                "f1_at_075": summarize_matches(strict, seed)["f1"]["mean"],
                "panoptic_quality": summary["panoptic_quality"]["mean"],
                "counted": sum(count for count, _ in counts),
                "there": sum(count for _, count in counts),
            }
        )
    return rows


def score_curves(sweeps: Mapping[str, Mapping[str, Sequence[Matches]]]) -> Figure:
    """F1 and AP of each method for matches at an IoU from 0.5 to 0.9, pooled; `sweeps` as of `compare_methods`."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    scores = {"F1 = 2 TP / (2 TP + FP + FN)": "f1", "AP = TP / (TP + FP + FN)": "average_precision"}
    for ax, (title, score) in zip(figure.subplots(1, 2, sharey=True), scores.items(), strict=True):
        for (method, images), color in zip(sweeps.items(), COLORS, strict=False):
            values = [getattr(matches, score) for matches in _pooled(images.values())]
            ax.plot(THRESHOLDS, values, marker="o", markersize=4, color=color, label=method)
        ax.set(xlabel="IoU from which a nucleus counts as found", title=title, ylim=(0, 1.02))
        ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return figure


def area_histogram(areas: Mapping[str, np.ndarray]) -> Figure:
    """How many nuclei of each method have which area; `areas` in pixels, by method."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    ax = figure.subplots()
    largest = max([1, *(np.max(each) for each in areas.values() if len(each))])
    bins = np.linspace(0, largest, 25)
    for (method, each), color in zip(areas.items(), COLORS, strict=False):
        ax.hist(each, bins, histtype="step", linewidth=2, color=color, label=method)
    ax.set(xlabel="area of a nucleus, pixels", ylabel="number of nuclei")
    ax.legend(frameon=False)
    return figure


def gains(
    sweeps: Mapping[str, Mapping[str, Sequence[Matches]]], stems: Sequence[str], seed: int = 0
) -> tuple[dict, list[Claim]]:
    """By how much each method beats the first in F1 at IoU 0.5 on some images, by method, and claims about it."""
    (first, plain), *others = sweeps.items()
    results, claims = {}, []
    for method, images in others:
        pair = ({stem: own[stem][0] for stem in stems} for own in (images, plain))
        results[method] = gain = compare_matches(*pair, seed=seed)
        margin, low = f"{gain['mean']:.3f} F1{interval_text(gain['ci95'])}", gain["ci95"][0]
        sentence = f"Where most nuclei touch, {method} is better than {first} by {margin}."
        claims.append(Claim(sentence, (gain["mean"] if low is None else low) > 0))
    return results, claims


RULES = {"default": {}, "border counts": {"ignore_border": 0}, "challenge": {"neurips_compat": True}}
"""Rules of `matching.match_instances` by name."""


def rule_rows(found: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray]) -> list[dict]:
    """The F1 at IoU 0.5 of the same labels, by stem, under each of `RULES`."""
    rows = []
    for name, rule in RULES.items():
        matches = {stem: match_instances(labels, references[stem], **rule) for stem, labels in found.items()}
        f1 = summarize_matches(matches)["f1"]
        rows.append({"rule": name} | {f"{kind}_f1": f1[kind] for kind in ("mean", "median", "pooled")})
    return rows


def touching_share(labels: np.ndarray) -> float:
    """Share of the nuclei of (H, W) labels that no connected component of the foreground tells of."""
    count = len(np.unique(labels[labels > 0]))
    return 1 - label_image((labels > 0).astype(np.float32), "components", min_area=1).max() / count if count else 0.0
