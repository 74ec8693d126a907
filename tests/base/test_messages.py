"""Every error that a user can bring about is one line: the file, the problem and the remedy in plain sentences."""

import os
import re
import shutil

import numpy as np
import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.base.text import printable
from tiledseg_utils.data.pictures import write_image

from ..commands.test_main import exit_code


@pytest.fixture(scope="module")
def place(tmp_path_factory, data_folder):
    """A folder with what people give by mistake."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "file").write_text("text")
    (folder / "empty").mkdir()
    (folder / "other").mkdir()
    (folder / "other" / "thesis.txt").write_text("three years of work")
    (folder / "model.keras").write_text("no model")
    (folder / "map.tif").write_text("no map")
    (folder / "list.yaml").write_text("- 1")
    (folder / "key.yaml").write_text("treshold: 0.5")
    os.mkfifo(folder / "pipe")
    write_image(folder / "image.png", np.zeros((80, 80, 3), np.uint8))
    for name, damage in (("sizes", "image"), ("broken", "mask"), ("alone", "none")):
        shutil.copytree(data_folder, folder / name)
        mask = folder / name / "masks" / "smear_0000.png"
        mask.unlink()
        if damage == "image":
            write_image(mask, np.zeros((20, 20), np.uint8))
        if damage == "mask":
            mask.write_text("no picture")
    shutil.copytree(data_folder, folder / "table")
    (folder / "table" / "split.csv").write_text("stem,split\nsmear_0000,train\nnobody,test\n")
    return folder


CALLS = [
    ("report --run {0}/file --preset smoke", "{0}/file: is not a folder"),
    ("report --run {0}/pipe --preset smoke", "{0}/pipe: is not a folder"),
    ("report --run {0}/other --preset smoke", "{0}/other: is a folder with other content"),
    ("report --run {0}/new --preset nosuch", "preset nosuch: is not known. Choose one of general"),
    ("report --run {0}/new --preset {0}/pipe.yaml", "is not known"),
    ("report --run {0}/new --preset {0}/list.yaml", "{0}/list.yaml: does not hold names and values"),
    ("report --run {0}/new --preset {0}/key.yaml", "treshold: is not known. Did you mean threshold?"),
    ("report --run {0}/new --preset smoke --data {0}/none", "but is not a folder"),
    ("report --run {0}/new --preset smoke --data {0}/pipe", "but is not a folder"),
    ("report --run {0}/new --preset smoke --data {0}/sizes", "{0}/sizes/masks/smear_0000.png: is 20 x 20 pixels"),
    ("report --run {0}/new --preset smoke --data {0}/broken", "{0}/broken/masks/smear_0000.png: is not a"),
    ("report --run {0}/new --preset smoke --data {0}/alone", "images/smear_0000.png has no partner in masks"),
    ("report --run {0}/new --preset smoke --data {0}/table", "'nobody' is not the name"),
    ("data check {0}/file", "1 problem(s) in 0 image(s)"),
    ("data check {0}/empty", "1 problem(s) in 0 image(s)"),
    ("data synthetic {0}/file --size 256", "cannot be written"),
    ("data neurips {0}/new --archive {0}/pipe", "{0}/pipe: is a pipe, a device or a socket, not a file"),
    ("data neurips {0}/new --archive /dev/zero", "/dev/zero: is a pipe, a device or a socket, not a file"),
    ("data neurips {0}/new --archive {0}/file", "{0}/file: is not a zip archive"),
    ("data neurips {0}/other --archive {0}/file", "{0}/other"),
    ("predict {0}/none.keras {0}/image.png --out {0}/new", "{0}/none.keras: there is no model"),
    ("predict {0}/model.keras {0}/image.png --out {0}/new", "{0}/model.keras"),
    ("predict {0}/pipe {0}/image.png --out {0}/new", "{0}/pipe"),
    ("instances {0}/map.tif --out {0}/new", "{0}/map.tif"),
    ("instances {0}/pipe --out {0}/new", "{0}/pipe: is a pipe, a device or a socket"),
    ("evaluate smears {0}/empty", "{0}/empty: should be a folder with images"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[call for call, _ in CALLS])
def test_an_error_is_a_file_a_problem_and_a_remedy(place, capsys, call, message):
    assert exit_code(*call.format(place).split()) == 1
    said = capsys.readouterr().err
    assert message.format(place) in said
    check_shape(said)
    assert not (place / "new" / "request.json").exists()


def check_shape(said: str) -> None:
    """A message is one line, one more for each problem of a list, says no path twice, and ends with one full stop."""
    lines = said.splitlines()
    assert lines[0].startswith("error: ") and all(line.startswith("  ") for line in lines[1:]), said
    assert re.search(r"[^.\s]\.\n$", said), said
    assert (
        all(line == line.rstrip() for line in lines)
        and "error: :" not in said
        and ".." not in said
        and "Traceback" not in said
    )
    assert len(re.findall(r"[.?](?= [A-Z])", said)) >= 1, said  # The problem, and what to do about it.
    paths = [word.strip(".,:()'") for word in said.split() if word.startswith("/")]
    assert len(paths) == len(set(paths)), said


@pytest.mark.parametrize(
    ("path", "problem", "remedy", "message"),
    [
        ("a.png", "is empty", "Copy it", "a.png: is empty. Copy it."),
        ("a.png", "is empty.", "Copy it.", "a.png: is empty. Copy it."),
        ("a.png", "ends...", "Copy it. ", "a.png: ends. Copy it."),
        ("a.png", "a.png: is empty. Copy it.", "Mend it", "a.png: is empty. Copy it. Mend it."),
        ("/d", "/d/a.png: is empty. Copy it.", "Mend it", "/d/a.png: is empty. Copy it. Mend it."),
        ("/d", "/date.png is empty", "Mend it", "/d: /date.png is empty. Mend it."),
        ("", "is empty", "Copy it", "(an empty name): is empty. Copy it."),
        ("a\x1b\n.png", "is \x1b", "Copy\x07 it", r"a\x1b\n.png: is \x1b. Copy\x07 it."),
        ("\udcff.png", "is empty", "Rename it", r"\xff.png: is empty. Rename it."),
    ],
)
def test_an_error_has_one_shape_whoever_raises_it(path, problem, remedy, message):
    assert str(UserError(path, problem, remedy)) == message
    check_shape(f"error: {printable(message)}\n")
