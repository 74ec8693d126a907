"""The contrast of a whole image, stretched before it is cut."""

import numpy as np
import pytest
import tifffile

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import images, pictures
from tiledseg_utils.data.normalization import NormalizedSource, measure_contrast, normalize
from tiledseg_utils.data.streaming import open_source
from tiledseg_utils.models.inputs import normalization_of
from tiledseg_utils.prediction import inference
from tiledseg_utils.settings.parameters import TileSetting
from tiledseg_utils.tiles import tiling
from tiledseg_utils.training import fit as training
from tiledseg_utils.training.instances import label_tiles, train_instances


@pytest.fixture(scope="module")
def dim():
    """Like a dark fluorescence image: levels 5 to 44 in green, less in red, none in blue."""
    rng = np.random.default_rng(4)
    image = np.zeros((200, 240, 3), np.uint8)
    image[..., 1] = rng.integers(5, 45, image.shape[:2])
    image[..., 0] = image[..., 1] // 2
    return image


def test_levels_between_the_percentiles_fill_the_range(dim):
    low, high = measure_contrast([dim[:70], dim[70:]])
    assert (low, high) == pytest.approx(np.percentile(dim, [1, 99.8]))
    expected = np.rint(((dim - low) * 255 / (high - low)).clip(0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(normalize(dim, "contrast"), expected)
    assert normalize(dim, "contrast").max() == 255 and normalize(dim, None) is dim


def test_a_brighter_camera_gives_the_same_image(dim):
    first, second = (normalize(image, "contrast").astype(int) for image in (dim, dim * 5))
    assert np.abs(first - second).max() <= 1


def test_an_image_of_one_colour_stays():
    image = np.full((40, 40, 3), 7, np.uint8)
    np.testing.assert_array_equal(normalize(image, "contrast"), image)
    np.testing.assert_array_equal(NormalizedSource(open_source(image), "contrast").read_rows(3, 9), image[3:9])


@pytest.mark.parametrize("kind", ["array", "tif"])
def test_rows_come_as_from_the_whole_image(dim, tmp_path, kind):
    if kind == "tif":
        tifffile.imwrite(tmp_path / "image.tif", dim, tile=(64, 64), photometric="rgb")
    with open_source(dim if kind == "array" else tmp_path / "image.tif") as source:
        stretched = NormalizedSource(source, "contrast")
        np.testing.assert_array_equal(stretched.read_rows(50, 70), normalize(dim, "contrast")[50:70])
    decimals = dim.astype(np.float32)
    np.testing.assert_array_equal(NormalizedSource(open_source(decimals), "contrast").read_rows(0, 200), decimals)


@pytest.fixture(scope="module")
def pairs(dim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    labels = np.zeros(dim.shape[:2], np.int32)
    labels[20:40, 20:40], labels[60:90, 100:130] = 1, 2
    for number in range(2):
        pictures.write_image(folder / "images" / f"{number}.png", np.roll(dim, number, 1))
        pictures.write_image(folder / "labels" / f"{number}.tif", labels)
    return images.find_pairs(folder)


ONCE = training.TrainingSetting(epochs=1, steps_per_epoch=1, validation_steps=1, batch_size=2)


def remembers(model, dim):
    """Whether a model predicts a dim image and its stretched copy alike, in memory and from rows."""
    stretched = normalize(dim, "contrast")
    twice = normalize(stretched, "contrast")
    assert np.abs(twice.astype(int) - stretched).max() <= 1
    whole = inference.predict_whole(model, dim)
    np.testing.assert_allclose(inference.predict_tiled(model, dim, tile_size=64), whole, atol=1e-5)
    layer = next(layer for layer in model.layers if hasattr(layer, "contrast"))
    layer.contrast = False
    plain = inference.predict_whole(model, stretched)
    assert np.abs(inference.predict_whole(model, dim) - plain).max() > 1e-4
    layer.contrast = True
    np.testing.assert_array_equal(whole, plain)


def test_a_model_remembers_that_its_tiles_were_stretched(pairs, dim, tmp_path):
    setting = TileSetting(tile_size=32, contrast=True)
    rows = tiling.write_tile_set({"train": pairs[:1], "valid": pairs[1:]}, tmp_path / "tiles", setting)
    assert rows == tiling.read_manifest(tmp_path / "tiles") and rows[0]["contrast"] == 1
    image = images.read_image(tmp_path / "tiles" / "train" / "images" / f"{rows[1]['tile']}.png")
    np.testing.assert_array_equal(image, normalize(dim, "contrast")[:32, :32])
    training.train(tmp_path, "unet", {"base_filters": 4, "levels": 2, "normalization": "batch"}, {}, ONCE, seed=1)
    model = inference.load_model(tmp_path / "model.keras")
    assert normalization_of(model) == "contrast"
    remembers(model, dim)


def test_a_network_that_counts_remembers_it(pairs, dim, tmp_path):
    tiles, _, _ = label_tiles(pairs[:1], 32, "contrast")
    np.testing.assert_array_equal(tiles[0], normalize(dim, "contrast")[:32, :32])
    small = {"base_filters": 4, "levels": 2, "normalization": "batch"}
    train_instances(tmp_path, {"train": pairs}, 32, small, {}, ONCE, 1, normalization="contrast")
    model = inference.load_model(tmp_path / "instances.keras", channels=(6,))
    assert normalization_of(model) == "contrast"
    remembers(model, dim)


def test_only_one_normalization_at_a_time():
    assert TileSetting().normalization is None
    assert TileSetting(white_balance=True).normalization == "white_balance"
    with pytest.raises(UserError, match="is true, and so is white_balance"):
        TileSetting(contrast=True, white_balance=True)
