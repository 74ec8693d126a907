"""Images are sorted into kinds by what they look like, and not into more kinds than there are."""

import cv2
import numpy as np
import pytest

from tests.commands.test_main import exit_code
from tiledseg_utils.data.cues import Cues, measure_cues, measure_pairs
from tiledseg_utils.data.images import find_pairs
from tiledseg_utils.data.kinds import read_kinds
from tiledseg_utils.data.measured_kinds import find_kinds, known_kinds, silhouette
from tiledseg_utils.data.pictures import write_image


def cues(brightness, chroma=0.0, diameter=20.0, extent=None):
    return Cues(chroma, brightness, 200.0, 256, 0 if diameter is None else 9, diameter, extent or diameter)


def series(name, count, brightness, chroma=0.0, diameter=20.0, seed=0):
    """Images of one microscope: they differ a little."""
    rng = np.random.default_rng(seed)
    return {
        f"{name}{number}": cues(brightness + rng.normal(0, 0.02), max(0, chroma + rng.normal(0, 0.01)), diameter)
        for number in range(count)
    }


FLUORESCENCE = series("dark", 20, 0.05)
STAINED = series("stained", 12, 0.75, 0.25)
BRIGHT = series("bright", 2, 0.9)


def test_cues_of_an_image_are_what_was_drawn():
    labels = np.zeros((100, 80), np.int32)
    labels[10:30, 10:30], labels[50:60, 10:20] = 1, 2
    labels[70:80, 40:50] = 7  # Numbers may have gaps.
    image = np.full((100, 80, 3), (200, 120, 149), np.uint8)
    found = measure_cues(image, labels)
    assert found.chroma == pytest.approx(80 / 255) and found.colour and found.side == 80 and found.objects == 3
    assert found.brightness == pytest.approx(147 / 255)  # 0.299 R + 0.587 G + 0.114 B
    # Two thirds of the foreground are in the first object.
    assert found.diameter == pytest.approx(20, abs=0.2) and found.extent == 20
    grey = measure_cues(np.full((40, 40, 3), 10, np.uint8), np.zeros((40, 40), np.int32))
    assert not grey.colour and grey.levels == 0 and grey.objects == 0 and grey.diameter is grey.extent is None


def test_the_extent_of_an_object_is_the_longer_side_of_its_box():
    labels = np.zeros((100, 80), np.int32)
    labels[10:13, 5:65] = 1
    labels[30:60, 20:23] = 1  # A second piece of it.
    labels[70:80, 40:50] = 2
    assert measure_cues(np.zeros((100, 80, 3), np.uint8), labels).extent == 60


def width_of(labels):
    return measure_cues(np.zeros((*labels.shape, 3), np.uint8), labels).diameter


@pytest.mark.parametrize("diameter", [8, 15, 40, 150])
def test_the_width_of_a_disc_is_its_diameter(diameter):
    rows, columns = np.mgrid[-100:101, -100:101]
    disc = (np.hypot(rows, columns) <= diameter / 2).astype(np.int32)
    assert width_of(disc) == pytest.approx(diameter, rel=0.03)


def test_neither_a_net_nor_nuclei_that_touch_are_one_wide_object():
    net = np.zeros((400, 400), np.int32)
    for line in range(6):
        net[line::40] = net[:, line::40] = 1
    assert 6 < width_of(net) < 12
    touching = np.zeros((60, 300), np.int32)
    for column in range(30, 300, 40):
        cv2.circle(touching, (column, 30), 20, 1, -1)  # 41 px wide: they share a column of pixels.
    assert width_of(touching) == pytest.approx(41, rel=0.05)
    apart = touching * (1 + (np.arange(300) - 10) // 40)
    assert width_of(apart) == pytest.approx(41, rel=0.1)
    assert width_of(np.ones((40, 40), np.int32)) == pytest.approx(40, rel=0.02)  # The edge of the image is one.


def test_kinds_are_found_with_their_names_and_the_most_frequent_first():
    found = find_kinds(FLUORESCENCE | STAINED | BRIGHT)
    assert found.names == ("dark grey", "bright colour", "bright grey")
    assert {stem: kind for stem, kind in found.of.items() if stem.startswith("bright")} == dict.fromkeys(
        BRIGHT, "bright grey"
    )
    assert all(found.of[stem] == "dark grey" for stem in FLUORESCENCE)
    assert found.nearest(cues(0.8, diameter=None)) == "bright grey" and found.nearest(cues(0.2)) == "dark grey"


@pytest.mark.parametrize(
    "images",
    [
        FLUORESCENCE,
        {"a": cues(0.1), "b": cues(0.9)},
        {"one": cues(0.4)},
        dict.fromkeys("abcdefgh", cues(0.5)),
        {str(number): cues(brightness, diameter=None) for number, brightness in enumerate(np.linspace(0.4, 0.6, 30))},
    ],
    ids=["one microscope", "two images", "one image", "all the same", "without objects, evenly spread"],
)
def test_what_is_not_divided_is_one_kind(images):
    found = find_kinds(images)
    assert len(found.names) == 1 and set(found.of) == set(images)


def test_an_image_without_objects_is_of_the_kind_that_it_looks_like():
    found = find_kinds(FLUORESCENCE | STAINED | {"empty": cues(0.06, diameter=None)})
    assert found.of["empty"] == "dark grey"


def test_kinds_that_differ_in_size_alone_are_told_apart_by_it():
    found = find_kinds(series("small", 13, 0.5, diameter=8.0) | series("large", 12, 0.5, diameter=300.0))
    assert found.names == ("medium grey, 8 px", "medium grey, 300 px")


def test_kinds_that_are_known_have_middles_and_find_new_images():
    cues_of = {"a": cues(0.1), "b": cues(0.3), "c": cues(0.9, 0.2), "d": cues(0.8, diameter=None)}
    found = known_kinds(cues_of, {"a": "z", "b": "z", "c": "stained", "d": "grey", "other": "absent"})
    assert found.names == ("z", "grey", "stained") and set(found.of) == set("abcd")
    assert found.centres[:, :3] == pytest.approx(np.array([[0, 0, 0.2], [0, 0, 0.8], [0.5, 0.2, 0.9]]))
    assert found.nearest(cues(0.6)) == "grey" and found.nearest(cues(0.4, 0.1)) == "stained"


def test_silhouette_is_that_of_the_definition():
    points = np.array([[0.0], [1.0], [5.0], [7.0]])
    # Of each: mean distance to the own group, to the other one, and (b - a) / max(a, b).
    expected = np.mean([(6 - 1) / 6, (5 - 1) / 5, (4.5 - 2) / 4.5, (6.5 - 2) / 6.5])
    assert silhouette(points, np.array([0, 0, 1, 1])) == pytest.approx(expected)


@pytest.fixture
def folder(tmp_path):
    """Six dark and four bright images with a disc each; one of the dark ones shows none."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    disc = rows**2 + columns**2 < 100
    for number in range(10):
        level, bright = (10, 200) if number < 6 else (230, 90)
        image = np.where(disc & (number > 0), bright, level + number).astype(np.uint8)
        write_image(tmp_path / "mine" / "images" / f"{number}.png", np.dstack([image] * 3))
        write_image(tmp_path / "mine" / "masks" / f"{number}.png", disc & (number > 0))
    return tmp_path / "mine"


def test_the_command_writes_a_table_that_is_read_as_kinds(folder, capsys):
    assert exit_code("data", "kinds", folder, "--out", folder / "kinds.csv") == 0
    printed = capsys.readouterr().out
    assert "dark grey" in printed and "10 images by kind in" in printed and "19.5" in printed
    assert read_kinds(folder / "kinds.csv") == {str(n): "dark grey" if n < 6 else "bright grey" for n in range(10)}
    assert exit_code("data", "kinds", folder, "--out", folder / "kinds.csv") == 1
    assert "kinds.csv: exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "words"), [("kinds.txt", "is not the name of a table"), ("images/0.csv/../0.png", "is not the name")]
)
def test_the_command_writes_nothing_else(folder, capsys, out, words):
    assert exit_code("data", "kinds", folder, "--out", folder / out) == 1
    assert words in capsys.readouterr().err


def test_small_copies_come_along(folder):
    found, small = measure_pairs(find_pairs(folder))
    assert small["7"].shape == (48, 48, 3) and found["0"].objects == 0 and found["7"].objects == 1


def test_the_commands_tell_of_a_kind_of_two_images(folder, capsys):
    assert exit_code("data", "check", folder) == 0
    printed = capsys.readouterr().out
    assert "are needed" not in printed
    assert "  batch_size 32: tiles are 128 px wide; a batch holds about half a million pixels\n" in printed
    kinds = "".join(f"{number},{'rare' if number < 2 else 'usual'}\n" for number in range(10))
    (folder / "kinds.csv").write_text(f"stem,kind\n{kinds}")
    assert exit_code("data", "check", folder) == 0
    assert "The kind rare has 2 images, and 3 are needed to learn it, judge it and" in capsys.readouterr().out
    (folder / "kinds.csv").write_text("stem,kind\n0,rare\n")
    assert exit_code("data", "check", folder) == 1
    assert "'1' has no kind" in capsys.readouterr().err
    for number in (8, 9):  # Of the bright ones, two are left.
        (folder / "images" / f"{number}.png").unlink()
        (folder / "masks" / f"{number}.png").unlink()
    assert exit_code("data", "kinds", folder) == 0
    assert "The kind bright grey has 2 images, and 3 are needed" in capsys.readouterr().out


def test_no_table_is_written_unasked(folder, capsys):
    assert exit_code("data", "kinds", folder) == 0
    assert not (folder / "kinds.csv").exists()
