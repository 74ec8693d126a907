"""The exercises of notebook 02: solutions pass, stubs fail, and wrong answers get hints of their own."""

import cv2
import numpy as np

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_02

STATE = np.random.default_rng(0)


def test_exercises():
    require_table(
        lesson_02,
        {
            "check_flip_both": [
                (lambda image, mask: image[:, ::-1], "two things"),
                (lambda image, mask: (image[:, ::-1, ::-1], mask[:, ::-1]), "red and blue"),
                (lambda image, mask: (image[::-1], mask[::-1]), "upside down"),
                (lambda image, mask: (image, mask[:, ::-1]), "as it was"),
                (lambda image, mask: (image[:, ::-1], mask), "the wrong pixels"),
                (in_place, "changes the arrays"),
            ],
            "check_mean_label": [(1, "one of the two"), (4, "their sum"), (0, "background"), (1.5, "one half")],
            "check_folding_strength": [
                (1, "far above zero"),
                (2, "Look at its sign"),
                (16, "folds everywhere"),
                (8, "a weaker one does so"),
                (5, "Choose one of"),
            ],
            "check_coin": [
                (lambda seed, epoch, index: np.random.default_rng((seed, epoch, index)).random(), "True or False"),
                (lambda seed, epoch, index: STATE.random() < 0.5, "the second time"),
                (lambda seed, epoch, index: np.random.default_rng(seed).random() < 0.5, "not the seed alone"),
                (lambda seed, epoch, index: np.random.default_rng(seed + epoch + index).random() < 0.5, "a sum"),
                (lambda seed, epoch, index: np.random.default_rng((epoch, index)).random() < 0.5, "Another seed"),
                (lambda seed, epoch, index: np.random.default_rng((seed, epoch, index)).random() < 0.1, "half"),
            ],
        },
    )


def in_place(image, mask):
    image[:], mask[:] = image[:, ::-1].copy(), mask[:, ::-1].copy()
    return image, mask


def smallest_step(strength):
    """As in the notebook: the smallest difference of neighbouring columns in a map of this strength."""
    noise = np.random.default_rng(0).uniform(-1, 1, (256, 256)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 8)
    map_x = np.arange(256, dtype=np.float32) + strength * smooth / smooth.std()
    return np.diff(map_x, axis=1).min()


def test_numbers_of_the_exercises():
    folds = [strength for strength in lesson_02.STRENGTHS if smallest_step(strength) <= 0]
    assert folds[0] == lesson_02.check_folding_strength.solution
    assert 0 < smallest_step(2) < 0.5 < smallest_step(1)
