"""Formulas of lessons as pictures, for pages that need no network: in JupyterLab, MathJax draws them.

Matplotlib draws what it knows of LaTeX. A formula that it does not know stays as it is written.
"""

import base64
import copy
import functools
import html
import io
import re

import matplotlib
import nbformat
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser, math_to_image

CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
FORMULA = re.compile(r"\$\$(?P<display>[^$]+)\$\$|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?![\w$])")
POINTS = 10


@functools.cache
def picture_of(formula: str, display: bool = False) -> str | None:
    """An `<img>` of a formula (without its dollar signs) in the size of the text around it, or None.

    Fractions are large if it is for `display` on a line of its own.
    """
    # Matplotlib has no large brackets of these names.
    known = re.sub(r"\\big[lr]?(?=[\[\]()|])", "", " ".join(formula.split()))
    known = known.replace(r"\frac", r"\dfrac") if display else known
    tex, font = f"${known}$", FontProperties(size=POINTS, math_fontfamily="dejavusans")
    try:
        width, height, depth, *_ = MathTextParser("path").parse(tex, dpi=72, prop=font)
        drawn = io.BytesIO()
        with matplotlib.rc_context({"text.parse_math": True, "svg.hashsalt": "tiledseg"}):
            math_to_image(tex, drawn, prop=font, dpi=72, format="svg")
    except ValueError:
        return None
    source = "data:image/svg+xml;base64," + base64.b64encode(drawn.getvalue()).decode()
    size = f"width:{width / POINTS:.2f}em;height:{height / POINTS:.2f}em;vertical-align:{-depth / POINTS:.2f}em"
    return f'<img class="formula" alt="{html.escape(formula.strip())}" style="{size};display:inline" src="{source}">'


def _draw(found: re.Match) -> str:
    picture = picture_of(found["display"] or found["inline"], bool(found["display"]))
    if picture is None:
        return found[0]
    return f'<span style="display:block;text-align:center">{picture}</span>' if found["display"] else picture


def with_pictures(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook in whose text formulas are pictures; code and what it showed stay as they are."""
    drawn = copy.deepcopy(notebook)
    for cell in drawn.cells:
        if cell.cell_type == "markdown":
            parts = CODE.split(cell.source)
            parts[::2] = [FORMULA.sub(_draw, part) for part in parts[::2]]
            cell.source = "".join(parts)
    return drawn
