"""Labels larger than memory, read row by row: as they are stored, or by the rules of `masks`."""

import contextlib
import math
from pathlib import Path

import numpy as np

from ..base.files import UserError
from .masks import are_scattered, has_no_background, looks_like_classes, number_pieces, read_either, to_labels, to_mask
from .pictures import SIGNATURES
from .pictures.part import ImagePart
from .pictures.stored import Stored, tell_notes
from .pictures.tiff_rows import COPY_AGAIN, TiffRows
from .pictures.zarr_rows import ZarrRows, is_zarr
from .runs import connect_runs, draw_runs, find_runs
from .streaming import row_ranges

LARGE = 2**25
"""Pixels. Labels of larger files are kept as runs, and not as pixels."""

BAND = 2**24  # pixels that are checked as one picture
FEW = 8  # values, of which a band of rows does not tell whether they are objects


class LabelArray(contextlib.AbstractContextManager):
    """Labels in memory, (H, W) whole numbers, read as `LabelRows` are.

    Attributes:
        shape: (H, W), pixels.
        is_mask: they are the connected pieces of a mask.
        count: of a mask, how many pieces.
    """

    def __init__(self, labels: np.ndarray, is_mask: bool = False):
        self._labels, self.shape, self.is_mask = labels, labels.shape, is_mask
        self.count = int(labels.max(initial=0))

    def __exit__(self, *_) -> None:
        """There is nothing to close."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """As `LabelRows.read`."""
        return self._labels[start:stop]


class LabelRows(contextlib.AbstractContextManager):
    """A file of labels as `prediction.instances.label_file` writes it; a context manager that closes the file.

    Args:
        path: .tif, .ome.tif, .npy or .zarr.

    Attributes:
        shape: (H, W), pixels.

    Raises:
        UserError: it cannot be read, or holds no whole numbers.
    """

    def __init__(self, path: Path):
        self._closing = contextlib.ExitStack()
        if Path(path).suffix.lower() == ".npy":
            try:
                array = np.load(path, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise UserError(path, f"is cut or damaged ({error})", COPY_AGAIN) from error
            shape, dtype, self._read = array.shape, array.dtype, lambda start, stop: array[start:stop]
        else:
            rows = ZarrRows(ImagePart(path)) if is_zarr(Path(path)) else TiffRows(path, path)
            self._closing.callback(rows.close)
            shape, dtype = (*rows.shape, *([rows.colours] if rows.colours > 1 else [])), rows.dtype
            self._read = lambda start, stop: rows.read(start, stop)[..., 0]
        self.shape = tuple(shape)
        if dtype.kind not in "iu" or len(self.shape) != 2:
            self.close()
            problem = f"holds {dtype.name} of shape {self.shape}, not one whole number for each pixel"
            raise UserError(path, problem, "Give a label image")

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._closing.close()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop - 1`, (stop - start, W) of the stored whole numbers."""
        return self._read(start, stop)


class LabelRuns(contextlib.AbstractContextManager):
    """A large label image or mask by the rules of `masks`, read once and kept as runs; see `LabelArray`.

    Bands of rows are checked as pictures of their own, and the pieces of the whole image are put together from its
    runs. Memory is about 30 bytes for each run, which is a row of a nucleus.

    Args:
        path: of a TIFF or OME-Zarr with one channel.

    Raises:
        UserError: as for `masks.read_labels`.
    """

    def __init__(self, path: Path):
        with LabelRows(path) as rows:
            self.shape = rows.shape
            bands = row_ranges(self.shape, BAND)
            runs = [_checked_runs(path, rows.read(start, stop), start) for start, stop in bands]
        self._row, self._start, self._stop, self._label = np.concatenate(runs, axis=1)
        ids = np.unique(self._label)
        self.is_mask = len(ids) <= 1
        if not self.is_mask:
            self._check_whole(path, ids)
        pieces = 1 + connect_runs(self._row, self._start, self._stop, self._label)
        self.count = int(pieces.max(initial=0))
        values, areas = np.zeros(self.count + 1, np.int32), np.zeros(self.count + 1, np.int64)
        values[pieces] = self._label
        np.add.at(areas, pieces, self._stop - self._start)
        split = np.count_nonzero(np.unique(values[1:], return_counts=True)[1] > 1)
        if not self.is_mask and are_scattered(split, self.count, len(ids)):
            raise looks_like_classes(path, self.count, len(ids))
        numbers = np.arange(self.count + 1) if self.is_mask else number_pieces(values, areas)
        self._label = numbers[pieces].astype(np.int32)

    def __exit__(self, *_) -> None:
        """There is nothing to close."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """As `LabelRows.read`."""
        first, last = np.searchsorted(self._row, [start, stop])
        own, width = slice(first, last), self.shape[1]
        begin = (self._row[own].astype(np.int64) - start) * width
        return draw_runs(begin + self._start[own], begin + self._stop[own], self._label[own], (stop - start, width))

    def _check_whole(self, path: Path, ids: np.ndarray) -> None:
        """What bands do not tell: whether there is a background, and whether few values are objects."""
        if (self._stop - self._start).sum(dtype=np.int64) == math.prod(self.shape):
            raise has_no_background(path, int(ids[0]), int(ids[-1]))
        if len(ids) > FEW:
            return
        for start, stop in row_ranges(self.shape, BAND):
            band = self.read(start, stop)
            if not band.all():
                _check(path, band)


def _checked_runs(path: Path, band: np.ndarray, first_row: int) -> np.ndarray:
    """Row, start, stop and label of the runs of some rows, (4, R) int32, if their values look like objects."""
    row, start, stop, label, _, _ = find_runs(band)
    # A few objects of many may have any numbers and sizes, and the rules would take some for shades.
    if len(np.unique(label)) > FEW or band.min() < 0 or band.max() > np.iinfo(np.int32).max:
        _check(path, band)
    return np.stack([row + first_row, start, stop, label]).astype(np.int32)


def _check(path: Path, band: np.ndarray) -> None:
    to_mask(path, Stored(band[..., None], channels=1, is_jpeg=False))


def open_labels(path: Path) -> LabelArray | LabelRuns:
    """Open a mask file as instance labels, by the rules of `masks`.

    A TIFF or OME-Zarr of more than `LARGE` pixels is never whole in memory, if it has one channel, no colour table and
    no loss.

    Raises:
        UserError: as for `masks.read_labels`.
    """
    if _is_large(path):
        return LabelRuns(path)
    stored = read_either(path)
    return LabelArray(to_labels(stored), stored.dtype == bool)


def _is_large(path: Path) -> bool:
    if is_zarr(path):
        with contextlib.closing(ZarrRows(ImagePart(path))) as rows:
            is_plain = rows.channels == 1 and rows.dtype.kind in "iu"
    elif _is_tiff(path):
        with contextlib.closing(TiffRows(path, path)) as rows:
            is_plain = rows.channels == 1 and rows.dtype.kind in "iu" and rows.palette is None
            is_plain &= not rows.is_lossy and not rows.white_is_zero
    else:
        return False
    if is_plain and math.prod(rows.shape) > LARGE:
        tell_notes(path, tuple(rows.notes))
        return True
    return False


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return SIGNATURES.get(file.read(4)) == "TIFF"
    except OSError:
        return False  # `masks.read_either` tells why.
