"""A reduced model sees the mean of blocks, and everything else treats it as any other model."""

import cv2
import numpy as np
import pytest

from tiledseg_utils.models import build_model
from tiledseg_utils.models.backend import keras, ops
from tiledseg_utils.models.inputs import (
    images_learnt_from,
    normalization_of,
    remember_images,
    remember_options,
    remembered_options,
)
from tiledseg_utils.models.model_files import load_model
from tiledseg_utils.models.receptive_field import receptive_field
from tiledseg_utils.models.reduced import BlockMean, network_within, reduced_model, reduction_of
from tiledseg_utils.prediction.files import predict_file
from tiledseg_utils.prediction.inference import predict_reduced, predict_tiled, predict_whole
from tiledseg_utils.tiles.tiling import shrink

SETTINGS = {"base_filters": 4, "levels": 2, "seed": 3}


@pytest.fixture(scope="module")
def network():
    """A network whose probabilities differ from pixel to pixel."""
    network = build_model("unet", SETTINGS, "contrast")
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 0.3, weight.shape) for weight in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (150, 203, 3), np.uint8)


def test_blocks_are_averaged_as_tiles_are(image):
    part = image[:148, :200]
    found = ops.convert_to_numpy(BlockMean(4)(part[None]))[0]
    expected = shrink(part, 4)
    assert found.dtype == expected.dtype == np.uint8 and found.shape == (37, 50, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1  # Halves are rounded to the even number, or up.
    assert np.mean(found == expected) > 0.95
    half = np.zeros((8, 6), bool)
    half[:2], half[4:7, :2] = True, True
    assert shrink(half, 4).tolist() == [[True, True], [False, False]] and shrink(part, 1) is part


def test_tiles_of_a_reduced_model_are_exact(network, image, tmp_path):
    model, field = reduced_model(network, 4), receptive_field(network)
    assert receptive_field(model).alignment == 4 * field.alignment
    whole = predict_whole(model, image)
    assert whole.shape == image.shape[:2] and np.ptp(whole) > 0.05
    tile = 2 * receptive_field(model).halo + receptive_field(model).alignment
    tiled = predict_tiled(model, image, mode="exact", tile_size=tile)
    assert np.abs(tiled - whole).max() < 1e-5
    np.save(tmp_path / "image.npy", image)
    report = predict_file(
        model, tmp_path / "image.npy", tmp_path / "map.npy", tile_size=2 * receptive_field(model).halo + 8
    )
    assert report["tiles"] > 1 and np.array_equal(np.load(tmp_path / "map.npy"), tiled)


def test_a_reduced_model_predicts_what_its_network_predicts_for_the_smaller_image(network, image):
    model, part = reduced_model(network, 2), image[:, :200]
    small = ops.convert_to_numpy(network(BlockMean(2)(part[None, :148])))[0, ..., 0]
    found = ops.convert_to_numpy(model(part[None, :148]))[0, ..., 0]
    assert np.allclose(found, cv2.resize(small, (200, 148), interpolation=cv2.INTER_LINEAR), atol=1e-5)
    assert reduction_of(model) == 2 and network_within(model) is network
    assert reduction_of(network) == 1 and network_within(network) is network and reduced_model(network, 1) is network
    assert np.array_equal(predict_reduced(model, image, 64), predict_reduced(network, image, 64))


def test_the_file_remembers_all_that_the_network_knows(network, image, tmp_path):
    model = reduced_model(network, 2)
    learnt = {"train": {"a": ["1", "2"]}, "valid": {}}
    remember_images(model, learnt)
    remember_options(model, {"predict": {"threshold": 0.4}})
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert normalization_of(loaded) == "contrast" and images_learnt_from(loaded) == learnt
    assert remembered_options(loaded) == {"predict": {"threshold": 0.4}} and reduction_of(loaded) == 2
    assert np.array_equal(predict_whole(loaded, image), predict_whole(model, image))
    assert isinstance(network_within(loaded), keras.Model) and loaded.count_params() == network.count_params()
