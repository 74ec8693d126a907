"""Channels: images that are no photographs, with 1 to 8 channels of 8 or 16 bit that each mean something of their own.

A run names the channels that it learns from (`channels` in `tiles`). They are then read as they are stored, and scaled
in the model, by one rule for all images: in each channel, the 0.1 percentile of all pixels of all training images
becomes 0 and the 99.9 percentile becomes 1; what lies outside is cut off. Scaled image by image, as RGB images of
16 bit are, a dim image would look like a bright one, and a tile of it like neither.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, read_record, write_json
from .pictures import PERCENTILES, check_channels, check_stored
from .pictures.part import ImagePart
from .pictures.stored import Stored
from .streaming import open_source, percentile_of_counts

FILE = "channels.json"  # beside the manifest of a tile set
EXAMPLE = {"numbers": [], "dtype": "", "low": [], "high": []}


@dataclass(frozen=True)
class Channels:
    """The channels that a network learns from, and how it scales them.

    Attributes:
        numbers: which channels of an image's file, from 0.
        dtype: of their numbers, "uint8" or "uint16".
        low, high: the values that become 0 and 1, in each channel.
    """

    numbers: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self) -> list[dict]:
        """A table of the rule, one row for each channel."""
        limits = zip(self.numbers, self.low, self.high, strict=True)
        return [{"channel": number, "becomes 0": low, "becomes 1": high} for number, low, high in limits]


def measure_channels(images: Iterable[Path], numbers: Sequence[int]) -> Channels:
    """The channels of some images, with the values at `PERCENTILES` of all their pixels; read row by row.

    Where both percentiles of a channel are the same, its least and its largest value take their place.

    Raises:
        UserError: an image cannot be read, lacks a channel, or has other numbers than the others; or a channel has the
            same value everywhere.
    """
    counts, dtype = np.zeros((len(numbers), 2**16), np.int64), None
    for path in images:
        with open_source(ImagePart(path, channels=tuple(numbers), stored=True)) as source:
            if dtype not in (None, source.dtype):
                remedy = "Save all images with the same channels, in 8 or in 16 bit"
                raise UserError(path, f"holds {source.dtype}, and the images before it hold {dtype}", remedy)
            dtype = source.dtype
            for start, stop in source.chunks():
                rows = source.read_rows(start, stop)
                for place in range(len(numbers)):
                    counts[place] += np.bincount(rows[..., place].ravel(), minlength=2**16)
    low, high = zip(*(_limits(number, own) for number, own in zip(numbers, counts, strict=True)), strict=True)
    return Channels(tuple(numbers), dtype.name, low, high)


def _limits(number: int, counts: np.ndarray) -> tuple[float, float]:
    low, high = (float(percentile_of_counts(counts, percent)) for percent in PERCENTILES)
    if low == high:  # a few bright spots on an even background
        low, high = (float(value) for value in np.flatnonzero(counts)[[0, -1]])
    if low == high:
        problem = f"is {low:.0f} in every pixel of every training image"
        raise UserError(f"channel {number}", problem, "Leave it out of channels")
    return low, high


def write_scaling(folder: Path, channels: Channels) -> None:
    """Write the rule of a tile set to `folder/channels.json`."""
    write_json(Path(folder) / FILE, asdict(channels))


def read_scaling(folder: Path) -> Channels | None:
    """The rule of a tile set; None if it has none, because its tiles are RGB.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / FILE
    if not path.exists():
        return None
    remedy = "Run notebook 01_data_and_tiling again"
    record = read_record(path, EXAMPLE, remedy)
    counts = {len(record[name]) for name in ("numbers", "low", "high")}
    if len(counts) > 1 or record["dtype"] not in ("uint8", "uint16"):
        raise UserError(path, "is damaged", remedy)
    return Channels(tuple(record["numbers"]), record["dtype"], tuple(record["low"]), tuple(record["high"]))


def channels_in(path: Path, stored: Stored, numbers: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Channels of a picture as they are stored, `(H, W, C)` uint8 or uint16, and notes for the user.

    Raises:
        UserError: it has no such channel, or other numbers.
    """
    check_channels(ImagePart(path, channels=tuple(numbers), stored=True), stored.pixels.shape[2])
    check_stored(path, stored.pixels.dtype, len(numbers))
    image = stored.pixels[..., list(numbers)]
    empty = [f"channel {number} is all zero" for place, number in enumerate(numbers) if not image[..., place].any()]
    return image, [*stored.notes, *empty]


def each_channel(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """What a function of OpenCV makes of an image, (H, W) or (H, W, C) with any number of channels.

    Some of them refuse more than four channels, drop the axis of a single one, or compute less exactly unless there are
    one or three. So each channel is changed by itself, unless there are three.
    """
    if image.ndim == 2 or image.shape[2] == 3:
        return change(image)
    return np.dstack([change(np.ascontiguousarray(image[..., place])) for place in range(image.shape[2])])
