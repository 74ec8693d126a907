"""Published zip archives of images: downloaded with consent, read member by member, converted image by image.

`neurips` and `bbbc038` make data folders of such archives. Nothing of an archive reaches the disk under a name of its
own choice, and whatever is interrupted goes on when it is called again.
"""

import functools
import lzma
import os
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ..base.files import (
    UserError,
    WriteError,
    append_json,
    progress,
    read_csv,
    read_json,
    read_json_lines,
    require_file,
)

ATTEMPTS, PAUSE = 6, 2.0  # to download, and the seconds after the first; the pauses grow
CHUNK_BYTES = 2**16  # of a download; a cut connection loses at most one

MEMBER_BYTES = 2**31  # unpacked; many times the largest image of any of the sets
TOTAL_BYTES, EXPANSION = 2**31, 50  # an archive may unpack to the first, or to the second times its own size
MANIFEST, JOURNAL = "manifest.csv", ".journal.jsonl"  # the images that are done, one on each line


@dataclass(frozen=True)
class Source:
    """Where a data set is published, and on which terms.

    Args:
        command: of this package, that makes a data folder of it.
        archive: name of its file.
        title, doi: of the publication to cite.
        url: of its page.
        licence, terms: the name of the licence, and in a few words what it asks for.
        content: names of all that stands in a data folder made of it.
    """

    command: str
    archive: str
    title: str
    doi: str
    url: str
    licence: str
    terms: str
    content: frozenset[str]

    @property
    def by_hand(self) -> str:
        """What to do where the download fails."""
        return f"Or download {self.archive} from {self.url} with a browser, and give it with --archive"

    def recipe(self, archive: Path, **more) -> dict:
        """What source.json says: the publication, the archive and its MD5, and `more`."""
        import pooch

        about = {name: getattr(self, name) for name in ("title", "doi", "url", "licence")}
        return about | {"archive": archive.name, "md5": pooch.file_hash(archive, "md5")} | more


# ---------------------------------------------------------------- download


def fetch(source: Source, folder: Path, yes: bool, published: Callable[[], tuple[str, int, str | None]]) -> Path:
    """Return the archive in `folder/download`; download it, after asking, if it is not there yet.

    The file gets its name once its checksum is the published one or, where none is published, once all the checksums
    (CRC-32) that the archive holds of its members are right. What arrived before an interruption stays in a file
    `.part`, which the next call completes.

    Args:
        source: what to download.
        folder: the data folder to be.
        yes: do not ask.
        published: returns address, size in bytes, and checksum ("md5:..." or None) of the archive.

    Raises:
        UserError: there is no consent, the server cannot be reached, the disk is full, or a checksum is wrong, in
            which case the file is removed.
    """
    import pooch  # Imported here, as requests below, since only a download needs them.
    import requests

    target = folder / "download" / source.archive
    check_target(source, folder)
    if target.exists():
        return target
    if not yes and not sys.stdin.isatty():
        raise UserError(
            source.command, "has no terminal to ask for your consent", f"Consent with --yes. {source.by_hand}"
        )
    url, size, checksum = published()
    print(f"{source.title}, doi:{source.doi}\n{source.archive}, {size / 1e6:,.1f} MB, from {source.url}")
    print(f"Address {url}\nLicence {source.licence}: {source.terms}.")
    if checksum is None:
        print("No checksum of the archive is published, so those that it holds of its own files are compared.")
    if not yes and not _consents(f"Download it to {target.parent}? [y/n] "):
        raise UserError(target, "is not downloaded, as you wish", f"Answer y to download it. {source.by_hand}")
    pooch.get_logger().setLevel("WARNING")
    downloader = functools.partial(_download, size=size, name=source.archive, check=checksum is None)
    try:
        pooch.retrieve(url, known_hash=checksum, fname=source.archive, path=target.parent, downloader=downloader)
    except requests.RequestException as error:
        remedy = f"Give the same command again; it goes on where it stopped. {source.by_hand}"
        raise UserError(url, f"cannot be downloaded ({reason(error)})", remedy) from error
    except OSError as error:
        remedy = "Check permissions and disk space; the same command goes on where it stopped"
        raise UserError(target, f"cannot be written ({error.strerror or error})", remedy) from error
    except ValueError as error:  # of pooch, or of the check below; the file is removed
        wrong = f"its checksum is not {checksum}" if checksum else str(error)
        problem = f"did not arrive as published ({wrong}) and was removed"
        raise UserError(target, problem, f"Give the same command again. {source.by_hand}") from error
    return target


def _consents(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def reason(error: Exception) -> str:
    """Why a request failed, in a few words."""
    response = getattr(error, "response", None)
    return f"connection failed: {type(error).__name__}" if response is None else f"HTTP status {response.status_code}"


def _download(url: str, output: str, _pooch, size: int, name: str, check: bool) -> None:
    """A downloader for pooch, which starts again after a cut; this one goes on, also where an earlier call was cut."""
    import requests

    part = Path(output).with_name(f"{name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _append(url, part, size)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE * attempt)
    if check and (problem := _find_damage(part)):
        part.unlink()
        raise ValueError(problem)
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


UNPACKING_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def _find_damage(archive: Path) -> str:
    """Say what is damaged in a zip archive, by the checksums that it holds; "" if nothing is."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            member = zipped.testzip()
    except UNPACKING_ERRORS as error:
        return f"it is no whole zip archive: {error}"
    return f"the checksum of {member} is wrong" if member else ""


# ---------------------------------------------------------------- members


def open_archive(source: Source, archive: Path) -> zipfile.ZipFile:
    """Open a zip archive; a UserError says what is wrong with one that is none."""
    require_file(archive)
    try:
        return zipfile.ZipFile(archive)
    except OSError as error:
        raise UserError(archive, f"cannot be opened ({error.strerror})", "Check its name and permissions") from error
    except zipfile.BadZipFile as error:
        problem = f"is not a zip archive, or is cut short ({error})"
        raise UserError(archive, problem, source.by_hand) from error


def list_members(source: Source, archive: Path, zipped: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of an archive, without hidden ones and what macOS adds.

    Raises:
        UserError: a name leads elsewhere, a member is a link, or of a size that no image has. zipfile reads no more
            than the size that is stated.
    """
    members = [member for member in zipped.infolist() if not member.filename.startswith("__MACOSX/")]
    remedy = f"Trust no archive like this. {source.by_hand}"
    for member in members:
        path, problem = PureWindowsPath(member.filename), ""  # knows / and \ and drives
        if path.anchor or ".." in path.parts:
            problem = "is a path that leads out of its folder"
        elif stat.S_ISLNK(member.external_attr >> 16):
            problem = "is a symbolic link"
        elif member.file_size > MEMBER_BYTES:
            problem = f"would unpack to {member.file_size / 1e9:.1f} GB"
        if problem:
            raise UserError(f"{archive}: {member.filename}", problem, remedy)
    total, packed = sum(member.file_size for member in members), archive.stat().st_size
    if total > max(TOTAL_BYTES, EXPANSION * packed):
        problem = f"would unpack from {packed / 1e6:.1f} MB to {total / 1e9:.1f} GB"
        raise UserError(archive, problem, remedy)
    return [
        member
        for member in members
        if not member.is_dir() and not PureWindowsPath(member.filename).name.startswith(".")
    ]


def read_member(archive: Path, zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, whose checksum is right; else a UserError."""
    try:
        return zipped.read(member)
    except (*UNPACKING_ERRORS, OSError) as error:
        problem = f"cannot be unpacked ({error})"
        raise UserError(archive / member.filename, problem, "Download the archive again") from error


# ---------------------------------------------------------------- the data folder


def check_target(source: Source, folder: Path) -> None:
    """Refuse a folder that holds anything but what is written of this source."""
    remedy = "Choose a folder that is empty or not there yet"
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", remedy)
    present = {path.name for path in folder.glob("[!.]*")}
    strange = present - (source.content if "source.json" in present else {"download"})
    if strange:
        raise UserError(folder, f"holds something else ({', '.join(sorted(strange)[:3])})", remedy)


def finished_rows(folder: Path, recipe: dict) -> list[dict] | None:
    """The rows of manifest.csv if the folder is complete; None if there is work left.

    Raises:
        UserError: the folder was made by another recipe.
    """
    if (folder / "source.json").exists() and read_json(folder / "source.json") != recipe:
        problem = "holds images of another archive or another selection"
        raise UserError(folder, problem, "Choose a folder that is empty or not there yet")
    if (folder / MANIFEST).exists() and not (folder / JOURNAL).exists():
        return read_csv(folder / MANIFEST)
    return None


def convert_each(
    folder: Path, stems: Iterable[str], work: Callable[[str], dict], keep_going: bool, bar: bool = True
) -> tuple[dict[str, dict], list[str]]:
    """Do the work that is not done yet, and enter each result in the journal of the folder.

    Args:
        folder: the data folder to be, with the journal.
        stems: of the images.
        work: writes the files of a stem, and returns what the journal is to remember, JSON values.
        keep_going: leave out images that cannot be read.
        bar: show how far it has come.

    Returns:
        the journal's entries by stem, and a sentence for each image left out.

    Raises:
        UserError: an image cannot be read, unless `keep_going`; a file cannot be written.
    """
    done = {entry["stem"]: entry for entry in read_json_lines(folder / JOURNAL) if "stem" in entry}
    problems, remaining = [], [stem for stem in stems if stem not in done]
    for stem in progress(remaining, unit="image") if bar else remaining:
        try:
            entry = {"stem": stem, **work(stem)}
        except UserError as error:
            if isinstance(error, WriteError):
                raise
            if not keep_going:
                remedy = f"{error.remedy}, or leave it out with --keep-going"
                raise UserError(error.path, error.problem, remedy) from error
            problems.append(str(error))
            continue
        done[stem] = entry
        append_json(folder / JOURNAL, entry)
    return done, problems


def left_out(source: Source, archive: Path, folder: Path, kept: int, problems: list[str]) -> UserError:
    """The error that lists every image that was left out; there is at least one."""
    remedy = f"All others ({kept}) are in {folder}; the same command tries these again. {source.by_hand}"
    return UserError(archive, "\n  ".join([f"{len(problems)} image(s) are left out", *problems]), remedy)
