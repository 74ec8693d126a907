"""Results as OME-Zarr: the same numbers, a pyramid that keeps labels, and a folder that is complete or absent."""

import json
import os

import numpy as np
import pytest
import zarr

from tiledseg_utils.base.files import UserError
from tiledseg_utils.base.finished import find_finished
from tiledseg_utils.data.label_rows import LabelRows
from tiledseg_utils.data.pictures import ImagePart
from tiledseg_utils.data.pixel_size import read_pixel_size
from tiledseg_utils.data.streaming import open_source
from tiledseg_utils.prediction import band_writer
from tiledseg_utils.prediction.band_writer import BandWriter

SHAPE = 700, 1090
IDENTITY = {"image": "a"}


def write(path, rows, pixel_size=0.5, largest=None, **options):
    with BandWriter(path, rows.shape, rows.dtype, IDENTITY, pixel_size=pixel_size, **options) as writer:
        for top in range(0, len(rows), 300):
            writer.write(rows[top : top + 300])
        writer.finish({"count": 1}, largest)
    return path


@pytest.fixture
def probabilities(rng):
    return rng.random(SHAPE, np.float32)


def test_probabilities_and_their_means(tmp_path, probabilities):
    path = write(tmp_path / "a.ome.zarr", probabilities)
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read_rows(0, 700)[..., 0], probabilities)
        assert source.scales() == pytest.approx([1, 2, 4, 8], rel=0.01)
    with open_source(ImagePart(path, 1)) as source:
        expected = probabilities.reshape(350, 2, 545, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(source.read_rows(0, 350)[..., 0], expected, rtol=1e-6)
    assert read_pixel_size(ImagePart(path, 2)) == pytest.approx(2.0, rel=0.01)
    assert sorted(os.listdir(tmp_path)) == [".tiledseg-finished.jsonl", "a.ome.zarr"]


def test_labels_stay_labels_in_every_level(tmp_path, rng):
    labels = rng.integers(0, 70_000, SHAPE).astype(np.int32)
    path = write(tmp_path / "l.ome.zarr", labels, largest=69_999)
    with LabelRows(path) as rows:
        np.testing.assert_array_equal(rows.read(0, 700), labels)
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["2"][:], labels[::4, ::4])
    assert "image-label" in group.attrs and group["0"].dtype == np.int32
    few = write(tmp_path / "few.zarr", labels % 50, largest=49)
    assert zarr.open_group(few)["0"].dtype == np.uint16


def test_the_description_is_that_of_the_standard(tmp_path, probabilities):
    path = write(tmp_path / "a.ome.zarr", probabilities, pixel_size=None)
    image = json.loads((path / ".zattrs").read_text())["multiscales"][0]
    assert image["version"] == "0.4" and [axis["name"] for axis in image["axes"]] == ["y", "x"]
    assert all("unit" not in axis for axis in image["axes"])
    assert image["datasets"][1]["coordinateTransformations"] == [{"type": "scale", "scale": [2.0, 2.0]}]
    assert (path / "0" / "1" / "2").is_file()  # Chunks in folders, as the standard recommends.
    assert read_pixel_size(path) is None


def test_version_0_5_is_on_request(tmp_path, probabilities):
    path = write(tmp_path / "a.ome.zarr", probabilities, ome_zarr="0.5")
    about = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert about["version"] == "0.5" and "version" not in about["multiscales"][0]
    assert json.loads((path / "1" / "zarr.json").read_text())["dimension_names"] == ["y", "x"]
    old = write(tmp_path / "b.ome.zarr", probabilities)
    for level in range(4):
        with open_source(ImagePart(path, level)) as new, open_source(ImagePart(old, level)) as known:
            np.testing.assert_array_equal(new.read_rows(0, new.shape[0]), known.read_rows(0, new.shape[0]))
        assert read_pixel_size(ImagePart(path, level)) == read_pixel_size(ImagePart(old, level))
    labels = write(tmp_path / "c.zarr", np.ones(SHAPE, np.int32), largest=1, ome_zarr="0.5")
    with LabelRows(labels) as rows:
        assert (rows.read(0, SHAPE[0]) == 1).all()
    assert "image-label" in zarr.open_group(labels).attrs["ome"]


def test_empty_chunks_are_written_so_that_lost_ones_are_told(tmp_path, caplog):
    path = write(tmp_path / "a.zarr", np.zeros(SHAPE, np.uint8))
    open_source(path).close()
    assert "chunks are not in the store" not in caplog.text


def test_a_folder_that_is_there_is_replaced_only_on_demand(tmp_path, probabilities):
    path = write(tmp_path / "a.zarr", probabilities)
    assert find_finished(path, IDENTITY) == {"count": 1}
    with pytest.raises(UserError, match="exists already"):
        write(path, probabilities)
    write(path, probabilities / 2, overwrite=True)
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read_rows(0, 700)[..., 0], probabilities / 2)
    (path / "0" / "0" / "0").write_bytes(b"changed")
    assert find_finished(path, IDENTITY) is None


def test_what_fails_at_the_end_begins_there_again(tmp_path, probabilities, monkeypatch):
    path = tmp_path / "a.zarr"

    def full(folder, *rest, **more):
        folder.mkdir()
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(band_writer, "write_ome_zarr", full)
    with pytest.raises(UserError, match="700 of 700 rows are safe"):
        write(path, probabilities)
    assert not path.exists()
    monkeypatch.undo()
    with BandWriter(path, SHAPE, np.float32, IDENTITY) as writer:
        assert writer.rows == 700
        writer.finish()
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read_rows(0, 700)[..., 0], probabilities)
    assert not (path / "half").exists() and sorted(os.listdir(tmp_path)) == [".tiledseg-finished.jsonl", "a.zarr"]
