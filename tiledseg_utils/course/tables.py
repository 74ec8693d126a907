"""Records as tables: pandas' DataFrames that name their columns for readers."""

import math
from collections.abc import Mapping, Sequence

import pandas

from ..base.text import printable

WORDS = {"dice": "Dice", "iou": "IoU", "f1": "F1", "ap": "AP", "mib": "MiB", "075": "0.75"}


def title(key: str) -> str:
    """What a table calls the column of a record's key: `dice_non_tiled` becomes "Dice non-tiled". Other text stays."""
    text = printable(str(key))
    if not text.isidentifier():
        return text
    return " ".join(WORDS.get(word, word) for word in text.split("_")).replace("non ", "non-")


def cell(value: object) -> str:
    """A value in a table: numbers with a decimal point have four significant digits, or a power of ten if small."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not measurable"
    if isinstance(value, float):
        return format(value, ".4g" if abs(value) >= 0.001 or value == 0 else ".1e")
    return printable(str(value))


class Table(pandas.DataFrame):
    """A DataFrame of records, shown in a notebook without its index, with `title`s and `cell`s, all of it as text."""

    def _repr_html_(self) -> str:
        shown = self.map(cell).rename(columns=title)
        with pandas.option_context("display.max_colwidth", None):  # Else long cells end in dots.
            return shown.to_html(index=False, border=0)


def choices(rows: Sequence[Mapping]) -> Table:
    """Which of the architectures in `model_comparison.measure` comes first, by several measures."""
    best = max(rows, key=lambda row: row["dice_tiled"])
    near = [row for row in rows if row["dice_tiled"] >= best["dice_tiled"] - 0.02]
    chosen = {
        "highest Dice": best,
        "cheapest step within 0.02 of it": min(near, key=lambda row: row["seconds_per_step"]),
        "cheapest step of all": min(rows, key=lambda row: row["seconds_per_step"]),
        "fewest parameters": min(rows, key=lambda row: row["parameters"]),
    }
    names = ("model", "dice_tiled", "seconds_per_step", "parameters", "exact")
    return Table([{"": what} | {name: row[name] for name in names} for what, row in chosen.items()])
