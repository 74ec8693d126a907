import threading

import numpy as np
import pytest

from tiledseg_utils.base.files import UserError, write_csv
from tiledseg_utils.settings.parameters import TrainingSetting
from tiledseg_utils.tiles.augmentation import Augmentation
from tiledseg_utils.tiles.tiling import ADDED, MANIFEST, TileSetting, read_manifest, read_tiles, write_tile_set
from tiledseg_utils.training import batches as batches_of
from tiledseg_utils.training.batches import TrainingBatches, read_training_tiles

AUGMENTATION = Augmentation(hflip=0.5, rotation=0.5, color=0.5)


def training_batches(folder, size=4, steps=3, seed=1, augmentation=AUGMENTATION, kind=TrainingBatches, **more):
    setting = TrainingSetting(batch_size=size, steps_per_epoch=steps, **more)
    return kind(read_training_tiles(folder), setting, seed, augmentation)


def validation_batches(folder, size=4, steps=3):
    setting = TrainingSetting(batch_size=size, validation_steps=steps)
    return batches_of.ValidationBatches(*batches_of.read_validation_tiles(folder, setting), setting)


@pytest.fixture
def train(tile_set):
    return training_batches(tile_set[0])


def test_a_batch(train):
    images, masks = train[0]
    assert train.num_batches == 3
    assert images.shape == (4, 64, 64, 3) and images.dtype == np.uint8
    assert masks.shape == (4, 64, 64, 1) and masks.dtype == np.float32
    assert set(np.unique(masks)) <= {0, 1}


def test_a_sample_depends_on_seed_epoch_and_index_only(train, tile_set):
    expected = [train[step][0] for step in (0, 1, 2)]
    np.testing.assert_array_equal(train[1][0], expected[1])  # not on the order of calls
    train.epoch = 1
    assert not np.array_equal(train[1][0], expected[1])
    train.epoch = 0
    other = training_batches(tile_set[0], seed=2)
    assert not np.array_equal(other[1][0], expected[1])
    assert len({batch.tobytes() for batch in expected}) == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_the_next_batches_are_made_while_the_network_learns(tile_set, threads):
    made = []

    class Watched(TrainingBatches):
        THREADS = threads

        def batch(self, epoch, step):
            made.append((epoch, step, threading.current_thread() is threading.main_thread()))
            return super().batch(epoch, step)

    batches = training_batches(tile_set[0], steps=5, kind=Watched)
    for epoch in (0, 1):
        batches.epoch = epoch
        images = [batches[step][0] for step in range(5)]
        assert len(made) == 5 * (epoch + 1)  # None of an epoch that has not begun.
        assert all((image == batches.batch(epoch, step)[0]).all() for step, image in enumerate(images))
        del made[5 * (epoch + 1) :]
    # Each once, and in a thread.
    assert sorted(made) == [(epoch, step, False) for epoch in (0, 1) for step in range(5)]
    assert batches.waited > 0


def test_tiles_are_drawn_by_weight(splits, tmp_path):
    setting = TileSetting(tile_size=64, empty="down-weight", empty_weight=0.1)
    rows = write_tile_set({"train": splits["train"]}, tmp_path, setting)
    batches = training_batches(tmp_path, 1, 1, 0, Augmentation())
    empty = np.mean([not batches.sample(0, index)[1].any() for index in range(600)])
    weights = np.array([row["weight"] for row in rows])
    expected = weights[[row["foreground"] == 0 for row in rows]].sum() / weights.sum()
    assert 0.02 < expected < 0.5
    assert empty == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 600))


def test_added_tiles_are_drawn_alone_first_and_then_by_their_share(splits, tmp_path):
    write_tile_set({"train": splits["train"][1:], ADDED: splits["train"][:1]}, tmp_path, TileSetting(tile_size=64))
    batches = training_batches(tmp_path, 1, 1, 0, Augmentation(), pretraining_epochs=2, added_share=0.25)
    added = {
        tile.tobytes()
        for tile in read_tiles(tmp_path, [row for row in read_manifest(tmp_path) if row["split"] == ADDED])[0]
    }

    def share(epoch):
        return np.mean([batches.sample(epoch, index)[0].tobytes() in added for index in range(400)])

    assert share(0) == share(1) == 1
    assert share(2) == pytest.approx(0.25, abs=0.09) and share(3) == pytest.approx(0.25, abs=0.09)  # 4 deviations


def test_without_added_tiles_every_epoch_draws_the_same_way(tile_set):
    plain, staged = (training_batches(tile_set[0], pretraining_epochs=epochs) for epochs in (0, 2))
    for epoch in (0, 2):
        np.testing.assert_array_equal(staged.batch(epoch, 0)[0], plain.batch(epoch, 0)[0])


def test_validation_is_fixed_spread_and_untouched(tile_set):
    folder, manifest = tile_set
    batches = validation_batches(folder)
    assert batches.num_batches == 3
    np.testing.assert_array_equal(batches[1][0], batches[1][0])
    plain, _ = read_tiles(folder, [row for row in manifest if row["split"] == "valid"])
    assert all((tile == plain).all((1, 2, 3)).any() for tile in batches.images)
    assert len({tile.tobytes() for tile in batches.images}) == 12  # none twice
    assert (batches.images[-1] == plain[-13:]).all((1, 2, 3)).any()  # to the end of the list


def test_validation_starts_over_when_tiles_are_few(tile_set):
    folder, manifest = tile_set
    count = sum(row["split"] == "valid" for row in manifest)
    batches = validation_batches(folder, count + 1, 2)
    assert batches[1][0].shape == (count + 1, 64, 64, 3)
    np.testing.assert_array_equal(batches[0][0][0], batches[0][0][count])


def test_no_tiles(splits, tmp_path):
    write_tile_set({"train": [], "valid": splits["valid"]}, tmp_path, TileSetting(tile_size=64))
    with pytest.raises(UserError, match="there are no train tiles"):
        training_batches(tmp_path)
    write_tile_set({"train": splits["train"], "valid": []}, tmp_path, TileSetting(tile_size=64))
    with pytest.raises(UserError, match="there are no valid tiles"):
        validation_batches(tmp_path)


def test_no_foreground(splits, tmp_path):
    write_tile_set({"train": splits["train"]}, tmp_path, TileSetting(tile_size=64))
    rows = [row | {"foreground": 0.0} for row in read_manifest(tmp_path)]
    write_csv(tmp_path / MANIFEST, rows)
    with pytest.raises(UserError, match=f"none of the {len(rows)} training tiles holds foreground"):
        training_batches(tmp_path)
