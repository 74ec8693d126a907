"""OME-Zarr (NGFF 0.4 and 0.5): an image as a folder of chunks, with the levels of a pyramid beside each other.

It may lie on another machine, see `remote`.

The zarr library reads both formats (Zarr 2 and 3), with or without shards. Moore et al. 2021, "OME-NGFF: a
next-generation file format for expanding bioimaging data-access strategies", Nature Methods 18.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...base.files import UserError
from .part import ImagePart, check_channels
from .remote import address_of, open_store

MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
VERSIONS = ("0.4", "0.5")
UNITS = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
AGAIN = "Write it again with the program that made it"
COPY = "Copy it again from its source"


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder with the marks of a Zarr, or an address, where only such are read."""
    if address_of(path):
        return True
    # Not the methods of the path, which raise an error for a name that no file can have.
    return os.path.isdir(path) and any(os.path.isfile(path / mark) for mark in MARKS)


class ZarrRows:
    """An image of an OME-Zarr, read by rows.

    Attributes:
        shape: (H, W), pixels.
        dtype: as stored.
        channels: in the file; `colours` of them are read, those that `part` chooses.
        scale: height and width of a pixel, in pixels of the full image.
        pixel_size: side of a pixel, µm; None if it is not told.
        notes: for the user.
        description: of the image and its levels, as it is stored.

    Raises:
        UserError: it is no OME-Zarr of an image, its axes are others than rows, columns and channels, or the level is
            missing.
    """

    def __init__(self, part: ImagePart):
        import zarr  # Only here: it takes a while, and most images are no Zarr.

        self.path = address_of(part.path) or part.path
        store = open_store(part.path)
        is_remote = address_of(part.path) is not None
        remedy = "Check it; other files than OME-Zarr are not read from there, copy them first" if is_remote else COPY
        with self._telling("is no Zarr that can be opened", remedy):
            group = zarr.open_group(store, mode="r")
        image, levels = self._multiscale(group, part.series)
        if part.level >= len(levels):
            listed = ", ".join(f"{number}: {name}" for number, name in enumerate(levels))
            raise UserError(self.path, f"has no level {part.level}", f"Choose one of its levels ({listed})")
        arrays = [self._array(group, name) for name in levels]
        self._array_read = arrays[part.level]
        self._axes = _axes(self.path, image, self._array_read)
        self._find_channels(part)
        shapes = [[array.shape[self._axes.index(axis)] for axis in "yx"] for array in arrays]
        self.shape = tuple(shapes[part.level])
        self.dtype = np.dtype(self._array_read.dtype)
        self._all_scales = [math.prod(shapes[0]) ** 0.5 / math.prod(shape) ** 0.5 for shape in shapes]
        self.scale = tuple(full / own for full, own in zip(shapes[0], self.shape, strict=True))
        if abs(self.scale[0] / self.scale[1] - 1) > 2 / min(self.shape) or self.dtype != np.dtype(arrays[0].dtype):
            problem = f"has a level {part.level} that is no smaller copy of its full image"
            raise UserError(self.path, problem, f"Use level 0. {AGAIN}")
        self.pixel_size = _pixel_size(image, part.level)
        self.description = {"image": image, "levels": [array.metadata.to_dict() for array in arrays]}
        self.notes = self._notes(part, len(levels))

    def _multiscale(self, group, series: int | None) -> tuple[dict, list[str]]:
        """The description of an image, and the names of its levels."""
        about = dict(group.attrs)
        about = about.get("ome", about)
        images = about.get("multiscales")
        if not isinstance(images, list) or not images:
            if "plate" in about or "bioformats2raw.layout" in about:
                problem = "holds several images (a plate, or what bioformats2raw wrote)"
                raise UserError(self.path, problem, f"Give the folder of one of them, such as {self.path}/0")
            raise UserError(self.path, "is a Zarr without multiscales, so no OME-Zarr of an image", AGAIN)
        if (series or 0) >= len(images):
            raise UserError(self.path, f"has no series {series}", f"Choose 0 to {len(images) - 1}")
        image = images[series or 0]
        version = str(about.get("version", image.get("version", "0.4")))
        if version not in VERSIONS:
            problem = f"is an OME-Zarr of version {version}"
            raise UserError(self.path, problem, f"Save it as version {' or '.join(VERSIONS)}")
        try:
            return image, [dataset["path"] for dataset in image["datasets"]]
        except (KeyError, TypeError) as error:
            raise UserError(self.path, f"describes its levels wrongly ({error!r} is missing)", AGAIN) from error

    def _array(self, group, name: str):
        with self._telling(f"is half written or damaged: its level '{name}' cannot be opened"):
            return group[name]

    def _find_channels(self, part: ImagePart) -> None:
        """Choose the channels that are read, and refuse further axes that are longer than one."""
        lengths = dict(zip(self._axes, self._array_read.shape, strict=True))
        self.channels = lengths.pop("c", 1)
        check_channels(part, self.channels)
        usual = self.channels if part.stored else 3 if self.channels >= 3 else 1
        self._chosen = list(part.channels or range(usual))
        self.colours = len(self._chosen)
        others = {axis: length for axis, length in lengths.items() if axis not in "yx" and length > 1}
        if others:
            kinds = {"t": "times", "z": "focal planes"}
            counted = " and ".join(f"{length} {kinds.get(axis, axis)}" for axis, length in others.items())
            raise UserError(self.path, f"is a stack of {counted}", "Save one of them as a file of its own")

    def _notes(self, part: ImagePart, levels: int) -> list[str]:
        notes = [f"level {part.level} of {levels} used"] if levels > 1 else []
        if address_of(part.path):  # Many servers do not list what they have.
            return [*notes, f"chunks that are not at the address are taken as {self._fill()}, without being counted"]
        there, wanted = self._array_read.nchunks_initialized, self._array_read.nchunks
        if there < wanted:
            notes.append(f"{wanted - there} of {wanted} chunks are not in the store, taken as {self._fill()}")
        return notes

    def _fill(self) -> float:
        return self._array_read.fill_value or 0

    def scales(self) -> list[float]:
        """By how much pixels are larger than those of the full image, for each level of the pyramid."""
        return self._all_scales

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read rows `start` to `stop - 1` as `(stop - start, W, 1 or 3)` of the stored dtype.

        Raises:
            UserError: a chunk of these rows is damaged.
        """
        first = min(self._chosen)
        ranges = {"y": slice(start, stop), "x": slice(None), "c": slice(first, max(self._chosen) + 1)}
        with self._telling(f"is damaged: rows {start}-{stop - 1} cannot be decoded"):
            pixels = np.asarray(self._array_read[tuple(ranges.get(axis, 0) for axis in self._axes)])
        kept = [axis for axis in self._axes if axis in ranges]
        pixels = pixels if "c" in kept else pixels[..., None]
        kept = kept if "c" in kept else [*kept, "c"]
        pixels = pixels.transpose([kept.index(axis) for axis in "yxc"])
        return np.ascontiguousarray(pixels[..., [channel - first for channel in self._chosen]])

    def close(self) -> None:
        """Nothing stays open; there for the sake of `TiffRows.close`."""

    @contextlib.contextmanager
    def _telling(self, problem: str, remedy: str = COPY) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zarr and its codecs raise their own kinds
            raise UserError(self.path, f"{problem} ({error})", remedy) from error


def _axes(path: Path, image: dict, array) -> list[str]:
    """The names of the axes; rows and columns must be among them."""
    given = image.get("axes", [])
    axes = [str(axis.get("name") if isinstance(axis, dict) else axis).lower() for axis in given]
    if len(axes) != len(array.shape) or not {"y", "x"} <= set(axes) or len(set(axes)) < len(axes):
        problem = f"names the axes {', '.join(axes) or 'none'} for an array of {len(array.shape)} dimensions"
        raise UserError(path, problem, f"Axes must have a name each, with y and x among them. {AGAIN}")
    return axes


def _pixel_size(image: dict, level: int) -> float | None:
    """The side of a pixel, µm; None if it is not told, or pixels are no squares."""
    axes = [axis if isinstance(axis, dict) else {} for axis in image["axes"]]
    factors = {axis.get("name"): UNITS.get(axis.get("unit")) for axis in axes}
    steps = [*image["datasets"][level].get("coordinateTransformations", [])]
    steps += image.get("coordinateTransformations", [])
    sides = {}
    for name in "yx":
        index = [axis.get("name") for axis in axes].index(name)
        scales = [step["scale"][index] for step in steps if step.get("type") == "scale"]
        sides[name] = math.prod(scales) * factors[name] if scales and factors[name] else None
    if None in sides.values() or abs(sides["y"] / sides["x"] - 1) > 0.01:
        return None
    return float(sides["x"])
