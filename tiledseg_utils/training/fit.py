"""Training through `model.fit`, so that it can be killed at any moment and goes on as if nothing had happened.

After every epoch the run folder holds the whole state: the models of the last epochs and of the best,
`training/epoch_*.keras` (weights, optimiser), and `training/state.json`, which counts the epochs and is written last.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..base.files import UserError, atomic_path, hash_file, read_record, write_csv, write_json
from ..base.memory import release_freed_memory
from ..data import provenance
from ..data.pictures import write_image
from ..models import build_model, losses
from ..models.backend import keras
from ..models.inputs import remember_images
from ..models.model_files import load_checkpoint
from ..models.receptive_field import receptive_field
from ..prediction.inference import predict_reduced, predict_tiled
from ..settings.parameters import TrainingSetting
from ..tiles.augmentation import Augmentation
from ..tiles.tiling import MANIFEST, read_manifest
from .batches import TrainingBatches, ValidationBatches
from .callbacks import Patience, ProgressLines, StopOnNaN


@keras.saving.register_keras_serializable("tiledseg")
class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises through the first epoch of each stage and falls to zero over its others, along a cosine.

    It rises first because full steps from random weights throw batch statistics about.

    Args:
        rate: the highest.
        steps: per epoch.
        stages: epochs of each.
    """

    def __init__(self, rate: float, steps: int, stages: Sequence[int]):
        self.rate, self.steps, self.stages = rate, steps, list(stages)

    def __call__(self, step):
        begin, rate = 0, 0.0
        for epochs in self.stages:
            fall = max(1, (epochs - 1) * self.steps)  # Of a stage of one epoch, nothing is left but the rise.
            stage = keras.optimizers.schedules.CosineDecay(
                self.rate / 10, fall, warmup_target=self.rate, warmup_steps=self.steps
            )
            rate = keras.ops.where(step < begin, rate, stage(keras.ops.maximum(step - begin, 0)))
            begin += epochs * self.steps
        return rate

    def get_config(self) -> dict:
        """The arguments, for the file of the model."""
        return {"rate": self.rate, "steps": self.steps, "stages": self.stages}


def make_optimizer(setting: TrainingSetting) -> keras.optimizers.Optimizer:
    """The optimiser with its learning rate or schedule."""
    rate = setting.learning_rate
    if setting.schedule == "cosine":
        stages = (setting.pretraining_epochs, setting.epochs - setting.pretraining_epochs)
        rate = Cosine(rate, setting.steps_per_epoch, [epochs for epochs in stages if epochs])
    optimizer = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[setting.optimizer]
    return optimizer(rate, clipvalue=setting.clip_value or None)


def compile_model(model: keras.Model, setting: TrainingSetting) -> None:
    """Give the model its optimiser, loss and metrics."""
    model.compile(make_optimizer(setting), losses.LOSSES[setting.loss], metrics=losses.METRICS)


class RunState(keras.callbacks.Callback):
    """Everything that one epoch hands to the next, kept on disk.

    Keras' BackupAndRestore keeps weights and optimiser, but not what early stopping and reduce-on-plateau have counted,
    nor the history; a resumed run would then end elsewhere. It must be the last of the callbacks, to see the others'
    counts after they were updated.

    Args:
        folder: `<run>/training`.
        batches: their `epoch` is set before each epoch.
        counting: callbacks whose attributes named in `COUNTS` are part of the state.
        keep: of how many epochs, the last ones, the models are kept beside the best; at least 1.
        request: what was asked for; a state that answers another request is refused.
    """

    COUNTS = ("best", "best_epoch", "wait", "cooldown_counter", "stopped_epoch")

    def __init__(self, folder: Path, batches: TrainingBatches, counting: list, keep: int, request: dict):
        super().__init__()
        self.folder, self.batches, self.counting, self.keep = folder, batches, counting, keep
        self.path = folder / "state.json"
        self.state = {"request": request, "epoch": 0, "best_epoch": 0, "finished": False, "counts": [], "history": []}
        if self.path.exists():
            self.state = self.read_state()
            if self.state["request"] != request:
                raise UserError(
                    self.path,
                    "belongs to a training with other settings or tiles",
                    "Use another run folder, or delete this file",
                )

    def read_state(self) -> dict:
        """The state that an earlier call left.

        Raises:
            UserError: the file is damaged.
        """
        remedy = f"Delete {self.folder} to train anew"
        state = read_record(self.path, self.state, remedy)
        needed = {"epoch", "seconds", "val_loss"}
        rows = [row for row in state["history"] if isinstance(row, dict) and needed <= row.keys()]
        in_order = [row["epoch"] for row in rows] == list(range(1, state["epoch"] + 1))
        is_whole = len(rows) == len(state["history"]) and all(isinstance(counts, dict) for counts in state["counts"])
        if not (in_order and is_whole and 0 <= state["best_epoch"] <= state["epoch"]):
            problem = f"is damaged (epoch {state['epoch']}, best {state['best_epoch']}, {len(rows)} in its history)"
            raise UserError(self.path, problem, remedy)
        return state

    def model_path(self, epoch: int) -> Path:
        """Where the model of `epoch` (counted from 1) is kept, as long as it is one of the last or the best."""
        return self.folder / f"epoch_{epoch:03d}.keras"

    def last_paths(self) -> list[Path]:
        """Where the models of the last `keep` epochs are, the last one last."""
        epoch = self.state["epoch"]
        return [self.model_path(number) for number in range(max(1, epoch - self.keep + 1), epoch + 1)]

    def on_train_begin(self, logs=None):
        # Here, because the other callbacks reset their counts when training begins.
        for callback, counts in zip(self.counting, self.state["counts"], strict=False):
            vars(callback).update(counts)

    def on_epoch_begin(self, epoch, logs=None):
        self.started, self.batches.waited = time.perf_counter(), 0.0
        self.batches.epoch = epoch
        for layer in self.model.layers:  # A dropout mask is a function of (seed, epoch, step).
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign([layer.seed, epoch])

    def on_epoch_end(self, epoch, logs=None):
        state, epoch = self.state, epoch + 1
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch, "seconds": round(time.perf_counter() - self.started, 2)}
        row |= {"waited": round(self.batches.waited, 2), "learning_rate": rate}
        row |= {name: float(value) for name, value in logs.items() if name != "learning_rate"}
        state["history"].append(row)
        state["epoch"] = epoch
        # Any comparison with nan is false: an epoch without a finite loss is never the best, nor in the others' way.
        finite = [past["val_loss"] for past in state["history"] if math.isfinite(past["val_loss"])]
        if not math.isfinite(row["val_loss"]):
            print(f"epoch {epoch}: val_loss is not a finite number, and this epoch is not the best", flush=True)
        elif row["val_loss"] <= min(finite):
            state["best_epoch"] = epoch
        state["counts"] = [
            {name: value for name, value in vars(callback).items() if name in self.COUNTS} for callback in self.counting
        ]
        state["finished"] = bool(self.model.stop_training) or epoch == self.params["epochs"]
        with atomic_path(self.model_path(epoch)) as temporary:
            self.model.save(temporary)
        write_json(self.path, state)
        write_csv(self.folder / "history.csv", state["history"])
        kept = {*self.last_paths(), self.model_path(state["best_epoch"])}
        for path in set(self.folder.glob("epoch_*.keras")) - kept:
            path.unlink()


class Preview:
    """Shows how a network learns: one image predicted whole (reduced) and in tiles, side by side, after every epoch.

    Args:
        run: run folder; pictures go to `<run>/training/preview/<epoch>.png`, white = probability 1.
        image: (H, W, 3) uint8 RGB.
        size: side of a tile, and of the reduced image, in pixels.
    """

    def __init__(self, run: Path, image: np.ndarray, size: int):
        self.folder, self.image, self.size = Path(run) / "training" / "preview", image, size

    def path(self, epoch: int) -> Path:
        """Picture of an epoch, counted from 1."""
        return self.folder / f"{epoch:03d}.png"

    def __call__(self, model: keras.Model, epoch: int) -> None:
        reduced = predict_reduced(model, self.image, self.size)
        alignment = receptive_field(model).alignment
        overlap = self.size // 8 // alignment * alignment
        tiled = predict_tiled(model, self.image, mode="blend", tile_size=self.size, overlap=overlap)
        write_image(self.path(epoch), np.rint(255 * np.hstack([reduced, tiled])).astype(np.uint8))


def _load_checkpoint(path: Path, network: keras.Model, with_optimizer: bool = True) -> keras.Model:
    """Open a model that was saved with its optimiser, and make sure that its weights are those of `network`."""
    remedy = f"Delete the folder {path.parent} to train anew"
    try:
        saved = load_checkpoint(path, with_optimizer)
    except UserError as error:
        raise UserError(path, f"the checkpoint is missing or damaged: {error.problem}", remedy) from error
    if [weight.shape for weight in saved.weights] != [weight.shape for weight in network.weights]:
        raise UserError(path, "is the checkpoint of another model", remedy)
    return saved


def mean_model(paths: Sequence[Path], network: keras.Model) -> keras.Model:
    """The first of some checkpoints of `network`, with the mean of all their weights and batch statistics."""
    models = [_load_checkpoint(path, network, with_optimizer=False) for path in paths]
    weights = zip(*(model.get_weights() for model in models), strict=True)
    models[0].set_weights([np.mean(values, axis=0) for values in weights])
    return models[0]


def _final_checkpoints(run_state: RunState, average: bool) -> list[Path]:
    """What the final model is made of: the last epochs, or the best one.

    Raises:
        UserError: no epoch had a validation loss that is a finite number.
    """
    if not run_state.state["best_epoch"]:
        remedy = f"Look at the validation images, lower learning_rate, and delete {run_state.folder} to train anew"
        problem = "was not a finite number in any epoch, so that none is the best"
        raise UserError("val_loss", problem, remedy)
    return run_state.last_paths() if average else [run_state.model_path(run_state.state["best_epoch"])]


def train(
    run: Path,
    model: str,
    model_settings: Mapping,
    augmentation: Mapping,
    setting: TrainingSetting,
    seed: int,
    preview: Callable[[keras.Model, int], None] | None = None,
    tiles: Path | None = None,
) -> dict:
    """Train on `<run>/tiles`, or go on where a killed run stopped; write `<run>/model.keras`.

    Args:
        run: run folder; everything is written below it.
        model, model_settings: see `models.build_model`; the seed is added to the settings.
        augmentation: see `augmentation.Augmentation`.
        setting: see `TrainingSetting`.
        seed: of the initial weights, the draws of tiles, their augmentation, and dropout.
        preview: called with the model and the epoch (from 1) after each epoch, before its state is saved.
        tiles: folder of the tiles, if it is not `<run>/tiles`.

    Returns:
        {"steps", "seconds", "parameters", "best_epoch", "device", "history"}; the last one row per epoch, in which
        "waited" are the seconds that the network waited for samples.

    Raises:
        UserError: a setting is wrong, the run folder holds no tiles, none with foreground, a training with other
            settings, or a checkpoint of another model, the loss is not finite, or the disk is full.
    """
    run = Path(run)
    tiles = Path(tiles or run / "tiles")
    batches = TrainingBatches(
        tiles,
        setting.batch_size,
        setting.steps_per_epoch,
        seed,
        Augmentation.from_dict(augmentation),
        setting.pretraining_epochs,
        setting.added_share,
    )
    counting = []
    if setting.patience:
        counting.append(Patience(patience=setting.patience))
    if setting.schedule == "plateau":
        reducer = keras.callbacks.ReduceLROnPlateau(factor=setting.reduce_factor, patience=setting.reduce_patience)
        counting.append(reducer)
    request = {"model": model, "model_settings": model_settings, "augmentation": augmentation, "seed": seed}
    request |= {"training": asdict(setting), "tiles": hash_file(tiles / MANIFEST)}
    learnt_from = provenance.learnt_from(tiles)
    if learnt_from is not None:
        request |= {"sources": hash_file(tiles / provenance.SOURCES)}
    request = json.loads(json.dumps(request))  # As it will be read back.
    run_state = RunState(run / "training", batches, counting, max(1, setting.average_epochs), request)
    state = run_state.state
    balanced = any(row.get("white_balance") for row in read_manifest(tiles))
    settings = {**model_settings, "seed": seed}
    network = build_model(model, settings, balanced, setting.precision)
    if state["epoch"]:
        print(f"resuming after epoch {state['epoch']}", flush=True)
        network = _load_checkpoint(run_state.model_path(state["epoch"]), network)
    else:
        compile_model(network, setting)
    remember_images(network, learnt_from)
    tile_size = batches.images.shape[1]
    alignment = receptive_field(network).alignment
    if tile_size % alignment:
        remedy = f"Use a tile size that is a multiple of {alignment} pixels, or fewer levels"
        raise UserError(f"tile size {tile_size}", "does not fit the poolings of the network", remedy)
    if not state["finished"]:
        callbacks = [StopOnNaN(), ProgressLines(), *counting]
        if preview:
            show = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: preview(network, epoch + 1))
            callbacks.append(show)
        network.fit(
            batches,
            validation_data=ValidationBatches(tiles, setting.batch_size, setting.validation_steps),
            epochs=setting.epochs,
            initial_epoch=state["epoch"],
            callbacks=[*callbacks, run_state],
            shuffle=False,  # Keras would shuffle the batches with a generator that nobody has seeded.
            verbose=0,
        )
    release_freed_memory()
    predictor = mean_model(_final_checkpoints(run_state, setting.average_epochs > 0), network)
    if setting.precision != "float32":  # bfloat16 is slow on CPUs, and too coarse for tiles to agree in.
        weights, predictor = predictor.get_weights(), build_model(model, settings, balanced)
        predictor.set_weights(weights)
    remember_images(predictor, learnt_from)
    with atomic_path(run / "model.keras") as temporary:
        predictor.save(temporary)
    return {
        "steps": setting.steps_per_epoch * state["epoch"],
        "seconds": round(sum(row["seconds"] for row in state["history"]), 1),
        "parameters": network.count_params(),
        "best_epoch": state["best_epoch"],
        "device": ", ".join(keras.distribution.list_devices()),
        "history": state["history"],
    }
