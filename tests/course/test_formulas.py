"""Formulas of lessons in a report."""

import re

import nbformat
import pytest

from tiledseg_utils.course import formulas, report


def drawn(text: str) -> str:
    cell = nbformat.v4.new_markdown_cell(text)
    return formulas.with_pictures(nbformat.v4.new_notebook(cells=[cell])).cells[0].source


def test_formulas_become_pictures_with_their_source_as_text():
    text = drawn(r"Let $w$ be 3, and $$\frac{2\,|A \cap B|}{|A|}$$ the rest.")
    assert text.startswith("Let <img") and text.endswith(" the rest.") and "$" not in text
    assert re.findall(r'alt="([^"]*)"', text) == ["w", r"\frac{2\,|A \cap B|}{|A|}"]
    assert text.count("data:image/svg+xml;base64,") == 2 and text.count("display:block") == 1


@pytest.mark.parametrize(
    "text",
    ["`$HOME` and `$PATH`", "```\n$a$\n```", "5 $ and 6 $ more", r"\$a\$", r"$\begin{cases}1\end{cases}$", "a$b$c"],
)
def test_what_is_no_formula_or_cannot_be_drawn_stays(text):
    assert drawn(text) == text


def test_a_lesson_is_not_changed_by_its_report():
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("$w$"), nbformat.v4.new_code_cell("'$w$'")]
    )
    assert formulas.with_pictures(notebook).cells[1].source == "'$w$'"
    assert notebook.cells[0].source == "$w$"


@pytest.mark.parametrize("path", sorted(report.NOTEBOOK_FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_course_can_be_drawn(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for part in formulas.CODE.split(cell.source)[::2]:
                for found in formulas.FORMULA.finditer(part):
                    assert formulas._draw(found) != found[0]
