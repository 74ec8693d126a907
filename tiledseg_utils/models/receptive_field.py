"""From the layer graph of a Keras model: what tiles need so that a tiled prediction equals that of the whole image.

Every layer with a local effect reads its input as some convolution would, so four numbers per axis, a `Window`,
describe it. Intervals of pixels are followed through these windows from the output back to the image (Araujo, Norris
and Sim, Distill 2019, doi:10.23915/distill.00021), here with up-sampling, and for blocks of pixels: a network that
pools by 2 four times treats pixels by their place in blocks of 16, and tiles that keep to these blocks need less than
the worst pixel does.

The tests measure with networks themselves what is derived here (tests/models/probe.py).
"""

import functools
import math
import weakref
from collections import namedtuple
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..base.files import UserError
from .backend import keras, layers
from .foreground import Foreground
from .inputs import ChannelInput, ColorInput, ImageNetInput
from .instance_unet import Heads
from .layers import DepthToSpace, ImageMean, SpaceToDepth
from .reduced import BlockMean
from .two_scales import EnlargedImage, WeightedMean
from .windows import WindowAttention


@dataclass(frozen=True)
class Window:
    """How a layer reads its input along one axis, as a general convolution; all in pixels.

    The input is spread out (`up` - 1 gaps between neighbours) and padded; a window of `size` moves over it by `down`.

    Attributes:
        size: of the window, from the first to the last tap; a kernel of k taps with dilation d has (k - 1) d + 1.
        up: factor by which the output is larger, as in a transposed convolution.
        down: factor by which the output is smaller: the stride.
        padding: "valid", "same", or (before, after) of the spread-out input, where negative numbers crop.
    """

    size: int = 1
    up: int = 1
    down: int = 1
    padding: str | tuple[int, int] = "valid"

    def pads(self, length: int) -> tuple[int, int]:
        """Padding before and after an input of `length`; "same" puts the odd pixel after it."""
        if self.padding == "same":
            total = max((-(-length // self.down) - 1) * self.down + self.size - length, 0)
            return total // 2, total - total // 2
        return (0, 0) if self.padding == "valid" else self.padding

    def length(self, length: int) -> int:
        """Output length for an input of `length`."""
        return ((length - 1) * self.up + 1 + sum(self.pads(length)) - self.size) // self.down + 1

    def reads(self, low: int, high: int, length: int) -> tuple[int, int]:
        """First and last input pixel that the output pixels low..high depend on; outside the input, too."""
        before = self.pads(length)[0]
        return -((before - low * self.down) // self.up), (high * self.down - before + self.size - 1) // self.up


POINTWISE = (Window(), Window())

# Classes of keras.ops that a functional graph may contain, by name because they are not public.
_POINTWISE_OPERATIONS = (
    *("Absolute", "Add", "Cast", "Clip", "Concatenate", "Divide", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSilu"),
    *("LeakyRelu", "Log", "Maximum", "Minimum", "Multiply", "Negative", "Power", "Relu", "Relu6", "Sigmoid", "Silu"),
    *("Softmax", "Softplus", "Sqrt", "Square", "Subtract", "Tanh", "TrueDivide"),
)


@functools.singledispatch
def reach(layer) -> tuple[Window, Window] | str:
    """The rule of a layer: what it reads along rows and along columns, or why no tile can give it what it needs.

    One decorator gives a new layer its rule, which subclasses inherit:

        @reach.register(MyLayer)
        def _(layer):
            return Window(3, padding="same"), Window(3, padding="same")

    Returns:
        a Window for rows and one for columns (or, for each, several in a row); or, for an non-local layer, the end of a
        sentence that starts with its name.

    Raises:
        UserError: no rule is known.
    """
    if type(layer).__name__ in _POINTWISE_OPERATIONS and not isinstance(layer, keras.Layer):
        return _along_channels(layer)
    kind = type(layer).__name__
    remedy = f"Register a rule for it, @receptive_field.reach.register({kind})"
    raise UserError(f"{layer.name} ({kind})", "is a layer that has no rule for how far it looks", remedy)


def _along_channels(layer):
    axis = getattr(layer, "axis", -1)
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    return POINTWISE if {*axes} <= {-1, 3} else f"works along axis {axes}, hence across or by position in the tile"


for _class in (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax),
    *(layers.Dropout, layers.SpatialDropout2D, layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise),
    *(layers.BatchNormalization, layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization),
    *(layers.Normalization, layers.Rescaling, layers.Identity, layers.Dense, layers.ActivityRegularization),
    *(ColorInput, ImageNetInput, ChannelInput, Heads, Foreground, WeightedMean),
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum, layers.Concatenate),
):
    reach.register(_class, _along_channels)

for _reason, *_classes in (
    ("takes its mean and variance from the whole tile", layers.GroupNormalization),
    ("reduces the whole tile to one value", layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, ImageMean),
    ("lets all pixels see the whole tile", layers.Attention, layers.MultiHeadAttention, layers.GroupQueryAttention),
    ("gives up the rows and columns of the image", layers.Flatten, layers.Reshape),
    ("has a fixed output size", layers.Resizing, layers.AdaptiveAveragePooling2D, layers.AdaptiveMaxPooling2D),
):
    for _class in _classes:
        reach.register(_class, lambda layer, reason=_reason: reason)


@reach.register(layers.PReLU)
def _(layer):
    shared = {1, 2} <= {*(layer.shared_axes or ())}
    return POINTWISE if shared else "has its own slope for every position in the tile (no shared_axes=[1, 2])"


@reach.register(layers.Conv2D)
@reach.register(layers.DepthwiseConv2D)
@reach.register(layers.SeparableConv2D)
def _(layer):
    axes = zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    return tuple(Window((size - 1) * rate + 1, down=stride, padding=layer.padding) for size, stride, rate in axes)


@reach.register(layers.MaxPooling2D)
@reach.register(layers.AveragePooling2D)
def _(layer):
    axes = zip(layer.pool_size, layer.strides, strict=True)
    return tuple(Window(size, down=stride, padding=layer.padding) for size, stride in axes)


@reach.register(layers.Conv2DTranspose)
def _(layer):
    def window(axis: int) -> Window:
        stride, extra = layer.strides[axis], layer.output_padding and layer.output_padding[axis]
        size = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
        if layer.padding == "valid":  # Everything that the input touches, and gaps to the last stride's end.
            extra = max(stride - size, 0) if extra is None else extra
            return Window(size, up=stride, padding=(size - 1, size - 1 + extra))
        # Of the total that makes the output `stride` times as large, the odd pixel goes before the input.
        total = size - 2 + (stride if extra is None else size % 2 + extra)
        before = min(total - total // 2, size - 1)
        return Window(size, up=stride, padding=(before, total - before))

    return window(0), window(1)


@reach.register(layers.UpSampling2D)
def _(layer):
    # An interpolation reads the input pixels that are less than this far from the place of an output pixel.
    radius = {"nearest": 0.5, "bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}[layer.interpolation]

    def window(factor: int) -> Window:
        # Half-pixel centres: the first output pixel lies (factor - 1) / 2 output pixels before the first input pixel.
        after = math.ceil((factor - 1) / 2 + radius * factor) - 1
        return Window(2 * after + 2 - factor, up=factor, padding=(after, after))

    return window(layer.size[0]), window(layer.size[1])


@reach.register(WindowAttention)
def _(layer):
    # Folding each window into one pixel and unfolding it again lets all its pixels see each other. The first window
    # starts before the image.
    size, before = layer.window, layer.before
    after = -before % size
    fold = Window(size, down=size, padding=(before, after))
    unfold = Window(size, up=size, padding=(size - 1 - before, size - 1 - after))
    return ((fold, unfold),) * 2


@reach.register(DepthToSpace)
def _(layer):
    return (Window(layer.size, up=layer.size, padding=(layer.size - 1, layer.size - 1)),) * 2


for _class in (SpaceToDepth, BlockMean):
    reach.register(_class, lambda layer: (Window(layer.size, down=layer.size),) * 2)
# An output pixel lies between the second and the third of four pixels.
reach.register(EnlargedImage, lambda layer: (Window(8, up=2, padding=(4, 4)),) * 2)
reach.register(layers.ZeroPadding2D, lambda layer: tuple(Window(padding=pads) for pads in layer.padding))
reach.register(layers.Cropping2D, lambda layer: tuple(Window(padding=(-low, -high)) for low, high in layer.cropping))


@dataclass(frozen=True)
class ReceptiveField:
    """What tiles must be like for a model, in pixels, the same for rows and columns.

    Attributes:
        alignment: tile origins, tile sizes and core edges must be multiples of it (for d poolings by 2, it is 2^d).
        halo: the smallest multiple of `alignment` by which a tile must exceed its core on every side, with real
            pixels, for the core to be predicted as in the whole image. At the border of the image, tiles end there.
        radius: how far an output pixel looks to one side at most, wherever it lies in its block.
        bytes_per_pixel: memory of the tensors alive at the worst moment of a forward pass, per pixel of input.
        non_local_layers: one sentence per layer that no halo makes exact; the other fields treat these as point-wise.
    """

    alignment: int
    halo: int
    radius: int
    bytes_per_pixel: int
    non_local_layers: tuple[str, ...]


# What a layer does in a forward pass, and the numbers of the tensors that it reads and makes. The image is tensor 0.
_Step = namedtuple("_Step", "windows sources targets")

_KNOWN: weakref.WeakKeyDictionary[keras.Model, ReceptiveField] = weakref.WeakKeyDictionary()


def _hull(intervals):
    lows, highs = zip(*intervals, strict=True)
    return min(lows), max(highs)


class _Graph:
    """The forward pass of a functional model, its nested models unrolled."""

    def __init__(self, model: keras.Model):
        where = f"model {model.name}"
        if not getattr(model, "inputs", None):
            raise UserError(where, "has no layer graph", "Build it as a functional or Sequential model with an Input")
        if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
            raise UserError(where, "does not take one batch of images", "Give a model with one (N, H, W, C) input")
        self.steps: list[_Step] = []
        self.tensors = [model.inputs[0]]
        self.non_local_layers: dict[str, None] = {}  # In order, and once for a layer that is used twice.
        self.outputs = self._run(model, [0])

    def _run(self, model: keras.Model, inputs: list[int]) -> list[int]:
        """Append the steps of a model in Keras' order of execution; return the numbers of its output tensors."""
        graph = getattr(model, "_functional", model)  # A Sequential model has a functional one inside.
        numbers = dict(zip(map(id, graph.inputs), inputs, strict=True))
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if not node.is_input:
                    targets = self._step(node, [numbers[id(tensor)] for tensor in node.input_tensors])
                    numbers.update(zip(map(id, node.outputs), targets, strict=True))
        return [numbers[id(tensor)] for tensor in graph.outputs]

    def _step(self, node, sources: list[int]) -> list[int]:
        layer = node.operation
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            return self._run(layer, sources)
        if getattr(layer, "data_format", None) == "channels_first":
            raise UserError(layer.name, "has its channels first", "Build the model with data_format channels_last")
        rule = reach(layer)
        if isinstance(rule, str):
            self.non_local_layers[f"{layer.name} ({type(layer).__name__}) {rule}"] = None
            rule = POINTWISE
        chains = [windows if isinstance(windows, tuple) else (windows,) for windows in rule]
        for windows in zip(*chains, strict=True):
            targets = [*range(len(self.tensors), len(self.tensors) + len(node.outputs))]
            self.tensors += node.outputs
            self.steps.append(_Step(windows, sources, targets))
            sources = targets
        return targets

    def sizes(self, axis: int, length: int) -> list[tuple[Fraction, int]]:
        """The scale of every tensor relative to an image of `length`, and its own length."""
        sizes = [(Fraction(1), length)]
        for step in self.steps:
            scale, size = max(sizes[source] for source in step.sources)  # A smaller operand is broadcast.
            window = step.windows[axis]
            sizes += [(scale * Fraction(window.up, window.down), window.length(size))] * len(step.targets)
        return sizes

    def needs(self, axis: int, sizes: list, low: int, high: int) -> dict[int, tuple[int, int]]:
        """The first and last pixel that the output pixels low..high depend on, of every tensor that they depend on."""
        needs = dict.fromkeys(self.outputs, (low, high))
        for step in reversed(self.steps):
            wanted = [needs[target] for target in step.targets if target in needs]
            for source in step.sources if wanted else ():
                read = step.windows[axis].reads(*_hull(wanted), sizes[source][1])
                if read[0] <= read[1]:  # A transposed convolution with gaps may read nothing.
                    needs[source] = _hull([read, needs.get(source, read)])
        return needs

    def peak_bytes(self, areas: list[Fraction]) -> int:
        """The most bytes in use at once, per pixel: from the step that makes a tensor to the last that reads it."""
        last = {source: number for number, step in enumerate(self.steps) for source in step.sources}
        last |= dict.fromkeys(self.outputs, len(self.steps))
        alive, peak = {0}, 0
        for number, step in enumerate(self.steps):
            alive.update(step.targets)
            peak = max(peak, sum(_bytes_per_pixel(self.tensors[tensor]) * areas[tensor] for tensor in alive))
            alive = {tensor for tensor in alive if last.get(tensor, -1) > number}
        return math.ceil(peak)


def _bytes_per_pixel(tensor: keras.KerasTensor) -> int:
    """The bytes of all channels of a pixel; 0 for the result of a global pooling."""
    if len(tensor.shape) != 4 or tensor.shape[1:3] == (1, 1):
        return 0
    return tensor.shape[-1] * np.asarray(keras.ops.zeros((), tensor.dtype)).itemsize


def receptive_field(model: keras.Model) -> ReceptiveField:
    """What tiles need, derived from the layers of a functional or Sequential model with any number of outputs.

    The result is remembered for as long as the model lives, so that asking again costs nothing.

    Raises:
        UserError: the model has no layer graph, several inputs, channels first, an output that is not as large as the
            image, or a layer without a rule.

    Example:
        from tiledseg_utils.models.model_files import load_model
        from tiledseg_utils.models.receptive_field import receptive_field
        field = receptive_field(load_model("model.keras"))
        print(field.halo, field.alignment)
    """
    if model not in _KNOWN:
        _KNOWN[model] = _derive(model)
    return _KNOWN[model]


def _derive(model: keras.Model) -> ReceptiveField:
    graph = _Graph(model)
    # The scales do not depend on the length; the alignment follows from them, and with it a length that fits.
    scales = [[scale for scale, _ in graph.sizes(axis, 1)] for axis in (0, 1)]
    block = math.lcm(*(scale.denominator for scale in scales[0] + scales[1]))
    halo = radius = 0
    for axis in (0, 1):
        sizes = graph.sizes(axis, block)
        if any(sizes[output] != (1, block) for output in graph.outputs):
            remedy = 'Pad its convolutions ("same") and up-sample as often as it pools'
            raise UserError(f"model {model.name}", "has an output that is not as large as the image", remedy)
        for tensor, (low, high) in graph.needs(axis, sizes, 0, block - 1).items():
            # Not only of the image: where a tensor was cropped on its way, a layer also sees its new border.
            scale, length = sizes[tensor]
            halo = max(halo, -low / scale, (high - length + 1) / scale)
        for pixel in range(block):
            low, high = graph.needs(axis, sizes, pixel, pixel).get(0, (pixel, pixel))
            radius = max(radius, pixel - low, high - pixel)
    areas = [rows * columns for rows, columns in zip(*scales, strict=True)]
    halo = block * math.ceil(halo / block)
    return ReceptiveField(block, halo, radius, graph.peak_bytes(areas), tuple(graph.non_local_layers))


def required_halo(model: keras.Model) -> int:
    """The halo in pixels with which tiles reproduce the prediction of the whole image.

    Raises:
        UserError: no halo does, because of the layers that it names; and as `receptive_field`.
    """
    field = receptive_field(model)
    if field.non_local_layers:
        problem = f"no tiling can equal the prediction of the whole image: {'; '.join(field.non_local_layers)}"
        remedy = "Blend overlapping tiles instead, or build the model without these layers"
        raise UserError(f"model {model.name}", problem, remedy)
    return field.halo
