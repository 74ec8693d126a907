"""One process at a time: a lock file says who is at work in a folder, or on a file.

Where the file system has locks, the lock file is locked, and the system opens the lock when its process ends, however
it ends. Elsewhere (on Windows, and on some network drives) the lock counts for as long as the process that is named in
the file lives.
"""

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from .files import UserError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"


def lock_folder(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a folder, which is made if it is missing, in a `with` block; the file `.lock` in it names the process.

    Raises:
        UserError: another process holds the folder, or the folder cannot be written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is not a folder", "Choose another name for the folder")
    return _hold(folder / LOCK, folder, "in use", "choose another folder")


def lock_path(output: Path) -> Path:
    """The lock file of an output."""
    return output.with_name(f".{output.name}.lock")


def lock_output(output: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a file that is to be written, whether it exists or not, in a `with` block.

    Raises:
        UserError: another process is writing the file, or its folder cannot be written to.
    """
    return _hold(lock_path(Path(output)), Path(output), "being written", "choose another folder for the results")


@contextlib.contextmanager
def _hold(lock: Path, path: Path, state: str, remedy: str) -> Iterator[None]:
    """Hold what a lock file stands for; `state` and `remedy` are words for an error: how it is held, what to do."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _take(lock)
    except BlockingIOError as error:
        raise _refusal(lock, path, state, remedy) from error
    except OSError as error:
        problem = f"cannot be written to ({error.strerror or error})"
        raise WriteError(path, problem, "Check permissions and disk space") from error
    with file:
        try:
            yield
        finally:
            if _is_at(lock, file):  # The folder may have been put aside meanwhile, and another one have its name.
                if not fcntl:
                    file.close()  # Windows cannot remove an open file.
                lock.unlink()


def _take(lock: Path):
    """Open and lock the file; another process may remove it between the two, and then it has to be made anew.

    Raises:
        BlockingIOError: another process holds it.
    """
    while True:
        with contextlib.ExitStack() as closing:
            file = closing.enter_context(lock.open("a+", encoding="utf-8"))
            if not _locked_by_system(file) and _lives(_holder(lock)):
                raise BlockingIOError
            if _is_at(lock, file):
                _sign(file)
                closing.pop_all()  # It stays open.
                return file


def _locked_by_system(file) -> bool:
    """Lock the file, as far as the system has locks, and say whether it has.

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


def _holder(lock: Path) -> dict:
    """Who signed the file; nothing of a file that was cut or is still being written."""
    try:
        entry = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(entry, dict) and isinstance(entry.get("pid"), int) and isinstance(entry.get("host"), str)
    return entry if is_whole else {}


def _lives(holder: dict) -> bool:
    """Whether the process that signed may still be at work; on another machine, nobody can tell from here."""
    if holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        # Numbers of processes are used again, times of their start are not.
        return abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):
        return False


def _refusal(lock: Path, path: Path, state: str, remedy: str) -> UserError:
    holder, here = _holder(lock), socket.gethostname()
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'this machine')}"
    problem = f"is {state} by another command ({who}, since {holder.get('since', 'just now')})"
    remedy = f"Wait until it has ended, or {remedy}"
    if holder.get("host", here) != here:
        remedy += f"; if that process is gone, delete {lock}"
    return UserError(path, problem, remedy)
