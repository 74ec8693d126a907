"""The exercises of lesson 6 with typical wrong answers."""

import math

import numpy as np
import pytest

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_06
from tiledseg_utils.models.backend import keras, layers
from tiledseg_utils.models.receptive_field import receptive_field
from tiledseg_utils.tiles.planning import exact_plan


def border_forgotten(length, tile, halo):
    return math.ceil(length / (tile - 2 * halo))


def rounded_down(length, tile, halo):
    return max(1, 1 + (length - tile) // (tile - 2 * halo))


def one_halo(length, tile, halo):
    return max(1, 1 + math.ceil((length - tile) / (tile - halo)))


def small_images_forgotten(length, tile, halo):
    return 1 + math.ceil((length - tile) / (tile - 2 * halo))


def test_exercises():
    require_table(
        lesson_06,
        {
            "check_halo": [
                (6, "count double"),
                (4, "full resolution"),
                (9, "worst place"),
                (12, "Too much"),
                (7, "layer by layer"),
            ],
            "check_count_tiles": [
                (lambda length, tile, halo: length // tile + 1, "without a halo"),
                (lambda length, tile, halo: math.ceil(length / tile), "leaves the halo out"),
                (border_forgotten, "border of the image"),
                (rounded_down, "round up"),
                (lambda length, tile, halo: 1 + math.ceil((length - tile) / (tile - 3 * halo)), "core is wide"),
                (small_images_forgotten, "exactly one tile"),
            ],
            "check_margins": [
                (8, "in square brackets"),
                ([8, 16], "from 0 to 12"),
                ([8, 9, 10, 11, 12], "odd margins"),
                ([6, 8, 10, 12], "smaller than the halo"),
                ([8], "there are more"),
            ],
            "check_cost": [
                (1.6, "along one axis"),
                (1.51, "both sides"),
                (0.39, "share of a tile"),
                (5.0, "512 - 2 * 96"),
            ],
        },
    )


def test_with_one_halo_alone_there_are_too_few_tiles():
    verdict = lesson_06.check_count_tiles.judge(one_halo)
    assert not verdict.passed


@pytest.mark.parametrize("length", [100, 400, 401, 800, 1000, 1008])
def test_the_solution_counts_what_the_package_lays(length):
    plan = exact_plan((length, length), 1, 100, 400)
    assert len(plan.rows.origins) == lesson_06.count_tiles(length, 400, 100)


def test_the_halo_and_the_margins_that_the_lesson_asks_for_are_right():
    keras.utils.set_random_seed(6)
    x = inputs = keras.Input((None, None, 1))
    for layer in ("conv", "conv", "pool", "conv", "conv", "upsample", "conv", "conv"):
        if layer == "conv":
            x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        else:
            x = layers.MaxPooling2D(2)(x) if layer == "pool" else layers.UpSampling2D(2)(x)
    network = keras.Model(inputs, layers.Conv2D(1, 1)(x))
    field = receptive_field(network)
    assert (field.halo, field.alignment) == (lesson_06.check_halo.solution, 2)
    noise = np.random.default_rng(6).random((1, 64, 64, 1), np.float32)
    whole, exact = network.predict_on_batch(noise), []
    for margin in range(13):
        cut = slice(24 - margin, 40 + margin)
        piece = network.predict_on_batch(noise[:, cut, cut])
        core = slice(margin, margin + 16)
        if np.abs(piece[:, core, core] - whole[:, 24:40, 24:40]).max() < 1e-5:
            exact.append(margin)
    assert exact == lesson_06.check_margins.solution
