"""Which files in a folder of results are finished, and of what they were made.

A command that is given again after an interruption leaves out what it has finished. So it has to tell its own results
from files of others. Each result is entered in a file beside it, `.tiledseg-finished.jsonl`: its name, the SHA-256 of
its bytes, and that of all that it depends on (the image's bytes, the model, the settings, the version of this package).
A file that somebody has changed or put there therefore never counts as finished. Without the file, nothing does.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from .. import __version__
from .files import append_json, hash_file, read_json_lines

JOURNAL = ".tiledseg-finished.jsonl"


def note_finished(path: Path, content: Path, identity: Mapping, facts: Mapping | None = None) -> None:
    """Enter a result, before it gets its name: an interruption between the two leaves no result without an entry.

    Args:
        path: its name to be.
        content: the file that has its bytes now.
        identity: for JSON; all that the bytes depend on.
        facts: for JSON; what else to remember of it.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    entry = {
        "name": _name(path),
        "sha256": hash_file(content),
        "made_of": _digest(identity),
        "facts": dict(facts or {}),
    }
    append_json(path.parent / JOURNAL, entry)


def find_finished(path: Path, identity: Mapping) -> dict | None:
    """The facts of a result that is there, unchanged, and was made of just this; else None."""
    if not path.is_file():
        return None
    made_of = _digest(identity)
    entries = [
        entry
        for entry in read_json_lines(path.parent / JOURNAL, containing=made_of)
        if entry.get("name") == _name(path) and entry.get("made_of") == made_of
    ]
    if not entries:
        return None
    present = hash_file(path)
    matching = [entry for entry in entries if entry.get("sha256") == present]
    return dict(matching[-1].get("facts") or {}) if matching else None


def _name(path: Path) -> str:
    """The name of a file, as it is on every system: macOS takes accents apart."""
    return unicodedata.normalize("NFC", path.name)


def _digest(identity: Mapping) -> str:
    content = json.dumps({"version": __version__, **identity}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
