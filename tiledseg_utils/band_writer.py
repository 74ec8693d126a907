"""Results larger than memory: written row by row, and continued after an interruption.

`BandWriter` appends rows to a hidden file beside the output, which it turns into the output when all are there; killed
at any moment and started again, it goes on behind the last band that is safely on disk.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from .files import UserError, make_folder, rename_durably

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TILE = 512  # side of the tiles of TIFF outputs, pixels


class BandWriter:
    """Writes a `(H, W)` result row by row into a file that has its name only when it is complete.

    Until then, the rows are in `.NAME.partial` beside it and their number in `.NAME.partial.json`. A new writer for
    the same identity, shape and dtype goes on behind them; any other starts from row 0. A .tif is made at the end,
    from the rows, and needs their space once more. Use it as a context manager, which closes the working file.

    Args:
        path: output; its suffix is .npy, .tif or .tiff.
        shape: (H, W), pixels.
        dtype: uint8, int32 or float32.
        identity: for JSON; all that the rows depend on: the image, the model, the settings.
        overwrite: replace an output that exists; it stays until the new one is complete.

    Attributes:
        rows: rows that are safely on disk; at first those of the run that was interrupted.

    Raises:
        UserError: another suffix, the output exists, another run is writing it, or no permission, or no space.
    """

    def __init__(self, path: str | os.PathLike, shape: tuple[int, int], dtype, identity: dict, overwrite: bool = False):
        self.path, self.shape, self.dtype, self.rows = Path(path), tuple(map(int, shape)), np.dtype(dtype), 0
        if self.path.suffix.lower() not in (".npy", ".tif", ".tiff"):
            raise UserError(path, "does not have a suffix that can be written by rows", "Use .npy or .tif")
        if self.dtype not in (np.uint8, np.int32, np.float32) or len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"(H, W) of uint8, int32 or float32 can be written, not {self.shape} of {self.dtype}")
        state = {"identity": identity, "shape": self.shape, "dtype": self.dtype.name}
        self._state = json.loads(json.dumps(state))  # as it will be read again
        self._working, self._progress, self._new = (
            self.path.with_name(f".{self.path.name}.partial{ending}") for ending in ("", ".json", ".new")
        )
        header = io.BytesIO()  # the working file is a .npy file, whatever it becomes
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._header = header.getvalue()
        with self._telling(), contextlib.ExitStack() as stack:
            if self.path.exists() and not overwrite:
                raise UserError(path, "exists already", "Give another name, or allow to overwrite it")
            make_folder(self.path.parent)
            self._working.touch()
            self._file = stack.enter_context(self._working.open("r+b", buffering=0))
            self._lock()
            self.rows = self._finished_rows()
            if self.rows:
                self._file.truncate(self._offset(self.rows))
            else:
                self._progress.unlink(missing_ok=True)  # first, for it counts rows that now go
                self._file.truncate(0)
                self._append(0, self._header)
            stack.pop_all()  # stays open

    def __enter__(self) -> "BandWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the working file; it stays, unless the output is finished."""
        self._file.close()

    def write(self, band: np.ndarray) -> None:
        """Append the next rows, `(n, W)` of the writer's dtype; they are safely on disk when this returns.

        Raises:
            UserError: the disk is full, or the like. The rows written before stay valid.
            ValueError: another width or dtype, or more rows than the output has.
        """
        band = np.ascontiguousarray(band)
        rows = self.rows + len(band)
        if band.shape[1:] != self.shape[1:] or band.dtype != self.dtype or rows > self.shape[0]:
            raise ValueError(f"{band.dtype} {band.shape} does not fit {self.shape} of {self.dtype} at row {self.rows}")
        with self._telling():
            self._append(self._offset(self.rows), band.data.cast("B") if len(band) else b"")
            with self._new.open("wb") as file:
                file.write(json.dumps(self._state | {"rows": rows}).encode())
                _sync(file)
            os.replace(self._new, self._progress)
        self.rows = rows

    def finish(self) -> None:
        """Give the output its name and remove the working files.

        Raises:
            UserError: the disk is full, or the like; the rows stay valid.
            ValueError: rows are missing.
        """
        if self.rows < self.shape[0]:
            raise ValueError(f"only {self.rows} of {self.shape[0]} rows of {self.path} are written")
        with self._telling():
            if self.path.suffix.lower() == ".npy":
                self.close()
                rename_durably(self._working, self.path)
            else:
                with self._new.open("wb") as file:
                    self._write_tiff(file)
                    _sync(file)
                rename_durably(self._new, self.path)
                self.close()
                self._working.unlink()
            self._progress.unlink(missing_ok=True)

    def _write_tiff(self, file: io.BufferedWriter) -> None:
        options = {} if self.dtype == np.float32 else {"compression": "zlib"}
        with tifffile.TiffWriter(file, bigtiff=True) as tiff:
            tiff.write(
                self._tiles(),
                shape=self.shape,
                dtype=self.dtype,
                tile=(TILE, TILE),
                photometric="minisblack",
                metadata=None,
                software=False,
                buffersize=2**24,  # bytes of tiles that wait for being compressed
                **options,
            )

    def _tiles(self) -> Iterator[np.ndarray]:
        height, width = self.shape
        for top in range(0, height, TILE):
            count = min(TILE, height - top) * width
            band = np.fromfile(self._working, self.dtype, count, offset=self._offset(top)).reshape(-1, width)
            yield from (band[:, left : left + TILE] for left in range(0, width, TILE))  # tifffile pads them

    def _offset(self, row: int) -> int:
        return len(self._header) + row * self.shape[1] * self.dtype.itemsize

    def _append(self, offset: int, data: bytes | memoryview) -> None:
        self._file.seek(offset)  # not where a write that failed has stopped
        while data:
            data = data[self._file.write(data) :]
        _sync(self._file)

    def _finished_rows(self) -> int:
        """Return the rows in the working file that belong to this output."""
        try:
            state = json.loads(self._progress.read_bytes())
            rows = state.pop("rows")
        except (OSError, ValueError, KeyError):
            return 0
        is_same = state == self._state and self._offset(rows) <= os.fstat(self._file.fileno()).st_size
        return rows if is_same else 0

    def _lock(self) -> None:
        """Refuse a second run on one output. The system opens the lock when a process ends, however it ends."""
        try:
            if fcntl:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            remedy = "Wait until it has ended, or give another name"
            raise UserError(self.path, "is being written by another run", remedy) from error
        except OSError:  # a file system without locks
            return
        if not os.path.samestat(os.fstat(self._file.fileno()), self._working.stat()):
            raise OSError("another run has just finished it")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem = f"cannot be written ({error.strerror or error}); {self.rows} of {self.shape[0]} rows are safe"
            remedy = f"Check permissions and disk space; the same command then goes on at row {self.rows}"
            raise UserError(self.path, problem, remedy) from error


def _sync(file: io.IOBase) -> None:
    file.flush()
    os.fsync(file.fileno())
