"""Several trainings in one run folder: nothing that was learnt is lost, and all can be compared."""

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from tiledseg_utils.base.files import UserError, read_json, write_csv
from tiledseg_utils.course import experiments
from tiledseg_utils.settings.parameters import TrainingSetting
from tiledseg_utils.tiles.tiling import MANIFEST
from tiledseg_utils.training import fit as trainer

SETTING = TrainingSetting(epochs=2, learning_rate=0.01)
FASTER = replace(SETTING, learning_rate=0.02)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / MANIFEST).write_text("tile\n")
    return tmp_path


def pretend(run, experiment="baseline", setting=SETTING, losses=(0.5, 0.4), seed=1):
    """Train without a network: leave the files of a training whose weights are a text."""
    folder = experiments.begin(run, experiment, "unet", {"levels": 3}, {"hflip": 0.5}, setting, seed)
    rows = [
        {"epoch": epoch, "seconds": 1.5, "learning_rate": 0.01, "loss": loss, "val_loss": loss}
        for epoch, loss in enumerate(losses, 1)
    ]
    write_csv(folder / "training" / "history.csv", rows)
    (folder / "model.keras").write_text(f"{setting.learning_rate} {seed}")
    experiments.finish(run, experiment, {"history": rows})
    return folder


def test_the_baseline_is_where_later_notebooks_look_for_it(run):
    assert pretend(run) == run
    assert read_json(run / "results" / "03_training.json")["history"][1]["val_loss"] == 0.4
    assert not (run / "experiments").exists()


def test_another_name_has_a_folder_of_its_own(run):
    pretend(run)
    assert pretend(run, "faster", FASTER) == run / "experiments" / "faster"
    assert (run / "model.keras").read_text() == "0.01 1"
    assert (run / "experiments" / "faster" / "model.keras").read_text() == "0.02 1"
    assert (run / "experiments" / "faster" / "result.json").exists()


def test_the_same_settings_go_on_where_they_were(run):
    pretend(run, "mine")
    pretend(run, "mine")
    assert [path.name for path in (run / "experiments").iterdir()] == ["mine"]


@pytest.mark.parametrize("experiment", ["baseline", "mine"])
def test_other_settings_rename_the_earlier_training(run, capsys, experiment):
    pretend(run, experiment)
    folder = pretend(run, experiment, FASTER)
    assert "is now the experiment " + experiment + "-1" in capsys.readouterr().out
    pretend(run, experiment, replace(FASTER, epochs=3))
    kept = [run / "experiments" / f"{experiment}-{number}" for number in (1, 2)]
    assert [(path / "model.keras").read_text() for path in (*kept, folder)] == ["0.01 1", "0.02 1", "0.02 1"]
    assert all((path / "result.json").exists() and (path / "training" / "history.csv").exists() for path in kept)
    assert len(experiments.table(run)) == 3


@pytest.mark.parametrize("changed", ["seed", "tiles"])
def test_another_seed_or_other_tiles_are_other_settings(run, changed):
    pretend(run, "mine")
    if changed == "tiles":
        (run / "tiles" / MANIFEST).write_text("other tiles\n")
    pretend(run, "mine", seed=2 if changed == "seed" else 1)
    assert (run / "experiments" / "mine-1" / "model.keras").exists()


def test_a_rename_that_was_interrupted_is_completed_under_the_same_name(run):
    pretend(run)
    kept = run / "experiments" / "baseline-1"
    kept.mkdir(parents=True)
    (run / "model.keras").rename(kept / "model.keras")  # and then the power failed
    pretend(run, setting=FASTER)
    assert (kept / "model.keras").read_text() == "0.01 1" and (kept / "training" / "history.csv").exists()
    assert not (run / "experiments" / "baseline-2").exists()


def test_the_baseline_of_a_finished_report_is_not_replaced(run):
    pretend(run)
    (run / "metrics.json").write_text("{}")
    pretend(run)
    with pytest.raises(UserError, match=r"holds a finished report.* Give this training a name of its own"):
        pretend(run, setting=FASTER)
    pretend(run, "faster", FASTER)
    assert (run / "model.keras").read_text() == "0.01 1"


def test_a_training_of_an_earlier_version_is_left_to_the_trainer(run):
    folder = pretend(run)
    (folder / "training" / experiments.SETTINGS).unlink()
    pretend(run, setting=FASTER)
    assert not (run / "experiments").exists()


def test_the_table_says_what_differs_and_which_epoch_was_best(run):
    pretend(run, losses=(0.5, 0.3, 0.4))
    pretend(run, "faster", FASTER, losses=(float("nan"), 0.25))
    pretend(run, "other", replace(FASTER, epochs=3, batch_size=2, patience=3, schedule="cosine"), seed=5)
    rows = {row["experiment"]: row for row in experiments.table(run)}
    assert list(rows) == ["baseline", "faster", "other"]
    assert rows["baseline"]["best epoch"] == 2 and rows["baseline"]["validation loss"] == 0.3
    assert rows["baseline"]["differs in"] == "" and rows["baseline"]["epochs"] == 3
    assert rows["faster"]["differs in"] == "training.learning_rate 0.02"
    assert rows["faster"]["best epoch"] == 2 and rows["faster"]["seconds"] == 3
    assert rows["other"]["differs in"].endswith("and 2 more")


def test_an_empty_run_has_no_experiments(run):
    assert experiments.table(run) == [] and experiments.histories(run) == {}


def test_a_damaged_history_is_told(run):
    folder = pretend(run)
    (folder / "training" / "history.csv").write_text("epoch,val_loss\n1,abc\n")
    with pytest.raises(UserError, match=r"history\.csv: is damaged"):
        experiments.table(run)


def test_changing_the_rate_and_training_again_just_works(tile_set, tmp_path):
    shutil.copytree(tile_set[0], tmp_path / "tiles")
    short = TrainingSetting(epochs=1, steps_per_epoch=2, validation_steps=1, batch_size=2, learning_rate=0.001)
    network = {"base_filters": 2, "levels": 2}
    for setting in (short, replace(short, learning_rate=0.1)):
        folder = experiments.begin(tmp_path, "mine", "unet", network, {}, setting, 1)
        result = trainer.train(folder, "unet", network, {}, setting, 1, tiles=tmp_path / "tiles")
        experiments.finish(tmp_path, "mine", result)
    weights = [
        keras.models.load_model(tmp_path / "experiments" / name / "model.keras", compile=False).get_weights()[0]
        for name in ("mine", "mine-1")
    ]
    assert not np.array_equal(*weights) and not (tmp_path / "model.keras").exists()
    assert [row["experiment"] for row in experiments.table(tmp_path)] == ["mine", "mine-1"]
