"""JPEG: damage that decoders pass over, and the orientation that a camera recorded.

Decoders fill what they cannot interpret with grey or shifted colours, and only warn. Here, a warning is an error.
Damage that can be decoded as another picture is not found, because JPEG has no checksum.
"""

import re
from collections.abc import Iterator

import simplejpeg

from .orientation import orientation_of_exif

# Pixels with markers of their own (D0 to D7 restart the decoder), until the marker that ends them.
_AFTER_PIXELS = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
START_OF_PIXELS, END, TABLES, APP1, EXIF = 0xDA, 0xD9, 0xC4, 0xE1, b"Exif\0\0"
SEQUENTIAL = (0xC0, 0xC1)
ZEROS = bytes(16)


class CutError(ValueError):
    """The data end before their end marker."""


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk over the segments of a JPEG up to its end marker, whatever follows that.

    Yields:
        marker, start and stop of the content of each; that of `START_OF_PIXELS` reaches to the next marker.

    Raises:
        ValueError: there is something else between them.
        CutError: there is no end marker.
    """
    position = 2
    while position + 4 <= len(data) or data[position : position + 2] == b"\xff\xd9":
        if data[position] != 0xFF:
            raise ValueError("bytes between its segments")
        marker = data[position + 1]
        if marker == 0xFF:  # fills up
            position += 1
            continue
        if marker == END:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        start = position + 4
        stop = position + 2 + int.from_bytes(data[position + 2 : start], "big")
        if marker == START_OF_PIXELS:
            after = _AFTER_PIXELS.search(data, stop)
            if after is None:
                break
            stop = after.start()
        yield marker, start, stop
        position = stop
    raise CutError("no end marker")


def find_damage(data: bytes) -> str:
    """Return what is wrong with a JPEG, or an empty string.

    This finds a missing end, whatever libjpeg warns of (pixels that end too soon or go on after the last one, codes
    without a meaning, a wrong restart marker), and zeros in place of pixels.
    """
    try:
        if any(_is_zeroed(data, *place) for place in _pixels(data)):
            return "zeros in place of pixels"
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        colours = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
        # An eighth of the size: fewer pixels to make.
        simplejpeg.decode_jpeg(data, colours, min_height=1, min_width=1, min_factor=8)
    except IndexError:
        return "a segment that is too short"
    except ValueError as error:
        return str(error)
    return ""


def _pixels(data: bytes) -> Iterator[tuple[int, int, list[int]]]:
    """Start and stop of each part with pixels, and what a zero bit stands for in each of its channels."""
    meaning, sequential = {}, False
    for marker, start, stop in segments(data):
        if marker in SEQUENTIAL:
            sequential = True
        elif marker == TABLES:
            while start + 17 < stop:  # which table, how many codes of 1 to 16 bits, what each stands for
                meaning[data[start]] = data[start + 17]
                start += 17 + sum(data[start + 1 : start + 17])
        elif marker == START_OF_PIXELS and sequential:
            count = data[start]
            tables = [0x10 | data[start + 2 + 2 * channel] & 15 for channel in range(count)]
            yield start, stop, [meaning.get(table, 0) for table in tables]


def _is_zeroed(data: bytes, start: int, stop: int, meanings: list[int]) -> bool:
    """Whether bytes were zeroed: many zero bits make sense only if they say "no more details" in every channel."""
    return any(meanings) and data.find(ZEROS, start, stop) >= 0


def orientation(data: bytes) -> int:
    """The orientation tag of the EXIF data, 1 if there is none; raises as `segments`."""
    contents = [data[start:stop] for marker, start, stop in segments(data) if marker == APP1]
    found = [content.removeprefix(EXIF) for content in contents if content.startswith(EXIF)]
    return orientation_of_exif(found[0]) if found else 1
