"""A U-Net that says of each pixel what it takes to tell nuclei apart: one body, three heads."""

import keras
from keras import layers

from .blocks import PRIOR_BIAS
from .initializers import GlorotUniform, layer_seed
from .unet import unet


def instance_unet(seed: int = 0, **settings) -> keras.Model:
    """Build a U-Net with three heads: (N, H, W, 3) uint8 RGB in, (N, H, W, 6) float32 out.

    Channels of the output:

    - 0: probability of foreground;
    - 1 to 3: probabilities of background, interior and boundary, which add up to 1: the three classes of the
      challenge's baseline (Ma et al., Nature Methods 2024, doi 10.1038/s41592-024-02233-6);
    - 4 and 5: rows and columns of a unit vector to the nucleus' centre (after Cellpose, Stringer et al., Nature Methods
      2021, doi 10.1038/s41592-020-01018-x); without a meaning outside of nuclei.

    All three read the same features, so that a comparison of them compares nothing else.

    Args:
        seed: of the initial weights and of dropout.
        settings: see `unet`; `stem` must be 1.

    Raises:
        ValueError: a setting is outside its range.
    """
    if settings.get("stem", 1) != 1:
        raise ValueError(f"stem is {settings['stem']}; the heads need 1.")
    body = unet(seed=seed, **settings)
    features = body.get_layer("probability").input

    def head(name: str, filters: int, activation: str, part: int, **options):
        initializer = GlorotUniform(layer_seed(seed, 4, part))
        # Float32 as in `blocks.probability_model`.
        head = layers.Conv2D(
            filters, 1, kernel_initializer=initializer, activation=activation, dtype="float32", name=name, **options
        )
        return head(features)

    heads = [
        head("foreground", 1, "sigmoid", 1, bias_initializer=PRIOR_BIAS),
        head("classes", 3, "softmax", 2),
        head("flow", 2, "linear", 3),
    ]
    return keras.Model(body.input, layers.Concatenate(dtype="float32")(heads), name="instance_unet")
