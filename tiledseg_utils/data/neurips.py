"""The NeurIPS 2022 Cell Segmentation challenge: its published archive in, a data folder of this course out.

The archive holds `images/<stem>.<png, bmp, tif, tiff or jpg>` and `labels/<stem>_label.tiff`, below one or two folders
of its own. Members are read straight from it, one image at a time; of their names, only the stem is ever written to.
"""

import hashlib
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np

from ..base.files import UserError, write_csv, write_json
from ..base.paths import IMAGE_SUFFIXES, NEVER_IMAGES
from . import archives, images, masks, pictures
from .archives import JOURNAL, MANIFEST
from .bare_nuclei import judge_bare_nuclei
from .published import find_published, published_images
from .tables import all_in_one

ARCHIVE = "Training-labeled.zip"
RECORD = "https://zenodo.org/api/records/10719375"
SOURCE = archives.Source(
    command="data neurips",
    archive=ARCHIVE,
    title='Ma, Jun et al., "NeurIPS 2022 Cell Segmentation Competition Dataset", Zenodo',
    doi="10.5281/zenodo.10719375",
    url="https://zenodo.org/records/10719375",
    licence="CC BY-NC-ND 4.0",
    terms="name the source, no commercial use, share no changed copies",
    content=frozenset({"download", "images", "labels", "source.json", "selection.csv", MANIFEST, "split.csv"}),
)


def fetch_archive(folder: str | os.PathLike, yes: bool = False, record: str = RECORD) -> Path:
    """Return `folder/download/Training-labeled.zip`; download it, after asking, if it is not there yet.

    Args:
        folder: the data folder to be.
        yes: do not ask.
        record: address of the record in Zenodo's interface, which states the checksum.

    Raises:
        UserError: as for `archives.fetch`.
    """
    return archives.fetch(SOURCE, Path(folder), yes, lambda: _published(record))


def _published(record: str) -> tuple[str, int, str]:
    """Address, size in bytes and checksum of the archive, as the record states them."""
    import requests

    try:
        response = requests.get(record, timeout=60)
        response.raise_for_status()
        entry = next(entry for entry in response.json()["files"] if entry["key"] == ARCHIVE)
        return entry["links"]["self"], int(entry["size"]), entry["checksum"]
    except requests.RequestException as error:
        remedy = f"Check the connection and try again. {SOURCE.by_hand}"
        raise UserError(record, f"cannot be read ({archives.reason(error)})", remedy) from error
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise UserError(record, f"does not state size and checksum of {ARCHIVE}", SOURCE.by_hand) from error


def _find_members(archive: Path, zipped: zipfile.ZipFile) -> tuple[dict, dict]:
    """Return images and labels by stem, whatever folders `images/` and `labels/` lie in."""
    found, problems = {"images": {}, "labels": {}}, []
    for member in archives.list_members(SOURCE, archive, zipped):
        path = PureWindowsPath(member.filename)
        folder, suffix = path.parent.name, path.suffix.lower()
        if folder not in found or suffix in NEVER_IMAGES:
            continue
        stem = unicodedata.normalize("NFC", path.stem)
        stem = stem.removesuffix("_label") if folder == "labels" else stem
        if suffix not in IMAGE_SUFFIXES:
            problems.append(f"{member.filename} is not a PNG, JPEG, TIFF or BMP file")
        elif stem in found[folder]:
            problems.append(f"{found[folder][stem].filename} and {member.filename} share one stem")
        else:
            found[folder][stem] = member
    missing = [folder for folder in found if not found[folder]]
    if missing:
        raise UserError(
            archive, f"has no files in a folder {' or '.join(missing)}", f"Give {ARCHIVE}. {SOURCE.by_hand}"
        )
    if problems:
        raise all_in_one(archive, problems, f"Give the archive as it was published. {SOURCE.by_hand}")
    return found["images"], found["labels"]


def _read(archive: Path, zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[bytes, pictures.Stored]:
    content = archives.read_member(archive, zipped, member)
    return content, pictures.decode(archive / member.filename, content)


def _read_pair(
    archive: Path, zipped: zipfile.ZipFile, image: zipfile.ZipInfo, label: zipfile.ZipInfo
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return the image, `(H, W, 3)` uint8, its labels, `(H, W)` integers as stored, and what the manifest says."""
    pair = images.Pair("", archive / image.filename, archive / label.filename)
    content, stored = _read(archive, zipped, image)
    _, stored_labels = _read(archive, zipped, label)
    if stored_labels.is_jpeg:
        raise UserError(pair.mask, "is a JPEG, which cannot keep labels", "Give the archive as it was published")
    objects = masks.to_labels(masks.to_mask(pair.mask, stored_labels)[0])  # refuses what could not be read back
    picture, labels = pictures.to_rgb(stored)[0], stored_labels.pixels[..., 0]
    images.check_sizes(pair, picture, labels)
    is_kept = stored.pixels.dtype == np.uint8
    low, high = ("", "") if is_kept else pictures.percentile_limits(stored.pixels)
    row = {"image_member": image.filename, "label_member": label.filename}
    row |= {"dtype": stored.pixels.dtype.name, "channels": stored.channels}
    row |= {"height": picture.shape[0], "width": picture.shape[1], "percentile_low": low, "percentile_high": high}
    row |= {"label_dtype": stored_labels.pixels.dtype.name, "instances": np.unique(objects[objects > 0]).size}
    return picture, labels, row | {"image_sha256": hashlib.sha256(content).hexdigest()}


# ---------------------------------------------------------------- selection


Judgement = tuple[bool, str, str | None]
"""Whether an image is taken, why, and under which name, if not its own."""


def _judge_published(picture: np.ndarray, labels: np.ndarray) -> Judgement:
    name, reason = find_published(picture)
    return name is not None, reason, name


RULES: dict[str, Callable[[np.ndarray, np.ndarray], Judgement]] = {
    "bare-nuclei": lambda picture, labels: (*judge_bare_nuclei(picture, labels), None),
    "published": _judge_published,
}


def _choose_stems(select: str, known: set[str], archive: Path) -> list[str]:
    """The stems to read, sorted: all of them for a rule, else those that `select` lists or that are in its file."""
    if select == "all" or select in RULES:
        return sorted(known)
    if os.path.isfile(select):
        names = Path(select).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    else:
        names = select.split(",")
    stems = {unicodedata.normalize("NFC", name.strip()) for name in names} - {""}
    problems = [f"'{stem}' is the name of no image in {archive}" for stem in sorted(stems - known)]
    if problems or not stems:
        remedy = f"List stems (names without suffix), give a file with one on each line, or all, {', '.join(RULES)}"
        raise all_in_one(Path(f"--select {select}"), problems or ["lists no image"], remedy)
    return sorted(stems)


# ---------------------------------------------------------------- the data folder


def convert_archive(
    archive: str | os.PathLike, folder: str | os.PathLike, select: str = "all", keep_going: bool = False
) -> list[dict]:
    """Write images and labels of the challenge's archive as a data folder.

    `images/<stem>.png` is what `pictures.read_image` makes of the image, `labels/<stem>_label.tiff` holds the labels as
    stored. `source.json` names the archive, its MD5 and licence; `selection.csv` says why a rule took or left each
    image. `manifest.csv` comes last, so a folder that has one is complete; after an interruption, call it again.

    Args:
        archive: a zip file.
        folder: made if absent; may hold an unfinished result of the same call.
        select: "all", "bare-nuclei", "published" (the 24 images of the published experiment, found by their content,
            under its names and with its split), stems with commas between them, or a text file with one on each line.
        keep_going: leave out images that cannot be read, and list them in an error at the end.

    Returns:
        the rows of manifest.csv: stem, the names of the members, dtype, channels, height and width (pixels) of the
        image as stored, the values of its percentiles (empty if it was not scaled), label_dtype, instances as
        `masks.read_labels` counts them, and the SHA-256 of the image as stored.

    Raises:
        UserError: the archive is not one, is unsafe or lacks partners; a member cannot be read; a stem is unknown; the
            folder holds something else or cannot be written to.
    """
    archive, folder = Path(archive), Path(folder)
    archives.check_target(SOURCE, folder)
    with archives.open_archive(SOURCE, archive) as zipped:
        image_members, labels = _find_members(archive, zipped)
        stems = _choose_stems(select, image_members.keys() | labels.keys(), archive)
        selection = select if select == "all" or select in RULES else stems
        recipe = SOURCE.recipe(archive, select=selection, percentiles=list(pictures.PERCENTILES))
        if rows := archives.finished_rows(folder, recipe):
            return rows
        problems = [f"{image_members[stem].filename} has no label" for stem in stems if stem not in labels]
        problems += [f"{labels[stem].filename} has no image" for stem in stems if stem not in image_members]
        if problems and not keep_going:
            raise all_in_one(archive, problems, f"Leave them out with --keep-going. {SOURCE.by_hand}")
        write_json(folder / "source.json", recipe)
        pairs = {stem: (image_members[stem], labels[stem]) for stem in stems if stem in image_members.keys() & labels}
        done, unreadable = _convert(archive, zipped, pairs, folder, RULES.get(select), keep_going)
    return _finish(archive, folder, select, [done[stem] for stem in stems if stem in done], problems + unreadable)


def _convert(
    archive: Path,
    zipped: zipfile.ZipFile,
    pairs: dict[str, tuple[zipfile.ZipInfo, zipfile.ZipInfo]],
    folder: Path,
    rule: Callable | None,
    keep_going: bool,
) -> tuple[dict[str, dict], list[str]]:
    """Write the images and labels that are not written yet; return the journal's entries by stem, and all problems."""

    def work(stem: str) -> dict:
        picture, label, row = _read_pair(archive, zipped, *pairs[stem])
        taken, reason, other_name = rule(picture, label) if rule else (True, "", None)
        name = other_name or stem
        if rule:
            print(f"{stem}: {'taken' if taken else 'left'}{f' as {name}' if other_name else ''}, {reason}")
        if taken:
            pictures.write_image(folder / "labels" / f"{name}_label.tiff", label)
            pictures.write_image(folder / "images" / f"{name}.png", picture)
        row = {"stem": name, **({"archive_stem": stem} if other_name else {}), **row}
        return {"taken": taken, "reason": reason, "row": row}

    return archives.convert_each(folder, pairs, work, keep_going, bar=rule is None)  # a rule prints a line for each


def _finish(archive: Path, folder: Path, select: str, judged: list[dict], problems: list[str]) -> list[dict]:
    """Write the tables, and forget the journal if nothing is left to try again; return the rows of manifest.csv."""
    rows = [entry["row"] for entry in judged if entry["taken"]]
    if select in RULES:
        write_csv(folder / "selection.csv", [_selection_row(entry) for entry in judged])
    if select == "published":
        problems = problems + _finish_published(folder, rows)
    if rows:
        write_csv(folder / MANIFEST, rows)
    if problems:
        raise archives.left_out(SOURCE, archive, folder, len(rows), problems)
    if not rows:
        raise UserError(archive, f"holds no image that --select {select} takes", f"See {folder / 'selection.csv'}")
    (folder / JOURNAL).unlink(missing_ok=True)
    return rows


def _selection_row(entry: dict) -> dict:
    """What a rule said of an image, whose name in the archive comes first."""
    row = entry["row"]
    written = row["stem"] if entry["taken"] else ""
    stem = row.get("archive_stem", row["stem"])
    return {"stem": stem, "taken": entry["taken"], "written_as": written, "reason": entry["reason"]}


def _finish_published(folder: Path, rows: list[dict]) -> list[str]:
    """Write the split of the published figures, say which images were not found, and return what is doubtful."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["stem"], []).append(row["archive_stem"])
    known = published_images()
    write_csv(folder / "split.csv", [{"stem": stem, "split": known[stem]["split"]} for stem in sorted(found)])
    missing = [stem for stem in known if stem not in found]
    rest = f"; not found: {', '.join(missing)}" if missing else ""
    print(f"{len(found)} of the {len(known)} published images found{rest}")
    return [
        f"{' and '.join(names)} both look like {stem}, and the last one was written"
        for stem, names in found.items()
        if len(names) > 1
    ]
