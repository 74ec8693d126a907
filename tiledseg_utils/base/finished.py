"""Which files in a folder of results are finished, and of what they were made.

A command that is given again after an interruption leaves out what it has finished, so it has to tell its own results
from other files. Each result is entered in a file beside it, `.tiledseg-finished.jsonl`: its name, the SHA-256 of its
bytes, and that of all that it depends on (the image's bytes, the model, the settings, the version of this package). A
result that somebody has changed or put there therefore never counts as finished.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from .files import append_json, hash_path, read_json_lines
from .version import VERSION

JOURNAL = ".tiledseg-finished.jsonl"


def note_finished(path: Path, content: Path, identity: Mapping, facts: Mapping | None = None) -> None:
    """Enter a result before it gets its name, so that an interruption leaves no result without an entry.

    Args:
        path: the name that it will get.
        content: the file, or the folder, that has its bytes now.
        identity: JSON values; all that the bytes depend on.
        facts: JSON values; what else to remember about it.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    entry = {"name": _name(path), "sha256": hash_path(content), "made_of": _digest(identity)}
    append_json(path.parent / JOURNAL, entry | {"facts": dict(facts or {})})


def find_finished(path: Path, identity: Mapping) -> dict | None:
    """The facts about a result if it is there, unchanged, and was made of exactly this; else None."""
    if not (path.is_file() or path.is_dir()):
        return None
    made_of = _digest(identity)
    entries = [
        entry
        for entry in read_json_lines(path.parent / JOURNAL, containing=made_of)
        if entry.get("name") == _name(path) and entry.get("made_of") == made_of
    ]
    present = hash_path(path) if entries else None
    matching = [entry for entry in entries if entry.get("sha256") == present]
    return dict(matching[-1].get("facts") or {}) if matching else None


def _name(path: Path) -> str:
    """The name of a file, in the same form on every system: macOS writes an accent as a character of its own."""
    return unicodedata.normalize("NFC", path.name)


def _digest(identity: Mapping) -> str:
    content = json.dumps({"version": VERSION, **identity}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
