"""Fair rivals of tiled prediction: ways without tiles that had a chance, and what each is worth and costs.

A network that learnt from tiles at native resolution has seen hardly any reduced images. So the rivals go on learning:
they begin with its weights, and learn from tiles of images that are reduced as they will be later.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..base.files import UserError, read_record
from ..base.meter import Meter
from ..data import images
from ..data.pictures import write_channels, write_image
from ..models import losses
from ..models.backend import keras
from ..models.receptive_field import receptive_field
from ..models.reduced import network_within
from ..scoring import pixels, statistics
from ..settings.parameters import TileSetting, TrainingSetting
from ..settings.schema import read
from ..tiles import tiling
from ..tiles.augmentation import Augmentation
from ..training.batches import TrainingBatches, read_training_tiles
from ..training.callbacks import StopOnNaN
from ..training.fit import make_optimizer

COSTS = {"seconds": "seconds", "added MiB": "added_mib"}
"""The costs of a way in a table: title, and key in a row of `measure`."""


def how_it_learnt(run: Path) -> tuple[TrainingSetting, Mapping, int]:
    """How the network of a run was trained by notebook 3: the setting, the augmentation and the seed.

    Raises:
        UserError: notebook 3 has not run to its end, or its record is damaged.
    """
    path = Path(run) / "training" / "state.json"
    if not path.exists():
        raise UserError(path, "notebook 03_unet_training has not run to its end in this run folder", "Run it first")
    request = read_record(path, {"request": {}}, "Run notebook 03_unet_training again")["request"]
    return read(TrainingSetting, request["training"], "training"), request["augmentation"], request["seed"]


def shortened(setting: TrainingSetting, epochs: int) -> TrainingSetting:
    """A training that only adapts a network: some epochs, in batches half as large, without stages or averages."""
    batch_size = max(1, setting.batch_size // 2)
    return replace(setting, epochs=epochs, batch_size=batch_size, pretraining_epochs=0, average_epochs=0)


def reducing_sizes(side: int, shapes: Sequence[tuple[int, int]], reduction: int = 1) -> list[int]:
    """Sizes to reduce images to: the side of a tile, and twice and four times it where every image is larger.

    Args:
        side: of a tile, pixels.
        shapes: of the images, (height, width).
        reduction: by which the network itself reduces its images. Rivals must reduce them further than that.
    """
    shortest = min(min(shape) for shape in shapes) // reduction
    return [side, *(size for size in (2 * side, 4 * side) if size < shortest)]


def reduced_tiles(train: Sequence[images.Pair], size: int, run: Path) -> Path:
    """Reduce the training images of a run, and cut them into tiles of the same side as those of the run.

    Masks of classes become masks of their foreground, by which the ways are compared.

    Args:
        train: source images to learn from; generated ones that learn along (`<run>/added`) are taken, too.
        size: side of the reduced images, pixels, at least the side of a tile.
        run: run folder with `tiles`; the folder `baselines/reduced_<size>` is written.

    Returns:
        folder of the tile set. Its tiles overlap by half where a reduced image holds few of them.
    """
    run = Path(run)
    manifest = tiling.read_manifest(run / "tiles")
    side = tiling.read_tiles(run / "tiles", manifest[:1])[0].shape[1]
    folder, reduced = run / "baselines" / f"reduced_{size}", {}
    added = images.find_pairs(run / "added") if (run / "added").is_dir() else []
    added = [replace(pair, stem=f"added_{pair.stem}") for pair in added]
    for name, pairs in {"train": train, tiling.ADDED: added}.items():
        reduced[name] = []
        for pair in pairs:
            image, mask = (tiling.reduce_image(array, size) for array in images.read_pair(pair))
            suffix, write = (".tif", write_channels) if pair.channels else (".png", write_image)
            path = folder / "images" / f"{pair.stem}{suffix}"
            small = replace(pair, image=path, mask=folder / f"masks/{pair.stem}.png", classes=None)
            write(small.image, image, sync=False)
            write_image(small.mask, mask, sync=False)
            if pair.channels:  # In the file that was written, they are the first.
                small = replace(small, channels=tuple(range(len(pair.channels))))
            reduced[name].append(small)
    normalization = tiling.normalization_of_tiles(manifest)
    stride = min(side, max(size // 4, -(-side // 16)))
    how = {"empty": "down-weight", "empty_weight": 0.3, "reduced": False}
    how |= {normalization: True} if normalization else {}
    how |= {"channels": list(reduced["train"][0].channels)}
    tiling.write_tile_set(reduced, folder / "tiles", TileSetting(tile_size=side, stride=stride, **how))
    return folder / "tiles"


class _TellEpoch(keras.callbacks.Callback):
    """Tells the batches which epoch it is, since they draw their samples by it."""

    def __init__(self, batches: TrainingBatches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


def go_on_learning(
    network: keras.Model, tiles: Path, setting: TrainingSetting, augmentation: Mapping, seed: int
) -> keras.Model:
    """Train a network further, on other tiles; a line for each epoch.

    Args:
        network: is changed; of a `models.reduced` one, the network within it.
        tiles: folder of a tile set.
        setting: its epochs, steps, batch size, loss, optimiser and learning rate hold; there is no validation.
        augmentation: see `augmentation.Augmentation`.
        seed: of the draws of tiles and their augmentation.

    Returns:
        the network that learnt.
    """
    network = network_within(network)
    batches = TrainingBatches(read_training_tiles(tiles), setting, seed, Augmentation.from_dict(augmentation))
    network.compile(make_optimizer(setting), losses.LOSSES[setting.loss], metrics=losses.METRICS)
    # Keras would shuffle the batches with a generator that nobody has seeded.
    callbacks = [_TellEpoch(batches), StopOnNaN()]
    network.fit(batches, epochs=setting.epochs, callbacks=callbacks, shuffle=False, verbose=2)
    return network


def measure(
    way: str,
    predict: Callable[[np.ndarray], np.ndarray],
    pairs: Sequence[images.Pair],
    tiled: Mapping[str, float],
    threshold: float,
    min_area: int = 0,
    min_confidence: float = 0.0,
    seed: int = 0,
    warm_up: bool = True,
) -> tuple[dict, dict[str, np.ndarray]]:
    """What a way of predicting is worth and costs, beside tiled prediction of the same images.

    Args:
        way: its name.
        predict: from an image (H, W, 3) uint8 RGB to its probability (H, W) float32.
        pairs: images to score whole.
        tiled: Dice of tiled prediction, by stem.
        threshold, min_area, min_confidence: see `foreground.find_foreground`.
        seed: of the interval.
        warm_up: predict the first image once beforehand, so that compiling is not timed.

    Returns:
        `way`, `dice` and `iou` as in `pixels.summarize`, `difference` (`dice_mean` and `ci95` of tiled less this
        way), `seconds`, `megapixels_per_second` and `added_mib`, as in `model_comparison.compare`;
        masks (H, W) bool by stem.
    """
    if warm_up:
        predict(images.image_of(pairs[0]))
    meters = []

    def metered(image: np.ndarray) -> np.ndarray:
        with Meter() as meter:
            probability = predict(image)
        meters.append(meter)
        return probability

    masks, counts = pixels.score_images(metered, pairs, threshold, min_area, min_confidence)
    summary, seconds = pixels.summarize(counts), sum(meter.seconds for meter in meters)
    difference = statistics.paired_difference(tiled, summary["dice"]["per_image"], seed)
    row = {"way": way, "dice": summary["dice"], "iou": summary["iou"]}
    row |= {"difference": {"dice_mean": difference["mean"], "ci95": difference["ci95"]}}
    row |= {"seconds": round(seconds, 3)}
    row |= {"megapixels_per_second": round(sum(mask.size for mask in masks.values()) / 1e6 / seconds, 3)}
    row |= {"added_mib": round(max(meter.added_mib for meter in meters))}
    return row, masks


def strongest(rows: Sequence[Mapping]) -> Mapping:
    """The row, as of `measure`, with the highest mean Dice; the first of several."""
    return max(rows, key=lambda row: row["dice"]["mean"])


def table_rows(rows: Sequence[Mapping]) -> list[dict]:
    """A table of what `measure` returns, with the `steps` of each; one image has no interval."""
    table = []
    for row in rows:
        low, high = row["difference"]["ci95"]
        shown = {"way": row["way"], "mean Dice": row["dice"]["mean"]}
        shown |= {"tiled is better by": f"{row['difference']['dice_mean']:+.3f}"}
        shown |= {"95 % interval": "" if low is None else f"{low:+.3f} to {high:+.3f}", "steps learnt": row["steps"]}
        table.append(shown | {title: row[key] for title, key in COSTS.items()})
    return table


def verdict(row: Mapping) -> str:
    """What a row of `measure` says about tiled prediction and its rival, in words."""
    (low, high), mean = row["difference"]["ci95"], row["difference"]["dice_mean"]
    if low is None:
        return f"tiled differs by {mean:+.3f} Dice, and one image gives no interval"
    if low > 0:
        return f"tiled is better by {mean:.3f} Dice (95 % interval {low:.3f} to {high:.3f})"
    if high < 0:
        return f"tiled is worse by {-mean:.3f} Dice (95 % interval {-high:.3f} to {-low:.3f})"
    return f"these images do not show a difference: {mean:+.3f} Dice (95 % interval {low:+.3f} to {high:+.3f})"


def megabytes_in_one_piece(network: keras.Model, pixels: int, scales: Sequence[float]) -> float:
    """Memory in MiB that predicting a whole image of some pixels takes at once, by the layers of the network.

    Args:
        network: of one input.
        pixels: of the image, height times width.
        scales: see `inference.multi_scale`.
    """
    return receptive_field(network).bytes_per_pixel * pixels * max(scales) ** 2 / 2**20
