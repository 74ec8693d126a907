"""What a command reads is compared with what it writes before anything runs, so that no input is ever lost."""

import contextlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .files import UserError

PACKAGE = Path(__file__).resolve().parents[1]
NOTEBOOK_FOLDER = PACKAGE / "notebooks" if (PACKAGE / "notebooks").is_dir() else PACKAGE.parent / "notebooks"
"""The course's notebooks and presets: within an installed package, and beside the package in a clone."""

BOX = PACKAGE / "models" / "box"
"""The models that come with the package, by their names: `smears.keras`, with `smears.md`, which says what it is."""


IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
NEVER_IMAGES = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".ini", ".db"}
"""Endings of files that are images, and of files that are left out of a folder of images without a word."""


def model_path(text: str) -> Path:
    """The file of a model: `text` itself, or the model of that name that comes with the package.

    A file or folder of that name goes before.
    """
    path, box = Path(text), BOX / f"{text}.keras"
    return box if path.name == text and not os.path.lexists(path) and box.is_file() else path


@dataclass(frozen=True)
class Output:
    """A file that a command is about to write, and in words what it will hold: "the mask of a.png"."""

    path: Path
    what: str


def check_paths(inputs: Iterable[Path], outputs: Sequence[Output]) -> None:
    """Refuse to write where something is read, or two results into one file.

    Hard and symbolic links are recognised, and so are spellings that some file systems do not tell apart: upper and
    lower case, and accents in one character or two. This holds with --overwrite, too.

    Args:
        inputs: files and folders that the command reads.
        outputs: all files that it writes, including its hidden working files.

    Raises:
        UserError: an output is an input or lies in a folder that is one, or two outputs are one file.
    """
    read, folders = {}, []
    for path in map(Path, inputs):
        for mark in (_spelling(path), _spelling(Path(os.path.realpath(path))), _inode(path)):
            read.setdefault(mark, path)
        if path.is_dir():
            folders.append(path)
    read.pop(None, None)  # of inputs that are missing, an error when they are read
    written: dict[str, Output] = {}
    for output in outputs:
        spelling, inode = _spelling(output.path), _inode(output.path)
        source = read.get(spelling) or read.get(inode)
        if source is not None:
            raise _is_input(output, source)
        for folder in folders:
            if folder.resolve() in output.path.resolve().parents:
                problem = f"would be written into {folder}, which this command reads"
                raise UserError(output.path, problem, "Choose another folder for the results")
        other = written.setdefault(spelling, output)
        if other is not output:
            raise _are_one_file(other, output)


def _is_input(output: Output, source: Path) -> UserError:
    problem = f"is read by this command, and would be lost: {output.what} would take its place"
    if output.path.absolute() != source.absolute():
        problem = f"is {source} under another name, which this command reads: it would be lost for {output.what}"
    return UserError(output.path, problem, "Choose another folder for the results")


def _are_one_file(first: Output, second: Output) -> UserError:
    if first.path.name == second.path.name:
        problem = f"would be both {first.what} and {second.what}"
    else:
        problem = f"is {first.what}, and differs from {second.what} only in upper and lower case or the form of accents"
    return UserError(first.path, problem, "Give them one by one, with a folder for the results of each")


def _spelling(path: Path) -> str:
    """A path as a file system that ignores case and forms of accents compares it; a link counts as itself."""
    path = Path(os.path.abspath(path))
    spelling = os.path.join(os.path.realpath(path.parent), path.name)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", spelling).casefold())


def _inode(path: Path) -> tuple[int, int] | None:
    """The file that a path leads to, whatever its name; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        stat = os.stat(path)
        return stat.st_dev, stat.st_ino
    return None


def check_run_folder(run: Path, inputs: Iterable[Path]) -> None:
    """Refuse a run folder whose replacement would delete other things.

    Args:
        run: the folder; it need not exist.
        inputs: files and folders that the run reads: data, images and masks, preset.

    Raises:
        UserError: the folder holds something that is read, lies in it, or holds the home or the current folder.
    """
    place = Path(run).resolve()
    for folder, name in _homes():
        if place == folder or place in folder.parents:
            problem = f"is {name}, or holds it"
            raise UserError(run, problem, "Choose a folder of its own for the run, with --run")
    for path in map(Path, inputs):
        for source in {Path(os.path.abspath(path)), Path(os.path.realpath(path))}:  # also of links in a circle
            if source == place or place in source.parents:
                problem = f"holds {path}, which is read, and would be lost when the run is replaced"
                raise UserError(run, problem, "Choose another folder with --run")
            if source in place.parents and source.is_dir():
                problem = f"lies in {path}, which is read"
                raise UserError(run, problem, "Choose another folder with --run")


def _homes() -> list[tuple[Path, str]]:
    """Folders that no run may replace."""
    homes = [(Path.cwd().resolve(), "the folder you are in")]
    with contextlib.suppress(RuntimeError):  # Nobody knows where the home folder is.
        homes.append((Path.home().resolve(), "your home folder"))
    return homes


RUN_CONTENT = {"request.json", "metrics.json", "model.keras", "instances.keras"}
RUN_CONTENT |= {"data", "tiles", "training", "results", "figures", "notebooks", "report"}
RUN_CONTENT |= {"added", "architectures", "baselines", "counting", "experiments", "many_kinds", "touching"}
RUN_SUFFIXES = {".csv", ".html", ".ipynb", ".json", ".keras", ".npy", ".png", ".tif", ".webp"}
RUN_FILES = {Path("report", "downloads", "parameters.yaml")}


def check_replaceable(run: Path) -> None:
    """Refuse to replace a run folder that holds more than a run writes, by the names at its top and by suffixes.

    Raises:
        UserError: it does.
    """
    top = sorted(Path(run).iterdir())
    foreign = [path for path in top if path.name not in RUN_CONTENT and not _is_clutter(path.name)]
    for folder, _, names in os.walk(run):
        files = (Path(folder, name) for name in sorted(names) if not _is_clutter(name))
        unknown = (path for path in files if path.suffix.lower() not in RUN_SUFFIXES)
        foreign += [path for path in unknown if path.relative_to(run) not in RUN_FILES]
    if foreign:
        problem = f"holds {foreign[0].relative_to(run)}, which is not of a run, and would be deleted with it"
        raise UserError(run, problem, "Move it elsewhere, or choose another folder with --run")


def _is_clutter(name: str) -> bool:
    """Hidden files come from file managers, Jupyter and this package."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")
