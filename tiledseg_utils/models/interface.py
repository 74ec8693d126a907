"""What goes into a network and what comes out: RGB and a probability of foreground, unless its data are other."""

from dataclasses import dataclass

from ..base.files import UserError
from ..data.channels import Channels
from ..data.classes import Classes
from .backend import keras
from .inputs import ChannelInput


@dataclass(frozen=True)
class Interface:
    """What a network takes and predicts.

    Attributes:
        channels: of its images, as they are stored: (N, H, W, C) uint8 or uint16 in. None: (N, H, W, 3) uint8 RGB in.
        classes: that it tells apart: (N, H, W, C) float32 probabilities out, which add up to 1. None: (N, H, W, 1) out,
            the probability of foreground.
    """

    channels: Channels | None = None
    classes: Classes | None = None

    @property
    def maps(self) -> int:
        """How many probabilities there are of each pixel."""
        return 1 if self.classes is None else len(self.classes)

    def stored_input(self, top: float = 1.0):
        """The input of a network for `channels`, and its first features, float in [0, `top`]."""
        channels = self.channels
        inputs = keras.Input((None, None, len(channels)), dtype=channels.dtype, name="image")
        return inputs, ChannelInput(channels.numbers, channels.dtype, channels.low, channels.high, top)(inputs)

    def require_colours(self, setting: str, remedy: str) -> None:
        """Raise a UserError if a `setting` needs red, green and blue, and there are other channels."""
        if self.channels is not None:
            raise UserError(setting, "is for red, green and blue, but channels are given", remedy)


USUAL = Interface()
"""RGB in, a probability of foreground out."""
