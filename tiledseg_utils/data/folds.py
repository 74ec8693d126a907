"""K-fold splits by image: each image is a test image once, and no network is tested on what it learnt from.

What belongs together stays together: images of one `group` (a slide, a patient), by a column of that name in
`split.csv` or `kinds.csv`, and the same picture under two names. The kinds of `kinds.csv` are spread evenly.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..base.files import UserError
from .images import SPLITS, Pair, hash_pixels
from .kinds import kinds_of_folder, read_kinds
from .pictures import read_image
from .tables import read_table

VALID_SHARE = 1 / 5
"""Of the images that are not tested, the share that judges the training."""


def fold_pairs(
    pairs: Sequence[Pair], folder: str | os.PathLike, seed: int, folds: int, fold: int
) -> dict[str, list[Pair]]:
    """Divide pairs into `train`, `valid` and `test`, as `images.split_pairs` does; the test images are those of a fold.

    The splits of `split.csv` do not count. About a fifth of the other images are validation images, taken from the next
    fold first.

    Args:
        pairs: of the data folder.
        folder: where `split.csv` and `kinds.csv` may lie.
        seed: of the draw.
        folds: number of folds, at least 2.
        fold: the one to test, from 1.

    Raises:
        UserError: too few groups, or a table is damaged or does not list each image.
    """
    stems = sorted(pair.stem for pair in pairs)
    groups = _groups(pairs, Path(folder))
    parts = draw_folds(groups, kinds_of_folder(folder, stems) or {}, seed, folds)
    valid = _judges([group for part in (*parts[fold:], *parts[: fold - 1]) for group in part])
    test = {stem for group in parts[fold - 1] for stem in group}
    splits = {stem: "test" if stem in test else "valid" if stem in valid else "train" for stem in stems}
    if missing := set(SPLITS) - set(splits.values()):
        problem = f"holds {len(groups)} images or groups of images, of which none is left for {min(missing)}"
        raise UserError(folder, problem, "Use fewer folds, or add images")
    ordered = sorted(pairs, key=lambda pair: pair.stem)
    return {split: [pair for pair in ordered if splits[pair.stem] == split] for split in SPLITS}


def _judges(groups: Sequence[Sequence[str]]) -> set[str]:
    """The stems of those groups, in their order, that fit into the share of validation images; at least one group."""
    wanted = round(VALID_SHARE * sum(map(len, groups)))
    chosen: set[str] = set()
    for group in groups:
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    return chosen or set(min(groups, key=len, default=()))


def draw_folds(
    groups: Sequence[Sequence[str]], kinds: Mapping[str, str], seed: int, folds: int
) -> list[list[Sequence[str]]]:
    """Deal groups of stems to folds, so that each fold gets as many images of each kind as can be.

    Large groups are dealt first, equal ones in an order drawn from the seed. Each goes to the fold that has fewest
    images of its kind (the most common one in it), and of those to the smallest.

    Args:
        groups: stems that stay together; each stem once.
        kinds: by stem; those without a kind are of one kind.
        seed: of the order.
        folds: how many.

    Returns:
        for each fold, its groups.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    parts: list[list[Sequence[str]]] = [[] for _ in range(folds)]
    sizes: Counter = Counter()
    for group in sorted((groups[position] for position in order), key=len, reverse=True):
        own = Counter(kinds.get(stem, "") for stem in group)
        kind = max(sorted(own), key=own.get)
        best = min(range(folds), key=lambda number: (sizes[number, kind], sizes[number]))
        parts[best].append(group)
        sizes[best] += len(group)
        sizes.update({(best, name): count for name, count in own.items()})
    return parts


def _groups(pairs: Sequence[Pair], folder: Path) -> list[list[str]]:
    """Stems that belong together, sorted; an image without a group or a twin is alone."""
    named = _named_groups(folder, [pair.stem for pair in pairs])
    marks: dict[tuple, int] = {}  # Numbers of groups and of pictures, after those of images.
    links = []
    for position, pair in enumerate(sorted(pairs, key=lambda pair: pair.stem)):
        for mark in (("group", named.get(pair.stem, pair.stem)), ("picture", hash_pixels(read_image(pair.image)))):
            links.append((position, len(pairs) + marks.setdefault(mark, len(marks))))
    size = len(pairs) + len(marks)
    graph = coo_array((np.ones(len(links)), np.transpose(links)), (size, size))
    _, components = connected_components(graph, directed=False)
    together: dict[int, list[str]] = {}
    for stem, component in zip(sorted(pair.stem for pair in pairs), components, strict=False):
        together.setdefault(component, []).append(stem)
    return list(together.values())


def _named_groups(folder: Path, stems: Sequence[str]) -> dict[str, str]:
    for name in ("split.csv", "kinds.csv"):
        path = folder / name
        if path.exists() and "group" in read_table(path, ("stem",))[0]:
            return read_kinds(path, stems, ("group",))
    return {}
