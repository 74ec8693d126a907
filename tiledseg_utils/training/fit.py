"""Training through `model.fit` that can be killed at any moment and then goes on as if nothing had happened.

What is learnt is a `Task`; `fit` trains any of them, and `run_state` keeps what it needs to go on. `train` is the task
of the course: a mask from an image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, atomic_path, hash_file
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
from ..settings.parameters import ALONE, TrainingSetting
from ..tiles.augmentation import Augmentation
from ..tiles.choices import batch_choice
from ..tiles.tiling import MANIFEST, normalization_of_tiles, read_manifest, reduction_of_tiles
from . import devices
from .batches import TrainingBatches, ValidationBatches, read_training_tiles, read_validation_tiles, target_of
from .callbacks import ProgressLines, StopOnNaN
from .joining import joined_if_it_suits, model_to_join
from .optimizers import make_optimizer
from .run_state import RunState


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
    run_state = RunState(folder, task.batches, task.validation is not None, task.request, setting)
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
    remember_images(model, task.learnt_from)
    model = task.finish(model) if task.finish else model
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
    joined_with: str = ALONE,
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
        joined_with: name of a model of the package. Where it suits the images, the final model is the mean of the
            network and of that one, see `joining`; this does not change the training either.

    Returns:
        see `fit`.

    Raises:
        UserError: as `fit`; or a setting is wrong, or the run folder holds no tiles, or none with foreground; or the
            tiles are not what the model to be joined takes.
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
    reduction = reduction_of_tiles(manifest)
    validation = ValidationBatches(*read_validation_tiles(tiles, setting), setting, target)
    other = model_to_join(joined_with, interface, normalization, reduction)

    def finish(network: keras.Model) -> keras.Model:
        return reduced_model(network, reduction) if other is None else joined_if_it_suits(network, other, validation)

    task = Task(
        build=lambda precision: build_model(model, settings, normalization, precision, interface),
        batches=TrainingBatches(training_tiles, setting, seed, Augmentation.from_dict(augmentation), target),
        validation=validation,
        loss=losses.LOSSES[setting.loss],
        metrics=losses.METRICS,
        request=request,
        learnt_from=learnt_from,
        options=options,
        finish=finish,
    )
    return fit(task, setting, run / "training", run / "model.keras", preview)
