"""Which image of a file is meant, where a file holds more than one: a level, a series, or any size of pixel."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...base.files import UserError

MOST_CHANNELS = 8  # of an image that is read as it is stored


@dataclass(frozen=True)
class ImagePart:
    """An image in a file that may hold several. Every function that takes the path of an image takes this, too.

    Attributes:
        path: of a picture, or of an OME-Zarr, which is a folder.
        level: of a pyramid of smaller copies; 0 is the full resolution.
        series: number of the image, where there are several; None is the one that a slide or a plain file is about.
        channels: numbers of the one or three channels that are read, from 0; None takes the first three, or the first.
        stored: 1 to `MOST_CHANNELS` channels are read in the numbers of the file, 8 or 16 bit, which are not scaled:
            `channels`, or all of them.
        mpp: side of a pixel, µm, to which the image is resampled; None leaves it as it is. Instead of `level`.
        pixel_size: side of a pixel of the full image, µm; None takes what the file says.
        keep_going: strips and tiles that cannot be decoded are told and taken as 0, instead of ending in an error.

    Raises:
        UserError: `level` and `mpp` are both given, or a number of channels that is not as above.

    Example:
        from tiledseg_utils.data.pictures import ImagePart, read_image
        overview = read_image(ImagePart("slide.svs", level=2))
    """

    path: Path
    level: int = 0
    series: int | None = None
    channels: tuple[int, ...] | None = None
    mpp: float | None = None
    pixel_size: float | None = None
    keep_going: bool = False
    stored: bool = False

    def __post_init__(self):
        object.__setattr__(self, "path", Path(self.path))
        if self.channels is not None:
            object.__setattr__(self, "channels", tuple(self.channels))
            known = range(1, MOST_CHANNELS + 1) if self.stored else (1, 3)
            if len(self.channels) not in known or min(self.channels) < 0:
                chosen = " ".join(map(str, self.channels))
                remedy = f"Give 1 to {MOST_CHANNELS} of them, from 0"
                usual = "Give one for a grey image, or three for red, green, blue"
                raise UserError("channels", f"are {chosen}", remedy if self.stored else usual)
        if self.level and self.mpp is not None:
            raise UserError(
                "mpp", f"is given together with level {self.level}", "Give one of them: mpp finds its level"
            )


Image = str | os.PathLike | ImagePart
"""What names an image in a file."""


def part_of(image: Image) -> ImagePart:
    """The part that is meant by a path: the image in full resolution."""
    return image if isinstance(image, ImagePart) else ImagePart(Path(image))


def is_named(image: Image | np.ndarray) -> bool:
    """Whether an image is in a file, and not in memory."""
    return isinstance(image, (str, os.PathLike, ImagePart))


def require_single(part: ImagePart) -> None:
    """Raise a UserError if a level or a series of a file is asked for that has one image."""
    if part.level or part.series:
        what = f"level {part.level}" if part.level else f"series {part.series}"
        raise UserError(part.path, f"holds one image, and {what} is asked for", "Leave that out")
    if part.channels is not None and not part.stored:
        raise UserError(part.path, "is read with its first channels", "Leave out channels, or save it as TIFF")


def check_channels(part: ImagePart, count: int) -> None:
    """Raise a UserError if channels are asked for that an image of `count` channels does not have."""
    if part.channels is not None and max(part.channels) >= count:
        names = f"0 to {count - 1}" if count > 1 else "0"
        raise UserError(part.path, f"has no channel {max(part.channels)}", f"Choose from its channels, {names}")
