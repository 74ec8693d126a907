"""Masks and instance labels: what a stored picture means as a mask, and a sentence for the user where it is none.

The other modules see one kind of mask, `(H, W)` bool, or `(H, W)` int32 instance labels with 0 as the background.
"""

import os
from pathlib import Path

import cv2
import numpy as np

from .files import UserError
from .pictures import Stored, decode

JPEG_GREY_LIMIT = 0.08  # share of 32-223. 24 real masks: 0; small cells at quality 30: 0.035; photographs: 0.1 and more


def to_mask(path: Path, stored: Stored) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of `read_labels`: bool for a binary mask, int32 for labels; also return notes for the user."""
    # As viewers show them, objects would be black: programs that write True as 1 often mean the opposite by this tag.
    if stored.white_is_zero and (stored.bits == 1 or len(np.unique(stored.pixels)) > 2):
        problem = "is stored as WhiteIsZero, so that 0 is the background for some programs and the objects for others"
        raise UserError(path, problem, "Save the mask as PNG, or as BlackIsZero: background 0, objects 255")
    pixels, notes = stored.pixels[..., 0], list(stored.notes)
    low, high = int(pixels.min()), int(pixels.max())
    if any((stored.pixels[..., index] != pixels).any() for index in range(1, stored.pixels.shape[2])):
        raise UserError(path, "is a coloured picture, not a mask", "Save the mask in grey, background 0, objects 255")
    if low < 0 or high > np.iinfo(np.int32).max:
        raise UserError(path, f"holds labels from {low} to {high}", "Save background as 0, objects as 1, 2, 3, ...")
    if stored.is_jpeg:
        grey = ((pixels > 31) & (pixels < 224)).mean()
        if grey > JPEG_GREY_LIMIT:
            remedy = "Check that it is not an image, and save the mask as PNG"
            raise UserError(path, f"is no mask: {grey:.0%} of its pixels are neither black nor white", remedy)
        if 0 < high <= 127:
            remedy = "JPEG ruins labels and 0/1 masks: save the mask from its source as PNG"
            raise UserError(path, f"is a JPEG mask whose brightest pixel is only {high} of 255", remedy)
        mask, notes = pixels > 127, [*notes, "JPEG mask, thresholded at 127"]
    elif ((pixels == low) | (pixels == high)).all():
        mask = (pixels == high) & (high > 0)
    elif _forms_areas(pixels, high):
        return pixels.astype(np.int32), [*notes, "instance labels"]
    else:
        remedy = f"Threshold it at {high // 2} and save 0 and 255, or save instance labels; never smooth or blur them"
        raise UserError(path, "has shades between background and foreground, as a blurred mask has", remedy)
    constant = ["mask is all zero"] if not mask.any() else ["mask is all foreground"] if mask.all() else []
    return mask, notes + constant


def _forms_areas(pixels: np.ndarray, high: int) -> bool:
    """Tell instance labels from the soft edge of a mask by the pixels between 0 and the maximum.

    In labels, four equal neighbours surround at least a quarter of these; or, where objects are only a few pixels
    wide, at least half touch nothing but their own value and 0. On a soft edge, each has a darker and a brighter one.
    """
    inside = (pixels > 0) & (pixels < high)
    apart, total = inside.copy(), np.count_nonzero(inside)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        same = pixels[a] == pixels[b]
        harmless = same | (pixels[a] == 0) | (pixels[b] == 0)
        for side in (a, b):
            inside[side] &= same
            apart[side] &= harmless
    return 4 * np.count_nonzero(inside) >= total or 2 * np.count_nonzero(apart) >= total


def to_labels(mask: np.ndarray) -> np.ndarray:
    """The connected components of a bool mask; labels as they are."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1] if mask.dtype == bool else mask


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Read a mask file as instance labels, `(H, W)` int32, 0 = background.

    - At most two grey levels make a binary mask, whose larger level is the foreground. A constant file is empty if it
      is 0, else all foreground. The objects are the connected components (8 neighbours).
    - A JPEG is always binary, with the foreground above 127, since compression leaves traces around every object that
      a cast to bool would count. It is refused if over 8 % of its pixels are neither near black nor near white
      (32-223), or if it is not all 0 and yet nowhere above 127.
    - More than two levels are instance labels, kept as they are, if the values between 0 and the maximum form areas.
      In a blurred or smoothly resized mask they do not, and it is refused.
    - Three equal colour channels count as grey; alpha is ignored.

    Raises:
        UserError: as for `read_image`, and for a coloured or soft mask or a negative label.
    """
    return to_labels(to_mask(Path(path), decode(Path(path)))[0])


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Read a mask file as `(H, W)` bool, True = foreground, by the rules of `read_labels`."""
    return to_mask(Path(path), decode(Path(path)))[0] != 0
