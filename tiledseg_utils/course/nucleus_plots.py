"""Counts and sizes of nuclei, by kind of image: scores of methods, agreement with a reference, where a method fails."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..scoring.folders import ImageScore, summary_rows
from ..scoring.matching import THRESHOLDS, Matches
from ..scoring.pixels import count_pixels
from .instance_plots import COLORS

EVERY = "all"
"""The kind of all images together."""


def kind_rows(
    found: Mapping[str, Mapping[str, np.ndarray]],
    references: Mapping[str, np.ndarray],
    sweeps: Mapping[str, Mapping[str, Sequence[Matches]]],
    kinds: Mapping[str, str],
    seed: int = 0,
) -> list[dict]:
    """A row for each kind and method: F1 and AP at IoU 0.5, pooled over all nuclei, with 95 % intervals.

    Args:
        found, sweeps: labels and matches by method and stem, see `instance_plots.compare_methods`.
        references: (H, W) int32 by stem.
        kinds: of each image by its stem; empty if there is only one.
        seed: of the bootstrap over images.
    """
    rows = []
    for method, labels in found.items():
        scores = {
            stem: ImageScore(count_pixels(labels[stem] > 0, references[stem] > 0), tuple(sweeps[method][stem]))
            for stem in references
        }
        summary = summary_rows(scores, THRESHOLDS, kinds, seed)
        at_half = {(row["kind"], row["score"]): row for row in summary if row["threshold"] == THRESHOLDS[0]}
        for kind in dict.fromkeys(row["kind"] for row in summary):
            row = {"kind": kind, "method": method, "images": at_half[kind, "f1"]["images"]}
            for name, score in (("f1", "f1"), ("ap", "average_precision")):
                pooled = at_half[kind, score]
                row |= {
                    name: pooled["pooled"],
                    f"{name}_low": pooled["pooled_low"],
                    f"{name}_high": pooled["pooled_high"],
                }
            rows.append(row)
    return sorted(rows, key=lambda row: row["kind"])  # Stable: the methods stay in their order.


def agreement(counts: Mapping[str, tuple[int, int]]) -> dict[str, float | None]:
    """How far counts are from a reference: bias and limits of agreement (Bland & Altman, Lancet 1986).

    Args:
        counts: by stem, how many nuclei were found and how many are there.

    Returns:
        {"bias", "low", "high"}: the mean of found less there, and 1.96 standard deviations on both sides of it, between
        which about 95 % of images lie. The limits are None for a single image.
    """
    differences = np.array([found - there for found, there in counts.values()], float)
    bias = float(differences.mean())
    if len(differences) < 2:
        return {"bias": bias, "low": None, "high": None}
    spread = 1.96 * float(differences.std(ddof=1))
    return {"bias": bias, "low": bias - spread, "high": bias + spread}


def agreement_chart(counts: Mapping[str, tuple[int, int]], kinds: Mapping[str, str]) -> Figure:
    """A Bland-Altman plot: found less there against the mean of both, a dot for each image.

    Args:
        counts: see `agreement`.
        kinds: of each image by its stem; empty if there is only one.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax = figure.subplots()
    for kind, color in zip(sorted(set(kinds.values())) or [EVERY], itertools.cycle(COLORS), strict=False):
        own = [pair for stem, pair in counts.items() if kinds.get(stem, EVERY) == kind]
        middles, differences = [sum(pair) / 2 for pair in own], [found - there for found, there in own]
        ax.scatter(middles, differences, 24, color=color, alpha=0.8, label=kind)
    lines = agreement(counts)
    for name, style in (("low", "--"), ("bias", "-"), ("high", "--")):
        if lines[name] is not None:
            ax.axhline(lines[name], color="black", linestyle=style, linewidth=1)
    ax.set(xlabel="nuclei in the image (mean of found and there)", ylabel="found less there")
    if kinds:
        ax.legend(frameon=False)
    return figure


def worst_of_each_kind(sweeps: Mapping[str, Sequence[Matches]], kinds: Mapping[str, str]) -> dict[str, str]:
    """By kind, the stem of the image with the lowest F1 at IoU 0.5.

    Args:
        sweeps: of one method, by stem.
        kinds: of each image by its stem; empty if there is only one.
    """
    worst: dict[str, str] = {}
    for stem in sorted(sweeps, key=lambda stem: (sweeps[stem][0].f1, stem)):
        worst.setdefault(kinds.get(stem, EVERY), stem)
    return dict(sorted(worst.items()))


def size_rows(nuclei: pd.DataFrame) -> list[dict]:
    """A row for each kind: number of nuclei, quartiles of their areas, their median eccentricity and solidity.

    Args:
        nuclei: tables of `measure.measure`, one below the other, with a column `kind`.
    """
    rows = []
    for kind, own in nuclei.groupby("kind"):
        quarter, median, three_quarters = own["area"].quantile([0.25, 0.5, 0.75])
        row = {"kind": kind, "nuclei": len(own), "area_25_percent": quarter, "median_area": median}
        row |= {"area_75_percent": three_quarters}
        row |= {f"median_{name}": own[name].median() for name in ("eccentricity", "solidity")}
        rows.append(row)
    return rows
