"""A U-Net with an EfficientNet as encoder: Tan and Le, ICML 2019 (arXiv:1905.11946)."""

from .backend import keras, layers
from .blocks import convolution_block, probability_model
from .encoders import pretrained
from .interface import USUAL, Interface

STAGES = ("top_conv", "block6a_expand_conv", "block4a_expand_conv", "block3a_expand_conv", "block2a_expand_conv")
"""In every EfficientNet, what comes after the last block at 1/32, 1/16, 1/8, 1/4 and 1/2 of the resolution."""


def efficient_unet(
    version: str = "B0", base_filters: int = 8, weights: str = "none", seed: int = 0, interface: Interface = USUAL
) -> keras.Model:
    """Build an EfficientNet U-Net: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability out.

    H and W may be any multiples of 32. EfficientNet scales depth, width and resolution of one network together; its
    blocks are depth-wise convolutions with squeeze-and-excitation. The latter takes the mean over the whole input,
    which is why no tiling equals the prediction of the whole image.

    Args:
        version: "B0" to "B7", 4 to 64 million parameters in the encoder.
        base_filters: of the decoder at full resolution; doubled with each coarser level.
        weights: of the encoder, "none" or "imagenet".
        seed: of the initial weights.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.
        UserError: the weights cannot be downloaded.

    The paper is about classification; the decoder is the U-Net's, with nearest up-sampling.
    """
    application = getattr(keras.applications, f"EfficientNet{version}", None)
    if application is None or version not in [f"B{number}" for number in range(8)]:
        raise ValueError(f"version is {version!r}; it must be one of B0 to B7.")
    if base_filters < 1:
        raise ValueError("base_filters must be at least 1.")
    inputs, (x, *skips) = pretrained(application, weights, STAGES, "none", seed, interface)
    for level, skip in zip(range(4, -1, -1), [*skips, None], strict=True):
        x = layers.UpSampling2D()(x)
        if skip is not None:
            x = layers.Concatenate()([x, skip])
        x = convolution_block(x, base_filters * 2**level, 3, (seed, 1, level))
    return probability_model("efficient_unet", inputs, x, (seed, 3), interface)
