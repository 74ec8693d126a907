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

BAND_PIXELS = 8192
"""How many pixels are multiplied at once for a gradient of weights. With half as many, a whole step of the course's
network takes 3 % longer, and with twice as many 1 %."""


@keras.saving.register_keras_serializable("tiledseg")
def relu(inputs):
    """What models that were saved by earlier versions name as their activation. With JAX 0.10 it gains nothing."""
    return ops.relu(inputs)


@keras.saving.register_keras_serializable("tiledseg")
class Convolution(layers.Conv2D):
    """A convolution whose weights get their gradient from matrix products where oneDNN computes convolutions.

    JAX 0.12 hands convolutions on CPUs to oneDNN (see `base.environment.fast_flags`), which is faster for the outputs
    and for the gradient of the inputs, but slower for that of the weights. There the weights get theirs as in
    `_weight_gradient`. Everywhere else, and with a stride, a dilation or a padding of "valid", this is a `Conv2D`, as
    it is with several devices, among which XLA shares a convolution out, but not a loop over its images.
    8 tiles of 256 px, 3 x 3 pixels, 32 channels to 16: with 0.12, 24 ms for that gradient instead of 62.
    """

    def call(self, inputs):
        settings = self.strides, self.dilation_rate, self.padding, self.groups
        if settings != ((1, 1), (1, 1), "same", 1) or not _writes_gradients():
            return super().call(inputs)
        convolve = _with_gradients(self.convolution_op, self.kernel_size)
        kernel = ops.convert_to_tensor(self.kernel)
        outputs = convolve(ops.convert_to_tensor(inputs, dtype=kernel.dtype), kernel)
        return self.activation(_add_bias(outputs, self.bias) if self.use_bias else outputs)


def _writes_gradients() -> bool:
    """Whether gradients are written out: on a CPU that is the only device, where oneDNN computes convolutions."""
    if not (keras.backend.backend() == "jax" and convolves_with_onednn()):
        return False
    import jax

    return jax.default_backend() == "cpu" and jax.device_count() == 1


def _with_gradients(operation, size: tuple[int, int]):
    """The same function of images and weights, with the gradients of `_weight_gradient` and `_image_gradient_of_few`.

    Args:
        operation: a convolution with padding "same", or a product of each pixel with a matrix (`size` (1, 1)).
        size: of the kernel.
    """
    import jax

    def forward(images, weights):
        return operation(images, weights), (images, weights)

    def backward(kept, upstream):
        images, weights = kept
        # Without the barrier, XLA copies the upstream gradient into the order that each product wants.
        upstream = jax.lax.optimization_barrier(upstream)
        if math.prod(upstream.shape[:-1]) < upstream.shape[-1]:
            image_gradient = _image_gradient_of_few(upstream, weights.reshape(*size, -1, upstream.shape[-1]))
        else:
            (image_gradient,) = jax.vjp(lambda images: operation(images, weights), images)[1](upstream)
        return image_gradient, _weight_gradient(images, upstream, size).reshape(weights.shape)

    rewritten = jax.custom_vjp(operation)
    rewritten.defvjp(forward, backward)
    return rewritten


def _image_gradient_of_few(upstream, kernel):
    """Of a convolution with padding "same", where pixels are fewer than filters: (N, H, W, F) to (N, H, W, C).

    As a convolution, it wants the kernel's channels transposed. For one of 3 x 3 pixels from 2048 channels to as many,
    this takes 250 ms, and the rest 15. Here each pixel is multiplied with all weights, and the products are moved.
    """
    from jax import lax

    rows, columns, channels, filters = kernel.shape
    above, left = (rows - 1) // 2, (columns - 1) // 2
    products = ops.matmul(upstream, kernel.reshape(-1, filters).T)
    products = products.reshape(*upstream.shape[:3], rows, columns, channels)

    def moved(row, column):
        down, right = row - above, column - left
        padding = ((0, 0, 0), (down, -down, 0), (right, -right, 0), (0, 0, 0))
        return lax.pad(products[..., row, column, :], np.zeros((), products.dtype), padding)

    return sum(moved(row, column) for row, column in np.ndindex(rows, columns))


def _add_bias(images, bias):
    """(N, H, W, F) and (F,): their sum. For the gradient of the bias, whole rows are added up first.

    That takes 1.3 ms instead of 3.8 for 8 images of 256 px in 16 channels, which are too few to add up side by side.
    """
    import jax

    @jax.custom_vjp
    def add(images, bias):
        return images + bias

    def backward(_, upstream):
        count, height, width, filters = upstream.shape
        total = upstream.reshape(count * height, width * filters).sum(0, dtype="float32")
        return upstream, total.reshape(width, filters).sum(0).astype(upstream.dtype)

    add.defvjp(lambda images, bias: (images + bias, None), backward)
    return add(images, ops.convert_to_tensor(bias))


def _weight_gradient(images, upstream, size: tuple[int, int]):
    """Of a convolution with padding "same": (N, H, W, C) and (N, H, W, F) to (rows, columns, C, F).

    A weight gets the sum of products of a channel of the images, moved by up to half a kernel, with a channel of the
    upstream gradient. Here the images move in x and the upstream gradient in y, and all moves of either are stacked as
    channels. One matrix product then gives all sums. It is made for bands of rows, whose stacks stay in the cache.
    """
    from jax import lax
    from jax import numpy as jnp

    (count, height, width, channels), filters = images.shape, upstream.shape[-1]
    above, left = ((length - 1) // 2 for length in size)
    rows = math.gcd(height, 2 ** int(math.log2(max(BAND_PIXELS // width, 1))))
    bands = height // rows
    lines = upstream.reshape(count * height, width, filters)

    def moved_in_y(image, top, move):
        at = top + jnp.arange(rows) + move
        beyond = count * height  # Filled with 0.
        at = jnp.where((at >= 0) & (at < height), image * height + at, beyond)
        return lines.at[at].get(mode="fill", fill_value=0)

    def add_band(index, total):
        image, top = index // bands, index % bands * rows
        seen = lax.dynamic_slice(images, (image, top, 0, 0), (1, rows, width, channels))[0]
        seen = jnp.pad(seen, ((0, 0), (left, size[1] - 1 - left), (0, 0)))
        seen = jnp.concatenate([seen[:, move : move + width] for move in range(size[1])], -1)
        error = jnp.concatenate([moved_in_y(image, top, above - row) for row in range(size[0])], -1)
        seen, error = (stack.reshape(rows * width, -1) for stack in (seen, error))
        return total + jnp.matmul(seen.T, error, preferred_element_type=total.dtype)

    total = jnp.zeros((size[1] * channels, size[0] * filters), "float32")
    total = lax.fori_loop(0, count * bands, add_band, total)
    return total.reshape(size[1], channels, size[0], filters).transpose(2, 0, 1, 3).astype(images.dtype)


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
        multiply = _with_gradients(ops.matmul, (1, 1)) if _writes_gradients() else ops.matmul
        blocks = ops.reshape(multiply(inputs, matrix), (n, height, width, 2, 2, self.filters))
        image = ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4, 5)), (n, 2 * height, 2 * width, self.filters))
        return self.activation(_add_bias(image, self.bias) if _writes_gradients() else image + self.bias)


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
