"""Images larger than memory, read row by row.

`open_source` gives the rows of an array or a file with the values that `pictures.read_image` would give.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..base.files import UserError, hash_file, require_file
from . import pictures
from .pictures.part import Image, ImagePart, is_named, part_of, require_single
from .pictures.remote import absolute, address_of
from .pictures.stored import tell_notes
from .pictures.tiff_rows import COPY_AGAIN, TiffRows
from .pictures.zarr_rows import MARKS, ZarrRows, is_zarr
from .pixel_size import GIVE_IT, read_pixel_size
from .resampling import resample_reader


def row_ranges(shape: tuple[int, int], pixels: int = 2**20) -> Iterator[tuple[int, int]]:
    """Divide the rows of an image of `shape` (H, W) into ranges (start, stop) of about so many pixels."""
    step = max(1, pixels // shape[1])
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def percentile_of_counts(counts: np.ndarray, percent: float, first: int = 0) -> float:
    """Return what `np.percentile` gives for pixels of which `counts[i]` have the value `first + i`."""
    ends = np.cumsum(counts)
    rank = (int(ends[-1]) - 1) * (percent / 100)
    below, above = (first + int(np.searchsorted(ends, end(rank), side="right")) for end in (math.floor, math.ceil))
    share = rank % 1  # interpolate from the nearer side, as NumPy does, to get the same bits
    return above - (above - below) * (1 - share) if share >= 0.5 else below + (above - below) * share


class Source(contextlib.AbstractContextManager):
    """An image that is read by rows; made by `open_source`, and a context manager that closes the file.

    Attributes:
        name: path of the file, or "image" for an array.
        shape: (H, W), pixels.
        dtype: of the rows: float32 where decimal numbers are stored, else uint8; as stored if `channels` are given.
        channels: how many are read as they are stored; None where rows are RGB.
        scale: height and width of a pixel, in pixels of the full image.
        scales: () -> by how much pixels are larger than those of the full image, for each level of a pyramid.
        part: what is read of which file; None for an array.
        identity: () -> dict for JSON, which differs from that of other images and of older versions of this one.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        stored: np.dtype,
        read: Callable[[int, int], np.ndarray],
        identity: Callable[[], dict],
        scale: tuple[float, float] = (1.0, 1.0),
        scales: Callable[[], list[float]] = lambda: [1.0],
        part: ImagePart | None = None,
        channels: int | None = None,
    ):
        if 0 in shape:
            raise UserError(name, f"has no pixels, {shape[0]} x {shape[1]} (rows x columns)", "Give another image")
        if stored.kind not in "biuf" or (stored.kind in "iu" and stored.itemsize > 2):
            remedy = "Scale it to 0-255 and store it as uint8, or to 0-65535 as uint16"
            raise UserError(name, f"holds {stored.name}, which cannot be read by rows", remedy)
        if channels is not None:
            pictures.check_stored(name, stored, channels)
        self.name, self.shape, self.channels = name, shape, channels
        self.dtype = stored if channels is not None else np.dtype(np.float32 if stored.kind == "f" else np.uint8)
        self.identity, self._stored, self._read, self._limits, self.scale = identity, stored, read, None, scale
        self.scales, self.part = scales, part
        self._closing = contextlib.ExitStack()

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._closing.close()

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop - 1` as `(stop - start, W, 3)`: uint8 RGB, or float32 as stored.

        Where channels are read as they are stored, rows are `(stop - start, W, C)` uint8 or uint16.

        The first call for 8- or 16-bit integers other than uint8 reads the whole image once, chunk by chunk, for the
        percentiles that they are scaled by.

        Raises:
            UserError: a strip or tile of these rows is damaged, or a number is not finite.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise ValueError(f"rows {start} to {stop} are not within the {self.shape[0]} rows of {self.name}")
        rows = self._read(start, stop)
        if self.channels is not None:
            return np.ascontiguousarray(rows)
        if self.dtype == np.float32:
            with np.errstate(over="ignore"):  # becomes infinite, which is told below
                rows = rows.astype(np.float32, copy=False)
            finite = np.isfinite(rows)
            if not finite.all():
                row, column, channel = np.unravel_index(finite.argmin(), finite.shape)
                state = "not a number" if np.isnan(rows[row, column, channel]) else "infinite in float32"
                pixel = f"pixel (row {start + row}, column {column}) is {state}"
                raise UserError(self.name, pixel, "Replace such pixels, for instance by 0")
        elif rows.dtype == bool:  # of an array
            rows = rows.astype(np.uint8) * 255
        elif rows.dtype != np.uint8:
            rows = pictures.scale_to_uint8(rows, *self.measure())
        return cv2.cvtColor(rows, cv2.COLOR_GRAY2RGB) if rows.shape[2] == 1 else np.ascontiguousarray(rows)

    def measure(self, known: tuple[float, float] | None = None) -> tuple[float, float] | None:
        """The values that become 0 and 255, which takes a pass over the whole image unless they are `known` from one.

        None for 8-bit and decimal numbers and for channels as they are stored, which are not scaled.
        """
        if known is not None:
            self._limits = known
        elif self.channels is None and self.dtype == np.uint8 and self._stored.kind != "b" and self._stored != np.uint8:
            self._limits = self._limits or self._find_limits()
        return self._limits

    def read_stored(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop - 1` as `(stop - start, W, 1 or 3)`, in the numbers of the file: not scaled."""
        return self._read(start, stop)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows, (start, stop), with which a pass over the image needs little memory."""
        return row_ranges(self.shape)

    def _find_limits(self) -> tuple[float, float]:
        """Return the values that become 0 and 255 by the rules of `pictures.read_image`."""
        first, counts = int(np.iinfo(self._stored).min), np.zeros(2 ** (8 * self._stored.itemsize), np.int64)
        for start, stop in self.chunks():
            counts += np.bincount(self._read(start, stop).ravel().astype(np.intp) - first, minlength=counts.size)
        low, high = (percentile_of_counts(counts, percent, first) for percent in pictures.PERCENTILES)
        if low == high:
            low, high = (float(first + value) for value in np.flatnonzero(counts)[[0, -1]])
        return low, high


def open_source(image: np.ndarray | Image, stored: bool = False) -> Source:
    """Open an image of any size for reading by rows.

    Args:
        image: an array or memory map, (H, W) or (H, W, C) with 1 to 4 channels: bool, integers of up to 16 bits or
            floats. Or a file of such numbers: .npy; TIFF, of which only the strips or tiles are decoded that the rows
            touch; OME-Zarr, of which only such chunks are, and which may lie at an address (https, s3, gs); or PNG,
            JPEG or BMP, which are decoded whole. Or an `ImagePart`: a level of a slide, or a slide at another size of
            pixel.
        stored: all channels of an array are read as they are; of a file, `ImagePart.stored` says so.

    Channels and values follow the rules of `pictures.read_image`, except that floats are allowed, and stay as they are.
    What was done to the file is told on stderr, once per file.

    Raises:
        UserError: the file cannot be opened, is cut, damaged or not an image, or has several pages or other numbers.
    """
    if not is_named(image):
        array = np.asarray(image)
        return _array_source("image", lambda: array, lambda: _describe_array(array), stored=stored)
    part = part_of(image)
    return _open_part(part) if part.mpp is None else _open_resampled(part)


def read_whole(part: ImagePart) -> np.ndarray:
    """As `pictures.read_image`, and also at another size of pixel."""
    if part.mpp is None:
        return pictures.read_channels(part, part.channels) if part.stored else pictures.read_image(part)
    with open_source(part) as source:
        return source.read_rows(0, source.shape[0])


def hash_part(part: ImagePart) -> str | dict:
    """What tells an image from others: the SHA-256 of its file, and which part of it is read if that is not all."""
    content = _hash_zarr(part.path, ZarrRows(part)) if is_zarr(part.path) else hash_file(part.path)
    chosen = _chosen(part)
    return {"file": content, **chosen} if chosen else content


def _open_part(part: ImagePart) -> Source:
    path = part.path
    if is_zarr(path):
        rows = ZarrRows(part)
        return _rows_source(part, rows, _identity(part, _hash_zarr(path, rows)))
    require_file(path)
    try:
        with path.open("rb") as file:
            start, stat = file.read(8), os.fstat(file.fileno())
    except OSError as error:
        raise UserError(path, f"cannot be opened ({error.strerror})", "Check its name and permissions") from error
    about = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    identity = _identity(part, about | {"sha256_of_samples": _hash_samples(path, stat.st_size)})
    if pictures.SIGNATURES.get(start[:4]) == "TIFF":
        return _rows_source(part, TiffRows(part, path), identity)
    require_single(part)
    if start.startswith(b"\x93NUMPY"):  # mapped anew for each read, so that no page of it stays in memory
        return _array_source(str(path), lambda: _map(path), identity, part)
    picture = pictures.decode(replace(part, channels=None))
    tell_notes(path, picture.notes)
    return _array_source(str(path), lambda: picture.pixels, identity, part)


def _identity(part: ImagePart, about: dict) -> Callable[[], dict]:
    """What tells an image from others: its path, facts about the file, and which part of it is read."""
    identity = {"path": str(absolute(part.path)), **about, **_chosen(part)}
    return identity.copy


def _chosen(part: ImagePart) -> dict:
    """What is asked for beside the whole image."""
    whole = vars(ImagePart(part.path))
    return {name: value for name, value in vars(part).items() if value != whole[name]}


def _open_resampled(part: ImagePart) -> Source:
    """The image at a given size of pixel, from the level with the largest pixels that are not larger than that."""
    full = replace(part, mpp=None)
    own = read_pixel_size(full)
    if own is None:
        problem = f"does not say how large its pixels are, so that it cannot be resampled to {part.mpp} µm"
        raise UserError(part.path, problem, f"{GIVE_IT}, or choose a level")
    with _open_part(full) as source:
        scales = source.scales()
    level = max(number for number, scale in enumerate(scales) if number == 0 or own * scale <= part.mpp * 1.001)
    source = _open_part(replace(full, level=level))
    factor = part.mpp / (own * scales[level])
    if abs(factor - 1) < 1e-3:
        return source
    read, shape = resample_reader(source._read, source.shape, source._stored, factor)
    before, after = np.array(source.shape), np.array(shape)
    scale = tuple((source.scale * before / after).tolist())
    identity = _identity(part, source.identity())
    resampled = Source(source.name, shape, source._stored, read, identity, scale, part=part, channels=source.channels)
    resampled._closing.callback(source.close)
    tell_notes(part.path, (f"resampled from {own * scales[level]:.4g} to {part.mpp:.4g} µm per pixel",))
    return resampled


def _map(path: Path) -> np.ndarray:
    """Map a .npy file as (H, W) or (H, W, C) into memory."""
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(path, f"is cut or damaged ({error})", COPY_AGAIN) from error


def _describe_array(array: np.ndarray) -> dict:
    digest = hashlib.sha256()
    for start, stop in row_ranges(array.shape[:2]):
        digest.update(np.ascontiguousarray(array[start:stop]))
    return {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest.hexdigest()}


def _hash_zarr(folder: Path, rows: ZarrRows) -> dict:
    """Of an OME-Zarr: its descriptions, and names, sizes and times of all chunks, which are too many to be read.

    At an address, where chunks cannot always be listed, it is the description alone.
    """
    if address_of(folder):
        description = json.dumps(rows.description, sort_keys=True, default=str)
        return {"sha256_of_description": hashlib.sha256(description.encode()).hexdigest()}
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        if path.name in MARKS:
            digest.update(path.read_bytes())
    return {"sha256_of_chunks": digest.hexdigest()}


def _hash_samples(path: Path, size: int) -> str:
    """SHA-256 of a file of up to 64 MiB, or of 1,024 blocks of a larger one: size and time may stay when it changes."""
    block, count = 2**16, 2**10
    digest, step = hashlib.sha256(), max(block, size // count)
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            digest.update(file.read(block))
    return digest.hexdigest()


def _array_source(
    name: str,
    get: Callable[[], np.ndarray],
    identity: Callable[[], dict],
    part: ImagePart | None = None,
    stored: bool = False,
) -> Source:
    shape, dtype, stored = get().shape, get().dtype, stored or (part is not None and part.stored)
    if len(shape) not in (2, 3) or (len(shape) == 3 and not stored and not 1 <= shape[2] <= 4):
        remedy = "Give (rows, columns), or (rows, columns, channels) with 1 to 4 channels"
        raise UserError(name, f"has the shape {shape}", remedy)
    there = shape[2] if len(shape) == 3 else 1
    chosen = slice(3 if there >= 3 else 1)
    if stored:
        if part is not None:
            pictures.check_channels(part, there)
        chosen = list(range(there) if part is None or part.channels is None else part.channels)
    channels = len(chosen) if stored else None

    def read(start: int, stop: int) -> np.ndarray:
        return np.array(np.atleast_3d(get()[start:stop])[..., chosen])  # a copy; the map closes

    return Source(name, shape[:2], dtype, read, identity, part=part, channels=channels)


def _rows_source(part: ImagePart, rows: TiffRows | ZarrRows, identity: Callable[[], dict]) -> Source:
    with contextlib.ExitStack() as stack:
        stack.callback(rows.close)
        name = address_of(part.path) or part.path  # A path, as everywhere: notes are told once for each name.
        about = (rows.scale, rows.scales, part, rows.colours if part.stored else None)
        source = Source(str(name), rows.shape, rows.dtype, rows.read, identity, *about)
        tell_notes(name, tuple(rows.notes))
        source._closing = stack.pop_all()
        return source
