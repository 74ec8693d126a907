"""What scoring the nuclei of a whole slide takes: `python -m tests.benchmarks matching`

Discs on a jittered grid are the reference; the prediction is shifted by a few pixels and has lost some of them.
"""

from pathlib import Path

import cv2
import numpy as np

from tiledseg_utils.base.files import write_json
from tiledseg_utils.base.meter import Meter
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.scoring.matching import match_sweep

from .timing import versions

SHIFT, LOSS = 2, 0.1  # Pixels in both directions; share of the objects.


def draw_nuclei(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference, (size, size) int32, of `count` discs that do not touch."""
    rng = np.random.default_rng(0)
    prediction, reference = np.zeros((2, size, size), np.int32)
    columns = int(np.ceil(np.sqrt(count)))
    cell = size / columns
    for number in range(count):
        radius = rng.uniform(0.2, 0.35) * cell
        corner = np.array(divmod(number, columns)) * cell
        row, column = (int(place) for place in corner + rng.uniform(radius, cell - radius, 2))
        cv2.circle(reference, (column, row), int(radius), number + 1, -1)
        if rng.random() >= LOSS:
            cv2.circle(prediction, (column + SHIFT, row + SHIFT), int(radius), count - number, -1)
    return prediction, reference


def benchmark(size: int, count: int, out: Path) -> None:
    """Score an image of `size` x `size` pixels and `count` nuclei at nine thresholds; print and write what it took."""
    labels = draw_nuclei(size, count)
    rows = []
    for way, rules in {"global": {}, "competition": {"neurips_compat": True}}.items():
        with Meter() as meter:
            matches = match_sweep(*labels, **rules)[0]
        row = {"way": way, "tp": matches.tp, "fp": matches.fp, "fn": matches.fn, "F1": matches.f1}
        rows.append(row | {"seconds": meter.seconds, "peak_mib": meter.peak_mib, "added_mib": meter.added_mib})
    print_table(rows)
    write_json(out, {"size": size, "count": count, "results": rows, "versions": versions("scipy")})
    print(out)
