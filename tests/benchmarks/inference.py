"""How fast is tiled prediction beside the other ways to predict an image? `python -m tests.benchmarks inference`

All ways predict the same image with the same weights, in turns, so that whatever else the machine does hits all of
them. Each works in a process of its own, which waits while the others work. Together in one process, JAX took as long
after PyTorch had worked as it does alone in some runs, but up to a fifth longer in others.

The others run as their users run them, and once more with freed memory kept (`base.memory`), from which they gain, too.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from tiledseg_utils.base.files import write_json
from tiledseg_utils.base.memory import SWITCH
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.models import build_model
from tiledseg_utils.prediction import inference
from tiledseg_utils.scoring.pixels import Predict
from tiledseg_utils.tiles.tiling import grid_origins, pad_to

from .timing import in_processes, interleave, require, versions

MODEL = ("unet", {"base_filters": 16, "levels": 5})  # 1.94 million parameters.
PEERS = ("torch", "monai")


def predict_per_tile(model: keras.Model, image: np.ndarray, tile: int = 512, overlap: int = 128) -> np.ndarray:
    """Call `model.predict` for one tile after the other, as the published experiment did; neighbours meet mid-overlap.

    Args:
        model: (N, tile, tile, 3) to (N, tile, tile, 1).
        image: (H, W, 3) uint8 RGB.
        tile, overlap: pixels.

    Returns:
        (H, W) float32 probability.
    """
    origins = grid_origins(image.shape, tile, tile - overlap)
    padded = pad_to(image, *(origins[-1] + tile))
    result = np.empty(padded.shape[:2], np.float32)
    for row, column in origins:
        pixels = padded[row : row + tile, column : column + tile]
        # Only the upper and left halves of overlaps are spared: later tiles replace the others.
        top, left = overlap // 2 * (row > 0), overlap // 2 * (column > 0)
        probability = model.predict(pixels[None], verbose=0)[0, ..., 0]
        result[row + top : row + tile, column + left : column + tile] = probability[top:, left:]
    return result[: image.shape[0], : image.shape[1]]


def monai(model: keras.Model, channels_last: bool) -> Predict:
    """MONAI's sliding window with the layers and weights of `model`; checks that they are the same."""
    from .peers import Monai, UNet

    predict = Monai(UNet(**MODEL[1]).with_weights_of(model), channels_last)
    image = random_image(96)
    np.testing.assert_allclose(predict.predict_whole(image), inference.predict_whole(model, image), rtol=0, atol=1e-4)
    return predict


WAYS: dict[str, Callable[[keras.Model], Predict]] = {
    "ours, exact": lambda model: functools.partial(inference.predict_tiled, model),
    "whole image": lambda model: functools.partial(inference.predict_whole, model),
    "MONAI": functools.partial(monai, channels_last=False),
    "MONAI, channels_last": functools.partial(monai, channels_last=True),
    "one predict per tile": lambda model: functools.partial(predict_per_tile, model),
}
OURS, WHOLE, *OTHERS = WAYS
KEPT = ", memory kept"
WAYS |= {way + KEPT: WAYS[way] for way in OTHERS}


def random_image(size: int) -> np.ndarray:
    """(size, size, 3) uint8 noise, the same every time."""
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


@functools.cache  # In the process of a way, once.
def prepare(way: str, size: int) -> tuple[Predict, np.ndarray]:
    """The function to be timed, and the image that it gets."""
    return WAYS[way](build_model(*MODEL)), random_image(size)


def run(way: str, size: int, clock: Callable[[], float] = time.perf_counter) -> tuple[float, np.ndarray]:
    """Predict once: seconds, and the probability."""
    predict, image = prepare(way, size)
    start = clock()
    probability = predict(image)
    return clock() - start, probability


def summarize(seconds: Mapping[str, list[float]], outputs: Mapping[str, np.ndarray]) -> list[dict]:
    """For each way its median time, how many times as fast ours is, and how far it is off the whole image at most."""
    median = {way: statistics.median(rounds) for way, rounds in seconds.items()}
    return [
        {
            "way": way,
            "seconds": median[way],
            "megapixels_per_second": outputs[way].size / 1e6 / median[way],
            "ours_is_faster_by": median[way] / median[OURS],
            "max_difference": float(np.abs(outputs[way] - outputs[WHOLE]).max()),
            "rounds": rounds,
        }
        for way, rounds in seconds.items()
    ]


def table_row(result: Mapping) -> dict:
    """A result of `summarize` as a row of text."""
    return {
        "way": result["way"],
        "seconds": f"{result['seconds']:.2f}",
        "Mpx/s": f"{result['megapixels_per_second']:.2f}",
        "ours is": f"{result['ours_is_faster_by']:.2f} x as fast",
        "max difference": f"{result['max_difference']:.1e}",
    }


def benchmark(size: int, rounds: int, out: Path) -> None:
    """Time all ways on a square image of `size` pixels; print and write the results.

    Raises:
        UserError: PyTorch or MONAI is missing.
    """
    require(*PEERS)
    plan = inference.plan_prediction(build_model(*MODEL), (size, size))
    keeps = {way: "1" if way in (OURS, WHOLE) or way.endswith(KEPT) else "0" for way in WAYS}
    with in_processes(functools.partial(run, size=size), {way: {SWITCH: keep} for way, keep in keeps.items()}) as runs:
        results = summarize(*interleave(runs, rounds))
    about = {
        "plan": {"tiles": plan.count, "tile": plan.tile, "computed_per_pixel": round(plan.pixels / size**2, 3)},
        "versions": versions(*PEERS),
    }
    print_table([table_row(result) for result in results])
    for name, content in about.items():
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in content.items())}")
    write_json(out, {"model": MODEL, "image": [size, size], **about, "results": results})
    print(out)
