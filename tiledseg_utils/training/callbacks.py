"""What training says after each epoch, and when it stops: early, or because numbers are none any more."""

import math
import time

import numpy as np

from ..base.files import UserError
from ..models.backend import keras


class Patience(keras.callbacks.EarlyStopping):
    """Keras' early stopping, to which a validation loss of nan in the first epoch would stay the best for ever."""

    def on_epoch_end(self, epoch, logs=None):
        loss = logs["val_loss"] if math.isfinite(logs["val_loss"]) else math.inf
        super().on_epoch_end(epoch, {**logs, "val_loss": loss})


class ProgressLines(keras.callbacks.Callback):
    """One line per epoch, and one per half minute in long epochs: readable in a terminal, a notebook and a log file.

    The first step, and the first of the validation, compile the program, for up to minutes. That is announced, and what
    is said to be left does not count it.
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
        # The last step may ruin what its own loss did not show yet, and no resumed training could mend it.
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise UserError(f"weights after epoch {self.epoch}", "are not all finite numbers", self._remedy())

    def _remedy(self) -> str:
        return f"Lower learning_rate or clip_value, and run again; what {self.epoch - 1} epochs learnt is kept"
