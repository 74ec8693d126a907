"""Where the tiles of a prediction lie, and how much each counts where they overlap.

A plan is the product of two axes. Along an axis, tiles start every `tile - overlap` pixels; the last one is moved back
so that it ends with the image. Both ends of the image are thus also ends of tiles, and a network that pads its input
with zeros does so in the same places as on the whole image. At every junction of two tiles, the weight passes from one
to the next, at once or over a ramp. At any pixel the weights of all tiles add up to one, so a weighted sum puts the
tiles back together, and nothing has to be divided afterwards.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base.files import UserError


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of the image.

    Attributes:
        length: pixels of the image, rounded up to the alignment.
        tile: side of a tile, pixels.
        origins: first pixel of each tile.
        seams: junctions of neighbouring tiles: the first pixel at which the later one counts most.
        weights: (n, tile) float32 in [0, 1]; over all tiles they sum to one at each pixel of the axis.
    """

    length: int
    tile: int
    origins: tuple[int, ...]
    seams: tuple[int, ...]
    weights: np.ndarray

    def used(self, index: int) -> slice:
        """Pixels of tile `index` that count, from the first to the last with a weight; relative to the tile."""
        counted = np.flatnonzero(self.weights[index])
        return slice(int(counted[0]), int(counted[-1]) + 1)


@dataclass(frozen=True)
class Plan:
    """Tiles of an image, row by row: tile (i, j) starts at pixel (rows.origins[i], columns.origins[j])."""

    rows: Axis
    columns: Axis

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of every tile, pixels."""
        return self.rows.tile, self.columns.tile

    @property
    def seams(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First rows and columns after the junctions of tiles."""
        return self.rows.seams, self.columns.seams

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows.origins) * len(self.columns.origins)

    @property
    def pixels(self) -> int:
        """Pixels that the network has to predict, the shared ones as often as they are shared."""
        return self.count * self.rows.tile * self.columns.tile


def make_axis(length: int, tile: int, overlap: int, dropped: int, alignment: int = 1) -> Axis:
    """Lay tiles along an axis.

    Args:
        length: pixels of the image; rounded up to a multiple of `alignment`.
        tile: side of a tile, pixels; shortened to the image where that is smaller.
        overlap: pixels that neighbours share, in [0, tile).
        dropped: pixels at the edge of a tile that do not count, in [0, overlap / 2], except at the border of the image,
            where nothing is missing. What remains of the overlap is a ramp in the form of a Hann window.
        alignment: pixels.

    Raises:
        ValueError: a value is outside its range.
    """
    if min(length, tile, alignment) < 1 or not 0 <= 2 * dropped <= overlap < tile:
        raise ValueError(f"length {length}, tile {tile}, overlap {overlap}, dropped {dropped}, alignment {alignment}.")
    length = -(-length // alignment) * alignment
    tile = min(tile, length)
    count = 1 if tile == length else 1 + math.ceil((length - tile) / (tile - overlap))
    origins = [min(i * (tile - overlap), length - tile) for i in range(count)]
    ramp = overlap - 2 * dropped
    # At each junction, the weight passes to the later tile. A tile has what it was passed less what it passes on.
    weights = np.ones((count, tile))
    weights[1:] = _rise(np.arange(tile) - dropped, ramp)
    for i, distance in enumerate(np.diff(origins)):
        weights[i] -= _rise(np.arange(tile) - distance - dropped, ramp)
    seams = [origin + dropped + ramp // 2 for origin in origins[1:]]
    return Axis(length, tile, tuple(origins), tuple(seams), weights.astype(np.float32))


def _rise(position: np.ndarray, ramp: int) -> np.ndarray:
    """0 for negative positions, 1 from `ramp` on, and half a Hann window between."""
    return np.sin(np.clip((position + 0.5) / max(ramp, 0.5), 0, 1) * np.pi / 2) ** 2


def make_plan(shape: Sequence[int], tile: int, overlap: int, dropped: int, alignment: int = 1) -> Plan:
    """A plan of square tiles with numbers of your own, right or wrong; see `make_axis`."""
    return Plan(*(make_axis(length, tile, overlap, dropped, alignment) for length in shape[:2]))


def exact_plan(
    shape: Sequence[int], alignment: int, halo: int, tile_size: int = 0, max_pixels: int | None = None
) -> Plan:
    """Tiles whose cores are predicted as in the whole image: aligned, and with a halo that is real image.

    Cost: a tile of side T yields a core of T - 2 halo, so the network works (T / (T - 2 halo))^2 times. Prefer large
    tiles.

    Args:
        shape: (height, width, ...) of the image.
        alignment, halo: pixels, as `receptive_field` finds them; halo is a multiple of alignment.
        tile_size: side of the square tiles, a multiple of alignment; 0 chooses the rectangle that costs least.
        max_pixels: of a tile that is chosen.

    Raises:
        UserError: the tile is not aligned, or leaves no core; names the smallest that works.
    """
    if tile_size:
        _check_tile(tile_size, alignment)
        if tile_size <= 2 * halo and tile_size < max(shape[:2]):
            remedy = f"Use at least {2 * halo + alignment} pixels, or mode blend"
            raise UserError(f"tile size {tile_size}", f"is all halo, which takes {halo} px at each edge", remedy)
        tile = (tile_size, tile_size)
    else:
        tile = _cheapest_tile(shape, alignment, 2 * halo, max_pixels)
    return Plan(*(_exact_axis(length, side, halo, alignment) for length, side in zip(shape, tile, strict=False)))


def _exact_axis(length: int, tile: int, halo: int, alignment: int) -> Axis:
    if tile >= length:  # One tile: it may be smaller than its halos would be.
        return make_axis(length, tile, 0, 0, alignment)
    return make_axis(length, tile, 2 * halo, halo, alignment)


def blended_plan(
    shape: Sequence[int],
    alignment: int,
    halo: int,
    overlap: int,
    tile_size: int = 0,
    max_pixels: int | None = None,
) -> Plan:
    """Tiles that overlap less than exact ones would, and are blended where they overlap.

    The outermost pixels of the overlap are the worst, since they lack neighbours. They are dropped, up to the halo; at
    least a quarter of the overlap remains as a ramp between the tiles.

    Args:
        shape, alignment, halo, max_pixels: as for `exact_plan`.
        overlap: pixels that neighbours share; 0 puts tiles side by side. A multiple of alignment keeps tiles aligned.
        tile_size: side of the square tiles, a multiple of alignment; 0 chooses.

    Raises:
        UserError: the tile is not aligned, or the overlap is not aligned or exceeds half of the tile.
    """
    if overlap % alignment:
        raise UserError(f"overlap {overlap}", "takes tiles off the grid of the poolings", _multiple(overlap, alignment))
    if tile_size:
        _check_tile(tile_size, alignment)
        tile = (tile_size, tile_size)
    else:
        tile = _cheapest_tile(shape, alignment, overlap, max_pixels)
    axes = []
    for length, side in zip(shape, tile, strict=False):
        if not 0 <= 2 * overlap <= side and side < length:
            remedy = "Use 0 to half of the tile size"
            raise UserError(f"overlap {overlap}", f"does not fit tiles of {side} px", remedy)
        shared = overlap if side < length else 0
        axes.append(make_axis(length, side, shared, min(halo, 3 * shared // 8), alignment))
    return Plan(*axes)


def _multiple(value: int, alignment: int) -> str:
    return f"Use a multiple of {alignment} pixels, such as {max(1, round(value / alignment)) * alignment}"


def _check_tile(tile_size: int, alignment: int) -> None:
    if tile_size % alignment:
        remedy = _multiple(tile_size, alignment)
        raise UserError(f"tile size {tile_size}", "does not fit the poolings of the network", remedy)


def _cheapest_tile(shape: Sequence[int], alignment: int, overlap: int, max_pixels: int | None) -> tuple[int, int]:
    """Height and width of the tile, at most `max_pixels` large, with which the network has the least to do."""

    def side(length: int, count: int) -> int:
        """The smallest aligned tile of which `count` cover the axis."""
        return math.ceil(((length - overlap) / count + overlap) / alignment) * alignment if count > 1 else length

    height, width = (-(-length // alignment) * alignment for length in shape[:2])
    max_pixels = max_pixels or height * width
    plans = []
    for across in range(1, max(1, (width - overlap) // alignment) + 1):
        tile_width = side(width, across)
        tallest = max_pixels // tile_width // alignment * alignment
        if tallest >= height:
            down = 1
        elif tallest > overlap:
            down = math.ceil((height - overlap) / (tallest - overlap))
        else:
            continue
        tile_height = side(height, down)
        plans.append((down * across * tile_height * tile_width, down * across, tile_height, tile_width))
    if not plans:
        smallest = (overlap + alignment) ** 2
        problem = f"is too little memory: a tile may hold {max_pixels} pixels, and {smallest} is the least that works"
        raise UserError("memory_mib", problem, f"Give {math.ceil(smallest / max_pixels * 1.1)} times as much")
    return min(plans)[2:]
