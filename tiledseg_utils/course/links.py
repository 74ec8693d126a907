"""Links of lessons, as they lead on within a report: to its own pages, and nowhere that is not there."""

import re
from collections.abc import Collection
from pathlib import Path

import nbformat

LINK = re.compile(r'<a href="(?P<target>[^"]*)"(?P<more>[^>]*)>(?P<text>.*?)</a>', re.DOTALL)
ELSEWHERE = re.compile(r"[a-z]+:|#")
FILE = re.compile(r"(?P<stem>[\w-]+)\.(ipynb|md)(?P<place>#.*)?")
GLOSSARY = "glossary"


def within_report(page: str, pages: Collection[str]) -> str:
    """Let the links of a lesson's HTML lead to other pages of the report.

    Args:
        page: HTML of a lesson or of the glossary.
        pages: names of the report's pages, without suffix.

    Returns:
        the page; a link to a notebook or text that the report does not have has become plain text.
    """

    def lead(link: re.Match) -> str:
        if ELSEWHERE.match(link["target"]):
            return link[0]
        file = FILE.fullmatch(link["target"])
        if file is None or file["stem"] not in pages:
            return link["text"]
        return f'<a href="{file["stem"]}.html{file["place"] or ""}"{link["more"]}>{link["text"]}</a>'

    return LINK.sub(lead, page)


def glossary_notebook(folder: Path) -> nbformat.NotebookNode | None:
    """The glossary of the course as a notebook of one cell, or None if `folder` has none."""
    path = folder / f"{GLOSSARY}.md"
    if not path.exists():
        return None
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])
