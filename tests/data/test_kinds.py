"""Tables that give images their kind or group are read right, or refused by name."""

import pytest

from tests.data.test_images import assert_user_error
from tiledseg_utils.data.kinds import read_kinds

COLUMNS = ("group", "kind", "split")


@pytest.mark.parametrize("name", COLUMNS)
def test_kinds_stand_under_any_of_the_names(tmp_path, name):
    (tmp_path / "a.csv").write_text(f"stem,{name}\na_mask,x\nb, y\n", encoding="utf-8")
    assert read_kinds(tmp_path / "a.csv", columns=COLUMNS) == {"a": "x", "b": "y"}
    assert read_kinds(tmp_path / "a.csv", ["b"], COLUMNS) == {"b": "y"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stem,kind\na,x\n", ["'b' has no kind"]),
        ("stem,kind\na,x\nb,\n", ["'b' has no kind"]),
        ("stem,kind\na,x\nb,y\na_mask,x\n", ["'a' is listed more than once"]),
        ("stem,kind\na,x\nb,y\na,z\n", ["'a' is listed more than once"]),
        ("stem,kind\na,all\nb,y\n", ["'a' has the kind 'all'"]),
        ("stem,kind\n,x\na,x\nb,y\n", ["a line has no stem"]),
        ("stem;kind\na;x\n", ["semicolons"]),
        ("stem,sort\na,x\n", ["does not have the columns stem and kind"]),
        ("name,kind\na,x\n", ["no rows with the columns stem"]),
        ("", ["no rows with the columns stem"]),
    ],
)
def test_bad_tables_of_kinds_are_named(tmp_path, text, words):
    path = tmp_path / "kinds.csv"
    path.write_text(text)
    assert_user_error(lambda: read_kinds(path, ["a", "b"]), path, *words)
