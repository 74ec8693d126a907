"""Rows of a TIFF: the strips and tiles that they touch are decoded, and the numbers become grey or RGB.

Whole images and rows go through the same steps here, so that they cannot differ. `data/README.md` lists what is done to
each kind of file.
"""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import tifffile
from tifffile import PHOTOMETRIC

from ...base.files import UserError
from . import jpeg
from .orientation import orientation_notes
from .part import Image, ImagePart, check_channels, part_of
from .stored import tell_notes
from .tiff_levels import scales
from .tiff_pages import COLOURS, JPEG, JPEG_2000, WEBP, damaged, open_page, segment_size

COPY_AGAIN = "Copy it again from its source"
PREMULTIPLIED = 1  # kind of an extra channel (tag ExtraSamples)
CHUNK = 2**20  # pixels
CCITT = (2, 3, 4)  # numbers of compressions


class TiffRows:
    """The picture of a TIFF, read by rows; close it after use.

    Attributes:
        shape: (H, W), pixels.
        dtype: of what `read` gives: uint8, or as stored if that has more than 8 bits, has a sign, or is decimal.
        bits: of each number in the file.
        channels: in the file; the first `colours` of them are read, the others are alpha, further stains, ...
        is_lossy: it is compressed with loss, as by JPEG.
        white_is_zero: it is stored as a negative, which `read` turns back.
        orientation: the tag, 1 to 8, which is not applied.
        palette: (n, 3) uint8, the colour table, or None.
        scale: height and width of a pixel, in pixels of the full image.
        notes: for the user.
    """

    def __init__(self, image: Image, source: str | os.PathLike | BinaryIO):
        """Open a TIFF, whose content is in `source`; the path of `image` is the name for errors.

        Raises:
            UserError: as for `tiff_pages.open_page`, or where it is partly transparent with premultiplied colours.
        """
        part = part_of(image)
        path = part.path
        self._page = open_page(path, source, part.level, part.series, part.stored)
        self.path, page, self._photometric = path, self._page.tags, self._page.photometric
        self._part = part
        try:
            self._start(page, source)
        except UserError:
            self.close()
            raise
        except Exception as error:  # every layer of tifffile raises its own kind for bytes that make no sense
            self.close()
            raise damaged(path, error) from error

    def _start(self, page: tifffile.TiffPage, source: str | os.PathLike | BinaryIO) -> None:
        self.shape, self.channels, self.scale = page.shaped[2:4], page.samplesperpixel, self._page.scale
        if self._page.planes:
            self.channels = len(self._page.planes)
        self.white_is_zero = self._photometric == PHOTOMETRIC.MINISWHITE
        self.orientation = page.tags.valueof(274, 1)
        self.palette = _palette(page) if self._photometric == PHOTOMETRIC.PALETTE else None
        is_rgb = self._photometric == PHOTOMETRIC.MINISBLACK and self.channels >= 3
        self.colours = 3 if is_rgb else COLOURS[self._photometric]
        self._chosen = self._choose_channels(self._part)
        self.bits = page.bitspersample
        is_small = self.bits < 8 or page.dtype == np.uint8 or self.palette is not None
        self.dtype = np.dtype(np.uint8) if is_small else page.dtype
        pages = self._page.planes or [page]
        segments = [_Segments(self.path, each, source, self._part.keep_going) for each in pages]
        self._segments = _Planes(segments) if self._page.planes else segments[0]
        self.is_lossy = page.compression == JPEG or self._segments.is_lossy()
        self.notes = [*self._page.notes, *orientation_notes(self.orientation)]
        self.notes += ["WhiteIsZero, inverted"] * self.white_is_zero
        self.notes += ["CMYK, converted to RGB"] * (self._photometric == PHOTOMETRIC.SEPARATED)
        self.notes += self._segments.notes()
        extra = tuple(page.extrasamples)
        if PREMULTIPLIED in extra:
            self._refuse_premultiplied(self.channels - len(extra) + extra.index(PREMULTIPLIED))

    def _choose_channels(self, part: ImagePart) -> list[int]:
        """The channels that are read; `colours` becomes their number."""
        if part.channels is None and not part.stored:
            return list(range(self.colours))
        if self._photometric not in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
            problem = "has colours that are mixed from all its channels, and some channels are asked for"
            raise UserError(self.path, problem, "Leave out channels")
        check_channels(part, self.channels)
        chosen = list(range(self.channels) if part.channels is None else part.channels)
        self.colours = len(chosen)
        return chosen

    def _refuse_premultiplied(self, channel: int) -> None:
        """Raise a UserError where the colours are scaled by a transparency, which cannot be undone."""
        opaque = 2**self.bits - 1
        for start, stop in self._chunks():
            clear = self._segments.read(start, stop, [channel])[..., 0] != opaque
            if clear.any():
                row, column = np.argwhere(clear)[0].tolist()
                problem = f"is partly transparent (at row {start + row}, column {column}), its colours scaled by that"
                raise UserError(self.path, problem, "Save it without transparency, or with unassociated alpha")

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows, (start, stop), that are whole strips or tiles."""
        step = max(1, CHUNK // self.shape[1] // segment_size(self._page.tags)[0]) * segment_size(self._page.tags)[0]
        for start in range(0, self.shape[0], step):
            yield start, min(start + step, self.shape[0])

    def close(self) -> None:
        self._page.file.close()

    def scales(self) -> list[float]:
        """By how much pixels are larger than those of the full image, for each level of the pyramid."""
        return scales(self._page.picture)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop - 1` as `(stop - start, W, 1 or 3)`, grey or RGB; any number if `stored`.

        Raises:
            UserError: a strip or tile of these rows is damaged.
        """
        return self._to_colours(self._segments.read(start, stop, self._chosen))

    def read_all(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Read all rows, and the transparency, `(H, W)` as stored, if there is one.

        The rows are `(H, W, 1 or 3)`, grey or RGB; of a file with a colour table, its numbers, `(H, W, 1)`.
        """
        channels, alpha, stored = list(self._chosen), None, self._page.tags.dtype
        is_numbered = self.palette is not None
        used = self.colours if self._part.stored else 3 if self.colours >= 3 else 1
        whole = _allocate(self.path, (*self.shape, used), stored if is_numbered and self.bits > 8 else self.dtype)
        is_picture = self._part.channels is None and not self._part.stored
        clear = self._alpha_channel() if is_picture else None
        if clear is not None:
            channels.append(clear)
            alpha = _allocate(self.path, self.shape, stored)
        for start, stop in self._chunks():
            rows = self._segments.read(start, stop, channels)
            colours = rows[..., : self.colours]
            whole[start:stop] = colours if is_numbered else self._to_colours(colours)
            if alpha is not None:
                alpha[start:stop] = rows[..., -1]
        return whole, alpha

    def _alpha_channel(self) -> int | None:
        """The channel that is marked as transparency, or the only one beside the colours, which may be it."""
        extra = tuple(self._page.tags.extrasamples)
        marked = [self.channels - len(extra) + index for index, kind in enumerate(extra) if kind in (1, 2)]
        likely = [self.colours] if self.channels == self.colours + 1 else []
        return next(iter(marked + likely), None)

    def _to_colours(self, rows: np.ndarray) -> np.ndarray:
        if self.palette is not None:
            return self.palette[rows[..., 0].astype(np.intp)]
        if self._photometric == PHOTOMETRIC.SEPARATED:
            return _cmyk_to_rgb(rows)
        if self._photometric == PHOTOMETRIC.YCBCR and not self._segments.gives_rgb:
            return _ycbcr_to_rgb(rows)
        if self.white_is_zero:
            rows = ~rows if rows.dtype == bool else (2**self.bits - 1) - rows
        return rows.astype(np.uint8) * (255 // (2**self.bits - 1)) if self.bits < 8 else rows


def _palette(page: tifffile.TiffPage) -> np.ndarray:
    """The colour table, (n, 3) uint8. It is stored in 16 bits, but some programs only fill the lower 8."""
    table = np.asarray(page.colormap if page.colormap.ndim == 2 else page.colormap.reshape(3, -1))
    if table.shape[1] < 2**page.bitspersample:
        raise ValueError(f"a colour table of {table.shape[1]} colours")
    return (table >> 8 if table.max() > 255 else table).astype(np.uint8).T.copy()


def _cmyk_to_rgb(inks: np.ndarray) -> np.ndarray:
    """Convert (H, W, 4) uint8, 255 = full ink, to (H, W, 3) RGB, as if each ink absorbed one colour."""
    light = 255 - inks.astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _ycbcr_to_rgb(rows: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) uint8 of the full range to RGB (TIFF 6.0, section 21)."""
    luminance, blue, red = np.moveaxis(rows.astype(np.float32) - np.float32([0, 128, 128]), -1, 0)
    green = luminance - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
    colours = np.stack([luminance + 1.402 * red, green, luminance + 1.772 * blue], axis=-1)
    return np.rint(colours).clip(0, 255).astype(np.uint8)


def _allocate(path: str | os.PathLike, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        size = f"{shape[0]} x {shape[1]} pixels (rows x columns)"
        raise UserError(path, f"has {size}, which do not fit into memory", "Cut it into smaller images") from error


class _Planes:
    """Channels that have a page each, as the channels of one picture."""

    gives_rgb = False

    def __init__(self, planes: Sequence["_Segments"]):
        self.planes = planes

    def notes(self) -> list[str]:
        return [note for plane in self.planes for note in plane.notes()]

    def is_lossy(self) -> bool:
        return any(plane.is_lossy() for plane in self.planes)

    def read(self, start: int, stop: int, channels: Sequence[int]) -> np.ndarray:
        """Read rows as `(stop - start, W, len(channels))` of the stored dtype."""
        return np.concatenate([self.planes[channel].read(start, stop, [0]) for channel in channels], axis=-1)


class _Segments:
    """The strips or tiles of a TIFF; those of the last rows are kept, since the next rows may touch them, too."""

    def __init__(
        self, path: Path, page: tifffile.TiffPage, source: str | os.PathLike | BinaryIO, keep_going: bool = False
    ):
        self.path, self.page, self.keep_going, self.kept = path, page, keep_going, {}
        planes, _, *self.shape, self.samples = page.shaped
        self.in_planes = planes > 1
        self.size = segment_size(page)
        self.down, self.across = (-(-whole // part) for whole, part in zip(self.shape, self.size, strict=True))
        # The decoder of JPEG turns luminance and colours into RGB by itself, unless each has a plane of its own.
        self.gives_rgb = page.compression == JPEG and not self.in_planes
        # Uncompressed rows, one after another, are mapped; the map closes after each read, to stay out of memory.
        self.mapped = Path(source) if page.is_final and isinstance(source, (str, os.PathLike)) else None
        if page.is_final and sum(page.databytecounts) < page.nbytes:
            raise ValueError(f"{sum(page.databytecounts)} bytes of pixels instead of {page.nbytes}")

    def notes(self) -> list[str]:
        missing = sum(size == 0 for size in self.page.databytecounts)
        total = len(self.page.databytecounts)
        return [f"{missing} of {total} tiles are not in the file, taken as {self.page.nodata}"] if missing else []

    def is_lossy(self) -> bool:
        """Whether JPEG 2000 or WebP, which can be either, are stored with loss."""
        stored = [index for index, size in enumerate(self.page.databytecounts) if size]
        if self.page.compression not in JPEG_2000 + WEBP or not stored:
            return False
        data = self._bytes(stored[0])
        return not _coding(data)[1] if self.page.compression in JPEG_2000 else data[12:16] == b"VP8 "

    def read(self, start: int, stop: int, channels: Sequence[int]) -> np.ndarray:
        """Read rows as `(stop - start, W, len(channels))` of the stored dtype."""
        channels = list(channels)
        if self.mapped is not None:
            return self._read_mapped(start, stop, channels)
        out = _allocate(self.path, (stop - start, self.shape[1], len(channels)), self.page.dtype)
        touched = range(start // self.size[0], (stop - 1) // self.size[0] + 1)
        wanted = [
            (plane, (plane * self.down + row) * self.across + column)
            for plane, row, column in itertools.product(
                sorted(set(channels)) if self.in_planes else [0], touched, range(self.across)
            )
        ]
        self.kept = {index: self.kept[index] for _, index in wanted if index in self.kept}
        for plane, index in wanted:
            if index not in self.kept:
                self.kept[index] = self._decode(index)
            top, left = self._position(index)
            target = out[max(top - start, 0) : top + self.size[0] - start, left : left + self.size[1]]
            # In planes, a segment holds one channel, which may be wanted more than once.
            places = slice(None)
            if self.in_planes:
                places = [place for place, channel in enumerate(channels) if channel == plane]
            segment, first = self.kept[index], max(start - top, 0)
            if segment is None:  # left out of the file
                target[..., places] = self.page.nodata
            else:  # cut off what reaches over the edge
                part = segment[first : first + target.shape[0], : target.shape[1]]
                target[..., places] = part if self.in_planes else part[..., channels]
        return out

    def _read_mapped(self, start: int, stop: int, channels: list[int]) -> np.ndarray:
        planes, _, height, width, samples = self.page.shaped
        dtype = self.page.dtype.newbyteorder(self.page.parent.byteorder)
        try:
            pixels = np.memmap(self.mapped, dtype, "r", self.page.dataoffsets[0], (planes, height, width, samples))
        except (OSError, ValueError) as error:
            raise UserError(self.path, f"is cut or damaged ({error})", COPY_AGAIN) from error
        rows = np.moveaxis(pixels[:, start:stop, :, 0], 0, -1) if planes > 1 else pixels[0, start:stop]
        rows = rows[..., channels]
        return np.ascontiguousarray(rows, self.page.dtype)

    def _position(self, index: int) -> tuple[int, int]:
        """Return first row and first column of a segment."""
        index %= self.down * self.across
        return index // self.across * self.size[0], index % self.across * self.size[1]

    def _bytes(self, index: int) -> bytes | None:
        offset, size = self.page.dataoffsets[index], self.page.databytecounts[index]
        self.page.parent.filehandle.seek(offset)
        return self.page.parent.filehandle.read(size) if size else None

    def _decode(self, index: int) -> np.ndarray | None:
        """Return a segment, (rows, columns, samples), that may reach over the edge of the image."""
        page = self.page
        try:
            data = self._bytes(index)
            if data is None:
                return None
            _check_segment(page, data, self._position(index)[0])
            segment = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
            if page.compression in CCITT:
                segment = segment.astype(bool)
            if segment.dtype != page.dtype:
                raise ValueError(f"{segment.dtype} instead of {page.dtype}")
        except Exception as error:  # every codec raises its own kind
            top, left = self._position(index)
            bottom, right = np.minimum((top + self.size[0], left + self.size[1]), self.shape) - 1
            problem = f"rows {top}-{bottom}, columns {left}-{right} cannot be decoded ({error})"
            if self.keep_going:
                tell_notes(self.path, (f"damaged: {problem}, taken as {page.nodata}",))
                return None
            raise UserError(self.path, f"is damaged: {problem}", COPY_AGAIN) from error
        return segment[0]


def _check_segment(page: tifffile.TiffPage, data: bytes, top: int) -> None:
    """Raise a ValueError for damage that decoders pass over."""
    if page.compression == JPEG:
        if page.jpegheader is not None:  # A piece between two restart marks, which end it, or the mark of the end.
            whole = page.jpegheader + data[:-2] + b"\xff\xd9"
        else:
            whole = page.jpegtables[:-2] + data[2:] if page.jpegtables else data
        problem = jpeg.find_damage(whole)
        if problem:
            raise ValueError(problem)
    elif page.compression in JPEG_2000:
        transformed, _ = _coding(data)
        if page.compression == 33003 and page.samplesperpixel >= 3 and page.planarconfig == 1 and not transformed:
            raise ValueError("YCbCr in JPEG 2000 (compression 33003) is not read: save it as RGB")
        if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
            raise ValueError("JPEG 2000 without its end")
    elif page.compression in (5, 32773):
        _check_length(page, data, top)


def _check_length(page: tifffile.TiffPage, data: bytes, top: int) -> None:
    """Raise a ValueError if LZW or PackBits, which have no checksum, give more or fewer bytes than the rows need."""
    unpack = imagecodecs.lzw_decode if page.compression == 5 else imagecodecs.packbits_decode
    size = len(unpack(imagecodecs.bitorder_decode(data) if page.fillorder == 2 else data))
    rows, columns = segment_size(page)
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    row = math.ceil(columns * samples * page.bitspersample / 8)
    left = rows if page.is_tiled else min(rows, page.imagelength - top)
    if size not in (rows * row, left * row):
        raise ValueError(f"{size} bytes instead of {left * row}")


def _coding(data: bytes) -> tuple[bool, bool]:
    """Of JPEG 2000: whether its colours were transformed, and whether it is stored without loss."""
    position = data.find(b"\xff\x4f\xff\x51") + 2
    while position >= 2 and data[position : position + 2] not in (b"\xff\x52", b""):  # to the style of coding
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    if position < 2 or len(data) < position + 14:
        raise ValueError("JPEG 2000 without its header")
    return bool(data[position + 8]), data[position + 13] == 1
