"""The exercises of notebook 3: losses, a step of the U-Net, its numbers and shapes, and the learning rate."""

import functools

import numpy as np

from ...models.backend import keras, layers, ops
from . import Exercise, NothingReturned, Trial, result_of, same

TOLERANCE = 1e-4


# 3.1 Dice loss


def _dice_loss(truth, prediction):
    overlap = ops.sum(truth * prediction)
    total = ops.sum(truth) + ops.sum(prediction)
    return 1 - (2 * overlap + 1) / (total + 1)


def _squares(*places: int) -> np.ndarray:
    """A batch of masks of 4 x 4 pixels, (N, 4, 4, 1): a square of 2 x 2 in the left (0) or right (2) half, or none."""
    masks = np.zeros((len(places), 4, 4, 1), np.float32)
    for mask, place in zip(masks, places, strict=True):
        if place >= 0:
            mask[1:3, place : place + 2] = 1
    return masks


LEFT, RIGHT, EMPTY = _squares(0), _squares(2), _squares(-1)
TWO, TWO_FOUND_ONE = _squares(0, 2), _squares(0, -1)


def _loss_is(expected: float, truth: np.ndarray, prediction: np.ndarray):
    return lambda answer: same(result_of(answer, truth, prediction), expected, TOLERANCE)


def _loss_is_not(wrong, truth: np.ndarray, prediction: np.ndarray):
    return lambda answer: not same(result_of(answer, truth, prediction), wrong, TOLERANCE)


def _gives_one_number(answer) -> bool:
    return np.shape(result_of(answer, TWO, TWO)) == ()


check_dice_loss = Exercise(
    "3.1 Dice loss",
    _dice_loss,
    (
        Trial(_gives_one_number, "The loss of a batch is one number: sum over all pixels of all its masks."),
        Trial(
            _loss_is_not(1, LEFT, LEFT),
            "A perfect prediction gets 1 from you. That is its Dice; what is its loss?",
        ),
        Trial(
            _loss_is(0, EMPTY, EMPTY),
            "An empty mask that is predicted as empty must cost 0. Which number in the formula avoids 0 / 0?",
        ),
        Trial(
            _loss_is(0, LEFT, LEFT),
            "A perfect prediction must cost 0: numerator and denominator are then equal. Is a factor missing?",
        ),
        Trial(
            _loss_is(float(_dice_loss(LEFT, 0.4 * LEFT)), LEFT, np.float32(0.4) * LEFT),
            "Try a prediction of 0.4 inside the square. Use probabilities as they are, without a threshold.",
        ),
        Trial(
            _loss_is(float(_dice_loss(TWO, TWO_FOUND_ONE)), TWO, TWO_FOUND_ONE),
            "Two masks, one of them missed: add up the sums of the whole batch first, then divide once.",
        ),
        Trial(
            _loss_is(float(_dice_loss(LEFT, RIGHT)), LEFT, RIGHT),
            "The square is predicted beside its place. Compare your terms with the formula, one by one.",
        ),
    ),
    "Right. An empty mask is no trouble, and the sums run over the whole batch.",
)


# 3.2 BCE-Dice loss


def _bce(truth, prediction):
    return ops.mean(keras.losses.binary_crossentropy(truth, prediction))


def _bce_dice_loss(truth, prediction):
    return (_bce(truth, prediction) + _dice_loss(truth, prediction)) / 2


UNSURE = np.float32(0.1) + np.float32(0.6) * LEFT
BCE, DICE = float(_bce(LEFT, UNSURE)), float(_dice_loss(LEFT, UNSURE))

check_bce_dice_loss = Exercise(
    "3.2 BCE-Dice loss",
    _bce_dice_loss,
    (
        Trial(_gives_one_number, "The loss is one number, but you return an array. Is one of its parts not averaged?"),
        Trial(_loss_is_not(BCE + DICE, LEFT, UNSURE), "You return the sum of the two losses. What makes it a mean?"),
        Trial(_loss_is_not(BCE, LEFT, UNSURE), "You return the cross-entropy alone. Where is the Dice loss?"),
        Trial(_loss_is_not(DICE, LEFT, UNSURE), "You return the Dice loss alone. Where is the cross-entropy?"),
        Trial(
            lambda answer: float(result_of(answer, LEFT, UNSURE)) < 1,
            "Your loss is far too large. Does each function get the truth first and the prediction second?",
        ),
        Trial(
            _loss_is((BCE + DICE) / 2, LEFT, UNSURE),
            "Not yet the mean of the two. Print both losses for a small example, and compute their mean on paper.",
        ),
    ),
    "Right. This is the loss that the course trains with.",
)


# 3.3 Weights of a convolution


def _is_number(answer) -> bool:
    return not isinstance(answer, bool) and float(answer) == answer


check_number_of_weights = Exercise(
    "3.3 Weights of a convolution",
    216,
    (
        Trial(_is_number, "Answer with a number."),
        Trial(lambda answer: answer != 72, "Each filter looks at all channels of its input, not at one."),
        Trial(lambda answer: answer != 27, "These are the weights of one filter. How many filters are there?"),
        Trial(lambda answer: answer != 24, "Each filter has a weight for every pixel under its 3 x 3 window."),
        Trial(lambda answer: answer != 224, "You counted a bias for each filter. This layer has none."),
        Trial(lambda answer: answer == 216, "Multiply: pixels under the window, channels of the input, filters."),
    ),
    "Right. The number does not depend on the size of the image.",
)


# 3.4 A step of the decoder


def _conv_block(x, filters):
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    return x


def _decoder_step(x, skip, filters):
    x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
    x = layers.Concatenate()([x, skip])
    return _conv_block(x, filters)


@functools.lru_cache(maxsize=2)  # The answer and the solution; to build a network takes a second.
def _step(answer) -> keras.Model:
    """A network that is one step: from 6 channels at 4 x 4 pixels and a skip of 3 at 8 x 8 to 3 channels at 8 x 8."""
    x, skip = keras.Input((4, 4, 6), name="x"), keras.Input((8, 8, 3), name="skip")
    return keras.Model([x, skip], result_of(answer, x, skip, 3))


def _step_with(answer, weights) -> np.ndarray:
    """What the step makes of random features, with given weights."""
    step, rng = _step(answer), np.random.default_rng(0)
    step.set_weights(weights)
    features = [rng.random((1, *tensor.shape[1:]), np.float32) for tensor in step.inputs]
    return ops.convert_to_numpy(step(features))


def _runs(answer) -> bool:
    try:
        _step(answer)
    except NothingReturned:
        raise
    except ValueError:  # Keras refuses to join pictures of different sizes.
        return False
    return True


def _uses(name: str):
    """Whether the result depends on x or on skip: without it, the other alone is not enough to compute the result."""

    def holds(answer) -> bool:
        x, skip = _step(answer).inputs
        try:
            keras.Model(skip if name == "x" else x, _step(answer).outputs)
        except ValueError:
            return True
        return False

    return holds


def _has_layer(kind):
    return lambda answer: any(isinstance(layer, kind) for layer in _step(answer).layers)


def _weights_like(answer) -> bool:
    return [weight.shape for weight in _step(answer).weights] == [
        weight.shape for weight in _step(_decoder_step).weights
    ]


def _computes_like(answer) -> bool:
    rng = np.random.default_rng(1)
    weights = [rng.random(weight.shape, np.float32) for weight in _step(_decoder_step).weights]
    return same(_step_with(answer, weights), _step_with(_decoder_step, weights), TOLERANCE)


check_decoder_step = Exercise(
    "3.4 A step of the decoder",
    _decoder_step,
    (
        Trial(_runs, "Keras cannot join the two. How large are x and skip? One has to be enlarged before."),
        Trial(
            lambda answer: tuple(_step(answer).output_shape[1:3]) == (8, 8),
            "The result must be as large as skip, twice as large as x.",
        ),
        Trial(_uses("skip"), "The result does not depend on skip, so that all fine detail is lost."),
        Trial(_uses("x"), "The result does not depend on x, so that all that the deeper levels found is lost."),
        Trial(_has_layer(layers.Concatenate), "x and skip must lie side by side as channels. Which layer joins them?"),
        Trial(
            lambda answer: _step(answer).output_shape[-1] == 3,
            "The result has the channels of x and of skip. A block has to bring them down to `filters`.",
        ),
        Trial(
            _has_layer(layers.Conv2DTranspose),
            "Enlarge with a layer that can learn: a transposed convolution.",
        ),
        Trial(
            _weights_like,
            "The weights have other shapes than expected. The transposed convolution has `filters` filters, a kernel "
            "of 2 and strides of 2; the block comes once, after joining.",
        ),
        Trial(_computes_like, "All layers are there. Join x first and skip second, as the packaged network does."),
    ),
    "Right. With this step you can build the whole right side of a U-Net.",
)


# 3.5 Shape at the deepest level


def _is_shape(answer) -> bool:
    return len(answer) == 3


check_deepest_shape = Exercise(
    "3.5 Shape at the deepest level",
    (64, 64, 32),
    (
        Trial(_is_shape, "Answer with three numbers: (height, width, filters)."),
        Trial(
            lambda answer: tuple(answer) not in ((32, 32, 32), (32, 32, 64)),
            "Three levels have only two poolings between them.",
        ),
        Trial(lambda answer: tuple(answer[:2]) != (256, 256), "Every pooling halves height and width."),
        Trial(lambda answer: tuple(answer[:2]) == (64, 64), "Halve 256 once for every pooling, in both directions."),
        Trial(lambda answer: answer[2] != 8, "The filters double from level to level."),
        Trial(lambda answer: tuple(answer) == (64, 64, 32), "8 filters on the first level; double them twice."),
    ),
    "Right. The picture becomes small, and what is known about each place becomes rich.",
)


# 3.6 Learning rate

check_largest_rate = Exercise(
    "3.6 Twice the learning rate",
    0.8,
    (
        Trial(_is_number, "Answer with a number, one of the rates that you have tried."),
        Trial(
            lambda answer: answer < 1,
            "At this rate the loss grows from step to step. Go back to a smaller rate.",
        ),
        Trial(lambda answer: not same(answer, 0.4), "This one is the fastest. Does a larger one still work, too?"),
        Trial(
            lambda answer: answer > 0.4,
            "Here the loss falls, but double the rate again, and look whether it still does.",
        ),
        Trial(lambda answer: same(answer, 0.8), "Try only 0.05 and what you get by doubling it."),
    ),
    "Right. At 0.8 the weight jumps over the minimum and back but comes closer; at 1.6 it jumps further away.",
)
