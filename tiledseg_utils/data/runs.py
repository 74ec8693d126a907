"""Runs, the stretches of one value within a row: in them, a label image takes little memory, whatever its size."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def find_runs(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Stretches of one label within a row: row, start, stop, label of those that are no background, (R,) int64 each.

    Also, for all stretches, whether they are no background, and the flat index of their first pixel.
    """
    changes = np.ones(labels.shape, bool)
    changes[:, 1:] = labels[:, 1:] != labels[:, :-1]
    firsts = np.flatnonzero(changes)
    label, lengths = labels.ravel()[firsts].astype(np.int64), np.diff(firsts, append=labels.size)
    is_nucleus = label > 0
    row, start = np.divmod(firsts[is_nucleus], labels.shape[1])
    return row, start, start + lengths[is_nucleus], label[is_nucleus], is_nucleus, firsts


def connect_runs(row: np.ndarray, start: np.ndarray, stop: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The number of the connected piece (8 neighbours, one label) of each run, (R,) from 0, in the order of the image.

    Args:
        row, start, stop, label: (R,) each, sorted by row and start.
    """
    key = row.astype(np.int64) << 32
    # Runs of the row below that overlap or touch at a corner.
    low = np.searchsorted(key + stop, key + (1 << 32) + start, side="left")
    high = np.searchsorted(key + start, key + (1 << 32) + stop, side="right")
    number = np.maximum(high - low, 0)
    above = np.repeat(np.arange(len(row)), number)
    below = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number) + np.repeat(low, number)
    same = label[above] == label[below]
    edges = (np.ones(np.count_nonzero(same), bool), (above[same], below[same]))
    return connected_components(coo_array(edges, shape=(len(row), len(row))), directed=False)[1]


def draw_runs(start: np.ndarray, stop: np.ndarray, label: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Rows of labels, `shape` int32, from runs; `start` and `stop` are flat indices of the pixels, (R,), sorted."""
    steps = np.zeros(shape[0] * shape[1] + 1, np.int32)
    steps[start] += label
    steps[stop] -= label
    return np.cumsum(steps[:-1], dtype=np.int32).reshape(shape)
