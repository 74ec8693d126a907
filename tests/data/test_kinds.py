"""Tables that give images their kind or group are read right, or refused by name."""

import pytest

from tests.data.test_images import assert_user_error
from tiledseg_utils.data.kinds import kinds_of_folder, rare_kinds, read_kinds

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


def test_a_folder_names_kinds_unless_its_table_is_one_of_groups(tmp_path):
    assert kinds_of_folder(tmp_path) is None
    table = tmp_path / "kinds.csv"
    table.write_text("stem,group\na,1\n")
    assert kinds_of_folder(tmp_path, ["a"]) is None
    table.write_text("stem,group,kind\na,1,x\n")
    assert kinds_of_folder(tmp_path, ["a"]) == {"a": "x"}
    table.write_text("stem,kinds\na,x\n")
    assert_user_error(lambda: kinds_of_folder(tmp_path), table, "does not have the columns stem and kind")


def test_a_kind_of_two_images_is_told():
    kinds = dict.fromkeys("abc", "dark") | dict.fromkeys("de", "grey\x1b") | {"f": "pale"}
    needed = "and 3 are needed to learn it, judge it and test it. Add images, or give it the name of a similar kind in"
    assert rare_kinds(kinds) == [
        f"The kind grey\\x1b has 2 images, {needed} kinds.csv.",
        f"The kind pale has 1 image, {needed} kinds.csv.",
    ]
    assert rare_kinds(dict.fromkeys("abc", "dark")) == rare_kinds({}) == []
