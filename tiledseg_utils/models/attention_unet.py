"""Attention U-Net: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas" (MIDL 2018, 1804.03999)."""

from .backend import keras, layers
from .blocks import convolution, convolution_block, image_input, probability_model
from .cpu import GlorotUniform, MaxPooling, layer_seed
from .interface import USUAL, Interface


def attention_gate(skip, coarse, key: tuple, gate: str):
    """Scale what the encoder saw by how much the decoder wants of it: alpha = sigmoid(psi(ReLU(W_x x + W_g g + b))).

    `skip` (N, H, W, F) is x, `coarse` (N, H/2, W/2, G) is g. With "grid", alpha is one number per pixel of the coarse
    grid, enlarged; with "channels", one per pixel and channel of the skip.
    """
    filters = skip.shape[-1]

    def linear(x, position: int, size: int = filters, **options):
        initializer = GlorotUniform(layer_seed(*key, position))
        return layers.Conv2D(size, **{"kernel_size": 1, "kernel_initializer": initializer, **options})(x)

    if gate == "grid":
        seen = linear(skip, 0, kernel_size=2, strides=2, use_bias=False)
        total = layers.Activation("relu")(layers.Add()([seen, linear(coarse, 1)]))
        alpha = linear(total, 2, 1, activation="sigmoid")
        alpha = layers.UpSampling2D(interpolation="bilinear", name=f"alpha_{key[-1]}")(alpha)
    else:
        seen = convolution(skip, filters, 1, (*key, 0), activation=False)
        wanted = convolution(enlarged(coarse), filters, 1, (*key, 1), activation=False)
        total = layers.Activation("relu")(layers.Add()([seen, wanted]))
        alpha = linear(total, 2, activation="sigmoid", name=f"alpha_{key[-1]}")
    return layers.Multiply(name=f"gated_{key[-1]}")([skip, alpha])


def enlarged(x):
    """Twice as many rows and columns, bilinearly."""
    return layers.UpSampling2D(interpolation="bilinear")(x)


def attention_unet(
    base_filters: int = 16,
    levels: int = 4,
    gate: str = "grid",
    dropout: float = 0.0,
    patch_size: int = 2,
    seed: int = 0,
    interface: Interface = USUAL,
) -> keras.Model:
    """Build an Attention U-Net: (N, H, W, 3) uint8 RGB in, (N, H, W, 1) float32 foreground probability out.

    H and W may be any multiples of patch_size * 2^(levels-1). A U-Net whose skip connections pass through gates: the
    coarser level, which sees more of the image, decides which places of the finer one count.

    Args:
        base_filters: filters of the first level; they double with each level.
        levels: resolutions, at least 2.
        gate: "grid", the paper's: attention on the coarse grid; or "channels", the published experiment's, at the
            resolution of the skip, for each channel.
        dropout: rate in [0, 1) between the convolutions of a block.
        patch_size: see `unet`.
        seed: of the initial weights and of dropout.
        interface: what goes in and comes out, if not RGB and a mask.

    Raises:
        ValueError: a setting is outside its range.

    Departs from the paper: two dimensions instead of three, one output, no deep supervision; convolutions before batch
    normalisation have no bias. The paper's size in two dimensions is base_filters=64, levels=5, patch_size=1.
    """
    if levels < 2 or min(base_filters, patch_size) < 1:
        raise ValueError("levels must be at least 2, base_filters and patch_size at least 1.")
    if gate not in ("grid", "channels"):
        raise ValueError(f"gate is {gate!r}; it must be 'grid' or 'channels'.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout {dropout} is not in [0, 1).")
    inputs, x = image_input(patch_size, interface=interface)
    skips = []
    for level in range(levels - 1):
        x = convolution_block(x, base_filters * 2**level, 3, (seed, 0, level), dropout=dropout)
        skips.append(x)
        x = MaxPooling()(x)
    x = convolution_block(x, base_filters * 2 ** (levels - 1), 3, (seed, 0, levels - 1), dropout=dropout)
    for level in reversed(range(levels - 1)):
        gated = attention_gate(skips[level], x, (seed, 2, level), gate)
        x = layers.Concatenate()([enlarged(x), gated])
        x = convolution_block(x, base_filters * 2**level, 3, (seed, 1, level), dropout=dropout)
    return probability_model("attention_unet", inputs, x, (seed, 3), interface, patch_size)
