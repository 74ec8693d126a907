"""Building blocks that the architectures share, from the image to the probability."""

import math

from .backend import keras, layers
from .cpu import Convolution, GlorotUniform, HeNormal, dropout_seed, layer_seed
from .inputs import ColorInput
from .interface import USUAL, Interface
from .layers import DepthToSpace, SpaceToDepth

PRIOR = 0.02
"""The probability that a new model gives every pixel. Where foreground is rare, a model that begins with 0.5 spends
most of a short training on unlearning it (Lin et al., ICCV 2017, arXiv:1708.02002, section 4.1)."""


def bias_of(prior: float, maps: int = 1, times: int = 1) -> keras.initializers.Initializer:
    """The bias with which a network begins at the probability `prior` of foreground.

    Args:
        prior: in (0, 1).
        maps: 1 before a sigmoid. Before a softmax, the number of classes; those after the first, the background, share
            the prior.
        times: how often the numbers of the classes are repeated.
    """
    if maps == 1:
        return keras.initializers.Constant(math.log(prior / (1 - prior)))
    shares = [1 - prior, *[prior / (maps - 1)] * (maps - 1)]
    return keras.initializers.Constant([math.log(share) for share in shares] * times)


def image_input(patch_size: int = 1, color_space: str = "rgb", gamma: float = 1.0, interface: Interface = USUAL):
    """The input of a model, and its first features, float in [0, 1], in patches of `patch_size` pixels."""
    if interface.channels is None:
        inputs = keras.Input((None, None, 3), dtype="uint8", name="image")
        x = ColorInput(color_space, gamma)(inputs)
    else:
        if color_space != "rgb" or gamma != 1:
            interface.require_colours(f"color_space {color_space}, gamma {gamma:g}", "Give rgb and 1")
        inputs, x = interface.stored_input()
    return inputs, SpaceToDepth(patch_size)(x) if patch_size > 1 else x


def probability_model(
    name: str,
    inputs,
    x,
    key: tuple,
    interface: Interface = USUAL,
    patch_size: int = 1,
    kernel: int = 1,
    prior: float = PRIOR,
):
    """Close a model with a convolution to the probabilities of each pixel, unfolding the blocks of `patch_size`."""
    maps, blocks = interface.maps, patch_size**2
    # Probabilities stay float32 under mixed precision: bfloat16 has no room between 0.996 and 1.
    x = Convolution(
        maps * blocks,
        kernel,
        padding="same",
        kernel_initializer=GlorotUniform(layer_seed(*key)),
        bias_initializer=bias_of(prior, maps, blocks),
        activation="sigmoid" if maps == 1 else None,
        dtype="float32",
        name="probability" if maps == 1 else "scores",
    )(x)
    if patch_size > 1:
        x = DepthToSpace(patch_size, dtype="float32")(x)
    if maps > 1:
        x = layers.Softmax(dtype="float32", name="probability")(x)
    return keras.Model(inputs, x, name=name)


def convolution(x, filters: int, kernel: int, key: tuple, dilation=1, normalization="batch", activation="relu"):
    """A same-size convolution, batch normalisation and activation if wanted. `key` tells the layer from all others.

    With "batch" the convolution has no bias, as the normalisation has its own. The momentum is 0.9, as a course trains
    for hundreds of steps, after which Keras' default of 0.99 would still remember the first ones.
    """
    x = Convolution(
        filters,
        kernel,
        padding="same",
        dilation_rate=dilation,
        kernel_initializer=HeNormal(layer_seed(*key)),
        use_bias=normalization == "none",
    )(x)
    if normalization == "batch":
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Activation(activation)(x) if activation else x


def convolution_block(
    x, filters: int, kernel: int, key: tuple, dilation=1, dropout=0.0, normalization="batch", activation="relu"
):
    """Two convolutions, with dropout between them: the block of the U-Net."""
    x = convolution(x, filters, kernel, (*key, 0), dilation, normalization, activation)
    if dropout > 0:
        x = layers.Dropout(dropout, seed=dropout_seed(*key, 2))(x)
    return convolution(x, filters, kernel, (*key, 1), dilation, normalization, activation)
