"""Each architecture beside `unet`: its size, its idea, and how tiles suit it."""

import subprocess
import sys

import jax
import keras
import numpy as np
import pytest
from keras import layers

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.models.attention_unet import attention_gate
from tiledseg_utils.models.deeplab_v3_plus import atrous_pyramid
from tiledseg_utils.models.encoders import pretrained
from tiledseg_utils.models.multires_unet import multires_block
from tiledseg_utils.models.receptive_field import receptive_field, required_halo
from tiledseg_utils.models.windows import WindowAttention
from tiledseg_utils.prediction import inference

from .probe import probe_halo

SMALL = {
    "attention_unet": {"base_filters": 4, "levels": 3},
    "multires_unet": {"base_filters": 6, "levels": 3},
    "unet3_plus": {"base_filters": 4, "levels": 3},
    "efficient_unet": {"base_filters": 4},
    "deeplab_v3_plus": {"encoder": "MobileNetV2", "filters": 16},
    "swin_unet": {"base_filters": 16, "levels": 2, "window": 3},
}
EXACT = {"attention_unet": 8, "multires_unet": 8, "unet3_plus": 8, "swin_unet": 24}
"""Alignment of those that tiles can reproduce exactly."""


@pytest.fixture(scope="module")
def small():
    """Each architecture, built once."""
    built = {}

    def build(name):
        if name not in built:
            built[name] = models.build_model(name, {**SMALL[name], "seed": 1})
        return built[name]

    return build


@pytest.fixture
def compiled_in_haste():
    """Eight steps take less time than it takes to optimise what they run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (1, 96, 160, 3)).astype(np.uint8)


def biases_left_out(model):
    return sum(layer.filters for layer in model.layers if isinstance(layer, layers.Conv2D) and not layer.use_bias)


def test_all_have_a_small_size_here():
    assert {"unet", *SMALL} == {*models.MODELS}


def test_attention_unet_has_the_parameters_of_the_published_experiments_code():
    settings = {"base_filters": 16, "levels": 6, "gate": "channels", "dropout": 0.1, "patch_size": 1}
    model = models.build_model("attention_unet", settings)
    assert model.count_params() + biases_left_out(model) == 8_229_073


def test_multires_unet_has_the_parameters_of_its_authors_code():
    model = models.build_model("multires_unet", {"base_filters": 32, "levels": 5, "patch_size": 1})
    scales = biases_left_out(model)  # A normalisation that follows a convolution has a scale here, and none there.
    head = 3 - 1  # There, the last convolution has no bias but a normalisation of three numbers.
    assert model.count_params() - scales + head == 7_262_750


def test_unet3_plus_has_the_parameters_of_the_paper():
    model = models.build_model("unet3_plus", {"base_filters": 64, "levels": 5, "patch_size": 1})
    assert round((model.count_params() + biases_left_out(model)) / 1e6, 2) == 26.98


def test_swin_unet_has_the_parameters_of_the_paper():
    model = models.build_model("swin_unet", {"base_filters": 96, "levels": 4, "window": 7})
    nine_classes = 9 * 96 - (96 + 1)  # without bias there
    assert round((model.count_params() + nine_classes) / 1e6, 2) == 27.17


@pytest.mark.parametrize(
    ("name", "settings", "application", "end"),
    [
        ("efficient_unet", {"version": "B0"}, keras.applications.EfficientNetB0, "top_conv"),
        ("deeplab_v3_plus", {"encoder": "ResNet50"}, keras.applications.ResNet50, "conv5_block1_1_conv"),
        ("deeplab_v3_plus", {"encoder": "MobileNetV2"}, keras.applications.MobileNetV2, "block_13_expand"),
    ],
)
def test_encoders_are_those_of_keras(name, settings, application, end, monkeypatch):
    """By name and shape of the weights of each convolution, up to where the encoder ends."""
    zeros = keras.initializers.Zeros()  # random numbers would take most of a minute
    monkeypatch.setattr(
        keras.initializers.VarianceScaling, "__call__", lambda self, shape, dtype=None: zeros(shape, dtype)
    )
    ours = {layer.name: layer for layer in models.build_model(name, settings).layers}
    theirs = application(include_top=False, weights=None).layers
    theirs = theirs[: [layer.name for layer in theirs].index(end)]
    convolutions = [layer for layer in theirs if hasattr(layer, "kernel")]
    assert len(convolutions) > 30 and end not in ours
    for layer in convolutions:
        assert [weight.shape for weight in ours[layer.name].weights] == [weight.shape for weight in layer.weights]


@pytest.mark.parametrize("name", SMALL)
def test_images_become_probabilities_and_the_seed_decides(small, name, image):
    model = small(name)
    probability = model.predict_on_batch(image)
    assert probability.shape == (1, 96, 160, 1) and probability.dtype == np.float32
    assert probability.min() >= 0 and probability.max() <= 1
    first, again = model.get_weights(), models.build_model(name, {**SMALL[name], "seed": 1}).get_weights()
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    kernels = [weight.tobytes() for weight in first if weight.ndim == 4 and weight.size > 30]
    assert len({*kernels}) == len(kernels)


def test_saved_models_open_in_a_fresh_process(small, tmp_path, image):
    np.save(tmp_path / "image.npy", image)
    for name in SMALL:
        small(name).save(tmp_path / f"{name}.keras")
    code = (
        "import sys, pathlib, numpy as np; from tiledseg_utils.prediction.inference import load_model\n"
        "image = np.load(sys.argv[1] + '/image.npy')\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    np.save(path.with_suffix('.npy'), load_model(path).predict_on_batch(image))\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    for name in SMALL:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), small(name).predict_on_batch(image), atol=1e-6)


@pytest.mark.usefixtures("compiled_in_haste")
@pytest.mark.parametrize("name", SMALL)
def test_each_learns_from_a_batch(name, image):
    model = models.build_model(name, SMALL[name])
    mask = (image[..., :1] > 128).astype(np.float32)
    model.compile(keras.optimizers.Adam(3e-3), loss="binary_crossentropy")
    losses = [float(model.train_on_batch(image, mask)) for _ in range(8)]
    assert np.isfinite(losses).all() and min(losses[-3:]) < losses[0]


@pytest.mark.parametrize(("name", "alignment"), EXACT.items())
def test_exact_tiles_reproduce_the_whole_image(small, name, alignment, rng):
    model = small(name)
    assert receptive_field(model).alignment == alignment
    assert required_halo(model) == probe_halo(model)
    picture = rng.integers(0, 256, (250, 330, 3)).astype(np.uint8)
    whole = inference.predict_tiled(model, picture, mode="exact", tile_size=480)
    halo = required_halo(model)
    tiled = inference.predict_tiled(model, picture, mode="exact", tile_size=2 * halo + 2 * alignment)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "culprit"), [("efficient_unet", "se_squeeze.*GlobalAverage"), ("deeplab_v3_plus", "image_mean.*ImageMean")]
)
def test_the_layer_that_makes_tiles_differ_is_named(small, name, culprit):
    with pytest.raises(UserError, match=culprit):
        required_halo(small(name))


# Attention U-Net: the gate decides what passes.


@pytest.mark.parametrize("gate", ["grid", "channels"])
def test_the_gate_suppresses_and_passes(gate, rng):
    skip, coarse = keras.Input((8, 8, 4)), keras.Input((4, 4, 6))
    model = keras.Model([skip, coarse], attention_gate(skip, coarse, (0, 0), gate))
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in ((1, 8, 8, 4), (1, 4, 4, 6))]
    *_, psi = (layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    assert psi.filters == (1 if gate == "grid" else 4)
    gated = model.predict(inputs, verbose=0)
    share = gated / inputs[0]
    assert (share > 0).all() and (share < 1).all()
    other = model.predict([inputs[0], inputs[1] + 1], verbose=0)
    assert np.abs(other - gated).max() > 1e-3  # the coarser level decides
    for bias, factor in ((-50, 0), (50, 1)):
        psi.bias.assign(np.full(psi.bias.shape, bias))
        np.testing.assert_allclose(model.predict(inputs, verbose=0), factor * inputs[0], atol=1e-6)


# MultiResUNet: three scales in one block. NaN in one pixel shows who sees it.


def reach_of_nan(outputs, inputs, size=21):
    """How many rows of each output know of the pixel in the middle."""
    probe = np.zeros((1, size, size, inputs.shape[-1]), np.float32)
    probe[:, size // 2, size // 2] = np.nan
    found = keras.Model(inputs, outputs).predict(probe, verbose=0)
    return [int(np.isnan(output).any((0, 2, 3)).sum()) for output in found]


def test_a_multires_block_sees_3_5_and_7_pixels():
    inputs = keras.Input((21, 21, 3))
    model = keras.Model(inputs, multires_block(inputs, 12, (0,)))
    (joined,) = (layer for layer in model.layers if isinstance(layer, layers.Concatenate))
    assert reach_of_nan(joined.input, inputs) == [3, 5, 7]
    assert [scale.shape[-1] for scale in joined.input] == [3, 6, 10]  # of 1.67 * 12


# UNet 3+: every node of the decoder sees all scales.


def resampling(view):
    """By how much a view was enlarged (or, below 1, pooled) since the block or node that it comes from."""
    layer = view._keras_history.operation
    while not isinstance(layer, layers.Conv2D):
        layer = layer.input._keras_history.operation
    layer, factor = layer.input._keras_history.operation, 1
    while isinstance(layer, layers.UpSampling2D | layers.MaxPooling2D):
        factor *= layer.size[0] if isinstance(layer, layers.UpSampling2D) else 0.5
        layer = layer.input._keras_history.operation
    return factor


def test_a_node_of_unet3_plus_sees_every_scale(small):
    model = small("unet3_plus")
    coarse, fine = (layer for layer in model.layers if isinstance(layer, layers.Concatenate))
    assert [resampling(view) for view in coarse.input] == [0.5, 1, 2]
    assert [resampling(view) for view in fine.input] == [1, 2, 4]
    assert {view.shape[-1] for view in [*coarse.input, *fine.input]} == {4}


def test_deep_supervision_gives_a_probability_for_each_level(image):
    model = models.build_model("unet3_plus", {**SMALL["unet3_plus"], "deep_supervision": True})
    outputs = model.predict_on_batch(image)
    assert [output.shape for output in outputs] == [(1, 96, 160, 1)] * 3


# DeepLabv3+: a pyramid of distances.


def test_the_pyramid_looks_at_four_distances_and_at_the_whole_image(rng):
    inputs = keras.Input((48, 48, 5))
    model = keras.Model(inputs, atrous_pyramid(inputs, 6, (0,)))
    (joined,) = (layer for layer in model.layers if isinstance(layer, layers.Concatenate))
    branches = keras.Model(inputs, joined.input)
    before = rng.standard_normal((1, 48, 48, 5)).astype(np.float32)
    after = before.copy()
    after[:, 24, 24] += 3
    pairs = zip(branches.predict(before, verbose=0), branches.predict(after, verbose=0), strict=True)
    rows = [np.flatnonzero((a != b).any((0, 2, 3))) - 24 for a, b in pairs]
    for found, rate in zip(rows[:4], (0, 6, 12, 18), strict=True):
        assert {*found} <= {-rate, 0, rate} and max(found) == rate
    assert len(rows[4]) == 48


# Swin-Unet: windows, shifted, without wrap-around.


def plain_attention(layer, image):
    """Pixel by pixel: each attends to all pixels of the image that lie in the same window."""
    height, width, channels = image.shape
    kernel_in, bias_in, kernel_out, bias_out, offsets = (np.asarray(weight, np.float64) for weight in layer.weights)
    query, key, value = np.split(image @ kernel_in + bias_in, 3, axis=-1)
    size, side = channels // layer.heads, 2 * layer.window - 1
    window = [
        [(y + layer.before) // layer.window * 1000 + (x + layer.before) // layer.window for x in range(width)]
        for y in range(height)
    ]
    result = np.zeros_like(image, np.float64)
    for y, x in np.ndindex(height, width):
        others = [place for place in np.ndindex(height, width) if window[place[0]][place[1]] == window[y][x]]
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.array(
                [
                    query[y, x, part] @ key[v, u, part] / size**0.5
                    + offsets[(y - v + layer.window - 1) * side + x - u + layer.window - 1, head]
                    for v, u in others
                ]
            )
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            result[y, x, part] = sum(weight * value[v, u, part] for weight, (v, u) in zip(weights, others, strict=True))
    return result @ kernel_out + bias_out


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("shape", [(8, 12), (7, 10)])
def test_window_attention_is_plain_attention_within_windows(shape, shift, rng):
    layer = WindowAttention(4, shift, heads=2)
    layer.build((None, None, None, 6))
    layer.set_weights([rng.standard_normal(weight.shape) / 2 for weight in layer.get_weights()])
    image = rng.standard_normal((*shape, 6)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(layer(image[None]))[0], plain_attention(layer, image), atol=1e-4)


def test_shifted_windows_connect_neighbours_but_not_opposite_borders(rng):
    image = rng.standard_normal((1, 8, 8, 4)).astype(np.float32)
    changed = image.copy()
    changed[0, 0, 3] += 1
    seen = {}
    for shift in (0, 2):
        layer = WindowAttention(4, shift, heads=1)
        difference = np.asarray(layer(changed)) - np.asarray(layer(image))
        seen[shift] = {*np.flatnonzero(np.abs(difference).max((0, 1, 3)) > 0).tolist()}
    assert seen == {0: {0, 1, 2, 3}, 2: {2, 3, 4, 5}}
    corner = image.copy()
    corner[0, 7, 7] += 1
    assert np.array_equal(np.asarray(layer(corner))[0, :2, :2], np.asarray(layer(image))[0, :2, :2])


# Wrong settings.


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("attention_unet", {"levels": 1}, "attention_unet.levels: 1 is out of range. Give a whole number from 2"),
        ("attention_unet", {"gate": "soft"}, "gate: 'soft' is not known. Give one of grid, channels"),
        ("attention_unet", {"dropout": 1.0}, "dropout: 1.0 is out of range. Give a number from 0 to 0.99"),
        ("multires_unet", {"base_filters": 2}, "base_filters: 2 is out of range. Give a whole number from 4"),
        ("unet3_plus", {"patch_size": 0}, "patch_size: 0 is out of range. Give a whole number from 1 to 8"),
        ("efficient_unet", {"version": "B8"}, "version: 'B8' is not known. Give one of B0, B1"),
        ("efficient_unet", {"base_filters": 0}, "base_filters: 0 is out of range. Give a whole number from 1"),
        ("efficient_unet", {"weights": "coco"}, "weights: 'coco' is not known. Give one of none, imagenet"),
        ("deeplab_v3_plus", {"filters": 0}, "filters: 0 is out of range. Give a whole number from 1"),
        ("deeplab_v3_plus", {"encoder": "VGG16"}, "one of ResNet50, MobileNetV2"),
        ("swin_unet", {"levels": 0}, "levels: 0 is out of range. Give a whole number from 1"),
        ("swin_unet", {"window": 1}, "window: 1 is out of range. Give a whole number from 2"),
        ("swin_unet", {"base_filters": 80}, "multiple of 32"),
    ],
)
def test_wrong_settings(name, settings, message):
    with pytest.raises(UserError) as refused:
        models.build_model(name, settings)
    assert message in str(refused.value)


def test_weights_that_cannot_be_downloaded():
    def application(weights, **options):
        raise Exception("URL fetch failure on example.org: None -- timed out")

    with pytest.raises(UserError, match=r"timed out.*weights: none"):
        pretrained(application, "imagenet", (), "none", 0)
