"""Model files that are damaged, odd or of other programs: each is refused in words that name the file."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.models import model_files
from tiledseg_utils.prediction import instances
from tiledseg_utils.prediction.inference import load_model, predict_tiled

ANY = (None, None, 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model file as training writes it: (name of a member: bytes), and the bytes of the file."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model = models.build_model("unet", {"base_filters": 2, "levels": 2})
    model.compile("adam", "binary_crossentropy")
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}, path.read_bytes()


def packed(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def inverted(content: bytes, where: int, count: int = 64) -> bytes:
    return content[:where] + bytes(255 - byte for byte in content[where : where + count]) + content[where + count :]


def weights_changed(members, change):
    return members | {"model.weights.h5": change(members["model.weights.h5"])}


def config_changed(members, *changes):
    text = members["config.json"].decode()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return members | {"config.json": text}


def with_version(members, version):
    return members | {"metadata.json": json.dumps({"keras_version": version})}


# Of a file: what is done to a good one, and what is said of it.
DAMAGED = {
    "cut in half": (lambda members, whole: whole[: len(whole) // 2], "is cut or damaged: it begins as a model"),
    "cut at the end": (lambda members, whole: whole[:-30], "is cut or damaged: it begins as a model"),
    "bytes of weights flipped": (
        lambda members, whole: inverted(whole, whole.index(b"\x89HDF") + 9000),
        "is damaged: the checksum of model.weights.h5 does not hold. Copy it again",
    ),
    "bytes of the description flipped": (
        lambda members, whole: inverted(whole, whole.index(b'{"module"') + 500),
        r"is cut or damaged \(Bad CRC-32 for file 'config.json'\)",
    ),
    "directory of the archive flipped": (
        lambda members, whole: inverted(whole, whole.rindex(b"PK\x01\x02"), 20),
        "is cut or damaged",
    ),
    "no weights": (
        lambda members, whole: {name: members[name] for name in ("metadata.json", "config.json")},
        "holds layers without weights",
    ),
    "weights cut, packed again": (
        lambda members, whole: weights_changed(members, lambda weights: weights[: len(weights) // 2]),
        r"cannot be read \(Unable to .*truncated file",
    ),
    "weights of another kind": (
        lambda members, whole: weights_changed(members, lambda weights: b"x" * 2000),
        r"cannot be read \(Unable to .*signature not found",
    ),
    "no config": (
        lambda members, whole: {"metadata.json": b"{}", "model.weights.h5": b""},
        "is not a Keras model but another zip archive: it holds no config.json",
    ),
    "a list as config": (lambda members, whole: members | {"config.json": "[]"}, "its config.json describes no model"),
    "config that is no JSON": (lambda members, whole: members | {"config.json": "{"}, "is cut or damaged"),
    "config nested too deeply": (
        lambda members, whole: members | {"config.json": "[" * 100_000 + "]" * 100_000},
        "is cut or damaged",
    ),
    "layers of another width": (
        lambda members, whole: config_changed(members, ('"filters": 4', '"filters": 8')),
        r"cannot be read \(",
    ),
    "of PyTorch": (lambda members, whole: {"archive/data.pkl": b"x"}, "is not a Keras model but a model of PyTorch"),
    "a picture": (lambda members, whole: b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a Keras model. Give a .keras file"),
    "a text": (lambda members, whole: b"not a model", "is not a Keras model"),
    "empty": (lambda members, whole: b"", "is empty. Copy it again"),
    "of Keras 2": (lambda members, whole: b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras 2 wrote"),
    "of Keras 2, zipped": (
        lambda members, whole: with_version(
            config_changed(members, ("keras.src.models.functional", "keras.src.engine.functional")), "2.15.0"
        ),
        r"cannot be read, saved by Keras 2.15.0 and read by 3\.",
    ),
    "a layer that is not known": (
        lambda members, whole: config_changed(members, ('"ColorInput"', '"Stain"'), (">ColorInput", ">Stain")),
        r"needs Stain of tiledseg_utils.models.inputs, which is not known here. Import that module before",
    ),
    "a module that is not installed": (
        lambda members, whole: config_changed(
            members, ("tiledseg_utils.models.inputs", "laboratory.layers"), ("tiledseg>ColorInput", "lab>ColorInput"),
            ('"ColorInput"', '"Stain"'),
        ),
        r"needs Stain of laboratory.layers, which is not known here",
    ),
    "a module that would be imported": (
        lambda members, whole: config_changed(
            members, ("tiledseg_utils.models.inputs", "antigravity"), ("tiledseg>ColorInput", "lab>ColorInput"),
            ('"ColorInput"', '"Stain"'),
        ),
        r"needs Stain of antigravity",
    ),
    "layers of terabytes": (
        lambda members, whole: config_changed(members, ('"filters": 4', '"filters": 400000000')),
        r"asks for .* parameters or more, and 536870912 is the most that is opened",
    ),
    "kernels of terabytes": (
        lambda members, whole: config_changed(members, ('"kernel_size": [3, 3]', '"kernel_size": [900000, 900000]')),
        r"asks for .* parameters or more",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_no_good_model_is_told(saved, tmp_path, damage):
    change, message = DAMAGED[damage]
    content, path = change(*saved), tmp_path / "model.keras"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        packed(path, content)
    for function in (load_model, model_files.load_checkpoint):
        with pytest.raises(UserError, match=message) as error:
            function(path)
        assert error.value.path == str(path)
        assert len(str(error.value)) < 450 and "\n" not in str(error.value)


def test_what_is_no_file_is_told(tmp_path, saved):
    (tmp_path / "folder.keras").mkdir()
    os.mkfifo(tmp_path / "pipe.keras")
    packed(tmp_path / "model.zip", saved[0])
    for name, message in (
        ("model.keras", r"there is no model\. Run notebook 03_unet_training"),
        ("folder.keras", "is a folder, not a model"),
        ("pipe.keras", "is a device or a pipe, not a model"),
        ("model.zip", r"holds a Keras model, but its name does not end in \.keras\. Rename it"),
    ):
        with pytest.raises(UserError, match=message):
            load_model(tmp_path / name)


def sigmoid(x, channels=1, **settings):
    return layers.Conv2D(channels, 1, activation="sigmoid", **settings)(x)


def two_inputs():
    first, second = keras.Input(ANY), keras.Input(ANY)
    return keras.Model([first, second], sigmoid(layers.Add()([first, second])))


def one_input(shape, build, batch=None):
    inputs = keras.Input(shape, batch_size=batch)
    return keras.Model(inputs, build(layers.Rescaling(1 / 255)(inputs)))


def of_nan():
    model = one_input(ANY, sigmoid)
    model.layers[-1].bias.assign([float("nan")])
    return model


# Of a model: how it is built, and what is said of its file.
ODD = {
    "grey": (
        lambda: one_input((None, None, 1), sigmoid),
        r"takes images of 1 channel\(s\), and images are read as RGB",
    ),
    "four channels": (lambda: one_input((None, None, 4), sigmoid), r"takes images of 4 channel\(s\)"),
    "any number of channels": (
        lambda: one_input((None, None, None), lambda x: layers.Activation("sigmoid")(x)),
        r"takes images of None channel\(s\)",
    ),
    "two inputs": (two_inputs, "takes 2 inputs. Give a model of one image and one map"),
    "two outputs": (lambda: one_input(ANY, lambda x: [sigmoid(x), sigmoid(x)]), "predicts 2 outputs"),
    "a vector": (
        lambda: one_input((16, 16, 3), lambda x: layers.Dense(1, activation="sigmoid")(layers.Flatten()(x))),
        r"takes \(None, 16, 16, 3\) and predicts \(None, 1\), which are no images",
    ),
    "softmax of three": (
        lambda: one_input(ANY, lambda x: layers.Conv2D(3, 1, activation="softmax")(x)),
        "predicts 3 channels. Give a model with one foreground probability",
    ),
    "no sigmoid": (
        lambda: one_input(ANY, lambda x: layers.Conv2D(1, 1, name="last")(x)),
        'predicts no probabilities: its last layer, last, has no activation. Give that layer activation="sigmoid"',
    ),
    "no sigmoid, nested": (
        lambda: one_input(ANY, one_input(ANY, lambda x: layers.Conv2D(1, 1, name="last")(x))),
        "its last layer, last, has no activation",
    ),
    "half as large": (
        lambda: one_input(ANY, lambda x: sigmoid(layers.MaxPooling2D()(x))),
        "has an output that is not as large as the image",
    ),
    "batches of four": (lambda: one_input(ANY, sigmoid, batch=4), "takes batches of 4 images only"),
    "oblong": (lambda: one_input((32, 48, 3), sigmoid), "takes images of 32 x 48 pixels only"),
    "fixed in one direction": (lambda: one_input((None, 48, 3), sigmoid), "takes images of any x 48 pixels only"),
    "a layer without a rule": (
        lambda: one_input(ANY, lambda x: sigmoid(layers.RandomBrightness(0.1, name="lamp")(x))),
        r"lamp \(RandomBrightness\) is a layer that has no rule for how far it looks",
    ),
    "Lambda": (
        lambda: one_input(ANY, lambda x: layers.Lambda(lambda y: y[..., :1])(x)),
        "holds a Lambda layer, whose code would run when the model is opened",
    ),
    "weights of nan": (of_nan, r"is damaged: its weights .*bias are not all finite numbers"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_model_that_is_no_use_here_is_told(tmp_path, kind):
    build, message = ODD[kind]
    path = tmp_path / "model.keras"
    build().save(path)
    with pytest.raises(UserError, match=message) as error:
        load_model(path)
    assert error.value.path == str(path)


GOOD = {
    "of fixed size": lambda: one_input((32, 32, 3), sigmoid),
    "sigmoid as a layer": lambda: one_input(ANY, lambda x: layers.Activation("sigmoid")(layers.Conv2D(1, 1)(x))),
    "Sequential": lambda: keras.Sequential(
        [keras.Input(ANY), layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_other_peoples_models_are_opened(tmp_path, kind, rng):
    GOOD[kind]().save(tmp_path / "model.keras")
    model = load_model(tmp_path / "model.keras")
    image = rng.integers(0, 256, (50, 70, 3)).astype(np.uint8)
    assert predict_tiled(model, image).shape == (50, 70)


def test_errors_while_predicting_name_the_file(tmp_path, rng):
    image = rng.integers(0, 256, (50, 70, 3)).astype(np.uint8)
    one_input((64, 64, 3), sigmoid).save(tmp_path / "fixed.keras")
    with pytest.raises(UserError, match=r"fixed\.keras: takes images of 64 x 64 pixels only"):
        predict_tiled(load_model(tmp_path / "fixed.keras"), image)
    large = layers.Conv2D(1, 1, activation="relu", kernel_initializer="ones")
    one_input(ANY, lambda x: large(255 * x)).save(tmp_path / "logits.keras")
    model = load_model(tmp_path / "logits.keras")
    for call in (
        lambda: predict_tiled(model, image),
        lambda: instances.label_file(image, tmp_path / "labels.npy", model),
    ):
        with pytest.raises(UserError, match=r"logits\.keras: predicts values from .* which are no probabilities"):
            call()


def test_opening_a_model_prints_nothing(tmp_path, saved):
    (tmp_path / "good.keras").write_bytes(saved[1])
    (tmp_path / "bad.keras").write_bytes(saved[1][:2000])
    code = (
        "import sys; from tiledseg_utils.base.files import UserError\n"
        "from tiledseg_utils.prediction.inference import load_model\n"
        "load_model(sys.argv[1] + '/good.keras')\n"
        "try: load_model(sys.argv[1] + '/bad.keras')\n"
        "except UserError: print('told')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("told\n", "")


def test_an_optimiser_that_is_missing_is_told(tmp_path, saved):
    """Keras warns and goes on, with a training that would end elsewhere."""
    model = models.build_model("unet", {"base_filters": 2, "levels": 2})
    model.compile("adam", "binary_crossentropy")
    model.train_on_batch(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 1), np.float32))
    model.save(tmp_path / "whole.keras")
    assert model_files.load_checkpoint(tmp_path / "whole.keras").optimizer.iterations == 1
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed(tmp_path / "mixed.keras", members | {"model.weights.h5": saved[0]["model.weights.h5"]})
    load_model(tmp_path / "mixed.keras")  # to predict, no optimiser is needed
    with pytest.raises(UserError, match=r"cannot be read \(Skipping variable loading for optimizer 'adam"):
        model_files.load_checkpoint(tmp_path / "mixed.keras")
