"""The exercises of notebook 01: solutions pass, stubs fail, and wrong answers get hints of their own."""

import numpy as np

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_01
from tiledseg_utils.tiles import tiling


def test_exercises():
    require_table(
        lesson_01,
        {
            "check_reduced_area": [
                (4096, "loses pixels"),
                (512, "divided by 8 once"),
                (8, "the width of the reduced cell"),
                (32768, "By which factor"),
            ],
            "check_tile_origins": [
                (lambda length, tile, stride: list(range(0, length - tile + 1, tile)), "one stride"),
                (moved_back, "off the grid"),
                (lambda length, tile, stride: list(range(0, length - tile + 1, stride)), "are in no tile"),
                (lambda length, tile, stride: list(range(0, length, stride)), "three tiles are enough"),
                (
                    lambda length, tile, stride: [i * stride for i in range(-(-(length - tile) // stride) + 1)],
                    "smaller",
                ),
            ],
            "check_put_back": [
                (lambda tiles, origins, shape: summed(tiles, origins, shape)[0], "the shape that was asked for"),
                (swapped, "in this order"),
                (lambda tiles, origins, shape: cropped(summed(tiles, origins, shape)[0], shape), "too bright"),
                (last_wins, "whichever of"),
                (in_their_own_type, "Add up in an array of floats"),
                (grey_only, "three colours"),
            ],
            "check_count": [
                (64, "without overlap"),
                (15, "along one axis"),
                (128, "Twice as many"),
                (256, "one too many"),
                (7, "count along one axis"),
            ],
            "check_find_leaks": [
                (lambda rows: len({row["split"] for row in rows}) > 1, "a list of the sources"),
                (lambda rows: sorted({row["source"] for row in rows}), "as long as they"),
                (
                    lambda rows: [row["tile"] for row in rows if row["source"] in lesson_01.find_leaks(rows)],
                    "holds tiles",
                ),
                (
                    lambda rows: [row["source"] for row in rows if row["source"] in lesson_01.find_leaks(rows)],
                    "more than once",
                ),
                (train_only, "need not begin in train"),
                (lambda rows: lesson_01.find_leaks(rows)[::-1], "sorted"),
            ],
        },
    )


def moved_back(length, tile, stride):
    origins = [*range(0, length - tile, stride), length - tile]
    return origins


def summed(tiles, origins, shape):
    height, width = np.max(origins, axis=0) + tiles.shape[1]
    total, count = np.zeros((2, height, width, *tiles.shape[3:]))
    for tile, (row, column) in zip(tiles, origins, strict=True):
        total[row : row + len(tile), column : column + len(tile)] += tile
        count[row : row + len(tile), column : column + len(tile)] += 1
    return total, count


def cropped(image, shape):
    return image[: shape[0], : shape[1]]


def swapped(tiles, origins, shape):
    total, count = summed(tiles, origins[:, ::-1], shape)
    result = np.zeros(shape)
    part = cropped(total / np.maximum(count, 1), shape)
    result[: part.shape[0], : part.shape[1]] = part
    return result


def last_wins(tiles, origins, shape):
    image = np.zeros(np.add(shape[:2], tiles.shape[1:3]).tolist() + list(shape[2:]))
    for tile, (row, column) in zip(tiles, origins, strict=True):
        image[row : row + len(tile), column : column + len(tile)] = tile
    return cropped(image, shape)


def in_their_own_type(tiles, origins, shape):
    total, count = np.zeros((2, *np.add(shape[:2], tiles.shape[1])), tiles.dtype)
    for tile, (row, column) in zip(tiles, origins, strict=True):
        total[row : row + len(tile), column : column + len(tile)] += tile
        count[row : row + len(tile), column : column + len(tile)] += 1
    return cropped(total / np.maximum(count, 1), shape)


def grey_only(tiles, origins, shape):
    total, count = np.zeros((2, *np.add(shape[:2], tiles.shape[1])))
    for tile, (row, column) in zip(tiles, origins, strict=True):
        total[row : row + len(tile), column : column + len(tile)] += tile
        count[row : row + len(tile), column : column + len(tile)] += 1
    return cropped(total / np.maximum(count, 1), shape)


def train_only(rows):
    train = {row["source"] for row in rows if row["split"] == "train"}
    return sorted(train & {row["source"] for row in rows if row["split"] != "train"})


def test_numbers_of_the_exercises():
    assert lesson_01.check_count.solution == len(tiling.grid_origins((2048, 2048), 256, 128))
    assert lesson_01.check_reduced_area.solution == 4096 // (2048 // 256) ** 2
