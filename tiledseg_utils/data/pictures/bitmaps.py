"""PNG, JPEG and BMP files: their numbers as stored, and a sentence for the user if they are damaged."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np

from ...base.files import UserError
from . import jpeg
from .orientation import orientation_notes, orientation_of_exif
from .stored import Stored, look_up

PNG_START = b"\x89PNG\r\n\x1a\n"
GREY_TABLE = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)  # each number is its own colour
BMP_MASKS = (0xFF0000, 0xFF00, 0xFF)  # bits of red, green and blue


def read_bitmap(path: Path, data: bytes, kind: str) -> Stored:
    """Decode the content of a PNG, JPEG or BMP file.

    Raises:
        UserError: it is cut short, damaged, animated, or of a kind that is not read.
    """
    try:
        return {"PNG": _read_png, "JPEG": _read_jpeg, "BMP": _read_bmp}[kind](path, data)
    except (ValueError, KeyError, RuntimeError, struct.error, cv2.error, MemoryError) as error:  # of all decoders
        if isinstance(error, UserError):
            raise
        if isinstance(error, jpeg.CutError):
            problem = f"is a {kind} file that is cut short or damaged"
            raise UserError(path, problem, "Copy it again from its source") from error
        reason = str(error) if isinstance(error, (ValueError, RuntimeError)) else "it cannot be decoded"
        problem = f"is cut short, damaged, or a rare kind of {kind} ({reason})"
        raise UserError(path, problem, "Copy it again, or save it as PNG") from error


def _of_channels(pixels: np.ndarray, orientation: int = 1, is_jpeg: bool = False) -> Stored:
    """What (H, W) or (H, W, C) pixels hold: grey, grey and alpha, RGB or RGBA."""
    pixels = np.atleast_3d(pixels)
    channels = pixels.shape[2]
    used = 3 if channels >= 3 else 1
    alpha = pixels[..., -1] if channels in (2, 4) else None
    about = {"bits": 8 * pixels.dtype.itemsize, "dropped": channels - used}
    about |= {"orientation": orientation, "notes": orientation_notes(orientation)}
    return Stored(pixels[..., :used], channels, is_jpeg, alpha, **about)


# ---------------------------------------------------------------- JPEG


def _read_jpeg(path: Path, data: bytes) -> Stored:
    orientation = jpeg.orientation(data)  # raises CutError
    damage = jpeg.find_damage(data)
    if damage:
        raise ValueError(damage)
    return _of_channels(_decode(data), orientation, is_jpeg=True)


def _decode(data: bytes, flag: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise ValueError("no picture is found in it")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return pixels


# ---------------------------------------------------------------- PNG


def _read_png(path: Path, data: bytes) -> Stored:
    chunks = list(_chunks(data))
    found = dict(reversed(chunks))  # of several, the first
    if b"acTL" in found:
        (frames,) = struct.unpack_from(">I", found[b"acTL"])
        problem = f"is an animated PNG of {frames} pictures"
        raise UserError(path, problem, "Save the one that you want as a file of its own")
    header = found[b"IHDR"] if chunks[0][0] == b"IHDR" else b""
    width, height, bits, colours = struct.unpack_from(">IIBB", header)
    orientation = orientation_of_exif(found.get(b"eXIf", b""))
    if colours != 3:
        return _of_channels(imagecodecs.png_decode(data), orientation)
    # With a table in which each number is its own colour, the decoder gives the numbers.
    table = np.frombuffer(found[b"PLTE"], np.uint8).reshape(-1, 3)
    kept = [(name, content) for name, content in chunks if name in (b"IHDR", b"IDAT", b"IEND")]
    kept.insert(1, (b"PLTE", GREY_TABLE[: 2**bits].tobytes()))
    numbers = imagecodecs.png_decode(PNG_START + b"".join(_chunk(*chunk) for chunk in kept))
    numbers = numbers.reshape(height, width, -1)[..., 0]
    pixels, indices = look_up(path, numbers, table)
    alpha = None
    if b"tRNS" in found:  # of the first colours; the others are opaque
        alpha = np.frombuffer(found[b"tRNS"].ljust(256, b"\xff"), np.uint8)[numbers]
    return Stored(pixels, 3, False, alpha, indices, orientation=orientation, notes=orientation_notes(orientation))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the chunks of a PNG up to its end, whatever follows that."""
    position, name = len(PNG_START), b""
    while name != b"IEND":
        start = position + 8
        length, name = struct.unpack_from(">I4s", data.ljust(start, b"\0")[:start], position)
        content, position = data[start : start + length], start + length + 4
        if not name.isalpha() and start <= len(data):
            raise ValueError("bytes between its chunks")
        if position > len(data):
            raise jpeg.CutError
        is_sound = zlib.crc32(name + content) == int.from_bytes(data[position - 4 : position], "big")
        if is_sound:
            yield name, content
        elif name[:1].isupper():  # without the others, it is still the picture
            raise ValueError(f"the checksum of its {name.decode('ascii')} is wrong")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


# ---------------------------------------------------------------- BMP


def _read_bmp(path: Path, data: bytes) -> Stored:
    size = struct.unpack_from("<I", data, 14)[0]
    is_old = size == 12  # of OS/2
    (bits,) = struct.unpack_from("<H", data, 24 if is_old else 28)
    if bits not in (1, 4, 8, 24, 32):
        raise ValueError(f"{bits} bits per pixel")
    has_masks = not is_old and struct.unpack_from("<I", data, 30)[0] in (3, 6)
    if has_masks and struct.unpack_from("<III", data, 54) != BMP_MASKS:
        raise ValueError("its colours are in another order than usual")
    if bits > 8:
        return _of_channels(_decode(data, cv2.IMREAD_COLOR if is_old else cv2.IMREAD_UNCHANGED))
    per_colour, start = (3, 26) if is_old else (4, 14 + size)
    count = min(2**bits, (struct.unpack_from("<I", data, 10)[0] - start) // per_colour)
    if not is_old:
        count = min(count, struct.unpack_from("<I", data, 46)[0] or count)
    stop = start + count * per_colour
    table = np.frombuffer(data[start:stop], np.uint8).reshape(count, per_colour)
    numbered = np.zeros_like(table)
    numbered[:, :3] = GREY_TABLE[:count]  # so the decoder gives the numbers
    numbers = _decode(data[:start] + numbered.tobytes() + data[stop:])
    pixels, indices = look_up(path, numbers if numbers.ndim == 2 else numbers[..., 0], table[:, 2::-1])
    return Stored(pixels, 3, False, indices=indices)
