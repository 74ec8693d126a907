"""From an image of any size to a foreground probability map of the same size."""

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import keras
import numpy as np

from . import losses, models  # noqa: F401 - registers the layers and losses of saved models
from .files import UserError
from .tiling import grid_origins, pad_to, reduce_image, stitch


def load_model(path: Path) -> keras.Model:
    """Open a saved model for prediction.

    Raises:
        UserError: the file is missing, or is not a Keras model.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            path, "there is no model", "Run notebook 03_unet_training first, or give the path of a .keras file"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            path, f"is not a model that can be read ({reason})", "Give a .keras file of this package"
        ) from error


def predict_batches(model: keras.Model, tiles: Iterator[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Predict tiles one batch at a time and yield their probability maps (T, T) float32 one by one.

    The last batch is filled up with its own last tile, so that only one program is compiled, whatever their number.

    Args:
        model: (N, T, T, 3) uint8 to (N, T, T, 1).
        tiles: (T, T, 3) uint8 RGB, all of one size.
        batch_size: tiles per batch.
    """
    waiting = []

    def flush():
        batch = np.stack(waiting + waiting[-1:] * (batch_size - len(waiting)))
        yield from np.asarray(model.predict_on_batch(batch), np.float32)[: len(waiting), ..., 0]

    for tile in tiles:
        waiting.append(tile)
        if len(waiting) == batch_size:
            yield from flush()
            waiting.clear()
    if waiting:
        yield from flush()


def predict_whole(model: keras.Model, image: np.ndarray, size: int) -> np.ndarray:
    """Non-tiled prediction: reduce the image to the size the network was trained at, predict, enlarge the result.

    This is how the published experiment predicts without tiles, but with the training colours, which the model file
    carries. Small objects lose most of their pixels on the way.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: side of the square that the network sees, pixels.

    Returns:
        (H, W) float32 probability.
    """
    (probability,) = predict_batches(model, iter([reduce_image(image, size)]), batch_size=1)
    return cv2.resize(probability, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def blending_window(tile: int, overlap: int) -> np.ndarray:
    """(tile, tile) float32 weights that fall linearly towards the edges of a tile, over the `overlap` pixels there.

    They stay above zero, so that the border of the image, which only one tile covers, keeps a weight.
    """
    distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 1
    ramp = np.minimum(distance / (overlap + 1), 1)
    return np.outer(ramp, ramp).astype(np.float32)


def alignment(model: keras.Model) -> int:
    """Pixels that the sides of a tile must be a multiple of: the product of all pooling strides."""
    return math.prod(layer.strides[0] for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D))


def predict_tiled(
    model: keras.Model,
    image: np.ndarray,
    tile_size: int = 512,
    overlap: int = 64,
    batch_size: int = 2,
    blend: bool = True,
) -> np.ndarray:
    """Tiled prediction at native resolution, for an image of any size, also smaller than a tile.

    Args:
        image: (H, W, 3) uint8 RGB.
        tile_size: side of a tile, pixels; a multiple of the network's `alignment`, 2^(levels-1) for a U-Net.
        overlap: pixels that neighbouring tiles share, in [0, tile_size / 2].
        batch_size: tiles per batch.
        blend: weigh overlapping tiles by their distance from the edge (`blending_window`); else plain mean.

    Returns:
        (H, W) float32 probability.

    Raises:
        UserError: overlap or tile size out of range.
    """
    if tile_size % alignment(model):
        remedy = f"Use a multiple of {alignment(model)} pixels"
        raise UserError(f"tile size {tile_size}", "does not fit the poolings of the network", remedy)
    if not 0 <= 2 * overlap <= tile_size:
        raise UserError(f"overlap {overlap}", f"does not fit tiles of {tile_size} px", "Use 0 to half of the tile size")
    origins = grid_origins(image.shape, tile_size, tile_size - overlap)
    padded = pad_to(image, *(origins[-1] + tile_size))
    tiles = (padded[row : row + tile_size, column : column + tile_size] for row, column in origins)
    window = blending_window(tile_size, overlap) if blend else None
    return stitch(predict_batches(model, tiles, batch_size), origins, image.shape, window).astype(np.float32)
