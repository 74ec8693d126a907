import subprocess
import sys

import cv2
import jax
import keras
import numpy as np
import pytest
from skimage.color import rgb2lab

from tiledseg_utils import models
from tiledseg_utils.base.environment import convolves_with_onednn
from tiledseg_utils.base.files import UserError
from tiledseg_utils.models import cpu
from tiledseg_utils.models.cpu import Convolution, DepthwiseConvolution, MaxPooling, UpConvolution
from tiledseg_utils.models.inputs import ColorInput
from tiledseg_utils.models.layers import DepthToSpace, SpaceToDepth

ORIGINAL = {"base_filters": 16, "levels": 8, "first_kernel": 7, "dropout": 0.05, "color_space": "hsv"}
SMALL = {"base_filters": 4, "levels": 3}


def test_the_published_network_has_its_124_557_041_parameters_trains_and_predicts():
    model = models.build_model("unet", ORIGINAL)
    assert model.count_params() == 124_557_041
    image = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3)).astype(np.uint8)
    model.compile(optimizer=keras.optimizers.Adam(1e-4, clipvalue=0.5), loss="binary_crossentropy")
    before = np.asarray(model.layers[-1].kernel)
    assert np.isfinite(model.train_on_batch(image, np.zeros((1, 128, 128, 1), np.float32)))
    assert (np.asarray(model.layers[-1].kernel) != before).any()
    assert model.predict_on_batch(image).shape == (1, 128, 128, 1)


@pytest.mark.parametrize(("levels", "parameters"), [(5, 2.06e6), (6, 7.89e6), (7, 31.2e6)])
def test_parameter_counts_of_fewer_levels(levels, parameters):
    """Counted by hand from kernels and filters of each level, as in the docstring."""
    total, channels = 0, 3
    for level in range(levels):
        kernel, filters = max(3, 7 - 2 * level) ** 2, 16 * 2**level
        total += kernel * channels * filters + filters + kernel * filters**2 + filters
        if level < levels - 1:
            total += 4 * 2 * filters * filters + filters  # up-convolution from the level below
            total += kernel * 2 * filters * filters + filters + kernel * filters**2 + filters
        channels = filters
    total += 16 + 1
    assert models.build_model("unet", {**ORIGINAL, "levels": levels}).count_params() == total
    assert total == pytest.approx(parameters, rel=0.003)  # as published for the experiment


@pytest.mark.parametrize("height, width", [(8, 8), (64, 24), (100, 4)])
@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_any_multiple_of_the_alignment_is_predicted(height, width, normalization, rng):
    model = models.build_model("unet", {**SMALL, "normalization": normalization, "dropout": 0.1, "dilation": 2})
    image = rng.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    probability = np.asarray(model(image))
    assert probability.shape == (2, height, width, 1) and probability.dtype == np.float32
    assert (probability >= 0).all() and (probability <= 1).all()


def test_up_convolution_equals_the_transposed_convolution_that_it_replaces(rng):
    image = rng.standard_normal((2, 5, 7, 6)).astype(np.float32)
    ours, theirs = UpConvolution(4), keras.layers.Conv2DTranspose(4, 2, 2)
    ours.build(image.shape), theirs.build(image.shape)
    theirs.set_weights([rng.standard_normal(weight.shape) for weight in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(image), theirs(image), atol=1e-5)


def test_max_pooling_equals_the_layer_that_it_replaces_and_passes_gradients_to_the_largest(rng):
    image = rng.standard_normal((2, 6, 8, 3)).astype(np.float32)
    pooled = np.asarray(MaxPooling()(image))
    np.testing.assert_array_equal(pooled, keras.layers.MaxPooling2D(2)(image))

    model = keras.Sequential(
        [keras.Input((6, 8, 3)), keras.layers.EinsumDense("nhwc,c->nhwc", (6, 8, 3)), MaxPooling()]
    )
    model.layers[0].set_weights([np.ones(3)])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, y: keras.ops.sum(y))
    model.train_on_batch(image, pooled)
    # The gradient of a factor of 1 on a channel is the sum of the pixels that were passed on.
    np.testing.assert_allclose(1 - model.layers[0].get_weights()[0], pooled.sum((0, 1, 2)), rtol=1e-4)


def outputs_and_gradients(layer, image) -> list[np.ndarray]:
    """What a layer gives, and the gradients of the sum of its squares by the image, the kernel and the bias."""
    weights = [weight.value for weight in layer.trainable_weights]

    def squares(image, weights):
        outputs = layer.stateless_call(weights, [], image)[0]
        return (outputs**2).sum(), outputs

    gradients, outputs = jax.grad(squares, argnums=(0, 1), has_aux=True)(image, weights)
    return [np.asarray(array) for array in (outputs, *jax.tree.leaves(gradients))]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (2, 2)])
@pytest.mark.parametrize("shape", [(12, 17), (11, 8)])
def test_depthwise_convolution_equals_the_layer_that_it_replaces(kernel, stride, padding, shape, rng):
    image = rng.standard_normal((2, *shape, 5)).astype(np.float32)
    theirs = keras.layers.DepthwiseConv2D(kernel, stride, padding, activation="tanh")
    ours = DepthwiseConvolution.from_config(theirs.get_config())
    theirs.build(image.shape)
    ours.build(image.shape)
    ours.set_weights([theirs.get_weights()[0], rng.standard_normal(5)])
    theirs.set_weights(ours.get_weights())
    expected, *expected_gradients = outputs_and_gradients(theirs, image)
    outputs, *gradients = outputs_and_gradients(ours, image)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "filters"), [(1, 3), (2, 9), (3, 4), (5, 3), (7, 3), ((3, 5), 6), (1, 640), ((2, 3), 640)]
)
def test_convolution_equals_the_layer_that_it_replaces(monkeypatch, kernel, filters, rng):
    """With the gradient of its weights as where oneDNN computes convolutions, which can be computed without it, too."""
    monkeypatch.setattr(cpu, "convolves_with_onednn", lambda: True)
    image = rng.standard_normal((3, 12, 17, 6)).astype(np.float32)
    theirs = keras.layers.Conv2D(filters, kernel, padding="same", activation="tanh")
    ours = Convolution.from_config(theirs.get_config())
    theirs.build(image.shape)
    ours.build(image.shape)
    ours.set_weights([theirs.get_weights()[0], rng.standard_normal(filters)])
    theirs.set_weights(ours.get_weights())
    for actual, wanted in zip(*(outputs_and_gradients(layer, image) for layer in (ours, theirs)), strict=True):
        np.testing.assert_allclose(actual, wanted, atol=2e-4, rtol=1e-4)


def program_of_gradients(filters: int) -> str:
    """Of a convolution, as compiled: its outputs and the gradients by images and weights."""
    layer = Convolution(filters, 3, padding="same")
    layer.build((2, 64, 64, 32))

    def squares(image, weights):
        return (layer.stateless_call(weights, [], image)[0] ** 2).sum()

    arguments = np.ones((2, 64, 64, 32), np.float32), [weight.value for weight in layer.trainable_weights]
    return jax.jit(jax.grad(squares, argnums=(0, 1))).lower(*arguments).compile().as_text()


@pytest.mark.parametrize("filters", [16, 64])
def test_onednn_convolves_and_multiplies_for_the_gradient_of_the_weights(filters):
    """As the compiled program says; before JAX 0.12, and on other processors, oneDNN does nothing."""
    program = program_of_gradients(filters)
    assert program.count('custom_call_target="__onednn$convolution"') == (2 if convolves_with_onednn() else 0)
    assert program.count('custom_call_target="__onednn$matmul"') == (1 if convolves_with_onednn() else 0)
    assert program.count(" convolution(") == (0 if convolves_with_onednn() else 3)


@pytest.mark.parametrize("devices", [1, 2])
def test_only_for_one_device_do_weights_get_their_gradient_in_a_loop(monkeypatch, devices):
    """XLA shares a batch out among several devices, but would give all of it to each of them for a loop."""
    monkeypatch.setattr(cpu, "convolves_with_onednn", lambda: True)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    assert (" while(" in program_of_gradients(16)) == (devices == 1)


def test_blocks_are_folded_into_channels_and_back(rng):
    image = rng.standard_normal((2, 6, 9, 4)).astype(np.float32)
    folded = np.asarray(SpaceToDepth(3)(image))
    assert folded.shape == (2, 2, 3, 36)
    assert set(folded[1, 1, 2]) == set(image[1, 3:6, 6:9].ravel())
    np.testing.assert_array_equal(DepthToSpace(3)(folded), image)


def test_with_a_stem_the_first_level_works_at_a_lower_resolution(rng):
    model = models.build_model("unet", {**SMALL, "patch_size": 2})
    image = rng.integers(0, 256, (1, 16, 24, 3)).astype(np.uint8)
    assert model(image).shape == (1, 16, 24, 1)
    assert model.get_layer("probability").output.shape[-1] == 4
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions[0].kernel.shape == (3, 3, 12, 4)


def test_color_input_scales_and_converts():
    image = np.array([[[[255, 0, 0], [0, 255, 0], [51, 51, 51]]]], np.uint8)
    np.testing.assert_allclose(ColorInput()(image)[0, 0, 2], [0.2, 0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(ColorInput("hsv")(image)[0, 0], [[0, 1, 1], [1 / 3, 1, 1], [0, 0, 0.2]], atol=1e-6)
    np.testing.assert_allclose(ColorInput(gamma=2.0)(image)[0, 0, 2], [0.04, 0.04, 0.04], atol=1e-6)


def test_colour_spaces_are_those_of_opencv_and_scikit_image(rng):
    image = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    image[0, :4] = [[0, 0, 0], [255, 255, 255], [7, 7, 7], [255, 0, 255]]
    scaled = image.astype(np.float32) / 255
    hls = cv2.cvtColor(scaled, cv2.COLOR_RGB2HLS) / [360, 1, 1]
    lab = np.add(rgb2lab(image), [0, 128, 128]) / [100, 255, 255]
    np.testing.assert_allclose(ColorInput("hls")(image[None])[0], hls, atol=1e-5)
    np.testing.assert_allclose(ColorInput("lab")(image[None])[0], lab, atol=5e-5)  # White differs in its fifth digit.


def test_a_unet_starts_at_its_prior_and_keeps_its_activation_and_gamma(rng):
    settings = {"prior": 0.5, "activation": "mish", "gamma": 0.5, "color_space": "lab"}
    model = models.build_model("unet", {**SMALL, **settings})
    assert np.asarray(model.get_layer("probability").bias) == 0
    assert {layer.activation.__name__ for layer in model.layers if isinstance(layer, keras.layers.Activation)} == {
        "mish"
    }
    usual = models.build_model("unet", SMALL).get_layer("probability").bias
    assert 1 / (1 + np.exp(-np.asarray(usual))) == pytest.approx(0.02)
    twin = keras.Model.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    image = rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(twin(image), model(image))
    assert "gamma" not in ColorInput().get_config()  # Earlier versions refuse what they do not know.


def test_a_date_will_do_as_a_seed():
    models.build_model("unet", {**SMALL, "dropout": 0.1, "seed": 20261123})


def test_same_seed_same_weights():
    first, again, other = (models.build_model("unet", {**SMALL, "seed": seed}).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    kernels = [weight for weight in first if weight.ndim == 4]
    assert len({weight.tobytes() for weight in kernels}) == len(kernels)  # no two layers start alike


def test_mixed_precision_still_gives_float32_probabilities(rng):
    model = models.build_model("unet", SMALL, precision="mixed_bfloat16")
    with pytest.raises(UserError):
        models.build_model("unet", {"levels": 0}, precision="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"  # as before
    assert model.layers[2].compute_dtype == "bfloat16"
    assert str(model(rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)).dtype) == "float32"


def test_a_saved_model_opens_in_a_fresh_process_with_its_colours(tmp_path, rng):
    model = models.build_model("unet", {**SMALL, "color_space": "hsv", "normalization": "batch"})
    image = rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys, numpy as np; from tiledseg_utils.prediction.inference import load_model;"
        "model = load_model(sys.argv[1] + '/model.keras');"
        "np.save(sys.argv[1] + '/output.npy', model(np.load(sys.argv[1] + '/image.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "output.npy"), model(image), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("unett", {}, "model: unett: is not known. Did you mean unet?"),
        ("unet", {"levelz": 3}, "model_settings.unet.levelz: is not known. Did you mean levels?"),
        ("unet", {"levels": "3"}, "levels: '3' is text. Give a whole number from 2 to 10"),
        ("unet", {"levels": 1}, "levels: 1 is out of range. Give a whole number from 2 to 10"),
        ("unet", {"patch_size": 0}, "patch_size: 0 is out of range. Give a whole number from 1 to 8"),
        ("unet", {"first_kernel": 4}, "first_kernel: 4 is not known. Give one of 1, 3, 5"),
        ("unet", {"dropout": 0.3}, "dropout: 0.3 in 5 levels drops everything in the deepest. Give less than 0.25"),
        ("unet", {"prior": 1}, "prior: 1 is out of range. Give a number from 0.0001 to 0.9999"),
        ("unet", {"normalization": "group"}, "normalization: 'group' is not known. Give one of none, batch"),
        ("unet", {"color_space": "bgr"}, "color_space: 'bgr' is not known. Give one of rgb, hsv, hls, lab"),
    ],
)
def test_wrong_settings(name, settings, message):
    with pytest.raises(UserError) as refused:
        models.build_model(name, settings)
    assert message in str(refused.value)
