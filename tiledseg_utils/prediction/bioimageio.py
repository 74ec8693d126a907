"""A network as a package of the BioImage Model Zoo (bioimage.io), which deepImageJ, ilastik, QuPath and others open.

It is a zip file: the network as ONNX, a picture with what the network makes of it, and `rdf.yaml`, which says what goes
in and comes out, after the model specification 0.5 (https://github.com/bioimage-io/spec-bioimage-io).
"""

import hashlib
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import yaml

from ..base.version import VERSION
from ..data.normalization import normalize
from ..data.pictures import write_image
from ..data.synthetic import draw_smear
from ..models.backend import keras
from ..models.inputs import classes_of, normalization_of
from ..models.onnx_file import OPSET, save_onnx
from ..models.receptive_field import receptive_field
from ..tiles.tiling import pad_to

FORMAT_VERSION = "0.5.3"
BLEND_HALO = 64
"""Pixels around each tile that are cut off where no halo makes a network exact, as `PredictionSetting.overlap`."""

NAMES = ("foreground", "background", "interior", "boundary", "flow rows", "flow columns")

PAPERS = {
    "unet": ("Ronneberger et al., U-Net", "1505.04597"),
    "instance_unet": ("Ronneberger et al., U-Net", "1505.04597"),
    "attention_unet": ("Oktay et al., Attention U-Net", "1804.03999"),
    "multires_unet": ("Ibtehaz and Rahman, MultiResUNet", "1902.04049"),
    "unet3_plus": ("Huang et al., UNet 3+", "2004.08790"),
    "efficient_unet": ("Tan and Le, EfficientNet", "1905.11946"),
    "deeplab_v3_plus": ("Chen et al., DeepLabv3+", "1802.02611"),
    "swin_unet": ("Cao et al., Swin-Unet", "2105.05537"),
}
"""Of each architecture: what to cite, and its number in arXiv."""


def write_package(
    model: keras.Model, path: Path, name: str, author: str, licence: str, picture: np.ndarray | None = None
) -> float:
    """Write a model as a package for bioimage.io. The same model and picture give the same bytes.

    Args:
        model: of `model_files.load_model`.
        path: of the zip file.
        name: of the model, for people: 5 to 128 letters, digits, spaces, - and _.
        author: who made the model.
        licence: its SPDX identifier, as "Apache-2.0".
        picture: (H, W, 3) uint8 RGB, of which a part is the package's example; a generated smear if None.

    Returns:
        the largest difference between the network in the package and `model`.

    Raises:
        UserError: as `onnx_file.save_onnx`.
    """
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder, "model.onnx")
        difference = save_onnx(model, network)
        files = {"model.onnx": network.read_bytes()}
    halo, smallest = tile_rule(model)
    image = _example(model, picture, smallest)
    maps = model.predict_on_batch(image[None])[0]
    probability = maps[..., 0] if classes_of(model) is None else 1 - maps[..., 0]
    shown = np.rint(255 * np.clip(probability, 0, 1)).astype(np.uint8)
    cover = np.hstack([image, np.repeat(shown[..., None], 3, axis=-1)])  # Twice as wide as high, as the zoo has them.
    files |= {"cover.png": _png(cover), "sample_input.png": _png(image), "sample_output.png": _png(shown)}
    files |= {"test_input.npy": _npy(image[None]), "test_output.npy": _npy(maps[None])}
    files["README.md"] = documentation(model, name, halo).encode()
    about = describe(model, name, author, licence, files)
    files["rdf.yaml"] = yaml.safe_dump(about, sort_keys=False, allow_unicode=True).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for member, content in files.items():
            package.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)  # Its date is always 1980.
    return difference


def tile_rule(model: keras.Model) -> tuple[int, int]:
    """How far the border of a tile is to be cut off, and the smallest side of a tile that then leaves something."""
    field = receptive_field(model)
    halo = BLEND_HALO if field.non_local_layers else field.halo
    return halo, (2 * halo // field.alignment + 1) * field.alignment


def _png(image: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.png")
        write_image(path, image)
        return path.read_bytes()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _example(model: keras.Model, picture: np.ndarray | None, smallest: int) -> np.ndarray:
    """A square part from the middle of a picture, normalized as the model expects it, (S, S, 3) uint8."""
    if picture is None:
        picture = draw_smear(seed=4, index=0, size=400)[0]
    alignment = receptive_field(model).alignment
    side = max(smallest, -(-256 // alignment) * alignment)
    picture = normalize(picture, normalization_of(model))
    picture = pad_to(picture, *(max(length, side) for length in picture.shape[:2]))
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def describe(model: keras.Model, name: str, author: str, licence: str, files: dict[str, bytes]) -> dict:
    """The content of rdf.yaml, for the other `files` of the package."""

    def source(member: str) -> dict:
        return {"source": member, "sha256": hashlib.sha256(files[member]).hexdigest()}

    halo, smallest = tile_rule(model)
    sides = {"min": smallest, "step": receptive_field(model).alignment}
    classes = classes_of(model)
    channels = [*NAMES, *(f"ray {number}" for number in range(model.output_shape[-1] - len(NAMES)))]
    if classes:
        channels = list(classes.names)
    method = normalization_of(model)
    text, number = PAPERS.get(model.name, PAPERS["unet"])
    image = {
        "id": "image",
        "description": "RGB, 0 to 255, as it is."
        if method is None
        else f"RGB after {_in_words(method)}; see README.md.",
        "axes": [
            {"type": "batch"},
            *({"type": "space", "id": axis, "size": sides} for axis in "yx"),
            {"type": "channel", "channel_names": ["red", "green", "blue"]},
        ],
        "data": {"type": "uint8", "range": [0, 255], "unit": "arbitrary unit"},
        "test_tensor": source("test_input.npy"),
        "sample_tensor": source("sample_input.png"),
    }
    maps = {
        "id": "maps",
        "description": _described(model),
        "axes": [
            {"type": "batch"},
            *(
                {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}}
                | ({"halo": halo} if halo else {})
                for axis in "yx"
            ),
            {"type": "channel", "channel_names": channels[: model.output_shape[-1]]},
        ],
        "data": {"type": "float32", "unit": "arbitrary unit"} | ({} if _counts(model) else {"range": [0, 1]}),
        "test_tensor": source("test_output.npy"),
        "sample_tensor": source("sample_output.png"),
    }
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": name,
        "description": f"A {model.name} that tells foreground from background in RGB images, made with tiledseg.",
        "authors": [{"name": author}],
        "license": licence,
        "version": VERSION,
        "documentation": source("README.md"),
        "covers": ["cover.png"],
        "tags": ["semantic-segmentation", "2d", "tiledseg", model.name],
        "cite": [{"text": text, "doi": f"10.48550/arXiv.{number}"}],
        "inputs": [image],
        "outputs": [maps],
        "weights": {"onnx": {**source("model.onnx"), "opset_version": OPSET}},
    }


def _counts(model: keras.Model) -> bool:
    return model.output_shape[-1] > 1 and classes_of(model) is None


def _described(model: keras.Model) -> str:
    """What the maps of a model are, in words."""
    if classes := classes_of(model):
        return f"Probability of each class of a pixel: {', '.join(classes.names)}"
    return "Probability that a pixel is foreground" + ", and what tells nuclei apart" * _counts(model)


def _in_words(method: str) -> str:
    return f"{method.replace('_', ' ')} of the whole image"


def _first_channel(model: keras.Model) -> str:
    if classes := classes_of(model):
        return f"Each channel is the probability of a class: {', '.join(classes.names)}."
    return "The first channel is the probability of foreground."


def documentation(model: keras.Model, name: str, halo: int) -> str:
    """The page of the package, in Markdown."""
    field, method = receptive_field(model), normalization_of(model)
    before = "Pixels as they are."
    if method is not None:
        before = f"The {_in_words(method)} comes first (tiledseg_utils.data.normalization). It is not in the file."
    if field.non_local_layers:
        exact = f"No tile gives exactly what the whole image would give, since {field.non_local_layers[0]}."
    else:
        exact = (
            f"Tiles that begin at multiples of {field.alignment} pixels and overlap by twice the halo of {halo} pixels "
            "give what the whole image would give."
        )
    return f"""# {name}

A network of tiledseg ({model.name}, {model.count_params():,} parameters) that tells foreground from background.

- **In:** (batch, y, x, 3), uint8, RGB, any multiples of {field.alignment} pixels. {before}
- **Out:** (batch, y, x, {model.output_shape[-1]}), float32. {_first_channel(model)}
- **Tiles:** {exact}

## Validation

Score it on images of your own before you rely on it: `tiledseg evaluate model.keras my_images` gives Dice and IoU of
each whole image. It was exported from a Keras model, and both give the same numbers, up to the rounding of float32.
"""
