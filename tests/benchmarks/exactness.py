"""Are exact tiles really exact? `python -m tests.benchmarks exactness`

Many networks, images and tiles, against the prediction of the whole image.

U-Nets of 2 to 6 levels, with and without batch normalisation, with random weights and after a short training on a
generated smear; ten image sizes that are multiples of nothing; tiles of 256 to 1024 px and of the planner's own choice.
Beside them what has to differ: tiles without a halo, and tiles off the grid of the poolings.
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tiledseg_utils.base.files import UserError, progress, write_json
from tiledseg_utils.commands.console import print_table
from tiledseg_utils.data.synthetic import draw_smear
from tiledseg_utils.models import build_model
from tiledseg_utils.models.losses import bce_dice_loss
from tiledseg_utils.models.receptive_field import receptive_field
from tiledseg_utils.prediction.inference import plan_prediction, predict_plan, predict_whole
from tiledseg_utils.tiles.planning import make_plan

SIZES = [(61, 83), (257, 391), (513, 1025), (1201, 333), (701, 699)]
SIZES += [(999, 1003), (41, 1499), (1111, 517), (643, 1277), (1537, 1539)]
TILES = (256, 512, 768, 1024, 0)  # 0: chosen by the planner within MEMORY_MB
MEMORY_MB = 60


def train_briefly(model: keras.Model, image: np.ndarray, mask: np.ndarray, steps: int = 150) -> None:
    """Teach a model one image, by parts of 128 px around foreground, until its probabilities spread from 0 to 1."""
    rng = np.random.default_rng(0)
    centres = rng.choice(np.argwhere(mask), 4 * steps)
    corners = np.clip(centres - rng.integers(0, 128, centres.shape), 0, np.array(mask.shape) - 128)
    views = [np.s_[row : row + 128, column : column + 128] for row, column in corners]
    model.compile(keras.optimizers.Adam(2e-3), loss=bce_dice_loss)
    batches = np.stack([image[view] for view in views]), np.stack([mask[view] for view in views])[..., None]
    model.fit(*batches, batch_size=4, shuffle=False, verbose=0)


def measure(model: keras.Model, image: np.ndarray) -> dict:
    """Largest differences from the whole image: of exact tiles, without a halo, and off the grid."""
    field = receptive_field(model)
    worst = {"predictions": 0, "tiles": 0, "exact": 0.0, "no halo": 0.0, "off the grid": 0.0}

    def note(name: str, part: np.ndarray, plan, whole: np.ndarray) -> None:
        difference = np.abs(predict_plan(model, part, plan) - whole).max()
        worst[name] = max(worst[name], float(difference))

    for size in SIZES:
        part = image[: size[0], : size[1]]
        whole = predict_whole(model, part)
        for tile in TILES:
            try:
                plan = plan_prediction(model, part.shape, tile_size=tile, memory_mib=MEMORY_MB)
            except UserError:  # The tile is all halo.
                continue
            note("exact", part, plan, whole)
            worst["predictions"] += 1
            worst["tiles"] += plan.count
        if min(size) > 600:
            tile, halo = 2 * field.halo + 192, field.halo
            note("no halo", part, make_plan(part.shape, tile, 0, 0, field.alignment), whole)
            note("off the grid", part, make_plan(part.shape, tile, 2 * halo + 1, halo, field.alignment), whole)
    return worst


def benchmark(levels: Sequence[int], out: Path) -> None:
    """Measure U-Nets of these numbers of levels; print and write a row for each network."""
    image, labels = draw_smear(7, 0, max(map(max, SIZES)))
    rows = []
    cases = [(count, normalization) for count in levels for normalization in ("none", "batch")]
    for count, normalization in progress(cases, unit="network"):
        settings = {"base_filters": 4, "levels": count, "normalization": normalization, "seed": 1}
        model = build_model("unet", settings)
        for weights in ("random", "trained"):
            if weights == "trained":
                train_briefly(model, image, labels > 0)
            network = {"levels": count, "normalization": normalization, "weights": weights}
            rows.append(network | measure(model, image))
    texts = [
        {name: f"{value:.1e}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]
    print_table(texts)
    largest, count = max(row["exact"] for row in rows), sum(row["predictions"] for row in rows)
    print(f"{count} predictions, exact to {largest:.1e}")
    write_json(out, {"sizes": SIZES, "tiles": TILES, "results": rows})
    print(out)
