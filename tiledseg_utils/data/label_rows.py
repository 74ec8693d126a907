"""Labels larger than memory, read row by row as they are stored."""

import contextlib
from pathlib import Path

import numpy as np

from ..base.files import UserError
from .pictures.part import ImagePart
from .pictures.tiff_rows import COPY_AGAIN, TiffRows
from .pictures.zarr_rows import ZarrRows, is_zarr


class LabelArray:
    """Labels in memory, (H, W) whole numbers, read as `LabelRows` are."""

    def __init__(self, labels: np.ndarray):
        self._labels, self.shape = labels, labels.shape

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
