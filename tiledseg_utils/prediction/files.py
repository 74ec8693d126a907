"""Prediction from file to file, for images larger than memory, one row of tiles at a time."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..base.files import UserError, progress
from ..base.finished import find_finished
from ..base.memory import little_memory
from ..data.classes import Classes
from ..data.pictures.part import Image, is_named
from ..data.pixel_size import find_pixel_size
from ..models.backend import keras
from ..models.foreground import foreground_of
from ..models.inputs import classes_of
from ..models.model_files import check_channels, fingerprint, name_of
from ..scoring.classes import find_classes
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.schema import check_value
from .band_writer import BandWriter
from .cluster import maps_from
from .forward import device_count
from .tiled import open_image, plan_prediction, stitch_rows, with_changes
from .tissue import tiles_without_tissue, tissue_mask


def predict_file(
    model: keras.Model,
    image: Image | np.ndarray,
    out: Path,
    setting: PredictionSetting | None = None,
    threshold: float | None = None,
    skip_contrast: int = 0,
    overwrite: bool = False,
    tissue: bool = False,
    cluster=None,
    ome_zarr: str = "0.4",
    **changes,
) -> dict:
    """Predict an image that need not fit into memory, from file to file.

    Memory depends on the image's width, not on its height. Rows are safe on disk once they are finished: after an
    interruption the same call goes on after them, and the file, which is complete or absent, has the same bytes.

    Args:
        model, setting, changes: as for `inference.predict_tiled`.
        image: path of a TIFF, OME-Zarr or .npy file, which are read row by row, or of another image; or an
            `ImagePart` of a file, or an array.
        out: .tif (with the image's size of a pixel; a BigTIFF if it needs 4 GB), .zarr or .npy. If the same call
            has finished it before, and nobody has changed it since, it stays, and its report is returned.
        threshold: probability from which a pixel is foreground: a uint8 mask of 0 and 255 is written or, from a model
            with classes, of their values. None writes the float32 probability of foreground.
        skip_contrast: tiles in which no channel spans this many grey levels, once blocks of 8 x 8 pixels are averaged,
            count as background and are not predicted. 0 predicts all.
        overwrite: replace `out` if it exists.
        tissue: tiles without tissue count as background and are not even read; see `tissue`. For stained slides.
        cluster: a Dask client of `cluster.connect`, whose workers predict; None predicts here.
        ome_zarr: version of a .zarr, "0.4" or "0.5".

    Returns:
        tiles, skipped (tiles), tile_height, tile_width, resumed_at_row, megapixels (predicted in this call, the image's
        own), seconds, megapixels_per_second.

    Raises:
        UserError: as for `inference.predict_tiled`; `out` exists or cannot be written (rows finished so far are kept);
            the image cannot be read (names the region).

    Example:
        from tiledseg_utils.prediction.inference import load_model, predict_file
        report = predict_file(load_model("model.keras"), "slide.tif", "mask.tif", threshold=0.5)
    """
    check_channels(model, name_of(model))
    classes = classes_of(model) if model.output_shape[-1] > 1 else None
    if threshold is None:
        model = foreground_of(model)
    if threshold is not None:
        check_value(Parameters, "threshold", threshold)
    check_value(CommandSetting, "skip_contrast", skip_contrast)
    setting = with_changes(setting, changes)
    with open_image(model, image) as source:
        if tissue and source.channels is not None:
            remedy = "Leave out --tissue; --skip-contrast skips what is even, in any kind of image"
            raise UserError(source.name, "has channels without colours, by which tissue would be found", remedy)
        plan = plan_prediction(model, source.shape, setting)
        empty = tiles_without_tissue(tissue_mask(source), source.shape, plan) if tissue else None
        identity = _identity_of(model, source, plan, setting, threshold, skip_contrast)
        identity |= {"empty tiles": np.flatnonzero(empty).tolist()} if tissue else {}
        identity |= {"ome_zarr": ome_zarr} if Path(out).suffix == ".zarr" else {}
        finished = None if overwrite else find_finished(Path(out), identity)
        if finished is not None:
            return finished | {"resumed_at_row": source.shape[0], "megapixels": 0.0, "seconds": 0.0}
        dtype = np.float32 if threshold is None else np.uint8
        size = find_pixel_size(image) if is_named(image) else None
        options = {"overwrite": overwrite, "pixel_size": size, "ome_zarr": ome_zarr}
        with little_memory(), BandWriter(out, source.shape, dtype, identity, **options) as writer:
            decide = None if threshold is None else partial(_decide, threshold=threshold, classes=classes)
            return _stream(model, source, plan, setting, writer, decide, skip_contrast, empty, cluster)


def _decide(band: np.ndarray, threshold: float, classes: Classes | None) -> np.ndarray:
    """Rows of a mask, (n, W) uint8, from probabilities, (n, W) or, of classes, (n, W, C)."""
    if classes is None:
        return np.uint8(255) * (band >= threshold)
    return classes.stored(find_classes(band, threshold))


def _identity_of(model, source, plan, setting, threshold, skip_contrast) -> dict:
    """All that the rows depend on, for `BandWriter`."""
    tiles_per_batch = setting.batch_size * device_count()
    return {
        "image": source.identity(),
        "model": fingerprint(model),
        "plan": [[axis.length, axis.tile, axis.origins, axis.seams] for axis in (plan.rows, plan.columns)],
        "settings": [
            setting.mode,
            setting.overlap,
            setting.test_time_augmentation,
            tiles_per_batch,
            threshold,
            skip_contrast,
        ],
    }


def _stream(model, source, plan, setting, writer, decide, skip_contrast, empty, cluster) -> dict:
    """Predict the rows that `writer` does not have yet, and report on it as `predict_file` does."""
    done, skipped = writer.rows, 0
    # Tile rows that end above the first missing row are not needed any more.
    ends = [origin + plan.rows.used(i).stop for i, origin in enumerate(plan.rows.origins)]
    first_row = next((i for i, end in enumerate(ends) if end > done), len(ends))

    def counted(maps: Iterator[np.ndarray | None]) -> Iterator[np.ndarray | None]:
        nonlocal skipped
        for probability in maps:
            skipped += probability is None
            yield probability

    started, row_mpx = time.perf_counter(), source.shape[1] / 1e6
    with (
        contextlib.closing(maps_from(cluster, model, source, plan, setting, first_row, skip_contrast, empty)) as maps,
        progress(total=source.shape[0] * row_mpx, initial=done * row_mpx, unit="Mpx") as bar,
    ):
        channels = model.output_shape[-1]
        bands = stitch_rows(counted(maps), plan, source.shape, first_row, channels) if first_row < len(ends) else ()
        for start, band in bands:
            band = band[max(0, done - start) :]
            writer.write(band if decide is None else decide(band))
            bar.update(min(len(band) * row_mpx, bar.total - bar.n))  # A sum of rounded numbers may exceed the total.
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
