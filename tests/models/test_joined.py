import keras
import numpy as np
import pytest

from tiledseg_utils.models import build_model
from tiledseg_utils.models.inputs import images_learnt_from, normalization_of, remember_images
from tiledseg_utils.models.joined import joined_model
from tiledseg_utils.models.receptive_field import receptive_field
from tiledseg_utils.models.reduced import reduced_model
from tiledseg_utils.prediction.inference import load_model, predict_tiled, predict_whole

IMAGE = np.random.default_rng(3).integers(0, 256, (150, 190, 3), dtype=np.uint8)


@pytest.fixture
def two():
    """A network, and one that sees farther on a coarser grid and at half the size."""
    network = build_model("unet", {"base_filters": 4, "levels": 2, "seed": 1}, "white_balance")
    other = build_model("unet", {"base_filters": 4, "levels": 3, "patch_size": 2, "seed": 2}, "white_balance")
    return network, reduced_model(other, 2)


def test_the_model_is_the_mean_of_both(two):
    tiles = IMAGE[None, :144, :176]
    expected = np.mean([model.predict_on_batch(tiles) for model in two], axis=0)
    np.testing.assert_allclose(joined_model(*two).predict_on_batch(tiles), expected, atol=1e-6)


def test_tiles_suit_the_one_that_needs_more(two):
    model = joined_model(*two)
    field, fields = receptive_field(model), [receptive_field(part) for part in two]
    assert field.alignment == max(part.alignment for part in fields)
    assert field.halo == max(part.halo for part in fields)
    tiled = predict_tiled(model, IMAGE, tile_size=2 * field.halo + field.alignment)
    np.testing.assert_allclose(tiled, predict_whole(model, IMAGE), atol=1e-6)


def test_a_saved_model_is_the_same_and_remembers_its_images(two, tmp_path):
    model = joined_model(*two)
    learnt = {"train": {"a": ["1"]}, "valid": {}}
    remember_images(model, learnt)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert normalization_of(loaded) == "white_balance" and images_learnt_from(loaded) == learnt
    np.testing.assert_array_equal(predict_whole(loaded, IMAGE), predict_whole(model, IMAGE))


def test_a_network_can_be_joined_with_one_of_its_own_name(two):
    again = keras.models.clone_model(two[0])
    assert joined_model(two[0], again).count_params() == 2 * two[0].count_params()
