"""What `models.instance_unet` learns from instance labels, and how."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base.files import UserError, atomic_path
from ..data import provenance
from ..data.images import Pair, read_pair
from ..data.normalization import normalize
from ..models import instance_unet, layers_of
from ..models.backend import keras, ops
from ..models.inputs import remember_normalization, remember_options
from ..models.instance_targets import instance_targets
from ..models.instance_unet import CHANNELS, FLOW
from ..models.losses import bce_dice_loss
from ..models.model_files import load_checkpoint
from ..models.two_scales import two_scale_model
from ..settings.parameters import TILE_STEP
from ..tiles.augmentation import Augmentation
from ..tiles.sampling import share_by_kind
from ..tiles.tiling import pad_to
from .batches import TrainingBatches, TrainingTiles, ValidationBatches, validation_indices
from .fit import Task, TrainingSetting, fit

CONTACT_WEIGHT = 8.0
"""What a boundary between two nuclei weighs beside one between a nucleus and background, in the loss."""

EMPTY = 0.15
"""How often a tile without a nucleus is drawn beside one with some."""

OVERLAPPING_PIXELS = 2**26
"""Of images whose small tiles may overlap in training: they take 28 bytes for each in memory, instead of 7."""

NO_NUCLEUS = "Give images with instance labels in labels/"


@keras.saving.register_keras_serializable("tiledseg")
def instance_loss(y_true, y_pred):
    """The sum of one loss per head: BCE + Dice of the foreground, cross-entropy of the classes, error of the flow.

    The cross-entropy is averaged over each class first and then over the three, or the background would outweigh the
    thin boundary. The error of the flow is the mean squared distance of the vectors in the foreground, the only place
    where they mean anything.

    Args:
        y_true, y_pred: (N, H, W, 6), channels as in `models.instance_unet`.
    """
    foreground = y_true[..., :1]
    entropy = y_true[..., 1:4] * -ops.log(ops.maximum(y_pred[..., 1:4], keras.config.epsilon()))
    classes = ops.mean(ops.sum(entropy, axis=(0, 1, 2)) / (ops.sum(y_true[..., 1:4], axis=(0, 1, 2)) + 1))
    distance = ops.sum(ops.square(y_true[..., FLOW] - y_pred[..., FLOW]), axis=-1, keepdims=True)
    flow = ops.sum(foreground * distance) / (ops.sum(foreground) + 1)
    loss = bce_dice_loss(foreground, y_pred[..., :1]) + classes + flow
    if y_pred.shape[-1] > CHANNELS:
        expected, found = (ops.log(ops.maximum(maps[..., CHANNELS:], 0.5)) for maps in (y_true, y_pred))
        ratio = ops.mean(ops.abs(expected - found), axis=-1, keepdims=True)
        loss += ops.sum(foreground * ratio) / (ops.sum(foreground) + 1)
    return loss


def label_tiles(
    pairs: Sequence[Pair], size: int, normalization: str | None = None, overlap: bool = False
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cut images and their instance labels into tiles.

    They lie flush with the borders of the image and overlap as much as that takes, so that only images smaller than a
    tile are extended by their reflection.

    Args:
        pairs: images with labels.
        size: side of a tile, pixels.
        normalization: what is done to each image first, see `normalization.METHODS`.
        overlap: let neighbours share at least half of their pixels.

    Returns:
        images (N, size, size, 3) uint8 RGB, labels (N, size, size) int32, and the stem of each tile's image.

    Raises:
        UserError: an image or its labels cannot be read, or none shows a nucleus.
    """
    images, labels, stems = [], [], []
    for pair in pairs:
        image, instances = read_pair(pair, labels=True)
        height, width = (max(length, size) for length in instances.shape)
        image, instances = (pad_to(array, height, width) for array in (normalize(image, normalization), instances))
        for row, column in itertools.product(*(_flush_origins(length, size, overlap) for length in (height, width))):
            tile = np.s_[row : row + size, column : column + size]
            images.append(image[tile])
            labels.append(instances[tile])
            stems.append(pair.stem)
    labels = np.stack(labels)
    if not labels.any():
        raise UserError("the images", "show no nucleus", NO_NUCLEUS)
    return np.stack(images), labels, stems


def _flush_origins(length: int, tile: int, overlap: bool = False) -> list[int]:
    """Where as few tiles as cover an axis begin, evenly spread, the last one flush with its end; with one between any
    two of them if they overlap."""
    count = -(-length // tile)
    return np.linspace(0, length - tile, 2 * count - 1 if overlap else count).astype(int).tolist()


def tile_weights(labels: np.ndarray, stems: Sequence[str], groups: Mapping[str, str] | None = None) -> np.ndarray:
    """How often tiles are drawn, (N,) float64, in proportion.

    Groups of images (kinds of microscopy, for instance) are drawn as `sampling.share_by_kind` says, and so are the
    tiles of an image. A tile without a nucleus has `EMPTY` of the weight.

    Args:
        labels: (N, T, T) of the tiles.
        stems: of the image that each tile is from.
        groups: the group of each stem; those that are not listed are a group of their own.
    """
    weights = np.where(labels.any(axis=(1, 2)), 1.0, EMPTY)
    stems = np.asarray(stems)
    for stem in np.unique(stems):
        own = stems == stem
        weights[own] *= np.sqrt(own.sum()) / weights[own].sum()
    return share_by_kind(weights, stems, groups or {})


def smallest_area(pairs: Sequence[Pair]) -> int:
    """The area, pixels, below which nothing is a nucleus: three standard deviations below the mean of logarithms.

    Areas are about log-normal, so that mean and variance of their logarithms describe them. It is never more than a
    quarter of the usual area, since a few nuclei may be of one size by chance.

    Raises:
        UserError: an image or its labels cannot be read, or none shows a nucleus.
    """
    areas = [np.bincount(read_pair(pair, labels=True)[1].ravel())[1:] for pair in pairs]
    areas = np.concatenate(areas)
    areas = areas[areas > 0]
    if not areas.size:
        raise UserError("the images", "show no nucleus", NO_NUCLEUS)
    logarithms = np.log(areas)
    usual = np.exp(logarithms.mean())
    return max(1, round(min(usual * np.exp(-3 * logarithms.std()), usual / 4)))


def learnt_from(splits: Mapping[str, Sequence[Pair]]) -> dict[str, dict[str, list[str]]]:
    """What `provenance.learnt_from` says of a tile set, for images that are cut in memory.

    Args:
        splits: images with labels; of them, those of train and valid.
    """
    hashes = {
        split: {pair.stem: provenance.identify(pair, *read_pair(pair, labels=True)) for pair in splits.get(split, ())}
        for split in ("train", "valid")
    }
    return {
        split: {stem: [each["file"], each["pixels"]] for stem, each in found.items()} for split, found in hashes.items()
    }


def train_instances(
    run: Path,
    splits: Mapping[str, Sequence[Pair]],
    tile_size: int,
    model_settings: Mapping,
    augmentation: Mapping,
    setting: TrainingSetting,
    seed: int,
    flow: str = "centre",
    groups: Mapping[str, str] | None = None,
    normalization: str | None = None,
    two_scales: bool = False,
) -> dict:
    """Train `models.instance_unet`, or go on where a killed run stopped; write `<run>/instances.keras`.

    Args:
        run: run folder; the state goes to `<run>/counting`.
        splits: images with instance labels. Those of valid, if there are any, judge each epoch (see `fit.Task`).
        tile_size: side of the tiles that the images are cut into, pixels.
        model_settings: of `models.instance_unet`; the seed is added. With `rays`, it also learns these.
        augmentation: see `augmentation.Augmentation`.
        setting: see `fit`; its loss is not used.
        seed: of the initial weights, the draws of tiles, their augmentation, and dropout.
        flow: "centre" or "heat", see `instance_targets.instance_targets`.
        groups: the kind of each stem, if there are several; tiles are then drawn as `tile_weights` says. Without, all
            are drawn equally often.
        normalization: of the images, see `normalization.METHODS`; the model remembers it.
        two_scales: whether the model that is written sees each image twice, see `two_scales.two_scale_model`. It
            does not change the training: another choice makes the other model from the same state.

    Returns:
        see `fit`.

    Raises:
        UserError: as `fit`; or an image or its labels cannot be read, or none of a split shows a nucleus.
    """
    rays, setting = model_settings.get("rays", False), setting.for_tiles(tile_size)
    targets = functools.partial(instance_targets, flow=flow, rays=rays, contact_weight=CONTACT_WEIGHT)
    images, labels, stems = label_tiles(splits["train"], tile_size, normalization)
    if tile_size <= TILE_STEP and labels.size <= OVERLAPPING_PIXELS:
        # A small tile cuts many of its nuclei, which then lie whole in the one between.
        images, labels, stems = label_tiles(splits["train"], tile_size, normalization, overlap=True)
    weights = np.ones(len(images)) if groups is None else tile_weights(labels, stems, groups)
    request = {"model": "instance_unet", "model_settings": model_settings, "augmentation": augmentation, "seed": seed}
    request |= {"tiles": [provenance.hash_array(images), provenance.hash_array(labels)]}
    request |= {"flow": flow, "contact_weight": CONTACT_WEIGHT, "weights": provenance.hash_array(weights)}
    validation = None
    if splits.get("valid"):
        others = label_tiles(splits["valid"], tile_size, normalization)[:2]
        chosen = validation_indices(len(others[0]), setting)
        validation = ValidationBatches(*(each[chosen] for each in others), setting, targets)
        request |= {"validation": [provenance.hash_array(each) for each in others]}
    tiles = TrainingTiles(images, labels, weights, np.zeros(len(images), bool))
    task = Task(
        build=functools.partial(_build, {**model_settings, "seed": seed}, normalization),
        batches=TrainingBatches(tiles, setting, seed, Augmentation.from_dict(augmentation), targets),
        validation=validation,
        loss=instance_loss,
        metrics=None,
        request=request,
        learnt_from=learnt_from(splits),
        finish=two_scale_model if two_scales else None,
    )
    return fit(task, setting, Path(run) / "counting", Path(run) / "instances.keras")


def _build(settings: Mapping, normalization: str | None, precision: str) -> keras.Model:
    """An untrained network that remembers how its images are normalized."""
    with layers_of(precision):
        model = instance_unet(**settings)
    remember_normalization(model, normalization)
    return model


def remember_counting(
    path: Path,
    method: str,
    threshold: float,
    min_area: int,
    flow_threshold: float = 0.0,
    test_time_augmentation: bool = False,
) -> None:
    """Have a model file remember how its run tells nuclei apart. The command `instances` then does the same.

    Args:
        path: of `instances.keras`, which is written again; its weights stay as they are.
        method, threshold, min_area, flow_threshold: see `prediction.instances.label_rows`.
        test_time_augmentation: see `prediction.inference.predict_tiled`.

    Raises:
        UserError: the file is missing or damaged.
    """
    model = load_checkpoint(path, with_optimizer=False)
    rule = {"method": method, "threshold": threshold, "min_area": min_area, "flow_threshold": flow_threshold}
    remember_options(model, {"instances": rule | {"test_time_augmentation": test_time_augmentation}})
    with atomic_path(path) as temporary:
        model.save(temporary)
