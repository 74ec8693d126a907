"""A U-Net that predicts what tells nuclei apart: one body, three heads."""

import math

from .backend import keras, layers, ops
from .blocks import PRIOR
from .cpu import GlorotUniform, layer_seed
from .layers import DepthToSpace
from .unet import unet

CHANNELS, FLOW = 6, slice(4, 6)
"""How many maps `instance_unet` predicts without rays, and which of them are vectors."""

RAYS = 32
"""Directions in which a network with rays says how far a nucleus reaches; its maps follow the others."""

INSTANCE_CHANNELS = (CHANNELS, CHANNELS + RAYS)
"""How many maps an `instance_unet` may predict, for `load_model`."""

USUAL_RAY = 8.0
"""Length of the rays that an untrained network predicts, pixels."""


PRIOR_LOGIT = math.log(PRIOR / (1 - PRIOR))


@keras.saving.register_keras_serializable("tiledseg")
class Heads(layers.Layer):
    """(N, H, W, 6) or (N, H, W, 6 + RAYS) of any value to the maps of `instance_unet`.

    With inputs of 0 the foreground has the probability `blocks.PRIOR`, the background that of the rest, and a ray the
    length `USUAL_RAY`.
    """

    def call(self, inputs):
        foreground = ops.sigmoid(inputs[..., :1] + PRIOR_LOGIT)
        classes = ops.softmax(inputs[..., 1:4] + ops.convert_to_tensor([0.0, PRIOR_LOGIT, PRIOR_LOGIT], inputs.dtype))
        maps = [foreground, classes, inputs[..., FLOW]]
        if inputs.shape[-1] > CHANNELS:
            # The exponential, as errors of a length count in proportion to it; clipped, as it would overflow.
            maps.append(USUAL_RAY * ops.exp(ops.clip(inputs[..., CHANNELS:], -5, 5)))
        return ops.concatenate(maps, axis=-1)


def instance_unet(seed: int = 0, patch_size: int = 1, rays: bool = False, **settings) -> keras.Model:
    """Build a U-Net with three or four heads: (N, H, W, 3) uint8 RGB in, (N, H, W, 6 or 6 + RAYS) float32 out.

    Channels of the output:

    - 0: probability of foreground;
    - 1 to 3: probabilities of background, interior and boundary, which add up to 1: the three classes of the
      challenge's baseline (Ma et al., Nature Methods 2024, doi 10.1038/s41592-024-02233-6);
    - 4 and 5: rows and columns of a unit vector to the nucleus' centre (after Cellpose, Stringer et al., Nature Methods
      2021, doi 10.1038/s41592-020-01018-x); meaningless outside nuclei;
    - 6 and more, with `rays`: how far the nucleus reaches in each of `RAYS` directions, pixels (after StarDist, Schmidt
      et al., MICCAI 2018, arXiv:1806.03535; see `instance_targets.ray_targets`); meaningless outside nuclei.

    All heads read the same features, so that only the heads differ when they are compared.

    Args:
        seed: of the initial weights and of dropout.
        patch_size, settings: see `unet`.
        rays: whether rays are predicted, too.

    Raises:
        ValueError: a setting is outside its range.
    """
    body = unet(seed=seed, patch_size=patch_size, **settings)
    features = body.get_layer("probability").input
    # Float32 as in `blocks.probability_model`.
    initializer = GlorotUniform(layer_seed(seed, 4))
    filters = (CHANNELS + RAYS if rays else CHANNELS) * patch_size**2
    x = layers.Conv2D(filters, 1, kernel_initializer=initializer, dtype="float32", name="maps")(features)
    x = DepthToSpace(patch_size, dtype="float32")(x) if patch_size > 1 else x
    return keras.Model(body.input, Heads(dtype="float32")(x), name="instance_unet")
