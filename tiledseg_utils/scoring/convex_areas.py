"""How many pixels the convex hulls of many objects hold, in whole numbers and without a loop over their pixels."""

import itertools

import cv2
import numpy as np

GROUP = 20_000  # objects whose hulls are in memory at a time


def convex_areas(owners: np.ndarray, rows: np.ndarray, starts: np.ndarray, stops: np.ndarray, count: int) -> np.ndarray:
    """Pixels whose centre lies in the convex hull of an object or on its edge, as `skimage.measure.regionprops` counts.

    As there, the hull is that of the middles of all sides of the object's pixels.

    Args:
        owners, rows, starts, stops: of the runs of pixels that make up the objects, (R,) integers: the object from 0,
            the row, the first column, and the one after the last.
        count: number of objects, each of which has a run.

    Returns:
        (count,) int64.
    """
    order = np.argsort(owners, kind="stable")
    ends = np.searchsorted(owners[order], np.arange(count + 1))
    areas = np.empty(count, np.int64)
    for first in range(0, count, GROUP):
        last = min(first + GROUP, count)
        chosen = order[ends[first] : ends[last]]
        corners = _side_middles(rows[chosen], starts[chosen], stops[chosen])
        within = 6 * (ends[first : last + 1] - ends[first])
        hulls = [cv2.convexHull(corners[low:high])[:, 0] for low, high in itertools.pairwise(within)]
        areas[first:last] = _count_centres(hulls)
    return areas


def _side_middles(rows: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """The middles of sides at both ends of each run, (6 R, 2) int32 (x, y), in half pixels: centres are even."""
    y, left, right = 2 * rows, 2 * starts, 2 * (stops - 1)
    points = [(left - 1, y), (right + 1, y), (left, y - 1), (right, y - 1), (left, y + 1), (right, y + 1)]
    return np.stack([np.stack(point, -1) for point in points], 1).reshape(-1, 2).astype(np.int32)


def _count_centres(hulls: list[np.ndarray]) -> np.ndarray:
    """Pixel centres in each polygon, (N,) int64: in each row, from where its edges enter to where they leave.

    Args:
        hulls: N times (V, 2), (x, y) in half pixels.
    """
    sizes = np.array([len(hull) for hull in hulls])
    tops = np.array([hull[:, 1].min() for hull in hulls], np.int64) // 2 + 1
    bottoms = np.array([hull[:, 1].max() for hull in hulls], np.int64) // 2
    first_slots = np.concatenate([[0], np.cumsum(bottoms - tops + 1)])  # One slot for each row of each hull.
    points, owners = np.concatenate(hulls).astype(np.int64), np.repeat(np.arange(len(hulls)), sizes)
    following = np.arange(1, len(points) + 1)
    following[np.cumsum(sizes) - 1] = np.cumsum(sizes) - sizes  # After its last corner comes its first.
    edges = np.concatenate([points, points[following]], 1)
    is_level = edges[:, 1] == edges[:, 3]
    edges, owners = edges[~is_level], owners[~is_level]
    x0, y0, x1, y1 = np.where(edges[:, [1]] < edges[:, [3]], edges, edges[:, [2, 3, 0, 1]]).T
    entered = -(-y0 // 2)
    lengths = y1 // 2 - entered + 1
    edge = np.repeat(np.arange(len(lengths)), lengths)
    row = entered[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # The column where an edge crosses a row is `above / below`: kept as a fraction, so that none is lost by rounding.
    rise = y1[edge] - y0[edge]
    above, below = x0[edge] * rise + (x1 - x0)[edge] * (2 * row - y0[edge]), 2 * rise
    slot = first_slots[owners[edge]] + row - tops[owners[edge]]
    low, high = np.full(first_slots[-1], np.iinfo(np.int64).max), np.full(first_slots[-1], np.iinfo(np.int64).min)
    np.minimum.at(low, slot, -(-above // below))
    np.maximum.at(high, slot, above // below)
    return np.add.reduceat(high - low + 1, first_slots[:-1])
