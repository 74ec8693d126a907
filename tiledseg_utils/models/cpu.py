"""What Keras does slowly on CPUs, done fast: drop-in rewrites of its layers and initialisers.

Layers have the weights and values of those that they replace, so an architecture reads the same with either. The
gradients are the same, too, except where a pooling window holds its maximum twice. Each docstring says what is gained:
forward and backward, measured side by side on two cores with JAX 0.10 and images of half a megapixel in 8 channels.
"""

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from ..base.environment import convolves_with_onednn
from .backend import keras, layers, ops


@keras.saving.register_keras_serializable("tiledseg")
def relu(inputs):
    """What models that were saved by earlier versions name as their activation. With JAX 0.10 it gains nothing."""
    return ops.relu(inputs)


@keras.saving.register_keras_serializable("tiledseg")
class Convolution(layers.Conv2D):
    """A convolution whose weights get their gradient from Eigen where oneDNN computes convolutions.

    JAX 0.12 hands convolutions on CPUs to oneDNN (see `base.environment.fast_flags`), which is faster for the outputs
    and for the gradient of the inputs, but slower for that of the weights. There the weights get theirs as in
    `_weight_gradient`. Everywhere else, and with a stride, a dilation or a padding of "valid", this is a `Conv2D`, as
    it is with kernels of 7 pixels, where oneDNN takes 188 ms for that gradient and Eigen 426.
    8 tiles of 256 px, 3 x 3 pixels, 32 channels to 16: 140 ms instead of 203 with 0.12, and 214 with 0.10.
    """

    def convolution_op(self, inputs, kernel):
        plain = super().convolution_op
        settings = self.strides, self.dilation_rate, self.padding, self.groups
        usual = settings == ((1, 1), (1, 1), "same", 1) and 1 < max(self.kernel_size) < 7
        if not (usual and keras.backend.backend() == "jax" and convolves_with_onednn()):
            return plain(inputs, kernel)
        import jax

        if jax.default_backend() != "cpu":
            return plain(inputs, kernel)

        @jax.custom_vjp
        def convolve(images, kernel):
            return plain(images, kernel)

        def forward(images, kernel):
            return plain(images, kernel), (images, kernel)

        def backward(kept, upstream):
            images, kernel = kept
            _, image_gradient = jax.vjp(lambda images: plain(images, kernel), images)
            return *image_gradient(upstream), _weight_gradient(images, upstream, kernel.shape[:2])

        convolve.defvjp(forward, backward)
        return convolve(ops.convert_to_tensor(inputs, dtype=kernel.dtype), ops.convert_to_tensor(kernel))


def _weight_gradient(images, upstream, size: tuple[int, int]):
    """Of a convolution with padding "same": (N, H, W, C) and (N, H, W, F) to (rows, columns, C, F), by Eigen.

    It is a convolution itself, of one with the other as a kernel of H x W pixels, over channels as if they were images.
    Eigen gathers the parts of the first that meet the kernel, which takes less where that one has fewer channels: with
    32 to 16, 79 ms instead of 117. In that order, the result comes mirrored.
    """
    if images.shape[-1] > upstream.shape[-1]:
        return ops.transpose(ops.flip(_correlation(upstream, images, size, mirrored=True), (1, 2)), (1, 2, 3, 0))
    return ops.transpose(_correlation(images, upstream, size, mirrored=False), (1, 2, 0, 3))


def _correlation(first, second, size: tuple[int, int], mirrored: bool):
    """Sums of products of each channel of `first`, moved by up to half a kernel, with each of `second`: (C, *size, F).

    oneDNN's rewriter passes over convolutions with a negative padding. So one row of zeros too many is put above the
    first image, which is copied anyway, and taken away by the padding. The barrier keeps XLA from summing both up.
    """
    from jax import lax

    before = [length // 2 if mirrored else (length - 1) // 2 for length in size]
    after = [length - 1 - part for length, part in zip(size, before, strict=True)]
    padded = ops.pad(ops.transpose(first, (3, 1, 2, 0)), ((0, 0), (before[0] + 1, 0), (0, 0), (0, 0)))
    padding = ((-1, after[0]), (before[1], after[1]))
    kernel = ops.transpose(second, (1, 2, 0, 3))
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(lax.optimization_barrier(padded), kernel, (1, 1), padding, dimension_numbers=names)


@keras.saving.register_keras_serializable("tiledseg")
class MaxPooling(layers.MaxPooling2D):
    """The largest of each 2x2 block, (N, H, W, C) to (N, H/2, W/2, C), as the maximum of four strided slices.

    The values are those of `MaxPooling2D(2)`, in 10 ms instead of 37. Where the largest value stands twice in a block,
    both share the gradient.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "pool_size": 2, "strides": 2, "padding": "valid"})

    def call(self, inputs):
        upper, lower = (ops.maximum(inputs[:, row::2, ::2], inputs[:, row::2, 1::2]) for row in (0, 1))
        return ops.maximum(upper, lower)


@keras.saving.register_keras_serializable("tiledseg")
class UpConvolution(layers.Conv2DTranspose):
    """A 2x2 transposed convolution with stride 2, computed as one matrix product.

    The output blocks of such a layer do not overlap, so it equals a product of every pixel with a (C, 4F) matrix and a
    rearrangement of the result (depth to space). Weights and values are those of `Conv2DTranspose(filters, 2, 2)`, in
    37 ms instead of 101 (an eighth of a megapixel, 16 channels to 8).

    Input (N, H, W, C), output (N, 2H, 2W, filters).
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **{**kwargs, "kernel_size": 2, "strides": 2, "padding": "valid"})

    def call(self, inputs):
        n, height, width, channels = ops.shape(inputs)
        matrix = ops.reshape(ops.transpose(self.kernel, (3, 0, 1, 2)), (channels, 4 * self.filters))
        blocks = ops.reshape(ops.matmul(inputs, matrix), (n, height, width, 2, 2, self.filters))
        image = ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4, 5)), (n, 2 * height, 2 * width, self.filters))
        return self.activation(image + self.bias)


@keras.saving.register_keras_serializable("tiledseg")
class DepthwiseConvolution(layers.DepthwiseConv2D):
    """A depth-wise convolution as a sum of shifted, scaled images: one filter per channel, no dilation.

    Weights, values and gradients are those of `DepthwiseConv2D`: 59 ms instead of 357 with a kernel of 3 x 3 pixels, 37
    instead of 639 with 5 x 5 and a stride of 2. The gradient is written out, as automatic differentiation would pad an
    image for each weight.
    """

    def call(self, inputs):
        step = self.strides[0]
        if self.padding == "same":
            totals = [
                max((-(-length // step) - 1) * step + size - length, 0)
                for length, size in zip(ops.shape(inputs)[1:3], self.kernel_size, strict=True)
            ]
            inputs = ops.pad(inputs, ((0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)))

        @ops.custom_gradient
        def convolve(images, kernel):
            def gradients(*args, upstream=None):  # JAX and TensorFlow give it by place, PyTorch by name.
                upstream = args[0] if upstream is None else upstream
                return _image_gradient(images, kernel, upstream, step), _kernel_gradient(images, kernel, upstream, step)

            rows, columns = ((length - kernel.shape[0]) // step + 1 for length in ops.shape(images)[1:3])
            return sum(_shifted(images, tap, rows, columns, step) * kernel[tap] for tap in _taps(kernel)), gradients

        outputs = convolve(inputs, ops.convert_to_tensor(self.kernel)[..., 0])
        return self.activation(outputs if self.bias is None else outputs + self.bias)


def _taps(kernel) -> list[tuple[int, int]]:
    return list(np.ndindex(*kernel.shape[:2]))


def _shifted(images, tap: tuple[int, int], rows: int, columns: int, step: int):
    """The pixels that a weight of a depth-wise kernel (k, k, C) meets."""
    top, left = tap
    return images[:, top : top + (rows - 1) * step + 1 : step, left : left + (columns - 1) * step + 1 : step]


def _image_gradient(images, kernel, upstream, step: int):
    """Of a depth-wise convolution. Pixels `step` apart meet the same weights, so each such lattice is a convolution."""
    n, height, width, channels = ops.shape(images)
    reach, rows, columns = (kernel.shape[0] - 1) // step, -(-height // step), -(-width // step)
    upstream = ops.pad(upstream, ((0, 0), (reach, reach + 1), (reach, reach + 1), (0, 0)))
    lattices = [ops.zeros((n, rows, columns, channels), upstream.dtype)] * step**2
    for row, column in _taps(kernel):
        place = reach - row // step, reach - column // step
        part = _shifted(upstream, place, rows, columns, 1) * kernel[row, column]
        lattices[row % step * step + column % step] += part
    blocks = ops.reshape(ops.stack(lattices, -2), (n, rows, columns, step**2 * channels))
    return ops.depth_to_space(blocks, step)[:, :height, :width] if step > 1 else blocks


def _kernel_gradient(images, kernel, upstream, step: int):
    """Of a depth-wise convolution, row by row, so that what all weights meet stays in the cache; summed in float32."""
    n, rows, columns, channels = ops.shape(upstream)
    band = (n, kernel.shape[0], ops.shape(images)[2], channels)

    def add_row(row, total):
        seen = ops.slice(images, (0, row * step, 0, 0), band)
        error = ops.cast(ops.slice(upstream, (0, row, 0, 0), (n, 1, columns, channels)), "float32")
        sums = [ops.sum(_shifted(seen, tap, 1, columns, step) * error, (0, 1, 2)) for tap in _taps(kernel)]
        return total + ops.stack(sums)

    total = ops.fori_loop(0, rows, add_row, ops.zeros((len(_taps(kernel)), channels), "float32"))
    return ops.cast(ops.reshape(total, kernel.shape), kernel.dtype)


def layer_seed(*key: int) -> int:
    """A 32-bit seed for one layer, from non-negative numbers that tell it from all others, such as (seed, level).

    Zeros at the end do not count.
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def dropout_seed(*key: int) -> int:
    """A `layer_seed` of 31 bits, since PyTorch has no room for more there."""
    return layer_seed(*key) >> 1


class _Drawn(keras.initializers.Initializer):
    """Random initial weights, drawn with NumPy, distributed as those of Keras by the same name.

    JAX compiles a program for each shape: a U-Net of five levels takes 19 s to build with Keras' initialisers and 0.4 s
    with these. They are also independent of backend and version.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(self.draw(np.random.default_rng(self.seed), tuple(shape)), dtype)

    def get_config(self):
        return {"seed": self.seed}


def _truncated_normal(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Standard normal numbers, of which those beyond 2 are drawn again."""
    values = rng.standard_normal(shape, np.float32)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(int(beyond.sum()), np.float32)
    return values


@keras.saving.register_keras_serializable("tiledseg")
class HeNormal(_Drawn):
    """For layers before a ReLU (He et al., ICCV 2015, arXiv:1502.01852)."""

    def draw(self, rng, shape):
        # Truncation takes 12 % off the standard deviation, which is given back here.
        return _truncated_normal(rng, shape) * (math.sqrt(2 / math.prod(shape[:-1])) / 0.87962566)


@keras.saving.register_keras_serializable("tiledseg")
class GlorotUniform(_Drawn):
    """For layers before a sigmoid or none (Glorot and Bengio, AISTATS 2010)."""

    def draw(self, rng, shape):
        limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape)


@keras.saving.register_keras_serializable("tiledseg")
class SmallNormal(_Drawn):
    """For transformers: standard deviation 0.02 (Liu et al., ICCV 2021, arXiv:2103.14030)."""

    def draw(self, rng, shape):
        return 0.02 * _truncated_normal(rng, shape)


@contextlib.contextmanager
def constants_from_numpy() -> Iterator[None]:
    """Have Keras fill initial weights with NumPy. JAX would compile a program for each shape: an
    EfficientNet takes 28 s to build then, and 2 s so.

    Random weights become zeros, as they are replaced at once.
    """
    fills = {"VarianceScaling": np.zeros, "Zeros": np.zeros, "Ones": np.ones}
    calls = {name: getattr(keras.initializers, name).__call__ for name in fills}
    for name, fill in fills.items():
        getattr(keras.initializers, name).__call__ = lambda self, shape, dtype=None, fill=fill: fill(shape, dtype)
    try:
        yield
    finally:
        for name, call in calls.items():
            getattr(keras.initializers, name).__call__ = call
