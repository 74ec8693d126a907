"""Folds and seeds: which runs a set has, how it goes on, and what it says of all of them together."""

import json

import cv2
import numpy as np
import pytest

from tests.commands.test_main import exit_code
from tiledseg_utils.base.files import UserError, read_csv, read_json, write_csv, write_json
from tiledseg_utils.course import run_sets
from tiledseg_utils.course.report import ON_REQUEST, changed_preset

TESTED = {1: ["a", "b"], 2: ["c"], 0: ["a", "b", "c"]}


@pytest.fixture
def begun(monkeypatch):
    """The runs that were begun, each of which leaves what a set reads; none is really run."""
    runs = []

    def make_report(run, preset, data, overwrite=False, changes=None):
        runs.append(run.name)
        fold, repeat = (changes or {}).get("fold", 0), (changes or {}).get("repeat", 0)
        tiled = {stem: 0.8 + 0.02 * repeat + 0.1 * (stem == "c") for stem in TESTED[fold]}
        ways = {"tiled": tiled, "non_tiled": dict.fromkeys(tiled, 0.5)}
        metrics = {
            way: {"dice": {"per_image": each, "mean": sum(each.values()) / len(each)}} for way, each in ways.items()
        }
        metrics |= {"seed": 1 + repeat, "difference": {"dice_mean": 0.3, "ci95": [0.2, 0.4]}}
        metrics |= {"data": {"sha256": "same", "images": {"train": 6, "valid": 1, "test": len(tiled)}}}
        metrics |= {"training": {"best_epoch": 3, "seconds": 7.4, "steps": 60}}
        for stem in tiled:
            (run / "results" / "05_masks" / "tiled").mkdir(parents=True, exist_ok=True)
            mask = np.full((4, 4), 100 * fold + repeat, np.uint8)
            cv2.imwrite(str(run / "results" / "05_masks" / "tiled" / f"{stem}.png"), mask)
        counts = {"tp": 90, "fp": 10, "fn": 10, "tn": 1000}
        write_csv(run / "results" / "04_scores.csv", [{"stem": stem, **counts} for stem in tiled])
        parameters = changed_preset(preset, changes or {})
        write_json(run / "request.json", {"preset": preset, "parameters": parameters})
        write_json(run / "metrics.json", metrics)

    monkeypatch.setattr(run_sets, "make_report", make_report)
    return runs


def test_each_fold_is_a_run_and_each_image_has_its_mask_from_the_run_that_tested_it(tmp_path, begun, capsys):
    page = run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    assert begun == ["fold_1", "fold_2"]
    summary = read_json(tmp_path / "set" / "summary.json")
    assert summary["tiled"]["mean"] == pytest.approx((0.8 + 0.8 + 0.9) / 3)  # Over images, not over folds.
    assert summary["tiled"]["run_mean"] == pytest.approx(0.85)
    assert summary["tiled"]["run_std"] == pytest.approx(0.1 / 2**0.5)
    assert summary["pooled"] == pytest.approx(0.9) and summary["tiled"]["mean_unseen"] is None
    assert [row["run"] for row in read_csv(tmp_path / "set" / "scores.csv")] == ["fold_1", "fold_1", "fold_2"]
    masks = {path.stem: int(cv2.imread(str(path), 0)[0, 0]) for path in (tmp_path / "set" / "masks").iterdir()}
    assert masks == {"a": 100, "b": 100, "c": 200}
    text = page.read_text(encoding="utf-8")
    assert "In 2 folds, tiled prediction scores 0.833 mean Dice on 3 images, none of which its network had seen" in text
    assert 'href="fold_2/report/index.html"' in text and "0.071" in text
    request = read_json(tmp_path / "set" / "fold_2" / "request.json")["parameters"]
    assert (request["folds"], request["fold"]) == (2, 2) and not request.keys() & set(ON_REQUEST.values())
    assert exit_code("runs", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert "set " in lines[0] and "0.8333" in lines[0] and lines[0].endswith("2 of 2 runs finished")
    assert [line.split()[0] for line in lines[1:]] == ["set/fold_1", "set/fold_2"]


def test_the_page_shows_figures_of_each_run_that_has_them(tmp_path, begun):
    page = run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    assert "<figure" not in page.read_text(encoding="utf-8")
    run = tmp_path / "set" / "fold_2"
    (run / "report" / "figures").mkdir(parents=True)
    (run / "report" / "figures" / "04_views.webp").write_bytes(b"a picture")
    write_json(run / "figures" / "04_views.json", {"caption": "Views & doubts."})
    text = run_sets.make_set(tmp_path / "set", "smoke", folds=2).read_text(encoding="utf-8")
    assert text.count("<figure") == 1 and "<h2>Where turned views disagree</h2>" in text
    assert 'href="fold_2/report/figures/04_views.webp"' in text and "fold_2: Views &amp; doubts." in text


def test_seeds_train_the_same_split_again(tmp_path, begun):
    run_sets.make_set(tmp_path / "set", "smoke", seeds=3)
    assert begun == ["seed_1", "seed_2", "seed_3"]
    summary = read_json(tmp_path / "set" / "summary.json")
    assert summary["images"] == 3 and summary["runs"] == 3
    assert summary["tiled"]["run_std"] == pytest.approx(0.02)
    assert summary["tiled"]["mean"] == pytest.approx(0.02 + 2.5 / 3)
    assert sorted(path.name for path in (tmp_path / "set" / "masks").iterdir()) == begun
    assert [read_json(tmp_path / "set" / name / "request.json")["parameters"]["repeat"] for name in begun] == [0, 1, 2]
    assert [member.name for member in run_sets.members_of(2, 2)][1:3] == ["fold_1_seed_2", "fold_2_seed_1"]


def test_an_interrupted_set_goes_on_and_a_finished_run_is_not_repeated(tmp_path, begun):
    run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    (tmp_path / "set" / "fold_2" / "metrics.json").unlink()
    run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    assert begun == ["fold_1", "fold_2", "fold_2"]
    with pytest.raises(UserError, match="holds runs with other settings"):
        run_sets.make_set(tmp_path / "set", "smoke", folds=2, seeds=2)
    run_sets.make_set(tmp_path / "set", "smoke", folds=2, seeds=2, overwrite=True)
    assert not (tmp_path / "set" / "fold_1").exists() and (tmp_path / "set" / "fold_1_seed_1").exists()


@pytest.mark.parametrize("inside", ["thesis.txt", "fold_1/thesis.txt"])
def test_what_is_not_of_a_set_is_never_deleted(tmp_path, begun, inside):
    run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    (tmp_path / "set" / inside).write_text("three years of work")
    with pytest.raises(UserError, match="would be deleted with it"):
        run_sets.make_set(tmp_path / "set", "smoke", folds=2, overwrite=True)
    assert (tmp_path / "set" / inside).exists() and (tmp_path / "set" / "fold_2" / "metrics.json").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("three years of work")
    with pytest.raises(UserError, match="is a folder with other content"):
        run_sets.make_set(tmp_path / "other", "smoke", folds=2, overwrite=True)


def test_runs_of_different_data_or_overlapping_folds_are_refused(tmp_path, begun):
    run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    path = tmp_path / "set" / "fold_2" / "metrics.json"
    metrics = read_json(path)
    path.write_text(json.dumps(metrics | {"data": metrics["data"] | {"sha256": "other"}}))
    with pytest.raises(UserError, match="is of other data than fold_1"):
        run_sets.make_set(tmp_path / "set", "smoke", folds=2)
    metrics["tiled"]["dice"]["per_image"] = {"b": 0.9}
    path.write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="tests b, and so does fold 1"):
        run_sets.make_set(tmp_path / "set", "smoke", folds=2)


def test_images_that_were_looked_at_are_marked_and_the_mean_without_them_stands_beside():
    looked = next(stem for stem, row in run_sets.published_images().items() if row["looked_at"] == "yes")
    counts = {"tp": 1, "fp": 0, "fn": 0, "tn": 0, "dice_non_tiled": 0.5, "run": "fold_1"}
    rows = [{"stem": stem, "dice_tiled": dice, **counts} for stem, dice in ((looked, 0.9), ("new", 0.7))]
    summary = run_sets.summarize(rows, [{way: {"dice": {"mean": 0.8}} for way in run_sets.WAYS}])
    assert summary["tiled"]["mean_unseen"] == 0.7 and summary["tiled"]["run_std"] is None
    assert run_sets.overview_rows(summary)[0]["mean without images that were looked at"] == "0.700"
    assert [(row["image"], row["looked at"]) for row in run_sets.image_rows(rows)] == [("new", ""), (looked, "yes")]
