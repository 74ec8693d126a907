"""Tables of pages: records whose numbers stand right, under a caption that says what they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jinja2

from .tables import cell, title

NUMBER = re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?( to [-+]?[\d.,]+)?|not measurable|")
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
    columns, texts = [], []
    for name in names:
        values = [record.get(name) for record in records]
        texts.append([value if isinstance(value, Link) else cell(value) for value in values])
        columns.append((title(name), all(isinstance(text, str) and NUMBER.fullmatch(text) for text in texts[-1])))
    return PageTable(caption, columns, [list(row) for row in zip(*texts, strict=True)])


def render(template: str, **content) -> str:
    """A page of `course/pages`, in which all text that is not markup of the template itself is escaped."""
    folder = jinja2.PackageLoader("tiledseg_utils.course", "pages")
    templates = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return templates.get_template(template).render(**content)
