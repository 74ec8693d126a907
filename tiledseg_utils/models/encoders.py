"""Classification networks of `keras.applications` as encoders: their features at several resolutions."""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from ..files import UserError
from .blocks import layer_seed

WEIGHTS = ("none", "imagenet")


def pretrained(application: Callable, weights: str, features: Sequence[str], x, seed: int) -> list:
    """Build an encoder on top of `x`; return the outputs of the layers named in `features`.

    Args:
        application: a function of `keras.applications`.
        weights: "none", initial weights drawn from `seed`; or "imagenet", downloaded once by Keras.
        features: names of layers.
        x: the tensor that the encoder gets, as it was trained on.
        seed: of the initial weights.

    Raises:
        ValueError: `weights` is none of these.
        UserError: the weights cannot be downloaded.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; it must be 'none' or 'imagenet'.")
    try:
        encoder = application(
            include_top=False, weights=None if weights == "none" else weights, input_tensor=x, pooling=None
        )
    except Exception as error:  # Keras raises bare Exceptions for failed downloads.
        if weights == "none":
            raise
        remedy = "Connect to the internet once, or use weights: none"
        raise UserError("weights imagenet", f"cannot be had ({error})", remedy) from error
    for number, layer in enumerate(encoder.layers):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # As in blocks.convolution.
        if weights == "none" and hasattr(layer, "kernel"):
            initializer = keras.initializers.HeNormal(seed=layer_seed(seed, 5, number))
            layer.kernel.assign(initializer(layer.kernel.shape))
    return [encoder.get_layer(name).output for name in features]
