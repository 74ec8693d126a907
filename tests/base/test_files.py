import errno
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tiledseg_utils.base import leftovers
from tiledseg_utils.base.files import UserError, atomic_path, read_csv, read_json, set_aside, write_csv, write_json
from tiledseg_utils.data import pictures
from tiledseg_utils.prediction.band_writer import BandWriter
from tiledseg_utils.tiles import tiling


def test_user_error_names_path_problem_and_remedy():
    assert str(UserError("a b.png", "is empty", "Copy it again")) == "a b.png: is empty. Copy it again."


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_json(path, 1)
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == 1
    assert [child.name for child in path.parent.iterdir()] == ["file.txt"]


def test_atomic_path_says_what_a_disk_error_means(tmp_path):
    (tmp_path / "file").write_text("a file where a folder is needed")
    with pytest.raises(UserError, match=r"out\.txt: cannot be written .* Check permissions and disk space"):
        write_json(tmp_path / "file" / "out.txt", 1)


def test_csv_round_trip_keeps_every_bit_of_a_float(tmp_path):
    write_csv(tmp_path / "table.csv", [{"stem": "zellkern ä, 1", "value": math.pi}])
    (row,) = read_csv(tmp_path / "table.csv")
    assert row["stem"] == "zellkern ä, 1" and float(row["value"]) == math.pi


def test_empty_table(tmp_path):
    write_csv(tmp_path / "table.csv", [])
    assert read_csv(tmp_path / "table.csv") == []


@pytest.fixture
def steps(monkeypatch):
    """What is asked of the disk, in order: ("sync", path) and ("rename", new path)."""
    taken = []

    def sync(handle):
        taken.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}"))))

    def replace(old, new, rename=os.replace):
        rename(old, new)
        taken.append(("rename", Path(new)))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    return taken


def write_tiff(path):
    pictures.write_image(path, np.ones((3, 4), np.int32))


def write_rows(path):
    with BandWriter(path, (2, 3), np.uint8, {}) as writer:
        writer.write(np.zeros((2, 3), np.uint8))
        writer.finish()


WRITERS = [
    ("a.json", lambda path: write_json(path, {"a": 1})),
    ("a.csv", lambda path: write_csv(path, [{"a": 1}])),
    ("a.png", lambda path: pictures.write_image(path, np.ones((3, 4), bool))),
    ("a.tif", write_tiff),
    ("rows.npy", write_rows),
    ("rows.tif", write_rows),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, steps, name, write):
    """After a power cut, a name stands for all bytes: ext4 and others would bring an empty file back."""
    path = tmp_path / "new" / "folder" / name
    write(path)
    renamed = steps.index(("rename", path))
    before, after = steps[:renamed], steps[renamed + 1 :]
    written = [synced for step, synced in before if step == "sync" and synced.parent == path.parent]
    assert written and written[-1].name.startswith(".")
    assert ("sync", path.parent) in after
    assert ("sync", tmp_path) in before and ("sync", tmp_path / "new") in before  # of the new folders


def test_thousands_of_tiles_are_synced_together_before_their_manifest(splits, tmp_path, steps, monkeypatch):
    monkeypatch.setattr(os, "sync", lambda: steps.append(("sync", "all")))
    tiling.write_tile_set(splits, tmp_path, tiling.TileSetting(tile_size=64))
    everything = steps.index(("sync", "all"))
    assert not [step for step in steps[:everything] if step[0] == "sync" and Path(step[1]).is_file()]
    renamed = {path.name for step, path in steps[everything:] if step == "rename"}
    assert renamed == {tiling.SOURCES, tiling.MANIFEST}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_where_folders_cannot_be_synced_files_are_written(tmp_path, monkeypatch, number):
    def refuse(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    write_json(tmp_path / "a.json", 1)
    assert read_json(tmp_path / "a.json") == 1


def test_a_failing_disk_is_told(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"a\.json: cannot be written \(Input/output error\)"):
        write_json(tmp_path / "a.json", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a" * 240 + ".json", "ü" * 120 + ".json", ".hidden.json", "no suffix"])
def test_names_of_any_length_can_be_written(tmp_path, name):
    write_json(tmp_path / name, 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def dead_number() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HOUR = 3600
HERE = leftovers._host()
LEFT = [
    ("of a dead process", "dead", HERE, 0, True),
    ("of this process", "own", HERE, 0, False),
    ("of a living process", "parent", HERE, 0, False),
    ("of a dead process whose number is used again", "own", HERE, 10_000 * HOUR, True),
    ("of another machine", "dead", "0123abcd", HOUR, False),
    ("of another machine, a month ago", "dead", "0123abcd", 24 * 30 * HOUR, True),
    ("a number that no process has", "999999999", HERE, 0, True),
]


@pytest.mark.parametrize(("number", "host", "age", "goes"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_only_what_dead_processes_left_is_removed(tmp_path, number, host, age, goes, kind):
    numbers = {"dead": dead_number, "own": os.getpid, "parent": os.getppid}
    number = numbers[number]() if number in numbers else number
    path = tmp_path / "run" / "deep" / f".model.{number}.{host}.tmp.keras"
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.txt").write_text("three years of work")
    path.parent.mkdir(parents=True)
    if kind == "link":
        path.symlink_to(tmp_path / "precious")
    elif kind == "folder":
        path.mkdir()
        (path / "a.txt").write_text("a run that was put aside")
    else:
        path.write_text("half a model")
    written = time.time() - age
    os.utime(path, (written, written), follow_symlinks=False)
    leftovers.remove_leftovers_below(tmp_path / "run")
    assert os.path.lexists(path) != goes
    assert (tmp_path / "precious" / "a.txt").read_text() == "three years of work"


@pytest.mark.parametrize(
    "name", [".notes.2024.txt", ".a.4711.png", "a.1.0123abcd.tmp.png", ".a.0123abcd.tmp", ".a.partial", ".a.tmp.png"]
)
def test_other_hidden_files_are_never_removed(tmp_path, name):
    (tmp_path / name).write_text("mine")
    os.utime(tmp_path / name, (0, 0))
    leftovers.remove_leftovers_below(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_what_a_killed_process_left_goes_when_the_next_writes(tmp_path):
    code = (
        "import os, signal, sys\nfrom tiledseg_utils.base.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, tmp_path / "a.json"], check=False)
        assert len(list(tmp_path.iterdir())) == 1  # the last one's own
    write_json(tmp_path / "a.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_put_aside_is_a_leftover_only_after_its_process(tmp_path):
    run = tmp_path / "run.1"
    (run / "results").mkdir(parents=True)
    os.utime(run, (0, 0))
    aside = set_aside(run)
    leftovers.remove_leftovers(tmp_path)
    assert not run.exists() and (aside / "results").is_dir()
    os.rename(aside, str(aside).replace(f".{os.getpid()}.", f".{dead_number()}."))
    leftovers.remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_put_aside(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: cannot be replaced \(No such file or directory\)"):
        set_aside(tmp_path / "nowhere")
