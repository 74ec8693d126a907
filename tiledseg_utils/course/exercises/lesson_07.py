"""The checks of lesson 7: what convolutions cost, a residual block, how far a U-Net sees, and who sees everything."""

import numpy as np

from ...models.backend import keras, layers
from . import Exercise, Trial, result_of

FILTERS, RATE = 4, 3
"""Of the block that is tried."""


def _ints(answer) -> list[int]:
    return [int(value) for value in answer]


check_parameters = Exercise(
    "7.3 What two convolutions cost",
    [9 * 32 * 64, 9 * 32 + 32 * 64],
    (
        Trial(lambda answer: len(answer) == 2, "Give two numbers in a list: first the plain one, then the separable."),
        Trial(
            lambda answer: answer[0] != 9 * 32 * 64 + 64,
            "Your first number holds 64 biases. Here, neither of the two has a bias.",
        ),
        Trial(
            lambda answer: answer[0] == 9 * 32 * 64,
            "The plain one: each of the 64 outputs reads 3 x 3 pixels of all 32 inputs, with a weight for each.",
        ),
        Trial(
            lambda answer: answer[1] != 9 * 32,
            "The second number counts the depthwise part only. The 1 x 1 convolution that mixes channels is missing.",
        ),
        Trial(
            lambda answer: answer[1] != 9 * 64 + 32 * 64,
            "The depthwise part comes first. How many channels does it meet: 32 or 64?",
        ),
        Trial(
            lambda answer: _ints(answer) == [9 * 32 * 64, 9 * 32 + 32 * 64],
            "The separable one has two parts, which add up: 3 x 3 weights for each input channel, and then one weight "
            "for each pair of an input and an output channel.",
        ),
    ),
    "Right: the separable one needs about an eighth of the weights.",
)


def _convolution(x, filters: int, rate: int = 1):
    x = layers.Conv2D(filters, 3, padding="same", dilation_rate=rate, use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)


def _residual_block(x, filters: int, rate: int):
    y = _convolution(x, filters, rate)
    y = _convolution(y, filters, rate)
    return layers.Add()([x, y])


def _built(answer) -> keras.Model:
    features = keras.Input((16, 16, FILTERS))
    return keras.Model(features, result_of(answer, features, FILTERS, RATE))


def _convolutions(answer) -> list:
    return [layer for layer in _built(answer).layers if isinstance(layer, layers.Conv2D)]


def _hands_on(answer) -> bool:
    """Whether the block returns its input if all kernels are zero."""
    model = _built(answer)
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    image = np.random.default_rng(0).normal(size=(1, 16, 16, FILTERS)).astype(np.float32)
    return np.allclose(model.predict_on_batch(image), image, atol=1e-5)


def _in_series(answer) -> bool:
    first, second = _convolutions(answer)
    return first.input is not second.input


check_residual = Exercise(
    "7.2 A residual block",
    _residual_block,
    (
        Trial(
            lambda answer: _built(answer).output_shape == (None, 16, 16, FILTERS),
            "The block must keep the size and the number of channels, or the sum is impossible. Use `convolution` from "
            "the cell above, which pads.",
        ),
        Trial(
            lambda answer: len(_convolutions(answer)) == 2,
            "Call `convolution` exactly twice in the block.",
        ),
        Trial(
            lambda answer: all(layer.dilation_rate == (RATE, RATE) for layer in _convolutions(answer)),
            "Both convolutions need the dilation that is given: pass `rate` on to each of them.",
        ),
        Trial(
            _in_series,
            "Both convolutions read the same features. The second one should read what the first one made.",
        ),
        Trial(
            _hands_on,
            "If all kernels were zero, the block should return its input unchanged, and it does not. What is added to "
            "the result of the convolutions?",
        ),
    ),
    "Right: the block adds something to its input, and at worst nothing.",
)

NAMES = {
    "unet",
    "attention_unet",
    "multires_unet",
    "unet3_plus",
    "efficient_unet",
    "deeplab_v3_plus",
    "swin_unet",
}

check_not_exact = Exercise(
    "7.4 Who needs the whole image?",
    {"efficient_unet", "deeplab_v3_plus"},
    (
        Trial(
            lambda answer: not isinstance(answer, str) and set(answer) <= NAMES,
            "Give a set of names as in the list `models`, such as {'unet', 'swin_unet'}.",
        ),
        Trial(
            lambda answer: "swin_unet" not in answer,
            "The attention of swin_unet looks at one window at a time. A window is local, even if it is large.",
        ),
        Trial(
            lambda answer: "attention_unet" not in answer,
            "The gates of attention_unet are made by 1 x 1 convolutions at the place itself and at the coarser level. "
            "That is local.",
        ),
        Trial(
            lambda answer: not set(answer) - {"efficient_unet", "deeplab_v3_plus"},
            "One of your networks has only convolutions, poolings and enlargements. Each of these looks at a limited "
            "neighbourhood.",
        ),
        Trial(
            lambda answer: "deeplab_v3_plus" in answer,
            "One is missing. Look at the black block among the dilated convolutions in one of the pictures.",
        ),
        Trial(
            lambda answer: "efficient_unet" in answer,
            "One is missing. Which encoder weighs its channels by a mean?",
        ),
    ),
    "Right: both take means over all they see, so a tile gets another mean than the image.",
)

check_levels = Exercise(
    "7.1 How many levels?",
    5,
    (
        Trial(lambda answer: answer != 4, "With 4 levels, the halo is still below 64 pixels."),
        Trial(lambda answer: answer > 3, "With so few levels, the network sees far less than 64 pixels. Try more."),
        Trial(lambda answer: answer == 5, "That is enough, but a network with fewer levels sees 64 pixels, too."),
    ),
    "Right: each further level about doubles how far the network sees.",
)
