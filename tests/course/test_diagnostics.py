import math

import keras
import numpy as np
import pytest

from tiledseg_utils import models
from tiledseg_utils.course import diagnostics
from tiledseg_utils.prediction import inference
from tiledseg_utils.tiles.planning import make_plan


@pytest.fixture(scope="module")
def network():
    return models.build_model("unet", {"base_filters": 4, "levels": 3, "seed": 1})  # alignment 4, halo 24, radius 23


def test_a_seam_is_a_jump_across_a_junction():
    slope = np.add.outer(np.arange(10.0), np.arange(20.0))  # every pixel differs from each neighbour by 1
    assert diagnostics.seam_score(slope, [5], [10]) == pytest.approx(1)
    stepped = slope.copy()
    stepped[:, 10:] += 4
    assert diagnostics.seam_score(stepped, [], [10]) == pytest.approx(5)
    elsewhere = 8 * 20 + 10 * 18 + 10 * 5  # rows but one junction, columns, and the step that is no junction
    assert diagnostics.seam_score(stepped, [5], []) == pytest.approx((8 * 20 + 10 * 19) / elsewhere)
    assert diagnostics.seam_score(stepped, [], [10, 25]) == pytest.approx(5)  # a junction past the image does not count


def test_no_junctions_or_nothing_that_changes_has_no_score():
    assert math.isnan(diagnostics.seam_score(np.arange(6.0).reshape(2, 3), [], []))
    assert math.isnan(diagnostics.seam_score(np.ones((4, 4)), [2], [2]))
    assert math.isnan(diagnostics.seam_score(np.ones((1, 1)), [], []))


def test_tiling_methods_are_what_their_names_say(network):
    plans = {name: plan((300, 300)) for name, plan in diagnostics.tiling_methods(network, 128).items()}
    origins = {name: plan.rows.origins for name, plan in plans.items()}
    assert origins["side by side"] == (0, 128, 172)
    assert origins["exact"] == (0, 80, 160, 172)
    assert origins["one pixel more"][1] % 4 != 0
    assert plans["exact"].rows.used(1).start == 24 and plans["one pixel more"].rows.used(1).start == 25
    assert plans["a third of the halo"].rows.used(1).start == 8
    assert origins["blended"] == origins["a third of the halo"]
    assert "exact" not in diagnostics.tiling_methods(network, 48)


def test_ways_are_measured_against_the_first(network, rng):
    pictures = [(rng.integers(0, 256, (160, 170, 3)).astype(np.uint8), rng.random((160, 170)) > 0.5) for _ in range(2)]
    plans = diagnostics.tiling_methods(network, 96)
    methods = diagnostics.prediction_methods(network, plans, reduced_size=64)
    rows, maps = diagnostics.measure_methods(methods, plans, pictures, threshold=0.5)
    found = {row["method"]: row for row in rows}
    assert list(found) == list(maps) == ["whole image", "reduced", *plans, "8 views"]
    assert found["whole image"]["largest_difference"] == 0 and found["exact"]["largest_difference"] <= 1e-5
    assert found["one pixel more"]["largest_difference"] > 1e-3 < found["side by side"]["largest_difference"]
    assert found["exact"]["dice"] == pytest.approx(found["whole image"]["dice"], abs=1e-4)
    mask = maps["whole image"] >= 0.5
    first = 2 * (mask & pictures[0][1]).sum() / (mask.sum() + pictures[0][1].sum())
    second = inference.predict_whole(network, pictures[1][0]) >= 0.5
    second = 2 * (second & pictures[1][1]).sum() / (second.sum() + pictures[1][1].sum())
    assert found["whole image"]["dice"] == pytest.approx((first + second) / 2)
    assert min(found[way]["largest_difference"] for way in ("reduced", "8 views")) > 1e-3
    assert all(row["seconds"] >= 0 and row["seam_score"] > 0 for row in rows)


def test_tiles_disagree_where_they_are_blended_and_only_there(network, rng):
    image = rng.integers(0, 256, (64, 200, 3)).astype(np.uint8)
    plan = inference.plan_prediction(network, image.shape, mode="blend", tile_size=64, overlap=16)
    disagreement = diagnostics.disagreement_map(network, image, plan)
    ramps = np.zeros((64, 200), bool)
    for origin in plan.columns.origins[1:]:
        ramps[:, origin + 6 : origin + 10] = True
    assert disagreement.shape == (64, 200) and disagreement[ramps].mean() > 1e-4
    assert (disagreement[~ramps] == 0).all()
    with_halo = make_plan(image.shape, 64, 56, 24, 4)  # tiles that agree, because each has its halo
    assert diagnostics.disagreement_map(network, image, with_halo).max() < 1e-5


def test_influence_ends_where_the_receptive_field_does(rng):
    inputs = keras.Input((None, None, 3), dtype="uint8")
    mean = keras.layers.Conv2D(1, 17, padding="same", use_bias=False, kernel_initializer="ones")
    model = keras.Model(inputs, mean(keras.layers.Rescaling(1 / 255)(inputs)))
    image = rng.integers(0, 200, (150, 170, 3)).astype(np.uint8)
    image[60:70, 90:100] = 255
    influence, window = diagnostics.influence_map(model, image, 70, 90, size=64)
    assert window == (slice(38, 102), slice(58, 122)) and influence.shape == (16, 16)
    seen = np.zeros((16, 16), bool)
    seen[(62 - 38) // 4 : (78 - 38) // 4 + 1, (82 - 58) // 4 : (98 - 58) // 4 + 1] = True  # 8 px each way
    assert (influence[~seen] == 0).all() and (influence[seen] > 0).mean() > 0.9
    corner, _ = diagnostics.influence_map(model, image, 0, 169, size=64)
    assert corner[0, -1] > 0 and (corner[3:] == 0).all()


@pytest.mark.parametrize(
    ("levels", "height", "expected"),
    [(3, 600, 64), (5, 600, 256), (5, 256, 256), (5, 200, 128), (5, 40, 64), (8, 40, 128)],
)
def test_the_square_of_a_receptive_field_fits_into_its_image(rng, levels, height, expected):
    model = models.build_model("unet", {"base_filters": 1, "levels": levels})
    image = rng.integers(0, 256, (height, 700, 3), dtype=np.uint8)
    picture, size = diagnostics.square_of_field(model, image)
    assert size == expected and picture.shape[0] == max(height, expected)
    np.testing.assert_array_equal(picture[:height], image)
    influence, _ = diagnostics.influence_map(model, picture, min(32, height), 350, size)
    assert influence.shape == (16, 16)


def test_the_square_lies_on_the_grid_of_any_network(rng):
    model = models.build_model("swin_unet", {"base_filters": 8, "levels": 1, "window": 3})  # a grid of 12 px
    picture, size = diagnostics.square_of_field(model, rng.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    assert size % 48 == 0 and diagnostics.influence_map(model, picture, 60, 60, size)[0].shape == (16, 16)


def test_surroundings_are_the_image_and_its_reflection(rng):
    image, network = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), models.build_model("unet", {"levels": 2})
    inside = diagnostics.surroundings(network, image, np.s_[10:26, 12:28], margin=8)
    np.testing.assert_array_equal(inside, image[2:34, 4:36])
    corner = diagnostics.surroundings(network, image, np.s_[0:16, 0:16], margin=8)
    np.testing.assert_array_equal(corner, np.pad(image, ((8, 0), (8, 0), (0, 0)), mode="reflect")[:32, :32])
    small = diagnostics.surroundings(network, image, np.s_[0:64, 0:64], margin=32)
    assert small.shape == (128, 128, 3)
    np.testing.assert_array_equal(small[32:72, 32:82], image)
