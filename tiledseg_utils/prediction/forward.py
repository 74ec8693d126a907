"""Batches of tiles through a network: on all devices, and if asked for turned and mirrored.

Every prediction goes through `forward_pass`, so that maps that are not probabilities, and a device whose memory is
full, end in an error that names the model.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..base.files import UserError
from ..models.backend import keras
from ..models.inputs import classes_of
from ..models.instance_unet import CHANNELS, FLOW, RAYS
from ..models.model_files import name_of
from ..scoring.foreground import check_probabilities

Forward = Callable[[np.ndarray], np.ndarray]
"""(N, h, w, 3) to (N, h, w, 1) probabilities, or (N, h, w, C)."""

_FULL = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "out of memory", "Out of memory")

_COMPILED: weakref.WeakKeyDictionary[keras.Model, Callable] = weakref.WeakKeyDictionary()
"""What `_shared_pass` compiled, for as long as its model is in use."""


def device_count() -> int:
    return len(keras.distribution.list_devices())


def forward_pass(model: keras.Model, test_time_augmentation: bool = False) -> Forward:
    """The model as a function of a batch. JAX shares the batch among all local devices when there are several.

    Args:
        model: (N, h, w, 3) to (N, h, w, C).
        test_time_augmentation: average over the eight symmetries of the square, as `with_test_time_augmentation` does.

    Raises, when it is called:
        UserError: the batch does not fit the model or the memory, or the model does not predict probabilities.
    """
    several = keras.backend.backend() == "jax" and device_count() > 1
    predict = _shared_pass(model) if several else model.predict_on_batch

    def forward(batch: np.ndarray) -> np.ndarray:
        _check_size(model, batch)
        try:
            maps = np.asarray(predict(batch))
        except Exception as error:  # Each backend has its own error for a full memory.
            if not isinstance(error, MemoryError) and not any(word in str(error) for word in _FULL):
                raise
            count, height, width = batch.shape[:3]
            problem = f"needs more memory than there is for {count} tile(s) of {height} x {width} pixels at once"
            remedy = "Predict in smaller tiles: lower --memory-mib, --tile-size or --batch-size"
            raise UserError(name_of(model), problem, remedy) from error
        check_maps(maps, name_of(model), vectors=counts_objects(model))
        return maps

    vectors = counts_objects(model)
    return with_test_time_augmentation(forward, vectors) if test_time_augmentation else forward


def _check_size(model: keras.Model, batch: np.ndarray) -> None:
    for wanted, side in zip(model.input_shape[1:3], batch.shape[1:3], strict=True):
        if wanted not in (None, side):
            sides = " x ".join(map(str, model.input_shape[1:3]))
            raise UserError(name_of(model), f"takes images of {sides} pixels only", "Predict in tiles of that size")


def counts_objects(model: keras.Model) -> bool:
    """Whether a model is an `instance_unet`, some of whose maps are vectors."""
    return model.output_shape[-1] >= CHANNELS and classes_of(model) is None


def check_maps(maps: np.ndarray, name: str, vectors: bool) -> None:
    """Raise a UserError if the maps (..., C) that the model `name` predicted are not probabilities.

    The vectors and rays of `models.instance_unet` may have any finite value.
    """
    remedy = (
        "Give a model whose last layer is a sigmoid, or train it anew with a lower learning rate if it predicts nan"
    )
    count = FLOW.start if vectors else maps.shape[-1]
    check_probabilities(maps[..., :count], name, remedy, "predicts")
    if not np.isfinite(maps[..., count:]).all():
        raise UserError(name, "predicts vectors that are not all finite numbers", remedy)


def _shared_pass(model: keras.Model) -> Forward:
    """The model on all local devices of JAX."""
    import jax  # Only here: on one device, and with every other backend, Keras does it all.

    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("device",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shared = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("device"))
    variables = (model.trainable_variables, model.non_trainable_variables)
    state = jax.device_put([[variable.value for variable in group] for group in variables], everywhere)
    if model not in _COMPILED:
        itself = weakref.ref(model)  # Otherwise the compiled function would keep the model in memory for ever.

        def predict(trained, fixed, batch):
            return itself().stateless_call(trained, fixed, batch, training=False)[0]

        _COMPILED[model] = jax.jit(predict)
    compiled = _COMPILED[model]
    return lambda batch: compiled(*state, jax.device_put(batch, shared))


def with_test_time_augmentation(forward: Forward, vectors: bool = False) -> Forward:
    """The mean of the eight predictions of a batch turned by 0, 90, 180 and 270 degrees, mirrored and not.

    Each prediction is turned back before the mean is taken, and with `vectors`, so are those of `models.instance_unet`:
    a vector that points right in an image that was turned to the left points down in the image itself. Where the views
    disagree, their mean is shorter than a unit vector.

    Tiles and padded images are multiples of the network's alignment, so that turned tiles meet its poolings as the
    turned image would: exact tiles stay exact.
    """

    def averaged(batch: np.ndarray) -> np.ndarray:
        total = 0.0
        for turns in range(4):
            for step in (1, -1):
                view = np.rot90(batch, turns, axes=(1, 2))[:, :, ::step]
                maps = np.asarray(forward(np.ascontiguousarray(view)))
                total += _turned_back(maps, turns, step, vectors)
        return total / 8

    return averaged


def _turned_back(maps: np.ndarray, turns: int, step: int, vectors: bool) -> np.ndarray:
    """Undo, for maps (N, h, w, C), `turns` quarter turns to the left and, before, mirroring (`step` -1)."""
    turned = np.rot90(maps[:, :, ::step], -turns, axes=(1, 2))
    if not vectors:
        return turned
    rows, columns = np.moveaxis(turned[..., FLOW], -1, 0)
    columns = step * columns
    rays = turned[..., CHANNELS:]
    if step == -1:
        rays = np.roll(rays[..., ::-1], RAYS // 2 + 1, axis=-1)  # Ray k pointed where now ray RAYS / 2 - k points.
    for _ in range(turns):
        rows, columns = columns, -rows
        rays = np.roll(rays, RAYS // 4, axis=-1)
    return np.concatenate([turned[..., : FLOW.start], np.stack([rows, columns], -1), rays], -1)


def predict_batches(
    forward: Forward, tiles: Iterable[np.ndarray | None], batch_size: int
) -> Iterator[np.ndarray | None]:
    """Predict tiles one batch at a time and yield their maps, float32, one by one: (h, w), or (h, w, C) if C > 1.

    The last batch is filled up with its own last tile, so that only one program is compiled, whatever their number.
    While a batch is computed and its maps are used, another thread reads the tiles of the next. `forward` runs in the
    caller's thread: `keras.device` and other scopes of Keras and JAX hold for one thread only.

    Args:
        forward: what predicts a batch.
        tiles: (h, w, 3), all of one size; None stands for a tile that need not be predicted, and yields None.
        batch_size: tiles per batch.
    """
    with ThreadPoolExecutor(1) as reader:
        batches = _batches(tiles, batch_size)
        batch = reader.submit(next, batches, None).result()
        while batch is not None:
            following = reader.submit(next, batches, None)
            yield from _predict_batch(forward, batch, batch_size)
            batch = following.result()


def _predict_batch(forward: Forward, batch: list[np.ndarray | None], batch_size: int) -> list[np.ndarray | None]:
    seen = [tile for tile in batch if tile is not None]
    if not seen:
        return batch
    maps = iter(as_maps(forward(np.stack(seen + seen[-1:] * (batch_size - len(seen))))))
    return [None if tile is None else next(maps) for tile in batch]


def as_maps(prediction) -> np.ndarray:
    """What a model predicts, as float32, without the axis of a single channel."""
    maps = np.asarray(prediction, np.float32)
    return maps[..., 0] if maps.shape[-1] == 1 else maps


def _batches(tiles: Iterable[np.ndarray | None], batch_size: int) -> Iterator[list[np.ndarray | None]]:
    """Lists of tiles of which `batch_size`, in the last list perhaps fewer, are not None."""
    batch, seen = [], 0
    for tile in tiles:
        batch.append(tile)
        seen += tile is not None
        if seen == batch_size:
            yield batch
            batch, seen = [], 0
    if batch:
        yield batch
