"""Images at another size of pixel: a network meets objects as large as those that it was trained with.

A pixel of a coarser image is the mean of the area that it covers; one of a finer image lies on straight lines between
its neighbours. Each row is the same sum whatever rows are read with it, so that an image can be resampled by rows.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse

Read = Callable[[int, int], np.ndarray]
"""First row and the row after the last, to (n, W, C) of any numbers."""


def resampled_length(length: int, factor: float) -> int:
    """How many pixels, each `factor` times as long, an axis of `length` pixels gets."""
    return max(1, round(length / factor))


def resampling_weights(length: int, factor: float) -> scipy.sparse.csr_matrix:
    """The weight of each of `length` pixels in each pixel of `factor` times their length; rows add up to 1, float32."""
    count = resampled_length(length, factor)
    factor = length / count  # The ends of both axes are the same.
    if factor >= 1:
        edges = np.arange(count + 1) * factor
        first, last = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:] - 1e-9).astype(int)
        columns = np.concatenate([np.arange(*ends) for ends in zip(first, last, strict=True)])
        rows = np.repeat(np.arange(count), last - first)
        covered = np.minimum(columns + 1, edges[rows + 1]) - np.maximum(columns, edges[rows])
        values = covered / factor
    else:
        middles = ((np.arange(count) + 0.5) * factor - 0.5).clip(0, length - 1)
        below = np.floor(middles).astype(int)
        share = middles - below
        rows = np.tile(np.arange(count), 2)
        columns = np.concatenate([below, np.minimum(below + 1, length - 1)])
        values = np.concatenate([1 - share, share])
    return scipy.sparse.csr_matrix((values.astype(np.float32), (rows, columns)), (count, length))


def resample_reader(read: Read, shape: tuple[int, int], dtype: np.dtype, factor: float) -> tuple[Read, tuple[int, int]]:
    """What reads rows of the image with pixels `factor` times as large, in the same numbers, and its shape.

    Args:
        read: of the image, which has the `shape` (H, W), pixels, and `dtype`.
        factor: above 1 the image becomes smaller, below larger.
    """
    down, across = (resampling_weights(side, factor) for side in shape)

    def read_resampled(start: int, stop: int) -> np.ndarray:
        weights = down[start:stop]
        first, last = int(weights.indices.min()), int(weights.indices.max()) + 1
        rows = read(first, last)
        count, width, channels = rows.shape
        pixels = weights[:, first:last] @ rows.reshape(count, -1).astype(np.float32)
        columns = pixels.reshape(-1, width, channels).transpose(1, 0, 2).reshape(width, -1)
        pixels = (across @ columns).reshape(-1, stop - start, channels).transpose(1, 0, 2)
        if np.dtype(dtype).kind == "f":
            return pixels.astype(dtype)
        if np.dtype(dtype).kind != "b":
            pixels = pixels.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
        return np.rint(pixels).astype(dtype)

    return read_resampled, (down.shape[0], across.shape[0])
