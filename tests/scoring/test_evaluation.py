import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.morphology import remove_small_objects

from tiledseg_utils.data import images
from tiledseg_utils.scoring import evaluation
from tiledseg_utils.scoring.evaluation import Counts

counts = st.builds(Counts, *[st.integers(0, 50)] * 4)


def test_scores_by_hand():
    reference = np.array([[1, 1, 1, 0, 0, 0]], bool)
    prediction = np.array([[0, 1, 1, 1, 0, 0]], bool)
    count = evaluation.count_pixels(prediction, reference)
    assert count == Counts(tp=2, fp=1, fn=1, tn=2)
    assert (count.dice, count.iou) == (pytest.approx(4 / 6), pytest.approx(2 / 4))
    assert (count.precision, count.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_the_rule_for_empty_masks():
    empty, some = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    assert evaluation.count_pixels(empty, empty).dice == 1
    invented, missed = evaluation.count_pixels(some, empty), evaluation.count_pixels(empty, some)
    assert (invented.dice, invented.precision, invented.recall) == (0, 0, 1)
    assert (missed.dice, missed.precision, missed.recall) == (0, 1, 0)


@given(counts)
def test_dice_and_iou_are_two_faces_of_one_score(count):
    assert count.dice == pytest.approx(2 * count.iou / (1 + count.iou))
    assert count.iou <= count.dice <= 1


def test_masks_must_be_comparable():
    with pytest.raises(ValueError, match="differ in shape"):
        evaluation.count_pixels(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="apply a threshold first"):
        evaluation.count_pixels(np.zeros((2, 2)), np.zeros((2, 2), bool))


def test_threshold_sweep_equals_counting_at_each_threshold(rng):
    probability = rng.random((40, 30)).astype(np.float32)
    probability[0, :3] = [0.25, 0.5, 0.75]  # on the thresholds
    reference = rng.random((40, 30)) < probability
    thresholds = [0.0, 0.25, 0.5, 0.75, 1.0]
    expected = [evaluation.count_pixels(probability >= threshold, reference) for threshold in thresholds]
    assert evaluation.threshold_sweep(probability, reference, thresholds) == expected


def test_summary_tells_mean_from_pooled():
    table = {"sparse": Counts(1, 0, 1, 98), "dense": Counts(90, 10, 0, 0), "empty": Counts(0, 0, 0, 100)}
    summary = evaluation.summarize(table)
    assert summary["dice"]["per_image"] == {"sparse": 2 / 3, "dense": 180 / 190, "empty": 1.0}
    assert summary["dice"]["mean"] == pytest.approx((2 / 3 + 180 / 190 + 1) / 3)
    assert summary["dice"]["median"] == pytest.approx(180 / 190)
    assert summary["dice"]["pooled"] == pytest.approx(2 * 91 / (2 * 91 + 10 + 1))
    assert summary["recall"]["pooled"] == pytest.approx(91 / 92)
    (row, *_) = evaluation.score_rows(table)
    assert row["stem"] == "sparse" and row["fn"] == 1 and row["dice"] == pytest.approx(2 / 3)


def test_paired_difference_is_blind_to_differences_between_images(rng):
    hard_or_easy = dict(zip("abcdefgh", rng.random(8), strict=True))
    better = {stem: score + 0.1 + 0.01 * rng.standard_normal() for stem, score in hard_or_easy.items()}
    result = evaluation.paired_difference(better, dict(reversed(hard_or_easy.items())), seed=3)
    low, high = result["ci95"]
    assert low < result["mean"] < high and result["mean"] == pytest.approx(0.1, abs=0.01)
    assert high - low < 0.03  # the scores themselves are spread over about 1
    assert result == evaluation.paired_difference(better, hard_or_easy, seed=3)


def test_paired_difference_of_one_image_and_of_different_images():
    assert evaluation.paired_difference({"a": 0.75}, {"a": 0.5}) == {"mean": 0.25, "ci95": [None, None]}
    with pytest.raises(ValueError, match=r"not the same images: \['b'\]"):
        evaluation.paired_difference({"a": 1.0, "b": 1.0}, {"a": 1.0})


def test_meter_sees_time_and_memory():
    with evaluation.Meter() as meter:
        block = np.ones(50 * 2**17)  # 50 MiB
        time.sleep(0.1)
    assert block.nbytes == 50 * 2**20
    assert 0.1 < meter.seconds < 5
    assert 40 < meter.added_mb < 200
    assert meter.peak_mb > meter.added_mb


@pytest.mark.parametrize("children", [False, True])
def test_meter_counts_children_only_if_asked(children):
    with evaluation.Meter(children) as meter:
        subprocess.run([sys.executable, "-c", "import time; block = bytearray(10**8); time.sleep(0.7)"], check=True)
    assert (meter.added_mb > 90) == children


@pytest.fixture
def pairs(splits):
    return splits["test"]


def brightness(image):
    return image.mean(axis=-1).astype(np.float32) / 255


def test_images_are_scored_whole_and_by_stem(pairs):
    masks, counted = evaluation.score_images(brightness, pairs, 0.5)
    for pair in pairs:
        image, reference = images.read_pair(pair)
        np.testing.assert_array_equal(masks[pair.stem], brightness(image) >= 0.5)
        assert counted[pair.stem] == evaluation.count_pixels(brightness(image) >= 0.5, reference)


def test_small_pieces_are_dropped_before_counting(pairs):
    mask = np.zeros((6, 9), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 2] = True  # one piece, over corners
    mask[4:, 5:7] = True
    for min_area, left in ((0, 7), (1, 7), (3, 7), (4, 4), (5, 0)):
        assert evaluation.find_foreground(mask.astype(np.float32), 0.5, min_area).sum() == left
    masks, counted = evaluation.score_images(brightness, pairs, 0.5, min_area=50)
    for pair in pairs:
        whole = brightness(images.read_image(pair.image)) >= 0.5
        np.testing.assert_array_equal(masks[pair.stem], remove_small_objects(whole, max_size=49, connectivity=2))
    assert counted != evaluation.score_images(brightness, pairs, 0.5)[1]
    same = evaluation.compare({"one": brightness, "other": brightness}, pairs, 0.5, min_area=50)[0]
    assert same["one"]["dice"] == same["other"]["dice"] == evaluation.summarize(counted)["dice"]
    sure = evaluation.score_images(brightness, pairs, 0.5, 50, 0.7)[1]
    same = evaluation.compare({"one": brightness, "other": brightness}, pairs, 0.5, 50, 0.7)[0]
    assert same["one"]["dice"] == evaluation.summarize(sure)["dice"] != evaluation.summarize(counted)["dice"]


def test_doubtful_pieces_are_dropped_whole():
    probability = np.zeros((6, 9), np.float32)
    probability[0, 0], probability[1, 1] = 0.9, 0.5  # one piece, over the corner, of mean 0.7
    probability[3:, 4:] = 0.625
    probability[4, 5] = 1
    both, one = probability >= 0.5, np.zeros((6, 9), bool)
    one[0, 0] = one[1, 1] = True
    for confidence, expected in ((0, both), (0.5, both), (0.625, both), (0.69, one), (0.71, one & False)):
        np.testing.assert_array_equal(evaluation.find_foreground(probability, 0.5, 0, confidence), expected)
    assert not evaluation.find_foreground(probability, 0.5, 3, 0.69).any()
    assert not evaluation.find_foreground(0 * probability, 0.5, 0, 0.7).any()


def test_a_sweep_over_images_adds_their_pixels(pairs):
    totals = evaluation.sweep_images(brightness, pairs, [0.4, 0.6])
    for threshold, total in zip([0.4, 0.6], totals, strict=True):
        _, counted = evaluation.score_images(brightness, pairs, np.float32(threshold))
        assert total == sum(counted.values(), Counts(0, 0, 0, 0))


def test_comparing_ways_gives_each_the_same_images_and_times_only_the_prediction(pairs):
    seen = []

    def slow(image):
        seen.append(image.shape)
        time.sleep(0.05)
        return brightness(image)

    results, masks = evaluation.compare({"slow": slow, "constant": lambda image: 0 * brightness(image)}, pairs, 0.5)
    assert len(seen) == 1 + len(pairs)  # one to compile
    assert 0.05 * len(pairs) <= results["slow"]["seconds"] < 1
    megapixels = sum(mask.size for mask in masks["slow"].values()) / 1e6
    rate = results["slow"]["megapixels_per_second"]
    assert rate == pytest.approx(megapixels / results["slow"]["seconds"], rel=0.05)
    assert results["constant"]["dice"]["mean"] == 0 and not any(mask.any() for mask in masks["constant"].values())
    _, counted = evaluation.score_images(brightness, pairs, 0.5)
    assert results["slow"]["iou"] == evaluation.summarize(counted)["iou"]
