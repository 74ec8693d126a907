"""Three ways to learn several kinds of image in the same number of steps, for the appendix about many kinds.

One network for all images as they come; one for all, with rare kinds drawn more often; or one for each kind, and a
`Router` that tells by the look of an image which of them predicts it.
"""

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..base.files import UserError
from ..base.memory import release_freed_memory
from ..data import provenance
from ..data.composites import visible
from ..data.cues import measure_cues
from ..data.images import Pair, read_pair
from ..data.measured_kinds import Kinds
from ..data.pictures import write_image
from ..scoring.pixels import Counts, Predict
from ..scoring.statistics import paired_difference
from ..settings.parameters import TileSetting, TrainingSetting
from ..tiles import tiling
from ..training import fit
from .kinds import kinds_of
from .lesson import is_drawn

FOLDER = "many_kinds"
"""Of a run, for all that the appendix writes."""

AS_THEY_COME, BALANCED, EACH = "as they come", "balanced", "one per kind"
WAYS = (AS_THEY_COME, BALANCED, EACH)

CHANGES = ((BALANCED, AS_THEY_COME), (EACH, BALANCED))
"""Which ways are compared: the first less the second."""

ALL = "all"
"""Stands for all kinds; no kind is called so, see `data.kinds`."""

LOOKS = ("stained", "dark", "grey")
"""Kinds that are made of generated images."""

STAINED_IN_A_ROW = 3
"""Training images that stay stained before one becomes dark, and one grey."""


def begin(run: Path) -> tuple[dict[str, list[Pair]], dict[str, str]]:
    """The images of a run by split, and the kind of each by stem. Of generated images, three kinds are made.

    Raises:
        UserError: notebook 1 has not run to its end; the images are the user's and all of one kind; or a kind has no
            training or no validation image, without which no network can be trained for it alone.
    """
    splits, kinds = provenance.run_splits(run), kinds_of(run)
    if is_drawn(run):
        splits, kinds = draw_kinds(splits, Path(run) / FOLDER / "data")
    if not kinds:
        remedy = "Use a run whose images are of several kinds, or a run of generated images"
        raise UserError(run, "holds images of one kind only, so there is nothing to compare", remedy)
    _require_each_kind(splits, kinds)
    return splits, kinds


def look(image: np.ndarray, kind: str) -> np.ndarray:
    """A stained image, (H, W, 3) uint8 RGB, as another of the `LOOKS`: grey, or with bright cells on black."""
    if kind == "stained":
        return image
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if kind == "dark":  # The square takes red cells, of medium grey, into the dark as well.
        grey = np.rint((255 - grey.astype(np.float32)) ** 2 / 255).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def draw_kinds(splits: Mapping[str, Sequence[Pair]], folder: Path) -> tuple[dict[str, list[Pair]], dict[str, str]]:
    """Give stained images other `LOOKS`, so that the training images hold one frequent kind and two rare ones.

    Each validation image is taken in all looks; each training and each test image in one.

    Args:
        splits: stained images by split.
        folder: `images` and `masks` are written into it.

    Returns:
        the new images by split, and the kind of each by stem.
    """
    cycles = {"train": (*LOOKS[:1] * STAINED_IN_A_ROW, *LOOKS[1:]), "test": LOOKS}
    made, kinds = {name: [] for name in splits}, {}
    for name, pairs in splits.items():
        for number, pair in enumerate(pairs):
            cycle = cycles.get(name)
            image, mask = read_pair(pair)
            for kind in LOOKS if cycle is None else (cycle[number % len(cycle)],):
                stem = f"{pair.stem}_{kind}"
                copy = Pair(stem, folder / "images" / f"{stem}.png", folder / "masks" / f"{stem}.png")
                write_image(copy.image, look(image, kind), sync=False)
                write_image(copy.mask, mask, sync=False)
                made[name].append(copy)
                kinds[stem] = kind
    return made, kinds


def _require_each_kind(splits: Mapping[str, Sequence[Pair]], kinds: Mapping[str, str]) -> None:
    for split, name in (("train", "training"), ("valid", "validation")):
        missing = sorted(set(kinds.values()) - {kinds[pair.stem] for pair in splits[split]})
        if missing:
            remedy = "Give it one in split.csv, or write the name of a similar kind into kinds.csv"
            problem = f"has no {name} image, and no network can be trained for it alone"
            raise UserError(f"the kind {missing[0]}", problem, remedy)


@dataclass(frozen=True)
class Part:
    """One of the trainings.

    Attributes:
        folder: its name, below that of the appendix.
        splits: the images that it learns from.
        tiles, training: how they are cut, and for how many steps the network learns.
    """

    folder: str
    splits: Mapping[str, Sequence[Pair]]
    tiles: TileSetting
    training: TrainingSetting


def parts_of(
    splits: Mapping[str, Sequence[Pair]], kinds: Mapping[str, str], tiles: TileSetting, training: TrainingSetting
) -> dict[tuple[str, str], Part]:
    """The trainings of all `WAYS`: two learn from all images, and then there is one for each kind.

    The networks of kinds share the steps as the network that is `BALANCED` shares its draws: each sees as many samples
    of its kind.

    Args:
        splits: source images by split; those of test are not looked at.
        kinds: of each image, by stem.
        tiles, training: of the run; `balance_kinds` and the steps are changed.

    Returns:
        the trainings by way and kind, which is `ALL` for the first two; the most frequent kind comes first.

    Raises:
        UserError: an epoch has too few steps to be shared.
    """
    learnt = {name: splits[name] for name in ("train", "valid")}
    plain = replace(tiles, balance_kinds=False)
    parts = {(AS_THEY_COME, ALL): Part("as_they_come", learnt, plain, training)}
    parts[BALANCED, ALL] = Part("balanced", learnt, replace(tiles, balance_kinds=True), training)
    counts = dict(Counter(kinds[pair.stem] for pair in splits["train"]).most_common())
    for number, (kind, steps) in enumerate(share_steps(counts, training.steps_per_epoch).items(), 1):
        own = {name: [pair for pair in pairs if kinds[pair.stem] == kind] for name, pairs in learnt.items()}
        judging = -(-training.validation_steps * steps // training.steps_per_epoch)
        shared = replace(training, steps_per_epoch=steps, validation_steps=judging)
        parts[EACH, kind] = Part(f"kind_{number}", own, plain, shared)
    return parts


def share_steps(counts: Mapping[str, int], steps: int) -> dict[str, int]:
    """Deal steps to kinds in proportion to the square root of their number of images, without a rest.

    Raises:
        UserError: a kind would get none.
    """
    limits = np.cumsum(np.sqrt(list(counts.values())))
    limits = np.rint(limits / limits[-1] * steps).astype(int)
    shares = dict(zip(counts, np.diff(limits, prepend=0).tolist(), strict=True))
    if min(shares.values()) < 1:
        least = min(shares, key=shares.get)
        raise UserError("training.steps_per_epoch", f"{steps} leave none for the kind {least}", "Give more steps")
    return shares


def train(
    run: Path, part: Part, kinds: Mapping[str, str], network: tuple[str, Mapping], augmentation: Mapping, seed: int
) -> Path:
    """Cut the tiles of a part and train a network on them, or go on where a killed training stopped.

    Args:
        run: run folder; `tiles`, `training` and `model.keras` are written into a folder of the part in it.
        part: what to learn from, and for how long.
        kinds: of the images, by stem.
        network: architecture and its settings, see `models.build_model`.
        augmentation, seed: see `fit.train`.

    Returns:
        path of the model.
    """
    gc.collect()  # A model refers to itself in circles, and the one before would stay through the next training.
    release_freed_memory()
    folder = Path(run) / FOLDER / part.folder
    tiling.write_tile_set(part.splits, folder / "tiles", part.tiles, kinds)
    fit.train(folder, *network, augmentation, part.training, seed)
    return folder / "model.keras"


class Router:
    """Predicts an image with the network of the kind that it looks like.

    Args:
        kinds: with their middles, see `measured_kinds.known_kinds`.
        ways: how images of each kind are predicted, by its name.
    """

    def __init__(self, kinds: Kinds, ways: Mapping[str, Predict]):
        self.kinds, self.ways = kinds, ways

    def kind_of(self, image: np.ndarray) -> str:
        """The kind of an image, (H, W, 3) uint8 RGB or channels as they are stored. It needs no mask."""
        return self.kinds.nearest(measure_cues(visible(image), np.zeros(image.shape[:2], np.int32)))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.ways[self.kind_of(image)](image)


def compare(counts: Mapping[str, Mapping[str, Counts]], kinds: Mapping[str, str], seed: int) -> list[dict]:
    """What each way is worth for each kind, and what changes from one to the next.

    Args:
        counts: of the same test images, by way (see `WAYS`) and stem.
        kinds: of each image, by stem.
        seed: of the resamplings for intervals.

    Returns:
        a row for each kind and, last, for `ALL`: `kind`, `images`, `dice` by way, and `changes` of Dice by a pair of
        ways (see `CHANGES`), the first less the second. Both have a `mean` over images with its 95 % interval `ci95`,
        [None, None] for one image.
    """
    stems = sorted(counts[AS_THEY_COME])
    groups = {kind: [stem for stem in stems if kinds[stem] == kind] for kind in sorted({kinds[stem] for stem in stems})}
    rows = []
    for kind, own in (groups | {ALL: stems}).items():
        dice = {way: {stem: counts[way][stem].dice for stem in own} for way in WAYS}
        scores = {way: paired_difference(values, dict.fromkeys(own, 0.0), seed) for way, values in dice.items()}
        changes = {(one, other): paired_difference(dice[one], dice[other], seed) for one, other in CHANGES}
        rows.append({"kind": kind, "images": len(own), "dice": scores, "changes": changes})
    return rows


def score_table(rows: Sequence[Mapping]) -> list[dict]:
    """The mean Dice of each way with its interval, from rows of `compare`."""
    table = []
    for row in rows:
        scores = {way: with_interval(row["dice"][way]) for way in WAYS}
        table.append({"kind": row["kind"], "images": row["images"]} | scores)
    return table


def change_table(rows: Sequence[Mapping]) -> list[dict]:
    """What changes from one way to the next, with its interval, from rows of `compare`."""
    table = []
    for row in rows:
        changes = {f"{one}, less {other}": with_interval(row["changes"][one, other], "+.3f") for one, other in CHANGES}
        table.append({"kind": row["kind"], "images": row["images"]} | changes)
    return table


def with_interval(found: Mapping, form: str = ".3f") -> str:
    """A `mean` and its `ci95`, such as "0.912 (0.880 to 0.941)"; the mean alone if there is no interval."""
    low, high = found["ci95"]
    return f"{found['mean']:{form}}" + ("" if low is None else f" ({low:{form}} to {high:{form}})")


def exceeds(change: Mapping, margin: float = 0.0) -> bool | None:
    """Whether a change is more than a margin, if its interval says so; None if that holds the margin or is missing."""
    low, high = change["ci95"]
    if low is None or low <= margin <= high:
        return None
    return low > margin
