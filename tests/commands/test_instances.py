"""The command `instances`: labels, tables and files for other programs, of a batch and after bad input."""

import json

import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile

from tests.commands.test_main import exit_code
from tiledseg_utils import models
from tiledseg_utils.data.pictures import read_image, write_image

NUMBER, SIDE = 5, 96


def probability_map(number):
    """(H, W) float32 with `number` + 1 squares of 10 x 10 px, one of which has a hole, and one more over the border."""
    maps = np.zeros((SIDE, SIDE), np.float32)
    for square in range(number + 1):
        top, left = 4 + 15 * (square // 5), 4 + 15 * (square % 5)
        maps[top : top + 10, left : left + 10] = 0.8
    maps[8, 8] = 0
    maps[88:, 80:92] = 0.7
    return maps


@pytest.fixture
def batch(tmp_path):
    """Maps of five images, of 0.25 µm per pixel as TIFF tells it."""
    paths = [tmp_path / f"{number}.tif" for number in range(NUMBER)]
    for number, path in enumerate(paths):
        tifffile.imwrite(
            path, probability_map(number), resolution=(40000, 40000), resolutionunit="CENTIMETER", metadata=None
        )
    return paths


def test_a_batch_becomes_labels_tables_and_files_for_other_programs(batch, tmp_path, capsys):
    out, table, groups = tmp_path / "out", tmp_path / "tables" / "nuclei.csv", tmp_path / "kinds.csv"
    groups.write_text(
        "stem,kind\n" + "".join(f"{path.stem},{'even' if n % 2 == 0 else 'odd'}\n" for n, path in enumerate(batch))
    )
    call = ("instances", *batch, "--out", out, "--table", table, "--groups", groups, "--geojson", "--rois")
    assert exit_code(*call) == 0
    nuclei = pd.read_csv(table, dtype={"file": str})
    assert nuclei.groupby("file").size().to_dict() == {path.name: n + 2 for n, path in enumerate(batch)}
    assert nuclei["area"].tolist().count(96) == 5 and nuclei["touches_border"].sum() == 5
    np.testing.assert_allclose(nuclei["area_um2"], nuclei["area"] / 16)
    assert nuclei["mean_probability"].between(0.69, 0.81).all()
    for number, path in enumerate(batch):
        with tifffile.TiffFile(out / path.name) as file:
            page = file.pages.first
            assert not file.is_bigtiff and not page.is_tiled and page.dtype == np.uint16
            assert file.imagej_metadata["unit"] == "micron"
            assert page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] == 4
            assert page.asarray().max() == number + 2
        content = json.loads((out / f"{path.stem}.geojson").read_text())
        assert len(content["features"]) == len(roifile.roiread(out / f"{path.stem}_rois.zip")) == number + 2
    images = pd.read_csv(tmp_path / "tables" / "nuclei_images.csv")
    assert images["nuclei"].tolist() == [2, 3, 4, 5, 6] and images["group"].tolist() == ["even", "odd"] * 2 + ["even"]
    summary = pd.read_csv(tmp_path / "tables" / "nuclei_groups.csv").set_index(["group", "column"])
    row = summary.loc["even", "nuclei"]
    assert (row["images"], row["mean"]) == (3, 4.0) and 2 <= row["low"] < 4 < row["high"] <= 6
    assert summary.loc[("all", "nuclei"), "mean"] == 4 and summary.loc[("odd", "nuclei"), "images"] == 2
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if not path.name.startswith(".")}
    contents = {path: path.read_bytes() for path in table.parent.glob("*.csv")}
    assert exit_code(*call) == 0  # It is done already.
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert contents == {path: path.read_bytes() for path in contents}
    capsys.readouterr()
    table.write_text("mine")
    assert exit_code(*call) == 1
    assert "nuclei.csv: exists already, and this command has not made it" in capsys.readouterr().err
    assert table.read_text() == "mine"


def test_a_bad_image_leaves_a_right_table_and_mended_it_comes_in(batch, tmp_path, capsys):
    good, table = batch[1].read_bytes(), tmp_path / "nuclei.csv"
    batch[1].write_bytes(good[:2000])
    call = ("instances", *batch[:3], "--out", tmp_path / "out", "--table", table)
    assert exit_code(*call) == 1
    assert "1 of 3 images" in capsys.readouterr().err
    assert pd.read_csv(table)["file"].value_counts().to_dict() == {"0.tif": 2, "2.tif": 4}
    batch[1].write_bytes(good)
    assert exit_code(*call) == 0
    assert pd.read_csv(table)["file"].value_counts().to_dict() == {"0.tif": 2, "1.tif": 3, "2.tif": 4}


def test_an_image_with_a_model_is_measured_and_drawn(tmp_path):
    models.build_model("unet", {"base_filters": 4, "levels": 3}).save(tmp_path / "model.keras")
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    write_image(tmp_path / "a.png", image)
    call = ("instances", "--model", tmp_path / "model.keras", tmp_path / "a.png", "--out", tmp_path / "out")
    options = ("--threshold", 0, "--overlay", "--pixel-size", 0.5, "--format", "ome.tif", "--table", tmp_path / "t.csv")
    assert exit_code(*call, *options) == 0  # at this threshold, all is one nucleus
    (row,) = pd.read_csv(tmp_path / "t.csv").to_dict("records")
    assert (row["area"], row["area_um2"], row["solidity"]) == (SIDE**2, SIDE**2 / 4, 1)
    assert row["mean_green"] == pytest.approx(image[..., 1].mean()) and row["std_blue"] == pytest.approx(
        image[..., 2].std()
    )
    assert read_image(tmp_path / "out" / "a_overlay.png").shape == image.shape
    with tifffile.TiffFile(tmp_path / "out" / "a.ome.tif") as file:
        assert 'PhysicalSizeX="0.5"' in file.ome_metadata


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--overlay"], ["--overlay", "map of probabilities", "--model"]),
        (["--groups", "kinds.csv"], ["--groups", "--table"]),
        (["--table", "kinds.csv", "--groups", "kinds.csv"], ["kinds.csv", "would be lost"]),
        (["--table", "t.csv", "--groups", "kinds.csv"], ["kinds.csv: has no line for map"]),
        (["--table", "t.csv", "--groups", "empty.csv"], ["empty.csv: has no rows with the columns stem"]),
        (["--table", "t.csv", "--groups", "twice.csv"], ["twice.csv: 'map' is listed more than once"]),
        (["--table", "t.xlsx"], ["t.xlsx: is not the name of a table", ".csv"]),
        (["--table", "out/map.csv"], ["would be both"]),
        (["--table", "there.csv"], ["there.csv: exists already", "--overwrite"]),
        (["--micrometres", "--table", "t.csv"], ["map.npy: does not say how large its pixels are", "--pixel-size"]),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    np.save("map.npy", probability_map(1))
    (tmp_path / "kinds.csv").write_text("stem,group\nother,a\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "twice.csv").write_text("stem,group\nmap,a\nmap,b\n")
    (tmp_path / "there.csv").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert exit_code("instances", "map.npy", "--out", "out", *options) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_pixel_size_out_of_range_is_wrong_usage(tmp_path, capsys):
    assert exit_code("instances", "a.npy", "--out", tmp_path, "--pixel-size", 0) == 2
    assert "a number from 0.001 to 1000" in capsys.readouterr().err
