"""The book: its pages as Sphinx reads them, and what it refuses. `test_the_book_of_a_run` lets Sphinx make one."""

import ast
import base64
import io
import re

import cv2
import docutils.core
import nbformat
import numpy as np
import pytest

from tests.commands.test_main import exit_code
from tests.course.test_report_page import metrics_of
from tiledseg_utils.base.files import UserError, write_json
from tiledseg_utils.base.paths import PACKAGE
from tiledseg_utils.course import book, book_pages, book_reference, plots

NOISE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def make_run(folder):
    """A finished run, as far as a book reads it: metrics, a figure, and one executed lesson."""
    write_json(folder / "request.json", {"parameters": {}})
    write_json(folder / "metrics.json", metrics_of(["a", "b"]))
    plots.FigureFolder(folder).grid("04_gallery", "Cells & <nuclei>.", {"noise": NOISE})
    output = nbformat.v4.new_output("stream", text="\x1b[31mseven\x1b[0m\n")
    cells = [nbformat.v4.new_markdown_cell("# 0. Start here"), nbformat.v4.new_code_cell("print(7)", outputs=[output])]
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "00_start_here.ipynb")
    return folder


def test_a_lesson_keeps_its_text_code_and_results(tmp_path):
    png = base64.b64encode(cv2.imencode(".png", NOISE)[1].tobytes()).decode()
    outputs = [
        nbformat.v4.new_output("stream", text="\x1b[1mbold\x1b[0m\n```\n"),
        nbformat.v4.new_output("display_data", {"image/png": png}, metadata={"image/png": {"alt": "Cells <1>."}}),
        nbformat.v4.new_output("display_data", {"text/html": "<table>\n\n<tr>\n</table>", "text/plain": "no"}),
        nbformat.v4.new_output("execute_result", {"text/markdown": "**right**", "text/plain": "no"}),
        nbformat.v4.new_output("execute_result", {"text/plain": "7"}),
        nbformat.v4.new_output("error", ename="E", evalue="x", traceback=["line", "E: x"]),
    ]
    cells = [nbformat.v4.new_markdown_cell("# A\n\n$x^2$"), nbformat.v4.new_code_cell("f()", outputs=outputs)]
    page = book_pages.lesson(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell("")]), "01_a", tmp_path)
    title, formula, code, printed, picture, table, said, value, error = re.split(r"\n\n(?=[`<*])", page.strip())
    assert title == "# A" and 'alt="x^2"' in formula and code == "```python\nf()\n```"
    assert printed == "````text\nbold\n```\n````" and table == "<table>\n<tr>\n</table>"
    assert (said, value, error) == ("**right**", "```text\n7\n```", "```text\nline\nE: x\n```")
    assert 'alt="Cells &lt;1&gt;." width="80" height="60"' in picture and "Cells &lt;1&gt;.</figcaption>" in picture
    file = re.search(r'src="\.\./figures/([^"]+)"', picture)[1]
    assert file.startswith("01_a_01.") and (tmp_path / file).stat().st_size > 1000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[one](03_b.ipynb)", "[one](03_b.md)"),
        ("[a `b`](glossary.md#halo)", "[a `b`](glossary.md#halo)"),
        ("[a](glossary.md#interval)", '<a href="glossary.html#interval">a</a>'),
        ("[its table](../data/README.md#rules)", "[its table](../data/README.md#rules)"),
        ("[file](../notebooks/published_scores.csv)", "file"),
        ("[none](04_missing.ipynb)", "none"),
        ("![picture](pictures/a.png)", "![picture](pictures/a.png)"),
        ("[there](https://doi.org/a.md) [here](#below) masks[0](image)",) * 2,
    ],
)
def test_links_lead_to_pages_of_the_book_or_are_plain_text(before, after):
    pages = {"notebooks/03_b.md": (), "notebooks/glossary.md": {"interval"}, "data/README.md": ()}
    assert book_pages.led_on(before, "notebooks/02_a.md", pages) == after


def test_sources_are_all_there_and_say_what_was_not_run(tmp_path):
    run = make_run(tmp_path / "my run")
    book_pages.write_sources(run, metrics_of(["a", "b"]), tmp_path / "pages")
    front = (tmp_path / "pages" / "index.md").read_text(encoding="utf-8")
    entries = re.findall(r"^(?:notebooks|reference|data)/\S+$|^README$", front, re.MULTILINE)
    for entry in entries:
        assert [path for path in (tmp_path / "pages").glob(f"{entry}.*") if path.suffix in (".md", ".rst")], entry
    written = {path.stem for path in (tmp_path / "pages" / "notebooks").glob("*.md")}
    assert {entry.removeprefix("notebooks/") for entry in entries if entry.startswith("notebooks/")} >= written
    assert "Tiled prediction scores" in front and "the run my run found with the preset smoke" in front
    assert 'alt="Cells &amp; &lt;nuclei&gt;."' in front and "figures/04_gallery." in front
    start, training = (
        (tmp_path / "pages" / "notebooks" / name).read_text(encoding="utf-8")
        for name in ("00_start_here.md", "03_unet_training.md")
    )
    assert "```text\nseven\n```" in start and book_pages.NOT_RUN not in start
    assert training.splitlines()[2] == book_pages.NOT_RUN


def test_every_module_has_a_page_in_the_reference():
    pages = dict(book_reference.reference())
    modules = {path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*/*.py")}
    assert pages.keys() == {".".join(parts).removesuffix(".__init__") for parts in modules}
    assert ".. automodule:: tiledseg_utils.data.images\n" in pages["data.images"]
    assert "\n   data.images\n" in pages["data"] and "\n   ~tiledseg_utils.data.images\n" in pages["data"]


def test_docstrings_become_lists_code_and_text():
    docstring = """Soft `Dice`s, |a| * b_.

* one_
  more

Args:
    a, b: text in `code`,
        and more
    changes: of the setting:
        mode: a|b

Returns:
    a page of two
    lines.

Example:
    x = |1|"""
    expected = r"""Soft ``Dice``\ s, \|a\| \* b\_.

* one\_
  more

**Args**

* ``a, b``: text in ``code``, and more
* ``changes``: of the setting:

  * ``mode``: a\|b

**Returns**

a page of two
lines.

**Example**

::

   x = |1|"""
    found = "\n".join(book_reference.restructured(docstring.splitlines())).strip()
    assert re.sub(r"\n{3,}", "\n\n", found) == expected


def test_no_docstring_of_the_package_is_misread():
    said = io.StringIO()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if is_documented and (docstring := ast.get_docstring(node)):
                source = "\n".join(book_reference.restructured(docstring.splitlines()))
                settings = {"warning_stream": said, "report_level": 2}
                docutils.core.publish_doctree(source, f"{path.name}:{node.body[0].lineno}", settings_overrides=settings)
    assert said.getvalue() == ""


def test_what_is_no_finished_run_and_what_is_no_book_stays(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    for out, said in ((tmp_path / "mine", "is not a book"), (run / "book", "would be written into")):
        assert exit_code("book", run, "--out", out, "--overwrite") == 1
        assert said in capsys.readouterr().err
    (run / "metrics.json").unlink()
    assert exit_code("book", run, "--out", tmp_path / "book") == 1
    assert "holds an unfinished run" in capsys.readouterr().err and not (tmp_path / "book").exists()


def test_without_sphinx_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(book.importlib.util, "find_spec", lambda name: None if name == "furo" else True)
    with pytest.raises(UserError, match=r'furo is not installed\. .* pip install .* "\.\[book\]"'):
        book.write_book(make_run(tmp_path / "run"), tmp_path / "book")
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_the_book_of_a_run(tmp_path, monkeypatch, capsys):
    """Of one lesson and one room: all others take Sphinx a minute, and `make browser` looks at them."""
    monkeypatch.setattr(book_reference, "ROOMS", ("base",))
    monkeypatch.setattr(book_pages, "ROOMS", ("base",))
    run, out = make_run(tmp_path / "run"), tmp_path / "book"
    (tmp_path / "course" / "pictures").mkdir(parents=True)
    (tmp_path / "course" / "00_start_here.ipynb").write_bytes((run / "notebooks" / "00_start_here.ipynb").read_bytes())
    (tmp_path / "course" / "glossary.md").write_text("# Glossary\n\n[It](00_start_here.ipynb), [not](../LICENSE.md)\n")
    monkeypatch.setattr(book_pages, "NOTEBOOK_FOLDER", tmp_path / "course")
    monkeypatch.setattr(book_pages, "TEXTS", ("notebooks/glossary.md",))
    pages = book.write_book(run, out)
    assert pages == sum(1 for _ in out.rglob("*.html")) > 10
    start = (out / "notebooks" / "00_start_here.html").read_text(encoding="utf-8")
    assert "seven" in start and (out / "figures").is_dir() and 'href="../_static/book.css' in start
    assert "atomic_path" in (out / "reference" / "base.files.html").read_text(encoding="utf-8")
    for page in out.rglob("*.html"):
        assert not re.findall(r'(?:src|<link[^>]*href)="(?:https?:)?//[^"]*"', page.read_text(encoding="utf-8")), page
    with pytest.raises(UserError, match="exists already"):
        book.write_book(run, out)
    lesson = run / "notebooks" / "00_start_here.ipynb"
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A\n\n[broken](#nowhere)")])
    nbformat.write(broken, lesson)
    with pytest.raises(UserError, match=r"has 1 warnings of Sphinx.*00_start_here.md.*nowhere"):
        book.write_book(run, out, overwrite=True)
    assert (out / "index.html").exists() and "nowhere" in capsys.readouterr().err
