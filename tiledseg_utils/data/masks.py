"""Masks and instance labels: what a stored picture means as a mask, and a sentence for the user if it is not one.

The other modules see one kind of mask, `(H, W)` bool, or `(H, W)` int32 instance labels with 0 as the background.

What counts as a mask is decided here, by `to_mask`, for every file alike:

1. The background is 0. A file without any 0 is refused, unless it has one value only.
2. One value other than 0 makes a binary mask. The objects are its connected pieces (8 neighbours).
3. Several values other than 0 are instance labels if they look like objects: nearly every value is one piece, and
   hardly any piece is a sliver beside another one or lies within a rim. Compression, blur and interpolation leave many
   such pieces, a class lies in many places, and "do not count" (void) is a rim: each is refused by name.
4. A value in several pieces counts as several objects, whatever other values the file has.
5. The stored numbers of a file with a colour table are its values, and 0 must be the background. Where the table is
   grey, the greys that it shows are.
6. Transparency is ignored, unless it hides foreground or holds the whole shape.
7. A JPEG is a binary mask, thresholded above 127.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from skimage.measure import label

from ..base.files import UserError
from .pictures import Stored, decode, tell_notes

JPEG_GREY_LIMIT = 0.08  # share of 32-223. 24 real masks: 0; small cells at quality 30: 0.035; photographs: 0.1 and more

# For rule 3, shares of the values of a file. In 305 files with 13,360 real labels, at most 0.02 of them are in several
# pieces and 0.06 are slivers; in these reduced to a quarter, 0.13 and 0.42. Where a mask was compressed, blurred or
# interpolated, nearly all values are in several pieces, or else nearly all are slivers.
SPLIT_LIMIT, BETWEEN_LIMIT, BURIED_LIMIT = 0.25, 0.33, 0.25
VOID_VALUES = (255, 65535)


@dataclass(frozen=True)
class Pieces:
    """The connected pieces (8 neighbours) of equal values other than 0 of a picture.

    Attributes:
        numbers: (H, W) int, the number of the piece of each pixel from 1, 0 = background.
        values: (N + 1,) the value of each piece; the first entry is the background, here as below.
    """

    numbers: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Pieces":
        numbers = label(pixels, background=0, connectivity=2)
        values = np.zeros(int(numbers.max()) + 1, pixels.dtype)
        values[numbers] = pixels
        return cls(numbers, values)

    @cached_property
    def ids(self) -> np.ndarray:
        """The values other than 0, sorted."""
        return np.unique(self.values[1:])

    @cached_property
    def areas(self) -> np.ndarray:
        """Pixels of each piece."""
        return np.bincount(self.numbers.ravel(), minlength=len(self.values))

    @cached_property
    def borders(self) -> np.ndarray:
        """(M, 2) the numbers of every two pieces (or background) that touch by a side; each pair once, sorted."""
        pairs = []
        for first, second in _neighbours(self.numbers):
            differ = first != second
            a, b = first[differ].astype(np.int64), second[differ].astype(np.int64)
            pairs.append(np.unique(np.minimum(a, b) * len(self.values) + np.maximum(a, b)))
        return np.stack(np.divmod(np.unique(np.concatenate(pairs)), len(self.values)), axis=1)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """How many other pieces each piece touches."""
        between = self.borders[self.borders[:, 0] > 0]
        return np.bincount(between.ravel(), minlength=len(self.values))

    @cached_property
    def is_thin(self) -> np.ndarray:
        """Whether no pixel of a piece lies between four of the same."""
        inner = self.numbers > 0
        for (first, second), (own, other) in zip(_neighbours(self.numbers), _neighbours(inner), strict=True):
            differ = first != second
            own[differ] = other[differ] = False
        return np.bincount(self.numbers[inner], minlength=len(self.values)) == 0

    @cached_property
    def is_cut(self) -> np.ndarray:
        """Whether a piece lies within two pixels of the picture's edge, where a crop leaves slivers of objects."""
        return np.bincount(self.numbers[2:-2, 2:-2].ravel(), minlength=len(self.values)) == 0

    @cached_property
    def is_sliver(self) -> np.ndarray:
        """Whether a piece is thin and touches another one."""
        return self.is_thin & (self.neighbours > 0)

    @cached_property
    def is_between(self) -> np.ndarray:
        """Whether a sliver touches a brighter piece, and a darker one or the background, as on a soft edge."""
        one, other = self.borders.T
        darker, brighter = np.where(self.values[one] < self.values[other], (one, other), (other, one))
        touches = np.zeros((2, len(self.values)), bool)
        touches[0, brighter] = touches[1, darker] = True
        return self.is_sliver & touches.all(axis=0)

    @property
    def is_buried(self) -> np.ndarray:
        """Whether a piece touches one or two other pieces and nothing else, as behind a rim."""
        touches_background = np.zeros(len(self.values), bool)
        touches_background[self.borders[self.borders[:, 0] == 0, 1]] = True
        return (self.neighbours > 0) & (self.neighbours <= 2) & ~touches_background & ~self.is_cut

    def share(self, which: np.ndarray) -> float:
        """The share of values that have such a piece."""
        return np.unique(self.values[1:][which[1:]]).size / len(self.ids)


def _neighbours(pixels: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Two views of an image for each direction, so that pixels of the same place are neighbours."""
    return (pixels[1:], pixels[:-1]), (pixels[:, 1:], pixels[:, :-1])


def to_mask(path: Path, stored: Stored) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of this module: bool for a binary mask, int32 for labels; also return notes for the user.

    Raises:
        UserError: as for `read_labels`.
    """
    pixels, notes = _grey_or_numbers(path, stored), list(stored.notes)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        raise UserError(path, f"holds labels from {low} to {high}", "Save background as 0, objects numbered from 1")
    if stored.is_jpeg:
        pixels = _threshold_jpeg(path, pixels)
        notes.append("JPEG mask, thresholded at 127")
    low, high = int(pixels.min()), int(pixels.max())
    if low == high:
        mask = np.full(pixels.shape, high > 0)
        notes.append("mask is all foreground" if high > 0 else "mask is all zero")
    elif low > 0:
        raise has_no_background(path, low, high)
    elif ((pixels == 0) | (pixels == high)).all():
        mask = pixels == high
    else:
        mask, more = _to_instances(path, pixels)
        notes += more
    _check_transparency(path, stored, mask)
    return mask, notes


def has_no_background(path: Path, low: int, high: int) -> UserError:
    """The error for values from `low` to `high` without a 0."""
    remedy = "Save background as 0, objects as 255 or numbered from 1"
    return UserError(path, f"has no background, since no pixel is 0 (values from {low} to {high})", remedy)


def _grey_or_numbers(path: Path, stored: Stored) -> np.ndarray:
    """The values of a mask, `(H, W)`: its grey levels, or the stored numbers of a file with a colour table."""
    pixels = stored.pixels
    # As viewers show them, objects would be black: programs that write True as 1 often mean the opposite by this tag.
    if stored.white_is_zero and (stored.bits == 1 or len(np.unique(pixels)) > 2):
        problem = "is stored as WhiteIsZero, so that 0 is the background for some programs and the objects for others"
        raise UserError(path, problem, "Save the mask as PNG, or as BlackIsZero: background 0, objects 255")
    if stored.indices is not None:
        _check_colour_table(path, stored.indices, pixels)
        return stored.indices
    if any((pixels[..., 0] != pixels[..., channel]).any() for channel in range(1, pixels.shape[2])):
        remedy = "Save the number of each object instead of its colour, background 0: as grey, some colours coincide"
        raise UserError(path, "is a coloured picture, not a mask", remedy)
    return pixels[..., 0]


def _check_colour_table(path: Path, indices: np.ndarray, colours: np.ndarray) -> None:
    """Refuse a colour table whose background is not 0, as far as colours tell: it is the larger of black and white."""
    counts = {}
    for index in np.unique(indices).tolist():
        colour = colours[indices == index][0]
        if colour.min() == colour.max() and colour[0] in (0, 255):
            counts[index] = np.count_nonzero(indices == index)
    background = max(counts, key=counts.get, default=0)
    if background != 0 and counts[background] > counts.get(0, 0):
        problem = f"has a colour table in which the background seems to have the number {background}, not 0"
        raise UserError(path, problem, "Save it without a colour table: background 0, objects 255 or numbered from 1")


def _threshold_jpeg(path: Path, pixels: np.ndarray) -> np.ndarray:
    grey = ((pixels > 31) & (pixels < 224)).mean()
    if grey > JPEG_GREY_LIMIT:
        remedy = "Check that it is not an image, and save the mask as PNG"
        raise UserError(path, f"is not a mask: {grey:.0%} of its pixels are neither black nor white", remedy)
    if 0 < pixels.max() <= 127:
        remedy = "JPEG ruins labels and 0/1 masks: save the mask from its source as PNG"
        raise UserError(path, f"is a JPEG mask whose brightest pixel is only {pixels.max()} of 255", remedy)
    return (pixels > 127).astype(np.uint8)


def _check_transparency(path: Path, stored: Stored, mask: np.ndarray) -> None:
    alpha = stored.alpha
    if alpha is None or (alpha == alpha.flat[0]).all():
        return
    remedy = "Save it without transparency, background 0, objects 255 or numbered from 1"
    if (stored.pixels == stored.pixels[0, 0]).all():
        raise UserError(path, "is one colour, its shape is in the transparency", remedy)
    if (mask[alpha == 0] != 0).any():
        raise UserError(path, "has foreground where it is fully transparent", remedy)


def _to_instances(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Rules 3 and 4, for a picture with 0 and at least two other values."""
    pieces = Pieces.of(pixels)
    count, total = len(pieces.ids), len(pieces.values) - 1
    split = np.count_nonzero(np.unique(pieces.values[1:], return_counts=True)[1] > 1)
    is_scattered = are_scattered(split, total, count)
    _check_void(path, pieces)
    if (is_scattered and pieces.is_thin[1:].mean() > 0.5) or _has_soft_edges(pieces) or _has_traces(pieces):
        problem = "has shades between background and foreground, as compression, blur and interpolation leave them"
        threshold = f"Threshold it at {pieces.ids[-1] // 2} and save 0 and 255, or save instance labels"
        raise UserError(path, problem, f"{threshold}; never smooth masks, and resize them to the nearest pixel")
    if is_scattered or pieces.share(pieces.is_buried) > BURIED_LIMIT:
        raise looks_like_classes(path, total, count)
    notes = ["instance labels"] + ([f"{split} in several pieces, each counted"] if split else [])
    return number_pieces(pieces.values, pieces.areas)[pieces.numbers] if split else pixels.astype(np.int32), notes


def are_scattered(split: int, total: int, count: int) -> bool:
    """Whether `count` values, `split` of them in several pieces, `total` pieces in all, are no objects."""
    return split > max(1, SPLIT_LIMIT * count) or total - count > max(2, SPLIT_LIMIT * count)


def looks_like_classes(path: Path, total: int, count: int) -> UserError:
    """The error for `count` values in `total` pieces that are no objects."""
    problem = f"looks like classes, not instances: its {count} values lie in {total} pieces or within rims"
    own = "give each object a number of its own (in 16 bits if there are more than 255)"
    return UserError(path, problem, f"Save 0 and 255, 255 for what counts as foreground, or {own}")


def _has_soft_edges(pieces: Pieces) -> bool:
    """Whether there are shades: many slivers between two shades, or a single one where there are two or three values.

    Slivers at the edge of the picture, which a crop leaves of objects, do not count unless most pieces lie there. Where
    one piece is nearly the whole picture, and so the background, any sliver counts.
    """
    is_inside = ~pieces.is_cut | (pieces.is_cut[1:].mean() > 0.5) | pieces.is_thin[1:].all()
    if pieces.areas[1:].max() > 0.9 * pieces.numbers.size:
        return bool(pieces.is_sliver.any())
    if len(pieces.ids) < 4 and (pieces.is_sliver & is_inside).any():
        return True
    return pieces.share(pieces.is_between & is_inside) > BETWEEN_LIMIT or pieces.share(pieces.is_between) > 0.5


def _has_traces(pieces: Pieces) -> bool:
    """Whether compression left traces: values only near 0 and near the maximum, and one of the two are not objects."""
    ids, values, high = pieces.ids, pieces.values[1:], int(pieces.ids[-1])
    is_grey, is_low = 32 <= high <= 255 or high == 65535, values <= high / 10
    if not is_grey or not is_low.any() or ((ids > high / 10) & (ids < high * 9 / 10)).any():
        return False
    is_trace, areas = (pieces.is_thin & ~pieces.is_cut)[1:], pieces.areas[1:]
    return bool(is_trace.any() or pieces.is_thin[1:][is_low].all() or 4 * areas[is_low].sum() < areas[~is_low].sum())


def _check_void(path: Path, pieces: Pieces) -> None:
    """Refuse 255 (or 65535) far above densely numbered values: in several pieces, as a frame, or along objects."""
    void, others, highest = int(pieces.ids[-1]), len(pieces.ids) - 1, int(pieces.ids[-2])
    is_void, is_other = pieces.values == void, (pieces.values > 0) & (pieces.values < void)
    is_far = void in VOID_VALUES and highest <= 2 * others and void > 2 * highest
    if not is_far or pieces.is_thin[is_other].mean() > 0.5:
        return
    along = pieces.borders[is_void[pieces.borders].any(axis=1) & is_other[pieces.borders].any(axis=1)]
    beside = np.unique(along[is_other[along]]).size
    frame = [pieces.numbers[place] for place in (0, -1, np.s_[:, 0], np.s_[:, -1])]
    is_frame = is_void[np.concatenate(frame)].mean() > 0.5
    if is_void.sum() > 1 or is_frame or 2 * beside >= is_other.sum():
        problem = f"has the value {void} above values up to {highest}, which looks like a void value (do not count)"
        raise UserError(path, problem, "Save each such pixel as part of an object or as background (0)")


def number_pieces(values: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """The label of each piece, (N + 1,) int32: the largest of each value keeps it, others get the lowest free numbers.

    Args:
        values, areas: (N + 1,) of the pieces, pixels; the first entry is the background.
    """
    order = np.lexsort((-areas[1:], values[1:])) + 1
    others = order[1:][values[order[1:]] == values[order[:-1]]]
    numbers = values.astype(np.int32)
    numbers[others] = np.setdiff1d(np.arange(1, len(numbers)), values[1:])[: len(others)]
    return numbers


def to_labels(mask: np.ndarray) -> np.ndarray:
    """The connected components of a bool mask; labels as they are."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1] if mask.dtype == bool else mask


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Read a mask file as instance labels, `(H, W)` int32, 0 = background, by the rules of this module.

    - One value other than 0 makes a binary mask, whose objects are its connected components (8 neighbours). A constant
      file is empty if it is 0, else all foreground.
    - Several values other than 0 are kept as they are. Only where one of them lies in several pieces, its largest piece
      keeps it, and the others get the lowest unused numbers.
    - A JPEG is always binary, with the foreground above 127, since compression leaves traces around every object that
      a cast to bool would count. It is refused if over 8 % of its pixels are neither near black nor near white
      (32-223), or if it is not all 0 and yet nowhere above 127.
    - Three equal colour channels count as grey.

    Raises:
        UserError: as for `read_image`; a coloured picture, a colour table or transparency against the rules, no 0, a
            negative label or one above 2**31 - 1, shades, classes, or a void value.
    """
    return to_labels(read_either(path))


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Read a mask file as `(H, W)` bool, True = foreground, by the rules of this module."""
    return read_either(path) != 0


def read_either(path: str | os.PathLike) -> np.ndarray:
    """Read what a mask file holds by the rules of this module: a mask, `(H, W)` bool, or labels, `(H, W)` int32."""
    path = Path(path)
    stored = decode(path)
    tell_notes(path, stored.notes)
    return to_mask(path, stored)[0]
