"""Prediction on several machines: Dask gives each worker tiles, and the maps come back in their order.

The plan of tiles is the same as on one machine, and what is done with the maps stays on the machine that asks: a result
does not depend on the number of workers, and an interrupted one goes on as ever. Workers read the image themselves, so
its path must be the same for all, and they write nothing. If one dies, Dask gives its tiles to another. (Rocklin 2015,
"Dask: parallel computation with blocked algorithms and task scheduling", Proc. 14th Python in Science Conference.)
"""

import contextlib
import functools
import itertools
import json
import os
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..base.files import UserError, require_file
from ..base.text import printable
from ..base.version import VERSION
from ..data.pictures.part import ImagePart
from ..data.pictures.remote import absolute
from ..data.streaming import Source, open_source
from ..models.backend import keras
from ..models.instance_unet import INSTANCE_CHANNELS
from ..models.model_files import fingerprint, load_model
from ..settings.parameters import PredictionSetting
from ..tiles.planning import Plan
from .tiled import normalized, predict_maps

WAITING = 2  # tasks for each thread of the workers: one that runs, and one that waits
PATIENCE = 10  # seconds in which a scheduler must answer
BATCHES = 4  # of tiles in a task, at least, unless there are too few for all workers
LARGEST = 2**24  # numbers in the maps of a task, unless a single batch has more: they wait in memory, several at a time
SHARES = 2  # for each worker, at least, into which what is left to do is divided
INSTALL = 'In the folder of the clone: pip install --constraint requirements.lock ".[cluster]"'

_ONE_AT_A_TIME = threading.Lock()
"""A worker may have several threads, and a model predicts for one at a time; JAX uses the others by itself."""


@contextlib.contextmanager
def connect(address: str | None) -> Iterator:
    """Connect to a cluster, or start one on this machine; yields a `distributed.Client`, or None for None.

    Args:
        address: "local" or "local:N" for N processes on this machine, by default one for each processor; the address
            of a scheduler, such as "tcp://10.0.0.5:8786"; or the path of a scheduler's JSON file.

    Raises:
        UserError: the packages of the extra `cluster` are missing, or the scheduler cannot be reached.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UserError("--cluster", f"needs packages that are missing ({error.name})", INSTALL) from error
    with contextlib.ExitStack() as stack:
        if address.split(":")[0] == "local":
            count = _count_of(address)
            local = LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None)
            # Maps come from the workers themselves, not through the scheduler, which would copy them twice.
            client = stack.enter_context(Client(stack.enter_context(local), direct_to_workers=True))
            client.register_plugin(_one_processor_each(), name="one processor each")
            yield client
            return
        client = stack.enter_context(_connected(Client, address))
        if not client.nthreads():
            print(f"{printable(address)}: waiting for the first worker", file=sys.stderr, flush=True)
            client.wait_for_workers(1)
        yield client


def _one_processor_each():
    """What gives each worker a processor of its own, so that they do not wait for each other's threads.

    JAX starts as many threads as there are processors for it, which is when a worker gets its first task. Systems other
    than Linux have no such bounds for processes.
    """
    from distributed import WorkerPlugin

    class OneProcessorEach(WorkerPlugin):
        def setup(self, worker):
            if hasattr(os, "sched_setaffinity"):
                processors = sorted(os.sched_getaffinity(0))
                own = {processors[int(worker.name) % len(processors)]}
                for thread in os.listdir("/proc/self/task"):
                    with contextlib.suppress(ProcessLookupError):  # It has ended since.
                        os.sched_setaffinity(int(thread), own)

    return OneProcessorEach()


def _connected(client_class, address: str):
    """A client of the scheduler at an address, or of the one that a JSON file names."""
    try:
        if not address.endswith(".json"):
            return client_class(address, timeout=PATIENCE)
        require_file(address)  # Dask would wait for it.
        return client_class(scheduler_file=address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        reason = error.problem if isinstance(error, UserError) else str(error).splitlines()[0]
        remedy = "Start it with dask scheduler, and give its address (tcp://host:8786) or its JSON file"
        raise UserError(address, f"is no scheduler that can be reached ({reason})", remedy) from error


def _count_of(address: str) -> int:
    """The number of workers in "local:N"."""
    _, _, number = address.partition(":")
    if not number:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not number.isdigit() or not 1 <= int(number) <= 1024:
        raise UserError(f"--cluster {address}", "names no number of workers", "Give local:N with N from 1 to 1024")
    return int(number)


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to predict tiles.

    Attributes:
        model: fingerprint of the model, whose file goes to the workers once.
        image: what to read.
        identity: of the image, as the machine that asks sees it.
        measured: of the whole image, see `streaming.Source.measure`.
        plan: where the tiles lie.
        setting, skip_contrast: as for `files.predict_file`.
        empty: tiles that show no tissue, see `tissue.tiles_without_tissue`; None predicts them all.
        version: of this package.
    """

    model: str
    image: ImagePart
    identity: dict
    measured: tuple
    plan: Plan
    setting: PredictionSetting
    skip_contrast: int
    empty: np.ndarray | None
    version: str


def maps_from(
    cluster,
    model: keras.Model,
    source: Source,
    plan: Plan,
    setting: PredictionSetting,
    first_row: int = 0,
    skip_contrast: int = 0,
    empty: np.ndarray | None = None,
) -> Iterator[np.ndarray | None]:
    """As `tiled.predict_maps` from a row of tiles on, computed by the workers of a cluster; here if that is None.

    Workers send only the pixels of a map that count; the others hold anything. What is yielded is valid until the next
    map is asked for: its memory is used again.

    Raises:
        UserError: the image is not in a file; a worker has another version of this package or another file under the
            image's path; or one died several times with the same rows.
    """
    tiles = range(first_row * len(plan.columns.origins), plan.count)
    if cluster is None:
        with contextlib.closing(predict_maps(model, source, plan, setting, tiles, skip_contrast, empty)) as maps:
            yield from maps
        return
    if source.part is None:
        raise UserError(source.name, "is in memory, and workers read images from files", "Save it, and give its path")
    image = normalized(source, model)
    job = Job(
        model=fingerprint(model),
        image=replace(source.part, path=absolute(source.part.path)),
        identity=_facts(source),
        measured=image.measure(),
        plan=plan,
        setting=setting,
        skip_contrast=skip_contrast,
        empty=empty,
        version=VERSION,
    )
    job, weights = (_shared(cluster, each) for each in (job, _file_of(model)))
    workers = max(1, sum(cluster.nthreads().values()))
    map_size = plan.rows.tile * plan.columns.tile * model.output_shape[-1]
    parts = _divide(tiles, len(plan.columns.origins), setting.batch_size, workers, map_size)
    submit = functools.partial(cluster.submit, predict_tiles, job, weights, pure=False)
    waiting = deque(submit(part) for part in itertools.islice(parts, WAITING * workers))
    whole = None
    while waiting:
        part, maps = _result(waiting.popleft())
        waiting += [submit(part) for part in itertools.islice(parts, 1)]
        for index, used in zip(part, maps, strict=True):
            if used is None:
                yield None
                continue
            if whole is None:
                whole = np.zeros((plan.rows.tile, plan.columns.tile, *used.shape[2:]), used.dtype)
            whole[_used(plan, index)] = used
            yield whole


def _shared(cluster, value):
    """A future of what all tasks need: with each of them, the scheduler would keep another copy.

    It is the result of a task, since Dask does a task again where the workers that hold its result have died. Scattered
    data would be lost, and all would wait for it.
    """
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # It is sent only once.
        return cluster.submit(_itself, value, pure=False)


def _itself(value):
    return value


def _divide(tiles: range, across: int, batch_size: int, workers: int, map_size: int) -> Iterator[range]:
    """Tiles for one task after the other: whole batches, so that each is predicted as in a single process.

    A task has about a row of tiles, since rows of the image are read as a whole, and several batches; fewer, where the
    map of a tile has many numbers (`map_size`). Towards the end, tasks become smaller, so that no worker waits long for
    the last (Polychronopoulos & Kuck 1987, "Guided self-scheduling", IEEE Transactions on Computers C-36).
    """
    most = min(max(across, BATCHES * batch_size), LARGEST // map_size)
    wanted = max(1, -(-most // batch_size))
    start = tiles.start
    while start < tiles.stop:
        share = (tiles.stop - start) // (SHARES * workers * batch_size)
        stop = min(start + batch_size * max(1, min(wanted, share)), tiles.stop)
        yield range(start, stop)
        start = stop


def _result(future) -> tuple[range, list[np.ndarray | None]]:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        remedy = "Give workers more memory, or lower --memory-mib or --batch-size; the same command goes on from here"
        raise UserError("the cluster", f"lost several workers at the same rows ({error})", remedy) from error
    except ModuleNotFoundError as error:
        remedy = "Install the same version of tiledseg on all machines"
        raise UserError("the cluster", f"has a worker that lacks {error.name}", remedy) from error


def _file_of(model: keras.Model) -> bytes:
    """The bytes of a model's .keras file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        return path.read_bytes()


def _facts(source: Source) -> dict:
    """What tells an image from others on every machine: clocks and mounted folders may differ."""
    return {name: value for name, value in source.identity().items() if name not in ("path", "mtime_ns")}


def _used(plan: Plan, index: int) -> tuple[slice, slice]:
    """The rows and columns of a tile that count."""
    row, column = divmod(index, len(plan.columns.origins))
    return plan.rows.used(row), plan.columns.used(column)


def predict_tiles(job: Job, weights: bytes, tiles: range) -> tuple[range, list[np.ndarray | None]]:
    """The maps of some tiles, without the pixels that do not count; what a worker does."""
    if job.version != VERSION:
        problem = f"has a worker with tiledseg {VERSION}, where {job.version} asks"
        raise UserError("the cluster", problem, "Install the same version on all machines")
    with _ONE_AT_A_TIME:
        return tiles, _predict_tiles(job, weights, tiles)


def _predict_tiles(job: Job, weights: bytes, tiles: range) -> list[np.ndarray | None]:
    model, source = _loaded(job.model, weights), _opened(job.image, json.dumps(job.identity))
    if _facts(source) != job.identity:
        problem = "is another file where a worker looks"
        raise UserError(job.image.path, problem, "Put images where all machines see them under the same path")
    image = normalized(source, model)
    image.measure(job.measured)
    wanted = (job.plan, job.setting, tiles, job.skip_contrast, job.empty)
    with contextlib.closing(predict_maps(model, image, *wanted)) as maps:
        return [
            None if found is None else np.ascontiguousarray(found[_used(job.plan, index)])
            for index, found in zip(tiles, maps, strict=True)
        ]


_LOADED: dict[str, keras.Model] = {}
"""The model of the last task by its fingerprint: compiling it takes longer than many tasks."""


def _loaded(name: str, weights: bytes) -> keras.Model:
    """The model of a fingerprint; its file has other bytes each time that it is written."""
    if name not in _LOADED:
        _LOADED.clear()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            path.write_bytes(weights)
            _LOADED[name] = load_model(path, (1, *INSTANCE_CHANNELS), classes=True)
    return _LOADED[name]


@functools.lru_cache(1)
def _opened(part: ImagePart, identity: str) -> Source:
    """An image, kept from task to task; `identity` tells a file from an older one of its name."""
    return open_source(part)
