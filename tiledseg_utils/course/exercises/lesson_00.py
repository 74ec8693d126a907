"""Checks of notebook 00, which show a learner how exercises work."""

import numpy as np

from . import Exercise, Trial, result_of, same

check_slope = Exercise(
    "0.1 A slope",
    4.0,
    (
        Trial(
            lambda slope: slope > 0,
            "Look at the sign. To the right of w = 3 the loss grows with w: is its slope positive or negative there?",
        ),
        Trial(
            lambda slope: slope != 2,
            "2 is w - 3, which stands inside the brackets. What becomes of the square when you take the derivative?",
        ),
        Trial(
            lambda slope: same(slope, 4),
            "Compare two neighbours: the loss is 4 at w = 5, and 4.41 at w = 5.1. Divide its change by the step of "
            "0.1, and round to a whole number.",
        ),
    ),
    "Right. From 5 to 5.1 the loss grows by about 4 times 0.1.",
)

check_rate = Exercise(
    "0.2 A learning rate",
    0.4,
    (
        Trial(lambda rate: rate in (0.01, 0.1, 0.4, 1.1), "Choose one of the four rates: 0.01, 0.1, 0.4 or 1.1."),
        Trial(lambda rate: rate != 0.01, "With 0.01 every step is tiny: after ten steps w is still far from 3."),
        Trial(lambda rate: rate != 1.1, "With 1.1 every step overshoots: w lands further from 3 each time."),
        Trial(lambda rate: rate == 0.4, "That gets near. One of the other rates gets nearer in as many steps."),
    ),
    "Right: too small a rate is slow, and too large a rate runs away.",
)


def foreground_share(mask):
    """The share of True pixels in a mask."""
    return mask.sum() / mask.size


ONE_OF_FOUR = np.array([[True, False], [False, False]])
THREE_OF_TEN = np.array([[True, True, True, False, False], [False] * 5])

check_foreground_share = Exercise(
    "0.3 How much is foreground?",
    foreground_share,
    (
        Trial(
            lambda answer: not same(result_of(answer, ONE_OF_FOUR), 1),
            "That is the number of foreground pixels. For a share, divide it by the number of all pixels.",
        ),
        Trial(
            lambda answer: not same(result_of(answer, ONE_OF_FOUR), 25),
            "That is a percentage. A share lies between 0 and 1.",
        ),
        Trial(
            lambda answer: same(result_of(answer, ONE_OF_FOUR), 0.25, 1e-9),
            "For a mask of 2 x 2 pixels of which one is True, 0.25 should come out.",
        ),
        Trial(
            lambda answer: same(result_of(answer, THREE_OF_TEN), 0.3, 1e-9),
            "It fails for a mask that is not square: 3 of 2 x 5 pixels should give 0.3. How many pixels does it have?",
        ),
    ),
)
