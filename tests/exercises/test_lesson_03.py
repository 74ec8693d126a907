"""The exercises of notebook 3, and what learners get wrong in them."""

import keras
import numpy as np
from keras import layers, ops

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_03
from tiledseg_utils.models import losses


def dice(truth, prediction):
    return losses.dice_coefficient(truth, prediction)


def dice_of_each_image(truth, prediction):
    overlap, total = (ops.sum(values, (1, 2, 3)) for values in (truth * prediction, truth + prediction))
    return 1 - (2 * overlap + 1) / (total + 1)


def without_smoothing(truth, prediction):
    return 1 - 2 * ops.sum(truth * prediction) / (ops.sum(truth) + ops.sum(prediction))


def without_factor(truth, prediction):
    return 1 - (ops.sum(truth * prediction) + 1) / (ops.sum(truth) + ops.sum(prediction) + 1)


def with_threshold(truth, prediction):
    return losses.dice_loss(truth, ops.cast(prediction > 0.5, "float32"))


def jaccard(truth, prediction):
    return losses.iou_loss(truth, prediction)


def bce(truth, prediction):
    return ops.mean(keras.losses.binary_crossentropy(truth, prediction))


def up(x, filters):
    return layers.Conv2DTranspose(filters, 2, strides=2)(x)


def block(x, filters):
    return lesson_03._conv_block(x, filters)


def test_exercises():
    require_table(
        lesson_03,
        {
            "check_dice_loss": [
                (dice_of_each_image, "one number"),
                (dice, "what is its loss"),
                (without_smoothing, "0 / 0"),
                (without_factor, "factor missing"),
                (with_threshold, "without a threshold"),
                (lambda truth, prediction: ops.mean(dice_of_each_image(truth, prediction)), "whole batch first"),
            ],
            "check_bce_dice_loss": [
                (lambda truth, prediction: keras.losses.binary_crossentropy(truth, prediction), "not averaged"),
                (lambda truth, prediction: bce(truth, prediction) + losses.dice_loss(truth, prediction), "mean?"),
                (bce, "Where is the Dice loss"),
                (losses.dice_loss, "Where is the cross-entropy"),
                (
                    lambda truth, prediction: (bce(prediction, truth) + losses.dice_loss(truth, prediction)) / 2,
                    "truth first",
                ),
                (lambda truth, prediction: (bce(truth, prediction) + dice(truth, prediction)) / 2, "on paper"),
            ],
            "check_number_of_weights": [
                ("many", "with a number"),
                (72, "all channels"),
                (27, "one filter"),
                (24, "3 x 3 window"),
                (224, "bias"),
                (9, "Multiply"),
            ],
            "check_decoder_step": [
                (lambda x, skip, filters: layers.Concatenate()([x, skip]), "How large"),
                (lambda x, skip, filters: block(up(x, filters), filters), "not depend on skip"),
                (lambda x, skip, filters: block(skip, filters), "not depend on x"),
                (lambda x, skip, filters: block(layers.Add()([up(x, filters), skip]), filters), "side by side"),
                (lambda x, skip, filters: layers.Concatenate()([up(x, filters), skip]), "bring them down"),
                (
                    lambda x, skip, filters: block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), filters),
                    "can learn",
                ),
                (
                    lambda x, skip, filters: block(layers.Concatenate()([up(x, 2 * filters), skip]), filters),
                    "other shapes",
                ),
                (
                    lambda x, skip, filters: block(layers.Concatenate()([skip, up(x, filters)]), filters),
                    "x first and skip second",
                ),
                (
                    lambda x, skip, filters: block(layers.Concatenate()([x, layers.MaxPooling2D()(skip)]), filters),
                    "twice as large as x",
                ),
            ],
            "check_deepest_shape": [
                (64, "three numbers"),
                ((32, 32, 64), "two poolings"),
                ((256, 256, 32), "halves height"),
                ((128, 128, 16), "once for every pooling"),
                ((64, 64, 8), "filters double"),
                ((64, 64, 16), "double them twice"),
            ],
            "check_largest_rate": [
                ("0.8?", "with a number"),
                (1.6, "grows"),
                (0.4, "fastest"),
                (0.2, "double the rate again"),
                (0.9, "by doubling it"),
            ],
        },
    )


def test_the_solutions_are_what_the_package_does():
    rng = np.random.default_rng(2)
    truth = (rng.random((2, 8, 8, 1)) < 0.2).astype(np.float32)
    prediction = rng.random((2, 8, 8, 1), np.float32)
    for check, loss in ((lesson_03.check_dice_loss, "dice"), (lesson_03.check_bce_dice_loss, "bce_dice")):
        expected = losses.LOSSES[loss](truth, prediction)
        np.testing.assert_allclose(check.solution(truth, prediction), expected, rtol=1e-6)
