"""Images at an address: read as those of a folder, and refused by the address as the user wrote it."""

import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tests.commands.test_main import exit_code
from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.pictures import ImagePart, read_image
from tiledseg_utils.data.pictures.remote import absolute, address_of
from tiledseg_utils.data.pixel_size import read_pixel_size
from tiledseg_utils.data.streaming import hash_part, open_source

from . import slide_files
from .slide_files import LEVELS, MPP


@pytest.fixture
def address(tmp_path):
    """Of an OME-Zarr in a store of fsspec that needs no network."""
    path, store = slide_files.write(tmp_path / "new.zarr"), fsspec.filesystem("memory")
    store.put(str(path), "/slides/new.zarr", recursive=True)
    yield "memory://slides/new.zarr"
    store.rm("/slides", recursive=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a.zarr", "s3://bucket/a.zarr"),
        ("https://host:8080/b/a.zarr", "https://host:8080/b/a.zarr"),
        ("images/a.tif", None),
        ("/images/a.tif", None),
        ("C:/images/a.tif", None),
        ("C:a.tif", None),
    ],
)
def test_addresses_are_told_from_paths(given, expected):
    assert address_of(Path(given)) == expected
    assert absolute(Path(given)) == (Path(given) if expected else Path(given).absolute())


def test_a_folder_that_is_named_like_an_address_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("new:").mkdir()
    slide_files.write_zarr(Path("new:/a.zarr"))
    assert address_of(Path("new:/a.zarr")) is None
    np.testing.assert_array_equal(read_image(Path("new:/a.zarr")), LEVELS[0])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels_at_an_address_are_those_of_the_folder(address, level):
    part = ImagePart(address, level)
    np.testing.assert_array_equal(read_image(part), LEVELS[level])
    with open_source(part) as source:
        np.testing.assert_array_equal(source.read_rows(30, 50), LEVELS[level][30:50])
        assert source.name == address
    assert read_pixel_size(part) == pytest.approx(MPP * 2**level)


def test_another_image_at_the_address_is_told_from_it(address, tmp_path):
    before = hash_part(ImagePart(address))
    assert hash_part(ImagePart(address)) == before
    path = tmp_path / "other.zarr"
    slide_files.write_zarr(path, levels=LEVELS[1:])
    store = fsspec.filesystem("memory")
    store.rm("/slides/new.zarr", recursive=True)
    store.put(str(path), "/slides/new.zarr", recursive=True)
    assert hash_part(ImagePart(address)) != before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("memory://slides/none.zarr", "memory://slides/none.zarr: is no Zarr that can be opened"),
        ("memory://slides/a.svs", "other files than OME-Zarr are not read from there, copy them first"),
        ("nothing://a/b.zarr", r"nothing://a/b.zarr: cannot be opened \(Protocol not known: nothing\)"),
        ("s3://bucket/a.zarr", r"s3://bucket/a.zarr: needs a package that is missing .*pip install"),
    ],
)
def test_addresses_that_cannot_be_read_are_told(wrong, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # As if it were not installed.
    with pytest.raises(UserError, match=words):
        read_image(wrong)


def test_an_address_is_predicted_like_a_file(address, tmp_path):
    model = tmp_path / "model.keras"
    models.unet(base_filters=4, levels=2, seed=1).save(model)
    call = ("--out", tmp_path / "out", "--format", "ome.zarr", "--ome-zarr", "0.5", "--probability", "--level", 1)
    assert exit_code("predict", model, address, *call) == 0
    found = tmp_path / "out" / "new.ome.zarr"
    assert exit_code("predict", model, tmp_path / "new.zarr", *call[:1], tmp_path / "again", *call[2:]) == 0
    again = tmp_path / "again" / "new.ome.zarr"
    with open_source(found) as one, open_source(again) as other:
        np.testing.assert_array_equal(one.read_rows(0, 192), other.read_rows(0, 192))
    assert (found / "zarr.json").is_file() and read_pixel_size(found) == pytest.approx(2 * MPP)
