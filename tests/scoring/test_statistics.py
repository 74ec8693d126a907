import numpy as np
import pytest

from tiledseg_utils.scoring.statistics import bootstrap_interval, paired_difference, resample_sums


def test_paired_difference_is_blind_to_differences_between_images(rng):
    hard_or_easy = dict(zip("abcdefgh", rng.random(8), strict=True))
    better = {stem: score + 0.1 + 0.01 * rng.standard_normal() for stem, score in hard_or_easy.items()}
    result = paired_difference(better, dict(reversed(hard_or_easy.items())), seed=3)
    low, high = result["ci95"]
    assert low < result["mean"] < high and result["mean"] == pytest.approx(0.1, abs=0.01)
    assert high - low < 0.03  # the scores themselves are spread over about 1
    assert result == paired_difference(better, hard_or_easy, seed=3)


def test_paired_difference_of_one_image_and_of_different_images():
    assert paired_difference({"a": 0.75}, {"a": 0.5}) == {"mean": 0.25, "ci95": [None, None]}
    with pytest.raises(ValueError, match=r"not the same images: \['b'\]"):
        paired_difference({"a": 1.0, "b": 1.0}, {"a": 1.0})


def test_resampled_sums_give_the_interval_of_the_mean(rng):
    values = rng.normal(size=(40, 2))
    sums = resample_sums(values, seed=1)
    assert sums.shape == (9999, 2) and np.array_equal(sums, resample_sums(values, seed=1))
    limits = np.percentile(sums[:, 0] / 40, [2.5, 97.5])
    np.testing.assert_allclose(limits, bootstrap_interval(values[:, 0], np.mean, 1), atol=0.02)


def test_resampled_columns_stay_together(rng):
    values = rng.integers(0, 9, 30)
    sums = resample_sums(np.column_stack([values, 3 * values, np.ones(30)]), seed=2, resamplings=1200)
    np.testing.assert_array_equal(sums[:, 1], 3 * sums[:, 0])
    assert (sums[:, 2] == 30).all()
