"""How each layer is written in ONNX. Tensors have their channels first there, (N, C, H, W), and any size.

One decorator gives a layer its rule, which subclasses inherit; `onnx_file.save_onnx` compares the whole network with
Keras afterwards, so that a subclass that computes something else is noticed:

    @emit.register(MyLayer)
    def _(layer, graph, x):
        return graph.op("Relu", x)
"""

import functools
import math

import numpy as np

from ..base.files import UserError
from .backend import keras, layers
from .inputs import ColorInput, ImageNetInput
from .instance_unet import CHANNELS, FLOW, PRIOR_LOGIT, USUAL_RAY, Heads
from .layers import DepthToSpace, ImageMean, SpaceToDepth
from .reduced import BlockMean
from .two_scales import EnlargedImage, ReducedMaps, WeightedMean
from .windows import WindowAttention

HERE_ONLY = "Predict with this package, or build the network of other layers"


def refusal(layer, problem: str) -> UserError:
    """What is raised for a layer that ONNX files of this package cannot have."""
    return UserError(f"{layer.name} ({type(layer).__name__})", problem, HERE_ONLY)


@functools.singledispatch
def emit(layer, graph, *inputs: str) -> str:
    """Add the nodes of a layer to a graph (see `onnx_file.Graph`), given the names of its inputs; return its output.

    Raises:
        UserError: there is no rule for the layer, or for how it is set.
    """
    raise refusal(layer, "is a layer that cannot be exported")


def _values(variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(getattr(variable, "value", variable)).astype(np.float32)


def _per_channel(values) -> np.ndarray:
    """One number per channel, in the shape that is broadcast over (N, C, H, W)."""
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)


def _activated(layer, graph, x: str) -> str:
    """What the activation of a layer makes of a tensor."""
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", type(function).__name__)
    if function is None or name == "linear":
        return x
    if name in ("relu", "sigmoid", "tanh", "softplus"):
        return graph.op(name.capitalize(), x)
    if name == "silu":
        return graph.op("Mul", x, graph.op("Sigmoid", x))
    if name == "mish":
        return graph.op("Mul", x, graph.op("Tanh", graph.op("Softplus", x)))
    if name == "gelu":
        normal = graph.op("Erf", graph.op("Mul", x, graph.constant(np.float32(math.sqrt(0.5)))))
        half = graph.op("Mul", x, graph.constant(np.float32(0.5)))
        return graph.op("Mul", half, graph.op("Add", normal, graph.constant(np.float32(1))))
    raise refusal(layer, f"has the activation {name}, which cannot be exported")


# The image: its grey levels, 0 to 255, as float32.


@emit.register(ColorInput)
def _(layer, graph, image):
    if layer.color_space != "rgb":
        raise refusal(layer, f"converts colours to {layer.color_space}, which cannot be exported")
    if layer.gamma != 1:
        raise refusal(layer, f"raises colours to the power {layer.gamma:g}, which cannot be exported")
    return graph.op("Div", image, graph.constant(np.float32(255)))


@emit.register(ImageNetInput)
def _(layer, graph, image):
    if layer.mode == "tf":
        scaled = graph.op("Div", image, graph.constant(np.float32(127.5)))
        return graph.op("Sub", scaled, graph.constant(np.float32(1)))
    if layer.mode == "caffe":
        mirrored = graph.op("Gather", image, graph.constant(np.array([2, 1, 0])), axis=1)
        return graph.op("Sub", mirrored, graph.constant(_per_channel([103.939, 116.779, 123.68])))
    return image


@emit.register(layers.Rescaling)
def _(layer, graph, x):
    scaled = graph.op("Mul", x, graph.constant(_per_channel(layer.scale)))
    return graph.op("Add", scaled, graph.constant(_per_channel(layer.offset)))


@emit.register(layers.Normalization)
def _(layer, graph, x):
    deviation = np.maximum(np.sqrt(_values(layer.variance)), keras.config.epsilon())
    centred = graph.op("Sub", x, graph.constant(_per_channel(_values(layer.mean))))
    return graph.op("Div", centred, graph.constant(_per_channel(deviation)))


# Convolutions and their like.


def _padding(layer) -> dict:
    """The attribute that pads as Keras does: the odd pixel goes at the end of the image."""
    if layer.padding == "valid":
        return {}
    if {*layer.strides} != {1}:
        return {"auto_pad": "SAME_UPPER"}  # It depends on the size of the image.
    totals = [(size - 1) * rate for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    return {"pads": [total // 2 for total in totals] + [total - total // 2 for total in totals]}


def _convolved(layer, graph, x: str, kernel: np.ndarray, group: int) -> str:
    weights = [graph.constant(kernel)]
    weights += [graph.constant(_values(layer.bias))] if layer.bias is not None else []
    shape = {"strides": [*layer.strides], "dilations": [*layer.dilation_rate], "group": group}
    return _activated(layer, graph, graph.op("Conv", x, *weights, **shape, **_padding(layer)))


@emit.register(layers.Conv2D)
def _(layer, graph, x):
    return _convolved(layer, graph, x, _values(layer.kernel).transpose(3, 2, 0, 1), layer.groups)


@emit.register(layers.DepthwiseConv2D)
def _(layer, graph, x):
    kernel = _values(layer.kernel)
    rows, columns, channels, multiplier = kernel.shape
    kernel = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, rows, columns)
    return _convolved(layer, graph, x, kernel, channels)


@emit.register(layers.Conv2DTranspose)
def _(layer, graph, x):
    is_block = layer.padding == "valid" and layer.kernel_size == layer.strides and {*layer.dilation_rate} == {1}
    if not is_block or layer.output_padding is not None:
        raise refusal(layer, "is a transposed convolution whose blocks overlap, which cannot be exported")
    weights = [graph.constant(_values(layer.kernel).transpose(3, 2, 0, 1))]
    weights += [graph.constant(_values(layer.bias))] if layer.bias is not None else []
    return _activated(layer, graph, graph.op("ConvTranspose", x, *weights, strides=[*layer.strides]))


@emit.register(layers.Dense)
def _(layer, graph, x):
    """Of every pixel: a convolution with a kernel of one pixel."""
    weights = [graph.constant(_values(layer.kernel).T[:, :, None, None])]
    weights += [graph.constant(_values(layer.bias))] if layer.bias is not None else []
    return _activated(layer, graph, graph.op("Conv", x, *weights))


@emit.register(layers.MaxPooling2D)
def _(layer, graph, x):
    padding = {"auto_pad": "SAME_UPPER"} if layer.padding == "same" else {}
    return graph.op("MaxPool", x, kernel_shape=[*layer.pool_size], strides=[*layer.strides], **padding)


@emit.register(layers.ZeroPadding2D)
def _(layer, graph, x):
    (top, bottom), (left, right) = layer.padding
    return graph.op("Pad", x, graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right])))


@emit.register(layers.UpSampling2D)
def _(layer, graph, x):
    scales = graph.constant(np.array([1, 1, *layer.size], np.float32))
    if layer.interpolation == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif layer.interpolation == "bilinear":
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        raise refusal(layer, f"enlarges with the method {layer.interpolation}, which cannot be exported")
    return graph.op("Resize", x, "", scales, **how)


@emit.register(SpaceToDepth)
def _(layer, graph, x):
    return graph.op("SpaceToDepth", x, blocksize=layer.size)


@emit.register(DepthToSpace)
def _(layer, graph, x):
    return graph.op("DepthToSpace", x, blocksize=layer.size, mode="DCR")


# Of every pixel, or of the whole image.


@emit.register(layers.Activation)
def _(layer, graph, x):
    return _activated(layer, graph, x)


@emit.register(layers.Softmax)
def _(layer, graph, x):
    return graph.op("Softmax", x, axis=1)  # Channels come first here.


@emit.register(layers.ReLU)
def _(layer, graph, x):
    if layer.negative_slope or layer.threshold:
        raise refusal(layer, "has a slope or a threshold, which cannot be exported")
    if layer.max_value is None:
        return graph.op("Relu", x)
    limits = (graph.constant(np.float32(value)) for value in (0, layer.max_value))
    return graph.op("Clip", x, *limits)


@emit.register(layers.Dropout)
@emit.register(layers.SpatialDropout2D)
@emit.register(layers.Identity)
def _(layer, graph, x):
    return x  # A prediction drops nothing.


@emit.register(layers.BatchNormalization)
def _(layer, graph, x):
    if layer.axis not in (-1, 3):
        raise refusal(layer, f"normalizes along axis {layer.axis}, which cannot be exported")
    mean, variance = _values(layer.moving_mean), _values(layer.moving_variance)
    scale = _values(layer.gamma) if layer.scale else np.ones_like(mean)
    shift = _values(layer.beta) if layer.center else np.zeros_like(mean)
    weights = (graph.constant(values) for values in (scale, shift, mean, variance))
    return graph.op("BatchNormalization", x, *weights, epsilon=float(layer.epsilon))


@emit.register(layers.LayerNormalization)
def _(layer, graph, x):
    if not {*np.ravel(layer.axis)} <= {-1, 3} or layer.gamma is None or layer.beta is None:
        raise refusal(layer, "normalizes along other axes than that of the channels, which cannot be exported")
    weights = (graph.constant(_values(values)) for values in (layer.gamma, layer.beta))
    last = graph.op("Transpose", x, perm=[0, 2, 3, 1])
    normal = graph.op("LayerNormalization", last, *weights, axis=-1, epsilon=float(layer.epsilon))
    return graph.op("Transpose", normal, perm=[0, 3, 1, 2])


@emit.register(layers.Add)
def _(layer, graph, *inputs):
    return functools.reduce(functools.partial(graph.op, "Add"), inputs)


@emit.register(layers.Multiply)
def _(layer, graph, *inputs):
    return functools.reduce(functools.partial(graph.op, "Mul"), inputs)


@emit.register(layers.Concatenate)
def _(layer, graph, *inputs):
    if layer.axis not in (-1, 3):
        raise refusal(layer, f"joins along axis {layer.axis}, which cannot be exported")
    return graph.op("Concat", *inputs, axis=1)


@emit.register(layers.GlobalAveragePooling2D)
def _(layer, graph, x):
    return graph.op("GlobalAveragePool", x)  # (N, C, 1, 1), also where Keras has (N, C)


@emit.register(layers.Reshape)
def _(layer, graph, x):
    if [*layer.target_shape[:2]] != [1, 1]:
        raise refusal(layer, "changes the shape of its input, which cannot be exported")
    return x  # The means of `GlobalAveragePooling2D`, which have that shape already.


@emit.register(ImageMean)
def _(layer, graph, x):
    return graph.op("Expand", graph.op("GlobalAveragePool", x), graph.op("Shape", x))


@emit.register(Heads)
def _(layer, graph, x):
    def channels(start: int, stop: int) -> str:
        bounds = (graph.constant(np.array([value])) for value in (start, stop, 1))
        return graph.op("Slice", x, *bounds)

    foreground = graph.op("Sigmoid", graph.op("Add", channels(0, 1), graph.constant(np.float32(PRIOR_LOGIT))))
    classes = graph.op("Add", channels(1, 4), graph.constant(_per_channel([0, PRIOR_LOGIT, PRIOR_LOGIT])))
    maps = [foreground, graph.op("Softmax", classes, axis=1), channels(FLOW.start, FLOW.stop)]
    if layer.input.shape[-1] > CHANNELS:
        limits = (graph.constant(np.float32(value)) for value in (-5, 5))
        ratio = graph.op("Exp", graph.op("Clip", channels(CHANNELS, layer.input.shape[-1]), *limits))
        maps.append(graph.op("Mul", ratio, graph.constant(np.float32(USUAL_RAY))))
    return graph.op("Concat", *maps, axis=1)


@emit.register(WindowAttention)
def _(layer, graph, x):
    """As `WindowAttention.call`; the number of windows is computed from the size of the image."""
    side, before, heads = layer.window, layer.before, layer.heads
    channels = layer.kernel_out.shape[0]

    def whole(*values: int) -> str:
        return graph.constant(np.array(values))

    def joined(*parts: str) -> str:
        return graph.op("Concat", *parts, axis=0)

    shape = graph.op("Shape", x)
    batch, sides = (graph.op("Slice", shape, whole(start), whole(stop)) for start, stop in ((0, 1), (2, 4)))
    reached = graph.op("Add", sides, whole(before))
    after = graph.op("Mod", graph.op("Neg", reached), whole(side))
    pads = joined(whole(0, 0, before, before, 0, 0), after)
    rows, columns = graph.split(graph.op("Div", graph.op("Add", reached, after), whole(side)), 2)

    def windows(image: str, depth: int) -> str:
        """(N, depth, H, W) to (N * windows, side * side, depth)."""
        parts = joined(batch, whole(depth), rows, whole(side), columns, whole(side))
        parted = graph.op("Reshape", graph.op("Pad", image, pads), parts)
        ordered = graph.op("Transpose", parted, perm=[0, 2, 4, 3, 5, 1])
        return graph.op("Reshape", ordered, whole(-1, side**2, depth))

    mixed = graph.op("MatMul", windows(x, channels), graph.constant(_values(layer.kernel_in)))
    mixed = graph.op("Add", mixed, graph.constant(_values(layer.bias_in)))
    mixed = graph.op("Reshape", mixed, whole(-1, side**2, 3, heads, channels // heads))
    thirds = graph.split(graph.op("Transpose", mixed, perm=[2, 0, 3, 1, 4]), 3)
    query, key, value = (graph.op("Squeeze", third, whole(0)) for third in thirds)
    query = graph.op("Mul", query, graph.constant(np.float32((channels // heads) ** -0.5)))
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = graph.op("Add", scores, graph.constant(_values(layer.position_bias())))
    ones = graph.op("Expand", graph.constant(np.float32(1)), joined(batch, whole(1), sides))
    inside = graph.op("Reshape", windows(ones, 1), whole(-1, 1, 1, side**2))
    outside = graph.op("Sub", inside, graph.constant(np.float32(1)))
    scores = graph.op("Add", scores, graph.op("Mul", outside, graph.constant(np.float32(1e4))))
    seen = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    seen = graph.op("Transpose", seen, perm=[0, 2, 1, 3])
    seen = graph.op("Reshape", seen, joined(batch, rows, columns, whole(side, side, channels)))
    seen = graph.op("Transpose", seen, perm=[0, 5, 1, 3, 2, 4])
    padded = graph.op("Mul", joined(rows, columns), whole(side))
    seen = graph.op("Reshape", seen, joined(batch, whole(channels), padded))
    seen = graph.op("Slice", seen, whole(before, before), reached, whole(2, 3))
    kernel = _values(layer.kernel_out).T[:, :, None, None]
    return graph.op("Conv", seen, graph.constant(kernel), graph.constant(_values(layer.bias_out)))


@emit.register(BlockMean)
def _(layer, graph, image):
    blocks = [layer.size, layer.size]
    return graph.op("Round", graph.op("AveragePool", image, kernel_shape=blocks, strides=blocks))


@emit.register(EnlargedImage)
def _(layer, graph, image):
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    how = {"mode": "cubic", "cubic_coeff_a": -0.5, "coordinate_transformation_mode": "half_pixel"}
    enlarged = graph.op("Resize", image, "", scales, **how)
    limits = (graph.constant(np.float32(value)) for value in (0, 255))
    return graph.op("Clip", graph.op("Round", enlarged), *limits)


@emit.register(ReducedMaps)
def _(layer, graph, maps):
    pooled = graph.op("AveragePool", maps, kernel_shape=[*layer.pool_size], strides=[*layer.strides])
    return graph.op("Mul", pooled, graph.constant(_per_channel(layer.scale(layer.input.shape[-1]))))


@emit.register(WeightedMean)
def _(layer, graph, first, second):
    shares = (graph.constant(np.float32(share)) for share in (1 - layer.share, layer.share))
    return graph.op("Add", *(graph.op("Mul", *each) for each in zip((first, second), shares, strict=True)))
