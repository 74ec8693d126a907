"""Kinds of image, found in the images themselves: those that resemble each other in their `cues` are of one kind.

The cues become points, and k-means divides the points into groups. How many groups there are is decided by their
silhouette (Rousseeuw, J. Comput. Appl. Math. 20, 1987), which compares for each image the distance to its own group
with that to the nearest other one.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.spatial.distance import cdist

from .cues import Cues

COLOUR_WEIGHT = 0.5
"""How far apart grey and coloured images lie, where black and white lie 1 apart."""

SIZE_WEIGHT = 0.05
"""How far apart objects of twice the diameter lie. Sizes vary within a kind, too, so they count for little."""

MOST_KINDS = 8
LEAST_SILHOUETTE = 0.6
LEAST_DISTANCE = 0.15
"""Of the middles of two kinds. Closer ones differ less than images of one microscope do."""

MOST_IMAGES = 2000  # whose distances from each other are computed; of larger sets, evenly spread ones
RESTARTS = 10


@dataclass(frozen=True)
class Kinds:
    """Kinds of image.

    Attributes:
        names: of the kinds.
        centres: (kinds, 4) float64, their middles.
        of: the kind of each image that they were found in, by stem.
    """

    names: tuple[str, ...]
    centres: np.ndarray
    of: Mapping[str, str]

    def nearest(self, cues: Cues) -> str:
        """The kind whose middle is nearest to an image. Sizes are not asked for: a new image has no mask yet."""
        distances = np.linalg.norm(self.centres[:, :3] - _points([cues])[:, :3], axis=1)
        return self.names[int(distances.argmin())]


def find_kinds(cues: Mapping[str, Cues]) -> Kinds:
    """Divide images into kinds by their cues.

    There are as many kinds, 2 to 8, as give the highest silhouette. There is one kind if no division has a mean
    silhouette of 0.6 or more with middles that lie 0.15 or more apart, or if there are fewer than four images. The
    same images give the same kinds.

    Args:
        cues: of each image, by stem; at least one.
    """
    points = _points(cues.values())
    best, labels, centres = LEAST_SILHOUETTE, np.zeros(len(points), int), points.mean(axis=0, keepdims=True)
    for count in range(2, min(MOST_KINDS, len(np.unique(points, axis=0)), len(points) // 2) + 1):
        divided = _divide(points, count)
        if divided is None or cdist(divided[1], divided[1])[np.triu_indices(count, 1)].min() < LEAST_DISTANCE:
            continue
        found, middles = divided
        value = silhouette(points, found)
        if value > best:
            best, labels, centres = value, found, middles
    order = np.argsort(-np.bincount(labels, minlength=len(centres)), kind="stable")  # The most frequent kind first.
    names = _names([[own for own, label in zip(cues.values(), labels, strict=True) if label == kind] for kind in order])
    kind_of = dict(zip(order.tolist(), names, strict=True))
    return Kinds(tuple(names), centres[order], {stem: kind_of[label] for stem, label in zip(cues, labels, strict=True)})


def known_kinds(cues: Mapping[str, Cues], kinds: Mapping[str, str]) -> Kinds:
    """Kinds that are known already, with their middles, so that `Kinds.nearest` tells the kind of a new image.

    Args:
        cues: of images, by stem; at least one of each kind.
        kinds: of the same images, and perhaps of others, by stem.

    Returns:
        the kinds of these images, the most frequent first.
    """
    points, of = _points(cues.values()), {stem: kinds[stem] for stem in cues}
    own = {kind: [given == kind for given in of.values()] for kind in sorted(set(of.values()))}
    names = sorted(own, key=lambda kind: -sum(own[kind]))
    return Kinds(tuple(names), np.array([points[own[kind]].mean(axis=0) for kind in names]), of)


def kind_rows(kinds: Kinds, cues: Mapping[str, Cues]) -> list[dict]:
    """A table of kinds: how many images each has, and their median brightness, chroma (0-1) and diameter, pixels."""
    rows = []
    for name in kinds.names:
        own = [cues[stem] for stem, kind in kinds.of.items() if kind == name]
        diameters = [each.diameter for each in own if each.diameter is not None]
        rows.append(
            {
                "kind": name,
                "images": len(own),
                "brightness": round(float(np.median([each.brightness for each in own])), 3),
                "chroma": round(float(np.median([each.chroma for each in own])), 3),
                "diameter_px": round(float(np.median(diameters)), 1) if diameters else "",
            }
        )
    return rows


def _points(cues) -> np.ndarray:
    """(N, 4) float64: colour, chroma, brightness and size. An image without objects has the usual size."""
    cues = list(cues)
    sizes = np.array([np.nan if own.diameter is None else np.log2(own.diameter) for own in cues])
    known = sizes[np.isfinite(sizes)]
    sizes = np.where(np.isfinite(sizes), sizes, np.median(known) if known.size else 0.0)
    columns = [(COLOUR_WEIGHT * own.colour, own.chroma, own.brightness) for own in cues]
    return np.column_stack([np.array(columns, float), SIZE_WEIGHT * sizes])


def _divide(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels and middles of the best of several runs of k-means, which depends on where it begins; None if none ends
    with as many groups."""
    best, least = None, np.inf
    for seed in range(RESTARTS):
        with contextlib.suppress(ClusterError):
            middles, labels = kmeans2(points, count, minit="++", seed=seed, missing="raise")
            error = float(((points - middles[labels]) ** 2).sum())
            if error < least:
                best, least = (labels, middles), error
    return best


def silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """The mean silhouette, -1 to 1, of points (N, D) in two or more groups; a point alone in its group has 0."""
    chosen = np.linspace(0, len(points), min(len(points), MOST_IMAGES), endpoint=False).astype(int)
    points, labels = points[chosen], np.unique(labels[chosen], return_inverse=True)[1]
    counts = np.bincount(labels)
    if len(counts) < 2:
        return 0.0
    sums = cdist(points, points) @ np.eye(len(counts))[labels]
    own = np.arange(len(points)), labels
    within = sums[own] / np.maximum(counts[labels] - 1, 1)
    others = sums / counts
    others[own] = np.inf
    nearest = others.min(axis=1)
    larger = np.maximum(np.maximum(within, nearest), 1e-12)
    return float(np.where(counts[labels] > 1, (nearest - within) / larger, 0.0).mean())


def _names(kinds: list[list[Cues]]) -> list[str]:
    """What kinds are called: their brightness and colour; where two would be called the same, also their size."""
    plain, names = [_look(kind) for kind in kinds], []
    for name, kind in zip(plain, kinds, strict=True):
        diameters = [own.diameter for own in kind if own.diameter is not None]
        if plain.count(name) > 1 and diameters:
            name = f"{name}, {np.median(diameters):.0f} px"
        again = [other for other in names if other == name or other.startswith(f"{name} (")]
        names.append(f"{name} ({len(again) + 1})" if again else name)
    return names


def _look(kind: list[Cues]) -> str:
    brightness = np.median([own.brightness for own in kind])
    shade = "dark" if brightness < 1 / 3 else "bright" if brightness > 2 / 3 else "medium"
    return f"{shade} {'colour' if np.mean([own.colour for own in kind]) > 0.5 else 'grey'}"
