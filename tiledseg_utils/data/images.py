"""Data folders: pairs of images and masks, their split, and every problem in plain words.

A data folder holds `images/`, either `masks/` or `labels/`, and optionally `split.csv`. `pictures` and `masks` read the
single files.
"""

import contextlib
import csv
import hashlib
import math
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, read_bytes, read_csv
from ..base.paths import IMAGE_SUFFIXES, NEVER_IMAGES
from ..base.text import printable, storable
from .channels import channels_in
from .folder_problems import ONE_COLOUR, differing_channels, nothing_to_learn, same_pictures, wrong_polarity
from .masks import read_labels, read_mask, to_labels, to_mask
from .pictures import decode, read_channels, read_image, to_rgb
from .pictures.orientation import orientation_notes
from .pictures.part import ImagePart

SPLITS = ("train", "valid", "test")
COLUMNS = ("stem", "split", "height", "width", "dtype", "channels", "foreground_percent", "objects", "note")
MASK_ENDINGS = ("_label", "_labels", "_mask", "_masks")  # what programs put behind the stem of an image
SMALLEST_SIDE = 32  # pixels; a smaller image shows no surroundings, and a network sees mostly its reflected border
LONGEST_STEM = 200  # bytes; file systems take 255, and the names of tiles and figures are longer


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file.

    Attributes:
        stem: the name that they share.
        image, mask: their paths.
        channels: numbers of the channels of the image that are read as they are stored; if empty, it is read as RGB.
    """

    stem: str
    image: Path
    mask: Path
    channels: tuple[int, ...] = ()


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


def all_in_one(path: Path, problems: Sequence[str], remedy: str) -> UserError:
    """One error that lists up to ten problems."""
    listed = [*problems[:10], f"and {len(problems) - 10} more"] if len(problems) > 10 else problems
    return UserError(path, problems[0] if len(problems) == 1 else "\n  ".join(["", *listed]), remedy)


def find_pairs(folder: str | os.PathLike, channels: Sequence[int] = ()) -> list[Pair]:
    """Return the pairs of a data folder, sorted by stem; `channels` are those of `Pair`.

    `folder/images/<stem>.<any>` belongs to `folder/masks/<stem>.<any>`, or to `folder/labels/<stem>_label.<any>` as in
    the NeurIPS 2022 challenge, or to the same without `_label`. Left out are hidden files and those with the suffixes
    of `NEVER_IMAGES` (text and tables); anything else that is not a PNG, JPEG, TIFF or BMP is a problem.

    Raises:
        UserError: a missing or empty folder, an image without mask or the reverse, doubled stems; one error lists all.

    Example:
        from tiledseg_utils.data.images import find_pairs, read_pair
        pairs = find_pairs("my_images")
        image, mask = read_pair(pairs[0])
    """
    images, masks, problems = _scan(Path(folder))
    if problems:
        remedy = "Give each file in images one of the same name in masks or labels, and keep nothing else there"
        raise all_in_one(Path(folder), problems, remedy)
    return [Pair(stem, images[stem], masks[stem], tuple(channels)) for stem in sorted(images)]


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


def read_pair(pair: Pair, labels: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read an image as `image_of` does, and its mask, `(H, W)` bool, or int32 instance labels if `labels`.

    Raises:
        UserError: as for `read_image`, `read_channels` and `read_labels`, or the two differ in size.
    """
    image, mask = image_of(pair), (read_labels if labels else read_mask)(pair.mask)
    check_sizes(pair, image, mask)
    return image, mask


def read_table(path: Path, columns: Sequence[str]) -> list[dict]:
    """Return the rows of a table of the user's, such as split.csv, that has at least some columns.

    Raises:
        UserError: it cannot be read, is not comma-separated UTF-8 text, or has no rows or not these columns.
    """
    remedy = f"Save it as comma-separated UTF-8 text, beginning with the line {','.join(columns)}"
    content = read_bytes(path)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(path, "is UTF-16 text, as spreadsheets save 'Unicode text'", remedy)
    header = content.split(b"\n", 1)[0]
    for sign, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if sign in header and b"," not in header:
            raise UserError(path, f"has {name} between its columns, not commas", remedy)
    try:
        rows = read_csv(path)
    except UnicodeError as error:
        raise UserError(path, f"is not UTF-8 text (byte {error.start})", remedy) from error
    except (OSError, csv.Error) as error:
        raise UserError(path, f"is not a readable table ({error})", remedy) from error
    if not rows or not set(columns) <= rows[0].keys():
        raise UserError(path, f"has no rows with the columns {' and '.join(columns)}", remedy)
    return rows


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
    rows, splits, problems = [], {}, [f"{folder}: {problem}." for problem in found]
    with _collecting(problems):
        splits = given_split(folder, images.keys()) if images else {}
    pictures: dict[str, list[str]] = {}  # by the hash of their pixels, the stems of images
    stems = sorted(images.keys() | masks.keys())
    with ThreadPoolExecutor(2) as pool:
        checked = pool.map(lambda stem: _check_files(stem, images.get(stem), masks.get(stem), channels), stems)
        for stem, (row, known, picture) in zip(stems, checked, strict=True):
            problems += known
            if picture is not None:
                same = pictures.setdefault(picture, [])
                if same:
                    row["notes"].append(f"same picture as {same[0]}")
                same.append(stem)
            row["note"] = ", ".join(row.pop("notes"))
            rows += [row | {"split": splits.get(stem)}] if stem in images else []
    leaks, doubled = same_pictures(pictures.values(), splits)
    found = wrong_polarity(rows) + nothing_to_learn(rows) + leaks
    found += differing_channels(rows) if channels else []
    problems += [f"{folder}: {each}." for each in found]
    return rows, problems, doubled


def _check_files(
    stem: str, image_path: Path | None, mask_path: Path | None, channels: tuple[int, ...]
) -> tuple[dict, list[str], str | None]:
    """The row of `check_folder` for one image with a list of notes, its problems, and the hash of its pixels."""
    row, problems, notes, image, picture = dict.fromkeys(COLUMNS) | {"stem": stem}, [], [], None, None
    with _collecting(problems):
        if image_path:
            stored = decode(ImagePart(image_path, stored=bool(channels)))
            image, notes = channels_in(image_path, stored, channels) if channels else to_rgb(stored)
            row |= {"height": image.shape[0], "width": image.shape[1]}
            row |= {"dtype": stored.pixels.dtype.name, "channels": stored.channels}
            _check_picture(image_path, image, notes)
            picture = hash_pixels(image)
    with _collecting(problems):
        if mask_path:
            mask, mask_notes = to_mask(mask_path, decode(mask_path))
            notes = notes + mask_notes
            row |= {"foreground_percent": 100 * float((mask != 0).mean())}
            row |= {"objects": int(np.count_nonzero(np.unique(to_labels(mask))))}
            if image is not None:
                check_sizes(Pair(stem, image_path, mask_path), image, mask)
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
    """Return the SHA-256, in hex, of names and bytes of all pairs and split.csv, wherever the folder is."""
    digest, split = hashlib.sha256(), Path(folder, "split.csv")
    files = [path for pair in find_pairs(folder) for path in (pair.image, pair.mask)]
    for path in files + [split] * split.exists():
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        content = read_bytes(path)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
