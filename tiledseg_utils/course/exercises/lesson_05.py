"""Checks of lesson 5: tiled against non-tiled."""

import numpy as np

from . import Exercise, Trial, result_of, same

check_width = Exercise(
    "5.1 What is left of a nucleus",
    5,
    (
        Trial(lambda answer: float(answer) != 320, "The nucleus gets smaller, not larger: divide by the factor."),
        Trial(lambda answer: float(answer) != 8, "8 is the factor by which each side shrinks. What is the width?"),
        Trial(
            lambda answer: not same(answer, 40 / 64, 0.01),
            "You divided by 64, the factor of the area. The width shrinks as the side of the image does.",
        ),
        Trial(lambda answer: not same(answer, 25, 0.5), "That is the area in pixels, a width times a width."),
        Trial(
            lambda answer: same(answer, 5, 0.01),
            "The image shrinks from 2048 to 256 pixels. The nucleus shrinks by the same factor.",
        ),
    ),
    praise="Right: 5 px wide, so of 64 pixels one is left.",
)


def paired_interval(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of `first - second`, from 5,000 resamplings of the images."""
    differences = first - second
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (5000, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return low, high


_SECOND = np.array([0.91, 0.42, 0.77, 0.15, 0.66, 0.98, 0.30, 0.54, 0.83, 0.08, 0.49, 0.71])
_GAINS = np.array([0.02, 0.12, 0.05, 0.21, 0.03, -0.04, 0.16, 0.07, 0.00, 0.30, 0.11, 0.06])
_FIRST = _SECOND + _GAINS
_LOW, _HIGH = paired_interval(_FIRST, _SECOND, 0)
_WIDTH = _HIGH - _LOW


def _ends(answer) -> np.ndarray:
    return np.asarray(result_of(answer, _FIRST, _SECOND, 1), float)


def _width(answer) -> float:
    low, high = _ends(answer)
    return (high - low) / _WIDTH


check_paired_interval = Exercise(
    "5.3 An interval for the difference",
    paired_interval,
    (
        Trial(lambda answer: _ends(answer).shape == (2,), "Return two numbers, the low end and the high end."),
        Trial(lambda answer: _width(answer) >= 0, "The low end comes first."),
        Trial(
            lambda answer: abs(_ends(answer).mean() + _GAINS.mean()) > _WIDTH / 4,
            "The sign is turned: the first is to be better by how much? Take first - second.",
        ),
        Trial(
            lambda answer: _width(answer) > 0.05,
            "All your resamplings are alike. Draw *with* replacement, so that an image can come twice or not at all.",
        ),
        Trial(
            lambda answer: np.ptp(np.asarray(result_of(answer, _FIRST, _FIRST - 0.1, 1), float)) < 0.01,
            "If the first is better by 0.1 on every image, nothing is uncertain. "
            "Take the difference of each image before you draw: both scores of an image stay together.",
        ),
        Trial(
            lambda answer: _width(answer) < 2,
            "That shows how the images differ. Asked for is how the *mean* of each resampling differs: average first.",
        ),
        Trial(
            lambda answer: _width(answer) < 1.2,
            "Too wide. Draw as many images as there are, and cut off 2.5 % at each end.",
        ),
        Trial(
            lambda answer: _width(answer) > 0.93,
            "Too narrow. A 95 % interval leaves out 2.5 % at each end, not 5 %.",
        ),
        Trial(
            lambda answer: same(_ends(answer), (_LOW, _HIGH), _WIDTH / 10),
            "The width is right, but the place is not. Is the mean of first - second in the middle?",
        ),
        Trial(
            lambda answer: same(_ends(answer), _ends(answer)),
            "Called twice with the same seed, it gives different numbers. Make the generator from the seed.",
        ),
    ),
    praise="Right. Both scores of an image stay together, and only images are drawn.",
)

check_size = Exercise(
    "5.2 How far a perfect network can be reduced",
    128,
    (
        Trial(lambda answer: float(answer) in (32, 64, 128, 256, 512), "Choose one of 32, 64, 128, 256 and 512."),
        Trial(lambda answer: answer != 32, "At 32 px, a nucleus is one pixel wide. Look at its Dice."),
        Trial(lambda answer: answer != 64, "Close: at 64 px, even a perfect network stays below 0.95."),
        Trial(lambda answer: answer not in (256, 512), "That is enough, but a smaller size is enough, too."),
    ),
    praise="Right: with nuclei five pixels wide, a perfect network could still do well.",
)


def nuclei() -> np.ndarray:
    """A mask (1024, 1024) bool of twelve nuclei, 40 px wide."""
    rng, mask = np.random.default_rng(5), np.zeros((1024, 1024), bool)
    rows, columns = np.mgrid[:1024, :1024]
    for row, column in rng.uniform(60, 964, (12, 2)):
        mask |= (rows - row) ** 2 + (columns - column) ** 2 <= 20**2
    return mask
