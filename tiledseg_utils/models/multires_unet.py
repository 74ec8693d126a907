"""MultiResUNet: Ibtehaz and Rahman, Neural Networks 121, 2020 (arXiv:1902.04049)."""

from .backend import keras, layers
from .blocks import convolution, image_input, probability_model
from .cpu import GlorotUniform, MaxPooling, UpConvolution, layer_seed
from .interface import USUAL, Interface

WIDTH = 1.67
"""Filters of a MultiRes block relative to the U-Net's: with it, both networks have about as many parameters."""


def _normalized(x):
    return layers.BatchNormalization(momentum=0.9)(x)


def multires_block(x, filters: int, key: tuple):
    """See at three scales: three 3x3 convolutions in a row see 3, 5 and 7 pixels; all three are passed on.

    The shares 1/6, 1/3 and 1/2 of the filters keep the memory low; a 1x1 convolution of the input is added.
    """
    shares = [int(WIDTH * filters * share) for share in (0.167, 0.333, 0.5)]
    shortcut = convolution(x, sum(shares), 1, (*key, 3), activation=False)
    scales = []
    for position, share in enumerate(shares):
        x = convolution(x, share, 3, (*key, position))
        scales.append(x)
    x = layers.Add()([shortcut, _normalized(layers.Concatenate()(scales))])
    return _normalized(layers.Activation("relu")(x))


def residual_path(x, filters: int, length: int, key: tuple):
    """Bring the encoder's features nearer to the decoder's: convolutions with shortcuts in place of a bare skip."""
    for position in range(length):
        shortcut = convolution(x, filters, 1, (*key, 2 * position), activation=False)
        x = layers.Add()([shortcut, convolution(x, filters, 3, (*key, 2 * position + 1))])
        x = _normalized(layers.Activation("relu")(x))
    return x


def multires_unet(
    base_filters: int = 16, levels: int = 4, patch_size: int = 2, seed: int = 0, interface: Interface = USUAL
) -> keras.Model:
    """Build a MultiResUNet: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability out.

    H and W may be any multiples of patch_size * 2^(levels-1).

    Args:
        base_filters: of the U-Net whose size it is to have; they double with each level. At least 4.
        levels: resolutions, at least 2.
        patch_size: see `unet`.
        seed: of the initial weights.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.

    Departs from the paper: no batch normalisation before the sigmoid; the authors' code has no scale in the
    normalisations that follow a convolution. The paper's size is base_filters=32, levels=5, patch_size=1.
    """
    if levels < 2 or base_filters < 4 or patch_size < 1:
        raise ValueError("levels must be at least 2, base_filters at least 4, patch_size at least 1.")
    inputs, x = image_input(patch_size, interface=interface)
    skips = []
    for level in range(levels - 1):
        filters = base_filters * 2**level
        x = multires_block(x, filters, (seed, 0, level))
        skips.append(residual_path(x, filters, levels - 1 - level, (seed, 2, level)))
        x = MaxPooling()(x)
    x = multires_block(x, base_filters * 2 ** (levels - 1), (seed, 0, levels - 1))
    for level in reversed(range(levels - 1)):
        initializer = GlorotUniform(layer_seed(seed, 4, level))
        x = UpConvolution(base_filters * 2**level, kernel_initializer=initializer)(x)
        x = multires_block(layers.Concatenate()([x, skips[level]]), base_filters * 2**level, (seed, 1, level))
    return probability_model("multires_unet", inputs, x, (seed, 3), interface, patch_size)
