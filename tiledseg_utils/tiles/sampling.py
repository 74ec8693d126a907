"""How often tiles are drawn, so that neither a large image nor a frequent kind of image rules a training."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np


def share_by_kind(weights: np.ndarray, stems: Sequence[str], kinds: Mapping[str, str]) -> np.ndarray:
    """Change weights of tiles so that each kind of image has in all the square root of its number of images.

    That lies between drawing kinds equally often, which would repeat the few images of a rare kind, and as often as
    they are, which would neglect it. Within a kind, the proportions stay.

    Args:
        weights: (N,) of the tiles, none negative, not all 0 in a kind.
        stems: (N,) of the image that each tile is from.
        kinds: of each stem; those that are not listed are a kind of their own.

    Returns:
        (N,) float64.
    """
    weights, stems = np.array(weights, np.float64), np.asarray(stems)
    of_tile = np.array([kinds.get(stem, "") for stem in stems])
    for kind in np.unique(of_tile):
        own = of_tile == kind
        weights[own] *= np.sqrt(len(np.unique(stems[own]))) / weights[own].sum()
    return weights


def repeat_factors(shown: Sequence[Collection[int]]) -> np.ndarray:
    """How much more often to draw each tile for the rarest class that it shows, (N,) float64.

    A class in a share f of the tiles has the factor 1 / sqrt(f), and a tile the largest factor of its classes: repeat
    factor sampling with a threshold of 1 (Gupta, Dollár and Girshick, LVIS, CVPR 2019, arXiv:1908.03195).

    Args:
        shown: for each tile, the numbers of the classes that its mask shows.
    """
    counts = Counter(number for classes in shown for number in set(classes))
    return np.array([max((len(shown) / counts[number]) ** 0.5 for number in classes) for classes in shown])
