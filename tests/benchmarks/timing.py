"""What the benchmarks of speed share: peers, turns, versions."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

from tiledseg_utils.base.files import UserError


def require(*names: str) -> None:
    """Raise UserError if one of the packages that we compare with is missing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(name, "is not installed", 'Install the benchmark\'s packages: pip install -e ".[bench]"')


@contextlib.contextmanager
def in_processes(run: Callable, environments: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, Callable]]:
    """Start a process for each way, with its own environment variables added, that calls `run(way)` on demand."""

    def call(process: ProcessPoolExecutor, way: str):
        return process.submit(run, way).result()

    with contextlib.ExitStack() as processes:
        runs = {}
        for way, environment in environments.items():
            process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            processes.enter_context(process)
            with mock.patch.dict(os.environ, environment):
                process.submit(os.getpid).result()  # Starts it.
            runs[way] = functools.partial(call, process, way)
        yield runs


def interleave(runs: Mapping[str, Callable[[], tuple]], rounds: int) -> tuple[dict[str, list[float]], dict]:
    """Call each of `runs` once to warm up, then all of them in turns, `rounds` times.

    Returns:
        by way: the seconds of each round; what the warm-up returned.
    """
    outputs, seconds = {}, {way: [] for way in runs}
    for way, call in runs.items():
        print(f"warming up {way}", flush=True)
        outputs[way] = call()[1]
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for way, call in runs.items():
            seconds[way].append(call()[0])
    return seconds, outputs


def versions(*names: str) -> dict:
    """What was measured, and on how many CPUs."""
    packages = {name: importlib.metadata.version(name) for name in ("keras", "jax", *names)}
    return {"python": platform.python_version(), **packages, "cpus": os.cpu_count()}
