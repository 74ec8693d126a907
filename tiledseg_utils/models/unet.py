"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015, arXiv:1505.04597).

Departures from the paper: padded convolutions (the output is as large as the input), one sigmoid channel, dropout at
every level. With base_filters=16, levels=8, first_kernel=7, dropout=0.05, prior=0.5 and color_space="hsv" it is the
network of the published experiment, with its 124,557,041 parameters.
"""

from .backend import keras, layers
from .blocks import PRIOR, convolution_block, image_input, probability_model
from .cpu import GlorotUniform, MaxPooling, UpConvolution, layer_seed
from .interface import USUAL, Interface


def unet(
    base_filters: int = 16,
    levels: int = 5,
    first_kernel: int = 3,
    dropout: float = 0.0,
    dilation: int = 1,
    normalization: str = "none",
    color_space: str = "rgb",
    patch_size: int = 1,
    gamma: float = 1.0,
    activation: str = "relu",
    prior: float = PRIOR,
    seed: int = 0,
    interface: Interface = USUAL,
) -> keras.Model:
    """Build a U-Net: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability in [0, 1] out.

    H and W may be any multiples of patch_size * 2^(levels-1). Level i has `base_filters * 2^i` filters, kernels of
    max(3, first_kernel - 2i) pixels, dilation max(1, dilation - i) and dropout `dropout * i`: dropout grows with depth,
    and large kernels are used where pixels are small.

    Args:
        base_filters: filters of the first level.
        levels: resolutions, the bridge included; at least 2.
        first_kernel: odd kernel side at full resolution, in pixels (7 gives 7, 5, 3, 3, ...).
        dropout: rate per level, in [0, 1).
        dilation: dilation rate at full resolution.
        normalization: "none" or "batch".
        color_space: one of `inputs.COLOR_SPACES`; converted inside the model.
        patch_size: side of the patches of pixels that are folded into channels before the first level, and unfolded
            after the last (sub-pixel convolution). With 2, the first level works at half the resolution, which is a
            quarter of the work.
        gamma: exponent of the input in [0, 1], before its colours are converted.
        activation: "relu", or "mish" (Misra, BMVC 2020, arXiv:1908.08681).
        prior: the probability that a new network gives every pixel, in (0, 1).
        seed: of the initial weights and of dropout.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.
    """
    _check_settings(base_filters, levels, first_kernel, dropout, dilation, normalization, patch_size, gamma, prior)

    def block(x, level: int, part: int):
        return convolution_block(
            x,
            filters=base_filters * 2**level,
            kernel=max(3, first_kernel - 2 * level) if first_kernel >= 3 else first_kernel,
            dilation=max(1, dilation - level),
            dropout=dropout * level,
            normalization=normalization,
            activation=activation,
            key=(seed, part, level),
        )

    inputs, x = image_input(patch_size, color_space, gamma, interface)
    skips = []
    for level in range(levels - 1):
        x = block(x, level, part=0)
        skips.append(x)
        x = MaxPooling()(x)
    x = block(x, levels - 1, part=0)
    for level in reversed(range(levels - 1)):
        initializer = GlorotUniform(layer_seed(seed, 2, level))
        x = UpConvolution(base_filters * 2**level, kernel_initializer=initializer)(x)
        x = layers.Concatenate()([x, skips[level]])
        x = block(x, level, part=1)
    return probability_model("unet", inputs, x, (seed, 3), interface, patch_size, prior=prior)


def _check_settings(
    base_filters: int,
    levels: int,
    first_kernel: int,
    dropout: float,
    dilation: int,
    normalization: str,
    patch_size: int,
    gamma: float,
    prior: float,
) -> None:
    if levels < 2 or min(base_filters, dilation, patch_size) < 1:
        raise ValueError("levels must be at least 2, base_filters, dilation and patch_size at least 1.")
    if first_kernel < 1 or first_kernel % 2 == 0:
        raise ValueError(f"first_kernel is {first_kernel}; it must be odd and positive.")
    if not 0 <= dropout * (levels - 1) < 1:
        raise ValueError(f"dropout {dropout} at the deepest of {levels} levels is not in [0, 1).")
    if normalization not in ("none", "batch"):
        raise ValueError(f"normalization is {normalization!r}; it must be 'none' or 'batch'.")
    if not 0 < prior < 1 or gamma <= 0:
        raise ValueError(f"prior is {prior} and gamma {gamma}; they must be in (0, 1) and above 0.")
