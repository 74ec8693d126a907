"""The exercises of lesson 4 with typical wrong answers."""

import numpy as np

from tests.exercises.table import require_table
from tiledseg_utils.course.exercises import lesson_04
from tiledseg_utils.course.exercises.lesson_04 import best_threshold, dice


def iou(prediction, reference):
    return (prediction & reference).sum() / (prediction | reference).sum()


def accuracy(prediction, reference):
    return (prediction == reference).mean()


def precision(prediction, reference):
    return (prediction & reference).sum() / prediction.sum()


def smoothed(prediction, reference):
    return (2 * (prediction & reference).sum() + 1e-3) / (prediction.sum() + reference.sum() + 1e-3)


def built_in_sum(prediction, reference):
    return 2 * sum(prediction & reference) / (sum(prediction) + sum(reference))


def without_rule(prediction, reference):
    return 2 * (prediction & reference).sum() / (prediction.sum() + reference.sum())


def empty_reference_is_perfect(prediction, reference):
    return dice(prediction, reference) if reference.any() else 1.0


def empty_prediction_is_perfect(prediction, reference):
    return dice(prediction, reference) if prediction.any() else 1.0


def score_of(mean=False, index=False, score=False, strict=False):
    """Wrong ways to choose a threshold."""

    def answer(probabilities, references, thresholds):
        scores = []
        for threshold in thresholds:
            masks = [p > threshold if strict else p >= threshold for p in probabilities]
            values = [dice(*pair) for pair in zip(masks, references, strict=True)]
            scores.append(np.mean(values))
        best = int(np.argmax(scores))
        return best if index else scores[best] if score else thresholds[best]

    return answer


def test_exercises():
    require_table(
        lesson_04,
        {
            "check_dice": [
                (iou, "That is IoU"),
                (accuracy, "leaves out the true negatives"),
                (precision, "Put TP = 1"),
                (lambda p, r: 2 * (p & r).sum() / (p.sum() + 2), "Exchange the two masks"),
                (smoothed, "a constant"),
                (built_in_sum, "rows and columns"),
                (without_rule, "0 / 0"),
                (empty_reference_is_perfect, "was invented"),
                (empty_prediction_is_perfect, "was missed"),
            ],
            "check_mean_and_pooled": [
                (0.63, "two numbers"),
                ((0.89, 0.63), "other order"),
                ((0.9, 0.89), "All three images"),
                ((0.3, 0.89), "image B"),
                ((0.5, 0.5), "divide their sum by three"),
                ((0.63, 0.9), "image C"),
                ((0.63, 0.63), "add up each column"),
            ],
            "check_best_threshold": [
                (lambda p, r, t: [0.5 for _ in t], "one threshold"),
                (score_of(index=True), "place of the threshold"),
                (score_of(score=True), "best score"),
                (score_of(strict=True), "with >="),
                (lambda p, r, t: 0.5, "finds exactly these two"),
                (score_of(), "Pool first"),
            ],
            "check_diameter": [
                (0.05, "Choose one of"),
                (8, "worst case"),
                (16, "Close"),
                (64, "a smaller disc"),
            ],
        },
    )


def test_the_numbers_that_the_lesson_asks_for_are_right():
    counts = {"A": (90, 10, 10), "B": (0, 0, 0), "C": (0, 2, 0)}
    scores = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0 for tp, fp, fn in counts.values()]
    tp, fp, fn = np.sum(list(counts.values()), axis=0)
    assert np.allclose([lesson_04.MEAN, lesson_04.POOLED], [np.mean(scores), 2 * tp / (2 * tp + fp + fn)], atol=1e-4)
    for diameter, is_enough in ((8, False), (16, False), (32, True), (64, True)):
        rows, columns = np.mgrid[:96, :96] - 47.5
        disc = rows**2 + columns**2 <= (diameter / 2) ** 2
        assert (dice(disc, np.roll(disc, 1, axis=1)) > 0.95) == is_enough


def test_the_best_threshold_of_several_is_the_first():
    assert best_threshold([np.array([[0.9]])], [np.array([[True]])], [0.1, 0.5]) == 0.1
