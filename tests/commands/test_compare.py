"""The command `compare`: its numbers, and the runs that it refuses."""

import re
import subprocess
import sys

import pytest

from tests.commands.test_main import exit_code
from tiledseg_utils.base.files import read_json, write_json
from tiledseg_utils.course import run_comparison
from tiledseg_utils.scoring.statistics import paired_difference

DICE = {"a": 0.5, "b": 0.6, "c": 0.9}


def make_run(folder, dice=None, epochs=3, seed=1, image="1", **more):
    """A finished run, as far as `compare` reads it."""
    dice = dice or DICE
    scores = {"mean": sum(dice.values()) / len(dice), "median": 0.5, "pooled": 0.5, "per_image": dice}
    metrics = {"preset": "quick", "seed": seed, "data": {"sha256": image * 64}, "environment": {"jax": "0.10"}}
    write_json(folder / "metrics.json", metrics | {"tiled": {"dice": scores}, "non_tiled": {"dice": scores}})
    parameters = {"run_dir": str(folder), "training": {"epochs": epochs, "patience": 0}, "threshold": 0.5, **more}
    write_json(folder / "request.json", {"preset": "quick", "parameters": parameters})
    files = {f"images/{stem}.png": f"{image}{stem}" for stem in dice} | {f"masks/{stem}.tif": stem for stem in dice}
    write_json(folder / "results" / "01_data.json", {"files": files, "split": {"test": list(dice)}})
    row = {"loss": 0.4, "dice_coefficient": 0.6, "val_loss": 0.5, "val_dice_coefficient": 0.5}
    history = [{"epoch": epoch + 1, **row} for epoch in range(epochs)]
    write_json(folder / "results" / "03_training.json", {"history": history})
    return folder


@pytest.fixture
def runs(tmp_path):
    better = {stem: value + 0.01 * number for number, (stem, value) in enumerate(DICE.items(), start=1)}
    return [make_run(tmp_path / "first"), make_run(tmp_path / "second", better, epochs=5, scales=[1, 2])]


def test_the_page_has_paired_differences_and_what_differs(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert exit_code("compare", *runs, "--out", out) == 0
    assert f"the comparison is {out / 'index.html'}" in capsys.readouterr().out
    page = (out / "index.html").read_text(encoding="utf-8")
    scores = [read_json(run / "metrics.json")["tiled"]["dice"]["per_image"] for run in reversed(runs)]
    low, high = paired_difference(*scores, seed=1)["ci95"]
    assert f"second scores 0.020 more than first (95 % interval {low:.3f} to {high:.3f})." in page
    assert '<td class="number">+0.020</td>' in page and f">{low:+.3f} to {high:+.3f}<" in page
    differing = page[page.index("<caption>Parameters that differ") :]
    rows = re.findall(r'<th scope="row">(.*?)</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>', differing)
    assert rows == [("training.epochs", "3", "5"), ("scales", "not given", "[1, 2]")]
    assert (out / re.search(r'src="([^"]+)"', page)[1]).stat().st_size > 1000
    assert "http" not in page and str(tmp_path) not in page


def test_only_images_with_the_same_pixels_and_mask_are_paired(tmp_path):
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", {"b": 0.5, "c": 0.5, "d": 0.1})
    record = read_json(second / "results" / "01_data.json")
    record["files"]["masks/c.tif"] = "drawn anew"
    write_json(second / "results" / "01_data.json", record)
    found = run_comparison.differences(run_comparison.read_runs([first, second]))
    assert [row["way"] for row in found] == ["tiled", "non_tiled"]
    assert found[0]["images"] == 1 and found[0]["dice_mean"] == pytest.approx(-0.1)
    assert found[0]["ci95"] == [None, None] and found[0]["first_mean"] == pytest.approx(0.6)
    assert "second scores 0.100 less than first (one image" in run_comparison.verdict(found, "first")


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [make_run(tmp_path / "x" / "run"), make_run(tmp_path / "y" / "run")]
    assert [run.name for run in run_comparison.read_runs(folders)] == [str(folder) for folder in folders]


def unfinished(folder):
    (make_run(folder) / "metrics.json").unlink()


def other_images(folder):
    make_run(folder, image="2")


def damaged(folder):
    make_run(folder)
    write_json(folder / "metrics.json", {"preset": "", "seed": 0, "data": {}, "tiled": {}, "non_tiled": {}})


def without_training(folder):
    (make_run(folder) / "results" / "03_training.json").unlink()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "is not a folder. Give run folders, such as runs/quick"),
        (lambda folder: folder.mkdir(), "is not the folder of a run. Give run folders that the command report made"),
        (unfinished, "holds an unfinished run. Let it run to its end"),
        (other_images, "has no test image in common with"),
        (damaged, r"metrics.json: is damaged (tiled.dice.mean is missing)"),
        (without_training, "03_training.json: cannot be opened"),
    ],
)
def test_folders_that_cannot_be_compared_are_refused(tmp_path, capsys, make, words):
    first, second = make_run(tmp_path / "first"), tmp_path / "second"
    make(second)
    assert exit_code("compare", first, second, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert str(second) in error and words in error and not (tmp_path / "out").exists()


def test_a_run_is_not_compared_with_itself(runs, tmp_path, capsys):
    assert exit_code("compare", runs[0], runs[0] / ".." / "first", "--out", tmp_path / "out") == 1
    assert "is given twice, also as" in capsys.readouterr().err
    assert exit_code("compare", runs[0], "--out", tmp_path / "out") == 1
    assert "is the only run. Give two runs or more" in capsys.readouterr().err


def test_pages_that_are_there_stay_and_runs_are_not_written_into(runs, tmp_path, capsys):
    assert exit_code("compare", *runs, "--out", runs[0] / "report") == 1
    assert "which this command reads" in capsys.readouterr().err
    (tmp_path / "index.html").write_text("mine")
    assert exit_code("compare", *runs, "--out", tmp_path) == 1
    assert "exists already" in capsys.readouterr().err and (tmp_path / "index.html").read_text() == "mine"
    assert exit_code("compare", *runs, "--out", tmp_path, "--overwrite") == 0


def test_names_of_runs_are_text(tmp_path):
    folders = [make_run(tmp_path / "<i>x"), make_run(tmp_path / "$a_b$", epochs=4)]
    page = run_comparison.write_comparison(folders, tmp_path / "out").read_text(encoding="utf-8")
    assert "<i>" not in page and "&lt;i&gt;x" in page and '<th scope="col" class="number">$a_b$</th>' in page


def test_comparing_needs_no_keras():
    code = "import sys; from tiledseg_utils.course import run_comparison; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
