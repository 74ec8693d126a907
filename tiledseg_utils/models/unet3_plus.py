"""UNet 3+: Huang et al., "A Full-Scale Connected UNet for Medical Image Segmentation" (ICASSP 2020, 2004.08790)."""

from .backend import keras, layers
from .blocks import PRIOR, bias_of, convolution, convolution_block, image_input, probability_model
from .cpu import GlorotUniform, MaxPooling, layer_seed
from .interface import USUAL, Interface


def _enlarged(x, factor: int):
    return layers.UpSampling2D(factor, interpolation="bilinear")(x)


def unet3_plus(
    base_filters: int = 8,
    levels: int = 4,
    deep_supervision: bool = False,
    patch_size: int = 2,
    seed: int = 0,
    interface: Interface = USUAL,
) -> keras.Model:
    """Build a UNet 3+: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability out.

    H and W may be any multiples of patch_size * 2^(levels-1). Each node of the decoder sees every scale: the encoder's
    finer levels, pooled; its own level; and all coarser nodes, enlarged; each through a convolution to `base_filters`.

    Args:
        base_filters: filters of the first level, which double with each level, and of each connection.
        levels: resolutions, at least 2.
        deep_supervision: also give the probabilities of the coarser nodes, enlarged, finest first: a list of `levels`
            outputs. Each learns from the same mask; `compile` it with a loss for each.
        patch_size: see `unet`.
        seed: of the initial weights.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.

    Departs from the paper: no classification-guided module, which is for images without the organ sought; convolutions
    before batch normalisation have no bias. The paper's size is base_filters=64, levels=5, patch_size=1.
    """
    if levels < 2 or min(base_filters, patch_size) < 1:
        raise ValueError("levels must be at least 2, base_filters and patch_size at least 1.")
    inputs, x = image_input(patch_size, interface=interface)
    encoder = []
    for level in range(levels):
        x = convolution_block(x if level == 0 else MaxPooling()(x), base_filters * 2**level, 3, (seed, 0, level))
        encoder.append(x)
    nodes = {levels - 1: encoder[-1]}
    for level in reversed(range(levels - 1)):
        views = []
        for source in range(levels):
            view = nodes[source] if source > level else encoder[source]
            for _ in range(level - source):
                view = MaxPooling()(view)
            if source > level:
                view = _enlarged(view, 2 ** (source - level))
            views.append(convolution(view, base_filters, 3, (seed, 1, level, source)))
        nodes[level] = convolution(layers.Concatenate()(views), levels * base_filters, 3, (seed, 2, level))
    model = probability_model("unet3_plus", inputs, nodes[0], (seed, 3), interface, patch_size, kernel=3)
    if not deep_supervision:
        return model
    outputs, maps = [model.output], interface.maps
    activation, bias = "sigmoid" if maps == 1 else "softmax", bias_of(PRIOR, maps)
    for level in range(1, levels):
        weights = {"kernel_initializer": GlorotUniform(layer_seed(seed, 4, level)), "bias_initializer": bias}
        coarse = layers.Conv2D(maps, 3, padding="same", **weights, dtype="float32")(nodes[level])
        enlarged = _enlarged(coarse, patch_size * 2**level)
        outputs.append(layers.Activation(activation, dtype="float32", name=f"probability_{level}")(enlarged))
    return keras.Model(inputs, outputs, name="unet3_plus")
