"""Names that strangers chose: shown, never obeyed."""

import pytest

from tiledseg_utils.base import text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("zellkern ä 血液 🔬", "zellkern ä 血液 🔬"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("bell\x07 delete\x7f c1\x9b", r"bell\x07 delete\x7f c1\x9b"),
        ("turned\u202egnp", r"turned\u202egnp"),
        ("line\u2028next", r"line\u2028next"),
        ("no utf-8 \udcff", r"no utf-8 \xff"),
        ("half a pair \ud83d", r"half a pair \ud83d"),
        ("", ""),
    ],
)
def test_nothing_in_a_name_steers_a_terminal(name, shown):
    assert text.printable(name) == shown


def test_lines_stay_lines_where_they_are_wanted():
    assert text.printable_lines("a\x1b\nb") == "a\\x1b\nb"


@pytest.mark.parametrize(
    "value",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "'=1", "''=1", "＝1", "'plain", "''", "", "a=1", "'"],  # noqa: RUF001
)
def test_a_cell_is_read_back_as_it_was(value):
    escaped = text.escape_cell(value)
    assert escaped[:1] not in {*"=+-@\t\r\n", "＝", "＋", "－", "＠"}  # noqa: RUF001
    assert text.unescape_cell(escaped) == value


@pytest.mark.parametrize("value", [-1.5, -3, 0.0, None, True, "a", "it's", "'plain"])
def test_numbers_and_harmless_text_stay_as_they_are(value):
    assert text.escape_cell(value) is value


def test_what_others_wrote_without_apostrophe_is_read_as_it_is():
    assert [text.unescape_cell(value) for value in ("-1", "=a", "'a", "a'")] == ["-1", "=a", "'a", "a'"]


@pytest.mark.parametrize(("name", "possible"), [("ä 血", True), ("\udcff", False), ("", True)])
def test_names_that_no_file_can_hold(name, possible):
    assert text.storable(name) is possible
