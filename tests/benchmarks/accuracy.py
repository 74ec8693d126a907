"""How well does a preset learn, and how fast? `python -m tests.benchmarks accuracy DATA`

Trains as notebook 3 does, once for each seed, and keeps the model of every epoch. Afterwards the final model and those
of some epochs predict whole test images as the preset says, and are scored; nothing is chosen by that. The clock counts
training and validation, not what is done to keep the models.
"""

import functools
import statistics
from collections.abc import Mapping
from pathlib import Path

import keras

from tiledseg_utils.base.files import progress, read_csv, write_json
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.course import report
from tiledseg_utils.data import images, synthetic
from tiledseg_utils.prediction import inference
from tiledseg_utils.scoring import pixels
from tiledseg_utils.settings.schema import read
from tiledseg_utils.tiles import tiling
from tiledseg_utils.training import fit as training

PUBLISHED = report.NOTEBOOK_FOLDER / "published_scores.csv"
MILESTONES = (0.79, 0.90)
"""Mean Dice for which the minutes are asked; the published masks of six of the images score 0.79."""


def train(run: Path, data: Path, parameters: Mapping, seed: int) -> list[dict]:
    """Train below `run`, or go on there, and keep `<run>/snapshots/<epoch>.keras`; returns a row per epoch."""
    splits = images.split_pairs(images.find_pairs(data), data, parameters["seed"])
    if not (run / "tiles" / tiling.MANIFEST).exists():
        added = synthetic.added_pairs(
            run / "added", parameters["seed"], parameters["added_images"], parameters["image_size"] or None
        )
        tiling.write_tile_set(
            splits | {tiling.ADDED: added},
            run / "tiles",
            read(tiling.TileSetting, parameters["tiles"], "tiles"),
        )
    (run / "snapshots").mkdir(exist_ok=True)

    def keep(model: keras.Model, epoch: int) -> None:
        model.save(run / "snapshots" / f"{epoch:03d}.keras", include_optimizer=False)

    setting = read(training.TrainingSetting, parameters["training"], "training")
    model, settings = parameters["model"], parameters["model_settings"].get(parameters["model"], {})
    return training.train(run, model, settings, parameters["augmentation"], setting, seed, keep)["history"]


def score(path: Path, pairs: list[images.Pair], parameters: Mapping) -> dict[str, pixels.Counts]:
    """Pixel counts of whole test images, by stem."""
    predict = functools.partial(inference.predict_tiled, inference.load_model(path), **parameters["prediction"])
    predict = inference.multi_scale(predict, parameters["scales"])
    kept = {name: parameters[name] for name in ("threshold", "min_area", "min_confidence")}
    return pixels.score_images(predict, pairs, **kept)[1]


def minutes_until(dice: float, curve: list[dict]) -> str:
    """When the mean Dice of the test images first reached `dice`."""
    return next((f"{point['minutes']:.1f}" for point in curve if point["dice"] >= dice), "never")


def benchmark(data: Path, preset: str, seeds: list[int], every: int, out: Path) -> None:
    """Train and score the final model and that of every so many epochs; print and write the results.

    What an interrupted call has trained is not trained again.

    Raises:
        UserError: the preset or the data are not usable.
    """
    images.require_sound(data)
    parameters = report.default_parameters() | report.read_preset(preset)
    pairs = images.split_pairs(images.find_pairs(data), data, parameters["seed"])["test"]
    results = []
    for seed in seeds:
        run = out.parent / f"accuracy_{Path(preset).stem}" / f"seed_{seed}"
        history = train(run, data, parameters, seed)
        minutes, curve = 0.0, []
        for row in progress(history, unit="epoch"):
            minutes += row["seconds"] / 60
            if row["epoch"] % every == 0 or row is history[-1]:
                counts = score(run / "snapshots" / f"{row['epoch']:03d}.keras", pairs, parameters)
                dice = pixels.summarize(counts)["dice"]
                curve.append({"epoch": row["epoch"], "minutes": minutes, "dice": dice["mean"]} | dice["per_image"])
        waited = sum(row["waited"] for row in history) / sum(row["seconds"] for row in history)
        final = pixels.summarize(score(run / "model.keras", pairs, parameters))
        results.append(
            {"seed": seed, "curve": curve, "waited": waited, **{name: final[name] for name in ("dice", "iou")}}
        )

    kinds = ("mean", "median", "pooled")
    print_table(
        [
            {"seed": result["seed"]}
            | {f"{name} {kind}": f"{result[name][kind]:.3f}" for name in ("dice", "iou") for kind in kinds}
            | {f"minutes to {dice:.2f}": minutes_until(dice, result["curve"]) for dice in MILESTONES}
            | {"minutes": f"{result['curve'][-1]['minutes']:.1f}", "waited %": f"{100 * result['waited']:.1f}"}
            for result in results
        ]
    )
    print_table([{"seed": result["seed"]} | point for result in results for point in result["curve"]])
    published = {row["stem"]: row["tiled"] for row in read_csv(PUBLISHED)}
    print_table(
        [
            {"image": pair.stem, "published": published.get(pair.stem, "")}
            | {f"seed {result['seed']}": f"{result['dice']['per_image'][pair.stem]:.3f}" for result in results}
            for pair in pairs
        ]
    )
    means = [result["dice"]["mean"] for result in results]
    spread = f", standard deviation {statistics.stdev(means):.4f}" if len(means) > 1 else ""
    print(f"mean of {len(means)} trainings {statistics.mean(means):.4f}{spread}")
    write_json(out, {"preset": preset, "parameters": parameters, "results": results})
    print(out)
