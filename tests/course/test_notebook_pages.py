"""Executed notebooks as pages: their pictures, and the links from one to the next."""

import base64
import re

import cv2
import nbformat
import numpy as np
import pytest

from tiledseg_utils.course import notebook_pages, plots
from tiledseg_utils.course.web_pictures import smallest


def png_of(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


NOISE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)


def notebook_with(*outputs):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("a", outputs=[output]) for output in outputs])


def output_of(png, **metadata):
    return nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(png).decode()}, metadata=metadata)


def test_figures_keep_their_captions_and_become_smaller(tmp_path):
    shown = plots.FigureFolder(tmp_path).grid("a", "Cells & <nuclei>.", {"noise": NOISE})
    data, metadata = shown._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    before = notebook_with(output, output_of(png_of(NOISE)))
    page = notebook_pages.export(before, "a")
    alts = re.findall(r'<img[^>]*\balt="([^"]*)"', page)
    assert alts == ["Cells &amp; &lt;nuclei&gt;.", "Figure that code cell 2 of this notebook drew"]
    assert page.count("data:image/webp;base64,") == 2 and 'src="data:image/png' not in page
    assert '<figcaption aria-hidden="true">Cells &amp; &lt;nuclei&gt;.' in page and "No description" not in page
    carried = base64.b64decode(re.search(r"data:image/webp;base64,([^\"]+)", page)[1])
    assert len(carried) < 0.5 * (tmp_path / "figures" / "a.png").stat().st_size
    assert "image/png" in before.cells[0].outputs[0].data  # the notebook itself stays


def test_a_picture_of_16_bits_stays_as_it_is():
    png = png_of(NOISE.astype(np.uint16) * 256)
    page = notebook_pages.export(notebook_with(output_of(png)), "a")
    assert f"data:image/png;base64,{base64.b64encode(png).decode()}" in page


def test_the_smallest_of_three_encodings_is_taken():
    flat = np.full((200, 200, 3), 255, np.uint8)
    cv2.putText(flat, "text", (20, 100), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    chart, dot = smallest(png_of(flat)), smallest(png_of(flat[:1, :1]))
    assert chart.kind == "webp" and (chart.width, chart.height) == (200, 200)
    restored = cv2.imdecode(np.frombuffer(chart.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (restored == flat).all()  # text and lines are smaller without loss
    assert len(dot.content) <= len(png_of(flat[:1, :1]))
    huge = smallest(png_of(np.zeros((1, 2**14, 3), np.uint8)))
    assert huge.kind == "png" and huge.width == 2**14
    with pytest.raises(ValueError, match="8 bits"):
        smallest(b"no picture")


def test_pages_lead_back_and_on(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A")])
    names = ["01_a", "02_b", "glossary"]
    notebook_pages.write_notebook_pages(tmp_path, dict.fromkeys(names, notebook))
    for place, name in enumerate(names):
        page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        found = re.findall(r'<a(?: rel="(\w+)")? href="([^"]+)"', page)
        expected = [("", "index.html")]
        expected += [("prev", f"{names[place - 1]}.html")] * (place > 0)
        expected += [("next", f"{names[min(place + 1, 2)]}.html")] * (place < 2)
        assert found == 2 * expected
        assert page.index("<body") < page.index('aria-label="Pages of the report"') < page.index("<main")
        assert page.index("</main>") < page.index('aria-label="Pages of the report, at the end"')
