"""What is wrong with a data folder as a whole, though each of its files can be read.

`rows` are those of `images.check_folder`.
"""

from collections.abc import Collection, Mapping, Sequence

from .classes import FILE, Classes

ONE_COLOUR = "image is of one colour"


def same_pictures(groups: Collection[list[str]], splits: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Stems that show the same picture: those in two splits, and those that a drawn split could separate."""
    leaks, doubled = [], []
    for stems in groups:
        remedy = "are the same picture. Keep one of them, or give them the same split in split.csv"
        if not splits and len(stems) > 1:
            doubled.append(f"{', '.join(stems)} {remedy}")
        if len({splits.get(stem) for stem in stems}) > 1:
            leaks.append(f"{', '.join(f'{stem} ({splits.get(stem)})' for stem in stems)} {remedy}")
    return leaks, doubled


def wrong_polarity(rows: Sequence[dict]) -> list[str]:
    """Masks that seem inverted: all are nearly empty or nearly full, and the full ones mirror the empty ones."""
    shares = {row["stem"]: row["foreground_percent"] for row in rows if row["foreground_percent"] not in (None, 0, 100)}
    low = [share for share in shares.values() if share < 30]
    full = [stem for stem, share in shares.items() if share > 70]
    if not low or not full or len(low) + len(full) < len(shares):
        return []
    if any(not min(low) / 3 <= 100 - shares[stem] <= 3 * max(low) for stem in full):
        return []
    least = min(shares[stem] for stem in full)
    found = f"masks of {', '.join(full)} have at least {least:.0f} % foreground, the others at most {max(low):.0f} %"
    return [f"{found}, as if some were inverted. Invert those whose background is not 0"]


def nothing_to_learn(rows: Sequence[dict]) -> list[str]:
    """Training images without any foreground, without any background, or of one colour."""
    learnt = [row for row in rows if row["split"] in (None, "train")]
    shares = {row["foreground_percent"] for row in learnt}
    where = "for training " if any(row["split"] for row in rows) else ""
    if not learnt or None in shares:
        return []
    found = []
    if shares == {0}:
        found.append(f"no mask {where}has any foreground. Add images with objects, and their masks")
    if shares == {100}:
        found.append(f"no mask {where}has any background (0). Add masks with background")
    if all(ONE_COLOUR in row["note"] for row in learnt):
        found.append(f"every image {where}is of one colour. Add images that show something")
    return found


def differing_channels(rows: Sequence[Mapping]) -> list[str]:
    """A sentence if the channels of images differ in number or depth; `rows` as `images.check_folder` makes them."""
    kinds: dict[tuple, list[str]] = {}
    for row in rows:
        if row["channels"] is not None:
            kinds.setdefault((row["channels"], row["dtype"]), []).append(row["stem"])
    if len(kinds) < 2:
        return []
    listed = [f"{count} of {dtype} in {', '.join(stems[:3])}" for (count, dtype), stems in sorted(kinds.items())]
    remedy = "Save all images with the same channels, in 8 or in 16 bit"
    return [f"the channels differ between images ({'; '.join(listed)}). {remedy}"]


def missing_classes(shown: Mapping[str, set[int]], splits: Mapping[str, str], classes: Classes) -> list[str]:
    """Classes that no training image shows, so that they cannot be learnt.

    Args:
        shown: the numbers of the classes in each mask, by stem.
        splits: by stem; without, all images may become training images.
        classes: of the folder.
    """
    learnt = [stem for stem in shown if splits.get(stem) in (None, "train")]
    seen = set().union(*(shown[stem] for stem in learnt))
    where = "no training image" if splits else "no image"
    remedy = f"Add images that show it, or remove it from {FILE}"
    return [
        f"the class {name} is in {where}. {remedy}" for number, name in enumerate(classes.names) if number not in seen
    ]
