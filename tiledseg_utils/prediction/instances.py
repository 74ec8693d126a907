"""From maps of probability to instances: which pixel belongs to which nucleus.

A nucleus never spans two connected components of the foreground. Every method here therefore divides one component at a
time, by the maps inside it, and its result does not depend on how the image was cut: `label_rows` takes rows as tiled
prediction finishes them, holds back components that may still grow, and gives each the label that it would have in the
whole image.

Pixels that touch at a side or at a corner are connected: in components, in floods, and in nuclei. So every pixel of a
component belongs to a nucleus, and every nucleus is one connected piece of it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max
from skimage.measure import label as label_pieces
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed as flood_relief

from ..base.files import UserError, check_names, progress
from ..base.finished import find_finished
from ..base.memory import little_memory
from ..data.pixel_size import read_pixel_size
from ..data.streaming import Source, open_source
from ..models.backend import keras, ops
from ..models.instance_unet import CHANNELS, FLOW, RAYS
from ..scoring.foreground import check_probabilities
from ..scoring.nucleus_tables import check_absent, write_nuclei
from ..settings.parameters import CommandSetting, Parameters, PredictionSetting
from ..settings.schema import check_value
from .band_writer import BandWriter
from .files import fingerprint
from .measuring import NucleusMeter
from .tiled import plan_prediction, predict_maps, stitch_rows, with_changes

FOREGROUND, INTERIOR, BOUNDARY = 0, 2, 3
"""Channels of the maps that `models.instance_unet` predicts, beside `FLOW`; 1 is the background of its classes."""

PIXELS_AT_A_TIME = 2**23  # of a map of probabilities that is read by rows

NO_PROBABILITIES = "Scale them to 0 to 1, or write the map with predict --probability"

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps (h, w, C) float32 around one component of the foreground and its pixels (h, w) bool, to labels (h, w) int32:
1, 2, ... on every pixel of the component, 0 outside."""


def connected_component(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The component is one nucleus. Nuclei that touch are counted as one."""
    return mask.astype(np.int32)


def watershed(maps: np.ndarray, mask: np.ndarray, depth: float = 1.0) -> np.ndarray:
    """Divide at the waists: flood the distance from the background from its summits (Beucher & Lantuejoul 1979).

    Args:
        maps, mask: see `Method`; the maps themselves are not used.
        depth: how far the distance must fall between two summits, pixels; less is roughness of the outline.
    """
    # Not cv2.distanceTransform: its last digits differ from run to run, and then floods meet elsewhere.
    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].astype(np.float32)
    # Summits whose pass is less than `depth` below become one plateau. (h_maxima would mark equal ones apart.)
    levelled = reconstruction(distance - depth, distance)
    return _flooded(-distance, local_maxima(levelled) & mask, mask)


def boundary_classes(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Start from the interiors, which a predicted boundary separates, and let them grow back over it."""
    interior = mask & (maps[..., INTERIOR] > maps[..., BOUNDARY])
    return _flooded(np.zeros(mask.shape), interior, mask)


def _flooded(relief: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Flood a relief from each connected marker; without any, the component is one nucleus."""
    count, labels = cv2.connectedComponents(markers.astype(np.uint8), connectivity=8)
    return mask.astype(np.int32) if count <= 2 else _flood(relief, labels, mask)


def _flood(relief: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Let labels, (h, w) int32, grow over a mask, also over corners, as components are connected."""
    return flood_relief(relief, markers, connectivity=2, mask=mask).astype(np.int32)


class FollowFlow(keras.layers.Layer):
    """Where a walker from each pixel that follows a vector field ends: (N, H, W, 2) to (N, H, W, 2), rows and columns.

    It makes `steps` steps (Euler's method), each as long as the vector of the nearest pixel, in pixels.
    """

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, flow):
        _, height, width, _ = flow.shape
        start = ops.cast(ops.stack(ops.meshgrid(ops.arange(height), ops.arange(width), indexing="ij"), -1), "float32")
        last = ops.convert_to_tensor([height - 1.0, width - 1.0])

        def walk(field):
            vectors = ops.reshape(field, (-1, 2))

            def step(_, place):
                pixel = ops.cast(ops.clip(ops.round(place), 0, last), "int32")
                return place + ops.take(vectors, pixel[..., 0] * width + pixel[..., 1], axis=0)

            return ops.fori_loop(0, self.steps, step, start)

        return ops.vectorized_map(walk, flow)


@cache
def _compiled_flow(side: int, steps: int) -> keras.Model:
    """Compiled once for each side, a power of two: few programs, whatever the sizes of components."""
    inputs = keras.Input((side, side, 2), dtype="float32")  # Places need its digits, whatever policy is set.
    return keras.Model(inputs, FollowFlow(steps, dtype="float32")(inputs))


def follow_flow(flow: np.ndarray, steps: int = 100) -> np.ndarray:
    """`FollowFlow` for one field, (H, W, 2) float32."""
    height, width = flow.shape[:2]
    side = 1 << max(5, (max(height, width) - 1).bit_length())
    padded = np.zeros((1, side, side, 2), np.float32)
    padded[0, :height, :width] = flow
    return np.asarray(_compiled_flow(side, steps).predict_on_batch(padded))[0, :height, :width]


def flow_sinks(maps: np.ndarray, mask: np.ndarray, smoothing: float = 2.0, share: float = 0.1) -> np.ndarray:
    """Follow the predicted direction from each pixel to the centre of its nucleus; pixels that meet are one nucleus.

    After Cellpose (Stringer et al., Nature Methods 2021, doi 10.1038/s41592-020-01018-x).

    Args:
        maps, mask: see `Method`.
        smoothing: sigma of the Gaussian over the counts of arrivals, pixels, since walkers rarely meet exactly.
        share: of the largest count, which another peak must reach; pixels of lower peaks join the nearest that does.
    """
    ends = follow_flow(maps[..., FLOW] * mask[..., None])[mask]
    pixels = np.rint(ends).astype(int).clip(0, np.array(mask.shape) - 1)
    arrivals = np.zeros(mask.shape)
    np.add.at(arrivals, tuple(pixels.T), 1)
    arrivals = gaussian_filter(arrivals, smoothing, mode="constant")
    sinks = peak_local_max(arrivals, min_distance=3, threshold_rel=share, exclude_border=False)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = 1 + cKDTree(sinks).query(ends)[1]
    return labels


def star_polygons(maps: np.ndarray, mask: np.ndarray, shared: float = 0.5) -> np.ndarray:
    """Accept the outlines that pixels draw around themselves, the most central first; what is left over joins them.

    After StarDist (Schmidt et al., MICCAI 2018, arXiv:1806.03535), with its non-maximum suppression inside one
    component. A pixel is central if its shortest ray is long beside its mean ray, and if it is interior.

    Args:
        maps, mask: see `Method`.
        shared: an outline that shares more than this part of its area with accepted ones is another view of them.
    """
    rows, columns = np.nonzero(mask)
    rays = maps[rows, columns, CHANNELS:]
    interior = maps[rows, columns, INTERIOR]
    centrality = interior * rays.min(axis=1) / rays.mean(axis=1)
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    labels, count = np.zeros(mask.shape, np.int32), 0
    is_open = interior > maps[rows, columns, BOUNDARY]
    for pixel in np.argsort(-centrality, kind="stable"):
        if not is_open[pixel]:
            continue
        outline = np.stack(
            [columns[pixel] + rays[pixel] * np.cos(angles), rows[pixel] + rays[pixel] * np.sin(angles)], -1
        )
        covered = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [np.rint(outline).astype(np.int32)], 1)
        covered = (covered > 0) & mask
        is_open &= ~covered[rows, columns]
        is_open[pixel] = False
        if (covered & (labels > 0)).sum() <= shared * covered.sum():
            count += 1
            labels[covered & (labels == 0)] = count
    return mask.astype(np.int32) if count <= 1 else _flood(np.zeros(mask.shape), labels, mask)


METHODS: dict[str, Method] = {
    "components": connected_component,
    "watershed": watershed,
    "boundary": boundary_classes,
    "flow": flow_sinks,
    "rays": star_polygons,
}
"""By name; the first two need only the foreground."""

NEEDED = {"boundary": CHANNELS, "flow": CHANNELS, "rays": CHANNELS + RAYS}
"""How many maps a method needs at least, if more than the foreground."""


def methods_for(channels: int) -> list[str]:
    """The names of the methods for which so many maps are enough."""
    return [method for method in METHODS if NEEDED.get(method, 1) <= channels]


def _divide(maps: np.ndarray, mask: np.ndarray, method: Method, min_area: int) -> np.ndarray:
    """Labels 1, 2, ... of one component, each of them one connected piece.

    Of a label in several pieces, the largest counts. The others, and pieces below `min_area`, are flooded by their
    neighbours.
    """
    labels = method(maps, mask)
    pieces = label_pieces(labels, connectivity=2)
    areas, owners = np.bincount(pieces.ravel()), np.zeros(pieces.max() + 1, np.int32)
    owners[pieces] = labels
    by_area = np.argsort(areas, kind="stable")
    largest = np.zeros(owners.max() + 1, np.int64)
    largest[owners[by_area]] = by_area  # The last one written, the largest, stays.
    kept = largest[1:][areas[largest[1:]] >= max(1, min_area)]  # In the order of their labels; 0 is not a piece.
    kept = kept[kept > 0]
    if len(kept) <= 1:
        return mask.astype(np.int32)
    numbers = np.zeros(len(areas), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    labels = numbers[pieces]
    return labels if len(kept) == len(areas) - 1 else _flood(np.zeros(mask.shape), labels, mask)


def label_rows(
    bands: Iterable[tuple[int, np.ndarray]],
    method: str = "watershed",
    threshold: float = 0.5,
    min_area: int = 16,
    name: str = "the maps",
) -> Iterator[tuple[int, np.ndarray]]:
    """Instances of an image that comes row by row, as rows of labels.

    Nuclei are numbered from 1 in the order in which their component ends, from top to bottom and left to right, so that
    labels do not depend on how the rows were divided. Memory depends on the tallest component, not on the image.

    Args:
        bands: (first row, maps (n, W) or (n, W, C) float32), in order, as `inference.stitch_rows` yields them.
        method: a name in `METHODS`; "boundary" and "flow" need all six channels.
        threshold: of the foreground probability, the first channel.
        min_area: pixels; smaller components are dropped, smaller parts of a component join their neighbour.
        name: of the file with the maps, for errors.

    Yields:
        (first row, (n, W) int32).

    Raises:
        UserError: the method is not known or needs other maps, or the foreground's values are not probabilities.
    """
    _check_rule(method, threshold, min_area)
    waiting, count = None, 0
    for start, band, is_last in _with_last(bands):
        band = band if band.ndim == 3 else band[..., None]
        check_probabilities(band[..., FOREGROUND], name, NO_PROBABILITIES)
        needed = NEEDED.get(method, 1)
        if band.shape[2] < needed:
            remedy = "Predict with an instance_unet that has them, or choose components or watershed"
            raise UserError(f"method {method}", f"needs {needed} maps, and there are {band.shape[2]}", remedy)
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
            parts = mask if method == "components" else _divide(maps[box], mask, METHODS[method], min_area)
            labels[box][mask] = parts[mask] + count
            count += int(parts.max())
        keep = min((boxes[number][1] for number in open_ones), default=len(labels))
        if keep:
            yield top, labels[:keep]
        waiting = top + keep, maps[keep:].copy(), labels[keep:].copy()


def _check_rule(method: str, threshold: float, min_area: int) -> None:
    """Refuse wrong arguments of `label_rows` before anything is predicted or written."""
    check_names("method", [method], METHODS)
    check_value(Parameters, "threshold", threshold)
    check_value(CommandSetting, "nucleus_area", min_area, "min_area")


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


def label_image(maps: np.ndarray, method: str = "watershed", threshold: float = 0.5, min_area: int = 16) -> np.ndarray:
    """Instances of a whole image; arguments as for `label_rows`.

    Args:
        maps: (H, W) foreground probability, or (H, W, 6) as `models.instance_unet` predicts them; float32.

    Returns:
        (H, W) int32, 0 = background, instances from 1 without gaps.
    """
    return np.concatenate([rows for _, rows in label_rows([(0, maps)], method, threshold, min_area)])


def label_file(
    image: Path,
    out: Path,
    model: keras.Model | None = None,
    method: str = "watershed",
    threshold: float = 0.5,
    min_area: int = 16,
    overwrite: bool = False,
    setting: PredictionSetting | None = None,
    table: Path | None = None,
    pixel_size: float | None = None,
    **changes,
) -> int:
    """Instances of an image or a probability map larger than memory, from file to file, row by row.

    Args:
        image: what to label: a probability map as `inference.predict_file` writes it, (H, W) float32 in .tif or .npy;
            or, with a model, an image.
        out: .tif, .ome.tif or .npy of labels, int32, or uint16 in a .tif of up to 65,535 nuclei; it appears under its
            name only when it is complete. After an interruption it starts over: where the prediction takes long,
            predict to a file first, which resumes. If the same call has finished it before, and nobody has changed it
            since, it stays.
        model: one that predicts a single probability, or `models.instance_unet`.
        method, threshold, min_area: see `label_rows`.
        overwrite: replace `out` if it exists.
        setting, changes: how the model predicts, as for `inference.predict_tiled`.
        table: .csv of all nuclei, as `scoring.measure.measure` describes them; with a model, also their brightness in
            the image, in the numbers that the file stores.
        pixel_size: side of a pixel, µm, for `out` and `table`; by default what the image's file says.

    Returns:
        the number of instances.

    Raises:
        UserError: a file cannot be read or written, or does not hold probabilities; the method needs other maps; the
            model does not predict probabilities.

    Example:
        from tiledseg_utils.prediction.inference import load_model
        from tiledseg_utils.prediction.instances import label_file
        nuclei = label_file("slide.tif", "labels.tif", load_model("model.keras"))
    """
    _check_rule(method, threshold, min_area)
    if pixel_size is not None:
        check_value(CommandSetting, "pixel_size", pixel_size)
    elif not isinstance(image, np.ndarray):
        pixel_size = read_pixel_size(image)
    setting = with_changes(setting, changes)
    with open_source(image) as source, little_memory(), contextlib.ExitStack() as closing:
        identity = {
            "image": source.identity(),
            "model": fingerprint(model) if model is not None else None,
            "settings": [method, threshold, min_area, asdict(setting), pixel_size],
        }
        finished = None if overwrite else find_finished(Path(out), identity)
        if finished is not None and (table is None or find_finished(table, identity) is not None):
            return finished["nuclei"]
        if table is not None and not overwrite:
            check_absent(table, identity)
        if model is not None:
            plan = plan_prediction(model, source.shape, setting)
            maps = predict_maps(model, source, plan, setting)
            closing.enter_context(contextlib.closing(maps))
            bands = stitch_rows(maps, plan, source.shape, channels=model.output_shape[-1])
        else:
            bands = _read_probabilities(source)
        meter = NucleusMeter(source, has_image=model is not None) if table is not None else None
        bands = bands if meter is None else meter.remember(bands)
        rows = label_rows(bands, method, threshold, min_area, source.name)
        replace = overwrite or finished is not None  # Labels that lack their table are made again.
        with BandWriter(out, source.shape, np.int32, identity, replace, False, pixel_size) as writer:
            count = _write_labels(rows, writer, meter)
        if meter is not None:
            write_nuclei(table, meter.table(pixel_size), Path(image).name, identity, {"nuclei": count})
        return count


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
