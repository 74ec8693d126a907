"""One process at a time: a lock file says who is at work in a folder, or on a file."""

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .files import UserError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is missing, in a `with` block.

    The file `.lock` in it names the process. Where the file system has locks, it is locked, and the system opens the
    lock when the process ends, however it ends. Elsewhere it counts for as long as the process lives.

    Raises:
        UserError: another process holds the folder, or the folder cannot be written to.
    """
    path = Path(folder) / LOCK
    if path.parent.exists() and not path.parent.is_dir():
        raise UserError(folder, "is not a folder", "Choose another name for the folder")
    with _hold(Held(path, Path(folder), "in use", "choose another folder")):
        yield


def lock_path(output: Path) -> Path:
    """The lock file of an output."""
    return output.with_name(f".{output.name}.lock")


@contextlib.contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Hold a file that is to be written, whether it exists or not, in a `with` block; as `lock_folder` holds a folder.

    Raises:
        UserError: another process is writing the file, or its folder cannot be written to.
    """
    path = lock_path(Path(output))
    with _hold(Held(path, Path(output), "being written", "choose another folder for the results")):
        yield


@dataclass(frozen=True)
class Held:
    """A lock file, what it stands for, and the words for that: how it is held, and what to do instead."""

    lock: Path
    path: Path
    state: str
    remedy: str


@contextlib.contextmanager
def _hold(held: Held) -> Iterator[None]:
    path = held.lock
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _take(held)
    except OSError as error:
        problem = f"cannot be written to ({error.strerror or error})"
        raise WriteError(held.path, problem, "Check permissions and disk space") from error
    with file:
        try:
            yield
        finally:
            _release(path, file)


def _take(held: Held):
    """Open and lock the file; another process may remove it between the two, and then it has to be made anew."""
    path = held.lock
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            holder = _holder(path)
            if not _locked_by_system(file) and _lives(holder):
                _refuse(held, holder)
            if _is_at(path, file):
                _sign(file)
                return file
        except BlockingIOError:
            file.close()
            _refuse(held, _holder(path))
        except BaseException:
            file.close()
            raise
        file.close()


def _release(path: Path, file) -> None:
    """Remove the file, unless the folder was put aside meanwhile and another one has its name."""
    if _is_at(path, file):
        if not fcntl:
            file.close()  # Windows removes no open file.
        path.unlink()


def _locked_by_system(file) -> bool:
    """Whether the system could lock the file for this process, as far as it has locks.

    Raises:
        BlockingIOError: another process has locked it.
    """
    if not fcntl:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


def _is_at(path: Path, file) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _sign(file) -> None:
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    process = psutil.Process()
    entry = {"pid": process.pid, "host": socket.gethostname(), "started": process.create_time(), "since": now}
    file.truncate(0)
    file.write(json.dumps(entry))
    file.flush()


def _holder(path: Path) -> dict:
    """Who signed the file; nothing of a file that was cut or is still being written."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(entry, dict) and isinstance(entry.get("pid"), int) and isinstance(entry.get("host"), str)
    return entry if is_whole else {}


def _lives(holder: dict) -> bool:
    """Whether the process that signed may still be at work; of another machine, nobody here can know."""
    if holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        # Numbers of processes are used again, times of their start are not.
        return abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _refuse(held: Held, holder: dict) -> None:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'this machine')}"
    problem = f"is {held.state} by another command ({who}, since {holder.get('since', 'just now')})"
    remedy = f"Wait until it has ended, or {held.remedy}"
    if holder.get("host", socket.gethostname()) != socket.gethostname():
        remedy += f"; if that process is gone, delete {held.lock}"
    raise UserError(held.path, problem, remedy)
