"""Run the notebooks unattended with a preset, and make one page of what they found.

A run folder holds everything that a run wrote:

    request.json  data/  tiles/  training/  model.keras  results/  figures/  notebooks/  report/  metrics.json

`metrics.json` comes last: a folder that has it is finished, and is never overwritten unasked; one without is resumed.
"""

import ast
import contextlib
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import nbformat
import papermill

from ..base.files import UserError, atomic_path, put_back, read_json, read_record, set_aside, write_json
from ..base.leftovers import remove_leftovers, remove_leftovers_below
from ..base.locks import LOCK, lock_folder
from ..base.meter import Meter
from ..base.paths import NOTEBOOK_FOLDER, check_replaceable, check_run_folder
from ..base.text import storable
from ..data.folds import fold_pairs
from ..data.images import find_pairs, hash_folder, require_sound, split_pairs
from ..data.provenance import check_data, check_run, hash_files, read_run, recorded_files
from ..models import build_model, instance_unet
from ..prediction.inference import plan_prediction
from ..settings.parameters import Parameters, check_all
from ..settings.presets import read_preset
from .kernel import OwnKernel
from .machine import environment
from .report_page import write_page
from .steps import cost_if_done, enter
from .verdict import strongest_rival

WAY_METRICS = ("dice", "iou", "seconds", "megapixels_per_second")
RIVAL_METRICS = ("way", "reduced_to", "steps", *WAY_METRICS, "difference")

ON_REQUEST = {"07_architectures": "models", "08_counting_nuclei": "counting", "09_pitfalls": "part_side"}
"""Notebooks that are run if the preset sets a parameter, and which."""


def notebooks() -> list[Path]:
    """The notebooks of the course, in order.

    Raises:
        UserError: the package was installed without them.
    """
    found = sorted(NOTEBOOK_FOLDER.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise UserError(NOTEBOOK_FOLDER, "there are no notebooks", "Install the package once more, from a whole clone")
    return found


def notebook_parameters(path: Path) -> dict:
    """Names and default values in the cell of a notebook that is tagged `parameters`."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assignments = [node for node in ast.parse(cell.source).body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: ast.literal_eval(node.value) for node in assignments}


def default_parameters() -> dict:
    """Names and default values of the parameters of all notebooks."""
    return {name: value for path in notebooks() for name, value in notebook_parameters(path).items()}


def check_parameters(given: Mapping) -> None:
    """Refuse parameters that are unknown, of another type, out of range, or do not suit each other.

    What a run would find out after an hour is found out now: the networks are built and held against their tiles. Of
    the notebooks that run on request only, the parameters count if they are asked for. (Papermill itself only warns of
    unknown names, and runs with the defaults.)

    Raises:
        UserError: says which, and lists the valid ones.
    """
    asked = [path for path in notebooks() if path.stem not in ON_REQUEST or given.get(ON_REQUEST[path.stem])]
    defaults = {name: value for path in asked for name, value in notebook_parameters(path).items()}
    checked = check_all({**defaults, **given})
    # Any large image will do.
    plan_prediction(build_model(checked.model, _settings_of(checked, checked.model)), (8192, 8192), checked.prediction)
    for name in checked.models:
        if _settings_of(checked, name).get("weights") == "imagenet":
            build_model(name, _settings_of(checked, name))  # Which downloads them.
    if given.get("counting"):
        plan_prediction(instance_unet(**asdict(checked.counting_model)), (checked.counting_size,) * 2)


def _settings_of(checked: Parameters, model: str) -> dict:
    return asdict(getattr(checked.model_settings, model))


def prepare_run(run: Path, request: dict, overwrite: bool) -> None:
    """Make the run folder, or accept one whose unfinished run answers the same request.

    Raises:
        UserError: the run is finished, was started with another request, or the folder is something else.
    """
    found = [path for path in run.iterdir() if path.name != LOCK] if run.exists() else []
    if found and not (run / "request.json").exists():
        raise UserError(run, "is a folder with other content", "Choose a new or empty folder with --run")
    replaced = None
    if overwrite and found:
        check_replaceable(run)
        replaced = set_aside(run)
    if is_finished(run):
        raise UserError(run, "holds a finished run", "Choose another folder with --run, or replace it with --overwrite")
    if (run / "request.json").exists():
        remedy = "Choose another --run, or replace it with --overwrite"
        before = read_record(run / "request.json", {}, remedy)
        if {**before, "data": None} != {**request, "data": None}:
            raise UserError(run, "holds an unfinished run with other settings", remedy)
        # Generated images are drawn by notebook 1, and requests of earlier versions do not have hashes.
        if before.get("data") is not None and request.get("data") is not None:
            recorded = recorded_files(run / "request.json", before["data"], remedy)
            check_data(Path(request["data"]["path"]), recorded, request["data"]["files"])
        print(f"going on with the unfinished run in {run}", flush=True)
    try:
        write_json(run / "request.json", request)
    except BaseException:
        if replaced:
            put_back(replaced, run)
        raise
    if replaced:  # Only now: killed before, the new run has a request, and the old one no name that is taken for a run.
        shutil.rmtree(replaced)


def is_finished(run: Path) -> bool:
    """Whether `metrics.json` is there and whole; a damaged one is written again by the run that goes on."""
    path = run / "metrics.json"
    if not path.exists():
        return False
    try:
        read_record(path, {}, "")
    except UserError as error:
        print(f"{path}: {error.problem}; it is written again", flush=True)
        return False
    return True


def describe_data(data: Path) -> dict:
    """What of the data is written into the request: its path, the hash of the folder, and those of its files."""
    return {"path": str(data), "sha256": hash_folder(data), "files": hash_files(data)}


def execute(notebook: Path, run: Path, parameters: Mapping) -> dict:
    """Execute one notebook into `<run>/notebooks/`, unless it is there already with all that it wrote.

    Returns:
        {"seconds", "peak_mib"}, of this process and the kernel together.

    Raises:
        UserError: the notebook failed; its own message, when it is one for people, else where to look. Or it could not
            be written, as when the disk is full.
    """
    executed = run / "notebooks" / notebook.name
    if (cost := cost_if_done(run, notebook.stem)) is not None:
        print(f"{notebook.stem}: already done", flush=True)
        return cost
    print(f"{notebook.stem}: running", flush=True)
    partial = executed.with_name(f"{notebook.stem}.unfinished.ipynb")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(partial, error) from error
    own = notebook_parameters(notebook)
    try:
        with Meter(children=True) as meter:
            result = papermill.execute_notebook(
                notebook,
                partial,
                {name: value for name, value in parameters.items() if name in own},
                cwd=NOTEBOOK_FOLDER,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                # Below that the kernel says that it uses TCP, which stays on this machine, and that it was interrupted.
                extra_arguments=["--log-level=CRITICAL"],
                kernel_manager_class=OwnKernel,
                start_timeout=300,  # Seconds; it takes two, on an idle machine.
            )
    except papermill.PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        problem = error.evalue if error.ename == "UserError" else f"{error.ename}: {error.evalue}"
        raise UserError(notebook.stem, problem.rstrip("."), f"The notebook up to the error is {partial}") from error
    except RuntimeError as error:  # The kernel died, or did not start.
        remedy = "Most often memory ran out: close other programs, or choose smaller tiles or batches, and run it again"
        raise UserError(notebook.stem, f"its process ended early ({error})", remedy) from error
    except BrokenPipeError:  # Nobody reads what the notebook prints.
        raise
    except OSError as error:  # Papermill writes the notebook after each cell.
        raise _cannot_write(partial, error) from error
    check_run(run)  # It looked at the data when it began; what has changed since, it may have read.
    cost = {"seconds": round(meter.seconds, 1), "peak_mib": round(meter.peak_mib)}
    result.metadata["tiledseg"] = cost
    with atomic_path(executed) as temporary:
        nbformat.write(result, temporary)
    partial.unlink(missing_ok=True)
    enter(run, notebook.stem, cost)
    return cost


def _cannot_write(path: Path, error: OSError) -> UserError:
    problem = f"cannot be written ({error.strerror or error})"
    return UserError(path, problem, "Check permissions and disk space; the same command then goes on where it stopped")


def collect_metrics(run: Path, preset: str, seed: int, peak_rss_mb: float) -> dict:
    """Everything that other tools want to know of a run, from what the notebooks left in `<run>/results/`."""
    data = read_run(run)
    results = ("03_training", "04_evaluation", "05_comparison")
    training, evaluation, comparison = (read_json(run / "results" / f"{name}.json") for name in results)
    several = {name: evaluation[name] for name in ("kinds", "classes") if name in evaluation}
    return {
        "preset": preset,
        "seed": seed,
        "data": {"path": data["path"], "sha256": data["sha256"], "images": data["images"]},
        "training": {name: training[name] for name in ("steps", "seconds", "parameters", "best_epoch")},
        "tiled": {name: comparison["tiled"][name] for name in WAY_METRICS},
        "non_tiled": {name: comparison["non_tiled"][name] for name in WAY_METRICS},
        "difference": comparison["difference"],
        **several,
        "baselines": [{name: row[name] for name in RIVAL_METRICS} for row in comparison.get("baselines", ())],
        "peak_rss_mb": peak_rss_mb,
        "environment": environment(training["device"]),
    }


def make_report(
    run: Path,
    preset: str,
    data: Path | None = None,
    overwrite: bool = False,
    changes: Mapping | None = None,
) -> Path:
    """Run the notebooks and write the report. An interrupted run goes on with the first unfinished notebook.

    Notebooks in `ON_REQUEST` are run if the preset asks for them; the report is there before, and grows with each.

    Args:
        run: run folder, made if missing.
        preset: name, or path of a YAML file.
        data: folder of images and masks; None generates images into `<run>/data`.
        overwrite: replace a run that is already in the folder.
        changes: parameters that take the place of the preset's; None takes one out.

    Returns:
        path of `<run>/report/index.html`.

    Raises:
        UserError: unknown preset or parameter, unusable data, a run folder in use, a notebook that failed.
    """
    check_run_folder(run, files_read(data, preset))
    run = Path(run).resolve()
    for path in (str(run), str(data or "")):
        if not storable(path):
            raise UserError(path, "has a name that is not UTF-8, which no page can hold", "Rename the folder")
    parameters = changed_preset(preset, changes or {})
    check_parameters(parameters)
    description = parameters.pop("description", "")
    seed = parameters.get("seed", default_parameters()["seed"])
    if data is not None:
        data = Path(data).resolve()
        channels = parameters.get("tiles", {}).get("channels", [])
        require_sound(data, channels)  # Told now rather than by a notebook.
        _require_split(data, seed, parameters)
    parameters |= {"run_dir": str(run), "data_dir": str(data or "")}
    request = {"preset": preset, "description": description, "parameters": parameters}
    request |= {"data": describe_data(data) if data is not None else None}
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_folder(run))
        remove_leftovers(run.parent)
        remove_leftovers_below(run)
        prepare_run(run, request, overwrite)
        if not (run / LOCK).exists():  # It went with the run that was replaced.
            stack.enter_context(lock_folder(run))
        return run_notebooks(run, preset, seed + parameters.get("repeat", 0), parameters)


def changed_preset(preset: str, changes: Mapping) -> dict:
    """The parameters of a preset with others in their place; those that become None are left out."""
    parameters = {**read_preset(preset), **changes}
    return {name: value for name, value in parameters.items() if value is not None or name not in changes}


def _require_split(data: Path, seed: int, parameters: Mapping) -> None:
    """Refuse data that notebook 1 could not divide as the parameters ask."""
    if parameters.get("folds"):
        fold_pairs(find_pairs(data), data, seed, parameters["folds"], parameters.get("fold", 1))
        return
    for name, pairs in split_pairs(find_pairs(data), data, seed).items():
        if not pairs:
            raise UserError(data / "split.csv", f"gives no image to {name}", "Give each split at least one image")


def files_read(data: Path | None, preset: str) -> list[Path]:
    """What a run reads. Images are listed one by one, since each may be a link to elsewhere."""
    files = [Path(preset)] if preset.endswith((".yaml", ".yml")) else []
    if data is not None:
        folders = [Path(data, name) for name in ("images", "masks", "labels")]
        files += [Path(data), Path(data, "split.csv"), *folders]
        files += [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return files


def run_notebooks(run: Path, preset: str, seed: int, parameters: Mapping) -> Path:
    """Run those notebooks of a run that are not done, write the report, and return the path of its page."""
    course = [path for path in notebooks() if path.stem not in ON_REQUEST]
    on_top = [path for path in notebooks() if parameters.get(ON_REQUEST.get(path.stem))]
    executed = {path.stem: execute(path, run, parameters) for path in course}
    # Not those of notebooks that nobody asked for: a run with them as preset would run these, too.
    shown = {
        name: value for path in (*course, *on_top) for name, value in notebook_parameters(path).items()
    } | parameters
    metrics = collect_metrics(run, preset, seed, max(cost["peak_mib"] for cost in executed.values()))
    page = write_page(run, metrics, shown, executed)
    for path in on_top:
        print(f"{path.stem} comes on top; what was before is there already: {page}", flush=True)
        executed[path.stem] = execute(path, run, parameters)
        page = write_page(run, metrics, shown, executed)
    write_json(run / "metrics.json", metrics)
    low, high = metrics["difference"]["ci95"]
    interval = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
    print(f"tiled Dice      {metrics['tiled']['dice']['mean']:.3f}")
    print(f"non-tiled Dice  {metrics['non_tiled']['dice']['mean']:.3f}")
    print(f"difference      {metrics['difference']['dice_mean']:+.3f}{interval}")
    if rival := strongest_rival(metrics["baselines"]):
        print(f"strongest rival {rival['dice']['mean']:.3f} ({rival['way']})")
    print(f"{sum(cost['seconds'] for cost in executed.values()):.0f} s; the report is {page}", flush=True)
    return page
