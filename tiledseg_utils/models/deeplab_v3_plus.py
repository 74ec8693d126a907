"""DeepLabv3+: Chen et al., "Encoder-Decoder with Atrous Separable Convolution" (ECCV 2018, arXiv:1802.02611)."""

from .backend import keras, layers
from .blocks import convolution, probability_model
from .encoders import pretrained
from .interface import USUAL, Interface
from .layers import ImageMean

ENCODERS = {
    "ResNet50": ("caffe", ("conv3_block1_1_conv", "conv5_block1_1_conv")),
    "MobileNetV2": ("tf", ("block_3_expand", "block_13_expand")),
}
"""Of `keras.applications`: what they were trained on, and what comes after the last block at 1/4 and 1/16."""

RATES = (6, 12, 18)
"""Dilations of the pyramid for features at 1/16 of the resolution, as in the paper."""


def atrous_pyramid(x, filters: int, key: tuple):
    """Look at several distances at once: 1x1, three dilated 3x3 convolutions, and the mean of the image."""
    branches = [convolution(x, filters, 1, (*key, 0))]
    branches += [convolution(x, filters, 3, (*key, rate), dilation=rate) for rate in RATES]
    branches.append(convolution(ImageMean()(x), filters, 1, (*key, 1)))
    return convolution(layers.Concatenate()(branches), filters, 1, (*key, 2))


def deeplab_v3_plus(
    encoder: str = "ResNet50", filters: int = 64, weights: str = "none", seed: int = 0, interface: Interface = USUAL
) -> keras.Model:
    """Build a DeepLabv3+: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability out.

    H and W may be any multiples of 16. Dilated convolutions see far without giving up resolution; a small decoder adds
    the outlines from features at 1/4 of it. The branch with the mean of the image is why no tiling equals the
    prediction of the whole image.

    Args:
        encoder: "ResNet50", or "MobileNetV2", which takes a tenth of the time; both up to 1/16 of the resolution.
        filters: of the pyramid and the decoder.
        weights: of the encoder, "none" or "imagenet".
        seed: of the initial weights.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.
        UserError: the weights cannot be downloaded.

    Departs from the paper: another encoder than Xception, without its last stage, which Keras has at 1/32 only; plain
    in place of separable convolutions in pyramid and decoder, as in the published experiment, which has ResNet50 and,
    as the paper, filters=256.
    """
    if filters < 1:
        raise ValueError("filters must be at least 1.")
    if encoder not in ENCODERS:
        raise ValueError(f"encoder is {encoder!r}; it must be one of {', '.join(ENCODERS)}.")
    mode, stages = ENCODERS[encoder]
    application = getattr(keras.applications, encoder)
    inputs, (fine, coarse) = pretrained(application, weights, stages, mode, seed, interface)
    x = layers.UpSampling2D(4, interpolation="bilinear")(atrous_pyramid(coarse, filters, (seed, 1)))
    x = layers.Concatenate()([x, convolution(fine, max(1, filters * 48 // 256), 1, (seed, 2, 0))])
    for position in (1, 2):
        x = convolution(x, filters, 3, (seed, 2, position))
    x = layers.UpSampling2D(4, interpolation="bilinear")(x)
    return probability_model("deeplab_v3_plus", inputs, x, (seed, 3), interface)
