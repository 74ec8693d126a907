"""The checks of lesson 8: components, markers, matches, and how deep a waist must be."""

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.feature import peak_local_max

from . import Exercise, Trial, result_of, same


def draw_discs(circles, shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Labels (H, W) int32 of discs, each (row, column, radius); where two overlap, the first one stays."""
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(circles, 1):
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        labels[inside & (labels == 0)] = number
    return labels


check_count = Exercise(
    "8.1 How many components?",
    3,
    (
        Trial(lambda answer: answer != 6, "That is the number of discs. Two discs that touch are one component."),
        Trial(lambda answer: answer < 6, "A component holds one disc or more, so there cannot be more than six."),
        Trial(lambda answer: answer > 2, "Some discs have background all around. Each of these is a component."),
        Trial(
            lambda answer: answer == 3,
            "Look at the chain of three: the first and the third disc do not touch, but you can walk from one to the "
            "other without leaving the foreground.",
        ),
    ),
    "Right: a chain of three, a pair, and one disc alone.",
)


def _find_markers(distance: np.ndarray) -> np.ndarray:
    summits = peak_local_max(distance, min_distance=8, exclude_border=False)
    markers = np.zeros(distance.shape, np.int32)
    markers[tuple(summits.T)] = np.arange(1, len(summits) + 1)
    return markers


def _markers(answer, *circles) -> tuple[np.ndarray, np.ndarray]:
    """The learner's markers for some discs, and the labels of these discs."""
    labels = draw_discs(circles)
    return np.asarray(result_of(answer, distance_transform_edt(labels > 0))), labels


def _count(answer, *circles) -> int:
    markers, _ = _markers(answer, *circles)
    return len(np.unique(markers[markers > 0]))


def _lie_in_their_discs(answer, *circles) -> bool:
    markers, labels = _markers(answer, *circles)
    return sorted(set(labels[markers > 0].tolist())) == list(range(1, len(circles) + 1))


_EQUAL, _UNEQUAL = ((32, 28, 16), (32, 56, 16)), ((32, 30, 22), (32, 61, 12))
_UNEVEN = (32.5, 30.5, 17), (32.5, 61.5, 17)

check_markers = Exercise(
    "8.2 Markers",
    _find_markers,
    (
        Trial(
            lambda answer: _markers(answer, *_EQUAL)[0].shape == (64, 96),
            "Return an array of the shape of `distance`: 0 nearly everywhere, and the number of a marker at a summit.",
        ),
        Trial(
            lambda answer: _markers(answer, *_EQUAL)[0].max() > 1 or _count(answer, *_EQUAL) != 1,
            "All your markers have the same number, so the flood cannot tell them apart. Number them 1, 2, 3, ...",
        ),
        Trial(
            lambda answer: _count(answer, *_UNEQUAL) >= 2,
            "Beside a large disc, you miss a small one. Its summit is lower than the slopes of the large disc, so no "
            "single height tells summits from slopes. Ask where the distance is larger than all around.",
        ),
        Trial(
            lambda answer: _count(answer, *_UNEVEN) <= 2 and _count(answer, *_UNEQUAL) <= 2,
            "There are more markers than discs. A summit is often several pixels wide: allow only one marker within "
            "a few pixels.",
        ),
        Trial(
            lambda answer: _lie_in_their_discs(answer, *_UNEQUAL) and _lie_in_their_discs(answer, *_EQUAL),
            "The number of markers is right, but they do not lie in one disc each. Rows come first: use the summits "
            "as (row, column).",
        ),
    ),
    "Right: one marker in each disc, each with its own number.",
)


def _match(prediction: np.ndarray, reference: np.ndarray, threshold: float = 0.5) -> list[tuple[int, int]]:
    pairs = []
    for found in np.unique(prediction[prediction > 0]):
        for real in np.unique(reference[reference > 0]):
            a, b = prediction == found, reference == real
            if (a & b).sum() / (a | b).sum() >= threshold:
                pairs.append((int(found), int(real)))
    return pairs


def _row(*objects) -> np.ndarray:
    """Labels (4, 40) with objects, each (number, first column, last column + 1)."""
    labels = np.zeros((4, 40), np.int32)
    for number, first, end in objects:
        labels[:, first:end] = number
    return labels


def _pairs(answer, prediction: np.ndarray, reference: np.ndarray) -> list:
    return sorted(tuple(int(number) for number in pair) for pair in result_of(answer, prediction, reference))


_ONE = _row((3, 4, 14))

check_match = Exercise(
    "8.4 Match by IoU",
    _match,
    (
        Trial(
            lambda answer: all(0 not in pair for pair in _pairs(answer, _ONE, _ONE)),
            "The number 0 is the background, which is no object. Leave it out on both sides.",
        ),
        Trial(
            lambda answer: _pairs(answer, _row((7, 4, 14)), _ONE) == [(7, 3)],
            "Object 7 of the prediction covers exactly object 3 of the reference. That is the pair (7, 3).",
        ),
        Trial(
            lambda answer: _pairs(answer, _row((7, 12, 22)), _ONE) == [],
            "Two objects of 40 pixels that share only 8 are no match: their IoU is 8 / 72.",
        ),
        Trial(
            lambda answer: _pairs(answer, _row((7, 0, 40)), _ONE) == [],
            "An object that covers the whole image matched a small one. Divide by the union of both, not by one area.",
        ),
        Trial(
            lambda answer: _pairs(answer, _row((7, 4, 9)), _ONE) == [(7, 3)],
            "Half of the reference object is found, and nothing else: the IoU is exactly 0.5. That is a match.",
        ),
        Trial(
            lambda answer: same(
                _pairs(answer, _row((1, 0, 8), (2, 20, 30)), _row((5, 20, 30), (6, 0, 9))), [(1, 6), (2, 5)]
            ),
            "With two objects on each side, a pair is missing. Compare every object with every other one.",
        ),
    ),
    "Right: each pair by the IoU of its two objects.",
)

check_distance = Exercise(
    "8.3 How deep must a waist be?",
    14,
    (
        Trial(lambda answer: answer < 40, "At this distance, two discs of radius 20 hardly touch. Move them closer."),
        Trial(lambda answer: answer <= 14, "At this distance there are two nuclei, but also a little below. Go on."),
        Trial(lambda answer: answer != 13, "Nearly: at 13 pixels it is still one nucleus."),
        Trial(lambda answer: answer > 13, "At this distance it is one nucleus. Move the discs apart."),
    ),
    "Right: from 14 pixels on, the waist is deep enough.",
)
