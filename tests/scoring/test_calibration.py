"""Calibration: bins by probability, and the gap between what they promise and what is there."""

import numpy as np
import pytest

from tiledseg_utils.data.images import read_pair
from tiledseg_utils.scoring.calibration import Reliability
from tiledseg_utils.scoring.pixels import score_images
from tiledseg_utils.scoring.statistics import auroc


def test_the_error_is_the_mean_gap_weighted_by_pixels():
    reliability = Reliability(bins=4)
    reliability.add(np.float32([[0.1, 0.1], [0.6, 0.7]]), np.array([[False, False], [True, False]]))
    reliability.add(np.float32([[1.0, 0.9]]), np.array([[True, True]]))  # 1 is in the last bin.
    assert reliability.pixels.tolist() == [2, 0, 2, 2] and reliability.foreground.tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(reliability.gaps, [0.1, np.nan, 0.15, -0.05], atol=1e-6)
    assert reliability.ece == pytest.approx((2 * 0.1 + 2 * 0.15 + 2 * 0.05) / 6)
    assert reliability.doubtful_ece == pytest.approx(0.15)
    assert reliability.record()["pixels"] == [2, 0, 2, 2]


def test_true_probabilities_are_calibrated_and_sharper_ones_are_not(rng):
    probability = rng.random((500, 500)).astype(np.float32)
    reference = rng.random((500, 500)) < probability
    true, sharp = Reliability(), Reliability()
    true.add(probability, reference)
    sharp.add((probability > 0.5).astype(np.float32), reference)
    assert true.ece < 0.01 and sharp.ece == pytest.approx(0.25, abs=0.01)  # As masks: the share of wrong pixels.
    assert np.isnan(sharp.doubtful_ece) and sharp.record()["doubtful_ece"] is None


def test_auroc_is_the_share_of_pairs_in_the_right_order(rng):
    score, positive = rng.integers(0, 6, (5, 8)), rng.random((5, 8)) < 0.4
    pairs = score[positive][:, None] - score[~positive][None]
    assert auroc(score, positive) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auroc([1, 2, 3], [False, False, True]) == 1
    assert np.isnan(auroc([1, 2], [True, True]))


def test_bins_are_filled_while_images_are_scored(splits):
    reliability = Reliability(bins=2)
    score_images(lambda image: np.full(image.shape[:2], 0.75, np.float32), splits["test"], 0.5, watch=reliability.add)
    covered = sum(read_pair(pair)[1].sum() for pair in splits["test"])
    assert reliability.pixels.tolist() == [0, 2 * 280 * 280] and reliability.foreground.tolist() == [0, covered]
