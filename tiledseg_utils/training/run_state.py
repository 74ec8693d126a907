"""What a training keeps on disk after each epoch, so that one that was killed goes on as if nothing had happened.

Its folder holds the whole state: the models of the last epochs and of the best, `epoch_*.keras` (weights, optimiser),
and `state.json`, which counts the epochs and is written last.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ..base.files import UserError, atomic_path, read_record, write_csv, write_json
from ..models.backend import keras
from ..settings.parameters import TrainingSetting
from . import devices
from .batches import TrainingBatches
from .callbacks import Patience


class RunState(keras.callbacks.Callback):
    """Everything that one epoch hands to the next, kept on disk.

    Keras' BackupAndRestore keeps weights and optimiser, but not what early stopping and reduce-on-plateau have counted,
    nor the history; a resumed run would then end elsewhere. It must be the last of the callbacks, to see the others'
    counts after they were updated.

    Args:
        folder: where the state is.
        batches: their `epoch` is set before each epoch.
        is_validated: whether epochs have a validation loss, by which one of them is the best.
        request: everything that decides about the result, as JSON takes it. A state that answers another is refused.
        setting: decides how many of the last models are kept beside the best, and which callbacks have counts.
    """

    COUNTS = ("best", "best_epoch", "wait", "cooldown_counter", "stopped_epoch")

    def __init__(
        self,
        folder: Path,
        batches: TrainingBatches,
        is_validated: bool,
        request: Mapping,
        setting: TrainingSetting,
    ):
        super().__init__()
        self.folder, self.batches, self.is_validated = folder, batches, is_validated
        self.keep = max(1, setting.average_epochs)
        self.counting = _counting_callbacks(setting) if self.is_validated else []
        request = json.loads(json.dumps({**request, "training": asdict(setting)}))  # As it will be read back.
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
