import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError, read_csv, read_json
from tiledseg_utils.base.paths import BOX
from tiledseg_utils.data.images import read_image
from tiledseg_utils.models.inputs import images_learnt_from, normalization_of
from tiledseg_utils.models.reduced import reduction_of
from tiledseg_utils.prediction.inference import load_model, predict_whole
from tiledseg_utils.tiles import tiling
from tiledseg_utils.training import callbacks, joining, optimizers
from tiledseg_utils.training import fit as training
from tiledseg_utils.training.fit import TrainingSetting

QUICK = TrainingSetting(epochs=5, steps_per_epoch=3, validation_steps=2, batch_size=2, learning_rate=0.01)


NETWORK = {"base_filters": 4, "levels": 2, "dropout": 0.2, "normalization": "batch"}


def train_in(run, tile_set, setting=QUICK, network=NETWORK, preview=None):
    if not (run / "tiles").exists():
        shutil.copytree(tile_set[0], run / "tiles")
    return training.train(run, "unet", network, {"hflip": 0.5}, setting, seed=1, preview=preview)


def final_weights(run):
    return keras.models.load_model(run / "model.keras", compile=False).get_weights()


def scores(history):
    return [{name: value for name, value in row.items() if name not in ("seconds", "waited")} for row in history]


@pytest.fixture(scope="module")
def uninterrupted(tile_set, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    return run, train_in(run, tile_set)


def test_training_learns_and_records(uninterrupted):
    run, result = uninterrupted
    history = result["history"]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert history[-1]["loss"] < history[0]["loss"]
    assert result["steps"] == 15 and result["parameters"] > 1000 and "cpu" in result["device"]
    assert result["best_epoch"] == 1 + int(np.argmin([row["val_loss"] for row in history]))
    table = read_csv(run / "training" / "history.csv")
    assert [float(row["val_loss"]) for row in table] == [row["val_loss"] for row in history]
    kept = {path.name for path in (run / "training").glob("*.keras")}
    assert kept == {f"epoch_{epoch:03d}.keras" for epoch in (5, result["best_epoch"])}


def test_the_same_seed_gives_the_same_bits(uninterrupted, tile_set, tmp_path):
    run, result = uninterrupted
    again = train_in(tmp_path, tile_set)
    assert scores(again["history"]) == scores(result["history"])
    assert all(np.array_equal(*pair) for pair in zip(final_weights(run), final_weights(tmp_path), strict=True))


def test_the_final_model_can_be_the_mean_of_the_last_epochs(tile_set, tmp_path):
    setting = replace(QUICK, average_epochs=3)
    weights = {}

    def keep_weights(model, epoch):
        weights[epoch] = model.get_weights()

    def stop_in_epoch_5(model, epoch):
        keep_weights(model, epoch)
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path, tile_set, setting, preview=stop_in_epoch_5)
    train_in(tmp_path, tile_set, setting, preview=keep_weights)  # goes on behind epoch 4
    assert {path.name for path in (tmp_path / "training").glob("*.keras")} >= {f"epoch_00{n}.keras" for n in (3, 4, 5)}
    for mean, *last in zip(final_weights(tmp_path), *(weights[epoch] for epoch in (3, 4, 5)), strict=True):
        np.testing.assert_allclose(mean, np.mean(last, axis=0), atol=1e-6)
    assert not np.array_equal(final_weights(tmp_path)[0], weights[5][0])


def test_what_learnt_from_reduced_images_reduces_them_itself(splits, tmp_path, rng):
    setting = tiling.TileSetting(tile_size=64, reduction=2, contrast=True)
    tiling.write_tile_set(splits, tmp_path / "tiles", setting)
    short = replace(QUICK, epochs=1, batch_size=0, steps_per_epoch=1, validation_steps=1)
    training.train(tmp_path, "unet", NETWORK, {}, short, seed=1)
    assert read_json(tmp_path / "training" / "state.json")["request"]["training"]["batch_size"] == 128
    model = load_model(tmp_path / "model.keras")
    assert reduction_of(model) == 2 and normalization_of(model) == "contrast"
    network = load_model(tmp_path / "training" / "epoch_001.keras")
    assert reduction_of(network) == 1
    for weight, expected in zip(model.get_weights(), network.get_weights(), strict=True):
        assert np.array_equal(weight, expected)
    assert set(images_learnt_from(model)["train"]) == {pair.stem for pair in splits["train"]}
    image = rng.integers(0, 256, (101, 90, 3), np.uint8)
    assert predict_whole(model, image).shape == (101, 90)


@pytest.fixture(scope="module")
def balanced_tiles(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("balanced")
    tiling.write_tile_set(splits, folder, tiling.TileSetting(tile_size=64, white_balance=True))
    return folder


ONE_STEP = replace(QUICK, epochs=1, steps_per_epoch=1, validation_steps=1)


def test_a_network_can_be_joined_with_the_one_of_the_package(balanced_tiles, splits, tmp_path, rng, capsys):
    how = {"tiles": balanced_tiles, "joined_with": "smears"}
    result = training.train(tmp_path, "unet", NETWORK, {}, ONE_STEP, seed=1, **how)
    joined, box = load_model(tmp_path / "model.keras"), load_model(BOX / "smears.keras")
    network = load_model(tmp_path / "training" / "epoch_001.keras")
    tile = rng.integers(0, 256, (1, 64, 64, 3), np.uint8)
    mean = (network.predict_on_batch(tile) + box.predict_on_batch(tile)) / 2
    np.testing.assert_allclose(joined.predict_on_batch(tile), mean, atol=1e-6)
    assert result["parameters"] == network.count_params()
    assert "joined with another; they are joined" in capsys.readouterr().out
    learnt, of_box = images_learnt_from(joined), images_learnt_from(box)
    hashes = {value for images in learnt["train"].values() for value in images}
    assert all(hashes >= set(images) for images in of_box["train"].values())
    assert learnt["train"].keys() == of_box["train"].keys() | {pair.stem for pair in splits["train"]}


def test_a_network_stays_alone_where_the_other_one_is_blind(balanced_tiles, splits, tmp_path, monkeypatch, capsys):
    blind = models.build_model("unet", NETWORK | {"prior": 0.0001}, "white_balance")
    monkeypatch.setattr(joining, "load_model", lambda path: blind)
    setting = replace(QUICK, epochs=4, steps_per_epoch=12)
    training.train(tmp_path, "unet", NETWORK, {}, setting, 1, tiles=balanced_tiles, joined_with="smears")
    assert "it stays alone" in capsys.readouterr().out
    best = read_json(tmp_path / "training" / "state.json")["best_epoch"]
    network = load_model(tmp_path / "training" / f"epoch_{best:03d}.keras")
    assert all(np.array_equal(*pair) for pair in zip(final_weights(tmp_path), network.get_weights(), strict=True))
    assert images_learnt_from(load_model(tmp_path / "model.keras"))["train"].keys() == {p.stem for p in splits["train"]}


def test_a_network_of_other_images_is_not_joined(balanced_tiles, tile_set, tmp_path, capsys):
    with pytest.raises(UserError, match="joined_with: is smears, which learnt from images normalized by white_balance"):
        training.train(tmp_path, "unet", NETWORK, {}, QUICK, 1, tiles=tile_set[0], joined_with="smears")
    of_classes = tmp_path / "tiles"
    shutil.copytree(balanced_tiles, of_classes)
    (of_classes / "classes.csv").write_text("value,name,color\n0,none,#000000\n1,cell,#ffffff\n")
    training.train(tmp_path, "unet", NETWORK, {}, ONE_STEP, seed=1, joined_with="smears")
    assert "so the network is not joined with it" in capsys.readouterr().out
    assert load_model(tmp_path / "model.keras", classes=True).output_shape[-1] == 2


def test_what_learnt_in_bfloat16_predicts_in_float32(tile_set, tmp_path, rng):
    train_in(tmp_path, tile_set, replace(QUICK, epochs=2, precision="mixed_bfloat16"))
    learnt = keras.models.load_model(tmp_path / "training" / "epoch_002.keras", compile=False)
    final = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in learnt.layers} > {"bfloat16"}
    assert {layer.compute_dtype for layer in final.layers} == {"float32"}
    image = rng.integers(0, 256, (1, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(final.predict(image, verbose=0), learnt.predict(image, verbose=0), atol=0.02)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.training.test_fit import QUICK, train_in

folder, run = (Path(argument) for argument in sys.argv[1:])

def preview(model, epoch):
    if epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # in epoch 3, before its state is saved

train_in(run, (folder, None), preview=preview)
"""


def test_kill_in_epoch_3_and_resume_ends_as_if_never_killed(uninterrupted, tile_set, tmp_path, capsys):
    command = [sys.executable, "-c", SCRIPT, tile_set[0], tmp_path]
    process = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert process.returncode == -signal.SIGKILL
    assert read_json(tmp_path / "training" / "state.json")["epoch"] == 2
    assert not (tmp_path / "model.keras").exists()

    result = train_in(tmp_path, tile_set)
    run, expected = uninterrupted
    assert "resuming after epoch 2" in capsys.readouterr().out
    assert scores(result["history"]) == scores(expected["history"])
    assert all(np.array_equal(*pair) for pair in zip(final_weights(run), final_weights(tmp_path), strict=True))


def test_early_stopping_counts_on_after_a_resume(tile_set, tmp_path):
    """With a learning rate that ruins the model, validation soon stops improving."""
    setting = TrainingSetting(
        epochs=15, steps_per_epoch=1, validation_steps=1, batch_size=2, learning_rate=5.0, patience=3, reduce_patience=2
    )

    class Stop(Exception):
        pass

    def stop_in_epoch_3(model, epoch):
        if epoch == 3:
            raise Stop

    whole = train_in(tmp_path / "whole", tile_set, setting)
    with pytest.raises(Stop):
        train_in(tmp_path / "resumed", tile_set, setting, preview=stop_in_epoch_3)
    resumed = train_in(tmp_path / "resumed", tile_set, setting)
    assert len(whole["history"]) < 15
    assert scores(resumed["history"]) == scores(whole["history"])
    assert whole["history"][-1]["learning_rate"] < 5.0  # reduce-on-plateau counted on, too


def test_a_finished_training_is_not_repeated(uninterrupted, tile_set):
    run, result = uninterrupted
    assert train_in(run, tile_set)["history"] == result["history"]


def test_other_settings_in_the_same_run_are_refused(uninterrupted, tile_set):
    run, _ = uninterrupted
    with pytest.raises(UserError, match="belongs to a training with other settings"):
        train_in(run, tile_set, TrainingSetting(epochs=6))


def test_other_tiles_in_the_same_run_are_refused(uninterrupted, tile_set, tmp_path):
    run, _ = uninterrupted
    shutil.copytree(run, tmp_path / "run")
    manifest = tmp_path / "run" / "tiles" / "manifest.csv"
    header, first, *others = manifest.read_text().splitlines()
    weight = header.split(",").index("weight")
    values = first.split(",")
    values[weight] = str(float(values[weight]) / 2)
    manifest.write_text("\n".join([header, ",".join(values), *others, ""]))
    with pytest.raises(UserError, match="other settings or tiles"):
        train_in(tmp_path / "run", tile_set)


def test_a_checkpoint_of_another_model_or_damaged_or_missing_is_refused(uninterrupted, tmp_path, tile_set):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted[0], run)
    state = read_json(run / "training" / "state.json")
    checkpoint = run / "training" / f"epoch_{state['epoch']:03d}.keras"
    models.build_model("unet", NETWORK | {"base_filters": 2}).save(checkpoint)
    with pytest.raises(UserError, match=r"checkpoint of another model.*Delete the folder"):
        train_in(run, tile_set)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"missing or damaged: is cut or damaged.*Delete the folder"):
        train_in(run, tile_set)
    good = models.build_model("unet", NETWORK)
    good.compile("adam", "bce")
    good.save(checkpoint)  # Without what the optimiser has learnt.
    with pytest.raises(UserError, match="missing or damaged: cannot be read"):
        train_in(run, tile_set)
    checkpoint.unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        train_in(run, tile_set)


def test_a_loss_that_is_not_a_number_stops_and_says_where(tile_set, tmp_path, monkeypatch):
    def ruined(*arguments):
        model = models.build_model(*arguments)
        model.layers[-1].bias.assign([float("nan")])
        return model

    monkeypatch.setattr(training, "build_model", ruined)
    with pytest.raises(UserError, match=r"loss at batch 1 of epoch 1: is not a finite number\. Lower learning_rate"):
        train_in(tmp_path, tile_set)
    assert not (tmp_path / "model.keras").exists()


def test_after_a_ruined_batch_training_goes_on_from_the_last_good_weights(
    uninterrupted, tile_set, tmp_path, monkeypatch
):
    healthy = training.TrainingBatches.batch

    def batch(self, epoch, step):
        images, masks = healthy(self, epoch, step)
        return images, masks * np.float32("nan" if (epoch, step) == (2, 1) else 1)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"batch 2 of epoch 3.*what 2 epochs"):
        patch.setattr(training.TrainingBatches, "batch", batch)
        train_in(tmp_path, tile_set)
    assert scores(train_in(tmp_path, tile_set)["history"]) == scores(uninterrupted[1]["history"])


def with_validation(monkeypatch, ruined):
    """Have the validation loss of the epochs in `ruined` (from 1) be nan."""

    class Ruined(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 in ruined:
                logs["val_loss"] = float("nan")

    # The first of the callbacks, so that all the others see it.
    monkeypatch.setattr(training, "ProgressLines", Ruined)


@pytest.mark.parametrize("average", [0, 2])
@pytest.mark.parametrize(("ruined", "epochs"), [({1}, 5), ({1, 2}, 4), ({3}, 3), ({1, 3}, 3)])
def test_an_epoch_without_a_validation_loss_is_never_the_best(
    tile_set, tmp_path, monkeypatch, capsys, ruined, epochs, average
):
    with_validation(monkeypatch, ruined)
    setting = replace(QUICK, epochs=epochs, average_epochs=average, patience=2)
    result = train_in(tmp_path, tile_set, setting)
    losses = {row["epoch"]: row["val_loss"] for row in result["history"] if row["epoch"] not in ruined}
    assert result["best_epoch"] == max(epoch for epoch in losses if losses[epoch] == min(losses.values()))
    assert len(result["history"]) >= min(epochs, 2 + max(ruined, default=0)) or 1 not in ruined
    told = [line for line in capsys.readouterr().out.splitlines() if "val_loss is not a finite number" in line]
    assert [int(line.split()[1].rstrip(":")) for line in told] == sorted(ruined)
    assert (tmp_path / "model.keras").exists()


def test_a_validation_loss_that_never_is_a_number_is_told(tile_set, tmp_path, monkeypatch):
    with_validation(monkeypatch, {1, 2, 3, 4, 5})
    for _ in range(2):  # and told again, when it goes on
        with pytest.raises(UserError, match=r"val_loss: was not a finite number in any epoch.*Look at the validation"):
            train_in(tmp_path, tile_set)
    assert not (tmp_path / "model.keras").exists()


def test_early_stopping_does_not_wait_for_something_better_than_nan():
    patience = callbacks.Patience(patience=2)
    patience.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    patience.model.compile("adam", "mse")
    patience.on_train_begin()
    for epoch, loss in enumerate([float("nan"), 0.5, 0.4, float("nan"), 0.3]):
        patience.on_epoch_end(epoch, {"loss": 1.0, "val_loss": loss})
    assert (patience.best, patience.best_epoch, patience.wait) == (0.3, 4, 0)


def test_weights_that_the_last_step_ruined_are_not_saved(uninterrupted, tile_set, tmp_path, monkeypatch):
    """Its loss was still finite; resumed, the training would start from nan."""

    class Ruined(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                self.model.layers[-1].bias.assign([float("nan")])

    stop = training.StopOnNaN.on_epoch_end

    def ruin_first(self, epoch, logs=None):
        Ruined.on_epoch_end(self, epoch, logs)
        stop(self, epoch, logs)

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"weights after epoch 3: are not all.*2 epochs"),
    ):
        patch.setattr(training.StopOnNaN, "on_epoch_end", ruin_first)
        train_in(tmp_path, tile_set)
    assert read_json(tmp_path / "training" / "state.json")["epoch"] == 2
    assert scores(train_in(tmp_path, tile_set)["history"]) == scores(uninterrupted[1]["history"])


def test_a_full_disk_keeps_the_last_checkpoint(uninterrupted, tile_set, tmp_path, monkeypatch):
    save = keras.Model.save

    def fill_the_disk(self, path, **settings):
        save(self, path, **settings)
        if "epoch_003" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"epoch_003.*No space left"):
        patch.setattr(keras.Model, "save", fill_the_disk)
        train_in(tmp_path, tile_set)
    assert "epoch_003.keras" not in {path.name for path in (tmp_path / "training").iterdir()}
    assert scores(train_in(tmp_path, tile_set)["history"]) == scores(uninterrupted[1]["history"])


def test_cosine_schedule_adamw_and_no_clipping(tile_set, tmp_path):
    setting = TrainingSetting(
        epochs=2,
        steps_per_epoch=2,
        validation_steps=1,
        batch_size=2,
        schedule="cosine",
        optimizer="adamw",
        clip_value=0.0,
    )
    history = train_in(tmp_path, tile_set, setting)["history"]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.001, 0.0], abs=1e-9)


def test_previews_show_whole_and_tiled_after_every_epoch(tile_set, tmp_path, rng):
    setting = TrainingSetting(epochs=2, steps_per_epoch=1, validation_steps=1, batch_size=2)
    preview = training.Preview(tmp_path, rng.integers(0, 256, (90, 110, 3)).astype(np.uint8), 64)
    train_in(tmp_path, tile_set, setting, preview=preview)
    assert [read_image(preview.path(epoch)).shape for epoch in (1, 2)] == [(90, 220, 3)] * 2


class Clock:
    """Stands for `time`: each step tells how long it takes."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def epoch_lines(capsys, monkeypatch, lines, epoch: int, train_steps: list, test_steps: list) -> list[str]:
    """What is printed in an epoch whose steps take so many seconds."""
    clock = Clock()
    monkeypatch.setattr(callbacks, "time", clock)
    lines.set_params({"epochs": 3, "steps": len(train_steps)})
    lines.on_epoch_begin(epoch)
    for kind, steps in (("train", train_steps), ("test", test_steps)):
        for batch, seconds in enumerate(steps):
            getattr(lines, f"on_{kind}_batch_begin")(batch)
            clock.now += seconds
            getattr(lines, f"on_{kind}_batch_end")(batch)
    lines.on_epoch_end(epoch, {"loss": 0.5})
    return capsys.readouterr().out.splitlines()


def test_what_is_left_does_not_count_compiling(capsys, monkeypatch):
    lines = callbacks.ProgressLines()
    first = epoch_lines(capsys, monkeypatch, lines, 0, [120, 10, 10, 10, 10, 10], [30, 5])
    assert first == [
        "compiling ...",
        "  step 2/6, 40 s left in this epoch",
        "  step 6/6, 0 s left in this epoch",
        "epoch 1/3  205 s  loss 0.5000  <= 2.2 min left",  # 2 x (50 + 5) x 6/5 s
    ]
    second = epoch_lines(capsys, monkeypatch, lines, 1, [10] * 6, [5, 5])
    assert second == ["  step 4/6, 20 s left in this epoch", "epoch 2/3  70 s  loss 0.5000  <= 1.2 min left"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "mse"}, "Give one of bce_dice, bce_tile_dice"),
        ({"optimizer": "sgd"}, "Give one of adam, adamw"),
        ({"schedule": "step"}, "Give one of plateau, cosine"),
        ({"precision": "float16"}, "Give one of float32, mixed_bfloat16"),
        ({"epochs": 0}, "epochs: 0 is out of range. Give a whole number from 1 to 10000"),
        ({"epochs": 3, "average_epochs": 4}, "Give 0 to 3"),
        ({"epochs": 3, "pretraining_epochs": 4}, "Give 0 to 3"),
        ({"added_share": 1.5}, "added_share: 1.5 is out of range. Give a number from 0 to 1"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is not a finite number"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(UserError, match=message):
        TrainingSetting(**values)


def test_the_cosine_rises_and_falls_in_each_stage():
    setting = replace(QUICK, epochs=7, steps_per_epoch=10, pretraining_epochs=3, schedule="cosine", learning_rate=0.01)
    optimizer = training.make_optimizer(setting)
    copy = type(optimizer).from_config(optimizer.get_config())  # as a model file does
    schedule = optimizers.Cosine.from_config(optimizers.Cosine(0.01, 10, [3, 4]).get_config())
    rates = [float(schedule(step)) for step in range(70)]
    assert np.argmax(rates[:30]) == 10 and np.argmax(rates[30:]) == 10  # behind an epoch of rising
    assert max(rates) == pytest.approx(0.01) and rates[0] == rates[30] == pytest.approx(0.001)
    assert max(rates[29], rates[69]) < 1e-4
    for each in (optimizer, copy):
        each.iterations.assign(35)
        assert float(each.learning_rate) == pytest.approx(rates[35])


def test_a_stage_of_one_epoch_only_rises():
    rates = [float(optimizers.Cosine(0.01, 10, [1, 2])(step)) for step in range(30)]
    assert np.all(np.diff(rates[:10]) > 0) and rates[9] == pytest.approx(0.0091)
    assert np.argmax(rates[10:]) == 10 and rates[10] == pytest.approx(0.001)
