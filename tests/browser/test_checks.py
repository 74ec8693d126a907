"""The checks of `make browser`, of what a browser would find: each finds what is broken, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import checks
from tests.browser.__main__ import find_chromium
from tests.browser.lab import NOTEBOOK, draw_few_images, wrong_cells


def test_links_to_files_and_places_that_are_not_there(tmp_path):
    page, other = tmp_path / "a page.html", tmp_path / "b.html"
    page.touch(), other.touch()
    anchors = {page: {"here", "köpfe"}, other: set()}
    right = [
        page.as_uri(),
        f"{page.as_uri()}#here",
        f"{page.as_uri()}#k%C3%B6pfe",
        f"{page.as_uri()}#",
        "https://keras.io/x",
    ]
    assert list(checks.wrong_links(right, anchors)) == []
    wrong = [f"{page.as_uri()}#gone", f"{other.as_uri()}#here", f"{tmp_path.as_uri()}/c.html", tmp_path.as_uri()]
    found = list(checks.wrong_links([*right, *wrong], anchors))
    assert len(found) == 4 and sum("a place that the page does not have" in each for each in found) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"alt": None}, "has no words"),
        ({"alt": " "}, "has no words"),
        ({"alt": "", "hidden": True}, None),
        ({"loaded": False}, "figures/a.webp did not load"),
    ],
)
def test_pictures_load_and_have_words(change, said):
    found = list(
        checks.wrong_images([{"source": "figures/a.webp", "alt": "Cells.", "hidden": False, "loaded": True, **change}])
    )
    assert [said in each for each in found] == [True] if said else found == []


def test_figures_have_a_caption_or_a_description():
    figures = [{"caption": "Cells.", "alt": ""}, {"caption": "", "alt": "Cells that touch, one in each colour."}]
    assert list(checks.wrong_figures(figures)) == []
    assert len(list(checks.wrong_figures([{"caption": "", "alt": "png"}]))) == 1


@pytest.mark.parametrize(
    ("levels", "wrong"), [([1, 2, 3, 2, 3, 1], 0), ([1, 3], 1), ([2, 3], 1), ([], 1), ([1, 2, 4, 2, 4], 2)]
)
def test_headings_begin_with_the_first_level_and_leave_none_out(levels, wrong):
    assert len(list(checks.wrong_headings(levels))) == wrong


@pytest.mark.parametrize(
    ("ink", "backs", "expected"),
    [
        ("rgb(0, 0, 0)", ["rgb(255, 255, 255)"], 21),
        (
            "rgb(119, 119, 119)",
            ["rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"],
            4.48,
        ),  # WCAG's own example of just too little
        ("rgba(0, 0, 0, 0.5)", ["rgb(255, 255, 255)"], 3.98),
        ("rgb(255, 255, 255)", ["rgba(0, 0, 0, 0.5)", "rgb(255, 255, 255)"], 3.98),
        ("color(srgb 0 0 0 / 0.5)", ["rgb(255, 255, 255)"], 3.98),
        ("rgb(0, 0, 0)", ["rgba(0, 0, 0, 0)"], 21),  # nothing but the canvas behind it
    ],
)
def test_contrast_is_that_of_wcag(ink, backs, expected):
    assert checks.contrast(ink, backs, checks.WHITE) == pytest.approx(expected, abs=0.05)
    found = list(checks.wrong_contrasts([{"ink": ink, "backs": backs, "example": "abc"}], "rgba(0, 0, 0, 0)"))
    assert len(found) == (expected < 4.5) and all("'abc'" in each for each in found)


def test_a_page_that_is_too_wide():
    assert list(checks.wrong_width(0, "")) == [] and "12 px wider" in next(checks.wrong_width(12, "table."))


def test_cells_that_did_not_run_or_failed():
    cells = [{"execution_count": 1, "outputs": [{"output_type": "stream"}]}, {"execution_count": None, "outputs": []}]
    cells += [{"execution_count": 3, "outputs": [{"output_type": "error", "ename": "NameError"}]}]
    assert [each.partition(": ")[2] for each in wrong_cells(cells)] == [
        "code cell 2 was not executed",
        "code cell 3 ended with NameError",
    ]


def test_the_notebook_that_is_run_draws_few_images(tmp_path):
    notebook = tmp_path / "a.ipynb"
    notebook.write_bytes((Path(__file__).parents[2] / "notebooks" / f"{NOTEBOOK}.ipynb").read_bytes())
    draw_few_images(notebook)
    assert '"train": 4, "valid": 1, "test": 2' in "".join(
        json.loads(notebook.read_text(encoding="utf-8"))["cells"][1]["source"]
    )
    with pytest.raises(RuntimeError, match="how many images"):
        draw_few_images(notebook)


def test_without_a_browser_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"chromium is not on the PATH\. Install Debian's package chromium"):
        find_chromium(None)
    with pytest.raises(SystemExit, match="my/chrome is not"):
        find_chromium("my/chrome")
    command = [sys.executable, "-m", "tests.browser", "--run", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1 and done.stderr.count("\n") == 1


def test_the_browser_has_an_environment_of_its_own():
    root = Path(__file__).parents[2]
    command = ["make", "--always-make", "-n", "browser", "RUN=runs/a"]
    recipe = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True).stdout
    assert '.venv-browser/bin/python -m tests.browser --python .venv/bin/python --run "runs/a"' in recipe
    assert "playwright==" in recipe and "playwright" not in (root / "requirements.lock").read_text()
