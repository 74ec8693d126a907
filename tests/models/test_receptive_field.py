import gc
import itertools
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.models import receptive_field
from tiledseg_utils.models.cpu import UpConvolution
from tiledseg_utils.models.layers import DepthToSpace, SpaceToDepth
from tiledseg_utils.models.receptive_field import Window, required_halo

from .probe import probe_halo

ORIGINAL = {"base_filters": 1, "levels": 8, "first_kernel": 7, "dropout": 0.05, "dilation": 1, "color_space": "hsv"}


def chain(*steps, channels=2):
    """A model of one layer after the other, ending with one channel."""
    x = inputs = keras.Input((None, None, channels))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, conv1(x))


def conv(kernel=3, **settings):
    return layers.Conv2D(2, kernel, **{"padding": "same", "kernel_initializer": "ones", **settings})


def conv1(x):
    return layers.Conv2D(1, 1, kernel_initializer="ones")(x)


def down_up(kernel, stride=2, **settings):
    """A strided convolution and a transposed one back, with a convolution between."""
    settings = {"padding": "same", **settings}
    return chain(conv(strides=stride), conv(), layers.Conv2DTranspose(2, kernel, stride, **settings), conv())


def pool_up(pool, **settings):
    return chain(conv(), pool, conv(), layers.UpSampling2D(2, **settings), conv())


def nested():
    inner = keras.Sequential([keras.Input((None, None, 2)), conv(), layers.ReLU(), layers.BatchNormalization()])
    x = inputs = keras.Input((None, None, 2))
    x = inner(layers.MaxPooling2D(2)(x))
    return keras.Model(inputs, UpConvolution(1)(layers.PReLU(shared_axes=[1, 2])(inner(x))))


def operations():
    inputs = keras.Input((None, None, 2))
    x = conv(activation="sigmoid")(inputs / 2)
    y = ops.sigmoid(conv(5)(x)) * x + 1.0
    y = ops.concatenate([ops.relu(y), conv((1, 7))(x)], axis=-1)
    return keras.Model(inputs, ops.sigmoid(conv1(y)))


def gated():
    inputs = keras.Input((None, None, 2))
    x = conv()(inputs)
    gate = layers.UpSampling2D(2)(conv(activation="sigmoid")(layers.MaxPooling2D(2)(x)))
    return keras.Model(inputs, conv1(layers.Subtract()([layers.Multiply()([x, gate]), x])))


ZOO = {
    "one pixel": chain,
    "dilated": lambda: chain(conv(dilation_rate=2), conv(5, dilation_rate=(3, 1))),
    "oblong": lambda: chain(conv((3, 1)), conv((1, 9)), conv((4, 2))),
    "transposed 2": lambda: down_up(2),
    "transposed 3": lambda: down_up(3),
    "transposed 4": lambda: down_up(4),
    "transposed 5 by 3": lambda: down_up(5, 3),
    "transposed 2 by 3": lambda: down_up(2, 3),
    "transposed valid 3 by 3": lambda: down_up(3, 3, padding="valid"),
    "transposed with output padding": lambda: down_up(3, output_padding=1),
    "transposed, then cropped": lambda: chain(
        conv(2, strides=2), layers.Conv2DTranspose(2, 4, 2), layers.Cropping2D(1), conv()
    ),
    "separable": lambda: chain(layers.SeparableConv2D(3, 5, padding="same"), layers.DepthwiseConv2D(3, padding="same")),
    "average, nearest": lambda: pool_up(layers.AveragePooling2D(2)),
    "average 3 by 2 same, bilinear": lambda: pool_up(
        layers.AveragePooling2D(3, 2, padding="same"), interpolation="bilinear"
    ),
    "maximum 3 by 2 same, bilinear": lambda: pool_up(
        layers.MaxPooling2D(3, 2, padding="same"), interpolation="bilinear"
    ),
    "bilinear by 3": lambda: chain(layers.MaxPooling2D(3), layers.UpSampling2D(3, interpolation="bilinear")),
    "unequal axes": lambda: chain(layers.MaxPooling2D((4, 1)), conv(), layers.UpSampling2D((4, 1)), conv()),
    "padded, valid": lambda: chain(
        layers.ZeroPadding2D(((3, 2), (3, 2))), conv(7, strides=2, padding="valid"), conv(), UpConvolution(2)
    ),
    "padded by one, same": lambda: chain(
        layers.ZeroPadding2D(((1, 0), (1, 0))), conv(strides=2), UpConvolution(2), layers.Cropping2D(((1, 1), (1, 1)))
    ),
    "nested": nested,
    "folded by 3": lambda: chain(
        SpaceToDepth(3), conv(), layers.Conv2D(9, 1, kernel_initializer="ones"), DepthToSpace(3)
    ),
    "sequential": lambda: keras.Sequential(
        [keras.Input((None, None, 2)), conv(), conv(3, strides=2), UpConvolution(1)]
    ),
    "operations": operations,
    "gated": gated,
    "channels only": lambda: chain(conv(), layers.LayerNormalization(), layers.Softmax(), conv(), layers.Dropout(0.5)),
}


@pytest.mark.parametrize(
    ("levels", "halo", "radius"), [(2, 8, 9), (3, 24, 23), (4, 48, 51), (5, 96, 107), (6, 192, 219)]
)
def test_the_u_net_has_the_published_halo_and_radius(levels, halo, radius):
    """The values follow from the formulas for kernels of 3, and agree with CSBDeep's and NIST's."""
    field = receptive_field.receptive_field(models.build_model("unet", {"base_filters": 2, "levels": levels}))
    assert (field.alignment, field.halo, field.radius, field.non_local_layers) == (2 ** (levels - 1), halo, radius, ())


@pytest.mark.parametrize("patch_size", [2, 3])
def test_a_patch_size_multiplies_halo_and_alignment(patch_size):
    model = models.build_model("unet", {"base_filters": 1, "levels": 3, "patch_size": patch_size})
    field = receptive_field.receptive_field(model)
    assert (field.alignment, field.halo, field.non_local_layers) == (4 * patch_size, 24 * patch_size, ())
    assert probe_halo(model) == required_halo(model)


def test_the_published_network_looks_907_pixels_far_as_measured():
    model = models.build_model("unet", ORIGINAL)
    field = receptive_field.receptive_field(model)
    assert (field.alignment, field.halo, field.radius) == (128, 1024, 907)
    assert probe_halo(model) == 1024


@pytest.mark.parametrize(
    "settings",
    [
        {"levels": 2, "color_space": "hsv"},
        {"levels": 3, "normalization": "batch", "dropout": 0.1},
        {"levels": 3, "dilation": 3, "first_kernel": 5},
        {"levels": 4},
        {"levels": 5},
    ],
    ids=str,
)
def test_the_halo_of_u_nets_is_what_is_measured(settings):
    model = models.build_model("unet", {"base_filters": 2, **settings})
    assert required_halo(model) == probe_halo(model)


@pytest.mark.parametrize("name", ZOO)
def test_the_halo_is_what_is_measured(name):
    model = ZOO[name]()
    assert required_halo(model) == probe_halo(model)


def positive_weights(model, rng):
    for weight in model.trainable_weights:
        weight.assign(rng.uniform(0.5, 1, weight.shape) / max(1, np.prod(weight.shape[:-1])))


def error_of_tiles(model, halo, rng):
    """Largest relative difference to the whole image: of a core of one block, and of a core at the image's border."""
    block = receptive_field.receptive_field(model).alignment
    # Both lie so that no other edge of the tiles is an edge of the image.
    size, start = block + 2 * halo, 2 * block
    image = rng.uniform(0, 1, (size + 2 * start, size + 2 * start, 2)).astype(np.float32)
    whole = model.predict_on_batch(image[None])[0]
    wide, tall = slice(start, start + size), slice(0, size)
    inside, border = model.predict_on_batch(np.stack([image[wide, wide], image[tall, wide]]))
    core, edge = slice(halo, halo + block), slice(0, halo + block)
    errors = inside[core, core] - whole[wide, wide][core, core], border[edge, core] - whole[tall, wide][edge, core]
    return max(np.abs(error).max() for error in errors) / np.abs(whole).max()


EXACT = {
    **{name: make for name, make in ZOO.items() if name not in ("oblong", "transposed 4", "separable", "sequential")},
    "bicubic": lambda: pool_up(layers.MaxPooling2D(2), interpolation="bicubic"),
    "lanczos3": lambda: pool_up(layers.MaxPooling2D(2), interpolation="lanczos3"),
    # What these do cannot be seen in the image: zeros in place of a tensor that was cropped, a bias alone.
    "cropped": lambda: chain(layers.Cropping2D(3), conv(), layers.ZeroPadding2D(3)),
    "gaps": lambda: chain(
        layers.MaxPooling2D(2), layers.Conv2DTranspose(2, 1, 2, padding="same", bias_initializer="ones"), conv()
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_tiles_with_the_halo_equal_the_whole_image_and_tiles_with_less_do_not(name, rng):
    model = EXACT[name]()
    positive_weights(model, rng)
    halo = required_halo(model)
    assert error_of_tiles(model, halo, rng) < 2e-6
    if halo:
        assert error_of_tiles(model, halo - receptive_field.receptive_field(model).alignment, rng) > 1e-5


def test_the_probe_does_not_see_where_cropped_tensors_end():
    model = EXACT["cropped"]()
    assert (probe_halo(model), required_halo(model)) == (1, 4)


def transposed(kernel, stride, padding="same", **settings):
    return layers.Conv2DTranspose(1, kernel, stride, padding, kernel_initializer="ones", **settings)


@pytest.mark.parametrize(
    "layer",
    [
        *(
            conv(3, strides=2),
            conv(4),
            conv(4, strides=3),
            conv(3, dilation_rate=2),
            conv(3, strides=2, padding="valid"),
        ),
        *(transposed(kernel, 2) for kernel in (1, 2, 3, 4)),
        *(transposed(2, 3), transposed(4, 3), transposed(3, 2, output_padding=1), transposed(3, 2, output_padding=0)),
        *(transposed(3, 2, "valid"), transposed(1, 3, "valid"), transposed(2, 1, dilation_rate=3)),
        *(layers.MaxPooling2D(3, 2, padding="same"), layers.AveragePooling2D(2, 1, padding="same")),
        *(layers.UpSampling2D(factor, interpolation=kind) for factor in (2, 3) for kind in ("nearest", "bilinear")),
        *(layers.UpSampling2D(2, interpolation=kind) for kind in ("bicubic", "lanczos3")),
        *(layers.ZeroPadding2D((2, 1)), layers.Cropping2D(((2, 1), (0, 0)))),
    ],
    ids=lambda layer: layer.name,
)
def test_every_output_pixel_reads_what_its_window_says(layer):
    """Measured with one bright row at a time."""
    length = 12
    rows, _ = receptive_field.reach(layer)
    bright = np.broadcast_to(np.eye(length, dtype=np.float32)[:, :, None, None], (length, length, 12, 1))
    seen = np.asarray(layer(bright)).any(axis=(2, 3))  # which input row is seen by which output row
    assert seen.shape[1] == rows.length(length)
    for pixel in range(seen.shape[1]):
        low, high = rows.reads(pixel, pixel, length)
        measured = {*np.flatnonzero(seen[:, pixel]).tolist()}
        assert measured <= {*range(low, high + 1)}
        # Both ends are read, unless they lie outside the input or nothing is read at all.
        assert {end for end in (low, high) if 0 <= end < length and low <= high} <= measured


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_windows_know_the_sizes_that_keras_computes(padding):
    for size, stride in itertools.product(range(1, 6), range(1, 4)):
        convolution = layers.Conv2D(1, size, stride, padding=padding)
        transposed = [layers.Conv2DTranspose(1, size, stride, padding=padding, output_padding=o) for o in (None, 0)]
        for layer in (convolution, layers.MaxPooling2D(size, stride, padding=padding), *transposed):
            rows, _ = receptive_field.reach(layer)
            for length in range(size, 12):
                assert layer.compute_output_shape((1, length, length, 1))[1] == rows.length(length)


def attention(layer):
    x = inputs = keras.Input((None, None, 2))
    x = conv()(x)
    return keras.Model(inputs, conv1(layer(x, x)))


def squeeze(layer):
    x = inputs = keras.Input((None, None, 2))
    return keras.Model(inputs, layers.Multiply()([conv()(x), layers.Dense(2)(layer(x))]))


def fixed(*steps):
    return keras.Sequential([keras.Input((8, 8, 2)), *steps])


OBSTACLES = {
    "GroupNormalization": lambda name: chain(conv(), layers.GroupNormalization(1, name=name)),
    "LayerNormalization": lambda name: fixed(layers.LayerNormalization(axis=(1, 2, 3), name=name)),
    "BatchNormalization": lambda name: fixed(layers.BatchNormalization(axis=1, name=name)),
    "Softmax": lambda name: chain(layers.Softmax(axis=(1, 2), name=name)),
    "GlobalAveragePooling2D": lambda name: squeeze(layers.GlobalAveragePooling2D(keepdims=True, name=name)),
    "GlobalMaxPooling2D": lambda name: squeeze(layers.GlobalMaxPooling2D(keepdims=True, name=name)),
    "MultiHeadAttention": lambda name: attention(layers.MultiHeadAttention(1, 2, attention_axes=(1, 2), name=name)),
    "Flatten": lambda name: fixed(layers.Flatten(name=name), layers.Dense(1)),
    "Reshape": lambda name: fixed(layers.Reshape((8, 8, 2), name=name)),
    "PReLU": lambda name: fixed(layers.PReLU(name=name)),
    "Resizing": lambda name: chain(layers.Resizing(8, 8, name=name)),
    "AdaptiveAveragePooling2D": lambda name: chain(layers.AdaptiveAveragePooling2D(8, name=name)),
}


@pytest.mark.parametrize("kind", OBSTACLES)
def test_obstacles_are_named(kind):
    model = OBSTACLES[kind]("the_culprit")
    (sentence,) = receptive_field.receptive_field(model).non_local_layers
    assert sentence.startswith(f"the_culprit ({kind}) ")
    with pytest.raises(UserError, match=r"the_culprit .*Blend"):
        required_halo(model)


def test_attention_is_an_obstacle_whatever_its_kind():
    for layer in (layers.Attention(), layers.AdditiveAttention(), layers.GroupQueryAttention(2, 2, 1)):
        assert "the whole tile" in receptive_field.reach(layer)


def test_an_obstacle_leaves_the_rest_and_is_named_once_for_a_layer_used_twice():
    norm = layers.GroupNormalization(1)
    field = receptive_field.receptive_field(chain(layers.MaxPooling2D(2), norm, conv(), norm, UpConvolution(2)))
    assert (field.alignment, field.halo, field.radius, len(field.non_local_layers)) == (2, 2, 3, 1)


@pytest.mark.parametrize("layer", ["GroupNormalization", "GlobalAveragePooling2D"])
def test_the_probe_sees_that_a_layer_mixes_the_whole_tile(layer):
    with pytest.raises(UserError, match="mixes the whole tile"):
        probe_halo(OBSTACLES[layer]("x"))


def test_the_memory_of_a_small_network_counted_by_hand():
    inputs = keras.Input((None, None, 3))  # 12 bytes per pixel
    skip = conv()(inputs)  # 8
    x = layers.UpSampling2D(2)(conv(dtype="float16")(layers.MaxPooling2D(2)(skip)))  # 2, 1, 4 x 2
    x = layers.Concatenate()([x, skip])  # 16, while both parts are still needed: 32
    field = receptive_field.receptive_field(keras.Model(inputs, conv1(x)))
    assert field.bytes_per_pixel == 32
    assert receptive_field.receptive_field(chain(channels=64)).bytes_per_pixel == 65 * 4


def test_the_memory_of_the_u_net_is_as_measured():
    """About 280 bytes per pixel were measured, with what XLA needs besides."""
    model = models.build_model("unet", {"base_filters": 16, "levels": 5})
    assert 200 <= receptive_field.receptive_field(model).bytes_per_pixel <= 320


class Blur(keras.Layer):
    def call(self, x):
        return layers.AveragePooling2D(5, 1, padding="same")(x)


class Smear(Blur):
    pass


def test_an_unknown_layer_is_named_and_can_be_registered():
    model = chain(Blur(name="haze"))
    with pytest.raises(UserError, match=r"haze \(Blur\).*@receptive_field.reach.register\(Blur\)"):
        required_halo(model)
    receptive_field.reach.register(Blur, lambda layer: (Window(5, padding="same"),) * 2)
    assert required_halo(model) == probe_halo(model) == 2
    assert required_halo(chain(Smear(), Blur())) == 4  # a subclass inherits the rule


def test_an_unknown_operation_is_named():
    inputs = keras.Input((None, None, 2))
    with pytest.raises(UserError, match=r"\(Cumsum\)"):
        required_halo(keras.Model(inputs, ops.cumsum(inputs, axis=1)))


def channels_first():
    inputs = keras.Input((2, None, None))
    return keras.Model(inputs, conv(data_format="channels_first")(inputs))


def two_inputs():
    inputs = [keras.Input((None, None, 2)), keras.Input((None, None, 2))]
    return keras.Model(inputs, layers.Add()(inputs))


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (channels_first, "channels first"),
        (two_inputs, "one batch of images"),
        (Subclassed, "no layer graph"),
        (lambda: chain(layers.MaxPooling2D(2)), "not as large"),
        (lambda: chain(conv(padding="valid")), "not as large"),
    ],
)
def test_models_that_cannot_be_tiled_are_refused(make, problem):
    with pytest.raises(UserError, match=problem):
        receptive_field.receptive_field(make())


def test_the_result_is_remembered_and_pins_no_model():
    model = models.build_model("unet", {"base_filters": 1, "levels": 2})
    field, alive = receptive_field.receptive_field(model), weakref.ref(model)
    assert receptive_field.receptive_field(model) is field
    del model
    gc.collect()
    assert alive() is None


def test_several_outputs_count_together():
    x = inputs = keras.Input((None, None, 2))
    near, far = conv()(x), conv(9)(conv(9)(x))
    assert (
        required_halo(keras.Model(inputs, [near, far])) == probe_halo(keras.Model(inputs, {"a": near, "b": far})) == 8
    )
