"""The way of a tile: it is laid, read, predicted, and added to its neighbours.

`plan_prediction` says where tiles lie, `predict_maps` reads and predicts them, and `stitch_rows` puts their maps
together. Each hands on a result as soon as it has it, so that no more than one row of tiles is ever in memory, whether
the image comes from an array or from a file.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np

from ..base.files import UserError
from ..data.channels import each_channel
from ..data.normalization import NormalizedSource
from ..data.pictures.part import Image, ImagePart, is_named, part_of
from ..data.streaming import Source, open_source
from ..models.backend import keras
from ..models.inputs import channels_of, normalization_of
from ..models.model_files import name_of
from ..models.receptive_field import receptive_field, required_halo
from ..settings.parameters import PredictionSetting
from ..tiles.planning import Plan, blended_plan, exact_plan
from .forward import device_count, forward_pass, predict_batches

BYTES_HELD = 12  # for each pixel of a row of tiles: its colours, once more while they are read, and its map
BYTES_OF_RGB = 3
LOWEST = 512  # pixels; tiles are not made lower than this for the sake of memory


def with_changes(setting: PredictionSetting | None, changes: Mapping) -> PredictionSetting:
    """A setting, or the default one for None, with other values for some of its fields; numbers of NumPy will do.

    Raises:
        UserError: an unknown name, or a value that is out of range.
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in changes.items()}
    return replace(setting or PredictionSetting(), **plain)


def plan_prediction(
    model: keras.Model, shape: tuple[int, ...], setting: PredictionSetting | None = None, **changes
) -> Plan:
    """Choose the tiles for an image of `shape` (H, W, ...); arguments and errors as for `predict_tiled`."""
    setting = with_changes(setting, changes)
    mode, tile_size, overlap = setting.mode, setting.tile_size, setting.overlap
    field = receptive_field(model)
    fixed = model.input_shape[1:3]
    if None not in fixed:
        if fixed[0] != fixed[1] or tile_size not in (0, fixed[0]) or min(shape[:2]) < fixed[0]:
            remedy = "Give square tiles of that size and larger images, or rebuild it with keras.Input((None, None, 3))"
            raise UserError(name_of(model), f"takes images of {fixed[0]} x {fixed[1]} pixels only", remedy)
        tile_size = fixed[0]
    if mode == "auto":
        mode = "blend" if field.non_local_layers or 0 < tile_size <= 2 * field.halo else "exact"
        overlap = -(-overlap // field.alignment) * field.alignment
        if tile_size:
            overlap = min(overlap, tile_size // 2 // field.alignment * field.alignment)
    bytes_per_pixel = field.bytes_per_pixel * setting.batch_size * device_count()
    max_pixels = max(1, setting.memory_mib * 2**20 // bytes_per_pixel)
    # A row of tiles is held as a whole, so tiles of a wide image must be low.
    stored = model.input_shape[-1] * np.dtype(model.input.dtype).itemsize if channels_of(model) else BYTES_OF_RGB
    bytes_held = BYTES_HELD + 2 * max(0, stored - BYTES_OF_RGB)
    rows_held = setting.memory_mib * 2**20 // (bytes_held * max(1, shape[1]))
    max_pixels = min(max_pixels, max(LOWEST, rows_held) ** 2)
    if mode == "exact":
        halo = required_halo(model)  # Refuses models that no halo makes exact.
        return exact_plan(shape, field.alignment, halo, tile_size, max_pixels)
    return blended_plan(shape, field.alignment, field.halo, overlap, tile_size, max_pixels)


def predict_maps(
    model: keras.Model,
    source: Source | NormalizedSource,
    plan: Plan,
    setting: PredictionSetting,
    tiles: range | None = None,
    skip_contrast: int = 0,
    empty: np.ndarray | None = None,
) -> Iterator[np.ndarray | None]:
    """Yield the map of each of some tiles, by their numbers row by row, by default of all; None if it is background.

    Background is where no channel spans `skip_contrast` grey levels, once blocks of 8 x 8 pixels are averaged, and
    where `empty`, (rows, columns of tiles) bool, says so.

    Maps are float32, (h, w), or (h, w, C) from a model of C > 1 channels. If not all of them are taken, close the
    iterator before the source (`contextlib.closing`): a thread reads the next tiles.
    """
    if np.dtype(source.dtype).kind == "f" and np.dtype(model.input.dtype).kind in "iu":
        problem = f"holds decimal numbers ({np.dtype(source.dtype)}), and the model takes {model.input.dtype}"
        raise UserError(source.name, problem, "Scale it to 0-255 as the training images were, and convert it to uint8")
    tiles = range(plan.count) if tiles is None else tiles
    pixels = _read_tiles(normalized(source, model), plan, tiles, skip_contrast, empty)
    yield from predict_batches(
        forward_pass(model, setting.test_time_augmentation), pixels, setting.batch_size * device_count()
    )


def open_image(model: keras.Model, image: Image | np.ndarray) -> Source:
    """Open an image for a model, by rows: RGB, or the channels that it learnt from, as they are stored.

    Args:
        image: what `streaming.open_source` takes. An array has just the channels of the model; of a file they are
            chosen by their numbers, or by those of the `ImagePart`.

    Raises:
        UserError: as for `streaming.open_source`, or the channels are not those that the model takes.
    """
    channels = channels_of(model)
    if channels is None:
        return open_source(image)
    source = open_source(as_learnt(model, image) if is_named(image) else image, stored=True)
    if source.channels != len(channels) or source.dtype != channels.dtype:
        source.close()
        problem = f"has {source.channels} channel(s) of {source.dtype}"
        remedy = f"Give {len(channels)} of {channels.dtype}, in the order in which the model learnt from them"
        raise UserError(source.name, f"{problem}, and the model takes {len(channels)} of {channels.dtype}", remedy)
    return source


def as_learnt(model: keras.Model, image: Image) -> ImagePart:
    """What a model reads of an image's file: RGB, or the channels that it learnt from."""
    part, channels = part_of(image), channels_of(model)
    if channels is None:
        return part
    return replace(part, stored=True, channels=part.channels or channels.numbers)


def normalized(source: Source | NormalizedSource, model: keras.Model) -> Source | NormalizedSource:
    """The image as the model wants it: with its white balanced or its contrast stretched, if the model asks for it."""
    method = normalization_of(model)
    return NormalizedSource(source, method) if method and isinstance(source, Source) else source


def _mirrored(pixels: np.ndarray, length: int) -> np.ndarray:
    """Where pixels past the end of an axis come from when it is extended by its reflection, as `tiling.pad_to` does."""
    pixels = pixels % (2 * length)
    return np.minimum(pixels, 2 * length - 1 - pixels)


def _read_tiles(
    source: Source | NormalizedSource, plan: Plan, tiles: range, skip_contrast: int, empty: np.ndarray | None
) -> Iterator[np.ndarray | None]:
    columns = _mirrored(np.arange(plan.columns.length), source.shape[1])
    across = len(plan.columns.origins)
    for index, of_row in itertools.groupby(tiles, key=lambda tile: tile // across):
        wanted = [tile % across for tile in of_row]
        unseen = set() if empty is None else set(np.flatnonzero(empty[index]).tolist())
        if unseen.issuperset(wanted):
            yield from [None] * len(wanted)
            continue
        origin = plan.rows.origins[index]
        rows = _mirrored(np.arange(origin, origin + plan.rows.tile), source.shape[0])
        band = source.read_rows(rows.min(), rows.max() + 1)
        if len(band) != plan.rows.tile or source.shape[1] != plan.columns.length:
            band = band[np.ix_(rows - rows.min(), columns)]
        for number in wanted:
            column = plan.columns.origins[number]
            tile = band[:, column : column + plan.columns.tile]
            is_background = number in unseen or (skip_contrast and _is_background(tile, skip_contrast))
            yield None if is_background else tile
        del band, tile  # before the next is read


def _is_background(tile: np.ndarray, skip_contrast: int) -> bool:
    size = tuple(max(1, side // 8) for side in tile.shape[1::-1])
    blocks = each_channel(lambda array: cv2.resize(array, size, interpolation=cv2.INTER_AREA), tile)
    blocks = blocks.reshape(-1, tile.shape[2])
    return bool((np.ptp(blocks.astype(np.float32), axis=0) < skip_contrast).all())


def stitch_rows(
    maps: Iterable[np.ndarray | None], plan: Plan, shape: tuple[int, int], first_row: int = 0, channels: int = 1
) -> Iterator[tuple[int, np.ndarray]]:
    """Put maps together and yield finished rows of the image as (first row, (n, W) float32), or (n, W, channels).

    What is yielded is valid until the next rows are asked for: their memory is used again.

    Args:
        maps: (h, w), or (h, w, channels) if more than one, of the tiles from tile row `first_row` on, in the order of
            the plan; None stands for zeros.
        plan: where they lie and what they weigh.
        shape: (H, W) of the image; what reaches past it is cut off.
        first_row: of tiles. The first rows yielded lack what earlier tile rows would add where they overlap.
    """
    maps, height, width = iter(maps), plan.rows.tile, shape[1]
    top = plan.rows.origins[first_row]
    extra = (channels,) if channels > 1 else ()
    total = np.zeros((height, plan.columns.length, *extra), np.float32)
    for i in range(first_row, len(plan.rows.origins)):
        rows, start = plan.rows.used(i), plan.rows.origins[i] - top
        for j, column in enumerate(plan.columns.origins):
            probability, columns = next(maps), plan.columns.used(j)
            if probability is not None:
                place = np.s_[start + rows.start : start + rows.stop, column + columns.start : column + columns.stop]
                used = probability[rows, columns]
                weights = plan.rows.weights[i, rows], plan.columns.weights[j, columns]
                if any((each != 1).any() for each in weights):
                    used = used * np.outer(*weights).reshape(used.shape[:2] + (1,) * len(extra))
                total[place] += used
        last = i + 1 == len(plan.rows.origins)
        bottom = shape[0] if last else min(plan.rows.origins[i + 1] + plan.rows.used(i + 1).start, shape[0])
        if bottom > top:
            yield top, total[: bottom - top, :width]
            shift = bottom - top
            for row in range(height - shift):  # One by one: NumPy copies a part that overlaps its new place.
                total[row] = total[row + shift]
            total[height - shift :] = 0
            top = bottom
