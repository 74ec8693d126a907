"""Checks of lesson 6: seams, halo and grid."""

import math

from . import Exercise, Trial, result_of, same

check_halo = Exercise(
    "6.1 A halo by hand",
    8,
    (
        Trial(
            lambda answer: float(answer) != 6,
            "There are six convolutions, but those after the pooling count double: their pixels stand for two.",
        ),
        Trial(
            lambda answer: float(answer) != 4,
            "You counted the four convolutions at full resolution. The two on the pooled image need something, too.",
        ),
        Trial(
            lambda answer: float(answer) not in (9, 10),
            "That is what a single pixel needs in the worst place. Count for the block of pixels 0 and 1 together.",
        ),
        Trial(lambda answer: float(answer) != 12, "Too much: only two of the convolutions come after the pooling."),
        Trial(
            lambda answer: float(answer) == 8,
            "Go back layer by layer, from pixels 0 to 1 of the output. The last two convolutions need -2 to 3. "
            "How many pixels of the image come before pixel 0 in the end?",
        ),
    ),
    praise="Right: from pixels 0 and 1 back to pixels -8 to 9.",
)


def count_tiles(length: int, tile: int, halo: int) -> int:
    """How many tiles cover an axis if each loses its halo at both ends, except at the border of the image."""
    if tile >= length:
        return 1
    return 1 + math.ceil((length - tile) / (tile - 2 * halo))


check_count_tiles = Exercise(
    "6.3 How many tiles",
    count_tiles,
    (
        Trial(
            lambda answer: same(result_of(answer, 1000, 250, 0), 4),
            "Begin without a halo: 1000 pixels in tiles of 250 make four tiles.",
        ),
        Trial(
            lambda answer: result_of(answer, 1000, 400, 100) != 3,
            "That leaves the halo out. Of a tile of 400 with a halo of 100, not all 400 pixels are kept.",
        ),
        Trial(
            lambda answer: result_of(answer, 800, 400, 100) != 4,
            "At the border of the image nothing is missing, so there a tile keeps its outer pixels. "
            "The first tile alone gets you to pixel 300, not to pixel 200.",
        ),
        Trial(
            lambda answer: result_of(answer, 1000, 400, 100) != 3.0 + 1 or result_of(answer, 1001, 400, 100) != 4,
            "1000 pixels are covered, but 1001 are not: round up.",
        ),
        Trial(
            lambda answer: same([result_of(answer, n, 400, 100) for n in (800, 1000, 1001)], [3, 4, 5]),
            "Each further tile brings as many new pixels as its core is wide, here 400 - 2 * 100. "
            "How many of these steps are missing after the first tile?",
        ),
        Trial(
            lambda answer: same([result_of(answer, n, 400, 100) for n in (400, 150)], [1, 1]),
            "An image that is not larger than a tile needs exactly one tile.",
        ),
    ),
    praise="Right. It is the number of tiles that the package lays along an axis.",
)


def _numbers(answer) -> list[int]:
    return sorted(int(value) for value in answer)


check_margins = Exercise(
    "6.2 Which margins are exact",
    [8, 10, 12],
    (
        Trial(
            lambda answer: isinstance(_numbers(answer), list),
            "Give a list of margins in square brackets, such as [1, 2, 3].",
        ),
        Trial(lambda answer: set(_numbers(answer)) <= set(range(13)), "Only margins from 0 to 12 were tried."),
        Trial(
            lambda answer: not {9, 11} & set(_numbers(answer)),
            "Look at the odd margins again. Their tiles have enough neighbours. Are they on the grid of the pooling?",
        ),
        Trial(
            lambda answer: min(_numbers(answer), default=8) >= 8,
            "One of these is smaller than the halo that you counted. A difference of 0.01 is not exact.",
        ),
        Trial(
            lambda answer: _numbers(answer) == [8, 10, 12],
            "Those are exact, but there are more. Name every margin whose difference is practically 0.",
        ),
    ),
    praise="Right: at least the halo, and on the grid. More margin does not help a tile that is off the grid.",
)

check_cost = Exercise(
    "6.4 What exact tiles cost",
    2.56,
    (
        Trial(
            lambda answer: not same(answer, 1.6, 0.01),
            "That is the factor along one axis. A tile has two.",
        ),
        Trial(
            lambda answer: not same(answer, (512 / 416) ** 2, 0.02),
            "The halo lies on both sides of the core: take it off twice.",
        ),
        Trial(
            lambda answer: not same(answer, (320 / 512) ** 2, 0.02),
            "That is the share of a tile that is kept. How many pixels are predicted for each one that is kept?",
        ),
        Trial(
            lambda answer: same(answer, 2.56, 0.02),
            "The core is 512 - 2 * 96 pixels wide. Divide the area of the tile by the area of its core.",
        ),
    ),
    praise="Right. Larger tiles lose a smaller share of their pixels to the halo.",
)
