"""How long does a training step take beside TensorFlow and PyTorch? `python -m tests.benchmarks training`

Forward, gradient and Adam on one batch, with the same layers. TensorFlow trains the very graph of Keras, compiled;
PyTorch its own modules, with activations kept in the order of channels that CPUs prefer. As in the benchmark of
inference, each way works in a process of its own, in turns.

With `--gpu`, on larger batches and with layers in bfloat16: ours beside PyTorch's compiled modules.
"""

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tiledseg_utils.base.files import write_json
from tiledseg_utils.commands.console import print_table

from .timing import in_processes, interleave, require, versions

OURS = "ours"
WAYS = {OURS: "jax", "TensorFlow": "tensorflow", "PyTorch, channels_last": "torch"}
PEERS = {"tensorflow": "tensorflow-cpu", "torch": "torch"}  # What is imported, and what is installed for that.
GPU_WAYS = {OURS: "jax", "PyTorch, compiled, channels_last": "torch"}
NETWORKS = {  # Settings, tiles in a batch, side of a tile.
    "course": ({"base_filters": 16, "levels": 5}, 8, 256),
    "gpu": ({"base_filters": 32, "levels": 5}, 16, 256),
    "original": ({"base_filters": 16, "levels": 8, "first_kernel": 7, "dropout": 0.05, "color_space": "hsv"}, 2, 512),
}
LEARNING_RATE = 1e-4
"""Of preset `original`. At ten times that its network, eight levels without normalisation, learns nothing any more."""

Step = Callable[[], float]
"""Train on the batch once; returns the loss."""


def environment(backend: str, gpu: bool) -> dict[str, str]:
    """Of a process that trains with `backend`: sees no GPU, or lets JAX leave memory of it to PyTorch."""
    device = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return {"KERAS_BACKEND": backend} | device


def batch(tiles: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, the same every time: (N, T, T, 3) uint8 and (N, T, T, 1) float32 in {0, 1}."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (tiles, size, size, 3), np.uint8)
    return images, (generator.random((tiles, size, size, 1)) < 0.5).astype(np.float32)


def keras_step(settings: dict, images: np.ndarray, masks: np.ndarray, precision: str) -> Step:
    """A step of `training.train`, on the backend of this process."""
    from tiledseg_utils.models import build_model
    from tiledseg_utils.models.losses import LOSSES, METRICS
    from tiledseg_utils.training.fit import TrainingSetting, make_optimizer

    model = build_model("unet", settings, precision=precision)
    setting = TrainingSetting(learning_rate=LEARNING_RATE)
    model.compile(make_optimizer(setting), LOSSES[setting.loss], metrics=METRICS)
    return lambda: float(model.train_on_batch(images, masks, return_dict=True)["loss"])


def torch_step(settings: dict, images: np.ndarray, masks: np.ndarray) -> Step:
    """The same in PyTorch; the conversion to HSV, which takes no time to speak of, is left out."""
    from .peers import UNet, torch_training_step

    settings = {name: value for name, value in settings.items() if name != "color_space"}
    return torch_training_step(UNet(**settings), images, masks, LEARNING_RATE)


@functools.cache  # In the process of a way, once for each network.
def prepare(way: str, network: str, gpu: bool) -> Step:
    """The step to be timed."""
    settings, tiles, size = NETWORKS[network]
    if (WAYS | GPU_WAYS)[way] == "torch":
        return torch_step(settings, *batch(tiles, size))
    return keras_step(settings, *batch(tiles, size), "mixed_bfloat16" if gpu else "float32")


def run(way: str, network: str, steps: int, gpu: bool) -> tuple[float, float]:
    """Train for some steps: seconds per step, and the last loss."""
    step = prepare(way, network, gpu)
    start = time.perf_counter()
    losses = [step() for _ in range(steps)]
    return (time.perf_counter() - start) / steps, losses[-1]


def benchmark(networks: list[str], steps: int, rounds: int, gpu: bool, out: Path) -> None:
    """Time the steps of all ways; print and write the results.

    Raises:
        UserError: TensorFlow or PyTorch is missing.
    """
    ways = GPU_WAYS if gpu else WAYS
    peers = {name: package for name, package in PEERS.items() if name in ways.values()}
    require(*peers)
    results = []
    for network in networks:
        step = functools.partial(run, network=network, steps=steps, gpu=gpu)
        with in_processes(step, {way: environment(backend, gpu) for way, backend in ways.items()}) as runs:
            seconds, losses = interleave(runs, rounds)
        median = {way: statistics.median(times) for way, times in seconds.items()}
        results += [
            {
                "network": network,
                "way": way,
                "seconds_per_step": median[way],
                "ours_takes": median[OURS] / median[way],
                "loss": losses[way],
                "rounds": times,
            }
            for way, times in seconds.items()
        ]
    rows = [
        {
            "network": result["network"],
            "way": result["way"],
            "s per step": f"{result['seconds_per_step']:.3g}",
            "ours takes": f"{result['ours_takes']:.2f} x as long",
            "loss": f"{result['loss']:.3f}",
        }
        for result in results
    ]
    print_table(rows)
    write_json(out, {"networks": NETWORKS, "versions": versions(*peers.values()), "results": results})
    print(out)
