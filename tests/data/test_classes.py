"""Masks of classes: what they may store, and what is wrong with them or with classes.csv, in words."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import images, synthetic
from tiledseg_utils.data.classes import Classes, read_classes
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.data.provenance import hash_files
from tiledseg_utils.data.synthetic import CLASSES, CYTOPLASM, NUCLEUS

NUMBERS = np.array([[0, 1, 1, 2], [0, 3, 2, 2], [0, 0, 0, 3]], np.uint8)
TABLE = "value,name,color\n0,ground,#000000\n40,leaf,#00ff00\n200,stem,#0000ff\n7,root,#ff0000\n"


@pytest.fixture
def folder(tmp_path):
    """Three images of 48 x 64 px with masks of four classes, whose values are not their numbers."""
    (tmp_path / "classes.csv").write_text(TABLE)
    numbers = NUMBERS.repeat(16, 0).repeat(16, 1)
    rng = np.random.default_rng(0)
    for stem in "abc":
        write_image(tmp_path / "images" / f"{stem}.png", rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        write_image(tmp_path / "masks" / f"{stem}.png", read_classes(tmp_path).stored(numbers))
    return tmp_path


def first(folder):
    return images.find_pairs(folder)[0]


def test_the_background_comes_first_and_the_others_as_the_table_lists_them(folder):
    (folder / "classes.csv").write_text("value,name,color\n40,leaf,#00FF00\n0,ground,#000000\n7,root,#ff0000\n")
    classes = read_classes(folder)
    assert (classes.values, classes.names) == ((0, 40, 7), ("ground", "leaf", "root"))
    assert classes.colors[1] == (0, 255, 0)
    assert Classes.from_rows(classes.rows()) == classes


def in_colour(path, classes):
    write_image(path, np.array(classes.colors, np.uint8)[NUMBERS])


def with_a_colour_table(path, classes):
    picture = Image.fromarray(classes.stored(NUMBERS), "P")
    picture.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tobytes())
    picture.save(path)


def with_a_colour_table_of_the_classes(path, classes):
    picture = Image.fromarray(NUMBERS + 1, "P")  # Values that are none: 1 to 4.
    picture.putpalette(bytes(3) + np.array(classes.colors, np.uint8).tobytes())
    picture.save(path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, classes: write_image(path, classes.stored(NUMBERS)),
        lambda path, classes: cv2.imwrite(str(path), classes.stored(NUMBERS).astype(np.uint16)),
        in_colour,
        with_a_colour_table,
        with_a_colour_table_of_the_classes,
    ],
)
def test_masks_store_values_or_show_colours(write, folder):
    write(folder / "masks" / "a.png", read_classes(folder))
    pair = first(folder)
    assert (images.class_numbers_of(pair) == NUMBERS).all()
    assert (images.mask_of(pair) == (NUMBERS > 0)).all()


def test_objects_of_classes_are_pieces_of_their_foreground(folder):
    pair = first(folder)
    _, labels = images.read_pair(pair, labels=True)
    assert labels.max() == 1 and ((labels > 0) == (images.class_numbers_of(pair) > 0)).all()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0,ground,#000000\n", r"lists 1 class\(es\)"),
        ("1,leaf,#000000\n2,stem,#0000ff\n", "no class of value 0"),
        ("0,ground,#000000\n0,leaf,#00ff00\n", "gives the value 0 to several"),
        ("0,ground,#000000\n1,ground,#00ff00\n", "gives the name ground to several"),
        ("0,ground,#00ff00\n1,leaf,#00FF00\n", "gives the color #00ff00 to several"),
        ("0,ground,#000000\n256,leaf,#00ff00\n", "'256,leaf,#00ff00' has a value that is not"),
        ("0,ground,#000000\n01,leaf,#00ff00\n", "has a value that is not"),
        ("0,ground,#000000\n1,,#00ff00\n", "has no name"),
        ("0,ground,#000000\n1,leaf,green\n", "color that is not written as #rrggbb"),
    ],
)
def test_a_table_with_errors_is_refused(lines, message, folder):
    (folder / "classes.csv").write_text("value,name,color\n" + lines)
    with pytest.raises(UserError, match=message) as caught:
        images.find_pairs(folder)
    assert "classes.csv" in str(caught.value)
    assert any("classes.csv" in problem for problem in images.check_folder(folder)[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: write_image(path, np.full((48, 64), 41, np.uint8)), "3072 pixel.*value 41 in row 0, column 0"),
        (lambda path: write_image(path, np.full((48, 64, 3), (1, 2, 3), np.uint8)), "colour #010203"),
        (lambda path: Image.fromarray(np.zeros((48, 64), np.uint8)).save(path, "JPEG"), "JPEG, which changes"),
    ],
)
def test_masks_of_no_class_are_refused_and_say_where(change, message, folder):
    change(folder / "masks" / "a.png")
    with pytest.raises(UserError, match=message):
        images.read_pair(first(folder), classes=True)
    problems = images.check_folder(folder)[1]
    assert len(problems) == 1 and "a.png" in problems[0]


def test_a_class_that_no_training_image_shows_is_named(folder):
    assert images.check_folder(folder)[1] == []
    for stem in "ab":
        numbers = images.class_numbers_of(images.find_pairs(folder)["abc".index(stem)])
        write_image(folder / "masks" / f"{stem}.png", read_classes(folder).stored(np.where(numbers == 2, 0, numbers)))
    assert images.check_folder(folder)[1] == []
    (folder / "split.csv").write_text("stem,split\na,train\nb,valid\nc,test\n")
    (problem,) = images.check_folder(folder)[1]
    assert "the class stem is in no training image" in problem


def test_a_run_notices_that_the_table_has_changed(folder):
    before, name = images.hash_folder(folder), "classes.csv"
    hashes = hash_files(folder)
    assert name in hashes
    (folder / name).write_text(TABLE.replace("leaf", "blade"))
    assert images.hash_folder(folder) != before and hash_files(folder)[name] != hashes[name]


def test_drawn_classes_lie_where_cells_are(tmp_path):
    image, labels = synthetic.draw_smear(3, 0, 512)
    again, classes = synthetic.draw_classes(3, 0, 512)
    assert (image == again).all()
    white = np.isin(classes, (CYTOPLASM, NUCLEUS))
    assert (white == (labels > 0)).all()
    means = {number: image[classes == number].mean(axis=0) for number in range(len(CLASSES))}
    assert means[NUCLEUS][0] < means[CYTOPLASM][0] < means[0][0]  # Chromatin takes most of the red light.
    assert means[1][1] < means[0][1]  # Haemoglobin takes green light.


def test_a_drawn_folder_of_classes_is_sound_and_no_other(tmp_path):
    synthetic.write_dataset(tmp_path / "a", 3, {"train": 1, "valid": 1, "test": 1}, 256, classes=True)
    rows, problems = images.check_folder(tmp_path / "a")
    assert not problems and all("nucleus" in row["note"] for row in rows)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with pytest.raises(UserError, match="would not write the same"):
        synthetic.write_dataset(tmp_path / "b", 3, {"train": 1, "valid": 1, "test": 1}, 256)
