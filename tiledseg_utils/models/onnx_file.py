"""Networks as ONNX files, which other programs open: any size of image in, and no Keras needed.

Keras' own export hands a network of JAX to jax2onnx. That brings some forty packages, and cannot leave the size of the
image open, since JAX does not know that tiles are multiples of the alignment. So the layers are written one by one here
(`onnx_layers`), with the tools of the `onnx` package.
"""

import importlib.util
from pathlib import Path

import numpy as np

from ..base.files import UserError
from ..base.version import VERSION
from .backend import keras
from .model_files import name_of
from .onnx_layers import emit
from .receptive_field import receptive_field

OPSET, IR_VERSION = 17, 8
"""Of 2022, so that programs that come with an older runtime open the file, too."""

TOLERANCE = 1e-4
"""The largest difference from Keras with which a file is written: of any number in the output, relative above 1."""


class Graph:
    """The nodes of an ONNX graph, and its weights. Tensors go by their names."""

    def __init__(self):
        import onnx

        self.helper, self.from_array = onnx.helper, onnx.numpy_helper.from_array
        self.nodes, self.weights = [], []

    def constant(self, values: np.ndarray) -> str:
        """Keep an array of float32 or int64; returns its name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(self.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        """Append a node with one output; returns the name of that."""
        return self._append(kind, inputs, 1, attributes)[0]

    def split(self, x: str, parts: int) -> list[str]:
        """Divide a tensor along its first axis into equal parts."""
        return self._append("Split", (x,), parts, {"axis": 0})

    def _append(self, kind: str, inputs: tuple[str, ...], count: int, attributes: dict) -> list[str]:
        number = len(self.nodes)
        outputs = [f"tensor_{number}_{part}" for part in range(count)]
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, name=f"{kind}_{number}", **attributes))
        return outputs


def require_onnx() -> None:
    """Raise a UserError with the line to install it by, if the extra `export` is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        remedy = 'In the folder of the clone: pip install --constraint requirements.lock ".[export]"'
        raise UserError("onnx", "is not installed", remedy)


def save_onnx(model: keras.Model, path: Path) -> float:
    """Write a network as ONNX: (N, H, W, 3) uint8 RGB in, (N, H, W, C) float32 out, as `model` itself.

    N is any number, and H and W are any multiples of the alignment (see `receptive_field`), which the metadata of the
    file tell. What belongs to whole images is no part of it: tiles, test-time augmentation, white balance and contrast.

    Returns:
        the largest difference from the prediction of Keras, in two images of random pixels.

    Raises:
        UserError: onnx or onnxruntime is not installed, a layer cannot be exported, or the file would predict something
            else than the model.
    """
    require_onnx()
    import onnx

    graph = Graph()
    planes = graph.op("Transpose", graph.op("Cast", "image", to=onnx.TensorProto.FLOAT), perm=[0, 3, 1, 2])
    outputs = _run(graph, model, [planes])
    graph.nodes.append(graph.helper.make_node("Transpose", outputs, ["maps"], perm=[0, 2, 3, 1]))
    tensor = graph.helper.make_tensor_value_info
    size = ("batch", "height", "width")
    image = tensor("image", onnx.TensorProto.UINT8, (*size, 3))
    maps = tensor("maps", onnx.TensorProto.FLOAT, (*size, model.output_shape[-1]))
    whole = graph.helper.make_graph(graph.nodes, model.name, [image], [maps], graph.weights)
    opset = graph.helper.make_opsetid("", OPSET)
    written = graph.helper.make_model(whole, opset_imports=[opset], ir_version=IR_VERSION)
    written.producer_name, written.producer_version = "tiledseg", VERSION
    field = receptive_field(model)
    about = {"alignment": field.alignment, "halo": "none is exact" if field.non_local_layers else field.halo}
    graph.helper.set_model_props(written, {name: str(value) for name, value in about.items()})
    onnx.checker.check_model(written)
    onnx.save(written, path)
    return _compare(model, path)


def _run(graph: Graph, model: keras.Model, inputs: list[str]) -> list[str]:
    """Append the layers of a functional model, its nested models unrolled; returns the names of its outputs."""
    functional = getattr(model, "_functional", model)  # A Sequential model has a functional one inside.
    names = dict(zip(map(id, functional.inputs), inputs, strict=True))
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.is_input:
                continue
            sources = [names[id(tensor)] for tensor in node.input_tensors]
            layer = node.operation
            if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
                targets = _run(graph, layer, sources)
            else:
                targets = [emit(layer, graph, *sources)]
            names.update(zip(map(id, node.outputs), targets, strict=True))
    return [names[id(tensor)] for tensor in functional.outputs]


def _compare(model: keras.Model, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    block = receptive_field(model).alignment
    images = np.random.default_rng(0).integers(0, 256, (2, 2 * block, 3 * block, 3), dtype=np.uint8)
    expected = model.predict_on_batch(images)
    error = np.abs(session.run(None, {"image": images})[0] - expected) / np.maximum(1, np.abs(expected))
    difference = float(error.max())
    if not difference <= TOLERANCE:
        problem = f"its ONNX file would predict something else (a difference of {difference:.2g})"
        raise UserError(name_of(model), problem, "Do not derive layers with other results from those of Keras")
    return difference
