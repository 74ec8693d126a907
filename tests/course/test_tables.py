import math

import numpy as np

from tiledseg_utils.course.tables import Table, choices


def test_a_table_escapes_and_rounds():
    html = Table([{"name": "a < b", "value": 0.123456, "count": 12345}])._repr_html_()
    assert "a &lt; b" in html and ">0.1235<" in html and ">12345<" in html
    html = Table([{"single": np.float32(0.1), "small": 1.23e-7, "none": 0.0}])._repr_html_()
    assert ">0.1<" in html and ">1.2e-07<" in html and ">0<" in html


def test_what_is_missing_is_not_measurable():
    html = Table([{"low": None, "seam_score": math.nan}, {"low": 0.5, "seam_score": 1.5}])._repr_html_()
    assert html.count(">not measurable<") == 2 and ">0.5<" in html


def test_keys_of_records_become_titles_and_other_names_stay():
    html = Table([{"dice_non_tiled": 1, "f1_at_075": 1, "added_mib": 1, "a_b <c>": 1}])._repr_html_()
    assert all(f"<th>{name}</th>" in html for name in ("Dice non-tiled", "F1 at 0.75", "added MiB", "a_b &lt;c&gt;"))


def test_a_table_shows_all_rows_and_long_texts():
    html = Table([{"text": "x" * 200, "number": number} for number in range(100)])._repr_html_()
    assert html.count("x" * 200) == 100 and ">99<" in html


def test_choices_are_the_first_by_each_measure():
    rows = [
        {"model": "best", "dice_tiled": 0.9, "seconds_per_step": 3.0, "parameters": 30, "exact": "yes"},
        {"model": "near", "dice_tiled": 0.89, "seconds_per_step": 2.0, "parameters": 20, "exact": "yes"},
        {"model": "cheap", "dice_tiled": 0.5, "seconds_per_step": 1.0, "parameters": 10, "exact": "yes"},
    ]
    assert choices(rows)["model"].tolist() == ["best", "near", "cheap", "cheap"]
