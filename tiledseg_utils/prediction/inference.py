"""From an image of any size to a foreground probability map of the same size.

The way of a tile: `planning` says where it lies, `_read_tiles` takes it from the image, `predict_batches` predicts it,
and `stitch_rows` adds it to its neighbours. Each of these hands its result to the next one as soon as it has it, so
that no more than one row of tiles is ever in memory, whether the image comes from an array or from a file.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..base.files import UserError, progress
from ..base.finished import find_finished
from ..base.memory import little_memory
from ..data.streaming import Source, open_source
from ..data.white_balance import BalancedSource, balance_white
from ..models.backend import keras
from ..models.inputs import expects_white_balance
from ..models.model_files import check_channels, name_of
from ..models.model_files import load_model as load_model
from ..models.receptive_field import receptive_field, required_halo
from ..settings.parameters import CommandSetting, Parameters, PredictionSetting
from ..settings.schema import check_value
from ..tiles.planning import Plan, blended_plan, exact_plan
from ..tiles.tiling import pad_to, reduce_image
from .band_writer import BandWriter
from .forward import as_maps, device_count, forward_pass, predict_batches, with_symmetries

MODES = ("exact", "blend", "auto")


def at_scales(predict: Callable[[np.ndarray], np.ndarray], scales: Sequence[float]) -> Callable:
    """The mean of what is predicted for an image in several sizes, each prediction brought back to the image's own.

    A network looks as many pixels far as its layers let it. Reduced, a cell shows more of what is around it and looks
    like a smaller one; in full size it shows its outline (multi-scale testing: Simonyan & Zisserman, ICLR 2015,
    arXiv:1409.1556, section 3.2).

    Args:
        predict: from an image (H, W, 3) uint8 RGB to its probability (H, W) float32, for any H and W.
        scales: of the sides of the image, 0.1 to 4; 1 is the image itself.

    Raises:
        UserError: there is no scale, or one is out of range.
    """
    check_value(Parameters, "scales", list(scales))

    def averaged(image: np.ndarray) -> np.ndarray:
        total = 0.0
        for scale in scales:
            if scale == 1:
                total += predict(image)
            else:
                size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
                method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
                probability = predict(cv2.resize(image, size, interpolation=method))
                total += cv2.resize(probability, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return total / np.float32(len(scales))

    return averaged


def as_trained(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """A whole uint8 RGB image in the colours that the network knows: balanced if the images it learnt from were."""
    return balance_white(image) if image.dtype == np.uint8 and expects_white_balance(model) else image


def predict_whole(model: keras.Model, image: np.ndarray, symmetries: bool = False) -> np.ndarray:
    """Predict the whole image at native size in one piece: what tiled prediction is measured against.

    The image is extended by its reflection to the next multiple of the network's alignment, as in `predict_tiled`.
    Memory grows with the image (`receptive_field` says by how many bytes per pixel).

    Args:
        model: (N, H, W, 3) to (N, H, W, 1).
        image: (H, W, 3) uint8 RGB.
        symmetries: average over the eight symmetries of the square (`with_symmetries`).

    Returns:
        (H, W) float32 probability.
    """
    alignment = receptive_field(model).alignment
    padded = pad_to(as_trained(model, image), *(-(-length // alignment) * alignment for length in image.shape[:2]))
    return _predict_one(model, padded, symmetries)[: image.shape[0], : image.shape[1]]


def _predict_one(model: keras.Model, image: np.ndarray, symmetries: bool) -> np.ndarray:
    """What a model predicts for one image of a size that it takes."""
    forward = with_symmetries(forward_pass(model)) if symmetries else forward_pass(model)
    return as_maps(forward(image[None]))[0]


def predict_reduced(model: keras.Model, image: np.ndarray, size: int, symmetries: bool = False) -> np.ndarray:
    """Non-tiled prediction: reduce the image to the size the network was trained at, predict, enlarge the result.

    This is how the published experiment predicts without tiles, but with the training colours, which the model file
    carries. Small objects lose most of their pixels on the way.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: side of the square that the network sees, pixels.
        symmetries: average over the eight symmetries of the square (`with_symmetries`).

    Returns:
        (H, W) float32 probability.
    """
    probability = _predict_one(model, reduce_image(as_trained(model, image), size), symmetries)
    return cv2.resize(probability, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def plan_prediction(
    model: keras.Model,
    shape: tuple[int, ...],
    mode: str = "exact",
    tile_size: int = 0,
    overlap: int = 64,
    batch_size: int = 1,
    memory_mb: int = 700,
) -> Plan:
    """Choose the tiles for an image of `shape` (H, W, ...); arguments and errors as for `predict_tiled`."""
    if mode not in MODES:
        raise UserError(f"mode {mode!r}", "is not known", f"Choose one of {', '.join(MODES)}")
    for name, value in (("overlap", overlap), ("batch_size", batch_size), ("memory_mb", memory_mb)):
        check_value(PredictionSetting, name, value)
    field = receptive_field(model)
    fixed = model.input_shape[1:3]
    if None not in fixed:
        if fixed[0] != fixed[1] or tile_size not in (0, fixed[0]) or min(shape[:2]) < fixed[0]:
            remedy = "Give square tiles of that size and larger images, or rebuild it with keras.Input((None, None, 3))"
            raise UserError(name_of(model), f"takes images of {fixed[0]} x {fixed[1]} pixels only", remedy)
        tile_size = fixed[0]
    if mode == "auto":
        mode = "blend" if field.obstacles or 0 < tile_size <= 2 * field.halo else "exact"
        overlap = -(-overlap // field.alignment) * field.alignment
        if tile_size:
            overlap = min(overlap, tile_size // 2 // field.alignment * field.alignment)
    bytes_per_pixel = field.bytes_per_pixel * batch_size * device_count()
    max_pixels = max(1, memory_mb * 2**20 // bytes_per_pixel)
    if mode == "exact":
        # Refuses models that no halo makes exact.
        return exact_plan(shape, field.alignment, required_halo(model), tile_size, max_pixels)
    return blended_plan(shape, field.alignment, field.halo, overlap, tile_size, max_pixels)


def predict_tiled(
    model: keras.Model,
    image: np.ndarray,
    mode: str = "exact",
    tile_size: int = 0,
    overlap: int = 64,
    symmetries: bool = False,
    batch_size: int = 1,
    memory_mb: int = 700,
) -> np.ndarray:
    """Tiled prediction at native resolution, for an image of any size, also smaller than a tile.

    Mode "exact" gives what `predict_whole` gives, up to the rounding of float32, from tiles with a halo as large as the
    network's receptive field asks for (`receptive_field.required_halo`). Mode "blend" takes tiles with less overlap,
    which is cheaper, and hides by a gradual passage from tile to tile that they disagree. Mode "auto" is "exact" where
    the network and `tile_size` allow it, and else "blend", with an overlap that fits the network and the tile.

    Args:
        model: (N, h, w, 3) to (N, h, w, C), for any h and w that are multiples of its alignment.
        image: (H, W, 3) uint8 RGB, or what else `streaming.open_source` takes.
        mode: "exact", "blend" or "auto".
        tile_size: side of a tile, pixels; a multiple of the network's alignment, 2^(levels-1) for a U-Net. 0 chooses
            tiles for this image, not always square, with which the network has least to do within `memory_mb`. A fixed
            size compiles one program for all images.
        overlap: pixels that neighbouring tiles share in mode "blend", a multiple of the alignment, at most half of a
            tile.
        symmetries: average over the eight symmetries of the square (`with_symmetries`), which takes eight times as
            long.
        batch_size: tiles per batch and device.
        memory_mb: what the activations of a batch may take, MiB, when tile_size is 0; the rows in memory and the
            compiled program come on top.

    Returns:
        (H, W) float32 probability; (H, W, C) from a model of C > 1 channels.

    Raises:
        UserError: an argument is out of range, the tile is smaller than twice the halo (names the smallest that works),
            no halo makes the network exact (names the layer), or the network's input size is fixed to another.
    """
    with open_source(image) as source:
        plan = plan_prediction(model, source.shape, mode, tile_size, overlap, batch_size, memory_mb)
        return predict_plan(model, source, plan, symmetries, batch_size)


def predict_plan(
    model: keras.Model, image: np.ndarray | Source, plan: Plan | Callable, symmetries: bool = False, batch_size: int = 1
) -> np.ndarray:
    """Predict an image with a plan of your own, or a function from its shape to one; returns as `predict_tiled`.

    A source that is given stays open; a file is closed again.
    """
    if not isinstance(image, Source):
        with open_source(image) as source:
            return predict_plan(model, source, plan, symmetries, batch_size)
    plan = plan if isinstance(plan, Plan) else plan(image.shape)
    channels = model.output_shape[-1]
    result = np.empty(image.shape if channels == 1 else (*image.shape, channels), np.float32)
    with contextlib.closing(predict_maps(model, image, plan, symmetries, batch_size)) as maps:
        for start, band in stitch_rows(maps, plan, image.shape, channels=channels):
            result[start : start + len(band)] = band
    return result


def predict_maps(
    model: keras.Model,
    source: Source,
    plan: Plan,
    symmetries: bool = False,
    batch_size: int = 1,
    first_row: int = 0,
    is_background: Callable[[np.ndarray], bool] | None = None,
) -> Iterator[np.ndarray | None]:
    """Yield the map of each tile from tile row `first_row` on, or None for background.

    Maps are float32, (h, w), or (h, w, C) from a model of C > 1 channels. Close the iterator before the source if not
    all of them are taken (`contextlib.closing`): a thread reads the next tiles.
    """
    if source.dtype != np.uint8 and np.dtype(model.input.dtype).kind in "iu":
        problem = f"holds decimal numbers ({np.dtype(source.dtype)}), and the model takes {model.input.dtype}"
        raise UserError(source.name, problem, "Scale it to 0-255 as the training images were, and convert it to uint8")
    source = BalancedSource(source) if expects_white_balance(model) else source
    forward = with_symmetries(forward_pass(model)) if symmetries else forward_pass(model)
    tiles = _read_tiles(source, plan, first_row, is_background)
    yield from predict_batches(forward, tiles, batch_size * device_count())


def _mirrored(pixels: np.ndarray, length: int) -> np.ndarray:
    """Where pixels past the end of an axis come from when it is extended by its reflection, as `tiling.pad_to` does."""
    pixels = pixels % (2 * length)
    return np.minimum(pixels, 2 * length - 1 - pixels)


def _read_tiles(
    source: Source | BalancedSource,
    plan: Plan,
    first_row: int,
    is_background: Callable[[np.ndarray], bool] | None,
) -> Iterator[np.ndarray | None]:
    columns = _mirrored(np.arange(plan.columns.length), source.shape[1])
    for origin in plan.rows.origins[first_row:]:
        rows = _mirrored(np.arange(origin, origin + plan.rows.tile), source.shape[0])
        band = source.read_rows(rows.min(), rows.max() + 1)
        if len(band) != plan.rows.tile or source.shape[1] != plan.columns.length:
            band = band[np.ix_(rows - rows.min(), columns)]
        for column in plan.columns.origins:
            tile = band[:, column : column + plan.columns.tile]
            yield None if is_background is not None and is_background(tile) else tile
        del band, tile  # before the next is read


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
                weights = np.outer(plan.rows.weights[i, rows], plan.columns.weights[j, columns])
                weights = weights.reshape(weights.shape + (1,) * len(extra))
                place = np.s_[start + rows.start : start + rows.stop, column + columns.start : column + columns.stop]
                total[place] += weights * probability[rows, columns]
        last = i + 1 == len(plan.rows.origins)
        bottom = shape[0] if last else min(plan.rows.origins[i + 1] + plan.rows.used(i + 1).start, shape[0])
        if bottom > top:
            yield top, total[: bottom - top, :width]
            rest = height - (bottom - top)
            total[:rest] = total[bottom - top :]
            total[rest:] = 0
            top = bottom


def predict_file(
    model: keras.Model,
    image: Path | np.ndarray,
    out: Path,
    mode: str = "exact",
    tile_size: int = 0,
    overlap: int = 64,
    symmetries: bool = False,
    batch_size: int = 1,
    memory_mb: int = 700,
    threshold: float | None = None,
    skip_contrast: int = 0,
    overwrite: bool = False,
) -> dict:
    """Predict an image that need not fit into memory, from file to file, one row of tiles at a time.

    Memory depends on the image's width, not on its height. Rows are safe on disk once they are finished: after an
    interruption the same call goes on behind them, and the file is the same, byte for byte, as without. It appears
    under its name only when it is complete.

    Args:
        model, mode, tile_size, overlap, symmetries, batch_size, memory_mb: as for `predict_tiled`.
        image: path of a TIFF or .npy file, which are read row by row, or of another image; or an array.
        out: .tif (in tiles of 512 px; a BigTIFF if it needs 4 GB) or .npy. If the same call has finished it before,
            and nobody has changed it since, it stays, and its report is returned.
        threshold: probability from which a pixel is foreground: a uint8 mask of 0 and 255 is written. None writes the
            float32 probability.
        skip_contrast: tiles in which no channel spans this many grey levels, once blocks of 8 x 8 pixels are averaged,
            count as background and are not predicted. 0 predicts all.
        overwrite: replace `out` if it exists.

    Returns:
        tiles, skipped (tiles), tile_height, tile_width, resumed_at_row, megapixels (predicted in this call, the image's
        own), seconds, megapixels_per_second.

    Raises:
        UserError: as for `predict_tiled`; `out` exists or cannot be written (rows finished so far are kept); the image
            cannot be read (names the region).
    """
    check_channels(model, name_of(model))
    if threshold is not None:
        check_value(Parameters, "threshold", threshold)
    check_value(CommandSetting, "skip_contrast", skip_contrast)
    with open_source(image) as source:
        plan = plan_prediction(model, source.shape, mode, tile_size, overlap, batch_size, memory_mb)
        identity = {
            "image": source.identity(),
            "model": fingerprint(model),
            "plan": [
                [axis.length, axis.tile, list(axis.origins), list(axis.edges)] for axis in (plan.rows, plan.columns)
            ],
            "settings": [mode, overlap, symmetries, batch_size * device_count(), threshold, skip_contrast],
        }
        finished = None if overwrite else find_finished(Path(out), identity)
        if finished is not None:
            return finished | {"resumed_at_row": source.shape[0], "megapixels": 0.0, "seconds": 0.0}
        dtype = np.float32 if threshold is None else np.uint8
        with little_memory(), BandWriter(out, source.shape, dtype, identity, overwrite) as writer:
            return _stream(model, source, plan, writer, symmetries, batch_size, threshold, skip_contrast)


def _stream(model, source, plan, writer, symmetries, batch_size, threshold, skip_contrast) -> dict:
    """Predict the rows that `writer` does not have yet, and report on it as `predict_file` does."""
    done, skipped = writer.rows, 0
    # Tile rows that end above the first missing row are not needed any more.
    ends = [origin + plan.rows.used(i).stop for i, origin in enumerate(plan.rows.origins)]
    first_row = next((i for i, end in enumerate(ends) if end > done), len(ends))

    def is_background(tile: np.ndarray) -> bool:
        nonlocal skipped
        size = tuple(max(1, side // 8) for side in tile.shape[1::-1])
        blocks = cv2.resize(tile, size, interpolation=cv2.INTER_AREA).reshape(-1, tile.shape[2])
        empty = bool((np.ptp(blocks.astype(np.float32), axis=0) < skip_contrast).all())
        skipped += empty
        return empty

    ignore = is_background if skip_contrast else None
    started, row_mpx = time.perf_counter(), source.shape[1] / 1e6
    with (
        contextlib.closing(predict_maps(model, source, plan, symmetries, batch_size, first_row, ignore)) as maps,
        progress(total=source.shape[0] * row_mpx, initial=done * row_mpx, unit="Mpx") as bar,
    ):
        for start, band in stitch_rows(maps, plan, source.shape, first_row) if first_row < len(ends) else ():
            band = band[max(0, done - start) :]
            writer.write(band if threshold is None else np.uint8(255) * (band >= threshold))
            bar.update(len(band) * row_mpx)
    seconds, megapixels = time.perf_counter() - started, (source.shape[0] - done) * row_mpx
    report = {
        "tiles": plan.count,
        "skipped": skipped,
        "tile_height": plan.rows.tile,
        "tile_width": plan.columns.tile,
        "resumed_at_row": done,
        "megapixels": round(megapixels, 3),
        "seconds": round(seconds, 3),
        "megapixels_per_second": round(megapixels / seconds, 3),
    }
    writer.finish(report)
    return report


def fingerprint(model: keras.Model) -> str:
    """SHA-256, in hex, of the architecture and the weights of a model."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
