"""Tables that users write, such as split.csv: read with a sentence for whatever is wrong with them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ..base.files import UserError, read_bytes, read_csv


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


def all_in_one(path: Path, problems: Sequence[str], remedy: str) -> UserError:
    """One error that lists up to ten problems."""
    listed = [*problems[:10], f"and {len(problems) - 10} more"] if len(problems) > 10 else problems
    return UserError(path, problems[0] if len(problems) == 1 else "\n  ".join(["", *listed]), remedy)
