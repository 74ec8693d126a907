"""The pages of the book as Sphinx reads them: lessons with their results, texts of the course, and the package's rooms.

They lie as in a clone of the course, so that their links need no other paths.
"""

import posixpath
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import nbformat
from nbconvert.filters import strip_ansi

from ..base.files import UserError, atomic_path, read_json
from ..base.paths import NOTEBOOK_FOLDER, PACKAGE
from . import formulas
from .book_reference import ROOMS, reference
from .notebook_pages import figure, with_web_pictures
from .verdict import lead_picture, verdict
from .web_pictures import WebPicture, smallest, write_bytes

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>[\w./-]+\.(?:md|ipynb|csv|json|yaml|py))(?P<place>#[\w-]+)?\)")
ANCHOR = re.compile(r'<a id="([^"]+)">')
TEXTS = ("README.md", "data/README.md", "notebooks/TEACHING.md", "notebooks/glossary.md", "notebooks/presets/README.md")
NOT_RUN = "*The run that this book shows has not executed this notebook: its cells stand here without their results.*"


def write_sources(run: Path, metrics: Mapping, folder: Path) -> None:
    """Write all pages of the book of a run, and the figures on them, into an empty folder.

    Args:
        run: folder of a finished run.
        metrics: of that run.
        folder: for the pages; figures lie in its folder `files/figures`.

    Raises:
        UserError: a file of the run is missing or damaged, or the disk is full.
    """
    lessons = {path.stem: path for path in sorted(NOTEBOOK_FOLDER.glob("*.ipynb"))}
    texts = {name: path for name, path in _texts().items() if path.exists()}
    pages = {f"notebooks/{name}.md": set() for name in lessons}
    pages |= {name: set(ANCHOR.findall(path.read_text(encoding="utf-8"))) for name, path in texts.items()}
    for name, path in lessons.items():
        executed = run / "notebooks" / path.name
        notebook = _read_notebook(executed if executed.exists() else path)
        content = lesson(notebook, name, folder / "files" / "figures")
        if not executed.exists():
            content = _below_title(content, NOT_RUN)
        _write(folder / "notebooks" / f"{name}.md", led_on(content, f"notebooks/{name}.md", pages))
    for name, path in texts.items():
        _write(folder / name, led_on(_with_formulas(path.read_text(encoding="utf-8")), name, pages))
    shutil.copytree(NOTEBOOK_FOLDER / "pictures", folder / "notebooks" / "pictures")
    _write(folder / "index.md", front_page(run, metrics, folder / "files" / "figures", sorted(lessons), texts))
    for name, content in reference():
        _write(folder / "reference" / f"{name}.rst", content)


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, KeyError, nbformat.ValidationError) as error:
        raise UserError(path, f"cannot be read as a notebook ({error})", "Run it again into another folder") from error


def _texts() -> dict[str, Path]:
    """Where the texts are, by their place in a clone; an installed package has only those of the notebooks."""
    clone = PACKAGE.parent
    inside = {name: NOTEBOOK_FOLDER / Path(name).relative_to("notebooks") for name in TEXTS if name[0] == "n"}
    return {name: inside.get(name, clone / name) for name in TEXTS}


def _write(path: Path, content: str) -> None:
    with atomic_path(path, sync=False) as temporary:
        temporary.write_text(content, encoding="utf-8")


def lesson(notebook: nbformat.NotebookNode, name: str, figures: Path) -> str:
    """A notebook as Markdown: its text, its code, and what that showed.

    Args:
        notebook: executed or not.
        name: its file's name without ending.
        figures: folder into which its pictures are written.

    Returns:
        the page, on which pictures have the path `../figures/`.
    """
    count = 0

    def place(picture: WebPicture) -> str:
        nonlocal count
        count += 1
        file = f"{name}_{count:02}.{picture.kind}"
        write_bytes(figures / file, picture.content)
        return f"../figures/{file}"

    drawn = with_web_pictures(formulas.with_pictures(notebook), place)
    parts = []
    for cell in drawn.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(_fenced(cell.source, "python"))
            parts += [shown for output in cell.outputs if (shown := _shown(output))]
    return "\n\n".join(parts) + "\n"


def _shown(output: nbformat.NotebookNode) -> str:
    """What a cell printed, drew or returned, as Markdown."""
    if output.output_type == "stream":
        return _fenced(strip_ansi(output.text), "text")
    if output.output_type == "error":
        return _fenced(strip_ansi("\n".join(output.traceback)), "text")
    data = output.data
    if "text/html" in data:  # Without blank lines, which would end it in Markdown.
        return "\n".join(line for line in data["text/html"].splitlines() if line.strip())
    return data["text/markdown"] if "text/markdown" in data else _fenced(strip_ansi(data["text/plain"]), "text")


def _fenced(text: str, language: str) -> str:
    """Text between fences that are longer than any in it."""
    longest = max(map(len, re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _with_formulas(text: str) -> str:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    return formulas.with_pictures(notebook).cells[0].source


def _below_title(page: str, note: str) -> str:
    title, _, rest = page.partition("\n")
    return f"{title}\n\n{note}\n{rest}"


def led_on(page: str, name: str, pages: Mapping[str, Collection[str]]) -> str:
    """A page whose links to notebooks and texts lead to other pages; links to files that are not there become text.

    Args:
        page: Markdown.
        name: of the page, as a path from the folder of the book.
        pages: the anchors of HTML that stand in each page, by its name; Sphinx does not see these.
    """

    def lead(link: re.Match) -> str:
        path, place = re.sub(r"\.ipynb$", ".md", link["path"]), link["place"] or ""
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if target not in pages:
            return link["text"]
        if place[1:] in pages[target]:
            return f'<a href="{path.removesuffix(".md")}.html{place}">{link["text"]}</a>'
        return f"[{link['text']}]({path}{place})"

    return LINK.sub(lead, page)


def front_page(run: Path, metrics: Mapping, figures: Path, lessons: Collection[str], texts: Collection[str]) -> str:
    """The first page: the verdict of the run, its lead picture, and the contents."""
    names = {path.stem: path for path in (run / "figures").glob("*.png")}
    parts = ["# Tiled image segmentation", verdict(metrics)]
    if (lead := lead_picture(names)) is not None:
        picture = smallest(names[lead].read_bytes())
        write_bytes(figures / f"{lead}.{picture.kind}", picture.content)
        caption = read_json(names[lead].with_suffix(".json"))["caption"]
        parts.append(figure(picture, f"figures/{lead}.{picture.kind}", caption, caption))
    parts.append(f"The lessons show what the run {run.name} found with the preset {Path(metrics['preset']).stem}.")
    courses = [name for name in lessons if name[0].isdigit()]
    others = [name for name in lessons if name not in courses]
    contents = {
        "Lessons": [f"notebooks/{name}" for name in courses],
        "Appendices": [f"notebooks/{name}" for name in others],
        "About": [name.removesuffix(".md") for name in TEXTS if name in texts],
        "Package": [f"reference/{room}" for room in ROOMS],
    }
    for caption, pages in contents.items():
        listed = "\n".join(pages)
        parts.append(f"## {caption}\n\n```{{toctree}}\n:maxdepth: 1\n:caption: {caption}\n\n{listed}\n```")
    return "\n\n".join(parts) + "\n"
