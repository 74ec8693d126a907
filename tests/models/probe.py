"""Measures with a network itself what `receptive_field.required_halo` derives from rules."""

import bisect
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from tiledseg_utils.base.files import UserError
from tiledseg_utils.models.inputs import ColorInput, ImageNetInput
from tiledseg_utils.models.receptive_field import _POINTWISE_OPERATIONS, POINTWISE, reach, receptive_field


def _sum(*inputs):
    """Stands for any point-wise operation: the sum of its tensors, without its constants."""
    tensors = [value for value in keras.tree.flatten(inputs) if isinstance(value, keras.KerasTensor)]
    return functools.reduce(keras.ops.add, tensors)


_TO_PASS_ON = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax, layers.Rescaling),
    *(layers.Normalization, layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization),
    *(ColorInput, ImageNetInput),
)


class _PassOn(keras.Layer):
    def call(self, inputs, mask=None):
        return inputs


def _linear(layer) -> Callable:
    """The stand-in of a layer or operation in a network that only adds up."""
    if not isinstance(layer, keras.Layer):
        name = type(layer).__name__
        return _sum if name in _POINTWISE_OPERATIONS and name != "Concatenate" else layer
    if isinstance(layer, _TO_PASS_ON) and reach(layer) == POINTWISE:
        return _PassOn(name=layer.name)
    if isinstance(layer, layers.Multiply | layers.Subtract | layers.Minimum):
        return layers.Add(name=layer.name)
    config = {**layer.get_config(), "dtype": "float32"}
    # Weights are set later; random initial ones would only take long to compile.
    config |= {key: "zeros" for key in config if key.endswith("_initializer")}
    config |= {key: "linear" for key in config if key == "activation"}
    return type(layer).from_config(config)


def _graph_of(model: keras.Model) -> keras.Model:
    """The functional model itself, or the one in a Sequential model."""
    return getattr(model, "_functional", model)


def _positive_twin(model: keras.Model) -> keras.Model:
    """A linear model of the same layers with positive kernels, for images of any size."""
    image = keras.Input((None, None, model.inputs[0].shape[-1]), dtype="float32")
    inputs = keras.tree.map_structure(lambda _: image, _graph_of(model).input)
    twin = keras.models.clone_model(_graph_of(model), inputs, _linear, recursive=True)
    for weight in twin.weights:
        fan_in = math.prod(weight.shape[: 2 if "depthwise" in weight.name else -1])
        value = 1 / fan_in if len(weight.shape) > 1 else float(weight.name in ("gamma", "moving_variance"))
        weight.assign(np.full(weight.shape, value, np.float32))
    return twin


def probe_halo(model: keras.Model) -> int:
    """Measure what `required_halo` derives: how near to a core a change may be that leaves the core as it is.

    A twin of the model, in which all sums have positive terms so that nothing cancels, sees an image that is zero but
    for all pixels from some distance on, before or after the core. The core then is exactly zero, or it sees them.

    Only the alignment is taken from the rules. Convolutions, pooling, up-sampling, padding and merging are measured;
    activations and normalisation by constants or along channels are left out as point-wise. A layer that mixes the
    whole tile is seen as such if it accepts any size. Not seen is what has no pixel as its cause: that a layer sees
    where a tensor ends that was cropped inside the model, for which `required_halo` can be larger.

    Returns:
        pixels, a multiple of the alignment.

    Raises:
        UserError: the core sees the bright part at all distances tried, up to eight times the derived halo; and as
            `receptive_field`.
    """
    field = receptive_field(model)
    block, channels = field.alignment, model.inputs[0].shape[-1]
    width = block * math.ceil(32 / block)

    def sees(distance: int, margin: int, axis: int, after: bool) -> bool:
        position = np.arange(-margin, block + margin)  # 0 is the first pixel of the core.
        image = np.zeros((1, len(position), width, channels), np.float32)
        # A variance has room below 1e38, and over a hundred convolutions may each take a third before 1e-38 is reached.
        image[:, (position - block if after else -1 - position) >= distance] = 1e15
        outputs = twin.predict_on_batch(image if axis == 1 else image.swapaxes(1, 2))
        return any(np.take(output, range(margin, margin + block), axis).any() for output in keras.tree.flatten(outputs))

    def least(axis: int, after: bool) -> int:
        for factor in (2, 4, 8):
            margin = block * math.ceil(factor * max(field.radius, field.halo) / block + 1)
            distances = range(0, margin, block)
            index = bisect.bisect_left(
                distances, True, key=lambda far, margin=margin: not sees(far, margin, axis, after)
            )
            if index < len(distances):
                return distances[index]
        raise UserError(
            f"model {model.name}",
            f"sees changes {margin - block} pixels away",
            "A layer probably mixes the whole tile; see receptive_field(model).non_local_layers",
        )

    with keras.device("cpu"):  # Fast convolutions of a GPU mix neighbours and cancel them again, up to rounding.
        twin = _positive_twin(model)
        return max(least(axis, after) for axis in (1, 2) for after in (False, True))
