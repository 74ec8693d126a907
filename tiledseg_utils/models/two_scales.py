"""Models that see each image twice, as it is and twice as large: a network has too few pixels of small nuclei.

As in `reduced`, this is a part of the model. So everything that knows layers also knows what tiles such a model needs,
and whoever has the file predicts as its run did. Averaging the maps of several scales is common practice, for instance
in DeepLab (Chen et al., TPAMI 2018, arXiv:1606.00915).
"""

import numpy as np

from .backend import keras, layers, ops
from .instance_unet import CHANNELS

ENLARGED_SHARE = 1 / 3
"""What the enlarged image counts in the mean: it tells nuclei apart, but its outlines are less exact."""

KERNEL = (-3 / 128, 29 / 128, 111 / 128, -9 / 128)
"""Weights of four pixels in a row for a place a quarter of a pixel before the middle of the third."""


@keras.saving.register_keras_serializable("tiledseg")
class EnlargedImage(layers.Layer):
    """(N, H, W, C) uint8 to (N, 2H, 2W, C) uint8, by cubic convolution, which keeps edges sharp.

    The kernel is that of Keys (IEEE TASSP 1981, doi 10.1109/TASSP.1981.1163711); at the border, the last pixel is
    repeated. All sums are exact in float32, so that the pixels of a tile are rounded as those of the whole image are.
    """

    def call(self, inputs):
        enlarged = _doubled(_doubled(ops.cast(inputs, "float32"), axis=1), axis=2)
        return ops.cast(ops.clip(ops.round(enlarged), 0, 255), "uint8")

    def compute_output_spec(self, inputs):
        n, height, width, channels = inputs.shape
        return keras.KerasTensor((n, height and 2 * height, width and 2 * width, channels), dtype="uint8")


def _doubled(images, axis: int):
    """Images with a new pixel a quarter of a pixel before the middle of each, and one as far after it."""
    length = images.shape[axis]
    padding = [(2, 2) if axis == each else (0, 0) for each in range(4)]
    padded = ops.moveaxis(ops.pad(images, padding, mode="edge"), axis, 0)
    before = sum(weight * padded[k : k + length] for k, weight in enumerate(KERNEL))
    behind = sum(weight * padded[k : k + length] for k, weight in enumerate(reversed(KERNEL), 1))
    both = ops.stack([before, behind], axis=1)
    return ops.moveaxis(ops.reshape(both, (2 * length, *both.shape[2:])), 0, axis)


@keras.saving.register_keras_serializable("tiledseg")
class ReducedMaps(layers.AveragePooling2D):
    """Maps of `instance_unet` for an enlarged image to those for the image: (N, H, W, C) to (N, H/size, W/size, C)."""

    def call(self, inputs):
        return super().call(inputs) * self.scale(inputs.shape[-1])

    def scale(self, channels: int) -> np.ndarray:
        """What each map is multiplied with, (C,) float32: lengths in pixels become shorter, and nothing else does."""
        return np.where(np.arange(channels) < CHANNELS, 1, 1 / self.pool_size[0]).astype(np.float32)


@keras.saving.register_keras_serializable("tiledseg")
class WeightedMean(layers.Layer):
    """Two tensors of one shape to their mean, in which the second has a share.

    Args:
        share: of the second, 0 to 1.
    """

    def __init__(self, share: float, **kwargs):
        super().__init__(**kwargs)
        self.share = share

    def call(self, inputs):
        first, second = inputs
        return (1 - self.share) * first + self.share * second

    def get_config(self):
        return {**super().get_config(), "share": self.share}


def two_scale_model(network: keras.Model) -> keras.Model:
    """The mean of what an `instance_unet` predicts for the image and, by `ENLARGED_SHARE`, for it twice as large.

    The network is a part of it, not a copy. It computes five times as much.
    """
    image = keras.Input((None, None, network.input_shape[-1]), dtype="uint8", name="image")
    twice = network(EnlargedImage(name="enlarged_image")(image))
    # Maps are float32 whatever the policy, as those of the network.
    reduced = ReducedMaps(2, dtype="float32", name="reduced_maps")(twice)
    mean = WeightedMean(ENLARGED_SHARE, dtype="float32", name="mean_of_scales")([network(image), reduced])
    return keras.Model(image, mean, name=f"{network.name}_two_scales")


def one_scale_model(model: keras.Model) -> keras.Model:
    """The network within a `two_scale_model`, which takes a fifth of the time; any other model as it is."""
    if not sees_two_scales(model):
        return model
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def sees_two_scales(model: keras.Model) -> bool:
    """Whether a model is a `two_scale_model`."""
    return any(isinstance(layer, EnlargedImage) for layer in model.layers)
