"""Kinds of image in a run: from the user's table or measured, shown, and scored each for itself."""

import numpy as np
import pytest

from tests.data.test_measured_kinds import BRIGHT, FLUORESCENCE, STAINED
from tiledseg_utils.base.files import UserError
from tiledseg_utils.course import kinds
from tiledseg_utils.scoring.pixels import Counts

CUES = FLUORESCENCE | STAINED | BRIGHT


def test_kinds_are_measured_unless_the_folder_names_them(tmp_path):
    measured, source = kinds.begin_kinds(tmp_path / "run", tmp_path, CUES)
    assert source == "measured" and measured["dark0"] == "dark grey"
    assert kinds.kinds_of(tmp_path / "run") == measured
    lines = "".join(f"{stem},{'mine' if stem == 'dark0' else 'others'}\n" for stem in CUES)
    (tmp_path / "kinds.csv").write_text("stem,kind\n" + lines, encoding="utf-8")
    named, source = kinds.begin_kinds(tmp_path / "run", tmp_path, CUES)
    assert source == "kinds.csv of your folder" and named["dark0"] == "mine" and named["bright1"] == "others"
    assert kinds.kinds_of(tmp_path / "run") == named
    (tmp_path / "kinds.csv").write_text("stem,kind\ndark0,mine\n", encoding="utf-8")
    with pytest.raises(UserError, match="'bright0' has no kind"):
        kinds.begin_kinds(tmp_path / "run", tmp_path, CUES)


def test_a_run_of_one_kind_has_no_kinds(tmp_path):
    assert kinds.kinds_of(tmp_path) == {}
    kinds.begin_kinds(tmp_path, tmp_path, FLUORESCENCE)
    assert kinds.kinds_of(tmp_path) == {}


def test_the_table_of_kinds_tells_which_has_no_training_image(tmp_path):
    found, _ = kinds.begin_kinds(tmp_path, tmp_path, CUES)
    split_of = {stem: "test" if stem.startswith("bright") else "train" for stem in CUES}
    rows = kinds.rows_of(CUES, found, split_of)
    assert [(row["kind"], row["images"], row["train"], row["test"]) for row in rows] == [
        ("dark grey", 20, 20, 0),
        ("bright colour", 12, 12, 0),
        ("bright grey", 2, 0, 2),
    ]
    assert rows[0]["diameter, px"] == 20


def test_the_chart_shows_every_image_and_copies_of_each_kind(tmp_path):
    found, _ = kinds.begin_kinds(tmp_path, tmp_path, CUES)
    figure = kinds.chart(CUES, dict.fromkeys(CUES, np.zeros((48, 48, 3), np.uint8)), found)
    (ax,) = figure.axes
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == len(CUES)
    assert len(ax.artists) == 3 + 3 + 2  # three copies of a kind, as far as it has images
    assert next(text.get_text() for text in ax.get_legend().get_texts()) == "bright colour (12)"


COUNTS = {
    "a": Counts(tp=90, fp=10, fn=10, tn=0),
    "b": Counts(tp=30, fp=70, fn=70, tn=0),
    "c": Counts(tp=0, fp=0, fn=100, tn=0),
}


def test_each_kind_is_scored_for_itself_and_the_lowest_comes_first():
    rows = kinds.score_rows(COUNTS, {"a": "dark", "b": "dark", "c": "bright", "unscored": "dark"}, seed=1)
    assert [(row["kind"], row["images"], row["lowest_image"]) for row in rows] == [("bright", 1, "c"), ("dark", 2, "b")]
    assert rows[1]["mean"] == pytest.approx(0.6) and rows[1]["pooled"] == pytest.approx(0.6)
    assert rows[1]["ci95"] == pytest.approx([0.3, 0.9]) and rows[0]["ci95"] == [None, None]
    assert rows[1]["stems"] == ["a", "b"] and rows[1]["lowest"] == pytest.approx(0.3)
    table = kinds.shown(rows)
    assert [row["note"] for row in table] == ["few images", "few images"] and table[0]["95 % interval"] == ""
    assert table[1]["95 % interval"] == "0.300 to 0.900"
