"""The command `measure`: label images of other programs become tables and files."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile

from tests.commands.test_main import exit_code
from tiledseg_utils.data.pictures import read_image, write_image
from tiledseg_utils.scoring.measure import measure


def labelled(number):
    labels = np.zeros((80, 96), np.uint16)
    for square in range(number + 2):
        labels[4 + 12 * square : 12 + 12 * square, 10:30] = 7 + square
    return labels


@pytest.fixture
def folder(tmp_path):
    """Labels as Cellpose names them, and their images."""
    rng = np.random.default_rng(1)
    for number in range(3):
        write_image(tmp_path / "labels" / f"{number}_mask.png", labelled(number))
        write_image(tmp_path / "images" / f"{number}.png", rng.integers(0, 256, (80, 96, 3), np.uint8))
    return tmp_path


def test_labels_of_another_program_become_tables_and_files(folder, capsys):
    out = folder / "out"
    call = ("measure", folder / "labels", "--out", out, "--table", folder / "all.csv", "--pictures", folder / "images")
    call += ("--geojson", "--rois", "--overlay", "--pixel-size", 0.5)
    assert exit_code(*call) == 0
    nuclei = pd.read_csv(folder / "all.csv")
    assert nuclei.groupby("file").size().to_dict() == {f"{number}_mask.png": number + 2 for number in range(3)}
    own = nuclei[nuclei["file"] == "1_mask.png"].drop(columns="file").reset_index(drop=True)
    expected = measure(labelled(1), read_image(folder / "images" / "1.png"), pixel_size=0.5)
    pd.testing.assert_frame_equal(own, expected, check_dtype=False)
    assert own["label"].tolist() == [7, 8, 9] and (own["area_um2"] == 40).all()
    for number in range(3):
        features = json.loads((out / f"{number}_mask.geojson").read_text())["features"]
        assert len(features) == len(roifile.roiread(out / f"{number}_mask_rois.zip")) == number + 2
        assert read_image(out / f"{number}_mask_overlay.png").shape == (80, 96, 3)
    written = {path: path.stat().st_mtime_ns for path in out.iterdir() if not path.name.startswith(".")}
    assert exit_code(*call) == 0  # It is done already.
    assert written == {path: path.stat().st_mtime_ns for path in written}
    write_image(folder / "labels" / "0_mask.png", labelled(3))
    capsys.readouterr()
    assert exit_code(*call) == 1  # Other labels: what was made of the old ones is not lost.
    assert "0_mask.csv: exists already" in capsys.readouterr().err
    assert exit_code(*call, "--overwrite") == 0
    assert len(pd.read_csv(folder / "all.csv")) == 5 + 3 + 4


def test_the_pixel_size_comes_with_labels_or_image(folder):
    write_image(folder / "small" / "a.png", labelled(0))
    pixels = np.zeros((80, 96, 3), np.uint8)
    (folder / "scans").mkdir()
    tifffile.imwrite(folder / "scans" / "a.tif", pixels, resolution=(40000, 40000), resolutionunit="CENTIMETER")
    call = ("measure", folder / "small", "--out", folder / "out", "--table", folder / "t.csv", "--micrometres")
    assert exit_code(*call) == 1
    assert exit_code(*call, "--pictures", folder / "scans") == 0
    table = pd.read_csv(folder / "t.csv")
    np.testing.assert_allclose(table["area_um2"], table["area"] / 16)


def test_a_mask_is_told_from_labels(folder, capsys):
    write_image(folder / "binary" / "a.png", np.uint8(255) * (labelled(1) > 0))
    call = ("measure", folder / "binary", "--out", folder / "out", "--table", folder / "t.csv")
    assert exit_code(*call) == 1
    said = capsys.readouterr().err
    assert "a.png: is a mask: its 3 pieces have the same value" in said and "--components" in said
    assert exit_code(*call, "--components") == 0
    assert pd.read_csv(folder / "t.csv")["area"].tolist() == [160, 160, 160]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--table: is not given"),
        (["--table", "t.csv", "--overlay"], "--overlay: shows nuclei in their images"),
        (["--table", "t.csv", "--pictures", "{0}/labels/other"], "other"),
        (["--table", "t.csv", "--pictures", "{0}/smaller"], "but its image {0}/smaller/0.png is 40 x 40"),
        (["--table", "t.csv", "--pictures", "{0}/nothing"], "has no image of its name"),
        (["--table", "t.csv", "--pictures", "{0}/doubled"], "0.jpg and 0.png in doubled differ only in their endings"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, capsys, options, words):
    write_image(folder / "smaller" / "0.png", np.zeros((40, 40, 3), np.uint8))
    (folder / "nothing").mkdir()
    write_image(folder / "doubled" / "0.png", np.zeros((80, 96, 3), np.uint8))
    shutil.copy(folder / "doubled" / "0.png", folder / "doubled" / "0.jpg")
    options = [folder / "t.csv" if option == "t.csv" else option.format(folder) for option in options]
    assert exit_code("measure", folder / "labels" / "0_mask.png", "--out", folder / "out", *options) == 1
    assert words.format(folder) in capsys.readouterr().err
    assert not (folder / "t.csv").exists()
