"""Checks of notebook 02: image and mask together, names that are no numbers, strength, and repeatable chance."""

import numpy as np

from . import Exercise, Trial, result_of, same


def flip_both(image, mask):
    """Mirror an image and its mask left and right."""
    return image[:, ::-1], mask[:, ::-1]


IMAGE = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
MASK = np.array([[True, False, False], [True, True, False]])


def _flipped(answer, part):
    pair = result_of(answer, IMAGE.copy(), MASK.copy())
    return np.asarray(pair[part])


def _leaves_its_input(answer):
    image, mask = IMAGE.copy(), MASK.copy()
    result_of(answer, image, mask)
    return same(image, IMAGE) and same(mask, MASK)


check_flip_both = Exercise(
    "2.1 Flip image and mask",
    flip_both,
    (
        Trial(
            lambda answer: isinstance(result_of(answer, IMAGE.copy(), MASK.copy()), tuple | list),
            "Return two things: the image and the mask.",
        ),
        Trial(
            lambda answer: not same(_flipped(answer, 0)[:, ::-1, ::-1], IMAGE),
            "The red and blue of your image have changed places, too. Reverse the second axis only.",
        ),
        Trial(
            lambda answer: not same(_flipped(answer, 0), IMAGE[::-1]),
            "Your image is upside down. Rows are the first axis, columns the second.",
        ),
        Trial(
            lambda answer: not same(_flipped(answer, 0), IMAGE),
            "The image comes back as it was.",
        ),
        Trial(
            lambda answer: not same(_flipped(answer, 1), MASK),
            "The image is flipped, and the mask is not: it would now mark the wrong pixels.",
        ),
        Trial(
            lambda answer: same(_flipped(answer, 0), IMAGE[:, ::-1]) and same(_flipped(answer, 1), MASK[:, ::-1]),
            "The first column should become the last one, in both arrays, and every colour should stay what it is.",
        ),
        Trial(_leaves_its_input, "Your function changes the arrays that it was given. Leave them as they are."),
    ),
    "Right: what moves in the image moves in the mask.",
)

check_mean_label = Exercise(
    "2.2 The mean of two names",
    2,
    (
        Trial(lambda label: label not in (1, 3), "That is one of the two neighbours, which `nearest` would choose."),
        Trial(lambda label: label != 4, "4 is their sum. Interpolation takes a weighted mean of the neighbours."),
        Trial(lambda label: label != 0, "0 would be background, but both neighbours are cells. Calculate the mean."),
        Trial(lambda label: label == 2, "Halfway between two pixels, each of them counts one half."),
    ),
    "Right, and that is wrong: cell 2 is a third cell, which lies somewhere else.",
)

STRENGTHS = (1, 2, 4, 8, 16)

check_folding_strength = Exercise(
    "2.3 How strong is too strong?",
    4,
    (
        Trial(lambda strength: strength in STRENGTHS, "Choose one of the strengths 1, 2, 4, 8 and 16."),
        Trial(lambda strength: strength != 1, "There the smallest step is far above zero: nothing is folded."),
        Trial(lambda strength: strength != 2, "There the smallest step is small, but above zero. Look at its sign."),
        Trial(lambda strength: strength < 16, "16 folds everywhere. Try the weaker ones."),
        Trial(lambda strength: strength == 4, "There it folds, but a weaker one does so already."),
    ),
    "Right. Real tissue stretches, but it does not fold like this: stay well below.",
)


def coin(seed, epoch, index):
    """Heads or tails, as a function of the three numbers."""
    return np.random.default_rng((seed, epoch, index)).random() < 0.5


def _tosses(answer, cases):
    return [bool(result_of(answer, *case)) for case in cases]


MANY = [(1, epoch, index) for epoch in range(20) for index in range(20)]
MIRRORED = [(1, index, epoch) for _, epoch, index in MANY]

check_coin = Exercise(
    "2.4 Repeatable chance",
    coin,
    (
        Trial(
            lambda answer: {type(result_of(answer, *case)) for case in MANY[:40]} <= {bool, np.bool_},
            "Return True or False. A random number below 0.5, for instance, is heads.",
        ),
        Trial(
            lambda answer: _tosses(answer, MANY[:100]) == _tosses(answer, MANY[:100]),
            "The same three numbers gave another result the second time. Make a generator of your own from them.",
        ),
        Trial(
            lambda answer: len(set(_tosses(answer, MANY))) == 2,
            "Every sample of every epoch gets the same result. Use the epoch and the index, too, not the seed alone.",
        ),
        Trial(
            lambda answer: _tosses(answer, MANY) != _tosses(answer, MIRRORED),
            "Sample 2 of epoch 5 and sample 5 of epoch 2 always get the same result, as with a sum of the numbers. "
            "`default_rng` takes a tuple of numbers, too.",
        ),
        Trial(
            lambda answer: _tosses(answer, MANY) != _tosses(answer, [(9, *case[1:]) for case in MANY]),
            "Another seed should give other results, or no run could ever be repeated with other chances.",
        ),
        Trial(
            lambda answer: _tosses(answer, MANY) == _tosses(answer, MANY[::-1])[::-1],
            "The results depend on the order of the calls.",
        ),
        Trial(lambda answer: 140 < sum(_tosses(answer, MANY)) < 260, "Heads should come in about half of the cases."),
    ),
)
