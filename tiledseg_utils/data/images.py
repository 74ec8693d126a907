"""Data folders: pairs of images and masks, their split, and every problem in plain words.

A data folder holds `images/`, either `masks/` or `labels/`, and optionally `split.csv` and `classes.csv`. `pictures`,
`masks` and `classes` read the single files.
"""

import contextlib
import hashlib
import math
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, read_bytes
from ..base.paths import IMAGE_SUFFIXES, NEVER_IMAGES
from ..base.text import printable, storable
from .channels import channels_in
from .classes import FILE as CLASSES
from .classes import Classes, read_classes, to_class_numbers
from .folder_problems import (
    ONE_COLOUR,
    differing_channels,
    missing_classes,
    nothing_to_learn,
    same_pictures,
    wrong_polarity,
)
from .masks import read_either, to_labels, to_mask
from .pictures import decode, read_channels, read_image, tell_notes, to_rgb
from .pictures.orientation import orientation_notes
from .pictures.part import ImagePart
from .tables import all_in_one, read_table

SPLITS = ("train", "valid", "test")
COLUMNS = ("stem", "split", "height", "width", "dtype", "channels", "foreground_percent", "objects", "note")
MASK_ENDINGS = ("_label", "_labels", "_mask", "_masks")  # what programs append to the stem of an image
SMALLEST_SIDE = 32  # pixels; a smaller image shows no surroundings, and a network sees mostly its reflected border
LONGEST_STEM = 200  # bytes; file systems take 255, and the names of tiles and figures are longer


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file.

    Attributes:
        stem: the name that they share.
        image, mask: their paths.
        channels: numbers of the channels of the image that are read as they are stored; if empty, it is read as RGB.
        classes: of the pixels of the mask; None if it is a mask or holds instance labels.
    """

    stem: str
    image: Path
    mask: Path
    channels: tuple[int, ...] = ()
    classes: Classes | None = None


def without_ending(stem: str, endings: Sequence[str]) -> str:
    """A stem without the first of some endings that it has."""
    return stem.removesuffix(next(filter(stem.endswith, endings), ""))


def list_files(folder: Path, problems: list[str], endings: Sequence[str] = ()) -> dict[str, Path]:
    """Return the image files in a folder by stem, without its ending if it is one of `endings`; add to `problems`."""
    files: dict[str, Path] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problems.append(f"{folder.name} cannot be read ({error.strerror})")
        return files
    for path in paths:
        stem = without_ending(unicodedata.normalize("NFC", path.stem), endings)  # macOS takes accents apart
        if path.name.startswith(".") or path.suffix.lower() in NEVER_IMAGES:
            continue
        if path.is_dir() or path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(f"{folder.name}/{path.name} is not a PNG, JPEG, TIFF or BMP file")
        elif not storable(path.name):
            problems.append(f"{folder.name}/{path.name} has a name that is not UTF-8, which no table can hold")
        elif len(stem.encode()) > LONGEST_STEM:
            length = f"{len(stem.encode())} bytes, over {LONGEST_STEM}"
            problems.append(f"{folder.name}/{path.name[:40]}... has a name of {length}, too long to name its tiles")
        elif stem in files:
            problems.append(f"{files[stem].name} and {path.name} in {folder.name} differ only in their endings")
        else:
            files[stem] = path
    return files


def _scan(folder: Path) -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """Return images and masks by stem, and every problem with their names."""
    problems: list[str] = []
    found = [name for name in ("images", "masks", "labels") if (folder / name).is_dir()]
    if found not in (["images", "masks"], ["images", "labels"]):
        state = f"holds {' and '.join(found) or 'none of them'}" if folder.is_dir() else "is not a folder"
        return {}, {}, [f"should be a folder with images and either masks or labels, but {state}"]
    images = list_files(folder / "images", problems)
    masks = list_files(folder / found[1], problems, ["_label"] if found[1] == "labels" else [])
    for stem in sorted(images.keys() ^ masks.keys()):
        alone, other = (images[stem], found[1]) if stem in images else (masks[stem], "images")
        problems.append(f"{alone.parent.name}/{alone.name} has no partner in {other}")
    return images, masks, problems if images or problems else ["holds no images"]


def find_pairs(folder: str | os.PathLike, channels: Sequence[int] = ()) -> list[Pair]:
    """Return the pairs of a data folder, sorted by stem; `channels` are those of `Pair`.

    `folder/images/<stem>.<any>` belongs to `folder/masks/<stem>.<any>`, or to `folder/labels/<stem>_label.<any>` as in
    the NeurIPS 2022 challenge, or to the same without `_label`. Left out are hidden files and those with the suffixes
    of `NEVER_IMAGES` (text and tables); anything else that is not a PNG, JPEG, TIFF or BMP is a problem. If the folder
    has a `classes.csv`, masks hold classes.

    Raises:
        UserError: a missing or empty folder, an image without mask or the reverse, doubled stems; one error lists all.
            Or classes.csv has errors.

    Example:
        from tiledseg_utils.data.images import find_pairs, read_pair
        pairs = find_pairs("my_images")
        image, mask = read_pair(pairs[0])
    """
    images, masks, problems = _scan(Path(folder))
    if problems:
        remedy = "Give each file in images one of the same name in masks or labels, and keep nothing else there"
        raise all_in_one(Path(folder), problems, remedy)
    classes = read_classes(Path(folder))
    return [Pair(stem, images[stem], masks[stem], tuple(channels), classes) for stem in sorted(images)]


def check_sizes(pair: Pair, image: np.ndarray, mask: np.ndarray) -> None:
    """Raise a UserError if a mask and its image differ in height or width."""
    if image.shape[:2] != mask.shape:
        own, other = (f"{array.shape[0]} x {array.shape[1]}" for array in (mask, image))
        sizes = f"is {own} pixels (rows x columns), but its image {pair.image} is {other}"
        remedy = "Export the mask again at the size of the image"
        for path in (pair.image, pair.mask):
            tag = 1
            with contextlib.suppress(UserError):  # a file in an archive cannot be looked at again
                tag = decode(path).orientation
            if orientation_notes(tag):
                sizes = f"{sizes}; the orientation tag {tag} of {path.name} is not applied"
                remedy = f"Save {path.name} as viewers show it, without the tag, or export the mask for stored pixels"
        raise UserError(pair.mask, sizes, remedy)


def image_of(pair: Pair) -> np.ndarray:
    """Read the image of a pair: `(H, W, 3)` uint8 RGB, or its channels as stored, `(H, W, C)` uint8 or uint16."""
    return read_channels(pair.image, pair.channels) if pair.channels else read_image(pair.image)


def mask_of(pair: Pair) -> np.ndarray:
    """Read the mask of a pair, `(H, W)` bool: True is foreground, which all classes but the background are.

    Raises:
        UserError: as for `read_labels` or, of classes, `to_class_numbers`.
    """
    return (read_either(pair.mask) if pair.classes is None else class_numbers_of(pair)) != 0


def class_numbers_of(pair: Pair) -> np.ndarray:
    """Read the classes of a pair, `(H, W)` uint8: their numbers in its table, the background 0."""
    stored = decode(pair.mask)
    tell_notes(pair.mask, stored.notes)
    return to_class_numbers(pair.mask, stored, pair.classes)[0]


def labels_of(pair: Pair) -> np.ndarray:
    """Read the objects of a pair, `(H, W)` int32 labels; of masks and of classes, the pieces of their foreground."""
    return to_labels(read_either(pair.mask) if pair.classes is None else mask_of(pair))


def read_pair(pair: Pair, labels: bool = False, classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read an image as `image_of` does, and its mask as `mask_of`, `labels_of` or `class_numbers_of`.

    Raises:
        UserError: as for these, or the two differ in size.
    """
    read = labels_of if labels else class_numbers_of if classes else mask_of
    image, mask = image_of(pair), read(pair)
    check_sizes(pair, image, mask)
    return image, mask


def given_split(folder: Path, stems: Collection[str]) -> dict[str, str]:
    """Return the split of each of `stems` by `split.csv`, or nothing where there is no such file.

    Raises:
        UserError: it has errors (all are listed), or there is none and fewer than three stems.
    """
    path, splits, problems = folder / "split.csv", {}, []
    if not path.exists():
        if len(stems) < 3:
            remedy = "Add images, so that there are at least three, or a split.csv with the columns stem,split"
            raise UserError(folder, f"holds {len(stems)} image(s), too few for train, valid and test", remedy)
        return {}
    rows = read_table(path, ("stem", "split"))
    for row in rows:
        stem, split = (unicodedata.normalize("NFC", row[key] or "").strip() for key in ("stem", "split"))
        if stem not in stems:
            problems.append(f"'{stem}' is not the name (without suffix) of an image")
        elif stem in splits:
            problems.append(f"'{stem}' is listed more than once")
        if split not in SPLITS:
            problems.append(f"'{stem}' has the unknown split '{split}'")
        splits[stem] = split
    problems += [f"'{stem}' is left out" for stem in sorted(set(stems) - splits.keys())]
    if "train" not in splits.values():
        problems.append("no image is left for training")
    if problems:
        raise all_in_one(path, problems, "List each image once, with the split train, valid or test")
    return splits


def draw_split(stems: Collection[str], seed: int, fractions: Sequence[float]) -> dict[str, str]:
    """Draw the split of at least three stems, whatever their order.

    Each part gets one image, and each further image goes to the part that lacks most of its fraction.

    Args:
        stems: of images.
        seed: of the draw.
        fractions: shares of training, validation and test; they add up to 1.

    Raises:
        UserError: the fractions are no such shares.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise UserError("fractions", f"are {tuple(fractions)}", "Pass three shares that add up to 1")
    counts = [1, 1, 1]
    for _ in range(len(stems) - 3):
        counts[np.argmax(np.multiply(fractions, len(stems)) - counts)] += 1
    shuffled = np.random.default_rng(seed).permutation(sorted(stems)).tolist()
    return dict(zip(shuffled, np.repeat(SPLITS, counts).tolist(), strict=True))


def split_pairs(
    pairs: Sequence[Pair], folder: str | os.PathLike, seed: int, fractions: Sequence[float] = (0.6, 0.2, 0.2)
) -> dict[str, list[Pair]]:
    """Divide pairs, whole images, into `train`, `valid` and `test`; each list is sorted by stem.

    `folder/split.csv` (columns stem,split) decides if it exists. Otherwise `draw_split` draws the split from `seed`.

    Raises:
        UserError: split.csv has errors (all are listed), or there is none and fewer than three images.
    """
    splits = given_split(Path(folder), {pair.stem for pair in pairs})
    if not splits:
        splits = draw_split([pair.stem for pair in pairs], seed, fractions)
    ordered = sorted(pairs, key=lambda pair: pair.stem)
    return {split: [pair for pair in ordered if splits[pair.stem] == split] for split in SPLITS}


@contextlib.contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def check_folder(folder: str | os.PathLike, channels: Sequence[int] = ()) -> tuple[list[dict], list[str]]:
    """Read every file of a data folder and report, without stopping at errors.

    Args:
        folder: images/, masks/ and perhaps split.csv.
        channels: those that are to be read as they are stored, see `Pair`; every image must have them.

    Returns:
        rows: one per image, with stem, split (of split.csv), height and width in pixels, dtype and channels of the
            file, foreground_percent, objects (instances or connected components), and note. Unknown values are None.
        problems: one sentence for each; if there are none, the folder is ready for use.
    """
    rows, problems, _ = _check(Path(folder), tuple(channels))
    return rows, problems


def _check(folder: Path, channels: tuple[int, ...]) -> tuple[list[dict], list[str], list[str]]:
    """As `check_folder`, and a third list: pictures under two names, a problem only if a split is drawn."""
    images, masks, found = _scan(folder)
    rows, splits, classes, problems = [], {}, None, [f"{folder}: {problem}." for problem in found]
    with _collecting(problems):
        splits = given_split(folder, images.keys()) if images else {}
    with _collecting(problems):
        classes = read_classes(folder)
    if classes is None and (folder / CLASSES).exists():
        masks = {}  # What they hold cannot be told.
    pictures: dict[str, list[str]] = {}  # by the hash of their pixels, the stems of images
    shown: dict[str, set[int]] = {}  # the numbers of classes in each mask
    stems = sorted(images.keys() | masks.keys())
    with ThreadPoolExecutor(2) as pool:
        pairs = [Pair(stem, images.get(stem), masks.get(stem), channels, classes) for stem in stems]
        checked = pool.map(_check_files, pairs)
        for stem, (row, known, picture) in zip(stems, checked, strict=True):
            problems += known
            shown[stem] = row.pop("shown")
            if picture is not None:
                same = pictures.setdefault(picture, [])
                if same:
                    row["notes"].append(f"same picture as {same[0]}")
                same.append(stem)
            row["note"] = ", ".join(row.pop("notes"))
            rows += [row | {"split": splits.get(stem)}] if stem in images else []
    leaks, doubled = same_pictures(pictures.values(), splits)
    found = nothing_to_learn(rows) + leaks
    if classes is None:
        found += wrong_polarity(rows)
    elif not problems:
        found += missing_classes(shown, splits, classes)
    found += differing_channels(rows) if channels else []
    problems += [f"{folder}: {each}." for each in found]
    return rows, problems, doubled


def _check_files(pair: Pair) -> tuple[dict, list[str], str | None]:
    """The row of `check_folder` for one image with a list of notes and a set of classes, its problems, and the hash of
    its pixels. One of the two files may be None."""
    row, problems, notes, image, picture = dict.fromkeys(COLUMNS) | {"stem": pair.stem}, [], [], None, None
    row["shown"] = set()
    with _collecting(problems):
        if pair.image:
            stored = decode(ImagePart(pair.image, stored=bool(pair.channels)))
            image, notes = channels_in(pair.image, stored, pair.channels) if pair.channels else to_rgb(stored)
            row |= {"height": image.shape[0], "width": image.shape[1]}
            row |= {"dtype": stored.pixels.dtype.name, "channels": stored.channels}
            _check_picture(pair.image, image, notes)
            picture = hash_pixels(image)
    with _collecting(problems):
        if pair.mask:
            stored = decode(pair.mask)
            if pair.classes is None:
                mask, mask_notes = to_mask(pair.mask, stored)
            else:
                mask, mask_notes = to_class_numbers(pair.mask, stored, pair.classes)
                row["shown"] = set(np.unique(mask).tolist())
                mask = mask > 0
            notes = notes + mask_notes
            row |= {"foreground_percent": 100 * float((mask != 0).mean())}
            row |= {"objects": int(np.count_nonzero(np.unique(to_labels(mask))))}
            if image is not None:
                check_sizes(pair, image, mask)
    if problems:
        notes.append("see problems")
    return row | {"notes": notes}, problems, picture


def hash_pixels(image: np.ndarray) -> str:
    """SHA-256, in hex, of the pixels of an image, whatever file they come from."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _check_picture(path: Path, image: np.ndarray, notes: list[str]) -> None:
    """Raise a UserError for an image that is too small; note one that shows nothing."""
    height, width = image.shape[:2]
    if (image == image[0, 0]).all():
        notes.append(ONE_COLOUR)
    if min(height, width) < SMALLEST_SIDE:
        remedy = f"Leave it out, or give an image of at least {SMALLEST_SIDE} pixels a side"
        raise UserError(path, f"is only {height} x {width} pixels (rows x columns)", remedy)


def require_sound(folder: str | os.PathLike, channels: Sequence[int] = ()) -> list[dict]:
    """Return the rows of `check_folder`, or raise one UserError that lists every problem.

    Without split.csv, a line warns of the same picture under two names, because a drawn split could separate the two.
    """
    rows, problems, doubled = _check(Path(folder), tuple(channels))
    if problems:
        raise all_in_one(Path(folder), problems, "Mend these files, then try again")
    for pictures in doubled:
        print(f"warning: {printable(pictures)}, or the split that is drawn may separate them.", flush=True)
    return rows


def hash_folder(folder: str | os.PathLike) -> str:
    """Return the SHA-256, in hex, of names and bytes of all pairs and of split.csv and classes.csv, if they are there.

    It does not depend on where the folder is.
    """
    digest = hashlib.sha256()
    files = [path for pair in find_pairs(folder) for path in (pair.image, pair.mask)]
    tables = [Path(folder, name) for name in ("split.csv", CLASSES)]
    for path in files + [table for table in tables if table.exists()]:
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        content = read_bytes(path)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
