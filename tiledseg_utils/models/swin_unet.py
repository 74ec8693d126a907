"""Swin-Unet: Cao et al., "Unet-like Pure Transformer for Medical Image Segmentation" (ECCVW 2022, 2105.05537)."""

from .backend import keras, layers
from .blocks import probability_model
from .cpu import HeNormal, SmallNormal, layer_seed
from .inputs import ImageNetInput
from .interface import USUAL, Interface
from .layers import DepthToSpace, SpaceToDepth
from .windows import WindowAttention

HEAD = 32
"""Channels per attention head, as in the paper (3 heads for 96 channels)."""


def _dense(x, units: int, key: tuple, **options):
    initializer = SmallNormal(layer_seed(*key))
    return layers.Dense(units, kernel_initializer=initializer, **options)(x)


def _normalized(x):
    return layers.LayerNormalization(epsilon=1e-5)(x)


def swin_blocks(x, window: int, key: tuple):
    """Two transformer blocks, the windows of the second shifted by half: attention, then a perceptron per pixel."""
    channels = x.shape[-1]
    for position, shift in enumerate((0, window // 2)):
        seed = layer_seed(*key, position)
        attention = WindowAttention(window, shift, max(1, channels // HEAD), seed)
        x = layers.Add()([x, attention(_normalized(x))])
        hidden = _dense(_normalized(x), 4 * channels, (*key, position, 1), activation="gelu")
        x = layers.Add()([x, _dense(hidden, channels, (*key, position, 2))])
    return x


def merged(x, key: tuple):
    """Half the rows and columns, twice the channels: four neighbours become one."""
    return _dense(_normalized(SpaceToDepth(2)(x)), 2 * x.shape[-1], key, use_bias=False)


def expanded(x, factor: int, channels: int, key: tuple):
    """`factor` times the rows and columns: each pixel becomes a block of them."""
    return _normalized(DepthToSpace(factor)(_dense(x, channels * factor**2, key, use_bias=False)))


def swin_unet(
    base_filters: int = 32, levels: int = 3, window: int = 4, seed: int = 0, interface: Interface = USUAL
) -> keras.Model:
    """Build a Swin-Unet: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability out.

    H and W may be any multiples of 4 * 2^(levels-1). There is no convolution but the one that makes patches of 4 x 4
    pixels: every patch attends to the others in its window, and shifted windows connect neighbours. Windows lie on a
    grid, so tiles reproduce the whole image if they keep to it: the alignment is `window` times that of the pixels.

    Args:
        base_filters: channels of the first level, a multiple of 32 or less than 64; they double with each level.
        levels: resolutions, each with two blocks on the way down and two on the way up, the coarsest with two in all.
        window: side of the windows in patches, at least 2; the shift is half of it.
        seed: of the initial weights.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.

    Departs from the paper: no pre-training, which its authors find very important, and no stochastic depth. The
    paper's size is base_filters=96, levels=4, window=7.
    """
    if levels < 1 or window < 2 or base_filters < 1 or base_filters % HEAD * (base_filters >= 2 * HEAD):
        raise ValueError(
            "levels must be at least 1, window at least 2, base_filters positive and, from 64 on, a multiple of 32."
        )
    if interface.channels is None:
        inputs = keras.Input((None, None, 3), dtype="uint8", name="image")
        x = ImageNetInput("tf")(inputs)
    else:
        inputs, x = interface.stored_input()
    initializer = HeNormal(layer_seed(seed, 4))
    x = _normalized(layers.Conv2D(base_filters, 4, strides=4, kernel_initializer=initializer)(x))
    skips = []
    for level in range(levels - 1):
        x = swin_blocks(x, window, (seed, 0, level))
        skips.append(x)
        x = merged(x, (seed, 2, level))
    x = _normalized(swin_blocks(x, window, (seed, 0, levels - 1)))
    for level in reversed(range(levels - 1)):
        channels = base_filters * 2**level
        x = layers.Concatenate()([expanded(x, 2, channels, (seed, 5, level)), skips[level]])
        x = swin_blocks(_dense(x, channels, (seed, 6, level)), window, (seed, 1, level))
    x = expanded(_normalized(x), 4, base_filters, (seed, 7))
    return probability_model("swin_unet", inputs, x, (seed, 3), interface)
