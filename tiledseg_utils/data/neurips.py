"""The NeurIPS 2022 Cell Segmentation challenge: its published archive in, a data folder of this course out.

The archive holds `images/<stem>.<png, bmp, tif, tiff or jpg>` and `labels/<stem>_label.tiff`, below one or two folders
of its own. Members are read straight from it, one image at a time; of their names, only the stem is ever written to.
"""

import functools
import hashlib
import lzma
import os
import stat
import sys
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np

from ..base.files import (
    UserError,
    append_json,
    progress,
    read_csv,
    read_json,
    read_json_lines,
    require_file,
    write_csv,
    write_json,
)
from . import images, masks, pictures
from .bare_nuclei import judge_bare_nuclei

ARCHIVE = "Training-labeled.zip"
RECORD = "https://zenodo.org/api/records/10719375"
SOURCE = {
    "title": 'Ma, Jun et al., "NeurIPS 2022 Cell Segmentation Competition Dataset", Zenodo',
    "doi": "10.5281/zenodo.10719375",
    "url": "https://zenodo.org/records/10719375",
    "licence": "CC BY-NC-ND 4.0",
}
BY_HAND = f"Or download {ARCHIVE} from {SOURCE['url']} with a browser, and give it with --archive"
ATTEMPTS, PAUSE = 6, 2.0  # to download, and the seconds after the first; the pauses grow
CHUNK_BYTES = 2**16  # of a download; a cut connection loses at most one

MEMBER_BYTES = 2**31  # unpacked; many times the largest image of the challenge
TOTAL_BYTES, EXPANSION = 2**31, 50  # an archive may unpack to the first, or to the second times its own size
CONTENT = {"download", "images", "labels", "source.json", "selection.csv", "manifest.csv", "split.csv"}
MANIFEST, JOURNAL = "manifest.csv", ".journal.jsonl"  # the images that are done, one on each line


# ---------------------------------------------------------------- download


def fetch_archive(folder: str | os.PathLike, yes: bool = False, record: str = RECORD) -> Path:
    """Return `folder/download/Training-labeled.zip`; download it, after asking, if it is not there yet.

    The file gets its name once its checksum is that of the Zenodo record. What arrived before an interruption stays in
    a file `.part`, which the next call completes.

    Args:
        folder: the data folder to be.
        yes: do not ask.
        record: address of the record in Zenodo's interface.

    Raises:
        UserError: there is no consent, the server cannot be reached, the disk is full, or the checksum is wrong, in
            which case the file is removed.
    """
    import pooch  # Imported here, as requests below, since only a download needs them.
    import requests

    target = Path(folder) / "download" / ARCHIVE
    _check_target(Path(folder))
    if target.exists():
        return target
    if not yes and not sys.stdin.isatty():
        raise UserError("data neurips", "has no terminal to ask for your consent", f"Consent with --yes. {BY_HAND}")
    url, size, checksum = _published(record)
    print(f"{SOURCE['title']}, doi:{SOURCE['doi']}\n{ARCHIVE}, {size / 1e6:,.1f} MB, from {SOURCE['url']}")
    print(f"Licence {SOURCE['licence']}: name the source, no commercial use, share no changed copies.")
    if not yes and not _consents(f"Download it to {target.parent}? [y/n] "):
        raise UserError(target, "is not downloaded, as you wish", f"Answer y to download it. {BY_HAND}")
    pooch.get_logger().setLevel("WARNING")
    downloader = functools.partial(_download, size=size)
    try:
        pooch.retrieve(url, known_hash=checksum, fname=ARCHIVE, path=target.parent, downloader=downloader)
    except requests.RequestException as error:
        remedy = f"Give the same command again; it goes on where it stopped. {BY_HAND}"
        raise UserError(url, f"cannot be downloaded ({_reason(error)})", remedy) from error
    except OSError as error:
        remedy = "Check permissions and disk space; the same command goes on where it stopped"
        raise UserError(target, f"cannot be written ({error.strerror or error})", remedy) from error
    except ValueError as error:  # of pooch, which has removed the file
        problem = f"did not arrive as published (its checksum is not {checksum}) and was removed"
        raise UserError(target, problem, f"Give the same command again. {BY_HAND}") from error
    return target


def _consents(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"connection failed: {type(error).__name__}" if response is None else f"HTTP status {response.status_code}"


def _published(record: str) -> tuple[str, int, str]:
    """Address, size in bytes and checksum of the archive, as the record states them."""
    import requests

    try:
        response = requests.get(record, timeout=60)
        response.raise_for_status()
        entry = next(entry for entry in response.json()["files"] if entry["key"] == ARCHIVE)
        return entry["links"]["self"], int(entry["size"]), entry["checksum"]
    except requests.RequestException as error:
        remedy = f"Check the connection and try again. {BY_HAND}"
        raise UserError(record, f"cannot be read ({_reason(error)})", remedy) from error
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise UserError(record, f"does not state size and checksum of {ARCHIVE}", BY_HAND) from error


def _download(url: str, output: str, _pooch, size: int) -> None:
    """A downloader for pooch, which starts again after a cut; this one goes on, also where an earlier call was cut."""
    import requests

    part = Path(output).with_name(f"{ARCHIVE}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(url, part, size)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE * attempt)
    os.replace(part, output)


def _append(url: str, part: Path, size: int) -> None:
    import requests

    present = part.stat().st_size if part.exists() else 0
    if present == size:
        return
    wanted = {"Range": f"bytes={present}-"} if 0 < present < size else {}
    headers = {"Accept-Encoding": "identity", **wanted}  # a range of the file itself, not of a compressed copy
    with requests.get(url, headers=headers, stream=True, timeout=60) as response:
        response.raise_for_status()
        start = present if wanted and response.status_code == 206 else 0  # 200: the server sends all of it again
        bar = progress(unit="MB", total=size / 1e6, initial=start / 1e6)
        with part.open("ab" if start else "wb") as file, bar:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk) / 1e6)
    if part.stat().st_size < size:
        raise requests.ConnectionError("the connection was cut")


# ---------------------------------------------------------------- members of the archive


def _open(archive: Path) -> zipfile.ZipFile:
    require_file(archive)
    try:
        return zipfile.ZipFile(archive)
    except OSError as error:
        raise UserError(archive, f"cannot be opened ({error.strerror})", "Check its name and permissions") from error
    except zipfile.BadZipFile as error:
        raise UserError(archive, f"is not a zip archive, or is cut short ({error})", BY_HAND) from error


def _check_safe(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse names that lead elsewhere, links, and sizes that no image has; zipfile reads no more than is stated."""
    for member in members:
        path, problem = PureWindowsPath(member.filename), ""  # knows / and \ and drives
        if path.anchor or ".." in path.parts:
            problem = "is a path that leads out of its folder"
        elif stat.S_ISLNK(member.external_attr >> 16):
            problem = "is a symbolic link"
        elif member.file_size > MEMBER_BYTES:
            problem = f"would unpack to {member.file_size / 1e9:.1f} GB"
        if problem:
            raise UserError(f"{archive}: {member.filename}", problem, f"Trust no archive like this. {BY_HAND}")
    total, packed = sum(member.file_size for member in members), archive.stat().st_size
    if total > max(TOTAL_BYTES, EXPANSION * packed):
        problem = f"would unpack from {packed / 1e6:.1f} MB to {total / 1e9:.1f} GB"
        raise UserError(archive, problem, f"Trust no archive like this. {BY_HAND}")


def _find_members(archive: Path, zipped: zipfile.ZipFile) -> tuple[dict, dict]:
    """Return images and labels by stem, whatever folders `images/` and `labels/` lie in."""
    members = [member for member in zipped.infolist() if not member.filename.startswith("__MACOSX/")]
    _check_safe(archive, members)
    found, problems = {"images": {}, "labels": {}}, []
    for member in members:
        path = PureWindowsPath(member.filename)
        folder, suffix = path.parent.name, path.suffix.lower()
        if member.is_dir() or folder not in found or path.name.startswith(".") or suffix in images.NEVER_IMAGES:
            continue
        stem = unicodedata.normalize("NFC", path.stem)
        stem = stem.removesuffix("_label") if folder == "labels" else stem
        if suffix not in images.IMAGE_SUFFIXES:
            problems.append(f"{member.filename} is not a PNG, JPEG, TIFF or BMP file")
        elif stem in found[folder]:
            problems.append(f"{found[folder][stem].filename} and {member.filename} share one stem")
        else:
            found[folder][stem] = member
    missing = [folder for folder in found if not found[folder]]
    if missing:
        raise UserError(archive, f"has no files in a folder {' or '.join(missing)}", f"Give {ARCHIVE}. {BY_HAND}")
    if problems:
        raise images.all_in_one(archive, problems, f"Give the archive as it was published. {BY_HAND}")
    return found["images"], found["labels"]


def _read(archive: Path, zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[bytes, pictures.Stored]:
    path = archive / member.filename
    try:
        content = zipped.read(member)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError) as error:
        raise UserError(path, f"cannot be unpacked ({error})", "Download the archive again") from error
    return content, pictures.decode(path, content)


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


RULES = {"bare-nuclei": judge_bare_nuclei}


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
        raise images.all_in_one(Path(f"--select {select}"), problems or ["lists no image"], remedy)
    return sorted(stems)


# ---------------------------------------------------------------- the data folder


def _check_target(folder: Path) -> None:
    """Refuse a folder that holds anything but what this module writes."""
    remedy = "Choose a folder that is empty or not there yet"
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", remedy)
    present = {path.name for path in folder.glob("[!.]*")}
    strange = present - (CONTENT if "source.json" in present else {"download"})
    if strange:
        raise UserError(folder, f"holds something else ({', '.join(sorted(strange)[:3])})", remedy)


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
        select: "all", "bare-nuclei", stems with commas between them, or a text file with one stem on each line.
        keep_going: leave out images that cannot be read, and list them in an error at the end.

    Returns:
        the rows of manifest.csv: stem, the names of the members, dtype, channels, height and width (pixels) of the
        image as stored, the values of its percentiles (empty if it was not scaled), label_dtype, instances as
        `masks.read_labels` counts them, and the SHA-256 of the image as stored.

    Raises:
        UserError: the archive is not one, is unsafe or lacks partners; a member cannot be read; a stem is unknown; the
            folder holds something else or cannot be written to.
    """
    import pooch

    archive, folder = Path(archive), Path(folder)
    _check_target(folder)
    with _open(archive) as zipped:
        image_members, labels = _find_members(archive, zipped)
        stems = _choose_stems(select, image_members.keys() | labels.keys(), archive)
        selection = select if select == "all" or select in RULES else stems
        recipe = SOURCE | {"archive": archive.name, "md5": pooch.file_hash(archive, "md5"), "select": selection}
        recipe |= {"percentiles": list(pictures.PERCENTILES)}
        if (folder / "source.json").exists() and read_json(folder / "source.json") != recipe:
            problem = "holds images of another archive or another selection"
            raise UserError(folder, problem, "Choose a folder that is empty or not there yet")
        if (folder / MANIFEST).exists() and not (folder / JOURNAL).exists():
            return read_csv(folder / MANIFEST)
        problems = [f"{image_members[stem].filename} has no label" for stem in stems if stem not in labels]
        problems += [f"{labels[stem].filename} has no image" for stem in stems if stem not in image_members]
        if problems and not keep_going:
            raise images.all_in_one(archive, problems, f"Leave them out with --keep-going. {BY_HAND}")
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
    done = {entry["stem"]: entry for entry in read_json_lines(folder / JOURNAL) if "stem" in entry}
    problems, remaining = [], [stem for stem in pairs if stem not in done]
    for stem in remaining if rule else progress(remaining, unit="image"):  # a rule prints a line for each
        try:
            picture, label, row = _read_pair(archive, zipped, *pairs[stem])
        except UserError as error:
            if not keep_going:
                raise UserError(
                    error.path, error.problem, f"{error.remedy}, or leave it out with --keep-going"
                ) from error
            problems.append(str(error))
            continue
        taken, reason = rule(picture, label) if rule else (True, "")
        if rule:
            print(f"{stem}: {'taken' if taken else 'left'}, {reason}")
        if taken:
            pictures.write_image(folder / "labels" / f"{stem}_label.tiff", label)
            pictures.write_image(folder / "images" / f"{stem}.png", picture)
        done[stem] = {"stem": stem, "taken": taken, "reason": reason, "row": {"stem": stem, **row}}
        append_json(folder / JOURNAL, done[stem])
    return done, problems


def _finish(archive: Path, folder: Path, select: str, judged: list[dict], problems: list[str]) -> list[dict]:
    """Write the tables, and forget the journal if nothing is left to try again; return the rows of manifest.csv."""
    rows = [entry["row"] for entry in judged if entry["taken"]]
    if select in RULES:
        names = ("stem", "taken", "reason")
        write_csv(folder / "selection.csv", [{name: entry[name] for name in names} for entry in judged])
    if rows:
        write_csv(folder / MANIFEST, rows)
    if problems:
        remedy = f"All others ({len(rows)}) are in {folder}; the same command tries these again. {BY_HAND}"
        raise UserError(archive, "\n  ".join([f"{len(problems)} image(s) are left out", *problems]), remedy)
    if not rows:
        raise UserError(archive, f"holds no image that --select {select} takes", f"See {folder / 'selection.csv'}")
    (folder / JOURNAL).unlink(missing_ok=True)
    return rows
