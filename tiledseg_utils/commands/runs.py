"""The command `runs`: a table of all runs in a folder, finished or not; those of folds and seeds below their set."""

import json
from pathlib import Path

from ..base.files import UserError, write_csv
from .console import print_table
from .options import add_command

SCORES = ("test", "steps", "tiled", "non-tiled", "difference", "95 % interval")


def add(commands) -> None:
    command = add_command(commands, "runs", "list the runs in a folder with their scores")
    command.add_argument("folder", type=Path, nargs="?", default="runs", help="folder of run folders")
    command.add_argument("--out", type=Path, metavar="FILE.csv", help="also write the table to a file")
    command.set_defaults(function=runs)


def runs(arguments) -> None:
    folder, out = arguments.folder, arguments.out
    if not folder.is_dir():
        raise UserError(folder, "is not a folder", "Give the folder in which the run folders are, by default runs")
    rows = []
    for path in sorted(folder.glob("*")):
        if (path / "request.json").exists():
            rows.append(row_of(path))
        elif (path / "set.json").exists():
            rows += set_rows(path)
    if not rows:
        raise UserError(folder, "holds no run", "Make one with report, or give the folder above the run folders")
    if out is not None and out.exists():
        raise UserError(out, "exists already", "Give another name, or remove it")
    print_table(rows)
    if out is not None:
        write_csv(out, rows)


def row_of(run: Path) -> dict:
    """What the files of a run tell about it: its preset, its test images, and its scores if it is finished."""
    request, metrics = _read(run / "request.json"), _read(run / "metrics.json")
    parameters = request.get("parameters", {})
    seed, repeat = parameters.get("seed", "?"), parameters.get("repeat", 0)
    if isinstance(seed, int) and isinstance(repeat, int):
        seed += repeat
    row = {"run": run.name, "preset": request.get("preset", "?"), "seed": seed}
    row |= {"data": Path(parameters.get("data_dir") or "generated").name}
    if metrics.keys() >= {"tiled", "non_tiled", "difference", "training", "data"}:
        difference = metrics["difference"]
        low, high = difference["ci95"]
        row |= {"test": metrics["data"]["images"]["test"], "steps": metrics["training"]["steps"]}
        row |= {"tiled": metrics["tiled"]["dice"]["mean"], "non-tiled": metrics["non_tiled"]["dice"]["mean"]}
        row |= {"difference": difference["dice_mean"]}
        return row | {"95 % interval": "" if low is None else f"{low:.4f} to {high:.4f}", "state": "finished"}
    done = sorted(path.stem for path in (run / "notebooks").glob("*.ipynb"))
    state = f"not finished, last notebook {done[-1]}" if done else "not begun"
    return row | dict.fromkeys(SCORES, "") | {"state": state}


def set_rows(folder: Path) -> list[dict]:
    """A row for a set of runs, with the scores of all of them together, and one for each of its runs that has begun."""
    request, summary = _read(folder / "set.json"), _read(folder / "summary.json")
    parameters = request.get("parameters", {})
    row = {"run": folder.name, "preset": request.get("preset", "?"), "seed": parameters.get("seed", "?")}
    row |= {"data": Path(request.get("data") or "generated").name} | dict.fromkeys(SCORES, "")
    members = [row_of(path.parent) for path in sorted(folder.glob("*/request.json"))]
    finished = sum(member["state"] == "finished" for member in members)
    folds, seeds = request.get("folds"), request.get("seeds")
    wanted = max(1, folds) * seeds if isinstance(folds, int) and isinstance(seeds, int) else "?"
    if finished == wanted and summary.keys() >= {"images", "tiled", "non_tiled", "difference"}:
        low, high = summary["difference"]["ci95"]
        row |= {"test": summary["images"], "tiled": summary["tiled"]["mean"]}
        row |= {"non-tiled": summary["non_tiled"]["mean"], "difference": summary["difference"]["mean"]}
        row |= {"95 % interval": "" if low is None else f"{low:.4f} to {high:.4f}"}
    row |= {"state": f"{finished} of {wanted} runs finished"}
    return [row, *(member | {"run": f"{folder.name}/{member['run']}"} for member in members)]


def _read(path: Path) -> dict:
    """The content of a file of a run; nothing if it is not there or damaged, as that of a killed run may be."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
