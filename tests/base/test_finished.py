"""What the same command finished before is recognised, and nothing else ever is."""

import json

import pytest

from tiledseg_utils.base.finished import JOURNAL, find_finished, note_finished

IDENTITY = {"image": "1", "settings": [0.5, None]}


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"rows")
    note_finished(path, path, IDENTITY, {"nuclei": 3})
    return path


def test_the_same_command_finds_its_result(result):
    assert find_finished(result, IDENTITY) == {"nuclei": 3}


def changed(path):
    path.write_bytes(b"sorw")


def removed(path):
    path.unlink()


def renamed(path):
    path.rename(path.with_name("b.tif"))


def without_journal(path):
    (path.parent / JOURNAL).unlink()


def cut_journal(path):
    text = (path.parent / JOURNAL).read_text()
    (path.parent / JOURNAL).write_text(text[: len(text) // 2])


def odd_journal(path):
    (path.parent / JOURNAL).write_text('[]\nnull\n-1\n{"name": 3}\n"a"')


@pytest.mark.parametrize("damage", [changed, removed, renamed, without_journal, cut_journal, odd_journal])
def test_nothing_else_counts(result, damage):
    damage(result)
    assert find_finished(result, IDENTITY) is None


@pytest.mark.parametrize("other", [{"image": "2"}, {"settings": [0.6, None]}, {"model": "new"}])
def test_another_command_does_not_count(result, other):
    assert find_finished(result, IDENTITY | other) is None


def test_a_cut_line_spoils_only_itself(result):
    journal = result.parent / JOURNAL
    journal.write_text(json.dumps({"name": "z"})[:5] + journal.read_text())
    assert find_finished(result, IDENTITY) == {"nuclei": 3}
