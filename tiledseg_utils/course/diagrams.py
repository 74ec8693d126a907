"""Networks as pictures, drawn from their layers."""

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path

from ..models.backend import keras, layers
from ..models.cpu import UpConvolution
from ..models.layers import ImageMean
from ..models.windows import WindowAttention

COLORS = {
    "convolution": "#0072B2",
    "1x1 convolution": "#56B4E9",
    "dilated convolution": "#009E73",
    "depth-wise convolution": "#CC79A7",
    "attention in windows": "#D55E00",
    "gate": "#E69F00",
    "mean of the tile": "#000000",
}


def _kind(layer) -> str | None:
    """What a layer is drawn as; None for those that do little."""
    match layer:
        case UpConvolution():
            return None
        case layers.DepthwiseConv2D():
            return "depth-wise convolution"
        case layers.Conv2D() if max(layer.dilation_rate) > 1:
            return "dilated convolution"
        case layers.Conv2D() if max(layer.kernel_size) > 1:
            return "convolution"
        case layers.Conv2D() | layers.Dense():
            return "1x1 convolution"
        case WindowAttention():
            return "attention in windows"
        case layers.Multiply():
            return "gate"
        case ImageMean() | layers.GlobalAveragePooling2D():
            return "mean of the tile"
    return None


class _Network:
    """The layers of a functional model, each after those that it needs, and what feeds them."""

    def __init__(self, model: keras.Model):
        makers = {id(tensor): layer for layer in model.layers for tensor in keras.tree.flatten(layer.output)}
        self.inputs = {
            layer: [makers[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
            for layer in model.layers
            if not isinstance(layer, layers.InputLayer)
        }
        depths = {}
        for layer in model.layers:
            depths[layer] = 1 + max((depths[source] for source in self.inputs.get(layer, [])), default=0)
        # The longest way first, then what joins it: side paths come right before the place where they join.
        self.layers, waiting = {}, [makers[id(keras.tree.flatten(model.output)[0])]]
        while waiting:
            missing = [source for source in self.inputs.get(waiting[-1], []) if source not in self.layers]
            if missing:
                waiting.append(max(missing, key=depths.get))
            else:
                self.layers[waiting.pop()] = None

    def sources(self, layer, stops) -> Iterator:
        """The nearest layers before `layer` that are in `stops`."""
        for source in self.inputs.get(layer, []):
            if source in stops:
                yield source
            else:
                yield from self.sources(source, stops)


def network_diagram(model: keras.Model, size: int) -> Figure:
    """The layers with weights, from the image on the left to the probability on the right.

    Each is a block, as high as its picture and wider for more channels; parallel branches stand one behind the other.
    Arcs are connections that leave out what stands between.

    Args:
        model: functional, on images of any size.
        size: side of the input, pixels, a multiple of the network's alignment.
    """
    network = _Network(model)
    outputs = keras.Model(model.inputs, [layer.output for layer in network.layers])
    shapes = outputs.compute_output_shape((1, size, size, model.inputs[0].shape[-1]))
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    ax = figure.subplots()
    x, side, count, kinds, tops, arcs = 0.0, 1.0, 0, set(), {}, []
    for layer, shape in zip(network.layers, shapes, strict=True):
        kind, height = _kind(layer), shape[1] / size if len(shape) == 4 else 1 / size
        if not kind and not isinstance(layer, layers.Add | layers.Concatenate | layers.InputLayer):
            continue
        arcs += [(source, layer) for source in network.sources(layer, tops) if tops[source][2] < count]
        width = 0.0
        if kind:
            x, side, width = x + 0.05 + 0.3 * (side != height), height, 0.04 * shape[-1] ** 0.5
            ax.add_patch(Rectangle((x, -height / 2), width, height, color=COLORS[kind], linewidth=0))
            count, kinds = count + 1, kinds | {kind}
        tops[layer] = x + width / 2 * bool(kind), height / 2, count
        x += width
    for source, target in dict.fromkeys(arcs):
        (start, low, _), (end, high, _) = tops[source], tops[target]
        bend = max(low, high) + 0.06 + 1.1 * (end - start) / x
        path = Path([(start, low), (start, bend), (end, bend), (end, high)], [Path.MOVETO, *[Path.CURVE4] * 3])
        ax.add_patch(PathPatch(path, fill=False, edgecolor="0.55", linewidth=0.8))
    ax.set(xlim=(-0.1, x + 0.1), ylim=(-0.52, 1.3))
    ax.set_axis_off()
    handles = [Patch(color=color, label=kind) for kind, color in COLORS.items() if kind in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
