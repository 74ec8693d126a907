"""The command `score`: what it prints and writes, and what it refuses to write."""

import pytest

from tests.commands.test_main import exit_code
from tests.scoring.test_folders import SHIFTED, THREE, data_folder, write
from tiledseg_utils.base.files import read_csv


@pytest.fixture
def folders(tmp_path):
    """Two predictions and their data folder with kinds."""
    reference = data_folder(tmp_path / "data", {"a": THREE, "b": THREE}, kinds={"a": "tissue", "b": "smear"})
    return write(tmp_path / "new", {"a_label.tif": SHIFTED, "b_label.tif": THREE}), reference


def test_tables_and_summary(folders, tmp_path, capsys):
    out = tmp_path / "tables" / "scores.csv"
    assert exit_code("score", *folders, "--out", out, "--thresholds", 0.75, 0.5, 0.5, "--rules", "every") == 0
    printed = capsys.readouterr().out
    assert "f1 at IoU 0.5 " in printed and "0.75  0.6667" in printed and "smear" in printed and "tissue" in printed
    rows = {row["stem"]: row for row in read_csv(out)}
    assert [rows[stem]["kind"] for stem in "ab"] == ["tissue", "smear"]
    assert float(rows["a"]["average_precision_0.5"]) == 0.5 and float(rows["b"]["f1_0.75"]) == 1
    summary = read_csv(out.with_name("scores_summary.csv"))
    (f1,) = (row for row in summary if (row["kind"], row["score"], row["threshold"]) == ("all", "f1", "0.5"))
    assert float(f1["mean"]) == pytest.approx(5 / 6) and float(f1["pooled"]) == pytest.approx(10 / 12)
    (alone,) = (row for row in summary if (row["kind"], row["score"]) == ("smear", "dice"))
    assert (alone["images"], alone["mean"], alone["mean_low"]) == ("1", "1.0", "")


def test_labels_against_themselves_score_one(folders, capsys):
    assert exit_code("score", folders[1], folders[1]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if " 0." in line or " 1." in line]
    assert lines and not any(word.startswith("0.") and len(word) == 6 for line in lines for word in line)


def test_masks_are_scored_by_pixels(folders, tmp_path, capsys):
    masks = write(tmp_path / "masks", {"a.png": THREE > 0, "b.png": THREE > 0})
    assert exit_code("score", masks, masks) == 0
    printed = capsys.readouterr().out
    assert "both folders hold masks" in printed and "f1" not in printed
    assert exit_code("score", masks, folders[1]) == 1
    assert "holds masks, but" in capsys.readouterr().err


def test_tables_that_are_there_stay(folders, tmp_path, capsys):
    out, summary = tmp_path / "scores.csv", tmp_path / "scores_summary.csv"
    for path in (out, summary):
        path.write_text("mine")
        assert exit_code("score", *folders, "--out", out) == 1
        assert f"{path}: exists already" in capsys.readouterr().err and path.read_text() == "mine"
        path.unlink()
    out.write_text("mine")
    assert exit_code("score", *folders, "--out", out, "--overwrite") == 0
    assert len(read_csv(out)) == 2 and summary.exists()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("scores.txt", "is not the name of a table"),
        ("new/scores.csv", "which this command reads"),
        ("data/kinds.csv", "would be lost"),
    ],
)
def test_outputs_that_would_do_harm_are_refused(folders, tmp_path, capsys, out, words):
    before = (tmp_path / "data" / "kinds.csv").read_bytes()
    assert exit_code("score", *folders, "--out", tmp_path / out, "--overwrite") == 1
    assert words in capsys.readouterr().err
    assert (tmp_path / "data" / "kinds.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--thresholds", 0.3], "0.3 is out of range"),
        (["--thresholds", "half"], "'half' is not a number from 0.5 to 1"),
        (["--rules", "coco"], "invalid choice: 'coco'"),
        (["--objects", "all"], "invalid choice: 'all'"),
        (["--kinds", "nowhere.csv"], "nowhere.csv: cannot be opened"),
        (["--split", "test"], "no split.csv with images for test"),
    ],
)
def test_bad_options(folders, capsys, options, words):
    assert exit_code("score", *folders, *options) in (1, 2)
    assert words in capsys.readouterr().err
