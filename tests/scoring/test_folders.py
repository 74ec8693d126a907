"""Folders scored against folders: how files are paired, what is refused, and numbers counted by hand."""

import numpy as np
import pytest

from tests.data.test_images import assert_user_error
from tiledseg_utils.base.files import write_csv
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.scoring import matching
from tiledseg_utils.scoring.folders import (
    RATIOS,
    FilePair,
    image_rows,
    pair_files,
    score_files,
    summary_rows,
)
from tiledseg_utils.scoring.matching import Matches
from tiledseg_utils.scoring.pixels import Counts
from tiledseg_utils.settings.command_options import CommandSetting
from tiledseg_utils.settings.schema import fields_of


def squares(*corners, side=10, shape=(60, 60)):
    """Labels (H, W) int32: squares numbered from 1, by their upper left corners."""
    labels = np.zeros(shape, np.int32)
    for number, (top, left) in enumerate(corners, 1):
        labels[top : top + side, left : left + side] = number
    return labels


THREE = squares((5, 5), (25, 25), (45, 5))
SHIFTED = squares((5, 7), (25, 30), (45, 5))  # IoU 80/120, 50/150 and 1


def write(folder, files):
    """Write arrays, bool or labels, under their names."""
    for name, array in files.items():
        write_image(folder / name, array)
    return folder


def data_folder(path, files, splits=None, kinds=None):
    """A data folder of label images by stem, whose images are black."""
    for stem, labels in files.items():
        write(path, {f"masks/{stem}.png": labels, f"images/{stem}.png": np.zeros(labels.shape, np.uint8)})
    if splits:
        write_csv(path / "split.csv", [{"stem": stem, "split": split} for stem, split in splits.items()])
    if kinds:
        write_csv(path / "kinds.csv", [{"stem": stem, "kind": kind} for stem, kind in kinds.items()])
    return path


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize("name", ["a.png", "a_label.tif", "a_labels.png", "a_mask.png", "a_masks.tiff"])
def test_endings_do_not_count(tmp_path, name):
    prediction = write(tmp_path / "new", {name: THREE})
    reference = data_folder(tmp_path / "data", {"a": THREE})
    own = tmp_path / "data" / "masks" / "a.png"
    for folder in (reference, reference / "masks"):
        assert pair_files(prediction, folder) == [FilePair("a", prediction / name, own)]


def test_overlays_beside_masks_and_tables_are_left_out(tmp_path):
    prediction = write(tmp_path / "new", {"a.png": THREE, "a_overlay.png": THREE})
    (prediction / "scores.csv").write_text("stem\n")
    (prediction / ".tiledseg-finished.jsonl").write_text("")
    reference = write(tmp_path / "old", {"a.png": THREE})
    assert [pair.stem for pair in pair_files(prediction, reference)] == ["a"]


def test_a_split_leaves_out_the_others(tmp_path):
    stems = {"a": "train", "b_mask": "test", "c": "test"}
    reference = data_folder(tmp_path / "data", dict.fromkeys(stems, THREE), splits=stems)
    prediction = write(tmp_path / "new", {"b.png": THREE, "c.png": THREE, "a.png": THREE})
    for folder in (reference, reference / "masks"):
        assert [pair.stem for pair in pair_files(prediction, folder, "test")] == ["b", "c"]
    assert_user_error(lambda: pair_files(prediction, reference, "valid"), reference, "no split.csv with images")
    assert_user_error(
        lambda: pair_files(reference, prediction, "test"), prediction, "no split.csv with images for test"
    )


BAD_FOLDERS = {
    "no folder": ({}, {"a.png": THREE}, ["new", "is not a folder", "data folder"]),
    "no reference": ({"a.png": THREE}, {}, ["old", "is not a folder"]),
    "nothing inside": ({"a.txt": b"x"}, {"a.png": THREE}, ["new", "holds no masks and no label images"]),
    "other files": ({"a.png": THREE, "a.npy": b"x"}, {"a.png": THREE}, ["new/a.npy is not a PNG"]),
    "two of one stem": ({"a.png": THREE, "a_mask.png": THREE}, {"a.png": THREE}, ["differ only in their endings"]),
    "no prediction": ({"a.png": THREE}, {"a.png": THREE, "b.png": THREE}, ["old/b.png has no partner in", "--split"]),
    "no partner": ({"a.png": THREE, "b.png": THREE}, {"a.png": THREE}, ["new/b.png has no partner in"]),
    "masks and labels": (
        {"masks/a.png": THREE, "labels/a.png": THREE},
        {"a.png": THREE},
        ["new", "holds masks and labels", "new/labels"],
    ),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders_are_named(tmp_path, case):
    predicted, referred, words = BAD_FOLDERS[case]
    for folder, files in (("new", predicted), ("old", referred)):
        for name, content in files.items():
            if isinstance(content, bytes):
                (tmp_path / folder).mkdir(exist_ok=True)
                (tmp_path / folder / name).write_bytes(content)
            else:
                write_image(tmp_path / folder / name, content)
    assert_user_error(lambda: pair_files(tmp_path / "new", tmp_path / "old"), tmp_path, *words)


# ---------------------------------------------------------------- masks where labels are needed


EMPTY, ONE = THREE * 0, THREE * (THREE == 1)
MIXED = {
    "masks and labels": ({"a.png": THREE > 0}, {"a.png": THREE}, ["new: holds masks, but", "old holds labels"]),
    "labels and masks": ({"a.png": THREE}, {"a.png": THREE > 0}, ["new: holds labels, but", "old holds masks"]),
    "a mask among labels": (
        {"a.png": THREE, "b.png": THREE > 0},
        {"a.png": THREE, "b.png": THREE},
        ["new/b.png", "is a mask (one value, in several pieces), but 1 others hold labels"],
    ),
}


@pytest.mark.parametrize("case", MIXED)
def test_masks_where_labels_are_needed_are_named(tmp_path, case):
    predicted, referred, words = MIXED[case]
    pairs = pair_files(write(tmp_path / "new", predicted), write(tmp_path / "old", referred))
    remedies = ["the command instances makes them", "--objects components", "--objects none"]
    assert_user_error(lambda: score_files(pairs, [0.5]), tmp_path, *words, *remedies)
    assert all(score.sweep == () for score in score_files(pairs, [0.5], objects="none").values())
    for score in score_files(pairs, [0.5], objects="components", rules="every").values():
        assert (score.sweep[0].tp, score.sweep[0].f1, score.pixels.dice) == (3, 1, 1)


def test_files_of_one_object_or_none_suit_labels_and_masks(tmp_path):
    few = {"b.png": ONE, "c.png": EMPTY}
    for name, array, is_scored in (("labels", THREE, True), ("masks", THREE > 0, False)):
        folder = write(tmp_path / name, {"a.png": array, **few})
        scores = score_files(pair_files(folder, folder), [0.5])
        assert [bool(score.sweep) for score in scores.values()] == [is_scored] * 3
    few = write(tmp_path / "few", few)
    assert all(score.sweep for score in score_files(pair_files(few, few), [0.5]).values())


def test_other_sizes_are_named(tmp_path):
    prediction, reference = write(tmp_path / "new", {"a.png": THREE[:50]}), write(tmp_path / "old", {"a.png": THREE})
    words = ["is 50 x 60 pixels", "old/a.png is 60 x 60", "never resized"]
    pairs = pair_files(prediction, reference)
    assert_user_error(lambda: score_files(pairs, [0.5]), prediction / "a.png", *words)


# ---------------------------------------------------------------- numbers


def scores_of(tmp_path, predicted, referred, thresholds=(0.5, 0.75), **rules):
    pairs = pair_files(write(tmp_path / "new", predicted), write(tmp_path / "old", referred))
    return score_files(pairs, thresholds, **rules)


def test_scores_of_an_image_counted_by_hand(tmp_path):
    scores = scores_of(tmp_path, {"a.png": SHIFTED}, {"a.png": THREE}, rules="every")
    (row,) = image_rows(scores, (0.5, 0.75), {"a": "square"})
    assert (row["stem"], row["kind"], row["predicted"], row["reference"]) == ("a", "square", 3, 3)
    assert row["dice"] == pytest.approx(2 * 230 / 600) and row["iou"] == pytest.approx(230 / 370)
    assert [row[f"{name}_0.5"] for name in ("tp", "fp", "fn")] == [2, 1, 1]
    assert [row[f"{name}_0.75"] for name in ("tp", "fp", "fn")] == [1, 2, 2]
    assert row["f1_0.5"] == pytest.approx(2 / 3) and row["average_precision_0.5"] == pytest.approx(2 / 4)
    assert row["average_precision_0.75"] == pytest.approx(1 / 5)
    assert row["mean_average_precision"] == pytest.approx((2 / 4 + 1 / 5) / 2)
    assert row["panoptic_quality_0.5"] == pytest.approx((80 / 120 + 1) / 3)


@pytest.mark.parametrize(("rules", "objects"), [("default", 1), ("every", 2), ("neurips", 1)])
def test_rules_decide_about_objects_at_the_border(tmp_path, rules, objects):
    labels = squares((0, 20), (30, 30))
    (score,) = scores_of(tmp_path, {"a.png": labels}, {"a.png": labels}, rules=rules).values()
    assert score.sweep[0].tp == objects


def test_means_pooled_scores_and_kinds(tmp_path):
    predicted = {"a.png": SHIFTED, "b.png": THREE, "c.png": squares((5, 5), (25, 25))}
    scores = scores_of(tmp_path, predicted, dict.fromkeys(predicted, THREE), rules="every")
    rows = summary_rows(scores, (0.5, 0.75), {"a": "x", "b": "y", "c": "y"}, seed=1)
    assert [row["kind"] for row in rows] == ["all"] * 9 + ["x"] * 9 + ["y"] * 9
    found = {(row["kind"], row["score"], row["threshold"]): row for row in rows}
    f1, ap = found["all", "f1", 0.5], found["all", "mean_average_precision", ""]
    assert f1["images"] == 3 and f1["mean"] == pytest.approx((2 / 3 + 1 + 4 / 5) / 3)
    assert f1["pooled"] == pytest.approx(2 * 7 / (2 * 7 + 1 + 2))
    assert f1["mean_low"] == pytest.approx(2 / 3) and f1["mean_high"] == pytest.approx(1)
    assert ap["mean"] == pytest.approx(((2 / 4 + 1 / 5) / 2 + 1 + 2 / 3) / 3)
    assert ap["pooled"] == pytest.approx((7 / 10 + 6 / 11) / 2)
    assert found["x", "f1", 0.5]["mean_low"] is None and found["x", "f1", 0.5]["pooled"] == pytest.approx(2 / 3)
    assert found["y", "dice", ""]["pooled"] == pytest.approx(2 * 500 / 1100)
    assert rows == summary_rows(scores, (0.5, 0.75), {"a": "x", "b": "y", "c": "y"}, seed=1)


def test_empty_images_follow_the_rules(tmp_path):
    for rules, value in (("default", 1), ("neurips", 0)):
        scores = scores_of(tmp_path / rules, {"a.png": EMPTY}, {"a.png": EMPTY}, [0.5], rules=rules)
        f1 = next(row for row in summary_rows(scores, [0.5], {}) if row["score"] == "f1")
        assert (f1["mean"], f1["pooled"]) == (value, value)


@pytest.mark.parametrize("name", RATIOS)
def test_ratios_are_those_of_the_scores(name):
    counts = Matches(5, 2, 3, 4.2) if hasattr(Matches, name) else Counts(5, 2, 3, 0)
    numerator, denominator = (np.dot(weights, (5, 2, 3, 4.2)) for weights in RATIOS[name])
    assert numerator / denominator == pytest.approx(getattr(counts, name))


def test_thresholds_of_the_command_are_those_of_the_module():
    assert fields_of(CommandSetting)["iou_thresholds"].default_factory() == list(matching.THRESHOLDS)
