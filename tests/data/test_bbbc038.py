"""Every rule and error of `data.bbbc038`, with archives made on the spot and a server of this machine."""

import threading

import numpy as np
import pytest

from tests.commands.test_main import exit_code
from tests.data.test_images import assert_user_error, encode
from tests.data.test_neurips import Zenodo, write_archive, written
from tiledseg_utils.base.files import read_csv, read_json
from tiledseg_utils.data import archives, bbbc038
from tiledseg_utils.data.bbbc038 import convert_archive, draw_splits, fetch_archive, find_kind, merge_masks
from tiledseg_utils.data.images import check_folder, find_pairs, read_image
from tiledseg_utils.data.masks import read_labels

A, B, C, D = (letter * 64 for letter in "abcd")
SHAPE = (40, 48)


def disc(top, left, side=8, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def picture(colour, seed=0):
    """An image, 40 x 48 RGBA, of about one colour; no two seeds are equal."""
    noise = np.random.default_rng(seed).integers(0, 3, (*SHAPE, 1))
    return np.dstack([np.uint8(colour) + noise.astype(np.uint8), np.full(SHAPE, 255, np.uint8)])


TWO = (disc(2, 2), disc(20, 30))


def sample(stem, colour=(20, 20, 20), masks=TWO, seed=0, root="stage1_train"):
    """Members of an archive by name: an image and its masks, named 0.png, 1.png ..., which may be bytes."""
    members = {f"{root}/{stem}/images/{stem}.png": encode(".png", picture(colour, seed))}
    for number, mask in enumerate(masks):
        content = mask if isinstance(mask, bytes) else encode(".png", mask.astype(np.uint8) * 255)
        members[f"{root}/{stem}/masks/{number}.png"] = content
    return members


COLOURS = {A: (20, 20, 20), B: (200, 120, 200), C: (220, 220, 220), D: (200, 190, 190)}
KINDS = {A: "fluorescence", B: "purple", C: "grey", D: "other"}


@pytest.fixture
def archive(tmp_path):
    """One image of each kind, with what macOS adds."""
    members = {"__MACOSX/stage1_train/._a.png": b"x", "stage1_train/.DS_Store": b"x"}
    for seed, (stem, colour) in enumerate(COLOURS.items()):
        members |= sample(stem, colour, seed=seed)
    return write_archive(tmp_path / bbbc038.ARCHIVE, members)


@pytest.fixture
def broad(archive, monkeypatch):
    monkeypatch.setattr(archives, "PAUSE", 0)
    monkeypatch.setattr(archives, "CHUNK_BYTES", 100)
    with Zenodo(archive.read_bytes()) as server:
        server.address = f"{server.base}/content"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


# ---------------------------------------------------------------- download


def test_the_command_downloads_and_the_folder_is_sound(tmp_path, broad, capsys):
    broad.cuts, out = 2, tmp_path / "out"
    assert exit_code("data", "bbbc038", out, "--yes", "--address", broad.address) == 0
    assert broad.ranges == [None, "bytes=300-", "bytes=600-"]
    output = capsys.readouterr().out
    words = ("BBBC038v1", "10.1038/s41592-019-0612-7", "CC0 1.0", broad.address, "No checksum of the archive", "MB")
    assert all(word in output.split("Download")[0] for word in words)
    assert "4 images with labels" in output and "1 fluorescence, 1 grey, 1 other, 1 purple" in output
    assert "masks that" not in output
    files = [f"{folder}/{stem}.png" for folder in ("images", "labels") for stem in COLOURS]
    tables = ["kinds.csv", "manifest.csv", "source.json", "split.csv"]
    assert written(out) == sorted([f"download/{bbbc038.ARCHIVE}", *files, *tables])
    assert exit_code("data", "check", out) == 0
    broad.status = 500  # a second call needs no server
    assert exit_code("data", "bbbc038", out, "--yes", "--address", broad.address) == 0


def test_an_archive_that_arrives_damaged_is_removed(tmp_path, broad):
    whole = broad.content
    for damaged, words in (
        (whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], ["the checksum of", "is wrong"]),
        (b"<html>no such page</html>", ["no whole zip archive"]),
    ):
        broad.content = damaged
        target = tmp_path / "out" / "download" / bbbc038.ARCHIVE
        words = [*words, "did not arrive as published", "removed", "same command", "--archive"]
        assert_user_error(lambda: fetch_archive(tmp_path / "out", True, broad.address), target, *words)
        assert written(tmp_path / "out") == []
    broad.content = whole
    assert fetch_archive(tmp_path / "out", True, broad.address).read_bytes() == whole


def test_server_errors_say_how_to_do_without(tmp_path, broad):
    def fetch(address):
        return lambda: fetch_archive(tmp_path / "out", True, address)

    by_hand = [bbbc038.SOURCE.url, "--archive"]
    assert_user_error(fetch(f"{broad.base}/none"), "/none", "HTTP status 404", *by_hand)
    assert_user_error(fetch("http://127.0.0.1:9/none"), "127.0.0.1:9", "ConnectionError", *by_hand)
    broad.tells_size = False
    assert_user_error(fetch(broad.address), "/content", "has no stated size", *by_hand)
    assert written(tmp_path) == [bbbc038.ARCHIVE]


# ---------------------------------------------------------------- kinds, masks, splits


@pytest.mark.parametrize(
    ("colour", "kind"),
    [
        ((0, 0, 0), "fluorescence"),
        ((0, 90, 0), "fluorescence"),  # dark, whatever its colour
        ((100, 100, 100), "fluorescence"),
        ((101, 101, 101), "grey"),
        ((255, 251, 251), "grey"),  # saturation 4
        ((200, 194, 200), "other"),  # 8
        ((200, 170, 200), "other"),  # 38
        ((200, 168, 200), "purple"),  # 41
        ((200, 200, 120), "other"),  # not purple: the blue is lowest
        ((120, 200, 120), "other"),
    ],
)
def test_kinds_are_told_by_saturation_and_brightness(colour, kind):
    assert find_kind(np.full((4, 5, 3), colour, np.uint8)) == kind


def test_a_later_mask_wins_and_every_change_is_noted():
    named = [
        ("a", disc(2, 2)),
        ("b", disc(6, 6)),  # takes 16 pixels of a
        ("c", np.zeros(SHAPE, bool)),
        ("d", disc(0, 0, shape=(30, 48))),
        ("e", disc(20, 2) | disc(20, 20)),
        ("f", disc(30, 40, 4)),
        ("g", disc(28, 38)),  # covers f
    ]
    labels, notes = merge_masks(named, SHAPE)
    assert labels.dtype == np.int32 and np.unique(labels).tolist() == [0, 1, 2, 5, 7]
    assert (labels == 1).sum() == 48 and (labels == 2).sum() == 64 and (labels == 7).sum() == 64
    assert [tuple(note.values()) for note in notes] == [
        ("a", "overlapped", 16, "by b"),
        ("c", "empty", 0, "left out"),
        ("d", "other size", 64, "left out: is 30 x 48, its image 40 x 48 (rows x columns)"),
        ("e", "several pieces", 128, "each of 2 counts as an object"),
        ("f", "covered", 16, "by g"),
    ]


def test_splits_are_drawn_within_kinds_and_keep_equal_pictures_together():
    rows = [{"stem": f"p{index}", "kind": "purple", "pixels_sha256": f"p{index}"} for index in range(20)]
    rows += [{"stem": f"g{index}", "kind": "grey", "pixels_sha256": f"g{index}"} for index in range(10)]
    rows += [{"stem": f"o{index}", "kind": "other", "pixels_sha256": f"o{index}"} for index in range(2)]
    rows += [{"stem": f"z{index}", "kind": "purple", "pixels_sha256": f"p{index}"} for index in range(20)]
    splits = draw_splits(rows, 1)
    counts = {letter: [s for stem, s in splits.items() if stem.startswith(letter)] for letter in "pgo"}
    assert [counts["p"].count(split) for split in ("train", "valid", "test")] == [14, 2, 4]
    assert [counts["g"].count(split) for split in ("train", "valid", "test")] == [7, 1, 2]
    assert counts["o"] == ["train", "train"]
    assert all(splits[f"z{index}"] == splits[f"p{index}"] for index in range(20))
    assert splits == draw_splits(rows[::-1], 1) and splits != draw_splits(rows, 2)


# ---------------------------------------------------------------- the data folder


def test_folder_and_tables(tmp_path, archive):
    rows = convert_archive(archive, tmp_path / "out", seed=3)
    assert [pair.stem for pair in find_pairs(tmp_path / "out")] == sorted(COLOURS)
    expected = np.where(disc(2, 2), 1, np.where(disc(20, 30), 2, 0))
    for number, pair in enumerate(find_pairs(tmp_path / "out")):
        np.testing.assert_array_equal(read_image(pair.image), picture(COLOURS[pair.stem], number)[..., :3])
        np.testing.assert_array_equal(read_labels(pair.mask), expected)
    assert {row["stem"]: row["kind"] for row in read_csv(tmp_path / "out" / "kinds.csv")} == KINDS
    row = read_csv(tmp_path / "out" / "manifest.csv")[0]
    assert row == {name: str(value) for name, value in rows[0].items()}
    assert (row["masks"], row["instances"], row["channels"], row["height"], row["width"]) == ("2", "2", "4", "40", "48")
    source = read_json(tmp_path / "out" / "source.json")
    assert (source["licence"], source["doi"], source["seed"]) == ("CC0 1.0", "10.1038/s41592-019-0612-7", 3)
    assert check_folder(tmp_path / "out")[1] == []


def test_masks_that_cannot_be_kept_are_named(tmp_path, capsys):
    masks = (disc(2, 2), disc(6, 6), disc(0, 0) & False, disc(0, 0, shape=(30, 48)))
    members = sample(A, masks=masks) | sample(B, masks=(disc(0, 0) & False,))
    path = write_archive(tmp_path / "a.zip", members)
    assert exit_code("data", "bbbc038", tmp_path / "out", "--archive", path) == 0
    notes = [(row["stem"], row["mask"], row["problem"]) for row in read_csv(tmp_path / "out" / "notes.csv")]
    assert notes == [
        (A, "0.png", "overlapped"),
        (A, "2.png", "empty"),
        (A, "3.png", "other size"),
        (B, "0.png", "empty"),
    ]
    assert "2 empty, 1 other size, 1 overlapped (see " in capsys.readouterr().out
    assert [row["instances"] for row in read_csv(tmp_path / "out" / "manifest.csv")] == ["2", "0"]


@pytest.mark.parametrize("name", [f"images/{C}.png", f"labels/{B}.png"])
def test_an_interrupted_call_goes_on(tmp_path, archive, monkeypatch, name):
    with monkeypatch.context() as patch:
        write = bbbc038.pictures.write_image
        calls = []

        def failing(path, array):
            if path.as_posix().endswith(name):
                raise KeyboardInterrupt
            calls.append(path.stem)
            write(path, array)

        patch.setattr(bbbc038.pictures, "write_image", failing)
        assert exit_code("data", "bbbc038", tmp_path / "out", "--archive", archive) == 130
    assert calls and not (tmp_path / "out" / "manifest.csv").exists()
    convert_archive(archive, tmp_path / "out")
    convert_archive(archive, tmp_path / "whole")
    assert written(tmp_path / "whole") == written(tmp_path / "out")
    for file in written(tmp_path / "whole"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


# ---------------------------------------------------------------- archives that are refused


SHADES = encode(".png", np.arange(1920, dtype=np.uint16).reshape(SHAPE).astype(np.uint8))
REFUSED = {
    "no archive": (b"hello", "", ["is not a zip archive"]),
    "another layout": ({"images/a.png": b"x", "labels/a_label.tiff": b"x"}, "", ["<id>/masks/<name>.png"]),
    "no masks at all": ({f"{A}/images/{A}.png": b"x"}, "", ["<id>/masks/<name>.png"]),
    "no masks of one": (sample(A) | {f"x/{B}/images/{B}.png": b"x"}, "", [B, "has no masks", "--keep-going"]),
    "no image": (sample(A) | {f"x/{B}/masks/0.png": b"x"}, "", [B, "has no image", "--keep-going"]),
    "two images": (sample(A) | sample(A, root="other"), "", ["images of one id"]),
    "text": (sample(A) | {f"x/{A}/masks/9.czi": b"x"}, "", ["9.czi is not a PNG"]),
    "a way out": (sample(A) | {"../images/a.png": b"x"}, "", ["leads out of its folder", "Trust no archive"]),
    "a damaged image": (sample(A) | {f"stage1_train/{A}/images/{A}.png": b"x"}, f"{A}.png", ["is not a PNG"]),
    "a damaged mask": (sample(A, masks=(disc(2, 2), b"x")), "masks/1.png", ["is not a PNG", "--keep-going"]),
    "shades": (sample(A, masks=(SHADES,)), "masks/0.png", ["shades"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_archives_are_refused(tmp_path, case):
    members, place, words = REFUSED[case]
    path = tmp_path / "a.zip"
    if isinstance(members, bytes):
        path.write_bytes(members)
    else:
        write_archive(path, members)
    assert_user_error(lambda: convert_archive(path, tmp_path / "out"), place or path, *words)
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_keep_going_leaves_out_what_cannot_be_read(tmp_path, capsys):
    path = write_archive(tmp_path / "a.zip", sample(A) | sample(B, masks=(b"x",)) | {f"x/{C}/images/{C}.png": b"x"})
    assert exit_code("data", "bbbc038", tmp_path / "out", "--archive", path, "--keep-going") == 1
    error = capsys.readouterr().err
    assert "2 image(s) are left out" in error and f"{C}.png has no masks" in error and "masks/0.png" in error
    assert [pair.stem for pair in find_pairs(tmp_path / "out")] == [A]


def test_a_folder_of_other_things_or_another_seed_is_refused(tmp_path, archive, data_folder):
    words = ["holds something else", "empty"]
    assert_user_error(lambda: convert_archive(archive, data_folder), data_folder, *words)
    convert_archive(archive, tmp_path / "out")
    words = ["another archive or another selection"]
    assert_user_error(lambda: convert_archive(archive, tmp_path / "out", seed=2), tmp_path / "out", *words)
