"""Outlines of nuclei along the sides of their pixels, so that a polygon has the area of its nucleus, and its pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

WINDOW = 1024  # rows in which the nuclei begin that are cut out together

Polygon = list[np.ndarray]
"""A ring around, and one around each hole: (V, 2) int64, (x, y) of corners, each once. Pixel 0 lies between x 0 and 1.

The ring around runs clockwise on the screen, that of a hole the other way round. A ring passes no point twice."""


@dataclass(frozen=True)
class Nucleus:
    """A nucleus cut out of its image: the row of its table, its pixels (h, w) bool, and where they begin."""

    row: pd.Series
    mask: np.ndarray
    top: int
    left: int

    def outlines(self) -> list[Polygon]:
        """Its polygons, in pixels of the image; more than one where pixels only touch at a corner, or not at all."""
        corner = np.array([self.left, self.top])
        return [[ring + corner for ring in polygon] for polygon in trace_outlines(self.mask)]


def cut_out(read: Callable[[int, int], np.ndarray], table: pd.DataFrame) -> Iterator[Nucleus]:
    """Cut each nucleus out of labels that are read by rows. Memory depends on the tallest of them.

    Args:
        read: (start, stop) -> labels (stop - start, W) of these rows.
        table: as `measure.measure` returns it.
    """
    windows = table.groupby(table["min_row"] // WINDOW)
    for _, members in windows:
        start, stop = int(members["min_row"].min()), int(members["max_row"].max())
        labels = read(start, stop)
        for _, row in members.iterrows():
            top, bottom, left, right = (int(row[name]) for name in ("min_row", "max_row", "min_column", "max_column"))
            mask = labels[top - start : bottom - start, left:right] == row["label"]
            yield Nucleus(row, mask, top, left)


def trace_outlines(mask: np.ndarray) -> list[Polygon]:
    """The outlines of a mask (h, w) bool."""
    rings = [_without_straight_corners(ring) for ring in _rings(mask)]
    areas = [_area(ring) for ring in rings]
    polygons = [[ring] for ring, area in zip(rings, areas, strict=True) if area > 0]
    around = [(area, polygon) for area, polygon in zip([a for a in areas if a > 0], polygons, strict=True)]
    for hole in (ring for ring, area in zip(rings, areas, strict=True) if area < 0):
        _smallest_around(hole, around).append(hole)
    return polygons


def _rings(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Closed ways along the sides of pixels, with the mask on their right; each passes a corner once."""
    width = mask.shape[1] + 1
    follow: dict[int, list[int]] = {}
    for start, end in zip(*(corners.tolist() for corners in _sides(mask)), strict=True):
        follow.setdefault(start, []).append(end)
    while follow:
        way = [next(iter(follow))]
        position = {way[0]: 0}
        while way[-1] in follow:
            ends = follow[way[-1]]
            corner = ends.pop()
            if not ends:
                del follow[way[-1]]
            if corner not in position:
                position[corner] = len(way)
                way.append(corner)
                continue
            # A loop is closed. What led to it goes on, where other pixels touch it at this corner.
            begin = position[corner]
            yield np.stack(np.divmod(way[begin:], width)[::-1], -1)
            for passed in way[begin + 1 :]:
                del position[passed]
            del way[begin + 1 :]


def _sides(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sides between the mask and the rest, as numbers of the corners where they begin and end, mask on the right."""
    padded, width = np.pad(mask, 1).astype(np.int8), mask.shape[1] + 1
    y, x = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    enters = np.diff(padded, axis=0)[:, 1:-1][y, x] > 0  # The mask lies below: go right, else left.
    left = y * width + x
    level = np.where(enters, left, left + 1), np.where(enters, left + 1, left)
    y, x = np.nonzero(np.diff(padded, axis=1)[1:-1])
    enters = np.diff(padded, axis=1)[1:-1][y, x] > 0  # The mask lies to the right: go up, else down.
    top = y * width + x
    upright = np.where(enters, top + width, top), np.where(enters, top, top + width)
    return np.concatenate([level[0], upright[0]]), np.concatenate([level[1], upright[1]])


def _without_straight_corners(ring: np.ndarray) -> np.ndarray:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[(before != after).any(axis=1)]


def _area(ring: np.ndarray) -> float:
    """Area within a ring, pixels; negative if it runs round a hole."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _smallest_around(hole: np.ndarray, around: list[tuple[float, Polygon]]) -> Polygon:
    """Of polygons with their area, the one that the pixels around a hole belong to."""
    if len(around) == 1:
        return around[0][1]
    along = np.sign(hole[1] - hole[0])
    beside = hole[0] + along / 2 + np.array([-along[1], along[0]]) / 2  # The centre of a pixel on the right.
    holding = [
        (area, number)
        for number, (area, polygon) in enumerate(around)
        if cv2.pointPolygonTest(polygon[0].astype(np.float32), beside.tolist(), False) > 0
    ]
    return around[min(holding)[1]][1]
