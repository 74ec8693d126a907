"""What `models.instance_unet` learns from instance labels, and how."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from scipy.ndimage import center_of_mass
from skimage.measure import label

from ..base.files import UserError
from ..data.images import Pair, read_pair
from ..models import instance_unet
from ..models.backend import keras, ops
from ..models.losses import bce_dice_loss
from ..tiles.augmentation import Augmentation
from ..tiles.tiling import split
from .batches import AugmentedBatches
from .callbacks import ProgressLines, StopOnNaN
from .fit import TrainingSetting, make_optimizer

NO_NUCLEUS = "Give images with instance labels in labels/"

RIM = 2
"""How far the boundary reaches into a nucleus, pixels."""


def boundary_targets(labels: np.ndarray) -> np.ndarray:
    """Background, interior and boundary as (H, W, 3) float32 in {0, 1}.

    The boundary is what of a nucleus lies within `RIM` pixels (in a square) of anything else; the border of the image
    is nothing else, for the nucleus goes on behind it.

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
    gradient, which also bends round corners; white cells have few.)

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

    Parts of a label that do not touch, which a border may have cut and mirrored, count as nuclei of their own.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    labels = label(labels, connectivity=2)
    foreground = (labels > 0)[..., None].astype(np.float32)
    return np.concatenate([foreground, boundary_targets(labels), flow_targets(labels)], -1)


@keras.saving.register_keras_serializable("tiledseg")
def instance_loss(y_true, y_pred):
    """The sum of one loss per head: BCE + Dice of the foreground, cross-entropy of the classes, error of the flow.

    The cross-entropy is the mean of those of the three classes, else the thin boundary would count for nothing beside
    the background. The error of the flow is the mean squared distance of the vectors in the foreground, where they have
    a meaning.

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
        raise UserError("the training images", "show no nucleus", NO_NUCLEUS)
    return np.concatenate(images), labels


def smallest_area(pairs: Sequence[Pair]) -> int:
    """Half the area of nearly the smallest nucleus (the first percentile), pixels: what is smaller cannot be one.

    Raises:
        UserError: an image or its labels cannot be read, or none shows a nucleus.
    """
    areas = [np.bincount(read_pair(pair, labels=True)[1].ravel())[1:] for pair in pairs]
    areas = np.concatenate(areas)
    areas = areas[areas > 0]
    if not areas.size:
        raise UserError("the training images", "show no nucleus", NO_NUCLEUS)
    return max(1, int(np.percentile(areas, 1) / 2))


def train_instances(
    images: np.ndarray,
    labels: np.ndarray,
    model_settings: Mapping,
    augmentation: Mapping,
    setting: TrainingSetting,
    seed: int,
) -> keras.Model:
    """Train `models.instance_unet` on tiles, without validation.

    Args:
        images, labels: see `label_tiles`; all are drawn equally often.
        model_settings: of `models.instance_unet`; the seed is added.
        augmentation: see `augmentation.Augmentation`.
        setting: of it, what concerns validation, loss and stopping is not used.
        seed: of the initial weights, the draws and their augmentation.

    Returns:
        the trained model.
    """
    batches = AugmentedBatches(
        images,
        labels,
        np.ones(len(images)),
        setting.batch_size,
        setting.steps_per_epoch,
        seed,
        Augmentation.from_dict(augmentation),
        instance_targets,
    )
    network = instance_unet(seed=seed, **model_settings)
    network.compile(make_optimizer(setting), instance_loss)
    next_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(batches, "epoch", epoch))
    callbacks = [next_epoch, StopOnNaN(), ProgressLines()]
    network.fit(batches, epochs=setting.epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return network
