"""Several finished runs beside each other: what differs in their parameters, and whether that shows in their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.files import UserError, atomic_path, read_record
from ..base.paths import Output, check_paths
from ..data.provenance import RECORD
from ..scoring.statistics import paired_difference
from ..settings.presets import NOT_IN_PRESETS
from .page_tables import page_table, render, table_of
from .plots import run_curves
from .verdict import interval, versus
from .web_pictures import smallest, write_bytes

WAYS = {"tiled": "tiled", "non_tiled": "non-tiled"}
NOT_GIVEN = "not given"
AGAIN = "Run it again into another folder"


@dataclass(frozen=True)
class Run:
    """A finished run: its name on the page, folder, metrics, parameters by dotted name, history and test images.

    `tests` has, by stem, the hashes of the image and its mask; images of the same stem and hashes are the same.
    """

    name: str
    folder: Path
    metrics: Mapping
    parameters: Mapping
    history: Sequence[Mapping]
    tests: Mapping[str, tuple]

    @property
    def environment(self) -> dict:
        """The data, and versions and hardware, by name."""
        return {"data": self.metrics["data"].get("sha256", "")[:12], **self.metrics.get("environment", {})}

    def dice(self, way: str) -> Mapping[str, float]:
        """Dice of a way of predicting, by stem."""
        return self.metrics[way]["dice"]["per_image"]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs to compare, each with a name that tells it from the others.

    Raises:
        UserError: fewer than two runs, one of them twice, not a finished run, or one that shares no test image
            with the first.
    """
    seen = {}
    for folder in folders:
        if folder.resolve() in seen:
            raise UserError(folder, f"is given twice, also as {seen[folder.resolve()]}", "Give each run once")
        seen[folder.resolve()] = folder
    if len(folders) < 2:
        raise UserError(folders[0], "is the only run", "Give two runs or more")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = [_read_run(folder, name) for folder, name in zip(folders, names, strict=True)]
    for run in runs[1:]:
        if not shared_tests(runs[0], run):
            problem = f"has no test image in common with {runs[0].folder}"
            remedy = "Compare runs on the same data and split; a data folder keeps its split in split.csv"
            raise UserError(run.folder, problem, remedy)
    return runs


def read_finished(folder: Path) -> dict:
    """The metrics of a finished run.

    Raises:
        UserError: the folder is not that of a run, or the run is not finished, or its metrics are damaged.
    """
    if not folder.is_dir():
        raise UserError(folder, "is not a folder", "Give run folders, such as runs/quick")
    if not (folder / "request.json").exists():
        raise UserError(folder, "is not the folder of a run", "Give run folders that the command report made")
    if not (folder / "metrics.json").exists():
        remedy = "Let it run to its end: give the command that began it once more"
        raise UserError(folder, "holds an unfinished run", remedy)
    example = {"preset": "", "seed": 0, "data": {}, "tiled": {}, "non_tiled": {}}
    metrics = read_record(folder / "metrics.json", example, AGAIN)
    part = {"per_image": {}, "mean": 0.0, "median": 0.0, "pooled": 0.0}
    for way in WAYS:
        _require(folder / "metrics.json", f"{way}.dice", metrics[way].get("dice"), part, AGAIN)
    return metrics


def _read_run(folder: Path, name: str) -> Run:
    metrics, remedy = read_finished(folder), AGAIN
    request = read_record(folder / "request.json", {"parameters": {}}, remedy)
    record = read_record(folder / RECORD, {"files": {}, "split": {}}, remedy)
    history = read_record(folder / "results" / "03_training.json", {"history": []}, remedy)["history"]
    given = {key: value for key, value in request["parameters"].items() if key not in NOT_IN_PRESETS}
    scored = [
        stem for stem in metrics["tiled"]["dice"]["per_image"] if stem in metrics["non_tiled"]["dice"]["per_image"]
    ]
    tests = {stem: _hashes(record["files"], stem) for stem in scored}
    return Run(name, folder, metrics, flattened(given), history, tests)


def _require(path: Path, name: str, value, example: Mapping, remedy: str) -> None:
    """Refuse an entry of a file that lacks the names of an example."""
    missing = example.keys() - (value.keys() if isinstance(value, Mapping) else set())
    if missing:
        raise UserError(path, f"is damaged ({name}.{min(missing)} is missing)", remedy)


def _hashes(files: Mapping[str, str], stem: str) -> tuple:
    """The hashes of an image and of its mask, in a run's record of its data."""
    parts = {"images": (stem,), "masks": (stem,), "labels": (stem, f"{stem}_label")}
    return tuple(
        (part, digest)
        for part, stems in parts.items()
        for name, digest in sorted(files.items())
        if Path(name).parts[0] == part and Path(name).stem in stems
    )


def flattened(parameters: Mapping, above: str = "") -> dict:
    """Parameters by dotted name: {"training": {"epochs": 3}} becomes {"training.epochs": 3}."""
    flat = {}
    for name, value in parameters.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = value
    return flat


def shared_tests(first: Run, second: Run) -> list[str]:
    """Stems of the test images that two runs share: of the same image and the same mask, and scored in both."""
    return [stem for stem, hashes in first.tests.items() if hashes and second.tests.get(stem) == hashes]


def differing(described: Sequence[Mapping]) -> list[list[str]]:
    """Names whose values are not the same in all of some records, each in a row before the values."""
    rows = []
    for name in dict.fromkeys(name for each in described for name in each):
        values = [str(each.get(name, NOT_GIVEN)) for each in described]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return rows


def score_rows(runs: Sequence[Run]) -> list[dict]:
    """Each run's scores on all its own test images."""
    rows = []
    for run in runs:
        row = {"run": run.name, "preset": str(run.metrics["preset"]), "seed": str(run.metrics["seed"])}
        row["test images"] = str(len(run.tests))
        for way, words in WAYS.items():
            for kind in ("mean", "pooled"):
                row[f"{words}, {kind} Dice"] = f"{run.metrics[way]['dice'][kind]:.3f}"
        rows.append(row)
    return rows


def differences(runs: Sequence[Run]) -> list[dict]:
    """Dice of each run less that of the first, image by image, on the test images that the two share.

    Returns:
        for each other run and way: `run` (its name), `way`, `images` (how many are shared), `mean` and `first_mean`
        (mean Dice of both runs on these), and `dice_mean` and `ci95` of the difference.
    """
    first, found = runs[0], []
    for run in runs[1:]:
        shared = shared_tests(first, run)
        for way in WAYS:
            own, other = ({stem: each.dice(way)[stem] for stem in shared} for each in (run, first))
            difference = paired_difference(own, other, seed=first.metrics["seed"])
            row = {"run": run.name, "way": way, "images": len(shared)}
            row |= {"mean": sum(own.values()) / len(shared), "first_mean": sum(other.values()) / len(shared)}
            found.append(row | {"dice_mean": difference["mean"], "ci95": difference["ci95"]})
    return found


def _difference_rows(found: Sequence[Mapping], first: str) -> list[dict]:
    return [
        {
            "run": row["run"],
            "way": WAYS[row["way"]],
            "images in common": str(row["images"]),
            "mean Dice": f"{row['mean']:.3f}",
            f"of {first} there": f"{row['first_mean']:.3f}",
            "difference": f"{row['dice_mean']:+.3f}",
            "95 % interval": interval(row["ci95"]),
        }
        for row in found
    ]


def verdict(found: Sequence[Mapping], first: str) -> str:
    """What `differences` say of tiled prediction, in one sentence."""
    said = [f"{row['run']} scores {versus(row, first)}" for row in found if row["way"] == "tiled"]
    return f"Predicted in tiles, by mean Dice on the same test images, {', and '.join(said)}."


def write_comparison(folders: Sequence[Path], out: Path, overwrite: bool = False) -> Path:
    """Write a page that compares finished runs.

    Args:
        folders: run folders; the others are compared with the first.
        out: folder of the page, `index.html`, and its figure.
        overwrite: replace a page that is there.

    Returns:
        path of the page.

    Raises:
        UserError: as for `read_runs`; or a page is there already, or would be written into a run.
    """
    page = out / "index.html"
    check_paths(folders, [Output(page, "the comparison")])
    if page.exists() and not overwrite:
        raise UserError(page, "exists already", "Choose another folder with --out, or replace it with --overwrite")
    runs = read_runs(folders)
    figure = _write_curves(runs, out)
    found = differences(runs)
    names = [run.name for run in runs]
    parameters = differing([run.parameters for run in runs])
    environments = differing([run.environment for run in runs])
    content = render(
        "comparison.html",
        first=names[0],
        verdict=verdict(found, names[0]),
        scores=page_table("Scores of each run on all its own test images", score_rows(runs)),
        differences=page_table(
            f"Dice less that of {names[0]}, image by image, on the test images in common",
            _difference_rows(found, names[0]),
        ),
        parameters=table_of("Parameters that differ", ["parameter", *names], parameters) if parameters else None,
        environments=table_of("Data, versions and machines that differ", ["what", *names], environments)
        if environments
        else None,
        figure=figure,
    )
    with atomic_path(page) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return page


def _write_curves(runs: Sequence[Run], out: Path) -> dict:
    """Draw the curves into a file; its name, and its size in pixels."""
    with atomic_path(out / "curves.png", sync=False) as temporary:
        run_curves({run.name: run.history for run in runs}).savefig(temporary, dpi=110)
    picture = smallest((out / "curves.png").read_bytes())
    if picture.kind == "webp":
        write_bytes(out / "curves.webp", picture.content)
        (out / "curves.png").unlink()
    return {"href": f"curves.{picture.kind}", "width": picture.width, "height": picture.height}
