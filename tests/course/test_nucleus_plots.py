"""Counts, scores and sizes of nuclei by kind of image."""

import numpy as np
import pandas as pd
import pytest

from tiledseg_utils.course import instance_plots, nucleus_plots

KINDS = {"a": "tissue", "b": "tissue", "c": "smear"}


def squares(count, side=12):
    labels = np.zeros((60, 180), np.int32)
    for number in range(count):
        labels[24 : 24 + side, 8 + 28 * number : 8 + 28 * number + side] = number + 1
    return labels


REFERENCES = {"a": squares(2), "b": squares(4), "c": squares(1)}
FOUND = {"good": REFERENCES, "poor": {"a": squares(2, 3), "b": squares(3), "c": squares(1)}}


def compared():
    return {m: {s: instance_plots.match_sweep(own[s], REFERENCES[s]) for s in REFERENCES} for m, own in FOUND.items()}


def test_scores_of_each_kind_are_pooled_over_its_nuclei():
    rows = nucleus_plots.kind_rows(FOUND, REFERENCES, compared(), KINDS)
    assert [(row["kind"], row["method"], row["images"]) for row in rows] == [
        ("all", "good", 3), ("all", "poor", 3), ("smear", "good", 1), ("smear", "poor", 1),
        ("tissue", "good", 2), ("tissue", "poor", 2),
    ]  # fmt: skip
    good, poor = rows[0], rows[5]
    assert good["f1"] == good["f1_low"] == good["ap"] == 1
    # TP 3; FP: both small squares of a; FN: these two, and the fourth of b.
    assert poor["f1"] == pytest.approx(6 / (6 + 2 + 3)) and poor["ap"] == pytest.approx(3 / 8)
    assert poor["f1_low"] <= poor["f1"] <= poor["f1_high"]
    assert rows[2]["f1_low"] is None  # of a single image


def test_without_kinds_all_images_are_one():
    rows = nucleus_plots.kind_rows(FOUND, REFERENCES, compared(), {})
    assert [(row["kind"], row["method"]) for row in rows] == [("all", "good"), ("all", "poor")]
    assert list(nucleus_plots.worst_of_each_kind(compared()["poor"], {})) == ["all"]


def test_bias_and_limits_of_agreement():
    counts = {"a": (12, 10), "b": (9, 10), "c": (10, 8)}
    found = nucleus_plots.agreement(counts)
    spread = 1.96 * np.std([2, -1, 2], ddof=1)
    assert found == pytest.approx({"bias": 1, "low": 1 - spread, "high": 1 + spread})
    assert nucleus_plots.agreement({"a": (3, 1)}) == {"bias": 2, "low": None, "high": None}
    many = {str(number): (number, 0) for number in range(9)}  # more kinds than colours
    (axes,) = nucleus_plots.agreement_chart(many, {stem: f"kind {stem}" for stem in many}).axes
    assert sum(len(collection.get_offsets()) for collection in axes.collections) == 9
    for kinds in (KINDS, {}):
        (axes,) = nucleus_plots.agreement_chart(counts, kinds).axes
        dots = np.concatenate([collection.get_offsets() for collection in axes.collections])
        assert sorted(dots[:, 1]) == [-1, 2, 2] and sorted(dots[:, 0]) == [9, 9.5, 11]
        heights = sorted(line.get_ydata()[0] for line in axes.lines)
        assert heights == pytest.approx([1 - spread, 1, 1 + spread])


def test_the_worst_image_of_each_kind():
    assert nucleus_plots.worst_of_each_kind(compared()["poor"], KINDS) == {"smear": "c", "tissue": "a"}


def test_sizes_of_each_kind():
    nuclei = pd.DataFrame(
        {"kind": ["x", "x", "x", "y"], "area": [10, 20, 60, 5], "eccentricity": [0, 0.5, 1, 0.2], "solidity": 1.0}
    )
    first, second = nucleus_plots.size_rows(nuclei)
    assert first == {
        "kind": "x", "nuclei": 3, "area_25_percent": 15, "median_area": 20, "area_75_percent": 40,
        "median_eccentricity": 0.5, "median_solidity": 1,
    }  # fmt: skip
    assert (second["kind"], second["nuclei"], second["median_area"]) == ("y", 1, 5)
