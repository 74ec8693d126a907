"""The orientation tag of TIFF files and photographs: read, told, never applied.

Masks are drawn on the stored pixels by some programs, and on what viewers show by others. Nothing in the files tells
which, so pixels stay as stored, and the user is told.
"""

import functools
import logging
import os
import struct

SHOWN = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored along the diagonal",
    6: "turned by 90 degrees clockwise",
    7: "mirrored along the other diagonal",
    8: "turned by 90 degrees anticlockwise",
}
_log = logging.getLogger(__name__)


def orientation_note(tag: int) -> list[str]:
    """Words for a tag other than 1, in a list, which is empty otherwise."""
    return [f"orientation tag {tag} is not applied: viewers show it {SHOWN[tag]}"] if tag in SHOWN else []


@functools.cache
def warn_of_orientation(path: str | os.PathLike, tag: int) -> None:
    """Tell on stderr, once per file, that its orientation tag is not applied."""
    for note in orientation_note(tag):
        _log.warning("%s: %s", path, note)


def orientation_of_exif(exif: bytes) -> int:
    """Read the tag from EXIF data, which begin with II or MM; 1 if there is none, or nothing that makes sense."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == 274:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, entry + 8)
                return value
    except struct.error:
        pass
    return 1
