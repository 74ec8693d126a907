"""Image set BBBC038, the training images of the 2018 Data Science Bowl: its published archive in, a data folder out.

The archive holds `<id>/images/<id>.png`, and in `<id>/masks/` one binary mask for each nucleus. A data folder has one
label image instead. Masks that it cannot hold as they are stand in `notes.csv`: those that overlap another one, are
empty, have several pieces, or another size than their image.
"""

import hashlib
import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import cv2
import numpy as np

from ..base.files import UserError, read_csv, write_csv, write_json
from ..base.paths import IMAGE_SUFFIXES, NEVER_IMAGES
from . import archives, images, masks, pictures
from .archives import JOURNAL, MANIFEST
from .tables import all_in_one

ARCHIVE, NOTES = "stage1_train.zip", "notes.csv"
ADDRESS = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
SOURCE = archives.Source(
    command="data bbbc038",
    archive=ARCHIVE,
    title="Image set BBBC038v1, Broad Bioimage Benchmark Collection. Caicedo et al., Nucleus segmentation across "
    "imaging experiments: the 2018 Data Science Bowl, Nature Methods 16, 1247-1253 (2019)",
    doi="10.1038/s41592-019-0612-7",
    url="https://bbbc.broadinstitute.org/BBBC038",
    licence="CC0 1.0",
    terms="in the public domain; name the source all the same",
    content=frozenset({"download", "images", "labels", "source.json", MANIFEST, NOTES, "kinds.csv", "split.csv"}),
)
FRACTIONS = (0.7, 0.1, 0.2)  # of each kind, for training, validation and test
MOST_NUCLEI = 65535  # that 16 bits number

# The rule of kinds, on means over an image, 0 to 255: brightness is the largest of the three channels (V of HSV), and
# saturation is 255 (largest - smallest) / largest (S of HSV).
BRIGHT, COLOURED, PURPLE = 100, 5, 40

PROBLEMS = ("empty", "other size", "several pieces", "overlapped", "covered")
"""What notes.csv says of masks: the first two are left out, the last two lose pixels, or all, to a later mask."""

Members = dict[str, list[zipfile.ZipInfo]]


def fetch_archive(folder: str | os.PathLike, yes: bool = False, address: str = ADDRESS) -> Path:
    """Return `folder/download/stage1_train.zip`; download it, after asking, if it is not there yet.

    Args:
        folder: the data folder to be.
        yes: do not ask.
        address: of the archive. No checksum of it is published.

    Raises:
        UserError: as for `archives.fetch`.
    """
    return archives.fetch(SOURCE, Path(folder), yes, lambda: _published(address))


def _published(address: str) -> tuple[str, int, None]:
    """Address and size in bytes of the archive, as the server states it; no checksum is published."""
    import requests

    try:
        response = requests.head(address, timeout=60, allow_redirects=True, headers={"Accept-Encoding": "identity"})
        response.raise_for_status()
        return address, int(response.headers["Content-Length"]), None
    except requests.RequestException as error:
        remedy = f"Check the connection and try again. {SOURCE.by_hand}"
        raise UserError(address, f"cannot be read ({archives.reason(error)})", remedy) from error
    except (KeyError, ValueError) as error:
        raise UserError(address, "has no stated size", SOURCE.by_hand) from error


# ---------------------------------------------------------------- images and their masks


def find_kind(image: np.ndarray) -> str:
    """Sort an image of nuclei by saturation and brightness.

    - "fluorescence": dark, with a mean brightness of at most 100 of 255.
    - "grey": bright, with a mean saturation of at most 5 of 255.
    - "purple": bright, with a mean saturation of at least 40, and less green than red and blue; stained tissue.
    - "other": bright and of another colour, or of a paler one.

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    saturation, brightness = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1:].reshape(-1, 2).mean(axis=0)
    red, green, blue = image.reshape(-1, 3).mean(axis=0)
    if brightness <= BRIGHT:
        return "fluorescence"
    if saturation <= COLOURED:
        return "grey"
    return "purple" if saturation >= PURPLE and green < min(red, blue) else "other"


def merge_masks(named: Sequence[tuple[str, np.ndarray]], shape: tuple[int, int]) -> tuple[np.ndarray, list[dict]]:
    """Make one label image of the masks of an image; a later mask wins where two overlap.

    Args:
        named: name and mask, (H, W) bool, of each nucleus.
        shape: height and width of the image, pixels.

    Returns:
        labels: (H, W) int32, 0 = background; the number of a nucleus is the place of its mask, from 1.
        notes: {"mask", "problem", "pixels", "detail"} for each mask that could not be kept as it is; the problem is
            one of `PROBLEMS`, and the pixels are those of the mask, or those that it lost.
    """
    labels, notes = np.zeros(shape, np.int32), []

    def note(name: str, problem: str, pixels: int, detail: str = "") -> None:
        notes.append({"mask": name, "problem": problem, "pixels": int(pixels), "detail": detail})

    for number, (name, mask) in enumerate(named, 1):
        if mask.shape != shape:
            sizes = f"{mask.shape[0]} x {mask.shape[1]}, its image {shape[0]} x {shape[1]}"
            note(name, "other size", mask.sum(), f"left out: is {sizes} (rows x columns)")
            continue
        if not mask.any():
            note(name, "empty", 0, "left out")
            continue
        pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
        if pieces > 1:
            note(name, "several pieces", mask.sum(), f"each of {pieces} counts as an object")
        for earlier, shared in zip(*np.unique(labels[mask & (labels > 0)], return_counts=True), strict=True):
            is_gone = np.count_nonzero(labels == earlier) == shared
            note(named[earlier - 1][0], "covered" if is_gone else "overlapped", shared, f"by {name}")
        labels[mask] = number
    return labels, notes


def _find_members(archive: Path, zipped: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], Members]:
    """Return images and lists of masks by stem, which is the id, whatever folders these lie in."""
    members: dict[str, Members] = {"images": {}, "masks": {}}
    problems = []
    for member in archives.list_members(SOURCE, archive, zipped):
        path = PureWindowsPath(member.filename)
        folder = path.parent.name
        if folder not in members or len(path.parts) < 3 or path.suffix.lower() in NEVER_IMAGES:
            continue
        stem = unicodedata.normalize("NFC", path.parts[-3])
        members[folder].setdefault(stem, []).append(member)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(f"{member.filename} is not a PNG, JPEG, TIFF or BMP file")
    remedy = f"Give {ARCHIVE} as it was published. {SOURCE.by_hand}"
    if not members["images"] or not members["masks"]:
        raise UserError(archive, "has no files <id>/images/<id>.png and <id>/masks/<name>.png", remedy)
    doubled = [found for found in members["images"].values() if len(found) > 1]
    problems += [f"{found[0].filename} and {found[1].filename} are images of one id" for found in doubled]
    if problems:
        raise all_in_one(archive, problems, remedy)
    return {stem: found[0] for stem, found in members["images"].items()}, members["masks"]


def _read_mask(archive: Path, zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    path = archive / member.filename
    return masks.to_mask(path, pictures.decode(path, archives.read_member(archive, zipped, member)))[0] != 0


def _read_nuclei(
    archive: Path, zipped: zipfile.ZipFile, image: zipfile.ZipInfo, own: Sequence[zipfile.ZipInfo]
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return the image, (H, W, 3) uint8, its labels, (H, W) int32, and what the journal is to remember."""
    path = archive / image.filename
    content = archives.read_member(archive, zipped, image)
    stored = pictures.decode(path, content)
    picture = pictures.to_rgb(stored)[0]
    if len(own) > MOST_NUCLEI:
        problem = f"has {len(own)} masks, more than {MOST_NUCLEI}, which 16 bits number"
        raise UserError(path, problem, f"Give the archive as it was published. {SOURCE.by_hand}")
    members = sorted(own, key=lambda member: member.filename)
    named = [(PureWindowsPath(member.filename).name, _read_mask(archive, zipped, member)) for member in members]
    labels, notes = merge_masks(named, picture.shape[:2])
    meant = pictures.Stored(labels[..., None], 1, False, bits=16)
    objects = masks.to_labels(masks.to_mask(path, meant)[0])  # refuses what could not be read back
    row = {"image_member": image.filename, "masks": len(members)}
    row |= {"instances": int(np.count_nonzero(np.unique(objects))), "kind": find_kind(picture)}
    row |= {"dtype": stored.pixels.dtype.name, "channels": stored.channels}
    row |= {"height": picture.shape[0], "width": picture.shape[1]}
    row |= {"image_sha256": hashlib.sha256(content).hexdigest(), "pixels_sha256": images.hash_pixels(picture)}
    return picture, labels, {"row": row, "notes": notes}


# ---------------------------------------------------------------- the data folder


def draw_splits(rows: Sequence[dict], seed: int) -> dict[str, str]:
    """Draw a split by image within each kind; images of equal pixels stay together.

    Args:
        rows: with stem, kind and pixels_sha256.
        seed: of the draw.

    Returns:
        train, valid or test by stem. A kind of fewer than three pictures is for training.
    """
    same: dict[str, list[str]] = {}
    kinds: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row["stem"]):
        same.setdefault(row["pixels_sha256"], []).append(row["stem"])
        if same[row["pixels_sha256"]] == [row["stem"]]:
            kinds.setdefault(row["kind"], []).append(row["stem"])
    splits: dict[str, str] = {}
    for stems in kinds.values():
        splits |= images.draw_split(stems, seed, FRACTIONS) if len(stems) > 2 else dict.fromkeys(stems, "train")
    return {stem: splits[stems[0]] for stems in same.values() for stem in stems}


def convert_archive(
    archive: str | os.PathLike, folder: str | os.PathLike, seed: int = 1, keep_going: bool = False
) -> list[dict]:
    """Write images and masks of the archive as a data folder.

    `images/<id>.png` is what `pictures.read_image` makes of the image, `labels/<id>.png` holds the number of each
    nucleus in 16 bits, as `merge_masks` makes it. `kinds.csv` says of each image what `find_kind` finds, `split.csv`
    what `draw_splits` draws, `notes.csv` which masks could not be kept as they are, and `source.json` names the
    archive, its MD5 and licence. `manifest.csv` comes last, so a folder that has one is complete; after an
    interruption, call it again.

    Args:
        archive: a zip file.
        folder: made if absent; may hold an unfinished result of the same call.
        seed: of the split.
        keep_going: leave out images that cannot be read, and list them in an error at the end.

    Returns:
        the rows of manifest.csv: stem, the name of the image's member, the number of its masks, instances as
        `masks.read_labels` counts them, kind, dtype, channels, height and width (pixels) of the image as stored, the
        SHA-256 of the image as stored, and that of its pixels.

    Raises:
        UserError: the archive is not one, is unsafe, or lacks images or masks; a member cannot be read; the folder
            holds something else or cannot be written to.
    """
    archive, folder = Path(archive), Path(folder)
    archives.check_target(SOURCE, folder)
    with archives.open_archive(SOURCE, archive) as zipped:
        image_members, mask_members = _find_members(archive, zipped)
        recipe = SOURCE.recipe(archive, seed=seed, fractions=list(FRACTIONS))
        if rows := archives.finished_rows(folder, recipe):
            return rows
        stems = sorted(image_members.keys() & mask_members.keys())
        problems = [f"{image_members[stem].filename} has no masks" for stem in sorted(image_members.keys() - stems)]
        problems += [f"{mask_members[stem][0].filename} has no image" for stem in sorted(mask_members.keys() - stems)]
        if problems and not keep_going:
            raise all_in_one(archive, problems, f"Leave them out with --keep-going. {SOURCE.by_hand}")
        write_json(folder / "source.json", recipe)

        def work(stem: str) -> dict:
            picture, labels, entry = _read_nuclei(archive, zipped, image_members[stem], mask_members[stem])
            pictures.write_image(folder / "labels" / f"{stem}.png", labels)
            pictures.write_image(folder / "images" / f"{stem}.png", picture)
            return entry

        done, unreadable = archives.convert_each(folder, stems, work, keep_going)
    return _finish(archive, folder, seed, [done[stem] for stem in stems if stem in done], problems + unreadable)


def _finish(archive: Path, folder: Path, seed: int, entries: list[dict], problems: list[str]) -> list[dict]:
    """Write the tables, and forget the journal if nothing is left to try again; return the rows of manifest.csv."""
    rows = [{"stem": entry["stem"], **entry["row"]} for entry in entries]
    if rows:
        splits = draw_splits(rows, seed)
        notes = [{"stem": entry["stem"], **note} for entry in entries for note in entry["notes"]]
        write_csv(folder / "kinds.csv", [{"stem": row["stem"], "kind": row["kind"]} for row in rows])
        write_csv(folder / "split.csv", [{"stem": row["stem"], "split": splits[row["stem"]]} for row in rows])
        if notes:
            write_csv(folder / NOTES, notes)
        write_csv(folder / MANIFEST, rows)
    if problems:
        raise archives.left_out(SOURCE, archive, folder, len(rows), problems)
    (folder / JOURNAL).unlink(missing_ok=True)
    return rows


def summarize_notes(folder: str | os.PathLike) -> str:
    """One line on how many masks of a finished data folder have which problem; "" if there are none."""
    path = Path(folder, NOTES)
    found = Counter(row["problem"] for row in read_csv(path)) if path.exists() else {}
    counts = ", ".join(f"{found[problem]} {problem}" for problem in PROBLEMS if problem in found)
    return f"masks that could not be kept as they are: {counts} (see {path})" if counts else ""
