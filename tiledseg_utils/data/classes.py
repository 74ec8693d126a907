"""Classes: what a pixel can show, where that is more than foreground or background.

A data folder says so by `classes.csv`, with the columns value, name and color (such as #d55e00). For each pixel, a mask
then stores the value of its class, or shows the colour of it. The class of value 0 is the background.

Within the package, a class goes by its place in the table: 0 is the background, 1 the first of the others. Whatever
does not ask for classes sees a mask, in which every class but the background is foreground.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.files import UserError, write_csv
from .pictures import Stored
from .tables import all_in_one, read_table

FILE = "classes.csv"
COLUMNS = ("value", "name", "color")
MOST = 16


@dataclass(frozen=True)
class Classes:
    """A table of classes, the background first.

    Attributes:
        values: what masks store for each class, 0 to 255.
        names: of the classes.
        colors: RGB, 0 to 255 each.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self) -> list[dict]:
        """The lines of classes.csv."""
        table = zip(self.values, self.names, self.colors, strict=True)
        return [
            {"value": value, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
            for value, name, color in table
        ]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping]) -> "Classes":
        """The classes of lines that `rows` made."""
        rows = list(rows)
        colors = tuple(tuple(bytes.fromhex(row["color"][1:])) for row in rows)
        return cls(tuple(int(row["value"]) for row in rows), tuple(row["name"] for row in rows), colors)

    def stored(self, numbers: np.ndarray) -> np.ndarray:
        """The values that a mask stores, uint8, for the numbers of classes."""
        return np.array(self.values, np.uint8)[numbers]


def read_classes(folder: Path) -> Classes | None:
    """The classes of a data folder; None if it has none. Raises as `read_class_table`."""
    path = Path(folder) / FILE
    return read_class_table(path) if path.exists() else None


def read_class_table(path: Path) -> Classes:
    """The classes of a table, the background first and the others in the order of the file.

    Raises:
        UserError: it cannot be read, or has errors; one error lists all.
    """
    remedy = (
        "Write a line for each class: its value in masks, 0 for the background; its name; its color, such as #d55e00"
    )
    rows = [{name: (row[name] or "").strip() for name in COLUMNS} for row in read_table(path, COLUMNS)]
    problems = [problem for row in rows for problem in _wrong_in(row)]
    for name in COLUMNS:
        values = [row[name].lower() for row in rows]
        doubled = sorted({value for value in values if values.count(value) > 1})
        problems += [f"gives the {name} {value} to several classes" for value in doubled]
    if not 2 <= len(rows) <= MOST:
        problems.append(f"lists {len(rows)} class(es), and 2 to {MOST} can be told apart, the background included")
    if "0" not in [row["value"] for row in rows]:
        problems.append("has no class of value 0, the background")
    if problems:
        raise all_in_one(path, problems, remedy)
    return Classes.from_rows(sorted(rows, key=lambda row: row["value"] != "0"))


def _wrong_in(row: Mapping) -> list[str]:
    """What is wrong with one line of classes.csv."""
    line = ",".join(row.values())
    problems = []
    if not row["value"].isdecimal() or str(int(row["value"])) != row["value"] or int(row["value"]) > 255:
        problems.append(f"'{line}' has a value that is not a whole number from 0 to 255")
    if not row["name"]:
        problems.append(f"'{line}' has no name")
    if not re.fullmatch("#[0-9a-fA-F]{6}", row["color"]):
        problems.append(f"'{line}' has a color that is not written as #rrggbb")
    return problems


def write_classes(folder: Path, classes: Classes) -> None:
    """Write `folder/classes.csv`."""
    write_csv(Path(folder) / FILE, classes.rows())


def to_class_numbers(path: Path, stored: Stored, classes: Classes) -> tuple[np.ndarray, list[str]]:
    """The number of the class of each pixel of a mask, (H, W) uint8, and notes for the user.

    A mask in grey, or with a colour table, stores the values of classes. A mask in colours shows those of the classes,
    and so does one whose values are not those of classes.

    Raises:
        UserError: a JPEG, transparency, a negative, or a pixel of no class.
    """
    if stored.is_jpeg:
        raise UserError(path, "is a JPEG, which changes the values of classes", "Save the mask from its source as PNG")
    if stored.white_is_zero:
        raise UserError(path, "is stored as WhiteIsZero, a negative", "Save the mask as PNG")
    if stored.alpha is not None and (stored.alpha != stored.alpha.flat[0]).any():
        raise UserError(path, "is partly transparent", "Save it without transparency, its background as class 0")
    colours = np.broadcast_to(stored.pixels, (*stored.pixels.shape[:2], 3))
    is_grey = bool((colours == colours[..., :1]).all())
    values = stored.indices if stored.indices is not None else colours[..., 0] if is_grey else None
    numbers, known = (None, None) if values is None else _find(values, np.array(classes.values))
    if known is None or not known.all():
        in_colour, known_colours = _find(_codes(colours), _codes(np.array(classes.colors)))
        if values is None or known_colours.all():
            numbers, known = in_colour, known_colours
    if not known.all():
        raise _unknown(path, known, colours if values is None else values)
    shown = [name for number, name in enumerate(classes.names) if (numbers == number).any()]
    return numbers, [*stored.notes, f"shows {', '.join(shown)}"]


def _codes(colours: np.ndarray) -> np.ndarray:
    """One number for each colour, (..., 3) to (...) int64."""
    return colours.astype(np.int64) @ (2**32, 2**16, 1)


def _find(values: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where values stand in a table, uint8, and whether they do."""
    order = np.argsort(table)
    places = np.minimum(np.searchsorted(table[order], values), len(table) - 1)
    return order[places].astype(np.uint8), table[order][places] == values


def _unknown(path: Path, known: np.ndarray, values: np.ndarray) -> UserError:
    row, column = np.argwhere(~known)[0].tolist()
    value = values[row, column]
    what = f"value {value}" if value.ndim == 0 else "colour #{:02x}{:02x}{:02x}".format(*value.tolist())
    problem = f"has {np.count_nonzero(~known)} pixel(s) of no class, such as {what} in row {row}, column {column}"
    remedy = f"Give it a line in {FILE}, or mend the mask: never smooth masks, and resize them to the nearest pixel"
    return UserError(path, problem, remedy)
