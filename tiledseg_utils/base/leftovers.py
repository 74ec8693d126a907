"""Names of files that are being written, and what is left of them when their writer has died.

Such a file is `.NAME.PID.HOST.tmp.SUFFIX`, beside the file NAME.SUFFIX that it becomes. It is left over once the
process PID has ended, or is another one that started after the file was written, since the system uses numbers again.
About processes of other machines nothing is known here: their files count as left over after a week. A run folder that
was put aside to be deleted has such a name, too. Nothing else ever gets one, so leftovers are deleted without asking.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import socket
import time
from pathlib import Path

import psutil

PATTERN = re.compile(r"\..*\.(?P<pid>[0-9]{1,9})\.(?P<host>[0-9a-f]{8})\.tmp(\.[^.]*)?", re.DOTALL)
CLOCKS = 60  # seconds by which the clocks of this machine and of a file server may differ
WEEK = 7 * 24 * 3600  # seconds
LONGEST = 180  # bytes of a stem; most file systems take names of 255


def temporary_name(path: Path) -> Path:
    """The path beside `path` under which this process writes it; the suffix stays, since formats are chosen by it."""
    stem = path.stem
    if len(os.fsencode(stem)) > LONGEST:
        stem = hashlib.sha256(os.fsencode(stem)).hexdigest()
    return path.with_name(f".{stem}.{os.getpid()}.{_host()}.tmp{path.suffix}")


def remove_leftovers(folder: Path) -> None:
    """Delete the leftovers in a folder, but not in folders within it; what cannot be deleted stays."""
    try:
        paths = list(folder.iterdir())
    except OSError:  # It is not there, or may not be read.
        return
    for path in paths:
        with contextlib.suppress(OSError):  # Not allowed, or another process was first: nothing depends on it.
            if _is_left_over(path):
                _delete(path)


def remove_leftovers_below(folder: Path) -> None:
    """As `remove_leftovers`, in a folder and all within it."""
    for place, _, _ in os.walk(folder):
        remove_leftovers(Path(place))


@functools.cache
def remove_leftovers_once(folder: Path) -> None:
    """As `remove_leftovers`, once in the life of this process."""
    remove_leftovers(folder)


@functools.cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_left_over(path: Path) -> bool:
    match = PATTERN.fullmatch(path.name)
    if not match:
        return False
    written = path.lstat().st_mtime
    if match["host"] != _host():
        return time.time() - written > WEEK
    try:
        return psutil.Process(int(match["pid"])).create_time() > written + CLOCKS
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # Nothing may be known of it.
        return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
