"""Checks of lesson 4: how to score a segmentation."""

import numpy as np

from . import Exercise, Trial, result_of, same


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice of two masks of one shape, bool; 1 if both are empty."""
    found = np.count_nonzero(prediction & reference)
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    return 2 * found / total if total else 1.0


def _mask(*rows: str) -> np.ndarray:
    """A mask drawn with # for foreground."""
    return np.array([[sign == "#" for sign in row] for row in rows])


_HALF, _FULL, _OTHER, _EMPTY = (_mask(row)[0] for row in ("#...", "##..", "..##", "...."))
_SQUARE, _SHIFTED = _mask("....", ".##.", ".##.", "...."), _mask("....", "..##", "..##", "....")

check_dice = Exercise(
    "4.1 Dice",
    dice,
    (
        Trial(
            lambda answer: not same(result_of(answer, _HALF, _FULL), 1 / 2, 1e-9),
            "That is IoU. Dice counts the found pixels twice, above and below the line of the fraction.",
        ),
        Trial(
            lambda answer: not same(result_of(answer, _HALF, _FULL), 3 / 4, 1e-9),
            "That is the share of pixels that are right. Dice leaves out the true negatives.",
        ),
        Trial(
            lambda answer: same(result_of(answer, _HALF, _FULL), 2 / 3, 1e-2),
            "Try [1, 0, 0, 0] against [1, 1, 0, 0]: one pixel was found, none was invented and one was missed. "
            "Put TP = 1, FP = 0 and FN = 1 into the formula.",
        ),
        Trial(
            lambda answer: same(result_of(answer, _FULL, _HALF), 2 / 3, 1e-2),
            "Exchange the two masks: Dice must stay the same. Do you count missed and invented pixels?",
        ),
        Trial(
            lambda answer: same(result_of(answer, _OTHER, _FULL), 0),
            "Two masks without a common pixel must score exactly 0; is there a constant in your fraction?",
        ),
        Trial(
            lambda answer: same(result_of(answer, _SHIFTED, _SQUARE), 1 / 2, 1e-9),
            "A mask has rows and columns, and the result is one number: count over the whole image.",
        ),
        Trial(
            lambda answer: same(result_of(answer, _EMPTY, _EMPTY), 1, 1e-9),
            "Both masks are empty, so the fraction is 0 / 0. What does the rule of this lesson say?",
        ),
        Trial(
            lambda answer: same(result_of(answer, _HALF, _EMPTY), 0, 1e-9),
            "The reference is empty and the prediction is not: a pixel was invented. That is not a perfect score.",
        ),
        Trial(
            lambda answer: same(result_of(answer, _EMPTY, _HALF), 0, 1e-9),
            "The prediction is empty and the reference is not: a pixel was missed. That is not a perfect score.",
        ),
    ),
    praise="Right, with empty masks, too.",
)


def _pair(answer) -> tuple[float, float]:
    mean, pooled = answer
    return float(mean), float(pooled)


MEAN, POOLED = 0.6333, 0.8911

check_mean_and_pooled = Exercise(
    "4.2 Mean and pooled",
    (0.63, 0.89),
    (
        Trial(
            lambda answer: len(_pair(answer)) == 2,
            "Give two numbers in parentheses, first the mean and then the pooled score.",
        ),
        Trial(
            lambda answer: not same(_pair(answer), (POOLED, MEAN), 0.006),
            "You have both numbers, but in the other order: the mean comes first.",
        ),
        Trial(
            lambda answer: not same(_pair(answer)[0], 0.9, 0.006),
            "All three images count in the mean, the two empty ones as well.",
        ),
        Trial(
            lambda answer: not same(_pair(answer)[0], 0.3, 0.006),
            "Look at image B again: by the rule for empty masks it does not score 0.",
        ),
        Trial(
            lambda answer: same(_pair(answer)[0], MEAN, 0.006),
            "Begin with the Dice of each image (one of them is 0.9), and divide their sum by three.",
        ),
        Trial(
            lambda answer: not same(_pair(answer)[1], 0.9, 0.006),
            "Nearly: the two invented pixels of image C belong to the sum, too.",
        ),
        Trial(
            lambda answer: same(_pair(answer)[1], POOLED, 0.006),
            "For the pooled score, add up each column of the table first. Then use the formula once.",
        ),
    ),
    praise="Right. One image with two invented pixels takes a third off the mean, and hardly touches the pooled score.",
)


def best_threshold(probabilities: list, references: list, thresholds: list) -> float:
    """The threshold of the highest pooled Dice, the first of several."""
    scores = []
    for threshold in thresholds:
        masks = [probability >= threshold for probability in probabilities]
        found = sum(np.count_nonzero(mask & reference) for mask, reference in zip(masks, references, strict=True))
        total = sum(np.count_nonzero(mask) for mask in [*masks, *references])
        scores.append(2 * found / total if total else 1.0)
    return thresholds[int(np.argmax(scores))]


_THRESHOLDS = [0.2, 0.4, 0.6, 0.8]
# One image: its foreground has 0.6 and more.
_CLEAR = [np.array([[0.3, 0.5, 0.6, 0.9]])], [np.array([[False, False, True, True]])]
# A large image whose foreground begins at 0.4, and five small ones which would do better with 0.8.
_LARGE = np.array([[0.45] * 8 + [0.3] * 8])
_SMALL = np.array([[0.9, 0.7]])
_MIXED = [_LARGE, *[_SMALL] * 5], [_LARGE > 0.4, *[_SMALL > 0.8] * 5]

check_best_threshold = Exercise(
    "4.3 The best threshold",
    best_threshold,
    (
        Trial(
            lambda answer: np.ndim(result_of(answer, *_CLEAR, _THRESHOLDS)) == 0,
            "Return one threshold, not the scores of all.",
        ),
        Trial(
            lambda answer: not same(result_of(answer, *_CLEAR, _THRESHOLDS), 2),
            "That is the place of the threshold in the list. Return the threshold itself.",
        ),
        Trial(
            lambda answer: not same(result_of(answer, *_CLEAR, _THRESHOLDS), 1.0),
            "That is the best score. Return the threshold that reaches it.",
        ),
        Trial(
            lambda answer: not same(result_of(answer, *_CLEAR, _THRESHOLDS), 0.4),
            "A pixel whose probability equals the threshold is foreground: compare with >=.",
        ),
        Trial(
            lambda answer: same(result_of(answer, *_CLEAR, _THRESHOLDS), 0.6, 1e-9),
            "One image has the probabilities 0.3, 0.5, 0.6 and 0.9, and its last two pixels are foreground. "
            "Which of 0.2, 0.4, 0.6 and 0.8 finds exactly these two?",
        ),
        Trial(
            lambda answer: same(result_of(answer, *_MIXED, _THRESHOLDS), 0.4, 1e-9),
            "Pool first: add up the pixels of all images, and compute one Dice for each threshold. "
            "The mean over images would let five tiny images outvote a large one.",
        ),
    ),
    praise="Right: one Dice for each threshold, pooled over all images.",
)

check_diameter = Exercise(
    "4.4 What one pixel costs",
    32,
    (
        Trial(lambda answer: float(answer) in (8, 16, 32, 64), "Choose one of 8, 16, 32 and 64."),
        Trial(lambda answer: answer != 8, "8 pixels are the worst case of all. Look at the Dice that belongs to it."),
        Trial(lambda answer: answer != 16, "Close: for 16 pixels, one pixel still costs more than 0.05."),
        Trial(lambda answer: answer != 64, "64 pixels are enough, but a smaller disc is enough, too."),
    ),
    praise="Right. The same slip of one pixel costs a small cell much more than a large one.",
)
