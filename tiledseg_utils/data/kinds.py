"""Kinds of image: a table of the user's that gives each image a kind or a group, such as the kinds.csv of bbbc038."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ..base.files import UserError
from .images import MASK_ENDINGS, all_in_one, read_table, without_ending


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
