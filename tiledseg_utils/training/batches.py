"""Batches of tiles for `model.fit`: drawn and augmented for training, fixed and untouched for validation."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..base.files import UserError
from ..data.channels import Channels, read_scaling
from ..data.classes import FILE as CLASSES
from ..data.classes import Classes, read_classes
from ..models.backend import keras
from ..settings.parameters import TrainingSetting
from ..tiles.augmentation import Augmentation, augment
from ..tiles.tiling import ADDED, read_manifest, read_tiles
from .devices import own_share


@dataclass(frozen=True)
class TrainingTiles:
    """Tiles to draw from, and how often.

    Attributes:
        images: (M, T, T, 3) uint8 RGB, or channels as they are stored.
        masks: (M, T, T) bool, uint8 numbers of classes, or int32 labels.
        weights: (M,); tiles are drawn with replacement, in proportion to their weight.
        added: (M,) bool; which of them were cut from generated images that learn along with the others.
        channels: of the images; None if they are RGB.
    """

    images: np.ndarray
    masks: np.ndarray
    weights: np.ndarray
    added: np.ndarray
    channels: Channels | None = None

    def weights_in(self, epoch: int, setting: TrainingSetting) -> np.ndarray:
        """The weights, (M,), by which an epoch draws. Where there are added tiles, the first ones use these alone."""
        if not self.added.any():
            return self.weights
        share = 1.0 if epoch < setting.pretraining_epochs else setting.added_share
        own, added = (np.where(chosen, self.weights, 0) for chosen in (~self.added, self.added))
        return own / own.sum() * (1 - share) + added / added.sum() * share


def _rows(folder: Path, split: str) -> list[dict]:
    rows = [row for row in read_manifest(folder) if row["split"] == split]
    if not rows:
        raise UserError(folder, f"there are no {split} tiles", f"Give images to the split {split}, or keep empty tiles")
    return rows


def read_training_tiles(folder: Path) -> TrainingTiles:
    """The tiles of the splits train and `ADDED` that `tiling.write_tile_set` wrote to `folder`.

    Raises:
        UserError: there are no training tiles, none of them holds foreground, or none of them a class.
    """
    rows = _rows(folder, "train")
    if not any(row["foreground"] for row in rows):
        remedy = "Look at the masks of the training images: is foreground another value than 0 in them?"
        raise UserError(folder, f"none of the {len(rows)} training tiles holds foreground", remedy)
    added = [row for row in read_manifest(folder) if row["split"] == ADDED]
    weights = np.array([row["weight"] for row in rows + added], float)
    is_added = np.arange(len(weights)) >= len(rows)
    images, masks = read_tiles(folder, rows + added, classes=True)
    classes = read_classes(folder)
    if classes:
        _require_all(classes, masks)
    return TrainingTiles(images, masks, weights, is_added, read_scaling(folder))


def _require_all(classes: Classes, masks: np.ndarray) -> None:
    """Raise a UserError if no training tile shows a class."""
    missing = [name for number, name in enumerate(classes.names) if not (masks == number).any()]
    if missing:
        remedy = "Give the training split an image that shows it (split.csv), or remove its line"
        raise UserError(CLASSES, f"names the class {missing[0]}, which no training tile shows", remedy)


Target = Callable[[np.ndarray], np.ndarray]
"""From masks (N, H, W) to what a network should predict of their images, (N, H, W, C) float32."""


def foreground_target(mask: np.ndarray) -> np.ndarray:
    """What a network with one probability should predict: (..., H, W) bool or classes to (..., 1) float32."""
    return (mask != 0)[..., None].astype(np.float32)


def class_target(mask: np.ndarray, count: int) -> np.ndarray:
    """What a network with `count` classes should predict: numbers (..., H, W) uint8 to one-hot (..., count) float32."""
    return (mask[..., None] == np.arange(count)).astype(np.float32)


def target_of(classes: Classes | None) -> Target:
    """What a network should predict that learns from masks of these classes, or from masks of foreground for None."""
    return foreground_target if classes is None else partial(class_target, count=len(classes))


class TrainingBatches(keras.utils.PyDataset):
    """Tiles drawn by weight and augmented: sample i of epoch e depends only on (seed, e, i).

    A batch is (images (N, T, T, 3) uint8 RGB, targets (N, T, T, C) float32).

    Args:
        tiles: see `TrainingTiles`.
        setting: of it, the size and number of batches, and how added tiles are drawn.
        seed: of the draws.
        augmentation: applied to every sample.
        target: what the network should predict, from masks that were augmented.

    `epoch` is set by the training loop before each epoch; it is not counted here, so that a resumed run continues
    with the very samples an uninterrupted one would have seen.

    While the network learns from a batch, `THREADS` threads make the next ones. `waited` counts the seconds for which
    the network had to wait all the same.
    """

    THREADS = max(1, (os.cpu_count() or 1) // 2)  # A network that learns on the CPU needs the others.

    def __init__(
        self,
        tiles: TrainingTiles,
        setting: TrainingSetting,
        seed: int,
        augmentation: Augmentation,
        target: Target = foreground_target,
    ):
        super().__init__()
        self.tiles, self.setting, self.seed, self.augmentation, self.target = tiles, setting, seed, augmentation, target
        self.epoch, self.waited = 0, 0.0
        self._threads, self._ahead = ThreadPoolExecutor(self.THREADS), {}

    @property
    def num_batches(self) -> int:
        return self.setting.steps_per_epoch

    def sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample `index` of an epoch: image (T, T, 3) uint8 and mask (T, T), both augmented."""
        # NumPy fills a short seed up with zeros, so this is the generator of `augment`. The two stay apart because
        # `augment` draws from the streams that it spawns from it, never from the generator itself.
        draw = np.random.default_rng((self.seed, epoch, index, 0)).random()
        cumulative = np.cumsum(self.tiles.weights_in(epoch, self.setting))
        tile = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
        image, mask = self.tiles.images[tile], self.tiles.masks[tile]
        return augment(image, mask, self.augmentation, self.seed, epoch, index, self.tiles.channels)

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `step` of an epoch; of several processes that train together, each has its share of it."""
        size = self.setting.batch_size
        own = range(step * size, (step + 1) * size)[own_share(size)]
        images, masks = zip(*(self.sample(epoch, i) for i in own), strict=True)
        return np.stack(images), self.target(np.stack(masks))

    def __getitem__(self, step: int):
        wanted = [(self.epoch, later) for later in range(step, min(step + 1 + self.THREADS, self.num_batches))]
        self._ahead = {key: self._ahead.get(key) or self._threads.submit(self.batch, *key) for key in wanted}
        start = time.perf_counter()
        arrays = self._ahead.pop(wanted[0]).result()
        self.waited += time.perf_counter() - start
        return arrays


def validation_indices(count: int, setting: TrainingSetting) -> np.ndarray:
    """Which of `count` tiles judge an epoch: evenly spread ones, or all, starting over where there are too few."""
    wanted = setting.batch_size * setting.validation_steps
    return np.linspace(0, count, wanted, endpoint=False).astype(int) if wanted < count else np.arange(wanted) % count


def read_validation_tiles(folder: Path, setting: TrainingSetting) -> tuple[np.ndarray, np.ndarray]:
    """Images (M, T, T, 3) and masks (M, T, T) of the validation tiles of a tile set that judge an epoch.

    Raises:
        UserError: there are no validation tiles.
    """
    rows = _rows(folder, "valid")
    chosen = [rows[index] for index in validation_indices(len(rows), setting)]
    return read_tiles(folder, chosen, classes=True)


class ValidationBatches(keras.utils.PyDataset):
    """The same tiles in every epoch, never augmented, in batches of one size (another size would be compiled anew).

    Args:
        images, masks: of the chosen tiles, see `validation_indices`.
        setting: of it, the size and number of batches.
        target: see `TrainingBatches`.
    """

    def __init__(
        self, images: np.ndarray, masks: np.ndarray, setting: TrainingSetting, target: Target = foreground_target
    ):
        super().__init__()
        self.images, self.targets, self.setting = images, target(masks), setting

    @property
    def num_batches(self) -> int:
        return self.setting.validation_steps

    def __getitem__(self, step: int):
        size = self.setting.batch_size
        own = range(step * size, (step + 1) * size)[own_share(size)]
        batch = slice(own.start, own.stop)
        return self.images[batch], self.targets[batch]
