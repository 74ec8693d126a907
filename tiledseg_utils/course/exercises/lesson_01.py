"""Checks of notebook 01: tile origins, stitching with overlap, and leaks."""

import numpy as np

from . import Exercise, Trial, result_of, same

check_reduced_area = Exercise(
    "1.1 What is left of a cell",
    64,
    (
        Trial(
            lambda area: area != 4096,
            "The image loses pixels, and the cell in it loses as large a share of its own.",
        ),
        Trial(
            lambda area: area != 512,
            "You have divided by 8 once. That is what happens to a width; an area has a width and a height.",
        ),
        Trial(
            lambda area: area != 8, "8 is the width of the reduced cell, if it is square. How many pixels are in it?"
        ),
        Trial(
            lambda area: area == 64,
            "By which factor does the side of the image shrink? And the number of its pixels?",
        ),
    ),
    "Right: 8 times less wide and 8 times less high.",
)


def tile_origins(length, tile, stride):
    """The first pixel of each tile along one axis."""
    origins = [0]
    while origins[-1] + tile < length:
        origins.append(origins[-1] + stride)
    return origins


def _origins(answer, *arguments):
    return [int(origin) for origin in result_of(answer, *arguments)]


def _on_the_grid(answer):
    return all(origin % 3 == 0 for origin in _origins(answer, 12, 4, 3))


check_tile_origins = Exercise(
    "1.2 Tile origins",
    tile_origins,
    (
        Trial(
            lambda answer: _origins(answer, 10, 4, 3)[:2] != [0, 4],
            "The second tile begins at 4, the size of a tile. From one origin to the next it is one stride.",
        ),
        Trial(
            _on_the_grid,
            "For 12 pixels, tiles of 4 and a stride of 3, an origin is off the grid 0, 3, 6, ... Do not move the last "
            "tile back: it may reach past the end.",
        ),
        Trial(
            lambda answer: _origins(answer, 12, 4, 3)[-1] + 4 >= 12,
            "For 12 pixels, tiles of 4 and a stride of 3, the last pixels are in no tile. When may you stop?",
        ),
        Trial(
            lambda answer: _origins(answer, 8, 4, 2) == [0, 2, 4],
            "For 8 pixels, tiles of 4 and a stride of 2, three tiles are enough: the one at 4 already ends at the last "
            "pixel.",
        ),
        Trial(
            lambda answer: _origins(answer, 2, 4, 2) == [0],
            "Try an image that is smaller than a tile: it needs one tile, which begins at 0.",
        ),
        Trial(
            lambda answer: all(
                _origins(answer, *case) == tile_origins(*case)
                for case in [(10, 4, 3), (12, 4, 3), (100, 10, 7), (1, 1, 1), (9, 4, 2)]
            ),
            "Compare with the drawing: for 10 pixels, tiles of 4 and a stride of 3, the origins are 0, 3 and 6.",
        ),
    ),
)


def put_back(tiles, origins, shape):
    """Put tiles back to an image; where they overlap, their mean."""
    height, width = np.max(origins, axis=0) + tiles.shape[1]
    total = np.zeros((height, width, *tiles.shape[3:]))
    count = np.zeros_like(total)
    for tile, (row, column) in zip(tiles, origins, strict=True):
        total[row : row + len(tile), column : column + len(tile)] += tile
        count[row : row + len(tile), column : column + len(tile)] += 1
    return (total / count)[: shape[0], : shape[1]]


PICTURE = np.arange(24.0).reshape(4, 6)
SQUARES = np.array([[0, 0], [0, 2], [0, 4], [2, 0], [2, 2], [2, 4]])
OVERLAPPING = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [2, 0], [2, 1], [2, 2], [2, 3], [2, 4]])


def _cut(picture, origins):
    return np.stack([picture[row : row + 2, column : column + 2] for row, column in origins])


def _put_back(answer, picture, origins, shape=None):
    return result_of(answer, _cut(picture, origins), origins.copy(), shape or picture.shape)


check_put_back = Exercise(
    "1.4 Stitch with overlap",
    put_back,
    (
        Trial(
            lambda answer: np.shape(_put_back(answer, PICTURE, SQUARES, (3, 5))) == (3, 5),
            "The result does not have the shape that was asked for. Cut off what the last tiles hold beyond the image.",
        ),
        Trial(
            lambda answer: same(_put_back(answer, PICTURE, SQUARES), PICTURE, 1e-9),
            "Six tiles side by side do not give the image of 4 x 6 pixels back. An origin is (row, column), in this "
            "order.",
        ),
        Trial(
            lambda answer: np.max(_put_back(answer, PICTURE, OVERLAPPING)) <= 23,
            "Where tiles overlap, your image is too bright: pixels are added up. Count how many tiles each pixel was "
            "in, and divide.",
        ),
        Trial(
            lambda answer: same(
                result_of(answer, np.stack([np.zeros((2, 2)), np.ones((2, 2))]), np.array([[0, 0], [0, 1]]), (2, 3)),
                [[0, 0.5, 1], [0, 0.5, 1]],
                1e-9,
            ),
            "Two tiles that overlap hold 0 and 1. In the overlap the result should be their mean, 0.5, whichever of "
            "them comes last.",
        ),
        Trial(
            lambda answer: same(
                _put_back(answer, np.full((4, 6), 200, np.uint8), OVERLAPPING), np.full((4, 6), 200), 1e-9
            ),
            "With tiles of type uint8 it goes wrong, because such numbers end at 255. Add up in an array of floats.",
        ),
        Trial(
            lambda answer: same(
                _put_back(answer, np.stack([PICTURE] * 3, axis=-1), SQUARES), np.stack([PICTURE] * 3, axis=-1), 1e-9
            ),
            "It works for grey tiles, but not for tiles with three colours. Their shape has one number more.",
        ),
    ),
    "Right: every pixel comes back, whatever the overlap.",
)

check_count = Exercise(
    "1.3 The price of overlap",
    225,
    (
        Trial(lambda count: count != 64, "64 is the number of tiles without overlap. Change the stride to 128."),
        Trial(lambda count: count != 15, "15 is the number along one axis. An image has two."),
        Trial(
            lambda count: count != 128,
            "Twice as many in all would be enough for one axis. Rows and columns of tiles both become more.",
        ),
        Trial(
            lambda count: count != 256,
            "Nearly: 16 along an axis is one too many. The tile that begins at 1792 already ends at the last pixel.",
        ),
        Trial(lambda count: count == 225, "Let `tile_origins` count along one axis, and think of the other axis, too."),
    ),
    "Right: half the stride, and the network has 3.5 times as much to do.",
)


def find_leaks(rows):
    """The sources that have tiles in more than one split, sorted."""
    splits = {}
    for row in rows:
        splits.setdefault(row["source"], set()).add(row["split"])
    return sorted(source for source, found in splits.items() if len(found) > 1)


CLEAN = [
    {"tile": "a_1", "source": "a", "split": "train"},
    {"tile": "a_2", "source": "a", "split": "train"},
    {"tile": "b_1", "source": "b", "split": "test"},
]
LEAKING = [
    *CLEAN,
    {"tile": "d_1", "source": "d", "split": "valid"},
    {"tile": "d_2", "source": "d", "split": "test"},
    {"tile": "c_1", "source": "c", "split": "train"},
    {"tile": "c_2", "source": "c", "split": "test"},
    {"tile": "c_3", "source": "c", "split": "test"},
]


def _leaks(answer, rows):
    found = result_of(answer, [dict(row) for row in rows])
    return found if isinstance(found, bool | np.bool_) else list(found)


check_find_leaks = Exercise(
    "1.5 Find the leak",
    find_leaks,
    (
        Trial(
            lambda answer: not isinstance(_leaks(answer, CLEAN), bool | np.bool_),
            "Whether there is a leak is not enough: return a list of the sources that leak.",
        ),
        Trial(
            lambda answer: _leaks(answer, CLEAN) == [],
            "Here nothing leaks, and yet your list is not empty. Several tiles of one source are fine, as long as they "
            "are all in one split.",
        ),
        Trial(
            lambda answer: not any("_" in name for name in _leaks(answer, LEAKING)),
            "Your list holds tiles. Return their sources.",
        ),
        Trial(
            lambda answer: len(_leaks(answer, LEAKING)) == len(set(_leaks(answer, LEAKING))),
            "A source is in your list more than once.",
        ),
        Trial(
            lambda answer: "d" in _leaks(answer, LEAKING),
            "A source with tiles in valid and test is missing. A leak need not begin in train.",
        ),
        Trial(
            lambda answer: _leaks(answer, LEAKING) == ["c", "d"],
            "For an example with leaks in the sources c and d, the answer should be ['c', 'd'], sorted.",
        ),
    ),
)
