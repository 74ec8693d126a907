"""Executed notebooks as pages of the report: small pictures with words for them, and links from page to page."""

import base64
import copy
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbconvert
import nbformat
from jupyter_core.paths import ENV_JUPYTER_PATH, jupyter_path

from ..base.files import atomic_path
from . import formulas, links
from .page_tables import render
from .web_pictures import smallest


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
    return exporter.from_notebook_node(drawn, resources={"metadata": {"name": title}})[0]


def with_web_pictures(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook whose pictures are as small as `smallest` makes them, each with its caption.

    nbconvert itself would drop the captions, which `plots.Picture` hands over as text for screen readers.
    """
    changed = copy.deepcopy(notebook)
    for number, cell in enumerate((cell for cell in changed.cells if cell.cell_type == "code"), start=1):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                described = output.metadata.get("image/png", {}).get("alt")
                output.data = {"text/html": _figure(output.data["image/png"], described, number)}
    return changed


def _figure(encoded: str, caption: str | None, number: int) -> str:
    """A PNG in base64 as a figure of HTML; without a caption, it says which code cell drew it."""
    try:
        picture = smallest(base64.b64decode(encoded))
        kind, content = picture.kind, base64.b64encode(picture.content).decode()
        size = f'width="{picture.width}" height="{picture.height}" style="max-width:100%;height:auto"'
    except ValueError:  # Of 16 bits: the browser shows it as it is.
        kind, content, size = "png", encoded.strip(), 'style="max-width:100%"'
    words = html.escape(caption or f"Figure that code cell {number} of this notebook drew")
    shown = f'<figcaption aria-hidden="true">{words}</figcaption>' if caption else ""
    picture = f'<img alt="{words}" {size} src="data:image/{kind};base64,{content}">'
    return f'<figure style="margin:0">{picture}{shown}</figure>'


def with_navigation(page: str, name: str, names: Sequence[str]) -> str:
    """A notebook's HTML with links to the report and to the pages before and behind it, at the top and at the end.

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


def write_notebook_pages(folder: Path, notebooks: Mapping[str, nbformat.NotebookNode]) -> None:
    """Write `<name>.html` for each notebook, in the order in which readers are led through them."""
    names = list(notebooks)
    for name, notebook in notebooks.items():
        page = links.within_report(export(notebook, name), notebooks)
        with atomic_path(folder / f"{name}.html") as temporary:
            temporary.write_text(with_navigation(page, name, names), encoding="utf-8")
