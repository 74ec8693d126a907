"""How one connected component of the foreground is divided into nuclei: the methods, by name in `METHODS`.

Pixels that touch at a side or at a corner are connected: in components, in floods, and in nuclei. So every pixel of a
component belongs to a nucleus, and every nucleus is one connected piece of it.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, mean
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max
from skimage.measure import label as label_pieces
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed as flood_relief

from ..models.backend import keras, ops
from ..models.instance_targets import heat_flow_targets
from ..models.instance_unet import CHANNELS, FLOW, RAYS

FOREGROUND, INTERIOR, BOUNDARY = 0, 2, 3
"""Channels of the maps that `models.instance_unet` predicts, beside `FLOW`; 1 is the background of its classes."""

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps (h, w, C) float32 around one component of the foreground and its pixels (h, w) bool, to labels (h, w) int32:
1, 2, ... on every pixel of the component, 0 outside."""


def connected_component(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The component is one nucleus. Nuclei that touch are counted as one."""
    return mask.astype(np.int32)


def watershed(maps: np.ndarray, mask: np.ndarray, depth: float = 1.0) -> np.ndarray:
    """Divide at the waists: flood the distance from the background from its summits (Beucher & Lantuejoul 1979).

    Args:
        maps, mask: see `Method`; the maps themselves are not used.
        depth: how far the distance must fall between two summits, pixels; less is roughness of the outline.
    """
    return _flooded_from_summits(_distance(mask), mask, depth)


def boundary_classes(maps: np.ndarray, mask: np.ndarray, weight: float = 4.0, depth: float = 1.0) -> np.ndarray:
    """Divide as `watershed`, where predicted interiors raise the relief and predicted boundaries lower it.

    So a boundary divides nuclei without a waist, and a waist those between which the network sees no boundary. (The
    challenge's baseline, Ma et al. 2024, starts from interiors alone.)

    Args:
        maps, mask: see `Method`.
        weight: by how many pixels of distance an interior lies above the foreground, and a boundary below.
        depth: see `watershed`.
    """
    classes = gaussian_filter((maps[..., INTERIOR] - maps[..., BOUNDARY]) * mask, 1, mode="constant")
    return _flooded_from_summits(_distance(mask) + np.float32(weight) * classes, mask, depth)


def _distance(mask: np.ndarray) -> np.ndarray:
    """The distance of each pixel to the background, (h, w) float32, pixels."""
    # Not cv2.distanceTransform: its last digits differ from run to run, and then floods meet elsewhere.
    return distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].astype(np.float32)


def _flooded_from_summits(relief: np.ndarray, mask: np.ndarray, depth: float) -> np.ndarray:
    """Flood from the summits of a relief; those whose pass is less than `depth` below become one."""
    levelled = reconstruction(relief - depth, relief)  # h_maxima would mark equal summits apart.
    return _flooded(-relief, local_maxima(levelled) & mask, mask)


def _flooded(relief: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Flood a relief from each connected marker; without any, the component is one nucleus."""
    count, labels = cv2.connectedComponents(markers.astype(np.uint8), connectivity=8)
    return mask.astype(np.int32) if count <= 2 else _flood(relief, labels, mask)


def _flood(relief: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Let labels, (h, w) int32, grow over a mask, also over corners, as components are connected."""
    return flood_relief(relief, markers, connectivity=2, mask=mask).astype(np.int32)


class FollowFlow(keras.layers.Layer):
    """Where a walker from each pixel that follows a vector field ends: (N, H, W, 2) to (N, H, W, 2), rows and columns.

    It makes `steps` steps (Euler's method), each as long as the vector of the nearest pixel, in pixels.
    """

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, flow):
        _, height, width, _ = flow.shape
        start = ops.cast(ops.stack(ops.meshgrid(ops.arange(height), ops.arange(width), indexing="ij"), -1), "float32")
        last = ops.convert_to_tensor([height - 1.0, width - 1.0])

        def walk(field):
            vectors = ops.reshape(field, (-1, 2))

            def step(_, place):
                pixel = ops.cast(ops.clip(ops.round(place), 0, last), "int32")
                return place + ops.take(vectors, pixel[..., 0] * width + pixel[..., 1], axis=0)

            return ops.fori_loop(0, self.steps, step, start)

        return ops.vectorized_map(walk, flow)


@cache
def _compiled_flow(side: int, steps: int) -> keras.Model:
    """Compiled once for each side, a power of two: few programs, whatever the sizes of components."""
    inputs = keras.Input((side, side, 2), dtype="float32")  # Places need its digits, whatever policy is set.
    return keras.Model(inputs, FollowFlow(steps, dtype="float32")(inputs))


def follow_flow(flow: np.ndarray, steps: int = 100) -> np.ndarray:
    """`FollowFlow` for one field, (H, W, 2) float32."""
    height, width = flow.shape[:2]
    side = 1 << max(5, (max(height, width) - 1).bit_length())
    padded = np.zeros((1, side, side, 2), np.float32)
    padded[0, :height, :width] = flow
    return np.asarray(_compiled_flow(side, steps).predict_on_batch(padded))[0, :height, :width]


def flow_sinks(maps: np.ndarray, mask: np.ndarray, smoothing: float = 2.0, share: float = 0.1) -> np.ndarray:
    """Follow the predicted direction from each pixel to the centre of its nucleus; pixels that meet are one nucleus.

    After Cellpose (Stringer et al., Nature Methods 2021, doi 10.1038/s41592-020-01018-x).

    Args:
        maps, mask: see `Method`.
        smoothing: sigma of the Gaussian over the counts of arrivals, pixels, since walkers rarely meet exactly.
        share: of the largest count, which another peak must reach; pixels of lower peaks join the nearest that does.
    """
    ends = follow_flow(maps[..., FLOW] * mask[..., None])[mask]
    pixels = np.rint(ends).astype(int).clip(0, np.array(mask.shape) - 1)
    arrivals = np.zeros(mask.shape)
    np.add.at(arrivals, tuple(pixels.T), 1)
    arrivals = gaussian_filter(arrivals, smoothing, mode="constant")
    sinks = peak_local_max(arrivals, min_distance=3, threshold_rel=share, exclude_border=False)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = 1 + cKDTree(sinks).query(ends)[1]
    return labels


def star_polygons(maps: np.ndarray, mask: np.ndarray, shared: float = 0.5) -> np.ndarray:
    """Accept the outlines that pixels draw around themselves, the most central first; what is left over joins them.

    After StarDist (Schmidt et al., MICCAI 2018, arXiv:1806.03535), with its non-maximum suppression inside one
    component. A pixel is central if its shortest ray is long beside its mean ray, and if it is interior.

    Args:
        maps, mask: see `Method`.
        shared: an outline that shares more than this part of its area with accepted ones is another view of them.
    """
    rows, columns = np.nonzero(mask)
    rays = maps[rows, columns, CHANNELS:]
    interior = maps[rows, columns, INTERIOR]
    centrality = interior * rays.min(axis=1) / rays.mean(axis=1)
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    labels, count = np.zeros(mask.shape, np.int32), 0
    is_open = interior > maps[rows, columns, BOUNDARY]
    for pixel in np.argsort(-centrality, kind="stable"):
        if not is_open[pixel]:
            continue
        outline = np.stack(
            [columns[pixel] + rays[pixel] * np.cos(angles), rows[pixel] + rays[pixel] * np.sin(angles)], -1
        )
        covered = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [np.rint(outline).astype(np.int32)], 1)
        covered = (covered > 0) & mask
        is_open &= ~covered[rows, columns]
        is_open[pixel] = False
        if (covered & (labels > 0)).sum() <= shared * covered.sum():
            count += 1
            labels[covered & (labels == 0)] = count
    return mask.astype(np.int32) if count <= 1 else _flood(np.zeros(mask.shape), labels, mask)


def boundary_or_flow(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Divide as `boundary_classes` and as `flow_sinks`, and keep that whose own flow is nearer to the predicted one.

    Either fails in components where the other does not. A nucleus' own flow is as in `drop_wrong_flow`.
    """
    divisions = [in_one_piece(method(maps, mask), mask) for method in (boundary_classes, flow_sinks)]
    return min(divisions, key=lambda labels: _flow_distance(maps, labels)[mask].mean())


METHODS: dict[str, Method] = {
    "components": connected_component,
    "watershed": watershed,
    "boundary": boundary_classes,
    "flow": flow_sinks,
    "combined": boundary_or_flow,
    "rays": star_polygons,
}
"""By name; the first two need only the foreground."""

NEEDED = {"boundary": CHANNELS, "flow": CHANNELS, "combined": CHANNELS, "rays": CHANNELS + RAYS}
"""How many maps a method needs at least, if more than the foreground."""


def methods_for(channels: int) -> list[str]:
    """The names of the methods for which so many maps are enough."""
    return [method for method in METHODS if NEEDED.get(method, 1) <= channels]


def in_one_piece(labels: np.ndarray, mask: np.ndarray, min_area: int = 1) -> np.ndarray:
    """Labels of one component, again 1, 2, ..., each of them one connected piece.

    Of a label in several pieces, the largest counts. The others, and pieces below `min_area` pixels, are flooded by
    their neighbours.
    """
    pieces = label_pieces(labels, connectivity=2)
    areas, owners = np.bincount(pieces.ravel()), np.zeros(pieces.max() + 1, np.int32)
    owners[pieces] = labels
    by_area = np.argsort(areas, kind="stable")
    largest = np.zeros(owners.max() + 1, np.int64)
    largest[owners[by_area]] = by_area  # The last one written, the largest, stays.
    kept = largest[1:][areas[largest[1:]] >= max(1, min_area)]  # In the order of their labels; 0 is not a piece.
    kept = kept[kept > 0]
    if len(kept) <= 1:
        return mask.astype(np.int32)
    numbers = np.zeros(len(areas), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    labels = numbers[pieces]
    return labels if len(kept) == len(areas) - 1 else _flood(np.zeros(mask.shape), labels, mask)


def drop_wrong_flow(maps: np.ndarray, labels: np.ndarray, flow_threshold: float) -> np.ndarray:
    """Drop nuclei whose own flow is not the predicted one: they are two in one, or no nuclei.

    The check of Cellpose (Stringer et al., Nature Methods 2021, doi 10.1038/s41592-020-01018-x). A nucleus' own flow is
    that of `instance_targets.heat_flow_targets`.

    Args:
        maps: (h, w, C) float32 around one component, with flows.
        labels: (h, w) int32, 1, 2, ..., as `in_one_piece` returns them.
        flow_threshold: the largest mean squared distance of predicted and own vectors that is accepted; 2 is that of
            random directions.

    Returns:
        (h, w) int32: the others, again 1, 2, ... in their order.
    """
    errors = mean(_flow_distance(maps, labels), labels, np.arange(1, labels.max() + 1))
    kept = np.concatenate([[False], errors <= flow_threshold])
    return np.where(kept, np.cumsum(kept), 0)[labels].astype(np.int32)


def _flow_distance(maps: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance of the predicted flow of each pixel and that of its label's shape, (h, w) float32."""
    return ((maps[..., FLOW] - heat_flow_targets(labels)) ** 2).sum(axis=-1)
