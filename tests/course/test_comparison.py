import numpy as np
import pytest

from tiledseg_utils.course import comparison
from tiledseg_utils.data import images
from tiledseg_utils.tiles import tiling
from tiledseg_utils.training import fit as training

NAMES = ["unet", "deeplab_v3_plus"]
SETTINGS = {"unet": {"base_filters": 4, "levels": 3}, "deeplab_v3_plus": {"filters": 8}}
BUDGET = training.TrainingSetting(epochs=2, steps_per_epoch=2, validation_steps=1, batch_size=2)


@pytest.fixture(scope="module")
def trained(tile_set, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / "tiles").symlink_to(tile_set[0], target_is_directory=True)
    return run, comparison.train_each(run, NAMES, SETTINGS, {}, BUDGET, seed=1)


def test_each_has_a_folder_and_what_is_trained_stays(trained):
    run, results = trained
    assert [*results] == NAMES and all(result["steps"] == 4 for result in results.values())
    files = [run / "architectures" / name / "model.keras" for name in NAMES]
    weights = [path.stat().st_size for path in files]
    again = comparison.train_each(run, NAMES, SETTINGS, {}, BUDGET, seed=1)
    assert again == results and [path.stat().st_size for path in files] == weights


def test_tiles_of_one_are_exact_and_of_the_other_not(trained, data_folder):
    run, results = trained
    test = images.find_pairs(data_folder)[:2]
    tiles = tiling.read_tiles(run / "tiles", tiling.read_manifest(run / "tiles")[:2])[0]
    rows, masks = comparison.measure(run, results, test, tiles, threshold=0.5)
    unet, deeplab = rows
    assert (unet["exact"], unet["grid"], unet["halo"]) == ("yes", 4, 24) and unet["largest difference"] <= 1e-5
    assert deeplab["exact"] == "ImageMean" and deeplab["largest difference"] > 1e-4
    assert all(row["seconds per step"] > 0 and row["tiles per second"] > 0 for row in rows)
    assert {stem: mask.shape for stem, mask in masks["unet"].items()} == {
        pair.stem: images.read_mask(pair.mask).shape for pair in test
    }
    assert np.isfinite([row["Dice tiled"] for row in rows]).all()
