"""What training prints after each epoch, and when it stops: early, or because of values that are not finite."""

import math
import time

import numpy as np

from ..base.files import UserError
from ..models.backend import keras


class Patience(keras.callbacks.EarlyStopping):
    """Keras' early stopping, which would otherwise keep a validation loss of nan in the first epoch as the best."""

    def on_epoch_end(self, epoch, logs=None):
        loss = logs["val_loss"] if math.isfinite(logs["val_loss"]) else math.inf
        super().on_epoch_end(epoch, {**logs, "val_loss": loss})


class ProgressLines(keras.callbacks.Callback):
    """One line per epoch, and one per half minute in long epochs: readable in a terminal, a notebook and a log file.

    The first step of the training and of the validation compile the program, which may take minutes. This is announced,
    and not counted in the time that is left.
    """

    def __init__(self):
        super().__init__()
        self.compiled = set()  # Of "training" and "validation", those whose first step is over.

    def _begin_step(self) -> None:
        self.step_began = time.perf_counter()

    def _end_step(self, kind: str) -> None:
        if kind not in self.compiled:
            self.compiled.add(kind)
            self.compiling += time.perf_counter() - self.step_began

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.started = epoch + 1, time.perf_counter()
        self.spoken, self.compiling = self.started, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        if "training" not in self.compiled:
            print("compiling ...", flush=True)
        self._begin_step()

    def on_test_batch_begin(self, batch, logs=None):
        self._begin_step()

    def on_test_batch_end(self, batch, logs=None):
        self._end_step("validation")

    def on_train_batch_end(self, batch, logs=None):
        self._end_step("training")
        now, steps, done = time.perf_counter(), self.params["steps"], batch + 1
        counted = done - (self.compiling > 0)
        if now - self.spoken > 30 and counted:
            self.spoken = now
            left = (now - self.started - self.compiling) / counted * (steps - done)
            print(f"  step {done}/{steps}, {left:.0f} s left in this epoch", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        seconds, steps = time.perf_counter() - self.started, self.params["steps"]
        names = ("loss", "val_loss", "val_dice_coefficient")
        scores = "  ".join(f"{name} {logs[name]:.4f}" for name in names if name in logs)
        usual = (seconds - self.compiling) * steps / max(1, steps - 1) if self.compiling else seconds
        left = usual * (self.params["epochs"] - self.epoch) / 60
        print(
            f"epoch {self.epoch}/{self.params['epochs']}  {seconds:.0f} s  {scores}  <= {left:.1f} min left", flush=True
        )


class StopOnNaN(keras.callbacks.Callback):
    """Stop with a clear error when the loss or the weights are no longer numbers; the last good epoch's state stays."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            where = f"loss at batch {batch + 1} of epoch {self.epoch}"
            raise UserError(where, "is not a finite number", self._remedy())

    def on_epoch_end(self, epoch, logs=None):
        # The last step may have ruined the weights after its loss was computed; nothing could resume from these.
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise UserError(f"weights after epoch {self.epoch}", "are not all finite numbers", self._remedy())

    def _remedy(self) -> str:
        return f"Lower learning_rate or clip_value, and run again; what {self.epoch - 1} epochs learnt is kept"
