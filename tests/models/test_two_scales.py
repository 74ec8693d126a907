"""A model of two scales averages what its network says of the image and of the image twice as large."""

import numpy as np
import pytest
from PIL import Image

from tiledseg_utils.models import instance_unet
from tiledseg_utils.models.backend import keras, ops
from tiledseg_utils.models.inputs import normalization_of, remember_normalization, remember_options, remembered_options
from tiledseg_utils.models.instance_unet import CHANNELS, INSTANCE_CHANNELS
from tiledseg_utils.models.model_files import load_model
from tiledseg_utils.models.onnx_file import TOLERANCE, save_onnx
from tiledseg_utils.models.receptive_field import receptive_field
from tiledseg_utils.models.two_scales import EnlargedImage, one_scale_model, sees_two_scales, two_scale_model
from tiledseg_utils.prediction.inference import predict_tiled, predict_whole


def network_of(**settings) -> keras.Model:
    """A network whose maps differ from pixel to pixel."""
    network = instance_unet(base_filters=4, levels=2, seed=3, **settings)
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 0.3, weight.shape) for weight in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def network():
    return network_of(patch_size=2)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (148, 204, 3), np.uint8)


def test_an_enlarged_image_is_that_of_pillow_within_eight_bits(image):
    found = ops.convert_to_numpy(EnlargedImage()(image[None]))[0]
    assert found.dtype == np.uint8 and found.shape == (296, 408, 3)
    # Pillow's cubic has the same kernel, but treats the border in another way.
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(image, -1, 0)]
    exact = np.stack([plane.resize((408, 296), Image.Resampling.BICUBIC) for plane in planes], -1)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(found[inner] - exact[inner].clip(0, 255)).max() < 0.5 + 1e-3
    assert exact.min() < 0 and exact.max() > 255


@pytest.mark.parametrize("rays", [False, True])
def test_maps_are_the_mean_of_both_scales_and_rays_keep_their_unit(image, rays):
    network = network_of(rays=rays)
    once = ops.convert_to_numpy(network(image[None]))[0]
    twice = ops.convert_to_numpy(network(EnlargedImage()(image[None])))[0]
    height, width, channels = once.shape
    reduced = twice.reshape(height, 2, width, 2, channels).mean((1, 3))
    reduced[..., CHANNELS:] /= 2
    found = ops.convert_to_numpy(two_scale_model(network)(image[None]))[0]
    np.testing.assert_allclose(found, (2 * once + reduced) / 3, rtol=1e-5, atol=1e-5)
    assert np.abs(once - reduced).max() > 0.1


def test_tiles_are_exact(network, image):
    model = two_scale_model(network)
    field = receptive_field(model)
    whole = predict_whole(model, image)
    tiled = predict_tiled(model, image, mode="exact", tile_size=2 * field.halo + field.alignment)
    assert np.abs(tiled - whole).max() < 1e-5 and np.ptp(whole) > 0.1
    assert field.bytes_per_pixel > 4 * receptive_field(network).bytes_per_pixel


def test_the_file_has_both_scales_and_remembers_what_the_network_knows(network, image, tmp_path):
    remember_normalization(network, "contrast")
    model = two_scale_model(network)
    remember_options(model, {"instances": {"threshold": 0.4}})
    model.save(tmp_path / "instances.keras")
    loaded = load_model(tmp_path / "instances.keras", INSTANCE_CHANNELS)
    assert sees_two_scales(loaded) and not sees_two_scales(network)
    assert normalization_of(loaded) == "contrast" and remembered_options(loaded) == {"instances": {"threshold": 0.4}}
    assert loaded.count_params() == network.count_params()
    assert np.array_equal(predict_whole(loaded, image), predict_whole(model, image))


def test_the_network_within_has_one_scale_and_remembers_the_same(network, image, tmp_path):
    remember_normalization(network, "contrast")
    model = two_scale_model(network)
    remember_options(model, {"instances": {"threshold": 0.4}})
    model.save(tmp_path / "instances.keras")
    once = one_scale_model(load_model(tmp_path / "instances.keras", INSTANCE_CHANNELS))
    assert normalization_of(once) == "contrast" and remembered_options(once) == {"instances": {"threshold": 0.4}}
    assert np.array_equal(predict_whole(once, image), predict_whole(network, image))
    assert one_scale_model(network) is network


def test_it_is_exported_with_both_scales(tmp_path):
    network = instance_unet(base_filters=4, levels=2, rays=True)
    assert save_onnx(two_scale_model(network), tmp_path / "model.onnx") <= TOLERANCE
