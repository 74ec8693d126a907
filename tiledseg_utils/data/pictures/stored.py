"""What a picture file holds, before it becomes an image or a mask."""

import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...base.files import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """What a file holds: integers `(H, W, 1)` or `(H, W, 3)` RGB, and its count of channels before any were dropped.

    Where channels are asked for as they are stored, there may be any number of them: `(H, W, C)`.

    Masks also need what images drop: `alpha`, `(H, W)`, the transparency if there is one, and `indices`, `(H, W)`, the
    stored numbers of a file whose colour table has more than greys. `is_jpeg`: compressed with loss. `white_is_zero`:
    stored as a negative, which `pixels` is not. `bits`: of each number in the file. `dropped`: the count of channels
    that hold no colours. `orientation`: the tag, 1 to 8, which is not applied. `notes` tell the user what was done to
    the file.
    """

    pixels: np.ndarray
    channels: int
    is_jpeg: bool
    alpha: np.ndarray | None = None
    indices: np.ndarray | None = None
    white_is_zero: bool = False
    bits: int = 8
    dropped: int = 0
    orientation: int = 1
    notes: tuple[str, ...] = ()


def look_up(path: Path, numbers: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the colours of numbers by a table, and the numbers too, unless all colours that occur are grey."""
    if numbers.max() >= len(table):
        raise UserError(path, f"has colour {numbers.max()} of a table of {len(table)} colours", "Save it as RGB")
    occurring = table[np.unique(numbers)]
    if (occurring == occurring[:, :1]).all():
        return table[numbers][..., :1], None
    return table[numbers], numbers


@functools.cache
def tell_notes(path: str | os.PathLike, notes: tuple[str, ...]) -> None:
    """Tell on stderr, once per file, what was done to it, or left undone."""
    for note in notes:
        _log.warning("%s: %s", path, note)
