"""Images whose channels are no red, green and blue, made visible: each channel in a colour of its own, added up."""

import numpy as np

from .pictures import PERCENTILES

COLOURS = {
    "blue": (0, 90, 255),
    "green": (0, 200, 60),
    "red": (255, 40, 40),
    "grey": (150, 150, 150),
    "yellow": (230, 200, 0),
    "magenta": (220, 0, 200),
    "cyan": (0, 190, 220),
    "orange": (255, 130, 0),
}
"""Of channels in their order; a single one is shown in grey."""


def colour_names(count: int) -> list[str]:
    """The names of the colours in which so many channels are shown."""
    return ["grey"] if count == 1 else list(COLOURS)[:count]


def visible(image: np.ndarray) -> np.ndarray:
    """A picture of an image, (H, W, 3) uint8 RGB: the image itself, if it is that.

    Channels as they are stored, (H, W, C), are each stretched between their own percentiles in this picture, coloured
    by `COLOURS`, and added. So the brightness of two pictures cannot be compared.
    """
    if image.ndim == 2 or (image.dtype == np.uint8 and image.shape[2] == 3):
        return image
    names = colour_names(image.shape[2])
    colours = [(255, 255, 255)] if len(names) == 1 else [COLOURS[name] for name in names]
    picture = np.zeros((*image.shape[:2], 3), np.float32)
    for place, colour in enumerate(colours):
        low, high = np.percentile(image[..., place], PERCENTILES)
        share = (image[..., place].astype(np.float32) - low) / max(high - low, 1)
        picture += share.clip(0, 1)[..., None] * np.float32(colour)
    return np.rint(picture.clip(0, 255)).astype(np.uint8)
