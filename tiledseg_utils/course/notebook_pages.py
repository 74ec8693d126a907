"""Executed notebooks as pages of the report: small pictures with words for them, and links from page to page."""

import base64
import copy
import functools
import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nbconvert
import nbformat
from jupyter_core.paths import ENV_JUPYTER_PATH, jupyter_path

from ..base.files import atomic_path
from . import formulas, links
from .page_tables import render
from .web_pictures import WebPicture, smallest


def export(notebook: nbformat.NotebookNode, title: str) -> str:
    """A notebook as one HTML page that needs no network: scripts that nbconvert would fetch are left out.

    The template is that of this environment, whatever another folder of Jupyter's has under the same name.
    """
    own = [str(Path(folder, "nbconvert", "templates")) for folder in ENV_JUPYTER_PATH]
    exporter = nbconvert.HTMLExporter(
        template_data_paths=[*own, *jupyter_path("nbconvert", "templates")],
        template_name="lab",
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        widget_renderer_url="",
        mermaid_js_url="",
    )
    drawn = with_web_pictures(formulas.with_pictures(notebook))
    page = exporter.from_notebook_node(drawn, resources={"metadata": {"name": title}})[0]
    files = (Path(folder, "static", "theme-dark.css") for folder in exporter.template_paths)
    dark = next(file for file in files if file.exists()).read_text(encoding="utf-8")
    return page.replace("</head>", render("notebook_style.html", dark=dark) + "</head>", 1)


def with_web_pictures(
    notebook: nbformat.NotebookNode, place: Callable[[WebPicture], str] | None = None
) -> nbformat.NotebookNode:
    """A copy of a notebook whose pictures are as small as `smallest` makes them, each with its caption.

    nbconvert itself would drop the captions, which `plots.Picture` hands over as text for screen readers.

    Args:
        notebook: an executed one.
        place: puts a picture somewhere, and returns its address; by default, the page itself carries it.
    """
    changed = copy.deepcopy(notebook)
    for number, cell in enumerate((cell for cell in changed.cells if cell.cell_type == "code"), start=1):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                picture = _web_picture(output.data["image/png"])
                caption = output.metadata.get("image/png", {}).get("alt")
                described = caption or f"Figure that code cell {number} of this notebook drew"
                output.data = {"text/html": figure(picture, (place or _within)(picture), described, caption)}
    return changed


def _web_picture(encoded: str) -> WebPicture:
    content = base64.b64decode(encoded)
    try:
        return smallest(content)
    except ValueError:  # Of 16 bits: the browser shows it as it is.
        return WebPicture(content, "png", 0, 0)


def _within(picture: WebPicture) -> str:
    return f"data:image/{picture.kind};base64,{base64.b64encode(picture.content).decode()}"


def figure(picture: WebPicture, address: str, described: str, caption: str | None) -> str:
    """A picture as a figure of HTML.

    Args:
        picture: for its size; one without width has its own.
        address: where browsers find it.
        described: what is on it, for those who do not see it.
        caption: what stands below it; None for nothing.
    """
    size = f'width="{picture.width}" height="{picture.height}" ' if picture.width else ""
    shown = f'<figcaption aria-hidden="true">{html.escape(caption)}</figcaption>' if caption else ""
    image = f'<img alt="{html.escape(described)}" {size}style="max-width:100%;height:auto" src="{address}">'
    return f'<figure style="margin:0">{image}{shown}</figure>'


def with_navigation(page: str, name: str, names: Sequence[str]) -> str:
    """A notebook's HTML with links to the report and to the pages before and after it, at the top and at the end.

    Args:
        page: what `export` returned.
        name: of this page, without suffix.
        names: of all pages, in order.
    """
    place = list(names).index(name)
    before = names[place - 1] if place else None
    behind = names[place + 1] if place + 1 < len(names) else None
    bar = render("navigation.html", before=before, behind=behind)
    start = re.search(r"<body[^>]*>", page).end()
    end = page.rindex("</body>")
    return (
        page[:start]
        + bar
        + page[start:end]
        + bar.replace("Pages of the report", "Pages of the report, at the end")
        + page[end:]
    )


@functools.lru_cache(maxsize=32)  # A page takes seconds, and the report is written more than once.
def _exported(notebook: str, title: str) -> str:
    return export(nbformat.reads(notebook, as_version=4), title)


def write_notebook_pages(folder: Path, notebooks: Mapping[str, nbformat.NotebookNode]) -> None:
    """Write `<name>.html` for each notebook, in the order in which readers are led through them."""
    names = list(notebooks)
    for name, notebook in notebooks.items():
        page = links.within_report(_exported(nbformat.writes(notebook), name), notebooks)
        with atomic_path(folder / f"{name}.html") as temporary:
            temporary.write_text(with_navigation(page, name, names), encoding="utf-8")
