import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from tiledseg_utils.scoring import matching
from tiledseg_utils.scoring.matching import Matches, match_instances, match_sweep


def discs(rng, side, count, radii=(4, 9)):
    """Random discs as labels (side, side) int32; later ones cover earlier ones."""
    labels = np.zeros((side, side), np.int32)
    for number in range(1, count + 1):
        x, y = (int(centre) for centre in rng.integers(0, side, 2))
        cv2.circle(labels, (x, y), int(rng.integers(*radii)), number, -1)
    return labels


def disturbed(labels, rng, loss=0.15):
    """Labels with objects lost and invented, all shifted by up to one pixel."""
    ids = np.arange(labels.max() + 1)
    ids[rng.random(len(ids)) < loss] = 0
    kept = np.roll(ids[labels], rng.integers(-1, 2, 2), (0, 1))
    invented = discs(rng, len(labels), int(rng.integers(0, 4)))
    return np.where(invented, invented + labels.max(), kept).astype(np.int32)


def dense_table(prediction, reference):
    """Pixels of all pairs of consecutive ids, (N + 1, M + 1)."""
    shape = reference.max() + 1, prediction.max() + 1
    return np.bincount(reference.ravel() * shape[1] + prediction.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def dense_iou(prediction, reference):
    table = dense_table(prediction, reference)
    union = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - table
    return (table / np.maximum(union, 1))[1:, 1:]


def hungarian(iou, threshold):
    """IoU of the pairs of the best assignment: as many as possible over the threshold, then with the largest IoU."""
    if not iou.size:
        return np.zeros(0)
    chosen = iou[linear_sum_assignment(-(iou >= threshold).astype(float) - iou / (2 * min(iou.shape)))]
    return chosen[chosen >= threshold]


def inner_objects(labels):
    """Consecutive labels of the objects that stay out of the outer two pixels."""
    numbers, new = {0: 0}, np.zeros(labels.max() + 1, int)
    frame = np.ones(labels.shape, bool)
    frame[2:-2, 2:-2] = False
    removed = set(labels[frame].tolist())
    for label in np.unique(labels).tolist():
        if label not in removed:
            numbers[label] = new[label] = len(numbers) if label else 0
    return new[labels]


def competition(prediction, reference, threshold, patch=2000):
    """The challenge's table, as told in words: tp, fp, fn, predicted objects, reference objects, F1."""
    height, width = reference.shape
    corners = [(0, 0)]
    if height * width >= 25_000_000:
        corners = [(top, left) for top in range(0, height, patch) for left in range(0, width, patch)]
        canvas = np.zeros((2, -(-height // patch) * patch, -(-width // patch) * patch), np.int32)
        canvas[:, :height, :width] = prediction, reference
        prediction, reference = canvas
        height = width = patch
    tp = fp = fn = predicted = referred = 0
    for top, left in corners:
        view = np.s_[top : top + height, left : left + width]
        part, truth = inner_objects(prediction[view]), inner_objects(reference[view])
        found = 0
        if part.max() > 0:
            found = len(hungarian(dense_iou(part, truth), threshold))
            fp, fn = fp + part.max() - found, fn + truth.max() - found
        tp, predicted, referred = tp + found, predicted + part.max(), referred + truth.max()
    precision, recall = (tp / predicted, tp / referred) if tp else (0, 0)
    f1 = 2 * precision * recall / (precision + recall) if tp else 0
    return tp, fp, fn, predicted, referred, pytest.approx(f1, rel=1e-12)


def competition_row(matches):
    counts = matches.tp, matches.fp, matches.fn - matches.fn_untold
    return *counts, matches.tp + matches.fp, matches.tp + matches.fn, matches.f1


# By hand


def squares(*boxes, shape=(20, 20)):
    """Labels of rectangles (top, left, height, width), numbered from 1."""
    labels = np.zeros(shape, np.int32)
    for number, (top, left, height, width) in enumerate(boxes, 1):
        labels[top : top + height, left : left + width] = number
    return labels


def test_scores_by_hand():
    reference = squares((3, 3, 4, 4), (3, 11, 4, 4), (12, 3, 4, 4))
    # Right; one column off (12 of 20 pixels); in the background; the third one is missed.
    prediction = squares((3, 3, 4, 4), (3, 12, 4, 4), (12, 12, 3, 3), (9, 12, 2, 2))
    matches = match_instances(prediction, reference)
    assert (matches.tp, matches.fp, matches.fn) == (2, 2, 1) and matches.iou_sum == pytest.approx(1.6)
    assert (matches.precision, matches.recall) == (pytest.approx(2 / 4), pytest.approx(2 / 3))
    assert (matches.f1, matches.average_precision) == (pytest.approx(4 / 7), pytest.approx(2 / 5))
    assert matches.panoptic_quality == pytest.approx(0.8 * 4 / 7)
    json.dumps(vars(matches))  # No types of NumPy's.


def test_a_sweep_loses_matches_as_the_threshold_rises():
    reference = squares((3, 3, 4, 4), (3, 11, 4, 4))
    prediction = squares((3, 3, 4, 4), (3, 12, 4, 4))  # IoU 1 and 12 / 20
    sweep = match_sweep(prediction, reference)
    assert matching.THRESHOLDS[2] == 0.6 and [matches.tp for matches in sweep] == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert all((matches.tp + matches.fp, matches.tp + matches.fn) == (2, 2) for matches in sweep)
    assert matching.mean_average_precision(sweep) == pytest.approx((3 * 1 + 6 * 1 / 3) / 9)


def test_one_half_of_an_object_matches_it_and_the_other_does_not():
    whole, halves = squares((5, 5, 4, 4)), squares((5, 5, 4, 2), (5, 7, 4, 2))
    split, merged = match_instances(halves, whole), match_instances(whole, halves)
    assert (split.tp, split.fp, split.fn, split.iou_sum) == (1, 1, 0, 0.5)
    assert (merged.tp, merged.fp, merged.fn, merged.iou_sum) == (1, 0, 1, 0.5)


def test_ids_of_any_size_and_type():
    reference, prediction = squares((3, 3, 4, 4), (12, 3, 4, 4)), squares((12, 3, 4, 4), (3, 3, 4, 4))
    huge = np.array([0, 2**62, 2**33 + 1])[reference]
    assert match_instances(prediction.astype(np.uint8), huge).f1 == 1
    # Modulo 2**32, both ids of the reference would be 1.
    assert match_instances(prediction, np.array([0, 1, 2**32 + 1])[reference]).tp == 2


@pytest.mark.parametrize(("rule", "score"), [("one", 1), ("zero", 0), ("nan", np.nan)])
def test_the_rule_for_empty_images(rule, score):
    empty, some = squares(), squares((2, 2, 16, 16))  # Of the other side's background, the object is more than half.
    nothing = match_instances(empty, empty, empty=rule)
    np.testing.assert_equal([getattr(nothing, name) for name in matching.SCORES], [score] * len(matching.SCORES))
    invented, missed = match_instances(some, empty, empty=rule), match_instances(empty, some, empty=rule)
    assert (invented.fp, invented.fn, invented.f1, invented.precision, invented.panoptic_quality) == (1, 0, 0, 0, 0)
    assert (missed.fp, missed.fn, missed.f1, missed.recall, missed.average_precision) == (0, 1, 0, 0, 0)
    np.testing.assert_equal([invented.recall, missed.precision], [score, score])


# The border


def test_an_object_is_ignored_when_either_side_of_it_is_at_the_border():
    inside, at_border = (8, 8, 4, 4), (1, 1, 10, 6)
    reference = squares(inside, at_border)
    prediction = squares(inside, (2, 2, 9, 5))  # IoU 0.75
    perfect = Matches(tp=1, fp=0, fn=0, iou_sum=1.0)
    assert match_sweep(prediction, reference, [0.5, 0.9]) == [perfect, perfect]
    assert match_sweep(reference, prediction, [0.5, 0.9]) == [perfect, perfect]
    removed_alone = match_instances(prediction, reference, neurips_compat=True)
    assert (removed_alone.tp, removed_alone.fp, removed_alone.fn) == (1, 1, 0)
    everything = match_instances(prediction, reference, ignore_border=0)
    assert (everything.tp, everything.fp, everything.fn) == (2, 0, 0)


@pytest.mark.parametrize(("width", "expected"), [(0, 1), (2, 1), (3, 0), (100, 0)])
@pytest.mark.parametrize("turns", range(4))
def test_the_frame_is_as_wide_as_said_on_each_side(width, expected, turns):
    labels = np.rot90(squares((7, 2, 3, 3)), turns)
    assert match_instances(labels, labels, ignore_border=width).tp == expected


def test_an_object_at_the_border_hides_no_errors_but_its_own():
    reference = squares((0, 0, 8, 8), (12, 12, 4, 4))
    fragment = squares((2, 2, 3, 3), (12, 12, 4, 4))  # IoU with the ignored one is far below 0.5
    assert match_instances(fragment, reference).fp == 1
    everything = squares((0, 0, 20, 20))
    assert match_instances(everything, reference).fn == 1


# Properties


@st.composite
def label_pairs(draw):
    """A prediction that partly agrees with the reference, of ids 0 to 4, both (H, W) int32."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    coarse = draw(arrays.arrays(np.int32, shape, elements=st.integers(0, 4)))
    reference = np.kron(coarse, np.ones((2, 3), np.int32))
    changed = draw(arrays.arrays(bool, reference.shape, elements=st.booleans(), fill=st.just(False)))
    return np.where(changed, draw(st.integers(0, 4)), reference).astype(np.int32), reference


borders = st.integers(0, 2)


@given(label_pairs(), borders)
def test_a_perfect_prediction_scores_1(pair, border):
    (matches,) = match_sweep(pair[1], pair[1], [1.0], ignore_border=border)
    assert (matches.f1, matches.panoptic_quality, matches.fp, matches.fn) == (1, 1, 0, 0)


orders = st.permutations(range(1, 5))


@given(label_pairs(), borders, orders, orders, st.integers(1, 2**60), st.booleans())
def test_ids_are_only_names(pair, border, order, other_order, factor, compat):
    rules = {"ignore_border": border, "neurips_compat": compat}
    names, other_names = np.array([0, *order]) * factor, np.array([0, *other_order])
    assert match_sweep(names[pair[0]], other_names[pair[1]], **rules) == match_sweep(*pair, **rules)


@given(label_pairs(), borders)
def test_swapping_prediction_and_reference_swaps_inventions_and_misses(pair, border):
    for one, other in zip(
        match_sweep(*pair, ignore_border=border), match_sweep(*pair[::-1], ignore_border=border), strict=True
    ):
        assert (one.tp, one.fp, one.fn, one.iou_sum) == (other.tp, other.fn, other.fp, other.iou_sum)
        assert (one.f1, one.precision) == (other.f1, other.recall)


@given(label_pairs(), st.integers(1, 40))
def test_bands_count_what_one_pass_counts_and_a_dense_table_too(pair, band_pixels):
    for overlaps in (matching.count_overlaps(*pair), matching.count_overlaps(*pair, band_pixels)):
        table = np.zeros((5, 5), int)
        table[np.ix_(overlaps.reference_ids, overlaps.predicted_ids)] = overlaps.pixels.toarray()
        np.testing.assert_array_equal(table[: pair[1].max() + 1, : pair[0].max() + 1], dense_table(*pair))
        assert table.sum() == pair[0].size


@given(label_pairs())
def test_no_assignment_is_better(pair):
    iou = dense_iou(*pair)
    for threshold, matches in zip(matching.THRESHOLDS, match_sweep(*pair, ignore_border=0), strict=True):
        best = hungarian(iou, threshold)
        assert matches.tp == len(best) and matches.iou_sum == pytest.approx(best.sum())
        assert matches.tp + matches.fp == len(np.unique(pair[0][pair[0] > 0]))
        assert matches.tp + matches.fn == len(np.unique(pair[1][pair[1] > 0]))


# The competition


def test_the_competition_on_small_images(rng):
    rows = []
    for number in range(200):
        side = int(rng.integers(12, 96))
        reference = discs(rng, side, int(rng.integers(0, side // 3)))
        prediction = disturbed(reference, rng)
        if number % 20 < 2:
            (prediction if number % 20 else reference)[:] = 0
        if number % 20 == 2:
            prediction[:] = reference[:] = 0
        threshold = [0.5, 0.7][number % 2]
        matches = match_instances(prediction, reference, threshold, neurips_compat=True, ignore_border=7, empty="nan")
        rows.append(competition_row(matches))
        assert rows[-1] == competition(prediction, reference, threshold)
    # All that makes the competition special was there.
    assert sum(row[0] > 2 for row in rows) > 50
    assert any(row[3] == 0 and row[4] > 0 and row[2] == 0 for row in rows)
    assert any(row[3] > 0 and row[4] == 0 for row in rows)
    assert any(row[3:] == (0, 0, 0) for row in rows)


def test_the_competition_on_a_large_image(rng):
    """5100 x 5100 pixels are nine patches, the outer ones of 1100 px; one of them without a prediction."""
    reference = discs(rng, 5100, 3000, (8, 24))
    prediction = np.roll(reference, (1, 2), (0, 1))
    prediction[np.isin(prediction, rng.integers(1, 3001, 300))] = 0
    prediction[4000:, :2000] = 0
    matches = match_instances(prediction, reference, neurips_compat=True)
    assert matches.tp > 1500 and matches.fn_untold > 50
    assert competition_row(matches) == competition(prediction, reference, 0.5)
    assert match_instances(prediction, reference).tp > matches.tp  # No grid, no objects cut.


def test_images_are_large_from_25_million_pixels_on():
    """An object on the line between the patches counts in the one and not in the other."""
    labels = np.zeros((2600, 10000), np.int32)
    labels[1990:2010, 100:120] = 1
    assert match_instances(labels, labels, neurips_compat=True).tp == 0
    assert match_instances(labels[101:, 1:], labels[101:, 1:], neurips_compat=True).tp == 1
    labels = labels[:2500]
    assert match_instances(labels, labels, neurips_compat=True).tp == 0
    assert match_instances(labels[:, 1:], labels[:, 1:], neurips_compat=True).tp == 1


# Several images


def test_summary_tells_mean_from_pooled():
    matches = {"one": Matches(1, 0, 0, 0.9), "many": Matches(50, 50, 0, 40.0), "missed": Matches(0, 0, 2, 0.0)}
    summary = matching.summarize_matches(matches, seed=1)
    f1 = summary["f1"]
    assert f1["per_image"] == {"one": 1.0, "many": pytest.approx(2 / 3), "missed": 0.0}
    assert (f1["mean"], f1["median"], f1["images"]) == (pytest.approx(5 / 9), pytest.approx(2 / 3), 3)
    assert f1["pooled"] == pytest.approx(102 / (102 + 50 + 2))
    assert f1["mean_ci95"] == f1["median_ci95"] == [0, 1]  # An image in 27 resamplings is drawn each time.
    assert summary["panoptic_quality"]["pooled"] == pytest.approx(2 * 40.9 / 154)
    assert summary == matching.summarize_matches(matches, seed=1)
    assert set(summary) == set(matching.SCORES)


def test_intervals_are_as_wide_as_theory_has_it(rng):
    found = rng.binomial(20, 0.8, 400)
    matches = {str(number): Matches(int(tp), 0, int(20 - tp), float(tp)) for number, tp in enumerate(found)}
    low, high = matching.summarize_matches(matches)["recall"]["mean_ci95"]
    assert (low + high) / 2 == pytest.approx(found.mean() / 20, abs=0.001)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 20 / 400), rel=0.2)


def test_undefined_scores_are_left_out_and_told():
    empty, good = Matches(0, 0, 0, 0.0, "nan"), Matches(3, 1, 1, 2.4, "nan")
    summary = matching.summarize_matches({"empty": empty, "good": good})["f1"]
    assert (summary["mean"], summary["images"], summary["pooled"]) == (0.75, 1, 0.75)
    assert summary["mean_ci95"] == [None, None]
    nothing = matching.summarize_matches({"empty": empty})["f1"]
    assert np.isnan(nothing["mean"]) and np.isnan(nothing["median"]) and nothing["images"] == 0


def test_methods_are_compared_on_the_same_images(rng):
    hits = dict(zip("abcdefgh", rng.integers(5, 90, 8).tolist(), strict=True))
    second = {stem: Matches(tp, 0, 100 - tp, 0.0) for stem, tp in hits.items()}
    first = {stem: Matches(tp + 10, 0, 90 - tp, 0.0) for stem, tp in reversed(hits.items())}
    result = matching.compare_matches(first, second, "recall")
    assert result["mean"] == pytest.approx(0.1) and result["images"] == 8
    assert result["ci95"] == pytest.approx([0.1, 0.1])
    worse = matching.compare_matches(second, first, "f1", seed=2)
    assert worse["ci95"][0] < worse["mean"] < worse["ci95"][1] < 0


def test_methods_are_compared_where_both_have_a_score():
    empty, good, bad = (Matches(*counts, 0.0, "nan") for counts in [(0, 0, 0), (1, 0, 0), (1, 1, 1)])
    result = matching.compare_matches({"a": empty, "b": good}, {"a": bad, "b": bad})
    assert result == {"mean": 0.5, "ci95": [None, None], "images": 1}
    with pytest.raises(ValueError, match="no image has a f1 of both"):
        matching.compare_matches({"a": empty}, {"a": bad})
    with pytest.raises(ValueError, match=r"not the same images: \['a'\]"):
        matching.compare_matches({"a": empty, "b": good}, {"b": bad})
    with pytest.raises(ValueError, match="score: dice: is not known"):
        matching.compare_matches({"a": good}, {"a": bad}, "dice")


# Errors


def test_labels_must_be_comparable():
    labels = squares((5, 5, 4, 4))
    wrong = {
        "differ in shape": labels[1:],
        r"prediction must be \(H, W\), not \(1, 20, 20\)": labels[None],
        "prediction must be of integers up to int64, not float32": labels.astype(np.float32),
        "not uint64; convert it to int32": labels.astype(np.uint64),
        "not bool; label the objects": labels > 0,
        "prediction has the negative id -3": np.where(labels, labels, -3),
    }
    for message, prediction in wrong.items():
        for compat in (False, True):
            with pytest.raises(ValueError, match=message):
                match_instances(prediction, labels, neurips_compat=compat)
    large = np.zeros((2500, 10001), np.uint8)
    with pytest.raises(ValueError, match="differ in shape"):
        match_instances(large, large[:, 1:], neurips_compat=True)
    with pytest.raises(ValueError, match="reference has the negative id -1"):
        match_instances(labels, -labels)


def test_rules_must_be_known_and_in_range():
    labels = squares()
    with pytest.raises(ValueError, match=r"thresholds \[0.4\] must be from 0.5 to 1"):
        match_instances(labels, labels, 0.4)
    with pytest.raises(ValueError, match="ignore_border -1"):
        match_instances(labels, labels, ignore_border=-1)
    with pytest.raises(ValueError, match=r"empty: none: is not known.*one, zero, nan"):
        match_instances(labels, labels, empty="none")
    with pytest.raises(ValueError, match="different rules for empty images, one and zero"):
        matching.summarize_matches({"a": Matches(0, 0, 0, 0.0), "b": Matches(0, 0, 0, 0.0, "zero")})
    with pytest.raises(ValueError, match="no images"):
        matching.summarize_matches({})


def test_files_that_are_mapped_into_memory(tmp_path, rng):
    reference = discs(rng, 300, 40)
    prediction = disturbed(reference, rng)
    mapped = []
    for name, labels in (("prediction", prediction), ("reference", reference)):
        np.save(tmp_path / f"{name}.npy", labels)
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    assert match_sweep(*mapped) == match_sweep(prediction, reference)
