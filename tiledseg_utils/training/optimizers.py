"""How weights descend: the optimiser, and how its learning rate falls."""

from collections.abc import Sequence

from ..models.backend import keras
from ..settings.parameters import TrainingSetting


@keras.saving.register_keras_serializable("tiledseg")
class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises through the first epoch of each stage and falls to zero along a cosine over its others.

    It starts low because full steps from random weights upset the batch statistics.

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
            fall = max(1, (epochs - 1) * self.steps)  # A stage of one epoch only rises.
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
