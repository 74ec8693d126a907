"""Links within a report, and to the glossary."""

import re

import nbformat
import pytest

from tiledseg_utils.course import links, notebook_pages, report

PAGES = ("01_a", "glossary")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<a href="01_a.ipynb">one</a>', '<a href="01_a.html">one</a>'),
        ('<a href="glossary.md#dice"><em>Dice</em></a>', '<a href="glossary.html#dice"><em>Dice</em></a>'),
        ('<a href="02_b.ipynb" class="x">two</a>', "two"),
        ('<a href="../data/README.md">data</a>', "data"),
        ('<a href="#place">here</a>', '<a href="#place">here</a>'),
        ('<a href="https://arxiv.org/abs/1">paper</a>', '<a href="https://arxiv.org/abs/1">paper</a>'),
        ('<a id="dice"></a><a href="02_b.ipynb">two</a>', '<a id="dice"></a>two'),
    ],
)
def test_links_lead_to_pages_of_the_report_or_are_plain_text(before, after):
    assert links.within_report(f"<p>{before}</p>", PAGES) == f"<p>{after}</p>"


def anchors() -> set[str]:
    text = (report.NOTEBOOK_FOLDER / "glossary.md").read_text(encoding="utf-8")
    headings = [heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)]
    named = re.findall(r'<a id="([^"]+)">', text)
    assert "\n### " not in text, "terms are headings of the second level"
    assert len(named) == len(set(named)) and len(headings) == len(set(headings)), "an anchor stands twice"
    return {*headings, *named}


@pytest.mark.parametrize("path", sorted(report.NOTEBOOK_FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_glossary_has_every_term_that_a_lesson_links_to(path):
    cells = nbformat.read(path, as_version=4).cells
    linked = {anchor for cell in cells for anchor in re.findall(r"\(glossary\.md#([^)]*)\)", cell.source)}
    assert not linked - anchors()


def test_the_glossary_names_lessons_that_are_there():
    text = (report.NOTEBOOK_FOLDER / "glossary.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((\w+)\.ipynb\)", text))
    assert named and not [name for name in named if not (report.NOTEBOOK_FOLDER / f"{name}.ipynb").exists()]
    terms = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)


def test_the_glossary_becomes_a_page_of_the_report(tmp_path):
    (tmp_path / "glossary.md").write_text('### Dice\n\n<a id="dice"></a>A score. [Lesson 1](01_a.ipynb)\n')
    page = links.within_report(notebook_pages.export(links.glossary_notebook(tmp_path), "glossary"), PAGES)
    assert 'id="dice"' in page and 'href="01_a.html"' in page and "<title>glossary</title>" in page
    assert links.glossary_notebook(tmp_path / "none") is None
