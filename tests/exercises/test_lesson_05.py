"""The exercises of lesson 5 with typical wrong answers."""

import cv2
import numpy as np

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_05
from tiledseg_utils.course.exercises.lesson_04 import dice
from tiledseg_utils.course.exercises.lesson_05 import paired_interval


def resampled(first, second, seed, paired=True, replace=True, ends=(2.5, 97.5), share=1):
    rng, n = np.random.default_rng(seed), len(first)
    means = []
    for _ in range(2000):
        drawn = rng.choice(n, int(share * n), replace=replace)
        other = drawn if paired else rng.choice(n, n, replace=replace)
        means.append(first[drawn].mean() - second[other].mean())
    return tuple(np.percentile(means, ends))


def of_images(first, second, seed):
    return tuple(np.percentile(first - second, [2.5, 97.5]))


def unseeded(first, second, seed):
    return paired_interval(first, second, None)


def test_exercises():
    require_table(
        lesson_05,
        {
            "check_width": [
                (320, "not larger"),
                (8, "factor by which"),
                (0.625, "factor of the area"),
                (25, "a width times a width"),
                (16, "same factor"),
            ],
            "check_paired_interval": [
                (lambda *scores: paired_interval(*scores)[0], "two numbers"),
                (lambda *scores: paired_interval(*scores)[::-1], "comes first"),
                (lambda first, second, seed: paired_interval(second, first, seed), "sign is turned"),
                (lambda *scores: resampled(*scores, replace=False), "*with* replacement"),
                (lambda *scores: resampled(*scores, paired=False), "both scores of an image stay together"),
                (of_images, "average first"),
                (lambda *scores: resampled(*scores, share=0.5), "as many images as there are"),
                (lambda *scores: resampled(*scores, ends=(5, 95)), "2.5 % at each end, not 5 %"),
                (unseeded, "from the seed"),
            ],
            "check_size": [(5, "Choose one of"), (32, "one pixel wide"), (64, "Close"), (512, "a smaller size")],
        },
    )


def test_the_size_that_the_lesson_asks_for_is_right():
    mask = lesson_05.nuclei()
    for size, is_enough in ((32, False), (64, False), (128, True), (256, True), (512, True)):
        small = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(small, mask.shape, interpolation=cv2.INTER_LINEAR) >= 0.5
        assert (dice(enlarged, mask) >= 0.95) == is_enough
