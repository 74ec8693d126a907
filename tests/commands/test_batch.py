"""What names, folders and patterns on the command line stand for."""

import os
from pathlib import Path

import pytest

from tests.commands.test_main import exit_code
from tiledseg_utils.base.files import UserError
from tiledseg_utils.commands.batch import PROBABILITY_SUFFIXES, expand_images

FILES = [
    "scans/b.jpg",
    "scans/a.PNG",
    "scans/.c.png",
    "scans/notes.txt",
    "scans/deep/d.jpg",
    "maps/e.npy",
    "maps/e.jpg",
]
FILES += ["f[1].png", "f1.png", "empty/notes.txt", "alone/g.webp"]


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Some files in the current folder; nobody looks into them."""
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["f1.png", "missing.png"], ["f1.png", "missing.png"]),  # Whoever reads it says that it is missing.
        (["scans"], ["scans/a.PNG", "scans/b.jpg"]),
        (["f1.png", "scans/", "maps"], ["f1.png", "scans/a.PNG", "scans/b.jpg", "maps/e.jpg"]),
        (["scans/*.jpg"], ["scans/b.jpg"]),
        (["scans/?.*"], ["scans/a.PNG", "scans/b.jpg"]),
        (["**/*.jpg"], ["maps/e.jpg", "scans/b.jpg", "scans/deep/d.jpg"]),
        (["scan*"], ["scans/a.PNG", "scans/b.jpg"]),  # A folder that matches stands for its images, too.
        (["f[1].png"], ["f[1].png"]),  # There is a file of that name.
        (["f[12].png"], ["f1.png"]),
    ],
)
def test_folders_and_patterns_stand_for_images(scans, given, expected):
    assert expand_images([Path(name) for name in given], Path("out")) == [Path(name) for name in expected]


def test_without_a_model_a_folder_stands_for_its_probability_maps(scans):
    assert expand_images([Path("maps")], Path("out"), PROBABILITY_SUFFIXES) == [Path("maps/e.npy")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("scans/*.bmp", "is a pattern that no file matches. Check the folder and the spelling"),
        ("f[3].png", "is a pattern that no file matches"),
        ("empty", "is a folder without images. Give a folder of files that end in .bmp, .jpeg, .jpg,"),
        ("alone", "is a folder without images"),
    ],
)
def test_what_stands_for_nothing_is_refused_by_name(scans, given, message):
    with pytest.raises(UserError) as caught:
        expand_images([Path(given)], Path("out"))
    assert str(caught.value).startswith(f"{Path(given)}: {message}")


def test_a_folder_of_images_is_not_that_of_the_results(scans):
    os.symlink("scans", "link")
    with pytest.raises(UserError, match="scans: is the folder of the images and that of the results"):
        expand_images([Path("scans")], Path("link"))


def test_files_that_may_be_meant_for_images_are_named(scans, capsys):
    Path("scans/g.webp").touch()
    expand_images([Path("scans")], Path("out"))
    assert capsys.readouterr().err == "note: left out of scans, for their endings: g.webp\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["scans", "scans/*.jpg"], f"{Path('scans/b.jpg')}: is given more than once"),
        (["scans/*.gif"], f"{Path('scans/*.gif')}: is a pattern that no file matches"),
        (["scans", "maps/e.jpg", "f[1].png", "maps"], "is given more than once"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "instances"])
def test_commands_refuse_before_they_read_a_model(scans, capsys, command, given, message):
    model = ("--model", "model.keras") if command == "instances" else ("model.keras",)
    images = (*given, *model) if command == "instances" else (*model, *given)
    assert exit_code(command, *images, "--out", "out") == 1
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
