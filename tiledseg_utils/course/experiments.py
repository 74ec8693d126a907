"""Several trainings in one run folder, each under a name, so that a setting can be changed and its effect compared.

The training with the name `baseline` is the run's own: its files are `<run>/model.keras` and `<run>/training/`. Any
other has the same files in `<run>/experiments/NAME/`. A training that is repeated with other settings replaces nothing:
the earlier one is renamed to `<run>/experiments/NAME-1` (or -2 and so on) before the new one begins.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ..base.files import UserError, hash_file, make_folder, read_csv, read_json, write_json
from ..data.provenance import SOURCES
from ..settings.parameters import TrainingSetting
from ..tiles.tiling import MANIFEST

BASELINE = "baseline"
FOLDER = "experiments"
SETTINGS = "settings.json"  # in the folder training
MOST_DIFFERENCES = 4  # that are named in a row of the table


def folder_of(run: Path, experiment: str) -> Path:
    """The folder of an experiment, which holds its `model.keras` and its `training/`."""
    return Path(run) if experiment == BASELINE else Path(run) / FOLDER / experiment


def result_path(run: Path, experiment: str) -> Path:
    """Where the result of an experiment is written, as `training.fit.train` returns it."""
    folder = folder_of(run, experiment)
    return folder / "results" / "03_training.json" if experiment == BASELINE else folder / "result.json"


def begin(
    run: Path,
    experiment: str,
    model: str,
    model_settings: Mapping,
    augmentation: Mapping,
    setting: TrainingSetting,
    seed: int,
) -> Path:
    """Prepare the folder of an experiment for `training.fit.train`, which takes the same settings.

    With the settings of last time, the folder stays as it is, and the training in it goes on or is finished. With
    others, the earlier training is renamed, and the new one starts from the beginning.

    Returns:
        the folder of the experiment.

    Raises:
        UserError: a report of this run is finished, and the baseline, whose scores it shows, would be replaced.
    """
    run, tiles = Path(run), Path(run) / "tiles"
    settings = {"model": model, "model_settings": dict(model_settings), "training": asdict(setting)}
    settings |= {"augmentation": dict(augmentation), "seed": seed}
    hashed = [name for name in (MANIFEST, SOURCES) if (tiles / name).exists()]
    settings["tiles"] = {name: hash_file(tiles / name) for name in hashed}
    settings = json.loads(json.dumps(settings))  # As they will be read back.
    folder = folder_of(run, experiment)
    path = folder / "training" / SETTINGS
    if _has_learnt(folder):
        # A training of an earlier version has no such file: the trainer then compares the settings itself.
        if not path.exists() or _read_settings(folder) == settings:
            return folder
        if experiment == BASELINE and (run / "metrics.json").exists():
            problem = "holds a finished report, and its baseline was trained with other settings"
            raise UserError(run, problem, 'Give this training a name of its own, such as experiment = "faster"')
        kept = _rename(run, experiment)
        print(f"The settings have changed: the earlier training is now the experiment {kept.name}.", flush=True)
    write_json(path, settings)
    return folder


def finish(run: Path, experiment: str, result: Mapping) -> None:
    """Write the result of an experiment, as `training.fit.train` returned it."""
    write_json(result_path(run, experiment), result)


def _has_learnt(folder: Path) -> bool:
    training = folder / "training"
    written = list(training.iterdir()) if training.is_dir() else []
    return any(path.name != SETTINGS for path in written) or (folder / "model.keras").exists()


def _rename(run: Path, experiment: str) -> Path:
    """Move all that an experiment wrote to the first free name, the folder `training` last.

    Interrupted, the next call therefore moves what is left to the same name.
    """
    folder, number = folder_of(run, experiment), 1
    while _has_learnt(kept := run / FOLDER / f"{experiment}-{number}") and (kept / "training").exists():
        number += 1
    make_folder(kept)
    moves = {folder / "model.keras": kept / "model.keras", result_path(run, experiment): kept / "result.json"}
    moves[folder / "training"] = kept / "training"
    for source, target in moves.items():
        if source.exists():
            source.rename(target)
    return kept


def _read_settings(folder: Path) -> dict:
    return read_json(folder / "training" / SETTINGS, f"Delete the folder {folder / 'training'} to train anew")


def histories(run: Path) -> dict[str, list[dict]]:
    """The histories of all experiments in a run folder that have finished an epoch, by name, the baseline first.

    A history has a row of numbers per epoch: "epoch", "seconds", "learning_rate", "loss", "val_loss" and so on.

    Raises:
        UserError: a history is damaged.
    """
    others = sorted(path.name for path in (Path(run) / FOLDER).glob("*"))
    found = {}
    for name in [BASELINE, *others]:
        path = folder_of(run, name) / "training" / "history.csv"
        if path.exists():
            try:
                rows = [{key: float(value) for key, value in row.items()} for row in read_csv(path)]
                found[name] = [{**row, "epoch": int(row["epoch"])} for row in rows]
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(path, "is damaged", f"Delete the folder {path.parent} to train anew") from error
    return {name: rows for name, rows in found.items() if rows}


def table(run: Path) -> list[dict]:
    """A row for each experiment in a run folder: its best epoch, and in which settings it differs from the baseline."""
    trained, rows = histories(run), []
    for name, history in trained.items():
        finite = [row for row in history if math.isfinite(row["val_loss"])]
        best = min(finite, key=lambda row: row["val_loss"], default=history[-1])
        rows.append(
            {
                "experiment": name,
                "differs in": differences(run, name),
                "epochs": len(history),
                "best epoch": best["epoch"],
                "validation loss": best["val_loss"],
                "validation Dice": best.get("val_dice_coefficient", math.nan),
                "seconds": round(sum(row["seconds"] for row in history)),
            }
        )
    return rows


def differences(run: Path, experiment: str) -> str:
    """In which settings an experiment differs from the baseline, such as "training.learning_rate 0.006"."""
    folders = [folder_of(run, name) for name in (experiment, BASELINE)]
    if not all((folder / "training" / SETTINGS).exists() for folder in folders):
        return "" if experiment == BASELINE else "not known"
    own, usual = (_flat(_read_settings(folder)) for folder in folders)
    names = [name for name in {**own, **usual} if own.get(name) != usual.get(name)]
    texts = [name if name.startswith("tiles") else f"{name} {own.get(name, 'left out')}" for name in names]
    more = [f"and {len(texts) - MOST_DIFFERENCES} more"] if len(texts) > MOST_DIFFERENCES else []
    return ", ".join(texts[:MOST_DIFFERENCES] + more)


def _flat(settings: Mapping, prefix: str = "") -> dict:
    """Nested settings by their full names: {"a": {"b": 1}} is {"a.b": 1}."""
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
