"""From maps of probability to instances: which pixel belongs to which nucleus.

A nucleus never spans two connected components of the foreground. Every method here therefore divides one component at a
time, by the maps inside it, and its result does not depend on how the image was cut: `label_rows` takes rows as tiled
prediction finishes them, holds back components that may still grow, and gives each the label that it would have in the
whole image.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from ..base.files import UserError, check_names, progress
from ..base.finished import find_finished
from ..base.memory import little_memory
from ..data.pictures.part import Image, is_named, part_of
from ..data.pixel_size import read_pixel_size
from ..data.streaming import Source, open_source
from ..models.backend import keras
from ..models.instance_unet import CHANNELS
from ..models.model_files import fingerprint
from ..scoring.foreground import check_probabilities
from ..scoring.nucleus_tables import check_absent, write_nuclei
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.schema import check_value
from .band_writer import BandWriter
from .cluster import maps_from
from .dividing import FOREGROUND, METHODS, NEEDED, drop_wrong_flow, in_one_piece
from .measuring import NucleusMeter
from .tiled import open_image, plan_prediction, stitch_rows, with_changes

NO_PROBABILITIES = "Scale them to 0 to 1, or write the map with predict --probability"

PIXELS_AT_A_TIME = 2**23  # of a map of probabilities that is read by rows
DROPPED = -1  # in place of a label, until the rows leave: the pixel's component is done


def label_rows(
    bands: Iterable[tuple[int, np.ndarray]],
    method: str = "watershed",
    threshold: float = 0.5,
    min_area: int = 16,
    name: str = "the maps",
    flow_threshold: float = 0.0,
) -> Iterator[tuple[int, np.ndarray]]:
    """Instances of an image that comes row by row, as rows of labels.

    Nuclei are numbered from 1 in the order in which their component ends, from top to bottom and left to right, so that
    labels do not depend on how the rows were divided. Memory depends on the tallest component, not on the image.

    Args:
        bands: (first row, maps (n, W) or (n, W, C) float32), in order, as `inference.stitch_rows` yields them.
        method: a name in `METHODS`; all but "components" and "watershed" need all six channels.
        threshold: of the foreground probability, the first channel.
        min_area: pixels; smaller components are dropped, smaller parts of a component join their neighbour.
        name: of the file with the maps, for errors.
        flow_threshold: see `dividing.drop_wrong_flow`; 0 accepts every nucleus.

    Yields:
        (first row, (n, W) int32).

    Raises:
        UserError: the method is not known or needs other maps, or the foreground's values are not probabilities.
    """
    _check_rule(method, threshold, min_area, flow_threshold)
    waiting, count = None, 0
    for start, band, is_last in _with_last(bands):
        band = band if band.ndim == 3 else band[..., None]
        _check_maps(band, name, method, flow_threshold)
        if waiting is None:
            top, maps, labels = start, band, np.zeros(band.shape[:2], np.int32)
        else:
            top = waiting[0]
            maps = np.concatenate([waiting[1], band])
            labels = np.concatenate([waiting[2], np.zeros(band.shape[:2], np.int32)])
        free = (maps[..., 0] >= threshold) & (labels == 0)
        _, components, boxes, _ = cv2.connectedComponentsWithStats(free.astype(np.uint8), connectivity=8)
        open_ones = set() if is_last else set(np.unique(components[-1]).tolist()) - {0}
        for number in _in_order_of_end(components, boxes, open_ones):
            left, above, width, height, area = boxes[number]
            if area < min_area:
                continue
            box = np.s_[above : above + height, left : left + width]
            mask = components[box] == number
            # Nothing to divide; this saves time where there are 100,000 nuclei.
            parts = mask if method == "components" else in_one_piece(METHODS[method](maps[box], mask), mask, min_area)
            if flow_threshold:
                parts = drop_wrong_flow(maps[box], parts.astype(np.int32), flow_threshold)
            labels[box][mask] = np.where(parts[mask] > 0, parts[mask] + count, DROPPED)
            count += int(parts.max())
        keep = min((boxes[number][1] for number in open_ones), default=len(labels))
        if keep:
            yield top, np.maximum(labels[:keep], 0)
        waiting = top + keep, maps[keep:].copy(), labels[keep:].copy()


def _check_rule(method: str, threshold: float, min_area: int, flow_threshold: float) -> None:
    """Refuse wrong arguments of `label_rows` before anything is predicted or written."""
    check_names("method", [method], METHODS)
    check_value(Parameters, "threshold", threshold)
    check_value(CommandSetting, "nucleus_area", min_area, "min_area")
    check_value(CommandSetting, "flow_threshold", flow_threshold)


def _check_maps(band: np.ndarray, name: str, method: str, flow_threshold: float) -> None:
    """Refuse maps, (n, W, C), that are no probabilities, or too few for a method or for the check of flows."""
    check_probabilities(band[..., FOREGROUND], name, NO_PROBABILITIES)
    needed = max(NEEDED.get(method, 1), CHANNELS if flow_threshold else 1)
    if band.shape[2] < needed:
        wanted = f"flow_threshold {flow_threshold:g}" if flow_threshold else f"method {method}"
        remedy = "Predict with an instance_unet that has them, or choose components or watershed and no flow_threshold"
        raise UserError(wanted, f"needs {needed} maps, and there are {band.shape[2]}", remedy)


def _with_last(bands: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Also say whether a band is the last. Bands are copied, because their memory may be used again for the next."""
    previous = None
    for start, band in bands:
        if previous is not None:
            yield *previous, False
        previous = start, band.copy()
    if previous is not None:
        yield *previous, True


def _in_order_of_end(components: np.ndarray, boxes: np.ndarray, without: set[int]) -> list[int]:
    """Numbers of components, ordered by their last row, and in it by their first column."""
    last = boxes[:, 1] + boxes[:, 3] - 1

    def end(number: int) -> tuple[int, int]:
        left, width = boxes[number][[0, 2]]
        return last[number], left + int(np.argmax(components[last[number], left : left + width] == number))

    return sorted((number for number in range(1, len(boxes)) if number not in without), key=end)


def label_image(
    maps: np.ndarray,
    method: str = "watershed",
    threshold: float = 0.5,
    min_area: int = 16,
    flow_threshold: float = 0.0,
) -> np.ndarray:
    """Instances of a whole image; arguments as for `label_rows`.

    Args:
        maps: (H, W) foreground probability, or (H, W, 6) as `models.instance_unet` predicts them; float32.

    Returns:
        (H, W) int32, 0 = background, instances from 1 without gaps.
    """
    rule = {"method": method, "threshold": threshold, "min_area": min_area, "flow_threshold": flow_threshold}
    return np.concatenate([rows for _, rows in label_rows([(0, maps)], **rule)])


def label_file(
    image: Image,
    out: Path,
    model: keras.Model | None = None,
    method: str = "watershed",
    threshold: float = 0.5,
    min_area: int = 16,
    flow_threshold: float = 0.0,
    overwrite: bool = False,
    setting: PredictionSetting | None = None,
    table: Path | None = None,
    pixel_size: float | None = None,
    cluster=None,
    ome_zarr: str = "0.4",
    **changes,
) -> int:
    """Instances of an image or a probability map larger than memory, from file to file, row by row.

    Args:
        image: a probability map, (H, W) float32, as `inference.predict_file` writes it; or, with a model, an image.
        out: .tif, .zarr or .npy of labels, int32, or uint16 if there are up to 65,535 nuclei; complete or absent. What
            the same call has finished, and nobody has changed, stays; what it has not, starts over.
        model: one that predicts a single probability, or `models.instance_unet`.
        method, threshold, min_area, flow_threshold: see `label_rows`.
        overwrite: replace what exists.
        setting, changes, cluster: how the model predicts, see `inference.predict_file`.
        ome_zarr: version of a .zarr, "0.4" or "0.5".
        table: .csv of all nuclei, see `measure.measure`; with a model, also their brightness, as the file stores it.
        pixel_size: side of a pixel, µm, for `out` and `table`; by default what the image's file says.

    Returns:
        the number of instances.

    Raises:
        UserError: a file cannot be read or written; the method needs other maps; there are no probabilities.

    Example:
        from tiledseg_utils.prediction.inference import load_model
        from tiledseg_utils.prediction.instances import label_file
        nuclei = label_file("slide.tif", "labels.tif", load_model("model.keras"))
    """
    rule = {"method": method, "threshold": threshold, "min_area": min_area, "flow_threshold": flow_threshold}
    _check_rule(**rule)
    setting, pixel_size = with_changes(setting, changes), _pixel_size(image, pixel_size)
    opened = open_source(image) if model is None else open_image(model, image)
    with opened as source, little_memory():
        identity = {"image": source.identity(), "settings": [*rule.values(), asdict(setting), pixel_size]}
        identity |= {"model": None if model is None else fingerprint(model)}
        identity |= {"ome_zarr": ome_zarr} if Path(out).suffix == ".zarr" else {}
        finished = None if overwrite else find_finished(Path(out), identity)
        if finished is not None and (table is None or find_finished(table, identity) is not None):
            return finished["nuclei"]
        if table is not None and not overwrite:
            check_absent(table, identity)
        meter = None if table is None else NucleusMeter(source, has_image=model is not None)
        replace = overwrite or finished is not None  # Labels that lack their table are made again.
        with contextlib.ExitStack() as stack:
            bands = _bands_of(source, model, setting, stack, cluster)
            writer = BandWriter(out, source.shape, np.int32, identity, replace, False, pixel_size, ome_zarr)
            rows = label_rows(meter.remember(bands) if meter else bands, **rule, name=source.name)
            count = _write_labels(rows, stack.enter_context(writer), meter)
        if meter is not None:
            write_nuclei(table, meter.table(pixel_size), part_of(image).path.name, identity, {"nuclei": count})
        return count


def _pixel_size(image: Image | np.ndarray, given: float | None) -> float | None:
    """The side of a pixel, µm: as given, else what the image's file says."""
    if given is not None:
        check_value(CommandSetting, "pixel_size", given)
        return given
    return read_pixel_size(image) if is_named(image) else None


def _bands_of(
    source: Source, model: keras.Model | None, setting: PredictionSetting, stack: contextlib.ExitStack, cluster
) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of the maps that a model predicts of an image, or of the map that the file itself is."""
    if model is None:
        return _read_probabilities(source)
    plan = plan_prediction(model, source.shape, setting)
    maps = stack.enter_context(contextlib.closing(maps_from(cluster, model, source, plan, setting)))
    return stitch_rows(maps, plan, source.shape, channels=model.output_shape[-1])


def _read_probabilities(source: Source) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of a probability map, as (first row, (n, W) float32)."""
    if source.dtype != np.float32:
        raise UserError(source.name, "holds whole numbers, not probabilities", "Write it with predict --probability")
    step = max(1, PIXELS_AT_A_TIME // source.shape[1])
    for start in range(0, source.shape[0], step):
        rows = source.read_rows(start, min(start + step, source.shape[0]))
        if (rows[..., 1:] != rows[..., :1]).any():
            remedy = "Give a map of one channel, or the image and a model"
            raise UserError(source.name, "holds colours, not probabilities", remedy)
        yield start, rows[..., 0]


def _write_labels(bands: Iterator[tuple[int, np.ndarray]], writer: BandWriter, meter: NucleusMeter | None) -> int:
    """Write rows of labels, measure them, and return the largest."""
    count = 0
    with progress(total=writer.shape[0], unit="row") as bar:
        for _, rows in bands:
            writer.write(rows)
            if meter is not None:
                meter.add(rows)
            bar.update(len(rows))
            count = max(count, int(rows.max()))
    writer.finish({"nuclei": count}, largest=count)
    return count
