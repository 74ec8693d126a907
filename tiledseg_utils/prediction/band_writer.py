"""Results larger than memory: written row by row, and continued after an interruption.

`BandWriter` appends rows to a hidden file beside the output, which becomes the output when all rows are there. Killed
at any moment and started again, it continues after the last band that is safely on disk.
"""

import contextlib
import io
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tifffile

from ..base.files import UserError, WriteError, make_folder, rename_durably, set_aside, sync_disks
from ..base.finished import note_finished
from ..base.leftovers import remove_leftovers_once
from ..base.locks import lock_output
from ..base.text import printable
from .zarr_writer import write_ome_zarr

TILE = 512  # side of the tiles of a BigTIFF, pixels
STRIP = 2**18  # bytes in a strip of a classic TIFF, at least a row
LEVEL = 4  # of compression, 1 to 12; the next ones save little and take much longer
CLASSIC = 2**32 - 2**25  # bytes of pixels that go into a classic TIFF, whose offsets have 32 bits; the rest is for tags


def working_paths(output: Path) -> list[Path]:
    """The hidden files beside an output in which it grows: its rows, their number, and what is renamed at the end."""
    return [output.with_name(f".{output.name}.partial{ending}") for ending in ("", ".json", ".new")]


class BandWriter:
    """Writes a `(H, W)` result row by row into a file that gets its name when it is complete.

    Until then, the rows are in `.NAME.partial` beside it, and their number and checksum in `.NAME.partial.json`. A new
    writer for the same identity, shape and dtype continues after them if they are unchanged; otherwise it says why not
    and starts from row 0. A .tif is made from the rows at the end, and needs their space once more. It is a classic
    TIFF in strips, which every program reads, ImageJ too, if its pixels take less than 4 GB without compression, else a
    BigTIFF in tiles. An .ome.tif has the description of OME, any other .tif that of ImageJ, with the size of a pixel.
    A .zarr is a folder, an OME-Zarr with a pyramid of smaller copies, and made at the end as well. Use the writer as a
    context manager, which closes the working file.

    Args:
        path: output; its suffix is .npy, .tif, .tiff or .zarr.
        shape: (H, W), pixels.
        dtype: uint8, int32 or float32.
        identity: JSON values; all that the rows depend on: the image, the model, the settings (see `finished`).
        overwrite: replace an output that exists; it stays until the new one is complete.
        resume: continue after the rows of a writer that was interrupted.
        pixel_size: side of a pixel, µm, that a .tif tells; None if it is not known.
        ome_zarr: version of a .zarr, "0.4" or "0.5".

    Attributes:
        rows: number of rows that are safely on disk; at first those of the interrupted writer.

    Raises:
        UserError: another suffix, the output exists, another run is writing it, or no permission, or no space.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        shape: tuple[int, int],
        dtype,
        identity: dict,
        overwrite: bool = False,
        resume: bool = True,
        pixel_size: float | None = None,
        ome_zarr: str = "0.4",
    ):
        self.path, self.shape, self.dtype, self.rows = Path(path), tuple(map(int, shape)), np.dtype(dtype), 0
        if self.path.suffix.lower() not in (".npy", ".tif", ".tiff", ".zarr"):
            raise UserError(path, "does not have a suffix that can be written by rows", "Use .npy, .tif or .zarr")
        if self.dtype not in (np.uint8, np.int32, np.float32) or len(self.shape) != 2 or min(self.shape) < 1:
            raise ValueError(f"(H, W) of uint8, int32 or float32 can be written, not {self.shape} of {self.dtype}")
        self._identity, self._resume, self._pixel_size, self._ome_zarr = identity, resume, pixel_size, ome_zarr
        state = {"identity": identity, "shape": self.shape, "dtype": self.dtype.name}
        self._state = json.loads(json.dumps(state))  # as it will be read again
        self._working, self._progress, self._new = working_paths(self.path)
        header = io.BytesIO()  # the working file is a .npy file, whatever it becomes
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._header = header.getvalue()
        with self._telling(), contextlib.ExitStack() as stack:
            make_folder(self.path.parent)
            remove_leftovers_once(self.path.parent.absolute())
            stack.enter_context(lock_output(self.path))
            if os.path.lexists(self.path) and not overwrite:
                raise UserError(path, "exists already", "Give another name, or allow to overwrite it")
            _unlink_links(self._working)
            _remove(self._new)
            self._working.touch()
            self._file = stack.enter_context(self._working.open("r+b", buffering=0))
            self.rows, self._checksum = self._finished_rows() if resume else (0, 0)
            if self.rows:
                self._file.truncate(self._offset(self.rows))
            else:
                self._progress.unlink(missing_ok=True)  # first, because it counts rows that are now removed
                self._file.truncate(0)
                self._append(0, self._header)
                self._checksum = zlib.crc32(self._header)
            self._closing = stack.pop_all()  # stays open

    def __enter__(self) -> "BandWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the working file, which stays unless the output is finished, and let others write the output."""
        self._closing.close()

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
        data = band.data.cast("B") if len(band) else b""
        checksum = zlib.crc32(data, self._checksum)
        with self._telling():
            self._append(self._offset(self.rows), data)
            with self._new.open("wb") as file:
                file.write(json.dumps({"state": self._state, "rows": rows, "crc32": checksum}).encode())
                _sync(file)
            os.replace(self._new, self._progress)
        self.rows, self._checksum = rows, checksum

    def finish(self, facts: Mapping | None = None, largest: int | None = None) -> None:
        """Give the output its name and remove the working files.

        Args:
            facts: JSON values; what `finished.find_finished` will return for the output.
            largest: of int32 labels. Up to 65,535, a .tif stores them as uint16, which every program takes for labels.

        Raises:
            UserError: the disk is full, or the like; the rows stay valid.
            ValueError: rows are missing.
        """
        if self.rows < self.shape[0]:
            raise ValueError(f"only {self.rows} of {self.shape[0]} rows of {self.path} are written")
        with self._telling():
            if self.path.suffix.lower() == ".npy":
                self._file.close()
                note_finished(self.path, self._working, self._identity, facts)
                rename_durably(self._working, self.path)
            else:
                if self.path.suffix.lower() == ".zarr":
                    self._write_zarr(largest)
                else:
                    with self._new.open("wb") as file:
                        self._write_tiff(file, largest)
                        _sync(file)
                note_finished(self.path, self._new, self._identity, facts)
                if self.path.is_dir():  # Which nothing is renamed to.
                    shutil.rmtree(set_aside(self.path))
                rename_durably(self._new, self.path)
                self._file.close()
                self._working.unlink()
            self._progress.unlink(missing_ok=True)
        self.close()

    def _stored_dtype(self, largest: int | None) -> np.dtype:
        """Of the numbers in the output: those of few labels are stored as uint16."""
        return np.dtype(np.uint16) if largest is not None and largest <= np.iinfo(np.uint16).max else self.dtype

    def _write_zarr(self, largest: int | None) -> None:
        dtype = self._stored_dtype(largest)
        _remove(self._new)
        write_ome_zarr(
            self._new,
            lambda top, rows: self._read(top, rows, dtype),
            self.shape,
            dtype,
            self._pixel_size,
            is_labels=largest is not None,
            version=self._ome_zarr,
        )
        sync_disks()

    def _write_tiff(self, file: io.BufferedWriter, largest: int | None) -> None:
        dtype = self._stored_dtype(largest)
        height, width = (-(-side // TILE) * TILE for side in self.shape)
        is_large = height * width * dtype.itemsize > CLASSIC
        rows = max(1, STRIP // (self.shape[1] * dtype.itemsize))
        is_ome = self.path.name.lower().endswith((".ome.tif", ".ome.tiff"))
        with tifffile.TiffWriter(file, bigtiff=is_large, ome=is_ome) as tiff:
            tiff.write(
                self._tiles(dtype) if is_large else self._strips(dtype, rows),
                shape=self.shape,
                dtype=dtype,
                photometric="minisblack",
                compression=None if dtype == np.float32 else "zlib",
                software=False,
                buffersize=2**24,  # bytes that wait to be compressed
                **({"tile": (TILE, TILE)} if is_large else {"rowsperstrip": rows}),
                **(self._ome() if is_ome else self._imagej(largest)),
            )

    def _imagej(self, largest: int | None) -> dict:
        """What tells ImageJ the size of a pixel and how bright to show labels; nothing if neither is known."""
        lines, options = ["ImageJ=1.54f", "images=1"], {}
        if self._pixel_size is not None:
            per_micrometre = 1 / self._pixel_size
            options = {"resolution": (per_micrometre, per_micrometre), "resolutionunit": "NONE"}
            lines.append("unit=micron")
        if largest is not None:
            lines += ["min=0.0", f"max={max(1, largest)}.0"]
        description = "\n".join([*lines, ""]) if len(lines) > 2 else None
        return {"metadata": None, "description": description, **options}

    def _ome(self) -> dict:
        """The description of OME. Its identifier follows from what the rows depend on, so that files are repeatable."""
        metadata = {"axes": "YX", "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(self._state, sort_keys=True)))}
        if self._pixel_size is None:
            return {"metadata": metadata}
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": self._pixel_size, f"PhysicalSize{axis}Unit": "µm"}
        per_centimetre = 1e4 / self._pixel_size
        return {"metadata": metadata, "resolution": (per_centimetre, per_centimetre), "resolutionunit": "CENTIMETER"}

    def _strips(self, dtype: np.dtype, rows: int) -> Iterator[bytes]:
        """Strips as they are stored: tifffile takes them by rows only if they are compressed already."""
        from imagecodecs import deflate_encode  # Late, for a quick --help; four times as fast as zlib.

        for top in range(0, self.shape[0], rows):
            strip = self._read(top, rows, dtype).tobytes()
            yield strip if dtype == np.float32 else deflate_encode(strip, level=LEVEL)

    def _tiles(self, dtype: np.dtype) -> Iterator[np.ndarray]:
        for top in range(0, self.shape[0], TILE):
            band = self._read(top, TILE, dtype)
            yield from (band[:, left : left + TILE] for left in range(0, self.shape[1], TILE))  # tifffile pads them

    def _read(self, top: int, rows: int, dtype: np.dtype) -> np.ndarray:
        height, width = self.shape
        count = min(rows, height - top) * width
        band = np.fromfile(self._working, self.dtype, count, offset=self._offset(top)).reshape(-1, width)
        return band.astype(dtype, copy=False)

    def _offset(self, row: int) -> int:
        return len(self._header) + row * self.shape[1] * self.dtype.itemsize

    def _append(self, offset: int, data: bytes | memoryview) -> None:
        self._file.seek(offset)  # a write that failed may have stopped elsewhere
        while data:
            data = data[self._file.write(data) :]
        _sync(self._file)

    def _finished_rows(self) -> tuple[int, int]:
        """How many rows in the working file belong to this output, and the checksum of the file up to their end.

        If there are rows that cannot be used, it prints why, and returns (0, 0).
        """
        if not self._progress.is_file():
            return 0, 0
        try:
            record = json.loads(self._progress.read_bytes())
            state, rows, checksum = record["state"], record["rows"], record["crc32"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return self._begin_again("their number cannot be read")
        if state != self._state:
            return self._begin_again("they are of another image, model or setting")
        if type(rows) is not int or not 0 <= rows <= self.shape[0] or self._checksum_of(rows) != checksum:
            return self._begin_again("they are damaged")
        return rows, checksum

    def _begin_again(self, reason: str) -> tuple[int, int]:
        print(f"{printable(self.path)}: rows of an interrupted run are not used ({reason})", flush=True)
        return 0, 0

    def _checksum_of(self, rows: int) -> int | None:
        """The checksum of the working file up to a row; None if it is shorter."""
        self._file.seek(0)
        remaining, checksum = self._offset(rows), 0
        while remaining:
            data = self._file.read(min(remaining, 2**24))
            if not data:
                return None
            checksum = zlib.crc32(data, checksum)
            remaining -= len(data)
        return checksum

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem, remedy = f"cannot be written ({error.strerror or error})", "Check permissions and disk space"
            if self._resume:
                problem += f"; {self.rows} of {self.shape[0]} rows are safe"
                remedy += f"; the same command then goes on at row {self.rows}"
            raise WriteError(self.path, problem, remedy) from error


def _sync(file: io.IOBase) -> None:
    file.flush()
    os.fsync(file.fileno())


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _unlink_links(path: Path) -> None:
    """Remove a link, since writing would go to what it leads to."""
    if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
        path.unlink()
