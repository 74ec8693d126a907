"""Parts of slides and clusters on the command line of `predict` and `instances`."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from tests.commands.test_main import exit_code
from tests.data import slide_files
from tests.data.slide_files import LEVELS, MPP
from tiledseg_utils import models
from tiledseg_utils.data.pictures import ImagePart, read_image
from tiledseg_utils.data.pixel_size import read_pixel_size
from tiledseg_utils.data.streaming import open_source
from tiledseg_utils.prediction.inference import load_model, predict_tiled


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    models.unet(base_filters=4, levels=2, seed=1).save(path)
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return slide_files.write(tmp_path_factory.mktemp("slides") / "aperio.svs")


def test_a_level_is_predicted_and_its_pixels_keep_their_size(model_path, slide, tmp_path):
    expected = predict_tiled(load_model(model_path), LEVELS[1])
    options = ("--level", 1, "--probability", "--out", tmp_path)
    assert exit_code("predict", model_path, slide, *options, "--format", "tif") == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "aperio.tif"), expected)
    assert read_pixel_size(tmp_path / "aperio.tif") == pytest.approx(2 * MPP)
    assert exit_code("predict", model_path, slide, *options, "--format", "ome.zarr") == 0
    with open_source(tmp_path / "aperio.ome.zarr") as source:
        np.testing.assert_array_equal(source.read_rows(0, source.shape[0])[..., 0], expected)
    assert read_pixel_size(ImagePart(tmp_path / "aperio.ome.zarr", level=1)) == pytest.approx(4 * MPP)


@pytest.mark.parametrize("image_format", ["png", "tif"])
def test_an_image_is_predicted_at_the_size_of_pixel_that_is_asked_for(model_path, slide, tmp_path, image_format):
    call = ("predict", model_path, slide, "--mpp", 4 * MPP, "--out", tmp_path, "--format", image_format)
    assert exit_code(*call) == 0
    mask = read_image(tmp_path / f"aperio.{image_format}")[..., 0]
    np.testing.assert_array_equal(mask > 0, predict_tiled(load_model(model_path), LEVELS[2]) >= 0.5)


def test_another_part_of_the_same_file_is_not_taken_for_done(model_path, slide, tmp_path, capsys):
    call = ("predict", model_path, slide, "--out", tmp_path)
    assert exit_code(*call, "--level", 2) == 0
    assert exit_code(*call, "--level", 2) == 0 and "already done" in capsys.readouterr().out
    assert exit_code(*call, "--level", 1) == 1
    assert "exists already, and this command has not made it" in capsys.readouterr().err


def test_outlines_lie_in_pixels_of_the_full_image(model_path, slide, tmp_path):
    threshold = float(np.quantile(predict_tiled(load_model(model_path), LEVELS[1]), 0.9))
    call = ("instances", slide, "--model", model_path, "--level", 1, "--threshold", threshold, "--min-area", 1)
    assert (
        exit_code(*call, "--out", tmp_path, "--table", tmp_path / "t.csv", "--geojson", "--method", "components") == 0
    )
    table = pd.read_csv(tmp_path / "t.csv")
    features = json.loads((tmp_path / "aperio.geojson").read_text())["features"]
    assert len(features) == len(table) > 0
    for feature, (_, row) in zip(features, table.iterrows(), strict=True):
        rings = feature["geometry"]["coordinates"]
        rings = rings if feature["geometry"]["type"] == "Polygon" else [ring for part in rings for ring in part]
        corners = np.concatenate([np.array(ring) for ring in rings])
        np.testing.assert_array_equal(corners.min(axis=0), 2 * row[["min_column", "min_row"]].to_numpy(float))
        np.testing.assert_array_equal(corners.max(axis=0), 2 * row[["max_column", "max_row"]].to_numpy(float))
    np.testing.assert_allclose(table["area_um2"], table["area"] * (2 * MPP) ** 2)


def test_labels_in_zarr_are_exported_and_counted_again(model_path, tmp_path):
    image = slide_files.write(tmp_path / "new.zarr")
    threshold = float(np.quantile(predict_tiled(load_model(model_path), LEVELS[0]), 0.9))
    rule = ("--threshold", threshold, "--min-area", 1, "--method", "components")
    call = ("instances", image, "--model", model_path, "--out", tmp_path / "out", "--table", tmp_path / "t.csv")
    assert exit_code(*call, *rule, "--format", "ome.zarr", "--geojson", "--overlay") == 0
    table = pd.read_csv(tmp_path / "t.csv")
    labels = read_image(ImagePart(tmp_path / "out" / "new.ome.zarr"))
    assert labels.any() and len(table) > 0
    call = ("predict", model_path, image, "--out", tmp_path / "maps", "--format", "ome.zarr", "--probability")
    assert exit_code(*call) == 0
    call = ("instances", tmp_path / "maps", "--out", tmp_path / "again", "--table", tmp_path / "again.csv")
    assert exit_code(*call, *rule) == 0
    assert len(pd.read_csv(tmp_path / "again.csv")) == len(table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--level", "3"], "aperio.svs: has no level 3. Choose one of its levels (0: 384 x 576"),
        (["--series", "9"], "aperio.svs: has no series 9"),
        (["--mpp", "1", "--level", "1"], "mpp: is given together with level 1"),
        (["--cluster", "local:2"], "--format png: holds a mask that is predicted in memory"),
        (["--format", "tif", "--cluster", "local:x"], "names no number of workers"),
    ],
)
def test_parts_and_clusters_that_cannot_be_are_told(model_path, slide, tmp_path, capsys, options, words):
    assert exit_code("predict", model_path, slide, "--out", tmp_path / "out", *options) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
