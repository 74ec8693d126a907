"""The exercises of lesson 8: solutions pass, stubs are told as such, and each typical error has a hint of its own."""

import numpy as np
from scipy.ndimage import label
from skimage.feature import peak_local_max

from tiledseg_utils.course.exercises import lesson_08

from .table import require_table


def summits_unnumbered(distance):
    markers = np.zeros(distance.shape, np.int32)
    markers[tuple(peak_local_max(distance, min_distance=8).T)] = 1
    return markers


def places_of_summits(distance):
    return peak_local_max(distance, min_distance=8)


def above_one_height(distance):
    return label(distance > 0.7 * distance.max())[0]


def every_summit(distance):
    summits = np.argwhere((distance > 1) & (distance >= 0.97 * distance.max()) | (distance == 12))
    markers = np.zeros(distance.shape, np.int32)
    markers[tuple(summits.T)] = np.arange(1, len(summits) + 1)
    return markers


def columns_first(distance):
    markers = np.zeros(distance.shape, np.int32)
    for number, (row, column) in enumerate(peak_local_max(distance, min_distance=8), 1):
        markers[min(column, 63), row] = number
    return markers


def pairs_where(holds):
    def match(prediction, reference):
        numbers = [(p, r) for p in np.unique(prediction) for r in np.unique(reference)]
        return [(p, r) for p, r in numbers if p and r and holds(prediction == p, reference == r)]

    return match


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def with_background(prediction, reference):
    numbers = [(p, r) for p in np.unique(prediction) for r in np.unique(reference)]
    return [(p, r) for p, r in numbers if iou(prediction == p, reference == r) >= 0.5]


def turned_around(prediction, reference):
    return [(r, p) for p, r in lesson_08.check_match.solution(prediction, reference)]


def first_only(prediction, reference):
    return lesson_08.check_match.solution(prediction, reference)[:1]


WRONG = {
    "check_count": [(6, "the number of discs"), (8, "more than six"), (2, "background all around"), (4, "the chain")],
    "check_markers": [
        (places_of_summits, "the shape of"),
        (summits_unnumbered, "the same number"),
        (above_one_height, "miss a small one"),
        (every_summit, "more markers than discs"),
        (columns_first, "Rows come first"),
    ],
    "check_match": [
        (with_background, "is the background"),
        (turned_around, "the pair (7, 3)"),
        (pairs_where(lambda a, b: (a & b).any()), "8 / 72"),
        (pairs_where(lambda a, b: (a & b).sum() / b.sum() >= 0.5), "by the union"),
        (pairs_where(lambda a, b: iou(a, b) > 0.5), "exactly 0.5"),
        (first_only, "a pair is missing"),
    ],
    "check_distance": [(40, "hardly touch"), (20, "a little below"), (13, "Nearly"), (5, "Move the discs apart")],
}


def test_exercises():
    require_table(lesson_08, WRONG)
