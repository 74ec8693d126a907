"""From an image of any size to a foreground probability map of the same size: in tiles, in one piece, or reduced.

Beside its own functions, this module has those that scripts need along with them: `load_model`, `plan_prediction`,
`predict_batches` and, for images larger than memory, `predict_file`.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np

from ..base.files import UserError
from ..data.channels import each_channel
from ..data.normalization import normalize
from ..data.streaming import Source
from ..models.backend import keras
from ..models.inputs import channels_of, normalization_of
from ..models.model_files import load_model as load_model
from ..models.receptive_field import receptive_field
from ..models.reduced import network_within
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.schema import check_value
from ..tiles.planning import Plan
from ..tiles.tiling import pad_to, reduce_image
from .files import predict_file as predict_file
from .forward import as_maps, forward_pass
from .forward import predict_batches as predict_batches
from .tiled import open_image, plan_prediction, predict_maps, stitch_rows, with_changes


def predict_tiled(
    model: keras.Model, image: np.ndarray, setting: PredictionSetting | None = None, **changes
) -> np.ndarray:
    """Tiled prediction at native resolution, for an image of any size, also smaller than a tile.

    Mode "exact" gives what `predict_whole` gives, up to the rounding of float32, from tiles with a halo as large as the
    network's receptive field asks for (`receptive_field.required_halo`). Mode "blend" takes tiles with less overlap,
    which is cheaper, and hides by a gradual passage from tile to tile that they disagree. Mode "auto" is "exact" where
    the network and `tile_size` allow it, and else "blend", with an overlap that fits the network and the tile.

    Args:
        model: (N, h, w, 3) to (N, h, w, C), for any h and w that are multiples of its alignment.
        image: (H, W, 3) uint8 RGB, or what else `tiled.open_image` takes; the channels that the model learnt from as
            they are stored, (H, W, C), if it did not learn from RGB.
        setting: as a preset has it; None stands for the defaults, mode "exact" with tiles chosen within 700 MiB.
        changes: other values for single fields of the setting:
            mode: "exact", "blend" or "auto".
            tile_size: side of a tile, pixels; a multiple of the network's alignment, 2^(levels-1) for a U-Net. 0
                chooses tiles for this image, not always square, with which the network has least to do within
                `memory_mib`. A fixed size compiles one program for all images.
            overlap: pixels that neighbouring tiles share in mode "blend", a multiple of the alignment, at most half of
                a tile.
            test_time_augmentation: average over the eight symmetries of the square, in eight times the time
                (`forward.with_test_time_augmentation`).
            batch_size: tiles per batch and device.
            memory_mib: what the activations of a batch may take, MiB, when tile_size is 0; the rows in memory and the
                compiled program come on top.

    Returns:
        (H, W) float32 probability; (H, W, C) from a model of C > 1 channels.

    Raises:
        UserError: an argument is out of range, the tile is smaller than twice the halo (names the smallest that works),
            no halo makes the network exact (names the layer), or the network's input size is fixed to another.

    Example:
        from tiledseg_utils.data.pictures import read_image
        from tiledseg_utils.prediction.inference import load_model, predict_tiled
        probability = predict_tiled(load_model("model.keras"), read_image("slide.tif"), memory_mib=300)
    """
    setting = with_changes(setting, changes)
    return predict_plan(model, image, lambda shape: plan_prediction(model, shape, setting), setting)


def predict_plan(
    model: keras.Model,
    image: np.ndarray | Source,
    plan: Plan | Callable[[tuple[int, int]], Plan],
    setting: PredictionSetting | None = None,
) -> np.ndarray:
    """Predict an image with a plan of your own, or a function from its shape to one; returns as `predict_tiled`.

    Of the setting, `test_time_augmentation` and `batch_size` count. A source that is given stays open; a file is
    closed again.
    """
    if not isinstance(image, Source):
        with open_image(model, image) as source:
            return predict_plan(model, source, plan, setting)
    plan = plan if isinstance(plan, Plan) else plan(image.shape)
    channels = model.output_shape[-1]
    result = np.empty(image.shape if channels == 1 else (*image.shape, channels), np.float32)
    with contextlib.closing(predict_maps(model, image, plan, setting or PredictionSetting())) as maps:
        for start, band in stitch_rows(maps, plan, image.shape, channels=channels):
            result[start : start + len(band)] = band
    return result


def predict_whole(model: keras.Model, image: np.ndarray, test_time_augmentation: bool = False) -> np.ndarray:
    """Predict the whole image at native size in one piece: what tiled prediction is measured against.

    The image is extended by its reflection to the next multiple of the network's alignment, as in `predict_tiled`.
    Memory grows with the image (`receptive_field` says by how many bytes per pixel).

    Args:
        model: (N, H, W, 3) to (N, H, W, C).
        image: (H, W, 3) uint8 RGB.
        test_time_augmentation: average over the eight symmetries of the square (`forward.with_test_time_augmentation`).

    Returns:
        (H, W) float32 probability; (H, W, C) from a model of C > 1 channels.
    """
    alignment = receptive_field(model).alignment
    padded = pad_to(as_trained(model, image), *(-(-length // alignment) * alignment for length in image.shape[:2]))
    return _predict_one(model, padded, test_time_augmentation)[: image.shape[0], : image.shape[1]]


def predict_reduced(
    model: keras.Model, image: np.ndarray, size: int, test_time_augmentation: bool = False
) -> np.ndarray:
    """Non-tiled prediction: reduce the image to the size the network was trained at, predict, enlarge the result.

    This is how the published experiment predicts without tiles, but with the training colours, which the model file
    carries. Small objects lose most of their pixels on the way.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: side of the square that the network sees, pixels.
        test_time_augmentation: average over the eight symmetries of the square (`forward.with_test_time_augmentation`).

    Returns:
        (H, W) float32 probability; (H, W, C) from a model of C > 1 channels.
    """
    network = network_within(model)  # What a reduced model sees is smaller already, by its own factor.
    probability = _predict_one(network, reduce_image(as_trained(model, image), size), test_time_augmentation)
    return _enlarge(probability, image)


def as_trained(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """A whole uint8 RGB image in the colours that the network knows: normalized as its training images were.

    Raises:
        UserError: the network takes other channels, which are never normalized, than the image has.
    """
    channels = channels_of(model)
    if channels is not None and (image.shape[2:] != (len(channels),) or image.dtype != channels.dtype):
        problem = f"is {image.dtype} of shape {image.shape}"
        raise UserError("image", problem, f"Give (H, W, {len(channels)}) {channels.dtype}, as the model learnt from")
    if channels is not None:
        return image
    return normalize(image, normalization_of(model)) if image.dtype == np.uint8 else image


def _enlarge(probability: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A map, (h, w) or (h, w, C), in the size of an image."""
    resize = partial(cv2.resize, dsize=image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return each_channel(resize, probability)


def _predict_one(model: keras.Model, image: np.ndarray, test_time_augmentation: bool) -> np.ndarray:
    """What a model predicts for one image of a size that it takes."""
    return as_maps(forward_pass(model, test_time_augmentation)(image[None]))[0]


def multi_scale(predict: Callable[[np.ndarray], np.ndarray], scales: Sequence[float]) -> Callable:
    """The mean of the predictions for an image in several sizes, each brought back to the image's own size.

    A network only sees as far as its layers let it. Reduced, a cell shows more of its surroundings and looks like a
    smaller one; in full size it shows its outline (multi-scale testing: Simonyan & Zisserman, ICLR 2015,
    arXiv:1409.1556, section 3.2).

    Args:
        predict: from an image (H, W, 3) uint8 RGB to its probability (H, W) float32, or (H, W, C), for any H and W.
        scales: of the sides of the image, 0.1 to 4; 1 is the image itself.

    Raises:
        UserError: there is no scale, or one is out of range.
    """
    check_value(Parameters, "scales", list(scales))

    def averaged(image: np.ndarray) -> np.ndarray:
        total = 0.0
        for scale in scales:
            if scale == 1:
                total += predict(image)
            else:
                size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
                method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
                resized = each_channel(partial(cv2.resize, dsize=size, interpolation=method), image)
                total += _enlarge(predict(resized), image)
        return total / np.float32(len(scales))

    return averaged
