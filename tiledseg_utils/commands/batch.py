"""Many images, one by one: their outputs are checked before the first, and a bad image does not stop the others."""

import glob
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..base.files import UserError, WriteError, progress
from ..base.finished import JOURNAL
from ..base.locks import lock_path
from ..base.paths import IMAGE_SUFFIXES, NEVER_IMAGES, Output, check_paths
from ..prediction.band_writer import working_paths
from .console import explain, print_table, say

IMAGES_HELP = "images of any size, folders of them, or patterns such as scans/*.jpg"

PROBABILITY_SUFFIXES = {".tif", ".tiff", ".npy"}
"""What `predict --probability` writes."""


def expand_images(given: Sequence[Path], out: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The files that a user means by names of files, folders and patterns.

    A folder stands for the files in it that have one of the `suffixes`, in the order of their names, without hidden
    ones and without folders below it. A pattern (`*`, `?`, `[...]`, and `**` for all folders below) is expanded here
    since the Windows shells leave that to the programs; a file whose own name looks like a pattern stands for itself.

    Args:
        given: as on the command line.
        out: folder of the results.
        suffixes: in lower case, with their dots.

    Raises:
        UserError: a pattern or a folder without any file, or a folder that is also that of the results.
    """
    from ..data.pictures import is_zarr  # late, for a quick --help

    files = []
    for path in (path for name in given for path in _matching(name)):
        is_folder = os.path.isdir(path) and not is_zarr(path)
        files += _images_in(path, out, suffixes) if is_folder else [path]
    return files


def _matching(name: Path) -> list[Path]:
    """The paths that a pattern stands for, sorted; any other path and any address stands for itself."""
    from ..data.pictures.remote import address_of  # late, for a quick --help

    if os.path.lexists(name) or not glob.has_magic(str(name)) or address_of(name):
        return [name]
    matching = [Path(path) for path in glob.glob(str(name), recursive=True)]
    if not matching:
        raise UserError(name, "is a pattern that no file matches", "Check the folder and the spelling")
    return sorted(matching)


def _images_in(folder: Path, out: Path, suffixes: Collection[str]) -> list[Path]:
    """The images in a folder, sorted; files that might be meant for images, and are none, are named on stderr."""
    if os.path.realpath(folder) == os.path.realpath(out):
        problem = "is the folder of the images and that of the results, which would be taken for images the next time"
        raise UserError(folder, problem, "Choose another folder with --out")
    from ..data.pictures import is_zarr

    here = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in here if path.is_file() or is_zarr(path)]
    images = [path for path in files if path.suffix.lower() in suffixes or is_zarr(path)]
    if not images:
        remedy = f"Give a folder of files that end in {', '.join(sorted(suffixes))}, or name the files"
        raise UserError(folder, "is a folder without images", remedy)
    others = [path.name for path in files if path not in images and path.suffix.lower() not in NEVER_IMAGES]
    if others:
        more = f", and {len(others) - 5} more" if len(others) > 5 else ""
        say(f"note: left out of {folder}, for their endings: {', '.join(others[:5])}{more}")
    return images


def check_outputs(arguments, results: Sequence[Output]) -> None:
    """Refuse to write where something is read, two results into one file, and the same image twice.

    Args:
        arguments: of a command with `model`, which may be None, `images` and `out`.
        results: what it will write into the folder `out`.
    """
    doubled = sorted({str(path) for path in arguments.images if arguments.images.count(path) > 1})
    if doubled:
        raise UserError(doubled[0], "is given more than once", "Give each image once")
    written = [*results, Output(arguments.out / JOURNAL, "the list of finished results")]
    for result in results:
        hidden = [*working_paths(result.path), lock_path(result.path)]
        written += [Output(path, f"a working file for {result.what}") for path in hidden]
    check_paths([arguments.model, *arguments.images] if arguments.model else arguments.images, written)


def one_by_one(paths: Sequence[Path], work: Callable[[Path], dict | None]) -> None:
    """Do some work for each image and print the rows that it returns; images that fail are listed at the end.

    Raises:
        UserError: an image could not be done; or nothing can be written any more, which ends it at once.
    """
    rows, failures = [], []
    for path in progress(paths, unit="image"):
        try:
            rows.append(work(path))
        except BrokenPipeError:  # Nobody reads what is printed.
            raise
        except (UserError, OSError, MemoryError) as error:
            failure = explain(error, path)
            if isinstance(failure, WriteError) or len(paths) == 1:
                for earlier in failures:
                    say(f"error: {earlier}")
                if failure is error:
                    raise
                raise failure from error
            failures.append(str(failure))  # The text alone: the error itself would keep the image in memory.
    print_table([row for row in rows if row])
    if failures:
        remedy = "Mend them, and give the same command again: it does only what is missing"
        listed = "\n  ".join(["could not be done, the others are", *(failure.rstrip(".") for failure in failures)])
        raise UserError(f"{len(failures)} of {len(paths)} images", listed, remedy)
