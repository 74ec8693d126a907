"""Attention within windows: Liu et al., "Swin Transformer" (ICCV 2021, arXiv:2103.14030), section 3.2."""

import numpy as np

from .backend import keras, layers, ops
from .cpu import SmallNormal, layer_seed


@keras.saving.register_keras_serializable("tiledseg")
class WindowAttention(layers.Layer):
    """Multi-head self-attention in windows of `window` x `window` pixels: (N, H, W, C) to the same shape.

    With a shift s, windows start s pixels earlier, so that they lie across the borders of the windows before.
    A window that reaches past the image attends to its pixels inside only; the paper gets the same result by rolling
    the image around and masking. Images of any size will do. Positions count relative to each other (a bias learnt for
    each offset), so a window does not know where in the image it is.

    Args:
        window: side, in pixels of the input.
        shift: 0, or less than `window`.
        heads: into so many parts the channels are split.
        seed: of the initial weights.
    """

    def __init__(self, window: int, shift: int, heads: int, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.window, self.shift, self.heads, self.seed = window, shift, heads, seed
        places = np.stack(np.meshgrid(*[np.arange(window)] * 2, indexing="ij"), -1).reshape(-1, 2)
        offsets = places[:, None] - places[None] + window - 1
        self._offset = offsets[..., 0] * (2 * window - 1) + offsets[..., 1]

    @property
    def before(self) -> int:
        """Rows above and columns left of the image in its first window."""
        return (self.window - self.shift) % self.window

    def build(self, shape):
        channels, sides = shape[-1], (2 * self.window - 1) ** 2

        def weight(name: str, number: int, *shape):
            initializer = SmallNormal(layer_seed(self.seed, number))
            return self.add_weight(name=name, shape=shape, initializer=initializer)

        self.kernel_in = weight("kernel_in", 0, channels, 3 * channels)
        self.bias_in = self.add_weight(name="bias_in", shape=(3 * channels,), initializer="zeros")
        self.kernel_out = weight("kernel_out", 1, channels, channels)
        self.bias_out = self.add_weight(name="bias_out", shape=(channels,), initializer="zeros")
        self.offset_bias = weight("offset_bias", 2, sides, self.heads)

    def call(self, inputs):
        n, height, width, channels = ops.shape(inputs)
        w, before = self.window, self.before
        after = [-(length + before) % w for length in (height, width)]
        pads = ((0, 0), (before, after[0]), (before, after[1]), (0, 0))
        rows, columns = (height + before + after[0]) // w, (width + before + after[1]) // w

        def windows(x, depth: int):
            x = ops.reshape(ops.pad(x, pads), (-1, rows, w, columns, w, depth))
            return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, rows * columns, w * w, depth))

        size = channels // self.heads
        mixed = ops.matmul(windows(inputs, channels), self.kernel_in) + self.bias_in
        mixed = ops.reshape(mixed, (n, rows * columns, w * w, 3, self.heads, size))
        query, key, value = ops.unstack(ops.transpose(mixed, (3, 0, 1, 4, 2, 5)), axis=0)
        scores = ops.matmul(query * size**-0.5, ops.transpose(key, (0, 1, 2, 4, 3)))
        inside = windows(ops.ones((1, height, width, 1), inputs.dtype), 1)[:, :, None, None, :, 0]
        scores = scores + self.position_bias() + (inside - 1) * 1e4
        x = ops.matmul(ops.softmax(scores), value)
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (n, rows, columns, w, w, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (n, rows * w, columns * w, channels))
        x = x[:, before : before + height, before : before + width]
        return ops.matmul(x, self.kernel_out) + self.bias_out

    def position_bias(self):
        """What is added to the scores of two pixels of a window for their offset, (heads, window^2, window^2)."""
        pixels = self.window**2
        bias = ops.reshape(ops.take(self.offset_bias, self._offset.ravel(), axis=0), (pixels, pixels, self.heads))
        return ops.transpose(bias, (2, 0, 1))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self):
        own = {name: getattr(self, name) for name in ("window", "shift", "heads", "seed")}
        return {**super().get_config(), **own}
