"""Layers of our own that the architectures share. `keras.ops` only, so they run on every backend."""

from .backend import keras, layers, ops


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
    """The inverse of `SpaceToDepth`; after a convolution, the sub-pixel convolution of Shi et al. (CVPR 2016)."""

    def call(self, inputs):
        return ops.depth_to_space(inputs, self.size)

    def compute_output_shape(self, shape):
        n, height, width, channels = shape
        return n, height and height * self.size, width and width * self.size, channels // self.size**2


@keras.saving.register_keras_serializable("tiledseg")
class ImageMean(layers.Layer):
    """The mean over all pixels, at every pixel: (N, H, W, C) to the same shape."""

    def call(self, inputs):
        return ops.broadcast_to(ops.mean(inputs, (1, 2), keepdims=True), ops.shape(inputs))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
