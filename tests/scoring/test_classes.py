"""Masks of classes from probabilities, and scores by class."""

import numpy as np
import pytest

from tiledseg_utils.scoring.classes import class_counts, class_rows, confusion, find_classes
from tiledseg_utils.scoring.pixels import count_pixels

NAMES = ("background", "a", "b")


def maps(*pixels):
    return np.array([pixels], np.float32)


def test_first_comes_what_is_foreground_then_which_class():
    found = find_classes(maps((0.4, 0.35, 0.25), (0.6, 0.4, 0), (0.2, 0.1, 0.7), (0, 0, 0)), 0.5)
    assert found.tolist() == [[1, 0, 2, 0]] and found.dtype == np.uint8


def test_small_pieces_are_dropped_whatever_their_classes():
    probabilities = np.zeros((4, 8, 3), np.float32)
    probabilities[..., 0] = 1
    probabilities[1:3, 1:3] = (0.1, 0.9, 0)
    probabilities[1, 2] = (0.1, 0, 0.9)  # A piece of two classes is one piece of foreground.
    probabilities[3, 7] = (0, 1, 0)
    found = find_classes(probabilities, 0.5, min_area=4)
    assert found.sum() == 3 + 2 and found[3, 7] == 0 and found[1, 2] == 2


def test_confusion_counts_every_pixel_once():
    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    matrix = confusion(prediction, reference, 3)
    assert matrix.sum() == 600 and matrix[2, 1] == ((reference == 2) & (prediction == 1)).sum()
    for number, counts in enumerate(class_counts(matrix)):
        assert counts == count_pixels(prediction == number, reference == number)
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(prediction[1:], reference, 3)


def test_scores_of_a_class_count_only_images_that_have_to_do_with_it():
    with_b = confusion(np.array([[0, 1, 2, 2]], np.uint8), np.array([[0, 1, 2, 1]], np.uint8), 3)
    without = confusion(np.array([[0, 1]], np.uint8), np.array([[0, 1]], np.uint8), 3)
    a, b, background = class_rows({"x": with_b, "y": without}, NAMES)
    assert (a["class"], b["class"], background["class"]) == ("a", "b", "background")
    assert (a["images"], b["images"]) == (2, 1)
    assert a["pooled_dice"] == pytest.approx(4 / 5) and a["mean_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert b["mean_dice"] == b["pooled_dice"] == pytest.approx(2 / 3)
    assert b["precision"] == 0.5 and b["recall"] == 1
    assert a["low"] <= a["pooled_dice"] <= a["high"]


def test_a_single_image_has_no_interval_and_nowhere_is_no_score():
    blank = np.zeros((3, 3), np.uint8)
    rows = class_rows({"x": confusion(blank, blank, 3)}, NAMES)
    assert rows[0]["mean_dice"] is None and rows[0]["low"] is None and rows[0]["images"] == 0
