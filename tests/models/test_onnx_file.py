"""Networks as ONNX files: the same numbers as in Keras, or a refusal that names the layer."""

import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.models import build_model, instance_unet
from tiledseg_utils.models.backend import keras, layers
from tiledseg_utils.models.joined import joined_model
from tiledseg_utils.models.onnx_file import TOLERANCE, save_onnx
from tiledseg_utils.models.reduced import reduced_model

SMALL = {
    "unet": {"base_filters": 4, "levels": 3, "first_kernel": 5, "dilation": 2, "dropout": 0.1, "patch_size": 2},
    "attention_unet": {"base_filters": 4, "levels": 2},
    "multires_unet": {"base_filters": 4, "levels": 2},
    "unet3_plus": {"base_filters": 4, "levels": 3},
    "efficient_unet": {"base_filters": 4},
    "deeplab_v3_plus": {"encoder": "MobileNetV2", "filters": 8},
    "swin_unet": {"base_filters": 8, "levels": 2},
}


def unsettled(model):
    """The model with weights that an untrained one does not have: no bias, scale or mean is 0 or 1."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.dtype == "float32":
            values = keras.ops.convert_to_numpy(weight.value)
            noise = 0.05 * rng.standard_normal(values.shape)
            weight.assign(values * rng.uniform(0.8, 1.2, values.shape) if "variance" in weight.path else values + noise)
    return model


def predicted(path, images):
    return onnxruntime.InferenceSession(path).run(None, {"image": images})[0]


@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_gives_the_same_numbers(name, tmp_path):
    model = unsettled(build_model(name, SMALL[name]))
    assert save_onnx(model, tmp_path / "model.onnx") <= TOLERANCE
    # Another size than that of the comparison, and one image.
    images = np.random.default_rng(2).integers(0, 256, (1, 96, 64, 3), dtype=np.uint8)
    maps = predicted(tmp_path / "model.onnx", images)
    assert maps.std() > 1e-4 and maps.shape == (1, 96, 64, 1) and maps.dtype == np.float32
    if name in ("unet", "swin_unet"):  # Windows and paddings depend on the size.
        np.testing.assert_allclose(maps, model.predict_on_batch(images), atol=1e-4)


def test_models_made_of_networks_give_the_same_numbers(tmp_path):
    network = unsettled(build_model("unet", {"base_filters": 4, "levels": 2}))
    other = unsettled(build_model("unet", {"base_filters": 4, "levels": 2, "patch_size": 2}))
    model = joined_model(network, reduced_model(other, 2))
    assert save_onnx(model, tmp_path / "model.onnx") <= TOLERANCE
    images = np.random.default_rng(2).integers(0, 256, (1, 96, 64, 3), dtype=np.uint8)
    maps = predicted(tmp_path / "model.onnx", images)
    assert maps.std() > 1e-4
    np.testing.assert_allclose(maps, model.predict_on_batch(images), atol=1e-4)


def test_a_network_that_counts_gives_all_its_maps(tmp_path):
    model = unsettled(instance_unet(base_filters=4, levels=2, rays=True))
    assert save_onnx(model, tmp_path / "model.onnx") <= TOLERANCE
    maps = predicted(tmp_path / "model.onnx", np.full((1, 8, 8, 3), 100, np.uint8))
    assert maps.shape == (1, 8, 8, 38)
    np.testing.assert_allclose(maps[..., 1:4].sum(-1), 1, atol=1e-5)


def test_the_file_tells_its_alignment_and_halo_and_is_for_older_programs(tmp_path):
    model = build_model("unet", {"base_filters": 2, "levels": 2})
    save_onnx(model, tmp_path / "model.onnx")
    written = onnx.load(tmp_path / "model.onnx")
    assert {entry.key: entry.value for entry in written.metadata_props} == {"alignment": "2", "halo": "8"}
    assert (written.ir_version, written.opset_import[0].version) == (8, 17)


def network(*own):
    image = x = keras.Input((None, None, 3), dtype="uint8", name="image")
    for layer in own:
        x = layer(x)
    return keras.Model(image, x)


class Doubled(layers.Conv2D):
    """A layer that inherits the rule of another one, and computes something else."""

    def call(self, inputs):
        return 2 * super().call(inputs)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: build_model("unet", {"color_space": "hsv", "levels": 2}), r"ColorInput.* converts colours to hsv"),
        (lambda: build_model("unet", {"gamma": 2.0, "levels": 2}), r"ColorInput.* raises colours to the power 2"),
        (lambda: network(layers.GroupNormalization(1)), r"GroupNormalization\).* is a layer that cannot be exported"),
        (lambda: network(layers.Conv2DTranspose(1, 3, padding="same")), "whose blocks overlap, which cannot be exp"),
        (lambda: network(layers.Conv2D(1, 1, activation="selu")), "has the activation selu, which cannot be exported"),
        (
            # Weights so small that no sigmoid is at its end, where twice as much is the same.
            lambda: network(Doubled(1, 1, activation="sigmoid", kernel_initializer=keras.initializers.Constant(0.001))),
            r"predict something else \(a difference of 0\.\d+",
        ),
    ],
)
def test_what_cannot_be_exported_is_named(model, message, tmp_path):
    with pytest.raises(UserError, match=message):
        save_onnx(model(), tmp_path / "model.onnx")


def test_a_missing_extra_is_told_with_the_line_that_installs_it(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(UserError, match=r'is not installed\. .* pip install .* "\.\[export\]"'):
        save_onnx(network(), tmp_path / "model.onnx")
