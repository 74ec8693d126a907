"""Does the memory that streaming a file takes depend on its height? `python -m tests.benchmarks memory`

Each image is streamed by a process of its own, since a process seldom gives back memory that it once had.
"""

import contextlib
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tifffile

from tiledseg_utils.base.files import UserError, write_json
from tiledseg_utils.base.meter import Meter
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.models import build_model
from tiledseg_utils.prediction import inference

from .inference import MODEL, versions

TILE = 512  # of the generated files, pixels
TINY = ("unet", {"base_filters": 2, "levels": 2, "patch_size": 4})


def texture(rows: int, columns: int) -> Iterator[np.ndarray]:
    """Smooth random colours as the (TILE, TILE, 3) uint8 tiles of a TIFF file, made one band at a time."""
    rng = np.random.default_rng(0)
    width = -(-columns // TILE) * TILE
    for _ in range(0, rows, TILE):
        coarse = rng.integers(0, 256, (TILE // 8, width // 8, 3), np.uint8)
        band = cv2.resize(coarse, (width, TILE), interpolation=cv2.INTER_LINEAR)
        for column in range(0, width, TILE):
            yield band[:, column : column + TILE]


def write_texture(path: Path, rows: int, columns: int, compression: str | None = None) -> None:
    """Write a BigTIFF file in tiles that never was in memory as a whole."""
    shape = {"shape": (rows, columns, 3), "dtype": np.uint8, "tile": (TILE, TILE)}
    options = {"photometric": "rgb", "bigtiff": True, "compression": compression}
    tifffile.imwrite(path, texture(rows, columns), **shape, **options)


def stream(model_path: Path, image: Path, out: Path) -> dict:
    """Predict a file to a file, in this process, and measure what that takes on top of a model in use."""
    model = inference.load_model(model_path)
    inference.predict_tiled(model, np.zeros((64, 64, 3), np.uint8))
    with Meter() as meter:
        results = inference.predict_file(model, image, out, threshold=0.5)
    return {
        "model_mib": meter.before_mib,
        "added_mib": meter.added_mib,
        "seconds": meter.seconds,
        "prediction": results,
    }


def measure(model_path: Path, folder: Path, rows: int, columns: int, compression: str | None = None) -> dict:
    """Make an image, stream it in a new process, and delete it."""
    image, out = folder / "image.tif", folder / "mask.tif"
    write_texture(image, rows, columns, compression)
    context = multiprocessing.get_context("spawn")  # A fork would start with the memory of this process.
    with ProcessPoolExecutor(1, context) as child:
        results = child.submit(stream, model_path, image, out).result()
    image.unlink()
    out.unlink()
    megapixels = rows * columns / 1e6
    speed = {"megapixels": megapixels, "megapixels_per_second": megapixels / results["seconds"]}
    return {"rows": rows, "columns": columns, **speed, **results}


def spread_percent(values: Sequence[float]) -> float:
    """By how much the largest exceeds the smallest."""
    return 100 * (max(values) / min(values) - 1)


def table_row(result: dict) -> dict:
    """A measurement as a row of text."""
    return {
        "rows x columns": f"{result['rows']} x {result['columns']}",
        "Mpx": f"{result['megapixels']:.0f}",
        "seconds": f"{result['seconds']:.1f}",
        "Mpx/s": f"{result['megapixels_per_second']:.2f}",
        "model MB": f"{result['model_mib']:.0f}",
        "added MiB": f"{result['added_mib']:.0f}",
    }


@contextlib.contextmanager
def temporary_folder(megabytes: float) -> Iterator[Path]:
    """A folder that vanishes afterwards, on a disk with so much space.

    Raises:
        UserError: there is less.
    """
    with tempfile.TemporaryDirectory(prefix="tiledseg_") as folder:
        free = shutil.disk_usage(folder).free / 2**20
        print(f"Up to {megabytes:.0f} MB of temporary files in {folder}, where {free:.0f} MB are free")
        if free < megabytes:
            raise UserError(folder, "has too little space", "Set TMPDIR to a folder on a larger disk")
        yield Path(folder)


def benchmark(
    shapes: Sequence[tuple[int, int]],
    further: Sequence[tuple[int, int]],
    out: Path,
    compression: str | None = None,
    is_tiny: bool = False,
) -> None:
    """Stream images of `shapes` (rows, columns), whose memory is compared, and `further` ones; print and write it.

    A tiny network needs little time, so that large images can be measured.
    """
    network = TINY if is_tiny else MODEL
    largest = max(rows * columns for rows, columns in [*shapes, *further])
    with temporary_folder(5 * largest / 2**20 + 100) as folder:  # RGB, the mask, and as much in reserve.
        model_path = folder / "model.keras"
        build_model(*network).save(model_path)
        results = [measure(model_path, folder, *shape, compression) for shape in [*shapes, *further]]
    spread = spread_percent([result["added_mib"] for result in results[: len(shapes)]]) if shapes else None
    print_table([table_row(result) for result in results])
    if shapes:
        print(f"Added memory differs by {spread:.1f} % between {len(shapes)} heights")
    made_with = {"model": network, "compression": compression, "versions": versions()}
    write_json(out, {**made_with, "results": results, "spread_percent": spread})
    print(out)
