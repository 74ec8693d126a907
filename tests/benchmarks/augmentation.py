"""How many tiles a second can be augmented, in one thread? `python -m tests.benchmarks augmentation`

All geometric transforms happen to every sample, ours composed into one resampling, albumentations' one after the other.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tiledseg_utils.base.files import write_json
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.tiles.augmentation import TRANSFORMS, Augmentation, augment

from .timing import interleave, require, versions

OURS = "ours"
GEOMETRIC = TRANSFORMS[: TRANSFORMS.index("stain")]  # Those after it change the image only.
# Both define alpha and sigma as Simard et al. (2003) do; alpha is the figure that albumentations' users know.
SETTINGS = Augmentation(**dict.fromkeys(GEOMETRIC, 1.0), elastic_alpha=300, elastic_sigma=8)

Change = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""From an image, its mask and the number of the sample to the changed image and mask."""


def ours(image: np.ndarray, mask: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """All our geometric transforms."""
    return augment(image, mask, SETTINGS, seed=0, epoch=0, index=index)


def albumentations() -> Change:
    """Flips, an affine map, elastic and optical distortion: fewer transforms than ours."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # It would ask the internet for its latest version.
    import albumentations as library

    pipeline = library.Compose(
        [
            library.HorizontalFlip(p=1),
            library.VerticalFlip(p=1),
            library.Affine(scale=(0.8, 1.25), rotate=(-180, 180), shear=(-6, 6), p=1),
            library.ElasticTransform(alpha=300, sigma=8, p=1),
            library.OpticalDistortion(p=1),
        ],
        seed=0,
    )

    def change(image, mask, index):
        result = pipeline(image=image, mask=mask)
        return result["image"], result["mask"]

    return change


def run(change: Change, size: int, samples: int) -> tuple[float, int]:
    """Augment one tile `samples` times: seconds, and how many pixels of the mask were foreground in the mean."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (size, size, 3), np.uint8)
    mask = (generator.random((size, size)) < 0.5).astype(np.uint8)
    start = time.perf_counter()
    masks = [change(image, mask, index)[1] for index in range(samples)]
    seconds = time.perf_counter() - start
    return seconds, int(np.mean([np.count_nonzero(changed) for changed in masks]))


def benchmark(size: int, samples: int, rounds: int, out: Path) -> None:
    """Augment tiles of `size` pixels; print and write samples per second.

    Raises:
        UserError: albumentations is missing.
    """
    require("albumentations")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        ways = {OURS: ours, "albumentations": albumentations()}
        runs = {way: functools.partial(run, change, size, samples) for way, change in ways.items()}
        seconds, _ = interleave(runs, rounds)
    finally:
        cv2.setNumThreads(threads)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    results = [
        {"way": way, "samples_per_second": samples / time, "ours_is_faster_by": time / median[OURS]}
        for way, time in median.items()
    ]
    rows = [
        {
            "way": result["way"],
            "samples/s": f"{result['samples_per_second']:.0f}",
            "ours is": f"{result['ours_is_faster_by']:.1f} x as fast",
        }
        for result in results
    ]
    print_table(rows)
    write_json(
        out, {"tile": size, "versions": versions("albumentations", "opencv-python-headless"), "results": results}
    )
    print(out)
