import numpy as np
import pytest

from tiledseg_utils.augmentation import Augmentation
from tiledseg_utils.batches import TrainingBatches, ValidationBatches
from tiledseg_utils.files import UserError

AUGMENTATION = Augmentation(hflip=0.5, rotation=0.5, colour=0.5)


def rows_of(manifest, split):
    return [row for row in manifest if row["split"] == split]


@pytest.fixture
def train(tile_set):
    folder, manifest = tile_set
    return TrainingBatches(folder, rows_of(manifest, "train"), 4, 3, seed=1, augmentation=AUGMENTATION)


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
    folder, manifest = tile_set
    other = TrainingBatches(folder, rows_of(manifest, "train"), 4, 3, seed=2, augmentation=AUGMENTATION)
    assert not np.array_equal(other[1][0], expected[1])
    assert len({batch.tobytes() for batch in expected}) == 3


def test_tiles_are_drawn_by_weight(tile_set):
    folder, manifest = tile_set
    rows = [{**row, "weight": 1.0 if row["foreground"] else 0.1} for row in rows_of(manifest, "train")]
    batches = TrainingBatches(folder, rows, 1, 1, seed=0, augmentation=Augmentation())
    empty = np.mean([not batches.sample(index)[1].any() for index in range(600)])
    weights = np.array([row["weight"] for row in rows])
    expected = weights[[row["foreground"] == 0 for row in rows]].sum() / weights.sum()
    assert empty == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 600))


def test_validation_is_fixed_and_untouched(tile_set):
    folder, manifest = tile_set
    rows = rows_of(manifest, "valid")
    batches = ValidationBatches(folder, rows, 4, 3)
    np.testing.assert_array_equal(batches[1][0], batches[1][0])
    plain = TrainingBatches(folder, rows, 1, 1, seed=0, augmentation=Augmentation()).images
    assert all((tile == plain).all((1, 2, 3)).any() for tile in batches.images)
    assert len({tile.tobytes() for tile in batches.images}) == 12  # spread over the rows, none twice


def test_validation_starts_over_when_tiles_are_few(tile_set):
    folder, manifest = tile_set
    batches = ValidationBatches(folder, rows_of(manifest, "valid")[:3], 4, 2)
    assert batches.num_batches == 2 and batches[1][0].shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(batches[0][0][0], batches[0][0][3])


def test_no_tiles(tile_set):
    folder, _ = tile_set
    with pytest.raises(UserError, match="no training tiles"):
        TrainingBatches(folder, [], 4, 3, seed=1, augmentation=AUGMENTATION)
    with pytest.raises(UserError, match="no validation tiles"):
        ValidationBatches(folder, [], 4, 3)
