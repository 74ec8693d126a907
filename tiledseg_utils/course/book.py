"""The book of a run: its executed lessons, the texts of the course and a reference of the package, as pages of Sphinx.

They need no network: no font, script or picture comes from elsewhere.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..base.files import UserError, put_back, read_record, set_aside
from ..base.leftovers import remove_leftovers, temporary_name
from ..base.paths import Output, check_paths
from ..base.text import printable
from ..base.version import VERSION
from .book_pages import write_sources
from .run_comparison import read_finished

MARK = b"# Project: tiledseg\n"
"""The second line of objects.inv, which Sphinx writes into every book."""

SEARCH = '{% extends "!search.html" %}{% block content %}<h1>Search</h1>{{ super() }}{% endblock %}'
"""The theme's page of the search, with a heading, which it lacks."""

SAID = re.compile(r"\b(WARNING|ERROR|CRITICAL): ")
CONFIGURATION = """
from tiledseg_utils.course.book_reference import rewrite_docstring

globals().update({settings!r})

def setup(app):
    app.connect("autodoc-process-docstring", rewrite_docstring)
"""

SETTINGS = {
    "project": "tiledseg",
    "version": VERSION,
    "release": VERSION,
    "language": "en",
    "extensions": ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"],
    "autosummary_generate": False,
    "autodoc_member_order": "bysource",
    # Of this class, Sphinx cannot make a signature: fields with and without a default stand in any order.
    "autodoc_default_options": {"exclude-members": "CommandSetting"},
    "exclude_patterns": ["files"],
    "highlight_language": "none",
    "maximum_signature_line_length": 80,
    "myst_heading_anchors": 4,
    "html_theme": "furo",
    "html_title": "tiledseg",
    "html_css_files": ["book.css"],
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,
    "html_show_search_summary": False,  # Browsers do not let a page read other files of a disk.
}


def write_book(run: Path, out: Path, overwrite: bool = False) -> int:
    """Write the book of a finished run as a folder of HTML pages; `index.html` is the first.

    Args:
        run: run folder.
        out: folder for the book, which must not exist yet.
        overwrite: replace a book that is there.

    Returns:
        the number of pages.

    Raises:
        UserError: Sphinx is not installed, the run is not finished, the folder is there already or is not a book, or
            Sphinx had something to say about a page.
    """
    check_paths([run], [Output(out / "index.html", "the book")])
    read_finished(run)
    metrics = read_record(run / "metrics.json", {"baselines": [], "difference": {}}, "Run it again into another folder")
    _check_replaceable(out, overwrite)
    remove_leftovers(out.absolute().parent)
    made = temporary_name(out)
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_sources(run, metrics, Path(folder, "pages"))
            _build(Path(folder), made)
        _put_in_place(made, out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return sum(1 for _ in out.rglob("*.html"))


def _check_replaceable(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    inventory = out / "objects.inv"
    if not inventory.is_file() or MARK not in inventory.read_bytes()[:200]:
        raise UserError(out, "is there already, and is not a book", "Choose a folder that does not exist, with --out")
    if not overwrite:
        raise UserError(out, "exists already", "Choose another folder with --out, or replace it with --overwrite")


def _build(folder: Path, out: Path) -> None:
    """Let Sphinx make HTML of `folder/pages`, and keep what it notes for itself in `folder`.

    It has a process of its own, since it changes settings of docutils and of Python's logging.
    """
    for name in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(name) is None:
            problem = f"cannot be made, since {name} is not installed"
            remedy = 'In the folder of the clone: pip install --constraint requirements.lock ".[book]"'
            raise UserError("the book", problem, remedy)
    pages = folder / "pages"
    style = Path(__file__).with_name("pages") / "book.css"
    settings = SETTINGS | {"html_extra_path": [str(pages / "files")], "html_static_path": [str(style)]}
    settings |= {"templates_path": [str(folder / "templates")]}
    (folder / "templates").mkdir()
    (folder / "templates" / "search.html").write_text(SEARCH, encoding="utf-8")
    (folder / "conf.py").write_text(CONFIGURATION.format(settings=settings), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--no-color", "--builder", "html", "--conf-dir", str(folder)]
    command += ["--doctree-dir", str(folder / "doctrees"), str(pages), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    lines = [line.replace(f"{pages}{os.sep}", "") for line in done.stderr.splitlines() if line.strip()]
    if said := [line for line in lines if SAID.search(line)]:
        print(*map(printable, lines), sep="\n", file=sys.stderr)
        problem = f"has {len(said)} warnings of Sphinx, the first of which is: {printable(said[0])}"
        raise UserError("the book", problem, "Mend the page or the docstring that it names")
    if done.returncode:
        problem = f"cannot be made, and Sphinx says: {printable(lines[-1] if lines else 'nothing')}"
        raise UserError("the book", problem, "Check memory and disk space, and try it again")


def _put_in_place(made: Path, out: Path) -> None:
    """Give a finished book its name; a book that had it before goes."""
    before = set_aside(out) if out.exists() else None
    try:
        os.replace(made, out)
    except OSError as error:
        if before:
            put_back(before, out)
        problem = f"cannot be written ({error.strerror or error})"
        raise UserError(out, problem, "Check permissions and disk space") from error
    if before:
        shutil.rmtree(before)
