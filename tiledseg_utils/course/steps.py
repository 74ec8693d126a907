"""Which notebooks of a run are done: those whose outputs are still what they were when the notebook ended.

A notebook that has ended leaves a list of its outputs, `<run>/notebooks/<name>.outputs.json`, with their sizes and
hashes. A run that goes on compares: where an output is gone or differs, the notebook runs again, and if it then hands
on something else than before, so do those after it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..base.files import UserError, hash_file, read_record, write_json

OWN = {
    "01_data_and_tiling": ("data/**/*", "added/**/*", "tiles/**/*"),
    "03_unet_training": ("model.keras", "training/history.csv", "training/preview/*"),
    "07_architectures": ("architectures/*/model.keras",),
    "08_counting_nuclei": ("touching/**/*", "instances.keras", "counting/history.csv"),
}
"""What notebooks write beside `results/<number>_*` and `figures/<number>_*`, as patterns in the run folder.

Checkpoints are not among them: they serve the training only, and it checks them itself.
"""

HANDED_ON = ("data/", "added/", "tiles/", "model.keras", "results/01_data.json", "results/02_augmentation.json")
"""Of all outputs, those that later notebooks read, as beginnings of their paths."""

DRAWN = ("data/", "added/", "touching/")
"""Folders of images that notebooks draw unless they are there."""


def outputs(run: Path, notebook: str) -> Iterator[Path]:
    """The files in a run folder that `notebook` (a name without suffix) wrote, itself as executed included."""
    number = notebook.split("_")[0]
    patterns = (f"notebooks/{notebook}.ipynb", f"results/{number}_*", f"results/{number}_*/**/*", f"figures/{number}_*")
    for pattern in (*patterns, *OWN.get(notebook, ())):
        for path in sorted(run.glob(pattern)):
            if path.is_file() and not path.name.startswith("."):
                yield path


def list_path(run: Path, notebook: str) -> Path:
    """Where the list of a notebook's outputs is."""
    return run / "notebooks" / f"{notebook}.outputs.json"


def read_list(run: Path, notebook: str) -> dict:
    """The list of a notebook's outputs: cost (as `report.execute` returns it), and size and SHA-256 by path.

    Raises:
        UserError: there is none, or it is damaged.
    """
    record = read_record(list_path(run, notebook), {"cost": {}, "outputs": {}}, "Run the notebook again")
    numbers = [record["cost"].get("seconds"), record["cost"].get("peak_mib")]
    entries = list(record["outputs"].values())
    is_whole = all(type(number) in (int, float) for number in numbers) and len(entries) > 0
    if not is_whole or not all(isinstance(entry, list) and [*map(type, entry)] == [int, str] for entry in entries):
        raise UserError(list_path(run, notebook), "is damaged", "Run the notebook again")
    return record


def cost_if_done(run: Path, notebook: str) -> dict | None:
    """What a notebook cost, {"seconds", "peak_mib"}, if it has run and all its outputs are as it left them, else None.

    Says in a line why a notebook that has run is not done.

    Raises:
        UserError: an image that it drew has changed. It draws only those that are gone.
    """
    executed = run / "notebooks" / f"{notebook}.ipynb"
    if not list_path(run, notebook).exists():
        if executed.exists():
            print(f"{notebook}: runs again, because its list of outputs is missing", flush=True)
        return None
    try:
        record = read_list(run, notebook)
    except UserError as error:
        print(f"{notebook}: runs again, because {error.path} {error.problem}", flush=True)
        return None
    gone, changed = _differences(run, record["outputs"])
    drawn = [name for name in changed if name.startswith(DRAWN)]
    if drawn:
        raise UserError(run / drawn[0], f"is not what {notebook} drew", "Delete it, and it is drawn again")
    if gone or changed:
        what = f"{gone[0]} is gone" if gone else f"{changed[0]} has changed"
        print(f"{notebook}: runs again, because {what}", flush=True)
        return None
    return record["cost"]


def _differences(run: Path, listed: Mapping) -> tuple[list[str], list[str]]:
    """Which outputs of a notebook are gone, and which have changed."""
    gone = [name for name in listed if not (run / name).is_file()]
    changed = [
        name
        for name, (size, digest) in listed.items()
        if name not in gone and ((run / name).stat().st_size != size or hash_file(run / name) != digest)
    ]
    return gone, changed


def enter(run: Path, notebook: str, cost: Mapping) -> None:
    """Write the list of outputs of a notebook that has just ended.

    If any that is handed on differs from what it was before, the notebooks after it are no longer done.
    """
    listed = {}
    for path in outputs(run, notebook):
        listed[path.relative_to(run).as_posix()] = [path.stat().st_size, hash_file(path)]
    try:
        before = read_list(run, notebook)["outputs"]
    except UserError:
        before = {}
    if _handed_on(before) != _handed_on(listed):
        for later in sorted((run / "notebooks").glob("*.outputs.json")):
            name = later.name.removesuffix(".outputs.json")
            if name > notebook:
                print(f"{name}: runs again, because {notebook} has handed on something else", flush=True)
                later.unlink()
                (run / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
    write_json(list_path(run, notebook), {"cost": dict(cost), "outputs": listed})


def _handed_on(listed: Mapping) -> dict:
    return {name: entry for name, entry in listed.items() if name.startswith(HANDED_ON)}
