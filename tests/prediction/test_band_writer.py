"""Rows out: complete or absent, through every interruption, in little memory."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile

from tests.data.test_streaming import assert_user_error, read_in_bands
from tiledseg_utils.base import finished, locks
from tiledseg_utils.data.pixel_size import read_pixel_size
from tiledseg_utils.prediction import band_writer
from tiledseg_utils.prediction.band_writer import BandWriter

RNG = np.random.default_rng(0)
RESULT = RNG.integers(0, 256, (1100, 700), np.uint8)


def write(path, result=RESULT, step=300, stop=None, identity=None, overwrite=False):
    """Write all bands that are missing, or those before row `stop`, and return the row at which this began."""
    with BandWriter(path, result.shape, result.dtype, identity or {"image": "a"}, overwrite) as writer:
        begin = writer.rows
        while writer.rows < (stop or len(result)):
            writer.write(result[writer.rows : writer.rows + step])
        if stop is None:
            writer.finish()
    return begin


def names(folder):
    """Of all files in a folder but the list of finished ones."""
    return sorted(path.name for path in folder.iterdir() if path.name != finished.JOURNAL)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (512, 512), (513, 511), (1025, 1030)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_outputs_hold_what_was_written(tmp_path, shape, dtype):
    result = (RNG.random(shape) * 200).astype(dtype)
    for suffix in (".npy", ".tif", ".TIFF"):
        write(tmp_path / f"a{suffix}", result, step=200)
        write(tmp_path / f"b{suffix}", result, step=77)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    np.save(tmp_path / "c.npy", result)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), result)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED), result)
    np.testing.assert_array_equal(read_in_bands(tmp_path / "a.tif", 300, 40)[..., 1], result)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages.first
        assert not file.is_bigtiff and not page.is_tiled and not {"DateTime", "Software"} & set(page.tags.keys())
        assert page.compression.name == ("NONE" if dtype == np.float32 else "ADOBE_DEFLATE")
    assert names(tmp_path) == ["a.TIFF", "a.npy", "a.tif", "b.TIFF", "b.npy", "b.tif", "c.npy"]


class KilledError(BaseException):
    pass


def test_killed_at_any_step_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """Each call that changes a file is, in turn, the last one, done or not done."""
    countdown = itertools.repeat(False)

    def deadly(call, before):
        def wrapped(*args, **kwargs):
            now = next(countdown)
            if now and before:
                raise KilledError
            result = call(*args, **kwargs)
            if now:
                raise KilledError
            return result

        return wrapped

    for suffix in (".npy", ".tif"):
        write(tmp_path / f"whole{suffix}")
        expected = (tmp_path / f"whole{suffix}").read_bytes()
        for before in (True, False):
            with monkeypatch.context() as patch:
                for owner, name in (
                    (os, "replace"),
                    (os, "fsync"),
                    (band_writer.Path, "unlink"),
                    (band_writer.Path, "touch"),
                    (BandWriter, "_write_tiff"),
                ):
                    patch.setattr(owner, name, deadly(getattr(owner, name), before))
                for step in itertools.count():
                    folder = tmp_path / f"{suffix}{before}{step}"
                    path = folder / f"a{suffix}"
                    countdown = itertools.chain(itertools.repeat(False, step), [True], itertools.repeat(False))
                    try:
                        write(path)
                        break  # it has fewer steps
                    except KilledError:
                        if not path.exists():
                            working = folder / f".a{suffix}.partial"
                            if working.exists():  # what the next band had left, or more than that
                                working.write_bytes(working.read_bytes() + b"garbage" * 99)
                            begin = write(path)
                            assert step < 7 or begin > 0  # before, no row was safe
                            assert names(folder) == [f"a{suffix}"]
                        assert path.read_bytes() == expected
                assert step > 12


def test_sigkill_in_the_middle_of_a_band(tmp_path):
    code = (
        "import os, signal, sys, numpy as np\nfrom tiledseg_utils.prediction import band_writer\n"
        "writer = band_writer.BandWriter(sys.argv[1], (300, 50), np.float32, {'n': 1})\n"
        "for start in (0, 100): writer.write(np.full((100, 50), start, np.float32))\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "writer.write(np.full((100, 50), 200, np.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.npy"], check=False)
    assert done.returncode == -signal.SIGKILL
    with BandWriter(tmp_path / "a.npy", (300, 50), np.float32, {"n": 1}) as writer:
        assert writer.rows == 200
        writer.write(np.full((100, 50), 200, np.float32))
        writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy")[:, 0], np.repeat([0, 100, 200], 100))


def test_only_the_same_output_is_taken_up(tmp_path):
    path = tmp_path / "a.npy"
    other = 255 - RESULT

    def is_taken_up(result, identity):
        write(path, stop=600, identity={"image": "a", "tile": (512, 64)})
        begin = write(path, result, identity=identity)
        np.save(tmp_path / "expected.npy", result)
        assert path.read_bytes() == (tmp_path / "expected.npy").read_bytes()
        assert names(tmp_path) == ["a.npy", "expected.npy"]
        path.unlink()
        return begin == 600

    assert is_taken_up(RESULT, {"tile": [512, 64], "image": "a"})
    assert not is_taken_up(other, {"image": "b", "tile": (512, 64)})
    assert not is_taken_up(other[:300], {"image": "a", "tile": (512, 64)})
    assert not is_taken_up(other.astype(np.float32), {"image": "a", "tile": (512, 64)})


def test_rows_of_two_outputs_are_never_mixed(tmp_path, monkeypatch):
    """The second one is killed when its rows, not yet counted, lie where those of the first were."""
    write(tmp_path / "a.npy", stop=600)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KilledError()))
        write(tmp_path / "a.npy", 255 - RESULT, step=700, identity={"image": "b"})
    assert write(tmp_path / "a.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), RESULT)


@pytest.mark.parametrize("damage", ["no rows", "fewer rows", "other rows", "no state", "half a state"])
def test_working_files_that_do_not_fit_are_not_trusted(tmp_path, damage):
    path = tmp_path / "a.npy"
    write(path, stop=600)
    rows, state = tmp_path / ".a.npy.partial", tmp_path / ".a.npy.partial.json"
    if damage == "no rows":
        rows.unlink()
    elif damage == "fewer rows":
        rows.write_bytes(rows.read_bytes()[:-1])
    elif damage == "other rows":
        rows.write_bytes(rows.read_bytes()[:-9] + b"\1garbage\1")
    elif damage == "no state":
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[:20])
    assert write(path) == 0
    np.testing.assert_array_equal(np.load(path), RESULT)


def test_an_output_that_exists_is_kept_until_the_new_one_is_complete(tmp_path):
    for suffix in (".npy", ".tif"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"old")
        assert_user_error(lambda path=path: write(path), path, "exists already")
        assert names(tmp_path) == [path.name]
        write(path, stop=600, overwrite=True)
        assert path.read_bytes() == b"old"
        assert write(path, overwrite=True) == 600
        assert len(path.read_bytes()) > 1000
        path.unlink()


class FullDisk:
    """A file that takes `room` more bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        count = min(len(data), self.room, 50_000)  # files may always take less than they are given
        self.room -= count
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data[:count])


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_full_disk(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    with BandWriter(path, RESULT.shape, RESULT.dtype, {"image": "a"}) as writer:
        writer._file = FullDisk(file := writer._file, 700 * 350)
        writer.write(RESULT[:300])
        words = ["No space left on device", "300 of 1100 rows are safe", "goes on at row 300"]
        assert_user_error(lambda: writer.write(RESULT[300:600]), path, *words)
        assert writer.rows == 300
        writer._file = file
        writer.write(RESULT[300:500])  # there is room again
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *_: FullDisk(None, 0).write(b"1"))
            assert_user_error(lambda: writer.write(RESULT[500:700]), path, "500 of 1100 rows are safe")
    assert not path.exists()
    assert write(path, stop=1100) == 500
    with monkeypatch.context() as patch:
        patch.setattr(band_writer, "_sync", lambda _: FullDisk(None, 0).write(b"1"))
        patch.setattr(os, "replace", lambda *_: FullDisk(None, 0).write(b"1"))
        assert_user_error(lambda: write(path), path, "1100 of 1100 rows are safe")
    assert not path.exists()
    assert write(path) == 1100
    np.testing.assert_array_equal(np.load(path) if suffix == ".npy" else tifffile.imread(path), RESULT)
    assert names(tmp_path) == [path.name]


def test_folders_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.npy"
    assert_user_error(lambda: write(path), path, "cannot be written", "0 of 1100 rows")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(band_writer.Path, "touch", refuse)  # chmod does not stop the root of a container
    path = tmp_path / "new" / "a.tif"
    assert_user_error(lambda: write(path), path, "cannot be written (Permission denied)", "Check permissions")


def test_two_writers_at_once(tmp_path):
    path = tmp_path / "a.npy"
    with BandWriter(path, RESULT.shape, RESULT.dtype, {"image": "a"}) as first:
        first.write(RESULT[:300])
        for identity in ({"image": "a"}, {"image": "b"}):
            assert_user_error(
                lambda identity=identity: write(path, identity=identity),
                path,
                "being written by another command",
                "Wait",
            )
        first.write(RESULT[300:600])
    assert write(path) == 600
    np.testing.assert_array_equal(np.load(path), RESULT)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if locks.fcntl:
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    assert write(tmp_path / "a.npy", stop=300) == 0 and write(tmp_path / "a.npy") == 300


def test_misuse_of_the_writer(tmp_path):
    for name in ("a.png", "a", "npy"):
        assert_user_error(lambda name=name: write(tmp_path / name), tmp_path / name, ".npy, .tif or .zarr")
    for shape, dtype in (((5, 5), np.int16), ((5, 5, 3), np.uint8), ((0, 5), np.uint8)):
        with pytest.raises(ValueError, match="can be written, not"):
            BandWriter(tmp_path / "a.npy", shape, dtype, {})
    assert not list(tmp_path.iterdir())
    with BandWriter(tmp_path / "a.npy", RESULT.shape, np.uint8, {}) as writer:
        for band in (RESULT[:, :-1], RESULT[:5].astype(np.int8), np.vstack([RESULT, RESULT]), RESULT[:5, :, None]):
            with pytest.raises(ValueError, match="does not fit"):
                writer.write(band)
        writer.write(RESULT[:0])
        assert writer.rows == 0
        writer.write(np.asfortranarray(RESULT[:1099]))
        with pytest.raises(ValueError, match="only 1099 of 1100 rows"):
            writer.finish()
        writer.write(RESULT[1099:])
        writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), RESULT)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_of_writing_stays_small(tmp_path, dtype):
    band = np.zeros((400, 2000), dtype)
    with BandWriter(tmp_path / "a.tif", (10_000, 2000), dtype, {}) as writer:
        tracemalloc.start()
        try:
            while writer.rows < 10_000:
                writer.write(band)
            assert tracemalloc.get_traced_memory()[1] < band.nbytes / 4
            writer.finish()
            assert tracemalloc.get_traced_memory()[1] < band.nbytes * 5  # the whole is 25 bands
        finally:
            tracemalloc.stop()


LABELS = np.zeros((600, 700), np.int32)
LABELS[3:9, 4:8], LABELS[500:, 600:] = 1, 65_535


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.int32)])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.npy"])
@pytest.mark.parametrize("limit", [band_writer.CLASSIC, 1000])
def test_labels_are_stored_for_other_programs(tmp_path, monkeypatch, largest, dtype, name, limit):
    """More than 65,535 nuclei do not wrap; the file says how large a pixel is; twice the same bytes."""
    monkeypatch.setattr(band_writer, "CLASSIC", limit)
    labels = np.where(LABELS == 65_535, largest, LABELS).astype(np.int32)
    contents = []
    for step in (100, 600):
        with BandWriter(tmp_path / name, labels.shape, np.int32, {}, True, pixel_size=0.325) as writer:
            for start in range(0, 600, step):
                writer.write(labels[start : start + step])
            writer.finish(largest=largest)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    if name == "a.npy":
        np.testing.assert_array_equal(np.load(tmp_path / name), labels)
        return
    with tifffile.TiffFile(tmp_path / name) as file:
        page = file.pages.first
        assert (file.is_bigtiff, page.is_tiled, page.dtype) == (limit == 1000, limit == 1000, dtype)
        np.testing.assert_array_equal(page.asarray(), labels)
        if name == "a.ome.tif":
            assert 'PhysicalSizeX="0.325" PhysicalSizeXUnit="µm"' in file.ome_metadata
        else:
            assert file.imagej_metadata | {"unit": "micron", "max": float(largest)} == file.imagej_metadata
            assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == pytest.approx(1 / 0.325)
    assert read_pixel_size(tmp_path / name) == pytest.approx(0.325)
