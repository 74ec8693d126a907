"""What tiles do to a prediction: right and wrong methods of laying them, and how to see what each costs."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np

from ..base.meter import Meter
from ..models.backend import keras
from ..models.receptive_field import receptive_field
from ..prediction.forward import predict_batches
from ..prediction.inference import as_trained, predict_plan, predict_reduced, predict_whole
from ..prediction.tiled import open_image, predict_maps
from ..scoring.pixels import Predict, count_pixels
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.schema import check_value
from ..tiles.planning import Plan, blended_plan, make_plan
from ..tiles.tiling import pad_to


def tiling_methods(model: keras.Model, tile_size: int) -> dict[str, Callable[[Sequence[int]], Plan]]:
    """Right and wrong methods of laying tiles, to compare them: by name, from the shape of an image to a plan.

    Tiles "side by side"; with "a third of the halo" on each side; with "one pixel more" than the halo, which takes them
    off the grid of two or more poolings; "exact"; and "blended" with the overlap of "a third of the halo". Methods
    whose overlap would fill the tile are left out.
    """
    field = receptive_field(model)
    halo, third, step = field.halo, field.halo // 3, field.alignment
    margins = {"side by side": 0, "a third of the halo": third, "one pixel more": halo + 1, "exact": halo}
    plans = {
        name: functools.partial(make_plan, tile=tile_size, overlap=2 * margin, dropped=margin, alignment=step)
        for name, margin in margins.items()
        if 2 * margin < tile_size
    }
    overlap = min(2 * third, tile_size // 2) // step * step
    return plans | {"blended": lambda shape: blended_plan(shape, step, halo, overlap, tile_size)}


def prediction_methods(model: keras.Model, plans: Mapping[str, Callable], reduced_size: int) -> dict[str, Predict]:
    """Methods of predicting, by name.

    The "whole image", which the others should equal; "reduced" to `reduced_size` pixels; tiles laid by each of `plans`
    (see `tiling_methods`); and the mean over "8 views" of the whole image.
    """
    tiled = {name: functools.partial(predict_plan, model, plan=plan) for name, plan in plans.items()}
    return {
        "whole image": functools.partial(predict_whole, model),
        "reduced": functools.partial(predict_reduced, model, size=reduced_size),
        **tiled,
        "8 views": functools.partial(predict_whole, model, test_time_augmentation=True),
    }


def seam_score(probability: np.ndarray, row_seams: Sequence[int], column_seams: Sequence[int]) -> float:
    """How much more a prediction changes across the junctions of tiles than between other neighbouring pixels.

    Args:
        probability: (H, W), any numbers.
        row_seams, column_seams: first row or column after each junction, as in `planning.Axis.seams`.

    Returns:
        mean absolute difference across the junctions over that elsewhere: about 1 without seams. NaN where there are no
        junctions or nothing changes elsewhere. It needs no reference, and no other prediction.
    """
    at, elsewhere = [], []
    for axis, edges in enumerate((row_seams, column_seams)):
        jumps = np.abs(np.diff(probability.astype(np.float64), axis=axis))
        behind = np.asarray([edge - 1 for edge in edges if edge < probability.shape[axis]], int)
        at.append(np.take(jumps, behind, axis=axis).ravel())
        elsewhere.append(np.delete(jumps, behind, axis=axis).ravel())
    at, elsewhere = np.concatenate(at), np.concatenate(elsewhere)
    usual = elsewhere.mean() if elsewhere.size else 0.0
    return float(at.mean() / usual) if at.size and usual > 0 else math.nan


def measure_methods(
    methods: Mapping[str, Predict], plans: Mapping[str, Callable], pictures: Sequence[tuple], threshold: float
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """What each method of predicting the same images is worth and costs. The others should equal the first.

    Args:
        methods: by name.
        plans: for methods with tiles, by the same names, from the shape of an image to its plan. Methods without tiles
            are searched for seams where the first plan has its junctions.
        pictures: images (H, W, 3) uint8 with their masks (H, W) bool. The first is predicted once beforehand, so that
            compiling is not timed.
        threshold: of the probability.

    Returns:
        a record for each method: `dice` (mean over the images), `seam_score` (mean over those with junctions, NaN
        without any), `largest_difference` of any pixel from the first method, `seconds` of predicting all, `added_mib`
        at most; and the probabilities of the first image by method.
    """
    check_value(Parameters, "threshold", threshold)
    found = {method: [] for method in methods}
    first_maps = {}
    for image, reference in pictures:
        expected = None
        for method, predict in methods.items():
            if method not in first_maps:
                first_maps[method] = predict(image)
            with Meter() as meter:
                probability = predict(image)
            expected = probability if expected is None else expected
            dice = count_pixels(probability >= threshold, reference).dice
            plan = plans.get(method, next(iter(plans.values())))
            seam = seam_score(probability, *plan(image.shape).seams)
            found[method].append((dice, seam, np.abs(probability - expected).max(), meter.seconds, meter.added_mib))
    rows = []
    for method, values in found.items():
        dice, seam, difference, seconds, added = np.array(values, float).T
        seams = seam[np.isfinite(seam)]
        rows.append(
            {
                "method": method,
                "dice": float(dice.mean()),
                "seam_score": float(seams.mean()) if seams.size else math.nan,
                "largest_difference": float(difference.max()),
                "seconds": round(float(seconds.sum()), 2),
                "added_mib": round(float(added.max())),
            }
        )
    return rows, first_maps


def disagreement_map(model: keras.Model, image: np.ndarray, plan: Plan, batch_size: int = 1) -> np.ndarray:
    """By how much the tiles that share a pixel disagree about it: (H, W) float32 in [0, 1], highest less lowest
    probability.

    Only tiles with a weight there count, so it is zero where the plan has no ramps. It needs no reference: use it to
    see what an overlap smaller than `required_halo` costs on your own images.
    """
    source = open_image(model, image)
    lowest = np.ones((plan.rows.length, plan.columns.length), np.float32)
    highest = np.zeros_like(lowest)
    maps = predict_maps(model, source, plan, PredictionSetting(batch_size=batch_size))
    places = [(i, j) for i in range(len(plan.rows.origins)) for j in range(len(plan.columns.origins))]
    for probability, (i, j) in zip(maps, places, strict=True):
        used = plan.rows.used(i), plan.columns.used(j)
        row, column = plan.rows.origins[i], plan.columns.origins[j]
        place = np.s_[row + used[0].start : row + used[0].stop, column + used[1].start : column + used[1].stop]
        lowest[place] = np.minimum(lowest[place], probability[used])
        highest[place] = np.maximum(highest[place], probability[used])
    return (highest - lowest)[: source.shape[0], : source.shape[1]]


def grid_differences(model: keras.Model, image: np.ndarray, part: int) -> dict[int, float]:
    """What it costs to lay tiles on a finer grid than a network asks for, though with more than its halo.

    Args:
        image: (H, W, 3) uint8 RGB.
        part: of the alignment, the finer grid, such as 1/4: an integer, here 4.

    Returns:
        the largest difference from the whole image, by the grid of the tiles in pixels: on the alignment, and off it.
    """
    field, whole = receptive_field(model), predict_whole(model, image)
    tile, finer = 2 * (field.halo + field.alignment), field.alignment // part
    found = {}
    for grid, margin in {field.alignment: field.halo, finer: field.halo + finer}.items():
        plan = make_plan(image.shape, tile, 2 * margin, margin, field.alignment)
        found[grid] = float(np.abs(predict_plan(model, image, plan) - whole).max())
    return found


def surroundings(model: keras.Model, image: np.ndarray, window: tuple[slice, slice], margin: int) -> np.ndarray:
    """A window of an image with a margin all around, uint8 RGB, in the colours that the network knows.

    What lies outside of the image is its reflection, also where the image is smaller than the window.

    Args:
        image: (H, W, 3) uint8 RGB.
        window: rows and columns.
        margin: pixels on each side.
    """
    missing = [max(0, part.stop - length) for part, length in zip(window, image.shape, strict=False)]
    border = (margin, margin + missing[0], margin, margin + missing[1])
    wide = cv2.copyMakeBorder(as_trained(model, image), *border, cv2.BORDER_REFLECT_101)
    rows, columns = (slice(part.start, part.stop + 2 * margin) for part in window)
    return wide[rows, columns]


def square_of_field(model: keras.Model, image: np.ndarray) -> tuple[np.ndarray, int]:
    """How large a square of an image shows the receptive field of a pixel, as `influence_map` takes it.

    Returns:
        the image, extended by its reflection where it is smaller than the smallest square; and a side of about 64,
        128, 256 or 512 pixels: the least one that holds the receptive field, or the largest one that the image holds.
    """
    field = receptive_field(model)
    step = math.lcm(16, field.alignment)
    sides = [math.ceil(side / step) * step for side in (64, 128, 256, 512)]
    image = pad_to(image, sides[0], sides[0])
    sides = [side for side in sides if side <= min(image.shape[:2])]
    return image, next((side for side in sides if side > 2 * field.radius), sides[-1])


def influence_map(model: keras.Model, image: np.ndarray, row: int, column: int, size: int) -> tuple[np.ndarray, tuple]:
    """Which parts of the surroundings the probability at one pixel depends on, by covering them up one after the other.

    Occlusion after Zeiler and Fergus (ECCV 2014, arXiv:1311.2901), with blocks of the image's mean colour.

    Args:
        image: (H, W, 3) uint8 RGB, at least `size` pixels each way.
        row, column: the pixel.
        size: side of the square that is looked at, pixels; a multiple of 16 and of the network's alignment.

    Returns:
        (16, 16) float32, the absolute change of the probability with each block covered, and the (rows, columns) of the
        image that the square takes.
    """
    alignment, side = receptive_field(model).alignment, size // 16
    starts = [
        max(0, min(at - size // 2, length - size)) for at, length in zip((row, column), image.shape, strict=False)
    ]
    starts = [start // alignment * alignment for start in starts]
    window = tuple(slice(start, start + size) for start in starts)
    image = as_trained(model, image)

    def covered() -> Iterator[np.ndarray]:
        yield image[window]
        for top, left in np.ndindex(16, 16):
            view = image[window].copy()
            view[top * side : (top + 1) * side, left * side : (left + 1) * side] = image.mean(axis=(0, 1))
            yield view

    maps = predict_batches(model.predict_on_batch, covered(), batch_size=4)
    values = np.array([probability[row - starts[0], column - starts[1]] for probability in maps])
    return np.abs(values[1:] - values[0]).reshape(16, 16), window
