"""The command `export`: what it writes, and what it refuses."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from tests.commands.test_main import exit_code
from tiledseg_utils.models import build_model
from tiledseg_utils.prediction.bioimageio import write_package

MODEL = Path(__file__).parents[1] / "models" / "unet_f816b64.keras"
PACKAGE = ("--format", "bioimageio", "--author", "A lab", "--license", "CC0-1.0")


def test_a_package_holds_what_the_zoo_asks_for(tmp_path, capsys):
    out = tmp_path / "model.zip"
    assert exit_code("export", MODEL, "--out", out, *PACKAGE) == 0
    printed = capsys.readouterr().out
    assert f"{out}: differs from Keras by at most " in printed and "multiples of" in printed
    with zipfile.ZipFile(out) as package:
        files = {name: package.read(name) for name in package.namelist()}
    about = yaml.safe_load(files["rdf.yaml"])
    assert about["authors"] == [{"name": "A lab"}] and about["license"] == "CC0-1.0"
    sources = [about["documentation"], about["weights"]["onnx"]]
    sources += [about[kind][0][tensor] for kind in ("inputs", "outputs") for tensor in ("test_tensor", "sample_tensor")]
    assert all(hashlib.sha256(files[each["source"]]).hexdigest() == each["sha256"] for each in sources)
    images, maps = (np.load(io.BytesIO(files[f"test_{name}.npy"])) for name in ("input", "output"))
    session = onnxruntime.InferenceSession(files["model.onnx"])
    np.testing.assert_allclose(session.run(None, {"image": images})[0], maps, atol=1e-4)
    rows, reached = about["inputs"][0]["axes"][1], about["outputs"][0]["axes"][1]
    assert rows["size"]["min"] > 2 * reached["halo"] > 0 and rows["size"]["min"] % rows["size"]["step"] == 0
    assert images.shape[1] >= rows["size"]["min"] and images.dtype == np.uint8


def test_a_package_tells_what_comes_before_the_network(tmp_path):
    model = build_model("unet", {"base_filters": 2, "levels": 2}, normalization="white_balance")
    write_package(model, tmp_path / "model.zip", "tiledseg model", "A lab", "CC0-1.0")
    with zipfile.ZipFile(tmp_path / "model.zip") as package:
        about, page = yaml.safe_load(package.read("rdf.yaml")), package.read("README.md").decode()
    described = [tensor["description"] for tensor in about["inputs"] + about["outputs"]]
    assert described[0] == "RGB after white balance of the whole image; see README.md."
    assert all(len(text) <= 128 for text in described)  # The most that the specification allows.
    assert "The white balance of the whole image comes first" in page


def test_the_same_model_gives_the_same_bytes_and_nothing_is_replaced_unasked(tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert exit_code("export", MODEL, "--out", out) == 0
    first = out.read_bytes()
    assert exit_code("export", MODEL, "--out", out) == 1
    assert "exists already. Choose another --out, or replace it with --overwrite" in capsys.readouterr().err
    assert exit_code("export", MODEL, "--out", out, "--overwrite") == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "{0}/model.txt"), "model.txt: does not end in .onnx, as onnx files do"),
        (("--out", "{0}/model.zip", *PACKAGE[:4]), "--license: is missing, and every package of the zoo tells it"),
        (("--out", "{0}/model.zip", *PACKAGE[:2]), "--author: is missing"),
        (("--out", "{0}/model.onnx", "--author", "A lab"), "--author: belongs to a package"),
        (("--out", "{0}/none/model.onnx", "--format", "torch"), "invalid choice: 'torch'"),
    ],
)
def test_wrong_options_are_told_before_keras_starts(options, message, tmp_path, capsys):
    assert exit_code("export", MODEL, *(option.format(tmp_path) for option in options)) in (1, 2)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
