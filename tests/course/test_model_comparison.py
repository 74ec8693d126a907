import time

import numpy as np
import pytest

from tiledseg_utils.course import model_comparison
from tiledseg_utils.data import images
from tiledseg_utils.scoring import pixels
from tiledseg_utils.tiles import tiling
from tiledseg_utils.training import fit as training

NAMES = ["unet", "deeplab_v3_plus"]
SETTINGS = {"unet": {"base_filters": 4, "levels": 3}, "deeplab_v3_plus": {"filters": 8}}
BUDGET = training.TrainingSetting(epochs=2, steps_per_epoch=2, validation_steps=1, batch_size=2)


@pytest.fixture(scope="module")
def trained(tile_set, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / "tiles").symlink_to(tile_set[0], target_is_directory=True)
    return run, model_comparison.train_each(run, NAMES, SETTINGS, {}, BUDGET, seed=1)


def test_each_has_a_folder_and_what_is_trained_stays(trained):
    run, results = trained
    assert [*results] == NAMES and all(result["steps"] == 4 for result in results.values())
    files = [run / "architectures" / name / "model.keras" for name in NAMES]
    weights = [path.stat().st_size for path in files]
    again = model_comparison.train_each(run, NAMES, SETTINGS, {}, BUDGET, seed=1)
    assert again == results and [path.stat().st_size for path in files] == weights


def test_tiles_of_one_are_exact_and_of_the_other_not(trained, data_folder):
    run, results = trained
    test = images.find_pairs(data_folder)[:2]
    tiles = tiling.read_tiles(run / "tiles", tiling.read_manifest(run / "tiles")[:2])[0]
    rows, masks = model_comparison.measure(run, results, test, tiles, threshold=0.5)
    unet, deeplab = rows
    assert (unet["exact"], unet["grid"], unet["halo"]) == ("yes", 4, 24) and unet["largest_difference"] <= 1e-5
    assert deeplab["exact"] == "ImageMean" and deeplab["largest_difference"] > 1e-4
    assert all(row["seconds_per_step"] > 0 and row["tiles_per_second"] > 0 for row in rows)
    assert {stem: mask.shape for stem, mask in masks["unet"].items()} == {
        pair.stem: images.mask_of(pair).shape for pair in test
    }
    assert np.isfinite([row["dice_tiled"] for row in rows]).all()


@pytest.fixture
def pairs(splits):
    return splits["test"]


def brightness(image):
    return image.mean(axis=-1).astype(np.float32) / 255


def test_comparing_ways_gives_each_the_same_images_and_times_only_the_prediction(pairs):
    seen = []

    def slow(image):
        seen.append(image.shape)
        time.sleep(0.05)
        return brightness(image)

    results, masks = model_comparison.compare(
        {"slow": slow, "constant": lambda image: 0 * brightness(image)}, pairs, 0.5
    )
    assert len(seen) == 1 + len(pairs)  # one to compile
    assert 0.05 * len(pairs) <= results["slow"]["seconds"] < 1
    megapixels = sum(mask.size for mask in masks["slow"].values()) / 1e6
    rate = results["slow"]["megapixels_per_second"]
    assert rate == pytest.approx(megapixels / results["slow"]["seconds"], rel=0.05)
    assert results["constant"]["dice"]["mean"] == 0 and not any(mask.any() for mask in masks["constant"].values())
    _, counted = pixels.score_images(brightness, pairs, 0.5)
    assert results["slow"]["iou"] == pixels.summarize(counted)["iou"]


def test_compared_ways_find_their_foreground_alike(pairs):
    ways = {"one": brightness, "other": brightness}
    counted = pixels.score_images(brightness, pairs, 0.5, min_area=50)[1]
    sure = pixels.score_images(brightness, pairs, 0.5, 50, 0.7)[1]
    same = model_comparison.compare(ways, pairs, 0.5, min_area=50)[0]
    assert same["one"]["dice"] == same["other"]["dice"] == pixels.summarize(counted)["dice"]
    same = model_comparison.compare(ways, pairs, 0.5, 50, 0.7)[0]
    assert same["one"]["dice"] == pixels.summarize(sure)["dice"] != pixels.summarize(counted)["dice"]
