import keras
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tiledseg_utils import models
from tiledseg_utils.data import images, pictures
from tiledseg_utils.data.normalization import NormalizedSource
from tiledseg_utils.data.streaming import open_source
from tiledseg_utils.data.synthetic import draw_smear
from tiledseg_utils.data.white_balance import BACKGROUND, balance_white, measure_light
from tiledseg_utils.prediction import inference
from tiledseg_utils.tiles import tiling
from tiledseg_utils.training import fit as training

LAVENDER = (204, 200, 216)  # the plasma of a real slide


def tinted(image, factors=(0.91, 0.9, 0.98)):
    return np.rint(image * np.array(factors)).astype(np.uint8)


@pytest.fixture(scope="module")
def smear():
    return draw_smear(3, 0, 320)[0]


def test_the_ground_is_the_median_of_what_is_bright():
    image = np.full((60, 50, 3), LAVENDER, np.uint8)
    image[10:20] = (150, 90, 130)
    image[30:40, :20] = (60, 18, 120)
    image[50] += np.arange(50, dtype=np.uint8)[:, None] // 10  # some shines
    assert measure_light([image]) == (LAVENDER, 0)
    balanced = balance_white(image)
    assert (balanced[25, 25] == BACKGROUND).all() and (balanced[50, -1] > BACKGROUND).all()
    assert (balanced[10, 0] == np.rint(np.array((150, 90, 130)) * BACKGROUND / np.array(LAVENDER))).all()


def test_two_lamps_leave_no_difference(smear):
    plain, other = (balance_white(image).astype(int) for image in (smear, tinted(smear)))
    assert np.abs(plain - other).max() <= 3 < np.abs(smear.astype(int) - tinted(smear)).max()


def under_stray_light(share, nuclei):
    """Red cells, nuclei of that colour on some of them, and stray light over all; (H, W, 3) uint8 RGB."""
    image = np.full((60, 50, 3), BACKGROUND, np.float32)
    image[10:30] = (190, 140, 160)
    image[15:25, :20] = nuclei
    return np.rint(image * (1 - share) + BACKGROUND * share).astype(np.uint8)


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_stray_light_is_taken_away(share):
    clear, hazed = (under_stray_light(part, (30, 20, 110)) for part in (0, share))
    light = measure_light([hazed])
    assert light.stray_light == pytest.approx(share, abs=0.02)
    assert np.abs(balance_white(hazed).astype(int) - clear).max() <= 1 < np.abs(hazed.astype(int) - clear).max()


@pytest.mark.parametrize("nuclei", [(10, 4, 70), (130, 70, 150), (190, 140, 160)])
def test_where_nothing_is_as_dark_as_the_palest_nuclei_or_all_as_dark_as_usual_there_is_no_stray_light(nuclei):
    image = under_stray_light(0, nuclei)
    assert measure_light([image]) == ((BACKGROUND,) * 3, 0)
    assert np.array_equal(balance_white(image), image)


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 39)), seed=st.integers(0, 9))
def test_the_ground_does_not_depend_on_the_bands(cuts, seed):
    image = np.random.default_rng(seed).integers(150, 256, (40, 30, 3), dtype=np.uint8)
    assert measure_light(np.split(image, sorted(cuts))) == measure_light([image])


@pytest.mark.parametrize("color", [(90, 90, 90), (255, 180, 180), (0, 0, 0)])
def test_an_image_without_a_ground_stays_as_it_is(color):
    image = np.full((20, 20, 3), color, np.uint8)
    image[:5] //= 2
    assert measure_light([image]) is None
    assert np.array_equal(balance_white(image), image)


def test_empty_glass_is_all_ground():
    assert (balance_white(np.full((20, 20, 3), LAVENDER, np.uint8)) == BACKGROUND).all()


@pytest.mark.parametrize("kind", ["array", "tif", "16 bit"])
def test_rows_come_as_from_the_balanced_image(smear, tmp_path, kind):
    image = tinted(smear)
    if kind == "array":
        stored = image
    elif kind == "tif":
        stored = tmp_path / "image.tif"
        tifffile.imwrite(stored, image, tile=(64, 64), compression="zlib", photometric="rgb")
    else:
        stored = tmp_path / "image.tif"
        tifffile.imwrite(stored, image.astype(np.uint16) * 16, photometric="rgb")
        image = images.read_image(stored)
    expected = balance_white(image)
    assert not np.array_equal(expected, image)
    with open_source(stored) as source:
        balanced = NormalizedSource(source, "white_balance")
        assert np.array_equal(balanced.read_rows(100, 130), expected[100:130])
        assert np.array_equal(balanced.read_rows(0, 320), expected)


def test_decimal_numbers_are_left_alone(smear):
    image = tinted(smear).astype(np.float32)
    assert np.array_equal(NormalizedSource(open_source(image), "white_balance").read_rows(0, 320), image)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number in range(2):
        image, labels = draw_smear(3, number, 320)
        pictures.write_image(folder / "images" / f"{number}.png", tinted(image))
        pictures.write_image(folder / "masks" / f"{number}.png", labels > 0)
    return images.find_pairs(folder)


@pytest.fixture(scope="module")
def model(pairs, tmp_path_factory):
    """Trained for a step on balanced tiles, saved, and loaded again."""
    run = tmp_path_factory.mktemp("run")
    setting = tiling.TileSetting(tile_size=32, white_balance=True)
    rows = tiling.write_tile_set({"train": pairs[:1], "valid": pairs[1:]}, run / "tiles", setting)
    image = images.read_image(run / "tiles" / "train" / "images" / f"{rows[1]['tile']}.png")
    assert np.array_equal(image, balance_white(images.read_image(pairs[0].image))[:32, :32])
    once = training.TrainingSetting(epochs=1, steps_per_epoch=1, validation_steps=1, batch_size=2)
    training.train(run, "unet", {"base_filters": 4, "levels": 2, "normalization": "batch"}, {}, once, seed=1)
    return inference.load_model(run / "model.keras")


def test_a_model_remembers_that_its_images_were_balanced(model, smear, tmp_path):
    image = tinted(smear)
    unaware = keras.models.clone_model(model)
    unaware.set_weights(model.get_weights())
    for layer in unaware.layers:
        if hasattr(layer, "white_balance"):
            assert layer.white_balance
            layer.white_balance = False
    expected = inference.predict_whole(unaware, balance_white(image))
    assert np.abs(expected - inference.predict_whole(unaware, image)).max() > 1e-4
    assert np.array_equal(inference.predict_whole(model, image), expected)
    assert np.allclose(inference.predict_tiled(model, image, tile_size=64), expected, atol=1e-6)
    inference.predict_file(model, image, tmp_path / "out.npy", tile_size=64)
    assert np.allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)
    reduced = inference.predict_reduced(unaware, balance_white(image), 64)
    assert np.array_equal(inference.predict_reduced(model, image, 64), reduced)


def test_a_network_of_its_own_beginning_cannot_remember():
    def plain():
        inputs = keras.Input((None, None, 3), dtype="uint8")
        return keras.Model(inputs, keras.layers.Rescaling(1 / 255)(inputs))

    models.MODELS["plain"] = plain
    try:
        with pytest.raises(models.UserError, match="does not begin with ColorInput"):
            models.build_model("plain", {}, normalization="white_balance")
    finally:
        del models.MODELS["plain"]
