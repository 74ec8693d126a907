"""Layers of our own that the architectures share. `keras.ops` only, so they run on every backend."""

from .backend import keras, layers, ops


@keras.saving.register_keras_serializable("tiledseg")
def relu(inputs):
    """max(inputs, 0), NaN stays NaN, written as a choice: XLA vectorises it on CPUs.

    After a bias, `ops.relu` took 20 ms for a megapixel of 16 channels and this one 7; the convolution before takes 28.
    """
    return ops.where(inputs <= 0, 0.0, inputs)


@keras.saving.register_keras_serializable("tiledseg")
class SpaceToDepth(layers.Layer):
    """Fold blocks of `size` x `size` pixels into channels, lossless: (N, H, W, C) to (N, H/size, W/size, size^2 C)."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        return ops.space_to_depth(inputs, self.size)

    def compute_output_shape(self, shape):
        n, height, width, channels = shape
        return n, height and height // self.size, width and width // self.size, channels * self.size**2

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("tiledseg")
class DepthToSpace(SpaceToDepth):
    """The inverse of `SpaceToDepth`; behind a convolution, the sub-pixel convolution of Shi et al. (CVPR 2016)."""

    def call(self, inputs):
        return ops.depth_to_space(inputs, self.size)

    def compute_output_shape(self, shape):
        n, height, width, channels = shape
        return n, height and height * self.size, width and width * self.size, channels // self.size**2


@keras.saving.register_keras_serializable("tiledseg")
class MaxPooling(layers.MaxPooling2D):
    """The largest of each 2x2 block, (N, H, W, C) to (N, H/2, W/2, C), as the maximum of four strided slices.

    The values are those of `MaxPooling2D(2)`; on a CPU, with its gradient, it takes 7 ms instead of 41 for half a
    megapixel of 16 channels. Where the largest value stands twice in a block, both share the gradient.
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
    rearrangement of the result (depth to space). Weights and values are those of `Conv2DTranspose(filters, 2, 2)`; on
    a CPU the gradient is up to 50 times faster.

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
class ImageMean(layers.Layer):
    """The mean over all pixels, at every pixel: (N, H, W, C) to the same shape."""

    def call(self, inputs):
        return ops.broadcast_to(ops.mean(inputs, (1, 2), keepdims=True), ops.shape(inputs))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
