"""Errors made for people, and files that are either complete or absent."""

import contextlib
import csv
import difflib
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from .leftovers import remove_leftovers_once, temporary_name
from .text import escape_cell, printable, printable_lines, unescape_cell


class UserError(ValueError):
    """An error that the user can mend: it names the file, what is wrong with it, and what to do.

    Args:
        path: the file or folder (or parameter) in question.
        problem: what is wrong, in plain words, without a full stop.
        remedy: what to do about it, without a full stop.

    Full stops at the end are dropped, and characters that steer a terminal are shown as by `text.printable`. A problem
    that comes from another error may begin with the path, or with one inside it: no path is said twice.
    """

    def __init__(self, path: str | os.PathLike, problem: str, remedy: str):
        self.path = str(path)
        shown = printable(self.path) or "(an empty name)"
        self.problem, self.remedy = (printable_lines(words).rstrip(". ") for words in (problem, remedy))
        self.problem = self.problem.removeprefix(f"{shown}: ")
        subject = "" if self.problem.startswith(f"{shown}{os.sep}") else f"{shown}: "
        super().__init__(f"{subject}{self.problem}. {self.remedy}.".replace(": \n", ":\n"))

    def __reduce__(self):
        return type(self), (self.path, self.problem, self.remedy)  # So that one process can raise it in another.


def require_file(path: str | os.PathLike) -> None:
    """Raise a UserError unless a path is an ordinary file: a pipe would make us wait, and a device might never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise UserError(path, f"cannot be opened ({reason})", "Check its name and permissions") from error
    if stat.S_ISDIR(mode):
        raise UserError(path, "cannot be opened (Is a directory)", "Check its name and permissions")
    if not stat.S_ISREG(mode):
        raise UserError(path, "is a pipe, a device or a socket, not a file", "Give an ordinary file")


class WriteError(UserError):
    """A UserError because something cannot be written: the next file could not be written, either."""


@contextlib.contextmanager
def open_bytes(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for reading in a `with` block.

    Raises:
        UserError: it cannot be opened or read, or is not an ordinary file.
    """
    require_file(path)
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise UserError(path, f"cannot be opened ({error.strerror})", "Check its name and permissions") from error


def read_bytes(path: str | os.PathLike) -> bytes:
    """Read a file; errors as for `open_bytes`."""
    with open_bytes(path) as file:
        return file.read()


def hash_file(path: str | os.PathLike) -> str:
    """SHA-256 of the bytes of a file, in hex; errors as for `open_bytes`."""
    with open_bytes(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_path(path: Path) -> str:
    """SHA-256, in hex, of a file; of a folder, of the names and contents of all files in it."""
    if not path.is_dir():
        return hash_file(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {hash_file(file)}\n".encode())
    return digest.hexdigest()


def check_names(where: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise a UserError for the first name in `given` that is not `valid`, listing the valid ones and the closest."""
    valid = list(valid)
    for name in given:
        if name not in valid:
            raise UserError(
                f"{where}: {name}", "is not known", f"{did_you_mean(name, valid)}Valid are {', '.join(valid)}"
            )


def did_you_mean(name, valid: Iterable[str]) -> str:
    """A question about the valid name closest to a misspelt one, with a space at the end; "" if none is close."""
    close = difflib.get_close_matches(str(name), valid, 1)
    return f"Did you mean {close[0]}? " if close else ""


def sync_file(path: Path) -> None:
    """Return once the bytes of a file are on the disk, and not only in a buffer of the system."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on the disk; does nothing where the system does not offer it (Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and bring their names to the disk."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def rename_durably(temporary: Path, path: Path) -> None:
    """Give a file that is on the disk its name, in place of what had it, so that a power cut does not undo it."""
    os.replace(temporary, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name only if the block succeeds.

    A reader, or a run that starts again after a crash or a power cut, therefore sees the old file, the new file or
    none, but never half of one: the bytes are on the disk before the name is. The temporary name keeps the suffix,
    because Keras and Matplotlib choose formats by it. What dead processes left behind under such names is removed when
    a process first writes into a folder (`leftovers`).

    Args:
        path: the file to be; its folder is made if missing.
        sync: False for one of many small files that only count together; `sync_disks` then follows for all of them.

    Raises:
        UserError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        make_folder(path.parent)
        remove_leftovers_once(path.parent.absolute())
        yield temporary
        if sync:
            sync_file(temporary)
            rename_durably(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise WriteError(
            path, f"cannot be written ({error.strerror or error})", "Check permissions and disk space"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # Nothing to clean up, or no folder to look into.
            temporary.unlink()


def sync_disks() -> None:
    """Return once all that was written is on the disks; does nothing where the system does not offer it (Windows)."""
    if hasattr(os, "sync"):
        os.sync()


def set_aside(folder: Path) -> Path:
    """Rename a folder to a hidden one beside it, which can then be deleted, and return the new path.

    If the process is killed during the deletion, the rest does not pass for the folder, and `remove_leftovers` of the
    folder above removes it.

    Raises:
        UserError: it cannot be renamed.
    """
    folder = Path(folder)
    aside = temporary_name(folder)
    try:
        os.utime(folder)  # Or it would look older than this process, which is how leftovers are recognised.
        rename_durably(folder, aside)
    except OSError as error:
        problem = f"cannot be replaced ({error.strerror or error})"
        raise UserError(folder, problem, "Close what uses it, or choose another folder") from error
    return aside


def put_back(aside: Path, folder: Path) -> None:
    """Undo `set_aside`, unless something has taken the place of the folder since."""
    with contextlib.suppress(OSError):  # It is not there, or not empty.
        folder.rmdir()
    if not folder.exists():
        rename_durably(aside, folder)


def progress(items: Iterable | None = None, unit: str = "", **more) -> tqdm:
    """Show how far a loop over `items` has come: live in a terminal, every ten seconds in a notebook or a log file.

    Without `items`, give tqdm's `total` (and `initial`), and call `update` with the amount done.
    """
    if items is None:
        more["bar_format"] = (
            "{percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} {unit} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
        )
    return tqdm(items, unit=unit, file=sys.stdout, mininterval=0.1 if sys.stdout.isatty() else 10, **more)


def write_json(path: str | os.PathLike, content) -> None:
    """Write `content` as readable JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def append_json(path: str | os.PathLike, entry: Mapping) -> None:
    """Add a line of JSON to a file of such lines; it is on the disk when this returns.

    Raises:
        WriteError: no permission, or the disk is full.
    """
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(entry))  # The break comes first, so that a cut line spoils only itself.
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WriteError(path, f"cannot be written ({error.strerror})", "Check permissions and disk space") from error


def read_json_lines(path: str | os.PathLike, containing: str = "") -> list[dict]:
    """Read what `append_json` wrote, without lines that an interruption cut and those that do not contain a text."""
    path, entries = Path(path), []
    if not path.is_file():
        return entries
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if containing not in line:
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # Empty, or cut.
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def read_json(path: str | os.PathLike, remedy: str = "Restore it, or start again in another folder"):
    """Read a JSON file.

    Raises:
        UserError: it cannot be opened, or is not JSON; with this `remedy`.
    """
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # also of bytes that are no text
        raise UserError(path, f"is damaged ({error})" if content else "is an empty file", remedy) from error


def read_record(path: str | os.PathLike, example: Mapping, remedy: str) -> dict:
    """Read a JSON file that a program wrote: an object that has the names of `example`, with values of their types.

    Raises:
        UserError: it cannot be opened, is not JSON, or holds something else; with this `remedy`.
    """
    record = read_json(path, remedy)
    if not isinstance(record, dict):
        raise UserError(path, f"is damaged (it holds a {type(record).__name__}, not names and values)", remedy)
    for name, value in example.items():
        if name not in record:
            raise UserError(path, f"is damaged, or of an earlier version ({name} is missing)", remedy)
        wrong = type(record[name]) is not type(value) and not (type(value) is float and type(record[name]) is int)
        if wrong:
            raise UserError(path, f"is damaged ({name} is {str(record[name])[:40]!r})", remedy)
    return record


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping]) -> None:
    """Write a table, atomically. All rows have the keys of the first, which become the header.

    Floats are written with `repr`, so that reading them back gives the same bits. Text that a spreadsheet would run as
    a formula gets an apostrophe in front, which `read_csv` takes away; numbers stay as they are.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: escape_cell(value) for name, value in row.items()} for row in rows)


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read a table with a header as a list of rows; every value is text."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        return [{name: unescape_cell(value) for name, value in row.items()} for row in csv.DictReader(file)]
