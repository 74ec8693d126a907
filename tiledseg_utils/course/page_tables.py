"""Tables of pages: records whose numbers stand right, under a caption that says what they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jinja2

from ..base.text import printable
from .tables import cell, title

NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?( (to [-+]?[\d.,]+|MB|kB|bytes))?|not measurable|")
"""What stands right: numbers, intervals, and what takes their place."""


class Link(NamedTuple):
    """A cell that leads somewhere."""

    text: str
    href: str


@dataclass(frozen=True)
class PageTable:
    """A table for the macro `table`: its caption, columns as (title, whether numbers), and rows of `Link`s and text."""

    caption: str
    columns: list[tuple[str, bool]]
    rows: list[list]


def page_table(caption: str, records: Sequence[Mapping]) -> PageTable:
    """A table of records: values as `tables.cell` shows them, or `Link`s; what a record lacks is not measurable."""
    names = list(dict.fromkeys(name for record in records for name in record))
    return table_of(caption, list(map(title, names)), [[record.get(name) for name in names] for record in records])


def table_of(caption: str, titles: Sequence[str], rows: Sequence[Sequence]) -> PageTable:
    """A table of rows, each as long as `titles`; otherwise as `page_table`."""
    texts = [[value if isinstance(value, Link) else cell(value) for value in row] for row in rows]
    numeric = [
        all(isinstance(text, str) and NUMBER.fullmatch(text) for text in column) for column in zip(*texts, strict=True)
    ]
    return PageTable(caption, list(zip(map(printable, titles), numeric, strict=bool(rows))), texts)


def render(template: str, **content) -> str:
    """A page of `course/pages`, in which all text that is not markup of the template itself is escaped."""
    folder = jinja2.PackageLoader("tiledseg_utils.course", "pages")
    templates = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return templates.get_template(template).render(**content)
