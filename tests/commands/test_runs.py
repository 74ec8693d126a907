"""The command `runs`: what a folder of runs holds, whatever state they are in."""

import csv
import json

import pytest

from tests.commands.test_main import exit_code


def make_run(folder, name, dice=None, notebooks=()):
    run = folder / name
    (run / "notebooks").mkdir(parents=True)
    request = {"preset": "quick", "parameters": {"seed": 3, "data_dir": ""}}
    (run / "request.json").write_text(json.dumps(request))
    for notebook in notebooks:
        (run / "notebooks" / f"{notebook}.ipynb").write_text("{}")
    if dice is not None:
        scores = {way: {"dice": {"mean": value}} for way, value in zip(("tiled", "non_tiled"), dice, strict=True)}
        metrics = {**scores, "difference": {"dice_mean": dice[0] - dice[1], "ci95": [0.25, 0.75]}}
        metrics |= {"training": {"steps": 300}, "data": {"images": {"test": 10}}}
        (run / "metrics.json").write_text(json.dumps(metrics))
    return run


def test_finished_and_unfinished_runs_are_listed(tmp_path, capsys):
    make_run(tmp_path, "a", (0.9, 0.4))
    make_run(tmp_path, "b", notebooks=("01_data_and_tiling", "02_augmentation"))
    make_run(tmp_path, "c")
    (make_run(tmp_path, "d") / "request.json").write_text("{half")
    (tmp_path / "no_run").mkdir()
    assert exit_code("runs", tmp_path, "--out", tmp_path / "table.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "0.9000" in lines[1] and "0.5000" in lines[1] and "0.2500 to 0.7500" in lines[1]
    assert lines[1].endswith("finished") and lines[2].endswith("not finished, last notebook 02_augmentation")
    assert lines[3].endswith("not begun") and lines[4].startswith("d    ?")
    with (tmp_path / "table.csv").open() as file:
        assert [row["run"] for row in csv.DictReader(file)] == list("abcd")
    assert exit_code("runs", tmp_path, "--out", tmp_path / "table.csv") == 1


@pytest.mark.parametrize(("folder", "words"), [("missing", "is not a folder"), (".", "holds no run")])
def test_a_folder_without_runs_is_told(tmp_path, capsys, folder, words):
    assert exit_code("runs", tmp_path / folder) == 1
    assert words in capsys.readouterr().err
