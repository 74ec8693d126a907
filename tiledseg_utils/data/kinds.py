"""Kinds of image: a table of the user's that gives each image a kind or a group, such as the kinds.csv of bbbc038."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..base.files import UserError
from ..base.text import printable
from .images import MASK_ENDINGS, without_ending
from .tables import all_in_one, read_table

FEWEST = 3
"""Images of a kind: one each to learn from, to judge the training, and to test."""


def read_kinds(path: Path, stems: Sequence[str] | None = None, columns: Sequence[str] = ("kind",)) -> dict[str, str]:
    """The kind of each image by its stem, whether or not the table's stems end in _mask or _label.

    Args:
        path: .csv with a column stem and one of `columns`.
        stems: images that must be listed, and whose kinds are returned; None returns those of all.
        columns: names under which the kinds may stand; the first that is there counts.

    Raises:
        UserError: the table cannot be read or lacks a column, an image has no kind or is listed twice, or a kind is
            called all.
    """
    remedy = f"Write one line for each image: stem,{columns[0]}"
    rows = read_table(path, ("stem",))
    column = next((name for name in columns if name in rows[0]), None)
    if column is None:
        raise UserError(path, f"does not have the columns stem and {columns[0]}", remedy)
    kinds: dict[str, str] = {}
    problems = []
    for row in rows:
        stem, kind = (unicodedata.normalize("NFC", row[name] or "").strip() for name in ("stem", column))
        stem = without_ending(stem, MASK_ENDINGS)
        if not stem:
            problems.append("a line has no stem")
        elif stem in kinds:
            problems.append(f"'{stem}' is listed more than once")
        if kind == "all":
            problems.append(f"'{stem}' has the {column} 'all', which stands for all images")
        kinds[stem] = kind
    wanted = list(kinds) if stems is None else list(stems)
    problems += [f"'{stem}' has no {column}" for stem in wanted if not kinds.get(stem)]
    if problems:
        raise all_in_one(path, problems, remedy)
    return {stem: kinds[stem] for stem in wanted}


def kinds_of_folder(folder: Path, stems: Sequence[str] | None = None) -> dict[str, str] | None:
    """The kinds that the kinds.csv of a data folder names, as `read_kinds`; None if it names groups only, or is absent.

    Raises:
        UserError: as for `read_kinds`.
    """
    path = Path(folder) / "kinds.csv"
    if not path.exists():
        return None
    columns = read_table(path, ("stem",))[0]
    return None if "group" in columns and "kind" not in columns else read_kinds(path, stems)


def rare_kinds(kinds: Mapping[str, str]) -> list[str]:
    """A sentence for each kind that has fewer than three images.

    Args:
        kinds: of images, by stem.
    """
    sentences = []
    for kind, count in sorted(Counter(kinds.values()).items()):
        if count < FEWEST:
            number = f"{count} image{'s' * (count > 1)}, and {FEWEST} are needed to learn it, judge it and test it"
            remedy = "Add images, or give it the name of a similar kind in kinds.csv"
            sentences.append(f"The kind {printable(kind)} has {number}. {remedy}.")
    return sentences
