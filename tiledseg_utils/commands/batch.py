"""Many images, one by one: their outputs are checked before the first, and a bad image does not stop the others."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..base.files import UserError, WriteError, progress
from ..base.finished import JOURNAL
from ..base.locks import lock_path
from ..base.paths import Output, check_paths
from ..prediction.band_writer import working_paths
from .console import explain, print_table, say


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
