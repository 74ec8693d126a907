"""Batches of tiles for `model.fit`: drawn and augmented for training, fixed and untouched for validation."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..base.files import UserError
from ..models.backend import keras
from ..tiles.augmentation import Augmentation, augment
from ..tiles.tiling import ADDED, read_manifest, read_tiles


def _rows(folder: Path, split: str) -> list[dict]:
    rows = [row for row in read_manifest(folder) if row["split"] == split]
    if not rows:
        raise UserError(folder, f"there are no {split} tiles", f"Give images to the split {split}, or keep empty tiles")
    return rows


def foreground_target(mask: np.ndarray) -> np.ndarray:
    """What a network of one probability should predict: (H, W) bool to (H, W, 1) float32."""
    return mask[..., None].astype(np.float32)


class AugmentedBatches(keras.utils.PyDataset):
    """Tiles drawn by weight and augmented: sample i of epoch e depends only on (seed, e, i).

    A batch is (images (N, T, T, 3) uint8 RGB, targets (N, T, T, C) float32).

    Args:
        images: (M, T, T, 3) uint8 RGB.
        masks: (M, T, T) bool, or int32 labels.
        weights: (M,); tiles are drawn with replacement, in proportion to their weight.
        batch_size: tiles per batch.
        steps: batches per epoch.
        seed: of the draws.
        augmentation: applied to every sample.
        target: what the network should predict, from a mask that was augmented.

    `epoch` is set by the training loop before each epoch; it is not counted here, so that a resumed run continues
    with the very samples an uninterrupted one would have seen.

    While the network learns from a batch, `THREADS` threads make the next ones. `waited` counts the seconds for which
    the network had to wait all the same.
    """

    THREADS = max(1, (os.cpu_count() or 1) // 2)  # Where the network learns on the CPU, it needs the others.

    def __init__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        weights: np.ndarray,
        batch_size: int,
        steps: int,
        seed: int,
        augmentation: Augmentation,
        target: Callable[[np.ndarray], np.ndarray] = foreground_target,
    ):
        super().__init__()
        self.images, self.masks, self.target = images, masks, target
        self.weights = np.asarray(weights, float)
        self.batch_size, self.steps, self.seed, self.augmentation = batch_size, steps, seed, augmentation
        self.epoch, self.waited = 0, 0.0
        self._threads, self._ahead = ThreadPoolExecutor(self.THREADS), {}

    @property
    def num_batches(self) -> int:
        return self.steps

    def weights_in(self, epoch: int) -> np.ndarray:
        """The weights, (M,), by which an epoch draws: the same in each."""
        return self.weights

    def sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample `index` of an epoch: image (T, T, 3) uint8 and mask (T, T), both augmented."""
        # NumPy fills a short seed up with zeros, so this is the generator of `augment`. The two stay apart because
        # `augment` draws from the streams that it spawns of it, never from the generator itself.
        draw = np.random.default_rng((self.seed, epoch, index, 0)).random()
        cumulative = np.cumsum(self.weights_in(epoch))
        tile = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
        return augment(self.images[tile], self.masks[tile], self.augmentation, self.seed, epoch, index)

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch `step` of an epoch."""
        indices = range(step * self.batch_size, (step + 1) * self.batch_size)
        images, masks = zip(*(self.sample(epoch, i) for i in indices), strict=True)
        return np.stack(images), np.stack([self.target(mask) for mask in masks])

    def __getitem__(self, step: int):
        wanted = [(self.epoch, later) for later in range(step, min(step + 1 + self.THREADS, self.steps))]
        self._ahead = {key: self._ahead.get(key) or self._threads.submit(self.batch, *key) for key in wanted}
        start = time.perf_counter()
        arrays = self._ahead.pop(wanted[0]).result()
        self.waited += time.perf_counter() - start
        return arrays


class TrainingBatches(AugmentedBatches):
    """`AugmentedBatches` of the tiles that `tiling.write_tile_set` wrote to `folder`, drawn by their weight.

    Where there are generated images to learn along, the first epochs draw from these alone, and the later ones mix.

    Args:
        folder: the tile set; its splits train and `ADDED` are drawn from.
        batch_size, steps, seed, augmentation: see `AugmentedBatches`.
        pretraining_epochs: how many epochs draw added tiles only, if there are any.
        added_share: of the samples of a later epoch, those that are drawn from added tiles, 0 to 1.

    Raises:
        UserError: there are no training tiles, or none of them holds foreground.
    """

    def __init__(
        self,
        folder: Path,
        batch_size: int,
        steps: int,
        seed: int,
        augmentation: Augmentation,
        pretraining_epochs: int = 0,
        added_share: float = 0.4,
    ):
        rows = _rows(folder, "train")
        if not any(row["foreground"] for row in rows):
            remedy = "Look at the masks of the training images: is foreground another value than 0 in them?"
            raise UserError(folder, f"none of the {len(rows)} training tiles holds foreground", remedy)
        added = [row for row in read_manifest(folder) if row["split"] == ADDED]
        weights = np.array([row["weight"] for row in rows + added])
        super().__init__(*read_tiles(folder, rows + added), weights, batch_size, steps, seed, augmentation)
        self._is_added = np.arange(len(weights)) >= len(rows)
        self._pretraining_epochs, self._added_share = pretraining_epochs, added_share

    def weights_in(self, epoch: int) -> np.ndarray:
        """The weights, (M,), by which an epoch draws."""
        if not self._is_added.any():
            return self.weights
        share = 1.0 if epoch < self._pretraining_epochs else self._added_share
        own, added = (np.where(chosen, self.weights, 0) for chosen in (~self._is_added, self._is_added))
        return own / own.sum() * (1 - share) + added / added.sum() * share


class ValidationBatches(keras.utils.PyDataset):
    """The same tiles in every epoch, never augmented, in batches of one size (another size would be compiled anew).

    Args:
        folder: the tile set; of its validation tiles, some are chosen, evenly spread.
        batch_size: tiles per batch.
        steps: batches; where there are fewer tiles than that, they start over.

    Raises:
        UserError: there are no validation tiles.
    """

    def __init__(self, folder: Path, batch_size: int, steps: int):
        super().__init__()
        rows = _rows(folder, "valid")
        wanted = batch_size * steps
        chosen = np.linspace(0, len(rows), wanted, endpoint=False).astype(int) if wanted < len(rows) else None
        indices = np.arange(wanted) % len(rows) if chosen is None else chosen
        self.images, masks = read_tiles(folder, [rows[index] for index in indices])
        self.masks = masks[..., None].astype(np.float32)
        self.batch_size, self.steps = batch_size, steps

    @property
    def num_batches(self) -> int:
        return self.steps

    def __getitem__(self, step: int):
        batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
        return self.images[batch], self.masks[batch]
