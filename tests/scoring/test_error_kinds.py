import numpy as np
import pytest

from tiledseg_utils.scoring.error_kinds import OUTLINE, count_without, error_kinds
from tiledseg_utils.scoring.pixels import count_pixels


def _rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    mask[top:bottom, left:right] = True
    return mask


CELL = _rectangle(20, 50, 20, 50)
OTHER = _rectangle(60, 90, 60, 90)
CLUMP = _rectangle(5, 15, 70, 95)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (np.roll(CELL, OUTLINE, axis=1) | OTHER, "outlines"),
        (CELL | OTHER | CLUMP, "invented pieces"),
        (CELL | OTHER & _rectangle(60, 64, 0, 100), "missed pieces"),
        (CELL | OTHER & ~_rectangle(70, 80, 70, 80), "other"),
    ],
)
def test_errors_of_one_kind_are_of_that_kind_alone(prediction, expected):
    reference = CELL | OTHER
    for kind, wrong in error_kinds(prediction, reference).items():
        np.testing.assert_array_equal(wrong, prediction ^ reference if kind == expected else False, kind)


def test_what_is_farther_from_the_outline_than_three_pixels_is_another_error():
    kinds = error_kinds(_rectangle(20, 50, 20, 55), CELL)
    np.testing.assert_array_equal(kinds["outlines"], _rectangle(20, 50, 50, 53))
    np.testing.assert_array_equal(kinds["other"], _rectangle(20, 50, 53, 55))


@pytest.mark.parametrize(("right", "is_missed"), [(35, False), (34, True)])
def test_a_cell_is_missed_if_more_than_half_of_it_is(right, is_missed):
    half = _rectangle(20, 50, 20, right)
    assert error_kinds(half, CELL)["missed pieces"].any() == is_missed
    assert error_kinds(CELL, half)["invented pieces"].any() == is_missed  # The same the other way round.


def test_pieces_that_touch_at_a_corner_are_one():
    kinds = error_kinds(CELL | _rectangle(50, 60, 50, 60), CELL)
    assert not kinds["invented pieces"].any()


def test_counts_are_those_without_the_errors_of_a_kind():
    prediction, reference = np.roll(CELL, 1, axis=1) | CLUMP, CELL | OTHER
    counts = count_without(prediction, reference)
    assert counts["invented pieces"] == count_pixels(np.roll(CELL, 1, axis=1), reference)
    assert counts["missed pieces"] == count_pixels(prediction | OTHER, reference)
    assert counts["outlines"] == count_pixels(CELL | CLUMP, reference)
    assert counts["other"] == count_pixels(prediction, reference)


@pytest.mark.parametrize("seed", range(5))
def test_every_wrong_pixel_is_of_one_kind(seed):
    prediction, reference = np.random.default_rng(seed).random((2, 60, 60)) < 0.4
    total = sum(wrong.astype(int) for wrong in error_kinds(prediction, reference).values())
    np.testing.assert_array_equal(total, prediction ^ reference)


@pytest.mark.parametrize("full", [False, True])
def test_masks_that_are_empty_or_full(full):
    empty, reference = np.zeros((10, 12), bool), np.full((10, 12), full)
    for prediction, own, kind in ((empty, reference, "missed pieces"), (reference, empty, "invented pieces")):
        np.testing.assert_array_equal(error_kinds(prediction, own)[kind], reference)
