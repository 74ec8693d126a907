"""Classification networks of `keras.applications` as encoders: their features at several resolutions."""

from collections.abc import Callable, Sequence

from ..base.files import UserError
from .backend import keras, layers
from .cpu import DepthwiseConvolution, HeNormal, constants_from_numpy, dropout_seed, layer_seed
from .inputs import ImageNetInput
from .interface import USUAL, Interface

WEIGHTS = ("none", "imagenet")


def pretrained(
    application: Callable,
    weights: str,
    before: Sequence[str],
    mode: str,
    seed: int,
    interface: Interface = USUAL,
) -> tuple:
    """Build an encoder; return the input of a model, and the features in front of the layers `before`.

    Args:
        application: a function of `keras.applications`.
        weights: "none", initial weights drawn from `seed`; or "imagenet", downloaded once by Keras.
        before: names of layers, the first of a stage: their inputs are what the stage before has found.
        mode: what the encoder was trained on, see `ImageNetInput`.
        seed: of the initial weights and of dropout.
        interface: what goes in, if not RGB.

    Raises:
        ValueError: `weights` is none of these.
        UserError: the weights cannot be downloaded, or are for RGB and the interface is not.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; it must be 'none' or 'imagenet'.")
    if interface.channels is None:
        image = keras.Input((None, None, 3), dtype="uint8", name="image")
        scaled = ImageNetInput(mode)(image)
    else:
        if weights != "none":
            interface.require_colours(f"weights {weights}", "Use weights: none")
        image, scaled = interface.stored_input(top=255.0 if mode == "none" else 1.0)
    try:
        with constants_from_numpy():
            own = None if weights == "none" else weights
            theirs = application(include_top=False, weights=own, input_tensor=scaled)
    except Exception as error:  # Keras raises bare Exceptions for failed downloads.
        if weights == "none":
            raise
        remedy = "Connect to the internet once, or use weights: none"
        raise UserError("weights imagenet", f"cannot be downloaded ({error})", remedy) from error
    numbers = {layer.name: number for number, layer in enumerate(theirs.layers)}

    def ours(layer):
        config, key = layer.get_config(), (seed, 5, numbers[layer.name])
        if isinstance(layer, layers.BatchNormalization):
            config["momentum"] = 0.9  # As in blocks.convolution.
        if isinstance(layer, layers.Dropout):
            config["seed"] = dropout_seed(*key)
        for name in ("kernel_initializer", "depthwise_initializer"):
            if config.get(name):
                config[name] = HeNormal(layer_seed(*key))
        kind = DepthwiseConvolution if isinstance(layer, layers.DepthwiseConv2D) else type(layer)
        return kind.from_config(config)

    with constants_from_numpy():
        encoder = keras.models.clone_model(theirs, clone_function=ours)
    if weights == "imagenet":
        encoder.set_weights(theirs.get_weights())
    return encoder.inputs[0], [encoder.get_layer(name).input for name in before]
