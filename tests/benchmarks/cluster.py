"""How much faster several workers are than one: `python -m tests.benchmarks cluster`. Each has one thread.

Clusters predict in turns, so that other work on the machine meets both, and each ends before the next begins, since
waiting costs a cluster some of a processor. Each worker has a processor of its own. With `--heights`, it measures
instead whether memory grows with the image.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tiledseg_utils.base.files import hash_file, write_json
from tiledseg_utils.base.meter import Meter
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.models import build_model
from tiledseg_utils.prediction import cluster, inference

from .inference import versions
from .memory import TINY, spread_percent, temporary_folder, write_texture

MODEL = ("unet", {"base_filters": 16, "levels": 4, "patch_size": 2})  # of preset quick

TILE_SIZE = 768  # pixels; with a few large tiles, one worker would get more of them than another
LARGE_TILE = 2048  # pixels, for measuring memory: tiles chosen for each height would differ, and memory with them


def timed(model, image: Path, out: Path, client) -> float:
    start = time.perf_counter()
    inference.predict_file(model, image, out, threshold=0.5, overwrite=True, cluster=client, tile_size=TILE_SIZE)
    return time.perf_counter() - start


def peak_bytes() -> int:
    """The most memory that this process has taken since its start, as Linux counts it: no sample misses it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def memory_of(client) -> float:
    """The most that a worker has taken so far, MiB."""
    return max(client.run(peak_bytes).values()) / 2**20


def table_row(count: int, seconds: float, result: Mapping) -> dict:
    return {
        "workers": count,
        "seconds": f"{seconds:.1f}",
        "Mpx/s": f"{result['megapixels'] / seconds:.2f}",
        "MiB in the largest worker": f"{result['mib'][count]:.0f}",
    }


def memory_benchmark(heights: Sequence[int], columns: int, workers: int, out: Path) -> None:
    """Predict images of several heights in JPEG tiles with a tiny network; print and write what the processes take."""
    rows, model = [], build_model(*TINY)
    with temporary_folder(5 * max(heights) * columns / 2**20 + 100) as folder:
        for height in heights:
            image, mask = folder / "image.tif", folder / "mask.tif"
            write_texture(image, height, columns, "jpeg")
            with cluster.connect(f"local:{workers}") as client, Meter() as meter:
                inference.predict_file(
                    model, image, mask, threshold=0.5, overwrite=True, cluster=client, tile_size=LARGE_TILE
                )
                largest = memory_of(client)
            row = {"rows": height, "columns": columns, "gigapixels": height * columns / 1e9, "seconds": meter.seconds}
            rows.append(row | {"worker_mib": largest, "added_to_client_mib": meter.added_mib})
            print_table(rows[-1:])
    spread = {name: spread_percent([row[name] for row in rows]) for name in ("worker_mib", "added_to_client_mib")}
    of_workers, of_client = spread.values()
    print(f"memory differs by {of_workers:.1f} % in workers, {of_client:.1f} % in the client")
    about = {"model": TINY, "workers": workers, "versions": versions()}
    write_json(out, {**about, "results": rows, "spread_percent": spread})
    print(out)


def benchmark(size: int, workers: int, rounds: int, out: Path) -> None:
    """Predict one image with one worker and with several, in turns; print and write the efficiency."""
    seconds, mib, hashes = {1: [], workers: []}, {}, set()
    with temporary_folder(5 * size**2 / 2**20 + 100) as folder:
        image, small, mask, model = folder / "image.tif", folder / "small.tif", folder / "mask.tif", build_model(*MODEL)
        write_texture(image, size, size)
        write_texture(small, 4 * TILE_SIZE, TILE_SIZE)  # Tiles for all workers, of the same size as those of the image.
        for count in [1, workers] * rounds:
            with cluster.connect(f"local:{count}") as client:
                timed(model, small, mask, client)  # Compiles.
                seconds[count].append(timed(model, image, mask, client))
                mib[count] = memory_of(client)
            hashes.add(hash_file(mask))
    medians = {count: statistics.median(values) for count, values in seconds.items()}
    result = {"megapixels": size**2 / 1e6, "seconds": seconds, "mib": mib, "same_bytes": len(hashes) == 1}
    result["efficiency"] = medians[1] / (workers * medians[workers])
    print_table([table_row(count, value, result) for count, value in medians.items()])
    print(f"efficiency of {workers} workers: {result['efficiency']:.3f}; same bytes: {result['same_bytes']}")
    write_json(out, {"model": MODEL, **result, "versions": versions()})
    print(out)
