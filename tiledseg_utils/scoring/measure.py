"""A table of nuclei: where each lies, its size, its shape, and how bright it is.

The numbers are those of `skimage.measure.regionprops`, to 1e-6. But that needs the whole image in memory, and about a
millisecond for each nucleus. Here rows of labels are taken as they come, all their nuclei at once: what adds up over
the pixels of a nucleus is kept as a sum, in the order of its rows, so that no cut of the image changes the table.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..base.files import UserError
from ..data.runs import connect_runs, find_runs
from .convex_areas import convex_areas

CHUNK = 2**22  # pixels that `measure` takes at a time
STRAIGHT, DIAGONAL, MIXED = (5, 7, 15, 17, 25, 27), (21, 33), (13, 23)
"""How the border pixels around one look, as sums of 2 for each at a side, 10 for each at a corner, and 1 for itself.

To the perimeter they add 1, sqrt(2) and (1 + sqrt(2)) / 2 (Benkrid & Crookes, Queen's University of Belfast)."""
KINDS_OF_BORDER = np.zeros(50, np.intp)
for _kind, _sums in enumerate((STRAIGHT, DIAGONAL, MIXED), start=1):
    KINDS_OF_BORDER[list(_sums)] = _kind

SUMS = ("area", "row", "column", "row_row", "column_column", "row_column", "straight", "diagonal", "mixed")
NUMBER_THEM = "Number its pieces with data.masks.to_labels, or label a map of probabilities with the command instances"


class Measurement:
    """Measures nuclei whose labels come by rows, from top to bottom.

    Memory depends on the width of the image and on the number of nuclei, at about a kilobyte for each.

    Args:
        shape: (H, W) of the image, pixels.
        name: of the file with the labels, for errors.

    Example:
        measurement = Measurement(labels.shape)
        measurement.add(labels[:100])
        measurement.add(labels[100:])
        measurement.table()
    """

    def __init__(self, shape: tuple[int, int], name: str = "the labels"):
        self.shape, self.name, self._row = tuple(shape), name, 0
        self._labels = np.zeros(0, np.int64)
        self._values: dict[str, np.ndarray] = {}
        self._starts: dict[str, float] = {}
        self._runs: list[np.ndarray] = []
        self._channels: list[str] = []
        self._recent = np.zeros((2, shape[1] + 4), np.int32)  # Outside of the image is background, two pixels wide.

    def add(self, labels: np.ndarray, image: np.ndarray | None = None, probability: np.ndarray | None = None) -> None:
        """Measure the next rows.

        Args:
            labels: (n, W) whole numbers, 0 = background.
            image: (n, W) or (n, W, C) numbers, whole or not; given for all rows or for none.
            probability: (n, W), 0 to 1; given for all rows or for none.

        Raises:
            UserError: the labels are a mask, or no whole numbers from 0.
            ValueError: the shapes do not belong together.
        """
        _check_labels(labels, self.name)
        others = [each for each in (image, probability) if each is not None]
        beyond = self._row + len(labels) > self.shape[0]
        if labels.shape[1:] != self.shape[1:] or beyond or any(each.shape[:2] != labels.shape for each in others):
            shapes = [each.shape for each in (labels, *others)]
            raise ValueError(f"{shapes} do not fit into {self.shape} from row {self._row}")
        if not labels.size:
            return
        labels = labels.astype(np.int32, copy=False)
        row, start, stop, label, is_nucleus, firsts = find_runs(labels)
        row += self._row
        places = self._places(label)
        self._add_shape(places, row, start, stop)
        self._runs.append(np.stack([label, row, start, stop]).astype(np.int32))
        for name, channel in _channels(image, probability):
            if name not in self._channels:
                self._channels.append(name)
            self._add_channel(name, np.ascontiguousarray(channel).ravel(), firsts, is_nucleus, places)
        self._row += len(labels)
        self._add_border(labels)

    def table(self, pixel_size: float | None = None) -> pd.DataFrame:
        """The table of all nuclei, once all rows are there; columns as for `measure`.

        Raises:
            UserError: all rows have one label, in several pieces: a mask.
        """
        if self._row != self.shape[0]:
            raise ValueError(f"{self._row} of {self.shape[0]} rows are there")
        self._add_border(np.zeros((2, self.shape[1]), np.int32))
        label, row, start, stop = np.concatenate([np.zeros((4, 0), np.int32), *self._runs], axis=1)
        if len(self._labels) == 1:
            self._refuse_a_mask(row, start, stop)
        hulls = convex_areas(np.searchsorted(self._labels, label), row, start, stop, len(self._labels))
        table = pd.DataFrame({"label": self._labels} | self._shapes(hulls) | self._intensities())
        return table if pixel_size is None else _with_micrometres(table, pixel_size)

    def _places(self, label: np.ndarray) -> np.ndarray:
        """Where the numbers of each label are kept, making room for new ones."""
        known = np.union1d(self._labels, label)
        if len(known) > len(self._labels):
            places = np.searchsorted(known, self._labels)
            for name, values in self._values.items():
                self._values[name] = np.full(len(known), self._starts[name], values.dtype)
                self._values[name][places] = values
            self._labels = known
        return np.searchsorted(self._labels, label)

    def _gather(self, name: str, places: np.ndarray, values: np.ndarray, merge: np.ufunc = np.add, start=0) -> None:
        """Add values to what is kept for each label, one by one, so that sums do not depend on the cut."""
        if name not in self._values:
            self._starts[name] = start
            self._values[name] = np.full(len(self._labels), start, values.dtype)
        merge.at(self._values[name], places, values)

    def _add_shape(self, places: np.ndarray, row: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
        never = np.iinfo(np.int64).max
        self._gather("min_row", places, row, np.minimum, never)
        self._gather("max_row", places, row + 1, np.maximum)
        self._gather("min_column", places, start, np.minimum, never)
        self._gather("max_column", places, stop, np.maximum)
        # The first pixel that came is the origin of sums of squares, which then stay small enough to be exact.
        firsts = row * self.shape[1] + start
        self._gather("origin", places, firsts, np.minimum, never)
        top, left = np.divmod(self._values["origin"][places], self.shape[1])
        row, start, stop = row - top, start - left, stop - left
        area = stop - start
        column = (start + stop - 1) * area // 2
        squares = _sum_of_squares(stop) - _sum_of_squares(start)
        sums = {"area": area, "row": row * area, "column": column, "row_row": row**2 * area}
        sums |= {"column_column": squares, "row_column": row * column}
        for name, values in sums.items():
            self._gather(name, places, values)

    def _add_channel(self, name: str, pixels, firsts, is_nucleus, places) -> None:
        """Sums of one channel, (N,) pixels of the rows, over each run; `firsts` are those where a run begins."""
        kind = np.int64 if pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2 else np.float64
        wide = pixels.astype(kind)
        for part, values, merge in (("sum", wide, np.add), ("squares", wide**2, np.add)):
            self._gather(f"{part}_{name}", places, np.add.reduceat(values, firsts)[is_nucleus], merge, kind(0))
        limits = np.iinfo(kind) if kind is np.int64 else np.finfo(kind)
        for part, merge, start in (("min", np.minimum, limits.max), ("max", np.maximum, limits.min)):
            values = merge.reduceat(pixels, firsts)[is_nucleus].astype(kind)
            self._gather(f"{part}_{name}", places, values, merge, start)

    def _add_border(self, labels: np.ndarray) -> None:
        """Count the kinds of border pixels, in the rows for which two more are known by now."""
        rows = np.concatenate([self._recent, np.pad(labels, ((0, 0), (2, 2)))])
        self._recent = rows[-4:]
        if len(rows) <= 4:
            return
        is_border = _border(rows)
        spots = np.flatnonzero(is_border[2:-2, 2:-2])
        row, column = np.divmod(spots, self.shape[1])
        row, column = row + 2, column + 2
        label, around = rows[row, column], np.ones(len(spots), np.intp)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                if down or right:
                    beside = row + down, column + right
                    is_same = is_border[beside] & (rows[beside] == label)
                    around += is_same * (10 if down and right else 2)
        places, kinds = np.searchsorted(self._labels, label), KINDS_OF_BORDER[around]
        for number, name in enumerate(("straight", "diagonal", "mixed"), start=1):
            self._gather(name, places, (kinds == number).astype(np.int64))

    def _refuse_a_mask(self, row: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
        """Refuse a single label that lies in several pieces (8 neighbours): runs that do not hang together."""
        order = np.lexsort((start, row))
        row, start, stop = row[order], start[order], stop[order]
        pieces = connect_runs(row, start, stop, np.zeros(len(row))).max(initial=-1) + 1
        if pieces > 1:
            problem = f"have one value in {pieces} pieces, as a mask has, and not a number for each nucleus"
            raise UserError(self.name, problem, NUMBER_THEM)

    def _shapes(self, hulls: np.ndarray) -> dict[str, np.ndarray]:
        """The columns from the centroid to the solidity, and whether a nucleus is cut by the edge."""
        nothing = np.zeros(0, np.int64)
        kept = {name: self._values.get(name, nothing) for name in (*SUMS, "origin")}
        box = {name: self._values.get(name, nothing) for name in ("min_row", "min_column", "max_row", "max_column")}
        top, left = np.divmod(kept["origin"], self.shape[1])
        area, row, column = kept["area"], kept["row"] / kept["area"], kept["column"] / kept["area"]
        a = kept["row_row"] / area - row**2
        b = kept["row_column"] / area - row * column
        c = kept["column_column"] / area - column**2
        # The eigenvalues of [[a, b], [b, c]].
        half, spread = (a + c) / 2, np.hypot((a - c) / 2, b)
        large, small = half + spread, np.maximum(half - spread, 0)
        ratio = np.divide(small, large, out=np.ones_like(large), where=large > 0)
        diagonal, mixed = np.sqrt(2) * kept["diagonal"], (1 + np.sqrt(2)) / 2 * kept["mixed"]
        is_cut = (box["min_row"] == 0) | (box["min_column"] == 0)
        is_cut |= (box["max_row"] == self.shape[0]) | (box["max_column"] == self.shape[1])
        shapes = {"centroid_row": top + row, "centroid_column": left + column, **box, "area": area}
        shapes |= {"perimeter": kept["straight"] + diagonal + mixed}
        shapes |= {"major_axis": 4 * np.sqrt(large), "minor_axis": 4 * np.sqrt(small)}
        return shapes | {"eccentricity": np.sqrt(1 - ratio), "solidity": area / hulls, "touches_border": is_cut}

    def _intensities(self) -> dict[str, np.ndarray]:
        columns, area = {}, self._values.get("area", np.zeros(0, np.int64))
        for name in self._channels:
            total, squares = self._values[f"sum_{name}"], self._values[f"squares_{name}"]
            mean = total / area
            if name == "probability":
                columns[f"mean_{name}"] = mean
                continue
            variance = squares / area - mean**2
            if total.dtype.kind == "i":
                variance = (area * squares - total**2) / area**2  # Whole numbers, so that nothing cancels out.
            columns |= {f"mean_{name}": mean, f"min_{name}": self._values[f"min_{name}"]}
            columns |= {f"max_{name}": self._values[f"max_{name}"], f"std_{name}": np.sqrt(np.maximum(variance, 0))}
        return columns


def measure(
    labels: np.ndarray,
    image: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    pixel_size: float | None = None,
) -> pd.DataFrame:
    """A table with one row for each nucleus, by its label.

    Args:
        labels: (H, W) whole numbers, 0 = background.
        image: (H, W) or (H, W, C), of which the intensities are measured.
        probability: (H, W), 0 to 1.
        pixel_size: side of a pixel, µm; adds columns in µm.

    Returns:
        columns label; centroid_row, centroid_column (pixels; 0 is the centre of the first); min_row, min_column,
        max_row, max_column (the box, without the last row and column); area, perimeter, major_axis, minor_axis
        (pixels); eccentricity (0 circle, 1 line); solidity (share of the convex hull); touches_border; mean, min, max
        and std of each channel (red, green, blue, or grey); mean_probability. With a pixel size also centroid_row_um,
        centroid_column_um, area_um2, perimeter_um, major_axis_um, minor_axis_um.

    Raises:
        UserError: the labels are a mask, or no whole numbers from 0.

    Example:
        measure(read_labels("labels/a.tif"), read_image("images/a.png"), pixel_size=0.25)
    """
    _check_labels(labels, "the labels")
    measurement, step = Measurement(labels.shape), max(1, CHUNK // max(1, labels.shape[1]))
    for start in range(0, len(labels), step):
        rows = [None if each is None else each[start : start + step] for each in (labels, image, probability)]
        measurement.add(*rows)
    return measurement.table(pixel_size)


def _check_labels(labels: np.ndarray, name: str) -> None:
    if labels.dtype == bool:
        raise UserError(name, "are a mask of true and false, and have no number for each nucleus", NUMBER_THEM)
    remedy = "Give 0 for the background and a number from 1 to 2147483647 for each nucleus"
    if labels.dtype.kind not in "iu" or labels.ndim != 2:
        problem = f"are {labels.dtype.name} of shape {labels.shape}, not whole numbers in rows and columns"
        raise UserError(name, problem, remedy)
    if labels.size and not 0 <= labels.min() <= labels.max() <= np.iinfo(np.int32).max:
        raise UserError(name, f"hold numbers from {labels.min()} to {labels.max()}", remedy)


def _sum_of_squares(stop: np.ndarray) -> np.ndarray:
    """0² + 1² + ... + (stop - 1)², also for negative numbers, so that differences of it are sums over a range."""
    return (stop - 1) * stop * (2 * stop - 1) // 6


def _border(rows: np.ndarray) -> np.ndarray:
    """Pixels of nuclei that have another label at one of their four sides; false at the rim of `rows`."""
    is_border, inner = np.zeros(rows.shape, bool), rows[1:-1, 1:-1]
    differs = (inner != rows[:-2, 1:-1]) | (inner != rows[2:, 1:-1])
    differs |= (inner != rows[1:-1, :-2]) | (inner != rows[1:-1, 2:])
    is_border[1:-1, 1:-1] = differs & (inner > 0)
    return is_border


def _channels(image: np.ndarray | None, probability: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    """The channels to measure by name, each (n, W)."""
    channels = []
    if image is not None:
        image = image if image.ndim == 3 else image[..., None]
        image = image.astype(np.uint8) if image.dtype == bool else image
        channels = [(name, image[..., number]) for number, name in enumerate(channel_names(image.shape[2]))]
    return channels if probability is None else [*channels, ("probability", probability)]


def channel_names(count: int) -> Sequence[str]:
    names = {1: ("grey",), 3: ("red", "green", "blue")}
    return names.get(count) or [f"channel_{number}" for number in range(1, count + 1)]


def _with_micrometres(table: pd.DataFrame, pixel_size: float) -> pd.DataFrame:
    lengths = ("centroid_row", "centroid_column", "perimeter", "major_axis", "minor_axis")
    table = table.assign(**{f"{name}_um": table[name] * pixel_size for name in lengths})
    return table.assign(area_um2=table["area"] * pixel_size**2)
