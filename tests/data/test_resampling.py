"""Another size of pixel: means of areas, straight lines between neighbours, and the same bits for any cut into rows."""

import itertools

import cv2
import numpy as np
import pytest

from tiledseg_utils.data.resampling import resample_reader, resampling_weights


@pytest.mark.parametrize("factor", [1.0, 1.37, 2.0, 3.9, 0.5, 0.81])
@pytest.mark.parametrize("length", [1, 2, 57, 200])
def test_weights_add_up_and_leave_even_images_even(length, factor):
    weights = resampling_weights(length, factor)
    assert weights.shape == (max(1, round(length / factor)), length)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert weights.data.min() >= -1e-6


def reader(image):
    return lambda start, stop: image[start:stop]


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_whole_factors_are_means_of_blocks(rng, factor):
    image = rng.integers(0, 256, (64, 96, 3), np.uint8)
    read, shape = resample_reader(reader(image), (64, 96), np.uint8, factor)
    expected = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(read(0, shape[0]).astype(int) - expected).max() <= 1  # Halves are rounded elsewhere.


def test_enlarging_follows_straight_lines(rng):
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.float32)[:, None, None], (1, 12, 1))
    read, shape = resample_reader(reader(ramp), (20, 12), np.float32, 0.25)
    assert shape == (80, 48)
    np.testing.assert_allclose(np.diff(read(0, 80)[2:-2, 0, 0]), 2.5, atol=1e-4)


@pytest.mark.parametrize("factor", [1.7, 0.6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, bool])
def test_rows_are_the_same_bits_however_they_are_cut(rng, factor, dtype):
    image = (rng.random((90, 70, 3)) * (2 if dtype is bool else 250)).astype(dtype)
    read, shape = resample_reader(reader(image), (90, 70), np.dtype(dtype), factor)
    cuts = [0, 1, 2, 17, 30, shape[0]]
    parts = np.concatenate([read(*rows) for rows in itertools.pairwise(cuts)])
    assert parts.dtype == dtype
    np.testing.assert_array_equal(parts, read(0, shape[0]))
