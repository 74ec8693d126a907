"""The exercises of lesson 9: solutions pass, stubs are told as such, and each typical error has a hint of its own."""

import cv2
import numpy as np

from tiledseg_utils.course.exercises import lesson_09

from .table import require_table


def read_through(array, grid, how=cv2.INTER_LINEAR):
    return cv2.remap(array, *grid, how, borderMode=cv2.BORDER_REFLECT_101)


def image_only(image, mask, rng):
    return read_through(image, lesson_09.random_grid(mask.shape, rng))


def mask_only(image, mask, rng):
    return image, read_through(np.uint8(mask), lesson_09.random_grid(mask.shape, rng), cv2.INTER_NEAREST) > 0


def mask_left(image, mask, rng):
    return read_through(image, lesson_09.random_grid(mask.shape, rng)), mask


def drawn_twice(image, mask, rng):
    image = read_through(image, lesson_09.random_grid(mask.shape, rng))
    return image, read_through(np.uint8(mask), lesson_09.random_grid(mask.shape, rng), cv2.INTER_NEAREST) > 0


def linear_mask(image, mask, rng):
    grid = lesson_09.random_grid(mask.shape, rng)
    return read_through(image, grid), read_through(np.uint8(255 * mask), grid) > 0


def split_at(order, share):
    return list(order[: len(order) - share]), list(order[len(order) - share :])


def by_tile(sources, rng):
    return split_at(rng.permutation(len(sources)), 12)


def by_name(sources, rng):
    valid = [i for i, source in enumerate(sources) if source in sorted(set(sources))[-2:]]
    return [i for i in range(len(sources)) if i not in valid], valid


WRONG = {
    "check_warp": [
        (image_only, "Return two things"),
        (mask_only, "as it was"),
        (mask_left, "the mask is not"),
        (drawn_twice, "How often"),
        (linear_mask, "nearest pixel"),
    ],
    "check_jpeg": [
        (9, "two numbers in a list"),
        ([4, 4], "what is `bool(2)`"),
        ([12, 4], "what is `bool(0)`"),
        ([8, 4], "not 0"),
        ([9, 5], "120 is below"),
    ],
    "check_split": [
        (lambda sources, rng: (["image 1"], ["image 2"]), "its place in"),
        (lambda sources, rng: (list(range(60)), []), "is empty"),
        (by_tile, "There is a leak"),
        (lambda sources, rng: lesson_09.check_split.solution(sources, rng)[::-1], "few are left"),
        (by_name, "whatever `rng` says"),
    ],
    "check_line": [(0, "from 1 to 4"), (2, "too late"), (3, "no colours"), (4, "what you look at")],
    "check_normalise": [
        (lambda tiles: tiles.mean(axis=(1, 2)), "the shape of"),
        (lambda tiles: (tiles - tiles.mean((1, 2), keepdims=True)) / tiles.std((1, 2), keepdims=True), "one for all"),
        (lambda tiles: tiles / tiles.std(axis=(0, 1, 2)), "What do you subtract"),
        (lambda tiles: (tiles - tiles.mean()) / tiles.std(), "each channel its own"),
        (lambda tiles: tiles - tiles.mean(axis=(0, 1, 2)), "should be 1"),
    ],
    "check_batch": [(0.556, "not with the score"), (3, "Try the sizes"), (4, "the highest"), (1, "lower still")],
}


def test_exercises():
    require_table(lesson_09, WRONG)
