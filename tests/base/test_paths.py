"""What is read is never written over: every way in which an output can be an input, or two outputs one file."""

import os

import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.base.paths import Output, check_paths, check_replaceable, check_run_folder


def same_file(folder):
    return folder / "a.png"


def through_a_folder(folder):
    (folder / "other").mkdir()
    return folder / "other" / ".." / "a.png"


def symbolic_link(folder):
    (folder / "link.png").symlink_to(folder / "a.png")
    return folder / "link.png"


def hard_link(folder):
    os.link(folder / "a.png", folder / "link.png")
    return folder / "link.png"


def linked_folder(folder):
    (folder / "linked").symlink_to(folder)
    return folder / "linked" / "a.png"


def upper_case(folder):
    return folder / "A.PNG"


@pytest.mark.parametrize(
    ("name_it", "words"),
    [
        (same_file, "is read by this command, and would be lost: the mask would take its place"),
        (through_a_folder, "under another name, which this command reads"),
        (symbolic_link, "under another name, which this command reads"),
        (hard_link, "under another name, which this command reads"),
        (linked_folder, "under another name, which this command reads"),
        (upper_case, "under another name, which this command reads"),
    ],
)
def test_an_output_is_no_input(tmp_path, name_it, words):
    (tmp_path / "a.png").write_text("precious")
    with pytest.raises(UserError) as refused:
        check_paths([tmp_path / "a.png"], [Output(name_it(tmp_path), "the mask")])
    assert words in str(refused.value) and refused.value.remedy == "Choose another folder for the results"
    assert "--overwrite" not in str(refused.value)


def test_an_output_lies_in_no_folder_that_is_read(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match=r"would be written into .*data, which this command reads"):
        check_paths([tmp_path / "data"], [Output(tmp_path / "data" / "images" / "a.png", "the mask")])


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a.png", "a.png", "would be both the mask of a and the mask of b"),
        ("a.png", "A.png", "differs from the mask of b only in upper and lower case"),
        ("\u00e4.png", "a\u0308.png", "only in upper and lower case or the form of accents"),
    ],
)
def test_two_outputs_are_two_files(tmp_path, first, second, words):
    outputs = [Output(tmp_path / first, "the mask of a"), Output(tmp_path / second, "the mask of b")]
    with pytest.raises(UserError) as refused:
        check_paths([], outputs)
    assert words in str(refused.value)


def test_other_files_are_fine(tmp_path):
    (tmp_path / "a.png").write_text("precious")
    check_paths([tmp_path / "a.png", tmp_path / "missing.png"], [Output(tmp_path / "out" / "a.png", "the mask")])


@pytest.mark.parametrize(
    ("run", "given", "words"),
    [
        ("run", "run/data", "which is read, and would be lost when the run is replaced"),
        ("run", "run", "which is read, and would be lost when the run is replaced"),
        ("run", "run/mine.yaml", "which is read, and would be lost when the run is replaced"),
        ("data/run", "data", "data, which is read"),
        ("linked", "run/data", "which is read, and would be lost when the run is replaced"),
        (".", "data", "is the folder you are in, or holds it"),
        ("..", "data", "is the folder you are in, or holds it"),
        ("/", "data", "is the folder you are in, or holds it"),
    ],
)
def test_run_folders_that_could_take_other_things_along(tmp_path, monkeypatch, run, given, words):
    here = tmp_path / "here"
    (here / "run" / "data").mkdir(parents=True)
    (here / "data").mkdir()
    (here / "linked").symlink_to(here / "run")
    monkeypatch.chdir(here)
    with pytest.raises(UserError) as refused:
        check_run_folder(here / run, [here / given])
    assert words in str(refused.value)
    check_run_folder(here / "another", [here / given])


@pytest.mark.parametrize("name", ["thesis.docx", "results/notes.txt", "data/images/a.dng"])
def test_a_run_with_other_peoples_files_is_not_replaced(tmp_path, name):
    for own in ("request.json", "results/scores.csv", "model.keras", ".lock", ".ipynb_checkpoints/x.ipynb"):
        (tmp_path / own).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / own).touch()
    check_replaceable(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"holds {name.split('/')[0]}.*which is not of a run, and would be deleted"):
        check_replaceable(tmp_path)
