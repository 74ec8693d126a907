"""Two ways of predicting, or several architectures, on the same images: measured in the same way."""

import gc
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..base.memory import release_freed_memory
from ..base.meter import Meter
from ..data import images
from ..models.backend import keras
from ..models.receptive_field import receptive_field
from ..prediction import inference
from ..scoring.pixels import Predict, score_images, summarize
from ..scoring.statistics import paired_difference
from ..training import fit as training


def compare(
    ways: Mapping[str, Predict],
    pairs: Sequence[images.Pair],
    threshold: float,
    min_area: int = 0,
    min_confidence: float = 0.0,
    seed: int = 0,
    warm_up: np.ndarray | None = None,
) -> tuple[dict, dict]:
    """Predict the same images in two ways, and find their foreground alike (`find_foreground`).

    Each way first predicts `warm_up`, or the first image, so that compiling is not timed; reading is not timed either.

    Returns:
        results by way: `dice` and `iou` as in `summarize`, `seconds` of predicting, `megapixels_per_second`, and
        `added_mib`, the largest memory that predicting one image took on top of what was there; and under "difference"
        the first way's Dice less the second's as `paired_difference` gives it (`dice_mean`, `ci95`);
        masks by way and stem, (H, W) bool.
    """
    results, masks = {}, {}
    for way, predict in ways.items():
        predict(images.read_pair(pairs[0])[0] if warm_up is None else warm_up)
        meters = []

        def metered(image, predict=predict, meters=meters):
            with Meter() as meter:
                probability = predict(image)
            meters.append(meter)
            return probability

        masks[way], counts = score_images(metered, pairs, threshold, min_area, min_confidence)
        summary, seconds = summarize(counts), sum(meter.seconds for meter in meters)
        pixels = sum(mask.size for mask in masks[way].values())
        results[way] = {
            "dice": summary["dice"],
            "iou": summary["iou"],
            "seconds": round(seconds, 3),
            "megapixels_per_second": round(pixels / 1e6 / seconds, 3),
            "added_mib": round(max(meter.added_mib for meter in meters)),
        }
    difference = paired_difference(*(results[way]["dice"]["per_image"] for way in ways), seed)
    results["difference"] = {"dice_mean": difference["mean"], "ci95": difference["ci95"]}
    return results, masks


def result_rows(results: Mapping) -> list[dict]:
    """What `compare` returns as records, one for each way."""
    costs = ("seconds", "megapixels_per_second", "added_mib")
    return [
        {"way": way, "mean_dice": result["dice"]["mean"], "pooled_dice": result["dice"]["pooled"]}
        | {"mean_iou": result["iou"]["mean"]}
        | {name: result[name] for name in costs}
        for way, result in results.items()
        if way != "difference"
    ]


def train_each(
    run: Path, names: Sequence[str], model_settings: Mapping, augmentation: Mapping, setting, seed: int
) -> dict[str, dict]:
    """Train each architecture in `<run>/architectures/<name>` on the tiles of the run; what is trained, stays.

    Args:
        run: run folder with `tiles`.
        names: in `models.MODELS`.
        model_settings: settings by name; those that are not there have their defaults.
        augmentation, setting, seed: as for `training.train`, the same for all.

    Returns:
        what `training.train` returns, by name.
    """
    results = {}
    for name in names:
        print(name, flush=True)
        gc.collect()  # A model refers to itself in circles, and the one before would stay through the next training.
        release_freed_memory()
        folder, own = Path(run) / "architectures" / name, model_settings.get(name, {})
        results[name] = training.train(folder, name, own, augmentation, setting, seed, tiles=Path(run) / "tiles")
    return results


def tiles_per_second(model: keras.Model, tiles: np.ndarray) -> float:
    """How many of some tiles (N, T, T, 3) a network predicts in a second, one by one: the best of three rounds."""
    seconds = []
    for _ in range(4):  # The first compiles.
        started = time.perf_counter()
        for tile in tiles:
            model.predict_on_batch(tile[None])
        seconds.append(time.perf_counter() - started)
    return len(tiles) / min(seconds)


def measure(
    run: Path, trained: Mapping[str, Mapping], test: Sequence[images.Pair], tiles: np.ndarray, threshold: float
) -> tuple[list[dict], dict[str, dict[str, np.ndarray]]]:
    """What each architecture is worth and costs.

    All predict in tiles of 4 T, exact where the architecture allows it, so that memory can be compared. What tiles
    change is measured on the first 4 x 4 tiles of the first test image: tiles of 2 T, or so large that those that can
    be exact are, against a prediction of the whole.

    Args:
        run: run folder, where `train_each` trained.
        trained: what it returned.
        test: images to score whole.
        tiles: some (N, T, T, 3) uint8 to time; images are reduced to T for the non-tiled prediction.
        threshold: of the probability.

    Returns:
        a record for each: `parameters`, `seconds_per_step` of training (the median epoch, with its validation),
        `tiles_per_second`, `added_mib` of memory for one image, `dice_tiled` and `dice_non_tiled` (means), `grid` and
        `halo` in pixels, `exact` ("yes", or the kind of layer that makes it impossible), and the `largest_difference`
        of tiles from the whole;
        masks (H, W) bool by architecture and stem.
    """
    rows, masks, side = [], {}, tiles.shape[1]
    part = images.read_image(test[0].image)[: 4 * side, : 4 * side]
    for name, result in trained.items():
        model = inference.load_model(Path(run) / "architectures" / name / "model.keras")
        field, epochs = receptive_field(model), result["history"]
        ways = {
            "tiled": partial(inference.predict_tiled, model, mode="auto", tile_size=4 * side),
            "non_tiled": partial(inference.predict_reduced, model, size=side),
        }
        scores, found = compare(ways, test, threshold, warm_up=part)
        masks[name] = found["tiled"]
        size = max(2 * side, 2 * (field.halo + field.alignment) * (not field.non_local_layers))
        in_tiles = inference.predict_tiled(model, part, mode="auto", tile_size=size)
        steps = result["steps"] / len(epochs)
        rows.append(
            {
                "model": name,
                "parameters": model.count_params(),
                "seconds_per_step": float(np.median([row["seconds"] for row in epochs])) / steps,
                "tiles_per_second": tiles_per_second(model, tiles),
                "added_mib": scores["tiled"]["added_mib"],
                "dice_tiled": scores["tiled"]["dice"]["mean"],
                "dice_non_tiled": scores["non_tiled"]["dice"]["mean"],
                "grid": field.alignment,
                "halo": field.halo,
                "exact": field.non_local_layers[0].split()[1].strip("()") if field.non_local_layers else "yes",
                "largest_difference": float(np.abs(in_tiles - inference.predict_whole(model, part)).max()),
            }
        )
    return rows, masks
