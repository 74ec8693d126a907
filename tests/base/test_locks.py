import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tiledseg_utils.base import locks
from tiledseg_utils.base.files import UserError

HOLD = """
import sys, time
from pathlib import Path
from tiledseg_utils.base import locks
if sys.argv[2] == "without":
    locks.fcntl = None
with locks.lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["with", "without"])
def system(request, monkeypatch):
    """A system with locks on files, and one without."""
    if request.param == "without":
        monkeypatch.setattr(locks, "fcntl", None)
    return request.param


@pytest.fixture
def holder(tmp_path, system):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path, system], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path, holder):
    with pytest.raises(UserError) as told, locks.lock_folder(tmp_path):
        pass
    assert told.value.path == str(tmp_path)
    who = f"is in use by another command (process {holder.pid} on {socket.gethostname()}, since "
    assert told.value.problem.startswith(who)
    assert told.value.remedy == "Wait until it has ended, or choose another folder"
    assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == holder.pid  # untouched


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_holds_nothing_any_more(tmp_path, holder, how):
    holder.send_signal(how)
    holder.wait()
    assert (tmp_path / locks.LOCK).exists()
    with locks.lock_folder(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / locks.LOCK).exists()


def test_it_is_free_again_behind_an_error_and_can_be_taken_twice_in_a_row(tmp_path, system):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), locks.lock_folder(tmp_path / "deep" / "new"):
            raise ZeroDivisionError
    assert list((tmp_path / "deep" / "new").iterdir()) == []


def entry(**changes):
    own = {"pid": os.getpid(), "host": socket.gethostname(), "started": psutil.Process().create_time(), "since": "x"}
    return json.dumps(own | changes)


@pytest.mark.parametrize(
    "left",
    ["", "{", "[]", "null", '{"pid": "x"}', entry(pid=2**22 + 1), entry(started=time.time() - 1e6), entry(pid=None)],
    ids=["empty", "cut", "list", "null", "no pid", "dead", "number used again", "pid null"],
)
def test_what_a_dead_process_left_is_no_lock(tmp_path, system, left):
    (tmp_path / locks.LOCK).write_text(left)
    with locks.lock_folder(tmp_path):
        assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()


def test_where_the_system_has_no_locks_nobody_knows_of_processes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    (tmp_path / locks.LOCK).write_text(entry(host="elsewhere"))
    with (
        pytest.raises(UserError, match=rf"on elsewhere.*if that process is gone, delete .*{locks.LOCK}"),
        locks.lock_folder(tmp_path),
    ):
        pass


def test_a_folder_that_was_put_aside_takes_its_lock_along(tmp_path):
    folder = tmp_path / "run"
    with locks.lock_folder(folder):
        folder.rename(tmp_path / "aside")
        with locks.lock_folder(folder):
            pass
        folder.rmdir()
    assert (tmp_path / "aside" / locks.LOCK).exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="run: is not a folder"), locks.lock_folder(tmp_path / "run"):
        pass
    with (
        pytest.raises(UserError, match=r"cannot be written to \(Not a directory\)"),
        locks.lock_folder(tmp_path / "run" / "x"),
    ):
        pass
