"""Networks for channels as they are stored: built, saved, trained, and predicted in tiles, in files and as a whole."""

import numpy as np
import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.channels import Channels
from tiledseg_utils.data.images import find_pairs
from tiledseg_utils.data.masks import read_mask
from tiledseg_utils.data.pictures import ImagePart, write_channels, write_image
from tiledseg_utils.models import build_model
from tiledseg_utils.models.inputs import channels_of
from tiledseg_utils.models.interface import Interface
from tiledseg_utils.prediction.inference import (
    load_model,
    multi_scale,
    predict_file,
    predict_reduced,
    predict_tiled,
    predict_whole,
)
from tiledseg_utils.settings.parameters import TileSetting, TrainingSetting
from tiledseg_utils.tiles.tiling import write_tile_set
from tiledseg_utils.training.fit import train

SMALL = {
    "unet": {"base_filters": 2, "levels": 2, "patch_size": 2},
    "attention_unet": {"base_filters": 2, "levels": 2, "patch_size": 1},
    "multires_unet": {"base_filters": 4, "levels": 2, "patch_size": 1},
    "unet3_plus": {"base_filters": 2, "levels": 2, "patch_size": 1},
    "swin_unet": {"base_filters": 4, "levels": 1},
}


def channels(count: int, dtype: str) -> Channels:
    highest = float(np.iinfo(dtype).max)
    return Channels(tuple(range(count)), dtype, (0.0,) * count, (highest,) * count)


def network(count: int, dtype: str, name: str = "unet"):
    """A network with weights that tell channels and places apart, also behind batch normalisation."""
    model = build_model(name, SMALL[name] | {"seed": 1}, interface=Interface(channels(count, dtype)))
    random = np.random.default_rng(0)
    model.set_weights([np.float32(random.normal(0.1, 0.3, w.shape) ** 2) for w in model.get_weights()])
    return model


def image_of(count: int, dtype: str, height: int = 70, width: int = 90) -> np.ndarray:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (height, width, count), dtype)


@pytest.mark.parametrize("name", SMALL)
def test_exact_tiles_of_four_channels_equal_the_whole_image(name):
    model, image = network(4, "uint16", name), image_of(4, "uint16")
    whole = predict_whole(model, image)
    tiled = predict_tiled(model, image, tile_size=64)
    assert np.ptp(whole) > 0 and np.abs(tiled - whole).max() < 1e-5


def test_the_model_scales_each_channel_by_its_own_rule_also_when_it_is_loaded(tmp_path):
    rule = Channels((3, 1), "uint16", (100.0, 2000.0), (300.0, 4000.0))
    build_model("unet", SMALL["unet"], interface=Interface(rule)).save(tmp_path / "model.keras")
    model = load_model(tmp_path / "model.keras")
    assert channels_of(model) == rule
    scaled = model.layers[1](np.array([[[[100, 4000], [200, 2500], [50, 9000]]]], np.uint16))
    assert np.allclose(scaled, [[[[0, 1], [0.5, 0.25], [0, 1]]]])


def test_a_file_is_predicted_as_its_array_whatever_channels_it_has_beside(tmp_path):
    image = image_of(5, "uint16")
    write_channels(tmp_path / "image.tif", image)
    rule = Channels((4, 0), "uint16", (0.0, 0.0), (65535.0, 65535.0))
    model = build_model("unet", SMALL["unet"] | {"seed": 2}, interface=Interface(rule))
    expected = predict_tiled(model, image[..., [4, 0]])
    assert np.array_equal(predict_tiled(model, tmp_path / "image.tif"), expected)
    predict_file(model, tmp_path / "image.tif", tmp_path / "map.npy")
    assert np.array_equal(np.load(tmp_path / "map.npy"), expected)
    other = predict_tiled(model, ImagePart(tmp_path / "image.tif", channels=(0, 4), stored=True))
    assert np.array_equal(other, predict_tiled(model, image[..., [0, 4]])) and not np.array_equal(other, expected)


def test_other_channels_than_those_of_the_model_are_refused(tmp_path):
    model = network(2, "uint16")
    with pytest.raises(UserError, match=r"has 3 channel.s. of uint16, and the model takes 2 of uint16"):
        predict_tiled(model, image_of(3, "uint16"))
    with pytest.raises(UserError, match=r"has 2 channel.s. of uint8, and the model takes 2 of uint16"):
        predict_tiled(model, image_of(2, "uint8"))
    with pytest.raises(UserError, match="is uint8 of shape"):
        predict_whole(model, image_of(3, "uint8"))
    write_channels(tmp_path / "one.tif", image_of(1, "uint16"))
    with pytest.raises(UserError, match=r"has no channel 1. Choose from its channels, 0"):
        predict_tiled(model, tmp_path / "one.tif")
    write_channels(tmp_path / "two.tif", image_of(2, "uint16"))
    with pytest.raises(UserError, match="has channels without colours"):
        predict_file(model, tmp_path / "two.tif", tmp_path / "mask.tif", tissue=True)


def test_reduced_and_scaled_images_keep_their_channels():
    model, image = network(8, "uint8"), image_of(8, "uint8")
    assert predict_reduced(model, image, 32).shape == image.shape[:2]
    half = multi_scale(lambda part: predict_whole(model, part), [0.5])(image)
    assert half.shape == image.shape[:2]


def test_settings_that_need_colours_are_refused():
    interface = Interface(channels(1, "uint8"))
    with pytest.raises(UserError, match="color_space hsv, gamma 1: is for red, green and blue"):
        build_model("unet", {"color_space": "hsv"}, interface=interface)


def test_a_run_learns_from_one_of_two_channels(tmp_path):
    """Only channel 1 shows the objects, and in 16 bit just above the noise of the camera."""
    random = np.random.default_rng(0)
    for number in range(3):
        mask = np.zeros((64, 64), bool)
        row, column = random.integers(4, 40, 2)
        mask[row : row + 18, column : column + 18] = True
        image = random.normal((20_000, 500), (4000, 20), (64, 64, 2))
        image[mask, 1] += 200
        write_channels(tmp_path / "data" / "images" / f"{number}.tif", np.uint16(image.clip(0, 65535)))
        write_image(tmp_path / "data" / "masks" / f"{number}.png", mask)
    pairs = find_pairs(tmp_path / "data", [1])
    splits = {"train": pairs[:2], "valid": pairs[2:], "test": []}
    write_tile_set(splits, tmp_path / "tiles", TileSetting(tile_size=32, channels=[1], reduced=False))
    setting = TrainingSetting(
        epochs=6, steps_per_epoch=12, validation_steps=1, batch_size=4, learning_rate=0.02, patience=0
    )
    settings = {"base_filters": 4, "levels": 2, "normalization": "batch"}
    train(tmp_path, "unet", settings, {"hflip": 0.5, "noise": 0.5, "brightening": 0.3}, setting, seed=1)
    model = load_model(tmp_path / "model.keras")
    found = predict_tiled(model, pairs[2].image) >= 0.5
    mask = read_mask(pairs[2].mask)
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.8
    with pytest.raises(UserError, match=r"augmentation: .* for stain 0.5, but channels are given\. Give stain: 0"):
        train(tmp_path / "other", "unet", settings, {"stain": 0.5}, setting, 1, tiles=tmp_path / "tiles")
