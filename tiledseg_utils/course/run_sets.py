"""A run of runs: one for each fold, or for each of several seeds, and a page of what they found together.

A folder of a set holds a run folder for each run, and

    set.json  masks/  scores.csv  summary.json  index.html

`set.json` says what was asked for, so that an interrupted set goes on. Each run is a whole one with a report of its
own, but without the notebooks that run on request only.
"""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..base.files import UserError, atomic_path, read_csv, read_json, read_record, set_aside, write_csv, write_json
from ..base.locks import LOCK, lock_folder
from ..base.paths import check_replaceable, check_run_folder
from ..data.published import published_images
from ..scoring.pixels import Counts
from ..scoring.statistics import bootstrap_interval, paired_difference
from .page_tables import Link, page_table, render
from .report import ON_REQUEST, changed_preset, check_parameters, files_read, is_finished, make_report
from .viewer import MASKS

SET = "set.json"
WAYS = {"tiled": "tiled", "non_tiled": "non-tiled"}

FIGURES = {
    "The test images of each run": ("04_gallery", True),
    "What a probability is worth": ("04_reliability", False),
    "Where turned views disagree": ("04_views", True),
}
"""What the page shows of each run: under a heading, a figure of lesson 4, and whether it needs the page's width."""


@dataclass(frozen=True)
class Member:
    """One run of a set: its fold, from 1, of `folds` (0 without folds), and how much is added to its seed."""

    folds: int
    fold: int
    repeat: int
    several_seeds: bool

    @property
    def name(self) -> str:
        """The name of its run folder: "fold_2", "seed_1" or "fold_2_seed_1"."""
        parts = [f"fold_{self.fold}"] * (self.folds > 0) + [f"seed_{self.repeat + 1}"] * self.several_seeds
        return "_".join(parts)

    @property
    def changes(self) -> dict:
        """What its parameters have in place of the preset's."""
        asked = {"folds": self.folds, "fold": self.fold} if self.folds else {}
        asked |= {"repeat": self.repeat} if self.several_seeds else {}
        return dict.fromkeys(ON_REQUEST.values()) | asked


def members_of(folds: int, seeds: int) -> list[Member]:
    """All runs of a set, fold by fold."""
    numbers = itertools.product(range(1, max(1, folds) + 1), range(seeds))
    return [Member(folds, fold, repeat, seeds > 1) for fold, repeat in numbers]


def make_set(
    folder: Path, preset: str, data: Path | None = None, overwrite: bool = False, folds: int = 0, seeds: int = 1
) -> Path:
    """Run a preset for each fold and each seed, and write the page. An interrupted set goes on where it stopped.

    Args:
        folder: of the set, made if missing.
        preset, data: as for `report.make_report`.
        overwrite: replace a set that is already in the folder.
        folds: number of folds, see `data.folds`; 0 divides the images as a single run does.
        seeds: trainings of each fold, whose seeds differ by 1.

    Returns:
        path of `<folder>/index.html`.

    Raises:
        UserError: as for `report.make_report`; or the folder holds something else, or a set with other settings.
    """
    folder = Path(folder)
    check_run_folder(folder, files_read(data, preset))
    members = members_of(folds, seeds)
    parameters = changed_preset(preset, members[0].changes)
    check_parameters(parameters)
    parameters = {name: value for name, value in parameters.items() if name not in members[0].changes}
    request = {"preset": preset, "folds": folds, "seeds": seeds, "parameters": parameters}
    request |= {"data": str(Path(data).resolve()) if data is not None else None}
    with lock_folder(folder):
        prepare_set(folder, request, members, overwrite)
        for member in members:
            if is_finished(folder / member.name):
                print(f"{member.name}: already done", flush=True)
                continue
            print(f"{member.name}: begins", flush=True)
            make_report(folder / member.name, preset, data, changes=member.changes)
        return write_set_page(folder, request, members)


def prepare_set(folder: Path, request: Mapping, members: Sequence[Member], overwrite: bool) -> None:
    """Make the folder of a set, or accept one that answers the same request.

    Raises:
        UserError: the set was begun with another request, or the folder is something else.
    """
    own = {LOCK, SET, "masks", "scores.csv", "summary.json", "index.html"}
    found = [path for path in sorted(folder.iterdir()) if path.name != LOCK]
    if found and not (folder / SET).exists():
        raise UserError(folder, "is a folder with other content", "Choose a new or empty folder with --run")
    if found and overwrite:
        for path in found:
            if path.name in own or not (path / "request.json").exists():
                _require_own(path, own)
            else:
                check_replaceable(path)
        for path in found:
            if path.is_dir():
                shutil.rmtree(set_aside(path))
            elif (
                path.name != SET
            ):  # It is replaced last, so that a folder that is half deleted is still known as a set.
                path.unlink()
    elif found:
        remedy = "Choose another --run, or replace it with --overwrite"
        before = read_record(folder / SET, {"folds": 0, "seeds": 1, "parameters": {}}, remedy)
        if before != request:
            raise UserError(folder, "holds runs with other settings", remedy)
    write_json(folder / SET, request)


def _require_own(path: Path, own: set[str]) -> None:
    if path.name not in own and not path.name.startswith("."):
        problem = f"holds {path.name}, which is not of a set of runs, and would be deleted with it"
        raise UserError(path.parent, problem, "Move it elsewhere, or choose another folder with --run")


def write_set_page(folder: Path, request: Mapping, members: Sequence[Member]) -> Path:
    """Gather masks and scores of finished runs, and write `scores.csv`, `summary.json` and `index.html`.

    Returns:
        path of the page.

    Raises:
        UserError: a run is damaged, the runs are not of the same data, or an image was tested in two folds.
    """
    metrics = {member: read_json(folder / member.name / "metrics.json") for member in members}
    _require_same_data(folder, metrics)
    rows = [row for member in members for row in _image_rows(folder, member, metrics[member])]
    _gather_masks(folder, members)
    write_csv(folder / "scores.csv", rows)
    summary = summarize(rows, list(metrics.values()))
    write_json(folder / "summary.json", summary)
    content = render(
        "run_set.html",
        name=folder.resolve().name,
        folds=request["folds"],
        seeds=request["seeds"],
        verdict=verdict(summary, request["folds"], request["seeds"]),
        overview=page_table("All runs together", overview_rows(summary)),
        runs=page_table("Each run", [_run_row(member, metrics[member]) for member in members]),
        images=page_table("Each image, by networks that have not seen it", image_rows(rows)),
        groups=_figure_groups(folder, members),
    )
    with atomic_path(folder / "index.html") as temporary:
        temporary.write_text(content, encoding="utf-8")
    return folder / "index.html"


def _figure_groups(folder: Path, members: Sequence[Member]) -> list[tuple[str, list[dict]]]:
    """The headings of `FIGURES`, each with that figure of all runs, as the page shows it: href, caption, wide."""
    groups = []
    for heading, (name, wide) in FIGURES.items():
        figures = []
        for member in members:
            run = folder / member.name
            for path in (run / "report" / "figures").glob(f"{name}.*"):
                caption = read_json(run / "figures" / f"{name}.json")["caption"]
                href = quote(path.relative_to(folder).as_posix())
                figures.append({"href": href, "caption": f"{member.name}: {caption}", "wide": wide})
        if figures:
            groups.append((heading, figures))
    return groups


def _require_same_data(folder: Path, metrics: Mapping[Member, Mapping]) -> None:
    first, *others = metrics
    for member in others:
        if metrics[member]["data"]["sha256"] != metrics[first]["data"]["sha256"]:
            problem = f"is of other data than {first.name}: they have changed in between"
            raise UserError(folder / member.name, problem, "Restore the data, delete this run, and start again")
    tested: dict[str, int] = {}
    for member, each in metrics.items():
        for stem in each["tiled"]["dice"]["per_image"]:
            if tested.setdefault(stem, member.fold) != member.fold:
                problem = f"tests {stem}, and so does fold {tested[stem]}: the groups or kinds have changed in between"
                raise UserError(folder / member.name, problem, "Restore split.csv and kinds.csv, and start again")


def _image_rows(folder: Path, member: Member, metrics: Mapping) -> list[dict]:
    """A row for each test image of a run: Dice of both ways, and the counts of tiled prediction."""
    counts = {row["stem"]: row for row in read_csv(folder / member.name / "results" / "04_scores.csv")}
    rows = []
    for stem, tiled in metrics["tiled"]["dice"]["per_image"].items():
        row = {"stem": stem, "run": member.name, "dice_tiled": tiled}
        row |= {"dice_non_tiled": metrics["non_tiled"]["dice"]["per_image"][stem]}
        rows.append(row | {name: int(counts[stem][name]) for name in ("tp", "fp", "fn", "tn")})
    return rows


def _gather_masks(folder: Path, members: Sequence[Member]) -> None:
    """Copy the masks of tiled prediction to `masks/`; with several seeds, to a folder for each of them."""
    for member in members:
        target = folder / "masks" / (f"seed_{member.repeat + 1}" if member.several_seeds else "")
        for path in sorted((folder / member.name / MASKS / "tiled").glob("*.png")):
            with atomic_path(target / path.name, sync=False) as temporary:
                shutil.copyfile(path, temporary)


def summarize(rows: Sequence[Mapping], metrics: Sequence[Mapping]) -> dict:
    """What the runs found together.

    Args:
        rows: for each run and each of its test images: stem, dice_tiled, dice_non_tiled, and tp, fp, fn, tn.
        metrics: of the runs.

    Returns:
        {"runs", "images", "tiled": {...}, "non_tiled": {...}, "difference": {"mean", "ci95"}, "pooled"}. Each way has
        `mean` and `ci95` over images (of several seeds, an image's mean), `run_mean` and `run_std` of the runs' mean
        Dice (the standard deviation has n - 1 below; None for one run), and `mean_unseen`, over images that nobody
        looked at while this course was developed; None if that leaves the mean as it is. `pooled` is of the tiled
        counts.
    """
    stems = sorted({row["stem"] for row in rows})
    unseen = [stem for stem in stems if not looked_at(stem)]
    summary: dict = {"runs": len(metrics), "images": len(stems)}
    by_way = {}
    for way in WAYS:
        values = {stem: [row[f"dice_{way}"] for row in rows if row["stem"] == stem] for stem in stems}
        by_way[way] = {stem: float(np.mean(value)) for stem, value in values.items()}
        of_runs = [each[way]["dice"]["mean"] for each in metrics]
        only_unseen = 0 < len(unseen) < len(stems)
        summary[way] = {
            "mean": float(np.mean(list(by_way[way].values()))),
            "ci95": bootstrap_interval(np.array(list(by_way[way].values())), np.mean, seed=0),
            "run_mean": float(np.mean(of_runs)),
            "run_std": float(np.std(of_runs, ddof=1)) if len(of_runs) > 1 else None,
            "mean_unseen": float(np.mean([by_way[way][stem] for stem in unseen])) if only_unseen else None,
        }
    counts = [Counts(*(row[name] for name in ("tp", "fp", "fn", "tn"))) for row in rows]
    summary["difference"] = paired_difference(by_way["tiled"], by_way["non_tiled"])
    return summary | {"pooled": sum(counts, Counts(0, 0, 0, 0)).dice}


def looked_at(stem: str) -> bool:
    """Whether an image of that name was looked at while this course was developed."""
    return published_images().get(stem, {}).get("looked_at") == "yes"


def overview_rows(summary: Mapping) -> list[dict]:
    """A row for each way of predicting, for the page."""
    rows = []
    for way, words in WAYS.items():
        own = summary[way]
        row = {"way": words, "mean Dice of all images": f"{own['mean']:.3f}", "95 % interval": _interval(own["ci95"])}
        row |= {"mean of the runs": f"{own['run_mean']:.3f}"}
        row |= {"standard deviation": f"{own['run_std']:.3f}" if own["run_std"] is not None else None}
        if own["mean_unseen"] is not None:
            row |= {"mean without images that were looked at": f"{own['mean_unseen']:.3f}"}
        rows.append(row | {"pooled Dice": f"{summary['pooled']:.3f}" if way == "tiled" else ""})
    return rows


def _interval(ci95: Sequence[float | None]) -> str | None:
    """An interval in words; None for a single image, which has none."""
    low, high = ci95
    return None if low is None else f"{low:.3f} to {high:.3f}"


def _run_row(member: Member, metrics: Mapping) -> dict:
    row: dict = {"run": Link(member.name, f"{member.name}/report/index.html"), "seed": metrics["seed"]}
    row |= {f"{split} images": count for split, count in metrics["data"]["images"].items()}
    row |= {f"{words}, mean Dice": f"{metrics[way]['dice']['mean']:.3f}" for way, words in WAYS.items()}
    row |= {"difference": f"{metrics['difference']['dice_mean']:+.3f}"}
    return row | {"best epoch": metrics["training"]["best_epoch"], "training, s": round(metrics["training"]["seconds"])}


def image_rows(rows: Sequence[Mapping]) -> list[dict]:
    """A row for each image, the worst first, for the page."""
    found = []
    for stem in sorted({row["stem"] for row in rows}):
        own = [row for row in rows if row["stem"] == stem]
        row = {"image": stem, "tested by": ", ".join(each["run"] for each in own)}
        for way, words in WAYS.items():
            row[words] = f"{np.mean([each[f'dice_{way}'] for each in own]):.3f}"
        if len(own) > 1:
            row["standard deviation, tiled"] = f"{np.std([each['dice_tiled'] for each in own], ddof=1):.3f}"
        if any(looked_at(each["stem"]) for each in rows):
            row["looked at"] = "yes" if looked_at(stem) else ""
        found.append(row)
    return sorted(found, key=lambda row: float(row["tiled"]))


def verdict(summary: Mapping, folds: int, seeds: int) -> str:
    """What a set of runs found, in one sentence."""
    how = [f"{folds} folds"] * (folds > 0) + [f"{seeds} trainings{' of each' * (folds > 0)}"] * (seeds > 1)
    own, difference = summary["tiled"], summary["difference"]
    spread = f", {own['run_std']:.3f} standard deviation between runs" if own["run_std"] is not None else ""
    sure = f" (95 % interval over images {_interval(own['ci95'])}{spread})" if summary["images"] > 1 else ""
    images = f"{summary['images']} image{'s' * (summary['images'] != 1)}"
    return (
        f"In {' with '.join(how)}, tiled prediction scores {own['mean']:.3f} mean Dice on {images}, none of which its "
        f"network had seen{sure}; that is {difference['mean']:+.3f} beside non-tiled prediction."
    )
