"""A U-Net that predicts what tells nuclei apart: one body, three heads."""

import math

from .backend import keras, layers, ops
from .blocks import PRIOR
from .cpu import GlorotUniform, layer_seed
from .layers import DepthToSpace
from .unet import unet

CHANNELS, FLOW = 6, slice(4, 6)
"""How many maps `instance_unet` predicts, and which of them are vectors."""


@keras.saving.register_keras_serializable("tiledseg")
class Heads(layers.Layer):
    """(N, H, W, 6) of any value to the six maps of `instance_unet`.

    With inputs of 0 the foreground has the probability `blocks.PRIOR`, and the background that of the rest.
    """

    def call(self, inputs):
        prior = math.log(PRIOR / (1 - PRIOR))
        foreground = ops.sigmoid(inputs[..., :1] + prior)
        classes = ops.softmax(inputs[..., 1:4] + ops.convert_to_tensor([0.0, prior, prior], inputs.dtype))
        return ops.concatenate([foreground, classes, inputs[..., 4:]], axis=-1)


def instance_unet(seed: int = 0, patch_size: int = 1, **settings) -> keras.Model:
    """Build a U-Net with three heads: (N, H, W, 3) uint8 RGB in, (N, H, W, 6) float32 out.

    Channels of the output:

    - 0: probability of foreground;
    - 1 to 3: probabilities of background, interior and boundary, which add up to 1: the three classes of the
      challenge's baseline (Ma et al., Nature Methods 2024, doi 10.1038/s41592-024-02233-6);
    - 4 and 5: rows and columns of a unit vector to the nucleus' centre (after Cellpose, Stringer et al., Nature Methods
      2021, doi 10.1038/s41592-020-01018-x); meaningless outside nuclei.

    All three read the same features, so that only the heads differ when they are compared.

    Args:
        seed: of the initial weights and of dropout.
        patch_size, settings: see `unet`.

    Raises:
        ValueError: a setting is outside its range.
    """
    body = unet(seed=seed, patch_size=patch_size, **settings)
    features = body.get_layer("probability").input
    # Float32 as in `blocks.probability_model`.
    initializer = GlorotUniform(layer_seed(seed, 4))
    x = layers.Conv2D(6 * patch_size**2, 1, kernel_initializer=initializer, dtype="float32", name="maps")(features)
    x = DepthToSpace(patch_size, dtype="float32")(x) if patch_size > 1 else x
    return keras.Model(body.input, Heads(dtype="float32")(x), name="instance_unet")
