"""Training on several devices, and in several processes: each learns from a share of every batch.

All hold the same weights and add up their gradients (data parallelism, `keras.distribution.DataParallel`), so that a
step is that of a single device, up to rounding. Processes, on one machine or several, find each other by
`keras.distribution.initialize`, which comes before anything else of Keras; process 0 writes the files.
"""

import contextlib
from collections.abc import Iterator

from ..base.files import UserError
from ..models.backend import keras


def process() -> tuple[int, int]:
    """The number of this process, from 0, and how many train together."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax  # Only here: other backends train in one process.

    return jax.process_index(), jax.process_count()


def own_share(batch_size: int) -> slice:
    """Which tiles of a batch this process learns from."""
    index, count = process()
    return slice(index * batch_size // count, (index + 1) * batch_size // count)


@contextlib.contextmanager
def on_devices(count: int, batch_size: int) -> Iterator[None]:
    """Let networks that are built in a `with` block train on some devices.

    Args:
        count: of devices, over all processes; 1 is what Keras does anyway, and 0 takes all that there are.
        batch_size: tiles, which the devices share.

    Raises:
        UserError: there are fewer devices, or the batch cannot be shared evenly.
    """
    devices = keras.distribution.list_devices()
    wanted = count or len(devices)
    if wanted > len(devices):
        problem = f"{wanted} are asked for, and there are {len(devices)}: {', '.join(devices)}"
        raise UserError("devices", problem, "Give 0 for all of them, or 1")
    if wanted < len(devices) and process()[1] > 1:
        raise UserError("devices", f"{wanted} are fewer than all processes have", "Give 0 for all of them")
    if batch_size % wanted:
        problem = f"{batch_size} tiles cannot be shared evenly by {wanted} devices"
        raise UserError("batch_size", problem, f"Give a multiple of {wanted}")
    if wanted == 1:
        yield
        return
    with _distribution(keras.distribution.DataParallel(devices=devices[:wanted], auto_shard_dataset=False)):
        yield


def alone() -> contextlib.AbstractContextManager:
    """Let this process do in a `with` block what others do not, such as to write files."""
    return _distribution(None)


@contextlib.contextmanager
def _distribution(value: keras.distribution.DataParallel | None) -> Iterator[None]:
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(value)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
