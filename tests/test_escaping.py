"""Nobody gets in through a name: pages, figures, tables and the terminal show names and never obey them.

No browser is opened. A page with a hostile name must have the very elements and attributes that it has with a harmless
one, so whatever the name holds, it has become text.
"""

import html.parser
import json

import nbformat
import numpy as np
import pytest
from IPython.display import Markdown

from tiledseg_utils.base.files import UserError, read_csv, write_csv, write_json
from tiledseg_utils.base.text import escape_markdown, printable
from tiledseg_utils.commands import console
from tiledseg_utils.course import notebook_pages, plots, report

HARMLESS = "smear"
NAMES = [
    "A`<img src=x onerror=alert(1)>`",
    "<script>alert(1)</script>",
    "</td></table></pre></code></p><svg onload=alert(1)>",
    "x' onmouseover='alert(1)",
    'x" onmouseover="alert(1)',
    "[click](javascript:alert(1))",
    "![picture](https://example.org/x.png)",
    "<https://example.org>",
    "**bold** _slanted_ ~~gone~~ `code`",
    "$x^2$ and $\\frac$",
    "\\(x\\) \\[y\\]",
    "# title",
    "- item | cell |",
    "&lt;b&gt; &amp; &#60;i&#62;",
    "{{7*7}} {% raw %} ${x}",
    "=cmd|' /C calc'!A0",
    "\x1b[31mred\x1b]8;;https://example.org\x07link",
    "a\r\nb\n\n# c",
    "turned \u202egnp.exe",
]


class Structure(html.parser.HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self):
        super().__init__()
        self.elements, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, sorted(name for name, _ in attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def structure_of(page: str) -> Structure:
    parser = Structure()
    parser.feed(page)
    parser.close()
    return parser


def notebook_page(folder, name: str) -> str:
    """A notebook as HTML that shows a name in every way that the course has."""
    picture = plots.FigureFolder(folder).show(
        "a", f"{name}: a caption.", plots.picture_grid({name: np.zeros((4, 4, 3), np.uint8)})
    )
    data, metadata = picture._repr_mimebundle_()
    outputs = [
        nbformat.v4.new_output("display_data", {"text/html": plots.Table([{"stem": name, name: 1}])._repr_html_()}),
        nbformat.v4.new_output("display_data", data, metadata=metadata),
        nbformat.v4.new_output(
            "display_data", {"text/markdown": Markdown(f"The cell of {escape_markdown(name)} is **3 px** wide.").data}
        ),
        nbformat.v4.new_output("stream", name="stdout", text=printable(name)),
    ]
    cell = nbformat.v4.new_code_cell(f"data_dir = {name!r}", outputs=outputs)
    return notebook_pages.export(nbformat.v4.new_notebook(cells=[cell]), "notebook")


@pytest.fixture(scope="module")
def harmless_notebook(tmp_path_factory):
    return structure_of(notebook_page(tmp_path_factory.mktemp("page"), HARMLESS))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_adds_nothing_to_the_page_of_a_notebook(harmless_notebook, tmp_path, name):
    found = structure_of(notebook_page(tmp_path, name))
    spans = ("span", ["class"])  # of the coloured source code, where a name is a string of Python
    assert [e for e in found.elements if e != spans] == [e for e in harmless_notebook.elements if e != spans]
    text = "".join(found.texts)
    assert f"The cell of {printable(name)} is" in text and text.count(printable(name)) >= 3


def report_page(folder, name: str) -> str:
    """The page of a run in which every text that strangers choose is `name`."""
    scores = {"mean": 0.5, "median": 0.5, "pooled": 0.5, "per_image": {name: 0.5}}
    way = {"dice": scores, "iou": scores, "seconds": 1.0, "megapixels_per_second": 1.0}
    metrics = {
        "preset": name,
        "seed": 1,
        "data": {"path": name, "sha256": "0", "images": {"train": 1, "valid": 1, "test": 1}},
        "training": {"steps": 1, "seconds": 1.0, "parameters": 1, "best_epoch": 1},
        "tiled": way,
        "non_tiled": way,
        "difference": {"dice_mean": 0.0, "ci95": [None, None]},
        "baselines": [way | {"way": name, "steps": 1, "difference": {"dice_mean": 0.0, "ci95": [None, None]}}],
        "peak_rss_mb": 1,
        "environment": {"cpu": name},
    }
    plots.FigureFolder(folder).show("a", name, plots.picture_grid({name: np.zeros((4, 4, 3), np.uint8)}))
    write_json(folder / "results" / "07_architectures.json", [{"model": name, "Dice": 0.5}])
    page = report.write_page(folder, metrics, {"description": name, "data_dir": name, "models": [name]}, {})
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_adds_nothing_to_the_page_of_a_report(tmp_path, name):
    for part, shown in (("harmless", HARMLESS), ("hostile", name)):
        (tmp_path / part).mkdir()
        found = structure_of(report_page(tmp_path / part, shown))
        if part == "harmless":
            expected = found.elements
    assert found.elements == expected
    written = (name.replace("\r\n", "\n"), printable(name))  # tables make names printable
    assert sum(any(way in text.replace("\r\n", "\n") for way in written) for text in found.texts) >= 3


@pytest.mark.parametrize("name", ["<i>run", 'x" onload="y', "run & <script>"])
def test_the_name_of_a_run_folder_is_text(tmp_path, name):
    (tmp_path / name).mkdir()
    found = structure_of(report_page(tmp_path / name, HARMLESS))
    assert ("i", []) not in found.elements and not any("onload" in names for _, names in found.elements)
    assert f"tiledseg: {name}" in found.texts


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_line_of_the_terminal(capsys, name):
    console.print_table([{"stem": name, "dice": 0.5}])
    console.say(UserError(name, f"is not {name}".replace("\n", " "), "Rename it"))
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].startswith(printable(name))
    assert captured.out.count("\n") == 2 and captured.err.count("\n") == 1
    assert captured.out.replace("\n", "").isprintable() and captured.err.replace("\n", "").isprintable()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_and_comes_back_from_a_table(tmp_path, name):
    rows = [{"stem": name, "dice": -0.5}, {"stem": f"-{name}", "dice": 1}]
    write_csv(tmp_path / "a.csv", rows)
    assert [row["stem"] for row in read_csv(tmp_path / "a.csv")] == [name, f"-{name}"]
    assert [float(row["dice"]) for row in read_csv(tmp_path / "a.csv")] == [-0.5, 1]
    assert "\n'-" in (tmp_path / "a.csv").read_text() or "\n\"'-" in (tmp_path / "a.csv").read_text()


def test_a_caption_is_kept_as_it_is_shown(tmp_path):
    plots.FigureFolder(tmp_path).show("a", "one\x1b", plots.picture_grid({"$": np.zeros((4, 4, 3), np.uint8)}))
    assert json.loads((tmp_path / "figures" / "a.json").read_text()) == {"caption": "one\\x1b"}
