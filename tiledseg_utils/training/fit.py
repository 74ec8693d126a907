"""Training through `model.fit` that can be killed at any moment and then goes on as if nothing had happened.

What is learnt is a `Task`; `fit` trains any of them. After every epoch its folder holds the whole state: the models of
the last epochs and of the best, `epoch_*.keras` (weights, optimiser), and `state.json`, which counts the epochs and is
written last. `train` is the task of the course: a mask from an image.
"""

import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, atomic_path, hash_file, read_record, write_csv, write_json
from ..base.memory import release_freed_memory
from ..data import provenance
from ..data.channels import FILE as CHANNELS
from ..data.channels import read_scaling
from ..data.classes import FILE as CLASSES
from ..data.classes import read_classes
from ..data.pictures import write_image
from ..models import build_model, losses
from ..models.backend import keras
from ..models.foreground import foreground_of
from ..models.inputs import remember_images, remember_options
from ..models.interface import Interface
from ..models.model_files import load_checkpoint
from ..models.receptive_field import receptive_field
from ..models.reduced import reduced_model
from ..prediction.inference import predict_reduced, predict_tiled
from ..settings.parameters import TrainingSetting
from ..tiles.augmentation import Augmentation
from ..tiles.choices import batch_choice
from ..tiles.tiling import MANIFEST, normalization_of_tiles, read_manifest, reduction_of_tiles
from . import devices
from .batches import TrainingBatches, ValidationBatches, read_training_tiles, read_validation_tiles, target_of
from .callbacks import Patience, ProgressLines, StopOnNaN
from .optimizers import make_optimizer


@dataclass(frozen=True)
class Task:
    """What a network learns, and from what.

    Attributes:
        build: makes the network, with layers of a precision (see `models.build_model`).
        batches: of inputs and targets to learn from.
        validation: batches that judge each epoch, or None. Without them no epoch is better than another, so the final
            model is that of the last one, and early stopping and the schedule "plateau" are not used.
        loss, metrics: as `keras.Model.compile` takes them.
        request: everything that decides about the result, as JSON takes it. A training goes on only if it is the same.
        learnt_from: the images, which the model will remember; see `provenance.learnt_from`.
        options: how the run uses the final model, which remembers that, too; see `inputs.remember_options`.
        finish: makes the final model of the trained network, for instance `reduced_model`; None leaves it as it is.
    """

    build: Callable[[str], keras.Model]
    batches: TrainingBatches
    validation: ValidationBatches | None
    loss: Callable
    metrics: list | None
    request: Mapping
    learnt_from: Mapping | None
    options: Mapping | None = None
    finish: Callable[[keras.Model], keras.Model] | None = None


class RunState(keras.callbacks.Callback):
    """Everything that one epoch hands to the next, kept on disk.

    Keras' BackupAndRestore keeps weights and optimiser, but not what early stopping and reduce-on-plateau have counted,
    nor the history; a resumed run would then end elsewhere. It must be the last of the callbacks, to see the others'
    counts after they were updated.

    Args:
        folder: where the state is.
        task: the `epoch` of its batches is set before each epoch. A state that answers another request is refused.
        setting: decides how many of the last models are kept beside the best, and which callbacks have counts.
    """

    COUNTS = ("best", "best_epoch", "wait", "cooldown_counter", "stopped_epoch")

    def __init__(self, folder: Path, task: Task, setting: TrainingSetting):
        super().__init__()
        self.folder, self.batches, self.is_validated = folder, task.batches, task.validation is not None
        self.keep = max(1, setting.average_epochs)
        self.counting = _counting_callbacks(setting) if self.is_validated else []
        request = json.loads(json.dumps({**task.request, "training": asdict(setting)}))  # As it will be read back.
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
        needed = {"epoch", "seconds", "val_loss" if self.is_validated else "loss"}
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
        if self._is_best(row):
            state["best_epoch"] = epoch
        state["counts"] = [
            {name: value for name, value in vars(callback).items() if name in self.COUNTS} for callback in self.counting
        ]
        state["finished"] = bool(self.model.stop_training) or epoch == self.params["epochs"]
        if devices.process()[0] == 0:
            self._write(epoch)

    def _write(self, epoch: int) -> None:
        state = self.state
        with devices.alone(), atomic_path(self.model_path(epoch)) as temporary:
            self.model.save(temporary)
        write_json(self.path, state)
        write_csv(self.folder / "history.csv", state["history"])
        kept = {*self.last_paths(), self.model_path(state["best_epoch"])}
        for path in set(self.folder.glob("epoch_*.keras")) - kept:
            path.unlink()

    def _is_best(self, row: Mapping) -> bool:
        """Whether no epoch so far was better than the last, that of `row`; one without a finite loss is never best."""
        if not self.is_validated:
            return True
        if not math.isfinite(row["val_loss"]):
            print(f"epoch {row['epoch']}: val_loss is not a finite number, and this epoch is not the best", flush=True)
            return False
        return row["val_loss"] <= min(
            past["val_loss"] for past in self.state["history"] if math.isfinite(past["val_loss"])
        )

    def final_checkpoints(self, average: bool) -> list[Path]:
        """What the final model is made of: the last epochs, or the best one.

        Raises:
            UserError: no epoch had a validation loss that is a finite number.
        """
        if not self.state["best_epoch"]:
            remedy = f"Look at the validation images, lower learning_rate, and delete {self.folder} to train anew"
            raise UserError("val_loss", "was not a finite number in any epoch, so that none is the best", remedy)
        return self.last_paths() if average else [self.model_path(self.state["best_epoch"])]


def _counting_callbacks(setting: TrainingSetting) -> list[keras.callbacks.Callback]:
    """Those that count epochs without a better validation loss."""
    callbacks = [Patience(patience=setting.patience)] if setting.patience else []
    if setting.schedule == "plateau":
        reducer = keras.callbacks.ReduceLROnPlateau(factor=setting.reduce_factor, patience=setting.reduce_patience)
        callbacks.append(reducer)
    return callbacks


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
        model = foreground_of(model)
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


def fit(
    task: Task,
    setting: TrainingSetting,
    folder: Path,
    path: Path,
    preview: Callable[[keras.Model, int], None] | None = None,
) -> dict:
    """Train a network, or go on where a killed training stopped, and save it.

    Args:
        task: what is learnt.
        setting: how; see `TrainingSetting`.
        folder: of the state; `history.csv` is written to it as well.
        path: of the final model.
        preview: called with the model and the epoch (from 1) after each epoch, before its state is saved.

    Returns:
        {"steps", "seconds", "parameters", "best_epoch", "device", "history"}; the last one row per epoch, in which
        "waited" are the seconds that the network waited for samples.

    Raises:
        UserError: the folder holds a training with another request or a checkpoint of another model, tiles do not fit
            the poolings of the network, the loss is not finite, or the disk is full.
    """
    run_state = RunState(folder, task, setting)
    with devices.on_devices(setting.devices, setting.batch_size):
        network = _prepare(task, setting, run_state)
        if not run_state.state["finished"]:
            _fit(network, task, setting, run_state, preview)
    release_freed_memory()
    if devices.process()[0] == 0:
        _finish(task, setting, run_state, network, path)
    state = run_state.state
    return {
        "steps": setting.steps_per_epoch * state["epoch"],
        "seconds": round(sum(row["seconds"] for row in state["history"]), 1),
        "parameters": network.count_params(),
        "best_epoch": state["best_epoch"],
        "device": ", ".join(keras.distribution.list_devices()),
        "history": state["history"],
    }


def _prepare(task: Task, setting: TrainingSetting, run_state: RunState) -> keras.Model:
    """The network with its optimiser, loss and metrics: new, or as an interrupted training left it."""
    network, epoch = task.build(setting.precision), run_state.state["epoch"]
    if epoch:
        print(f"resuming after epoch {epoch}", flush=True)
        network = _load_checkpoint(run_state.model_path(epoch), network)
    else:
        network.compile(make_optimizer(setting), task.loss, metrics=task.metrics)
    remember_images(network, task.learnt_from)
    tile_size, alignment = task.batches.tiles.images.shape[1], receptive_field(network).alignment
    if tile_size % alignment:
        remedy = f"Use a tile size that is a multiple of {alignment} pixels, or fewer levels"
        raise UserError(f"tile size {tile_size}", "does not fit the poolings of the network", remedy)
    return network


def _fit(network: keras.Model, task: Task, setting: TrainingSetting, run_state: RunState, preview) -> None:
    callbacks = [StopOnNaN(), ProgressLines(), *run_state.counting]
    if preview and devices.process()[1] == 1:  # Several would have to predict together.
        show = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: preview(network, epoch + 1))
        callbacks.append(show)
    network.fit(
        task.batches,
        validation_data=task.validation,
        epochs=setting.epochs,
        initial_epoch=run_state.state["epoch"],
        callbacks=[*callbacks, run_state],
        shuffle=False,  # Keras would shuffle the batches with a generator that nobody has seeded.
        verbose=0,
    )


def _finish(task: Task, setting: TrainingSetting, run_state: RunState, network: keras.Model, path: Path) -> None:
    """Save the final model: the best epoch, or the mean of the last, always in float32."""
    model = mean_model(run_state.final_checkpoints(setting.average_epochs > 0), network)
    if setting.precision != "float32":  # bfloat16 is slow on CPUs, and too coarse for tiles to agree.
        weights, model = model.get_weights(), task.build("float32")
        model.set_weights(weights)
    model = task.finish(model) if task.finish else model
    remember_images(model, task.learnt_from)
    remember_options(model, task.options)
    with atomic_path(path) as temporary:
        model.save(temporary)


def interface_of(tiles: Path) -> Interface:
    """What a network takes and predicts that learns from a tile set."""
    return Interface(channels=read_scaling(tiles), classes=read_classes(tiles))


def train(
    run: Path,
    model: str,
    model_settings: Mapping,
    augmentation: Mapping,
    setting: TrainingSetting,
    seed: int,
    preview: Callable[[keras.Model, int], None] | None = None,
    tiles: Path | None = None,
    options: Mapping | None = None,
) -> dict:
    """Train on `<run>/tiles`, or go on where a killed run stopped; write `<run>/model.keras`.

    Args:
        run: run folder; everything is written below it, the state to `<run>/training`.
        model, model_settings: see `models.build_model`; the seed is added to the settings.
        augmentation: see `augmentation.Augmentation`.
        setting, preview: see `fit`.
        seed: of the initial weights, the draws of tiles, their augmentation, and dropout.
        tiles: folder of the tiles, if it is not `<run>/tiles`.
        options: how the run uses the final model; see `inputs.remember_options`. They do not change the training.

    Returns:
        see `fit`.

    Raises:
        UserError: as `fit`; or a setting is wrong, or the run folder holds no tiles, or none with foreground.
    """
    run = Path(run)
    tiles = Path(tiles or run / "tiles")
    request = {"model": model, "model_settings": model_settings, "augmentation": augmentation, "seed": seed}
    request |= {"tiles": hash_file(tiles / MANIFEST)}
    learnt_from = provenance.learnt_from(tiles)
    if (tiles / CHANNELS).exists():
        request |= {"channels": hash_file(tiles / CHANNELS)}
    if (tiles / CLASSES).exists():
        request |= {"classes": hash_file(tiles / CLASSES)}
    if learnt_from is not None:
        request |= {"sources": hash_file(tiles / provenance.SOURCES)}
    manifest, training_tiles = read_manifest(tiles), read_training_tiles(tiles)
    normalization = normalization_of_tiles(manifest)
    interface = interface_of(tiles)
    target = target_of(interface.classes)
    if not setting.batch_size:
        chosen = batch_choice(setting, training_tiles.images.shape[1])
        print("batch_size {value}: {reason}".format(**chosen), flush=True)
    setting = setting.for_tiles(training_tiles.images.shape[1])
    settings = {**model_settings, "seed": seed}
    task = Task(
        build=lambda precision: build_model(model, settings, normalization, precision, interface),
        batches=TrainingBatches(training_tiles, setting, seed, Augmentation.from_dict(augmentation), target),
        validation=ValidationBatches(*read_validation_tiles(tiles, setting), setting, target),
        loss=losses.LOSSES[setting.loss],
        metrics=losses.METRICS,
        request=request,
        learnt_from=learnt_from,
        options=options,
        finish=functools.partial(reduced_model, reduction=reduction_of_tiles(manifest)),
    )
    return fit(task, setting, run / "training", run / "model.keras", preview)
