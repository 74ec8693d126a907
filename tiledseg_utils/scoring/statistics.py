"""How sure a mean over images is: bootstrap intervals (Efron 1979) of 9,999 resamplings.

Images are resampled, not pixels or objects, because those of one image are not independent.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats


def bootstrap_interval(values: np.ndarray, statistic: Callable, seed: int) -> list:
    """95 % confidence interval [low, high] of a statistic of one value per image, by percentiles.

    [None, None] for fewer than two images.
    """
    if len(values) < 2:
        return [None, None]
    bootstrap = stats.bootstrap((values,), statistic, n_resamples=9999, method="percentile", rng=seed)
    return [float(limit) for limit in bootstrap.confidence_interval]


def paired_difference(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> dict:
    """Mean of `first - second` over the images, with its 95 % interval.

    Both values of an image stay together, so that differences between images cancel.

    Args:
        first, second: a score by image, for the same images.
        seed: of the resamplings.

    Returns:
        {"mean", "ci95": [low, high]}; the interval is [None, None] for a single image.

    Raises:
        ValueError: the images are not the same.
    """
    if set(first) != set(second):
        raise ValueError(f"not the same images: {sorted(set(first) ^ set(second))}.")
    differences = np.array([first[stem] - second[stem] for stem in sorted(first)])
    return {"mean": float(differences.mean()), "ci95": bootstrap_interval(differences, np.mean, seed)}


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """The area under the receiver operating characteristic: how well a score tells positives from the others.

    It is the probability that a positive, drawn at random, has a higher score than one of the others; equal scores
    count half (Hanley & McNeil, Radiology 1982, doi 10.1148/radiology.143.1.7063747). 0.5 is chance.

    Args:
        score: any numbers, of any shape.
        positive: bool, of the same shape.

    Returns:
        from 0 to 1; NaN if all or none are positive.
    """
    positive = np.asarray(positive, bool).ravel()
    count = int(positive.sum())
    pairs = count * (positive.size - count)
    ranks = stats.rankdata(np.ravel(score))
    return float((ranks[positive].sum() - count * (count + 1) / 2) / pairs) if pairs else float("nan")


def resample_sums(values: np.ndarray, seed: int, resamplings: int = 9999) -> np.ndarray:
    """Sums over resampled images, of many columns at once: scores (for means), and counts (for pooled scores).

    Args:
        values: (N, K), a row for each image.
        seed: of the resamplings.
        resamplings: how many.

    Returns:
        (resamplings, K) float64; each row is a sum over N rows of `values`, drawn with repetition.
    """
    images, rng = len(values), np.random.default_rng(seed)
    shares, sums = np.full(images, 1 / images), np.empty((resamplings, values.shape[1]))
    for start in range(0, resamplings, 500):  # how often each image is drawn takes much memory for many images
        times = rng.multinomial(images, shares, min(500, resamplings - start))
        sums[start : start + 500] = times @ np.asarray(values, np.float64)
    return sums
