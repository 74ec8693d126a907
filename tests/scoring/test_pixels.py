import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.morphology import remove_small_objects

from tiledseg_utils.data import images
from tiledseg_utils.scoring import pixels
from tiledseg_utils.scoring.pixels import Counts

counts = st.builds(Counts, *[st.integers(0, 50)] * 4)


def test_scores_by_hand():
    reference = np.array([[1, 1, 1, 0, 0, 0]], bool)
    prediction = np.array([[0, 1, 1, 1, 0, 0]], bool)
    count = pixels.count_pixels(prediction, reference)
    assert count == Counts(tp=2, fp=1, fn=1, tn=2)
    assert (count.dice, count.iou) == (pytest.approx(4 / 6), pytest.approx(2 / 4))
    assert (count.precision, count.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_the_rule_for_empty_masks():
    empty, some = np.zeros((2, 2), bool), np.eye(2, dtype=bool)
    assert pixels.count_pixels(empty, empty).dice == 1
    invented, missed = pixels.count_pixels(some, empty), pixels.count_pixels(empty, some)
    assert (invented.dice, invented.precision, invented.recall) == (0, 0, 1)
    assert (missed.dice, missed.precision, missed.recall) == (0, 1, 0)


@given(counts)
def test_dice_and_iou_are_two_faces_of_one_score(count):
    assert count.dice == pytest.approx(2 * count.iou / (1 + count.iou))
    assert count.iou <= count.dice <= 1


def test_masks_must_be_comparable():
    with pytest.raises(ValueError, match="differ in shape"):
        pixels.count_pixels(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="apply a threshold first"):
        pixels.count_pixels(np.zeros((2, 2)), np.zeros((2, 2), bool))


def test_threshold_sweep_equals_counting_at_each_threshold(rng):
    probability = rng.random((40, 30)).astype(np.float32)
    probability[0, :3] = [0.25, 0.5, 0.75]  # on the thresholds
    reference = rng.random((40, 30)) < probability
    thresholds = [0.0, 0.25, 0.5, 0.75, 1.0]
    expected = [pixels.count_pixels(probability >= threshold, reference) for threshold in thresholds]
    assert pixels.threshold_sweep(probability, reference, thresholds) == expected


def test_summary_tells_mean_from_pooled():
    table = {"sparse": Counts(1, 0, 1, 98), "dense": Counts(90, 10, 0, 0), "empty": Counts(0, 0, 0, 100)}
    summary = pixels.summarize(table)
    assert summary["dice"]["per_image"] == {"sparse": 2 / 3, "dense": 180 / 190, "empty": 1.0}
    assert summary["dice"]["mean"] == pytest.approx((2 / 3 + 180 / 190 + 1) / 3)
    assert summary["dice"]["median"] == pytest.approx(180 / 190)
    assert summary["dice"]["pooled"] == pytest.approx(2 * 91 / (2 * 91 + 10 + 1))
    assert summary["recall"]["pooled"] == pytest.approx(91 / 92)
    (row, *_) = pixels.score_rows(table)
    assert row["stem"] == "sparse" and row["fn"] == 1 and row["dice"] == pytest.approx(2 / 3)


@pytest.fixture
def pairs(splits):
    return splits["test"]


def brightness(image):
    return image.mean(axis=-1).astype(np.float32) / 255


def test_images_are_scored_whole_and_by_stem(pairs):
    masks, counted = pixels.score_images(brightness, pairs, 0.5)
    for pair in pairs:
        image, reference = images.read_pair(pair)
        np.testing.assert_array_equal(masks[pair.stem], brightness(image) >= 0.5)
        assert counted[pair.stem] == pixels.count_pixels(brightness(image) >= 0.5, reference)


def test_small_pieces_are_dropped_before_counting(pairs):
    masks, counted = pixels.score_images(brightness, pairs, 0.5, min_area=50)
    for pair in pairs:
        whole = brightness(images.read_image(pair.image)) >= 0.5
        np.testing.assert_array_equal(masks[pair.stem], remove_small_objects(whole, max_size=49, connectivity=2))
    assert counted != pixels.score_images(brightness, pairs, 0.5)[1]


def test_a_sweep_counts_the_pixels_at_each_threshold(pairs):
    image, reference = images.read_pair(pairs[0])
    counts = pixels.threshold_sweep(brightness(image), reference, [0.4, 0.6])
    for threshold, count in zip([0.4, 0.6], counts, strict=True):
        assert count == pixels.score_images(brightness, pairs[:1], np.float32(threshold))[1][pairs[0].stem]
