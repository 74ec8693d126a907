"""Model files: opened for prediction, or refused in words that name the file, before anything is built or predicted.

A .keras file is a zip archive of a description of the layers (config.json) and their weights (model.weights.h5). It may
be damaged, come from another program, or ask for more memory than any machine has or for code that nobody should run.
So these are checked in turn: the kind of file, its checksums, the classes that its description names, the number of
weights while they are added, and whether the finished model suits tiles.
"""

import contextlib
import hashlib
import json
import math
import unittest.mock
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from ..base.files import UserError
from . import losses  # noqa: F401 - registers the layers and losses of saved models
from .backend import keras
from .foreground import foreground_of
from .inputs import channels_of, classes_of
from .instance_unet import CHANNELS
from .receptive_field import receptive_field

MAX_PARAMETERS = 2**29
"""More are refused: 2 GiB of float32. The largest network of this package, that of preset original, has 2**27."""

_MAX_BYTES = 16 * MAX_PARAMETERS  # of a member: weights, and what an optimiser keeps of each
_MAX_CONFIG = 2**26  # bytes
_COPY_AGAIN = "Copy it again from where it was trained, or train it anew"
_ANOTHER = "Give a .keras file of a run"
_WITH_INPUT = "Build it with keras.Input((None, None, 3))"

_FILES: weakref.WeakKeyDictionary[keras.Model, str] = weakref.WeakKeyDictionary()


def name_of(model: keras.Model) -> str:
    """What an error calls a model: the path of the file that it was loaded from, or its name."""
    return _FILES.get(model, f"model {model.name}")


def load_model(path: Path, channels: Collection[int] = (1,), classes: bool = False) -> keras.Model:
    """Open a saved model for prediction.

    Only layers of Keras, of this package, and those registered with `keras.saving` are built; code that is stored in
    the file (a Lambda layer) never runs.

    Args:
        path: a .keras file.
        channels: how many maps it may predict: 1, a foreground probability, or 6 for `instances`.
        classes: open a model that tells classes apart as it is, with a probability for each. Otherwise, what opens is
            its view with a probability of foreground alone (see `models.foreground`).

    Raises:
        UserError: the file is missing, no Keras model, damaged, of more than `MAX_PARAMETERS`, or needs layers that are
            not known; or the model takes something else than RGB images, or predicts something else than probabilities
            of the size of the image.
    """
    path = Path(path)
    model = _open(path, compiled=False)
    _check_interface(model, path)
    check_channels(model, path, channels)
    _check_values(model, path)
    model = model if classes else foreground_of(model)
    _FILES[model] = str(path)
    return model


def load_checkpoint(path: Path, with_optimizer: bool = True) -> keras.Model:
    """Open what training saved after an epoch, to train on, or for its weights alone.

    Raises:
        UserError: as `load_model` for what the file holds, or the optimiser's state is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras only warns if it cannot restore the optimiser.
        return _open(Path(path), compiled=with_optimizer)


def check_channels(model: keras.Model, name: str | Path, channels: Collection[int] = (1,)) -> None:
    """Raise a UserError that names the model `name` unless it predicts one of these numbers of maps, or classes."""
    if model.output_shape[-1] not in channels and classes_of(model) is None:
        remedy = "Give a model with one foreground probability"
        remedy += " or one of `instance_unet`" if CHANNELS in channels else ""
        raise UserError(name, f"predicts {model.output_shape[-1]} channels", remedy)


def _open(path: Path, compiled: bool) -> keras.Model:
    _check_kind(path)
    with _told(path), zipfile.ZipFile(path) as archive:
        config = _read_config(path, archive)
        damaged = archive.testzip()
        if damaged:
            raise UserError(path, f"is damaged: the checksum of {damaged} does not hold", _COPY_AGAIN)
        version = _version(archive)
    _check_classes(path, config)
    try:
        with _counted_weights(path):
            return keras.models.load_model(path, compile=compiled, safe_mode=True)
    except _TooLarge:
        raise
    except MemoryError as error:
        raise UserError(path, "asks for more memory than there is", _ANOTHER) from error
    except Exception as error:  # Keras and HDF5 raise whatever the content of the file leads them to.
        if too_large := _cause(error, _TooLarge):
            raise too_large from None
        saved_by = f", saved by Keras {version} and read by {keras.__version__}" if version != keras.__version__ else ""
        raise UserError(path, f"cannot be read{saved_by} ({_reason(error)})", _COPY_AGAIN) from error


def _check_kind(path: Path) -> None:
    """Refuse a file that is not a zip archive, and say what it is if that is known."""
    if path.is_dir():
        raise UserError(path, "is a folder, not a model", "Give the .keras file itself; a SavedModel cannot be read")
    if not path.exists():
        raise UserError(
            path,
            "there is no model",
            "Run notebook 03_unet_training first, give the path of a .keras file, or smears, the one in the package",
        )
    if not path.is_file():
        raise UserError(path, "is a device or a pipe, not a model", _ANOTHER)
    try:
        with path.open("rb") as file:
            start = file.read(8)
        is_archive = zipfile.is_zipfile(path)
    except OSError as error:
        raise UserError(path, f"cannot be opened ({error.strerror})", "Check its permissions") from error
    if start == b"\x89HDF\r\n\x1a\n":
        remedy = 'Open it with keras.models.load_model, and save it again with model.save("model.keras")'
        raise UserError(path, "is an HDF5 file, as Keras 2 wrote models", remedy)
    if not start:
        raise UserError(path, "is empty", _COPY_AGAIN)
    if not is_archive and start.startswith(b"PK"):
        raise UserError(path, "is cut or damaged: it begins as a model, and its end is missing", _COPY_AGAIN)
    if not is_archive:
        raise UserError(path, "is not a Keras model", _ANOTHER)
    if path.suffix != ".keras":
        _refuse_suffix(path)


def _refuse_suffix(path: Path) -> None:
    with _told(path), zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            _refuse_archive(path, archive)
    raise UserError(path, "holds a Keras model, but its name does not end in .keras", "Rename it")


def _refuse_archive(path: Path, archive: zipfile.ZipFile) -> None:
    kind = "a model of PyTorch" if any(name.endswith(".pkl") for name in archive.namelist()) else "another zip archive"
    raise UserError(path, f"is not a Keras model but {kind}: it holds no config.json", _ANOTHER)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Report an archive that cannot be read as damaged."""
    try:
        yield
    except UserError:
        raise
    # A member may be encrypted, or packed in an unknown way: a RuntimeError, of which NotImplementedError is one.
    except (OSError, EOFError, ValueError, RuntimeError, RecursionError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(path, f"is cut or damaged ({_reason(error)})", _COPY_AGAIN) from error


def _read_config(path: Path, archive: zipfile.ZipFile) -> dict:
    """The description of the layers, after a check that the archive is complete and not too large."""
    members = {member.filename: member.file_size for member in archive.infolist()}
    if "config.json" not in members:
        _refuse_archive(path, archive)
    if not any(name.startswith("model.weights") for name in members):
        raise UserError(path, "holds layers without weights", _COPY_AGAIN)
    largest = max(members, key=members.get)
    if members[largest] > _MAX_BYTES or members["config.json"] > _MAX_CONFIG:
        raise UserError(path, f"is larger than any model may be: {largest} has {members[largest]} bytes", _ANOTHER)
    config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict) or "class_name" not in config:
        raise UserError(path, "is damaged: its config.json describes no model", _COPY_AGAIN)
    return config


def _version(archive: zipfile.ZipFile) -> str:
    """The Keras that saved a model, or "an unknown version"."""
    if "metadata.json" not in archive.namelist():
        return "an unknown version"
    metadata = json.loads(archive.read("metadata.json"))
    return str(metadata.get("keras_version", "an unknown version")) if isinstance(metadata, dict) else str(metadata)


def _described(config: dict) -> Iterator[dict]:
    """All objects that a description names, from the outside in; not what the model was compiled with."""
    waiting = [{name: value for name, value in config.items() if name != "compile_config"}]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_classes(path: Path, config: dict) -> None:
    """Refuse classes that would have to be imported by name, and code that is stored in the file."""
    for described in _described(config):
        name, module = described["class_name"], described.get("module") or "keras"
        if name == "__lambda__":
            problem = "holds a Lambda layer, whose code would run when the model is opened"
            raise UserError(path, problem, "Build the model of layers instead, and train or save it again")
        known = str(module).split(".")[0] in ("keras", "builtins")
        names = [text for text in (described.get("registered_name"), name) if isinstance(text, str)]
        if not known and not any(keras.saving.get_registered_object(text) for text in names):
            remedy = "Import that module before, and mark its class with @keras.saving.register_keras_serializable()"
            raise UserError(path, f"needs {name} of {module}, which is not known here", remedy)


class _TooLarge(UserError):
    """Raised inside Keras, which wraps it in errors of its own."""


def _cause(error: BaseException | None, kind: type) -> BaseException | None:
    """The error of this kind that led to another one, if there is one."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def _counted_weights(path: Path) -> Iterator[None]:
    """Stop the building of a model before it takes the memory for more than `MAX_PARAMETERS`."""
    add_weight, total = keras.Layer.add_weight, 0

    def counted(layer, shape=None, *arguments, **settings):
        nonlocal total
        total += math.prod(shape or ())
        if total > MAX_PARAMETERS:
            problem = f"asks for {total:.2g} parameters or more, and {MAX_PARAMETERS} is the most that is opened"
            raise _TooLarge(path, problem, _ANOTHER)
        return add_weight(layer, shape, *arguments, **settings)

    with unittest.mock.patch.object(keras.Layer, "add_weight", counted):
        yield


def _reason(error: BaseException) -> str:
    """The first line of what an error says, or of the error that it quotes, without a full stop."""
    text = str(error).rsplit("Exception encountered:", 1)[-1]
    text = text.split("Example error message for object", 1)[-1].split(">:\n\n", 1)[-1].strip() or type(error).__name__
    line = text.splitlines()[0].rstrip(". ")
    return line if len(line) <= 200 else f"{line[:200]} ..."


def _check_interface(model: keras.Model, path: Path) -> None:
    """Refuse a model whose input is not RGB images, or whose output is not a map of the same size."""
    inputs, outputs = (keras.tree.flatten(getattr(model, name, None) or []) for name in ("inputs", "outputs"))
    if not inputs:
        raise UserError(path, "has no layer graph", "Build it as a functional or Sequential model with an Input")
    for tensors, verb in ((inputs, "takes"), (outputs, "predicts")):
        if len(tensors) != 1:
            noun = "inputs" if verb == "takes" else "outputs"
            raise UserError(path, f"{verb} {len(tensors)} {noun}", "Give a model of one image and one map of it")
    shape = inputs[0].shape
    if len(shape) != 4 or len(outputs[0].shape) != 4:
        problem = f"takes {shape} and predicts {outputs[0].shape}, which are no images"
        raise UserError(path, problem, "Give a model from (rows, columns, 3) to (rows, columns, 1)")
    if shape[0] is not None:
        raise UserError(path, f"takes batches of {shape[0]} images only", _WITH_INPUT)
    if shape[3] != 3 and channels_of(model) is None:
        problem = f"takes images of {shape[3]} channel(s), and images are read as RGB, 3 channels"
        raise UserError(path, problem, f"{_WITH_INPUT} and train it anew")
    if shape[1] != shape[2]:
        sides = " x ".join("any" if side is None else str(side) for side in shape[1:3])
        raise UserError(path, f"takes images of {sides} pixels only", _WITH_INPUT)
    try:
        receptive_field(model)
    except UserError as error:
        where = "" if error.path == f"model {model.name}" else f"{error.path} "
        raise UserError(path, f"{where}{error.problem}", error.remedy) from error


def _check_values(model: keras.Model, path: Path) -> None:
    """Refuse weights that are not finite, and a last layer without an activation, which cannot give probabilities."""
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight.value, np.float32)).all():
            raise UserError(path, f"is damaged: its weights {weight.path} are not all finite numbers", _COPY_AGAIN)
    last = model.outputs[0]._keras_history.operation
    while isinstance(last, keras.Model) and last.outputs:
        last = last.outputs[0]._keras_history.operation
    if getattr(last, "activation", None) is keras.activations.linear:
        problem = f"predicts no probabilities: its last layer, {last.name}, has no activation"
        raise UserError(path, problem, 'Give that layer activation="sigmoid", and train it anew')


def fingerprint(model: keras.Model) -> str:
    """SHA-256, in hex, of the architecture and the weights of a model."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
