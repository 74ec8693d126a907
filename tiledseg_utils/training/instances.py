"""What `models.instance_unet` learns from instance labels, and how."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import center_of_mass
from skimage.measure import label

from ..base.files import UserError, atomic_path
from ..data import provenance
from ..data.images import Pair, read_pair
from ..models import instance_unet, layers_of
from ..models.backend import keras, ops
from ..models.inputs import remember_options
from ..models.losses import bce_dice_loss
from ..models.model_files import load_checkpoint
from ..tiles.augmentation import Augmentation
from ..tiles.tiling import split
from .batches import TrainingBatches, TrainingTiles, ValidationBatches, validation_indices
from .fit import Task, TrainingSetting, fit

NO_NUCLEUS = "Give images with instance labels in labels/"

RIM = 2
"""How far the boundary reaches into a nucleus, pixels."""


def boundary_targets(labels: np.ndarray) -> np.ndarray:
    """Background, interior and boundary as (H, W, 3) float32 in {0, 1}.

    A nucleus' boundary is its part within `RIM` pixels (in a square) of background or another nucleus. At the border of
    the image there is none, as the nucleus may go on beyond it.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    values, kernel = labels.astype(np.float32), np.ones((2 * RIM + 1,) * 2, np.uint8)
    alone = cv2.erode(values, kernel, borderType=cv2.BORDER_REPLICATE) == cv2.dilate(
        values, kernel, borderType=cv2.BORDER_REPLICATE
    )
    foreground = labels > 0
    return np.stack([~foreground, foreground & alone, foreground & ~alone], -1).astype(np.float32)


def flow_targets(labels: np.ndarray) -> np.ndarray:
    """Unit vectors (rows, columns) to each nucleus' centre, (H, W, 2) float32; 0 in the background and at the centre.

    The centre is the nucleus' pixel nearest to its centre of mass. (Cellpose lets heat spread from there and takes the
    gradient, which also leads around corners; the nuclei of white cells have few.)

    Args:
        labels: (H, W) int32, 0 = background.
    """
    flow = np.zeros((*labels.shape, 2), np.float32)
    numbers = np.unique(labels[labels > 0])
    for number, mass in zip(numbers, center_of_mass(labels > 0, labels, numbers), strict=True):
        places = np.argwhere(labels == number)
        centre = places[np.argmin(((places - mass) ** 2).sum(axis=1))]
        away = (centre - places).astype(np.float32)
        flow[tuple(places.T)] = away / np.maximum(np.hypot(*away.T), 1)[:, None]
    return flow


def instance_targets(labels: np.ndarray) -> np.ndarray:
    """All that `models.instance_unet` should predict, (H, W, 6) float32 in its order of channels.

    Parts of a label that do not touch count as separate nuclei: a border may have cut and mirrored one.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    labels = label(labels, connectivity=2)
    foreground = (labels > 0)[..., None].astype(np.float32)
    return np.concatenate([foreground, boundary_targets(labels), flow_targets(labels)], -1)


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
    distance = ops.sum(ops.square(y_true[..., 4:] - y_pred[..., 4:]), axis=-1, keepdims=True)
    flow = ops.sum(foreground * distance) / (ops.sum(foreground) + 1)
    return bce_dice_loss(foreground, y_pred[..., :1]) + classes + flow


def label_tiles(pairs: Sequence[Pair], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut images and their instance labels into tiles.

    Returns:
        images (N, size, size, 3) uint8 RGB and labels (N, size, size) int32.

    Raises:
        UserError: an image or its labels cannot be read, or none shows a nucleus.
    """
    images, labels = [], []
    for pair in pairs:
        image, instances = read_pair(pair, labels=True)
        images.append(split(image, size)[0])
        labels.append(split(instances, size)[0])
    labels = np.concatenate(labels)
    if not labels.any():
        raise UserError("the images", "show no nucleus", NO_NUCLEUS)
    return np.concatenate(images), labels


def smallest_area(pairs: Sequence[Pair]) -> int:
    """Half the first percentile of the nuclei's areas, pixels: anything smaller cannot be a nucleus.

    Raises:
        UserError: an image or its labels cannot be read, or none shows a nucleus.
    """
    areas = [np.bincount(read_pair(pair, labels=True)[1].ravel())[1:] for pair in pairs]
    areas = np.concatenate(areas)
    areas = areas[areas > 0]
    if not areas.size:
        raise UserError("the images", "show no nucleus", NO_NUCLEUS)
    return max(1, int(np.percentile(areas, 1) / 2))


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
) -> dict:
    """Train `models.instance_unet`, or go on where a killed run stopped; write `<run>/instances.keras`.

    Args:
        run: run folder; the state goes to `<run>/counting`.
        splits: images with instance labels. All tiles of train are drawn equally often; those of valid, if there are
            any, judge each epoch (see `fit.Task`).
        tile_size: side of the tiles that the images are cut into, pixels.
        model_settings: of `models.instance_unet`; the seed is added.
        augmentation: see `augmentation.Augmentation`.
        setting: see `fit`; its loss is not used.
        seed: of the initial weights, the draws of tiles, their augmentation, and dropout.

    Returns:
        see `fit`.

    Raises:
        UserError: as `fit`; or an image or its labels cannot be read, or none of a split shows a nucleus.
    """
    run = Path(run)

    def build(precision: str) -> keras.Model:
        with layers_of(precision):
            return instance_unet(seed=seed, **model_settings)

    images, labels = label_tiles(splits["train"], tile_size)
    request = {"model": "instance_unet", "model_settings": model_settings, "augmentation": augmentation, "seed": seed}
    request |= {"tiles": [provenance.hash_array(images), provenance.hash_array(labels)]}
    validation = None
    if splits.get("valid"):
        pictures, truth = label_tiles(splits["valid"], tile_size)
        chosen = validation_indices(len(pictures), setting)
        validation = ValidationBatches(pictures[chosen], truth[chosen], setting, instance_targets)
        request |= {"validation": [provenance.hash_array(pictures), provenance.hash_array(truth)]}
    tiles = TrainingTiles(images, labels, np.ones(len(images)), np.zeros(len(images), bool))
    task = Task(
        build=build,
        batches=TrainingBatches(tiles, setting, seed, Augmentation.from_dict(augmentation), instance_targets),
        validation=validation,
        loss=instance_loss,
        metrics=None,
        request=request,
        learnt_from=learnt_from(splits),
    )
    return fit(task, setting, run / "counting", run / "instances.keras")


def remember_counting(path: Path, method: str, threshold: float, min_area: int) -> None:
    """Have a model file remember how its run tells nuclei apart. The command `instances` then does the same.

    Args:
        path: of `instances.keras`, which is written again; its weights stay as they are.
        method, threshold, min_area: see `prediction.instances.label_rows`.

    Raises:
        UserError: the file is missing or damaged.
    """
    model = load_checkpoint(path, with_optimizer=False)
    remember_options(model, {"instances": {"method": method, "threshold": threshold, "min_area": min_area}})
    with atomic_path(path) as temporary:
        model.save(temporary)
