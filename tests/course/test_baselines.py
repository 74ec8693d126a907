import numpy as np
import pytest

from tiledseg_utils.base.files import UserError, write_json
from tiledseg_utils.course import baselines, model_comparison
from tiledseg_utils.data import images, synthetic
from tiledseg_utils.models import build_model
from tiledseg_utils.prediction import inference
from tiledseg_utils.settings.parameters import TrainingSetting
from tiledseg_utils.tiles import tiling

SETTING = TrainingSetting(epochs=2, steps_per_epoch=2, batch_size=4, pretraining_epochs=1, average_epochs=1)


@pytest.fixture
def run(tile_set, tmp_path):
    (tmp_path / "tiles").symlink_to(tile_set[0], target_is_directory=True)
    return tmp_path


def network():
    return build_model("unet", {"base_filters": 4, "levels": 3, "seed": 0})


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [
        ([(2000, 2400), (1025, 1400)], [256, 512, 1024]),
        ([(2000, 2400), (1024, 1400)], [256, 512]),  # A copy of 1024 px would not be smaller.
        ([(2000, 2400), (1400, 500)], [256]),
        ([(200, 200)], [256]),
    ],
)
def test_images_are_reduced_to_sizes_below_their_own(shapes, sizes):
    assert baselines.reducing_sizes(256, shapes) == sizes


def test_images_are_reduced_further_than_the_network_reduces_them():
    assert baselines.reducing_sizes(256, [(2000, 2400)], reduction=2) == [256, 512]
    assert baselines.reducing_sizes(256, [(2000, 2400)], reduction=4) == [256]  # 500 px are what the network sees.


def test_tiles_of_reduced_images_are_those_of_training_alone(run, splits):
    folder = baselines.reduced_tiles(splits["train"], 128, run)
    manifest = tiling.read_manifest(folder)
    assert {row["split"] for row in manifest} == {"train"}
    assert {row["source"] for row in manifest} == {pair.stem for pair in splits["train"]}
    tiles, masks = tiling.read_tiles(folder, manifest)
    assert tiles.shape == (2 * 9, 64, 64, 3)  # 3 x 3 that overlap by half
    image, mask = (tiling.reduce_image(array, 128) for array in images.read_pair(splits["train"][0]))
    assert np.array_equal(tiles[0], image[:64, :64]) and np.array_equal(masks[0], mask[:64, :64])
    assert len(tiling.read_manifest(baselines.reduced_tiles(splits["train"], 256, run))) == 2 * 16


def test_generated_images_that_learn_along_are_reduced_too(run, splits):
    synthetic.added_pairs(run / "added", seed=1, count=1, size=280)
    manifest = tiling.read_manifest(baselines.reduced_tiles(splits["train"], 128, run))
    added = [row for row in manifest if row["split"] == tiling.ADDED]
    assert len(added) == 9 and all(row["source"].startswith("added_") for row in added)


def test_learning_goes_on_from_the_weights_and_is_repeatable(run, splits):
    tiles = baselines.reduced_tiles(splits["train"], 128, run)
    setting = baselines.shortened(SETTING, 1)
    assert (setting.epochs, setting.batch_size, setting.pretraining_epochs, setting.average_epochs) == (1, 2, 0, 0)
    before = network().get_weights()
    first, second = (baselines.go_on_learning(network(), tiles, setting, {"hflip": 0.5}, seed=3) for _ in range(2))
    for old, new, again in zip(before, first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(new, again) and old.shape == new.shape
    assert not all(np.array_equal(*pair) for pair in zip(before, first.get_weights(), strict=True))


def test_a_rival_is_measured_as_the_comparison_measures(splits):
    model = network()
    ways = {
        "tiled": lambda image: inference.predict_tiled(model, image, tile_size=128),
        "reduced": lambda image: inference.predict_reduced(model, image, 64),
    }
    results, masks = model_comparison.compare(ways, splits["test"], 0.5, seed=1)
    row, found = baselines.measure(
        "reduced", ways["reduced"], splits["test"], results["tiled"]["dice"]["per_image"], 0.5, seed=1
    )
    assert row["dice"] == results["reduced"]["dice"] and row["iou"] == results["reduced"]["iou"]
    assert row["difference"] == results["difference"]
    assert all(np.array_equal(found[stem], masks["reduced"][stem]) for stem in found)


def rival(mean, low, high):
    return {"way": "w", "dice": {"mean": mean}, "difference": {"dice_mean": 0.9 - mean, "ci95": [low, high]}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rival(0.8, 0.05, 0.2), "tiled is better by 0.100 Dice (95 % interval 0.050 to 0.200)"),
        (rival(0.95, -0.1, -0.01), "tiled is worse by 0.050 Dice (95 % interval 0.010 to 0.100)"),
        (rival(0.89, -0.01, 0.03), "these images do not show a difference: +0.010 Dice"),
        (rival(0.8, None, None), "one image gives no interval"),
    ],
)
def test_a_verdict_says_what_the_interval_says(row, words):
    assert words in baselines.verdict(row)


def test_the_strongest_is_found_and_a_table_made():
    rows = [rival(0.7, 0, 1), rival(0.8, None, None), rival(0.8, 0, 1)]
    assert baselines.strongest(rows) is rows[1]
    full = [row | {"steps": 1, "seconds": 2.0, "added_mib": 3} for row in rows]
    assert [row["95 % interval"] for row in baselines.table_rows(full)] == ["+0.000 to +1.000", "", "+0.000 to +1.000"]


def test_how_a_network_learnt_is_read_from_its_training(tmp_path):
    with pytest.raises(UserError, match="03_unet_training has not run"):
        baselines.how_it_learnt(tmp_path)
    request = {"training": {"epochs": 3, "learning_rate": 0.01}, "augmentation": {"hflip": 0.5}, "seed": 4}
    write_json(tmp_path / "training" / "state.json", {"request": request})
    setting, augmentation, seed = baselines.how_it_learnt(tmp_path)
    assert (setting.epochs, setting.learning_rate, augmentation, seed) == (3, 0.01, {"hflip": 0.5}, 4)


def test_memory_in_one_piece_grows_with_the_pixels_and_the_scales():
    model = network()
    small = baselines.megabytes_in_one_piece(model, 2**20, [1])
    assert small == pytest.approx(baselines.megabytes_in_one_piece(model, 2**22, [1]) / 4)
    assert baselines.megabytes_in_one_piece(model, 2**20, [0.5, 2]) == pytest.approx(4 * small)
    assert small >= 4 * 4  # at least the four filters of float32 at full resolution
