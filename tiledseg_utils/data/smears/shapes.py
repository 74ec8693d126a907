"""Outlines, noise, and patches laid over the planes of a smear."""

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np


def noise_source(rng: np.random.Generator) -> Callable[[tuple[int, int], float], np.ndarray]:
    """A source of smooth noise patches (mean 0, deviation 1) at three scales, cut from tiles that are made once."""
    tiles = {}
    for sigma in (1, 2, 5):
        tile = cv2.GaussianBlur(rng.standard_normal((640, 640), np.float32), (0, 0), sigma)
        tiles[sigma] = (tile - tile.mean()) / tile.std()

    def patch(shape: tuple[int, int], sigma: int) -> np.ndarray:
        y, x = rng.integers(0, 641 - np.array(shape))
        return tiles[sigma][y : y + shape[0], x : x + shape[1]]

    return patch


def radius_map(rng, radius: float, waves: Mapping[int, float], stretch: float = 1.0, tail: float = 0.0) -> np.ndarray:
    """Distance from the centre as a share of a wobbly outline's radius: 1 on the outline, below 1 inside.

    `waves` gives the amplitude of the outline's harmonics, `stretch` the ratio of its axes, `tail` one pointed end.
    """
    half = math.ceil(radius * (math.sqrt(stretch) * (1 + sum(waves.values()) + tail)) + 3)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    turn, *phases = rng.uniform(0, 2 * math.pi, 1 + len(waves))
    u = (x * math.cos(turn) + y * math.sin(turn)) / math.sqrt(stretch)
    v = (y * math.cos(turn) - x * math.sin(turn)) * math.sqrt(stretch)
    angle = np.arctan2(v, u)
    outline = 1 + tail * np.exp(-((angle / 0.4) ** 2))
    for (order, amplitude), phase in zip(waves.items(), phases, strict=True):
        outline += amplitude * np.cos(order * angle + phase)
    return np.hypot(u, v) / (radius * outline)


def cover_of(rho: np.ndarray, radius: float, edge: float = 1.5) -> np.ndarray:
    """1 inside an outline, 0 outside, with a ramp `edge` pixels wide."""
    return np.clip((1 - rho) * radius / edge + 0.5, 0, 1)


def windows(shape, centre, patch_shape):
    """Where a patch lies in an image, and which part of the patch that is; both are empty outside."""
    image, patch = [], []
    for length, middle, extent in zip(shape, centre, patch_shape, strict=True):
        start = round(float(middle)) - extent // 2
        low, high = max(start, 0), max(min(start + extent, length), 0)
        image.append(slice(low, max(low, high)))
        patch.append(slice(low - start, max(low, high) - start))
    return tuple(image), tuple(patch)


def add(plane: np.ndarray, centre, patch: np.ndarray) -> None:
    """Lay a patch over a plane of concentrations: light passes through both (Beer-Lambert)."""
    there, here = windows(plane.shape, centre, patch.shape)
    plane[there] += patch[here]
