import argparse
import errno
import importlib
import os
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

import tiledseg_utils
from tiledseg_utils import __main__ as command_line
from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.commands import data
from tiledseg_utils.commands.console import Stopped
from tiledseg_utils.commands.options import prediction_defaults, prediction_setting
from tiledseg_utils.data import pictures
from tiledseg_utils.data.masks import read_mask
from tiledseg_utils.data.pictures import read_image, write_image
from tiledseg_utils.prediction.inference import load_model, multi_scale, predict_reduced, predict_tiled
from tiledseg_utils.scoring.foreground import find_foreground
from tiledseg_utils.settings.parameters import PredictionSetting

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "",
    "report",
    "compare",
    "data",
    "data synthetic",
    "data check",
    "data neurips",
    "data bbbc038",
    "predict",
    "instances",
    "evaluate",
    "score",
]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    models.build_model("unet", {"base_filters": 4, "levels": 3}).save(path)
    return path


def exit_code(*arguments) -> int:
    """Exit code of the command line, where argparse leaves by an exception of its own."""
    try:
        return command_line.main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        return leaving.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert exit_code(*command.split(), "--help") == 0
    assert "usage: python -m tiledseg_utils" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("started", "usage"),
    [
        ("/opt/bin/tiledseg", "tiledseg predict"),
        ("bin/tiledseg.EXE", "tiledseg predict"),
        ("/opt/tiledseg_utils/__main__.py", "python -m tiledseg_utils predict"),
    ],
)
def test_help_names_the_command_that_was_typed(monkeypatch, capsys, started, usage):
    monkeypatch.setattr(sys, "argv", [started])
    assert exit_code("predict", "model.keras") == 2
    assert f"usage: {usage} [-h]" in capsys.readouterr().err


def test_the_installed_command_is_the_command_line():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, function = scripts["tiledseg"].split(":")
    assert getattr(importlib.import_module(module), function) is command_line.main


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["raport"],
        ["report", "--presett", "quick"],
        ["data", "synthetic"],
        ["data", "synthetic", "x", "--jpeg", "101"],
        ["data", "synthetic", "x", "--touching", "2"],
        ["data", "synthetic", "x", "--train", "many"],
        ["predict", "model.keras"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    assert exit_code(*arguments) == 2
    assert "usage:" in capsys.readouterr().err


def test_predict_then_count(model_path, tmp_path, capsys):
    image = tmp_path / "image.png"
    write_image(image, np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    maps, labels = tmp_path / "maps", tmp_path / "labels"
    assert exit_code("predict", model_path, image, "--out", maps, "--format", "tif", "--probability") == 0
    threshold = np.quantile(tifffile.imread(maps / "image.tif"), 0.8)
    count = ("instances", maps / "image.tif", "--out", labels, "--threshold", threshold, "--min-area", 1)
    assert exit_code(*count) == 0
    found = tifffile.imread(labels / "image.tif")
    assert found.dtype == np.uint16 and found.max() > 1
    assert f"image.tif  {found.max()}" in capsys.readouterr().out
    before = (labels / "image.tif").stat().st_mtime_ns
    assert exit_code(*count) == 0  # It is done already.
    assert (labels / "image.tif").stat().st_mtime_ns == before
    assert exit_code(*count, "--threshold", 0.5) == 1
    assert "exists already" in capsys.readouterr().err


def test_generate_then_check(tmp_path, capsys):
    folder = tmp_path / "größer als ein Wort"
    counts = ("--train", 1, "--valid", 1, "--test", 1)
    assert exit_code("data", "synthetic", folder, *counts, "--size", 256, "--jpeg", 90) == 0
    assert exit_code("data", "check", folder) == 0
    output = capsys.readouterr().out
    assert "smear_0002  test" in output and "3 images, no problems" in output
    assert "  tile_size 256: the shorter side of images is 256 px" in output and "  contrast false: " in output


def test_check_refuses_too_many_channels_once(data_folder, capsys):
    assert exit_code("data", "check", data_folder, "--channels", *range(9)) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("has 9 entries") == 1


def test_check_tells_of_channels_that_nobody_will_learn_from(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for stem, channels in (("a", 5), ("b", 5), ("c", 5), ("d", 3)):
        image = rng.integers(0, 256, (64, 64, channels), np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{stem}.tif", image, photometric="minisblack", planarconfig="contig")
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20:40] = 255
        write_image(tmp_path / "masks" / f"{stem}.png", mask)
    sentence = "3 of 4 images have more than 3 channels"
    assert exit_code("data", "check", tmp_path) == 0 and sentence in capsys.readouterr().out
    (tmp_path / "images" / "d.tif").unlink()
    (tmp_path / "masks" / "d.png").unlink()
    assert exit_code("data", "check", tmp_path, "--channels", 0, 1, 2, 3, 4) == 0
    assert "more than 3 channels" not in capsys.readouterr().out


def test_check_reports_every_problem_and_fails(data_folder, tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    write_image(tmp_path / "images" / "alone.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "masks" / "other.png").write_bytes(b"")
    assert exit_code("data", "check", tmp_path) == 1
    captured = capsys.readouterr()
    assert "alone.png has no partner" in captured.out and "is an empty file" in captured.out
    assert "error:" in captured.err


def test_predict_writes_masks_of_the_size_of_the_images(model_path, tmp_path, rng):
    for stem, shape in (("a b", (90, 130)), ("ü", (1, 200))):
        write_image(tmp_path / f"{stem}.png", rng.integers(0, 256, (*shape, 3)).astype(np.uint8))
    images = [tmp_path / "a b.png", tmp_path / "ü.png"]
    options = ("--out", tmp_path / "out", "--tile-size", 64, "--overlay")
    assert exit_code("predict", model_path, *images, *options) == 0
    assert read_mask(tmp_path / "out" / "a b.png").shape == (90, 130)
    assert read_mask(tmp_path / "out" / "ü.png").shape == (1, 200)
    assert set(np.unique(read_image(tmp_path / "out" / "a b.png"))) <= {0, 255}
    assert read_image(tmp_path / "out" / "a b_overlay.png").shape == (90, 130, 3)


def test_predict_takes_a_folder_and_does_only_what_is_new(model_path, tmp_path, rng, capsys):
    (tmp_path / "scans").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "scans" / f"{name}.png", rng.integers(0, 256, (40, 40, 3)).astype(np.uint8))
    options = ("--out", tmp_path / "masks", "--tile-size", 64)
    assert exit_code("predict", model_path, tmp_path / "scans", *options) == 0
    assert exit_code("predict", model_path, tmp_path / "scans" / "*", *options) == 0
    assert capsys.readouterr().out.count("already done") == 2
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == ["a.png", "b.png"]


def test_predict_takes_scales_and_drops_small_and_doubtful_pieces(model_path, tmp_path, rng):
    image = rng.integers(0, 256, (90, 130, 3)).astype(np.uint8)
    write_image(tmp_path / "a.png", image)
    once = partial(predict_tiled, load_model(model_path), tile_size=64)
    probability = multi_scale(once, [0.8, 1])(image)
    threshold = float(np.quantile(probability, 0.8))
    confidence = float(np.quantile(probability, 0.93))
    options = ("--tile-size", 64, "--threshold", threshold, "--scales", 0.8, 1)
    options += ("--min-area", 6, "--min-confidence", confidence)
    assert exit_code("predict", model_path, tmp_path / "a.png", "--out", tmp_path / "out", *options) == 0
    expected = find_foreground(probability, threshold, 6, confidence)
    assert 0 < expected.sum() < find_foreground(probability, threshold, 6).sum() < (probability >= threshold).sum()
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.png"), expected)


def test_predict_as_a_run_of_a_preset_does(model_path, tmp_path, rng):
    image = rng.integers(0, 256, (90, 130, 3)).astype(np.uint8)
    write_image(tmp_path / "a.png", image)
    tiles = {"mode": "blend", "tile_size": 64, "overlap": 16, "test_time_augmentation": True, "batch_size": 2}
    probability = multi_scale(partial(predict_tiled, load_model(model_path), **tiles), [0.8, 1])(image)
    threshold, lower = (float(np.quantile(probability, share)) for share in (0.8, 0.6))
    preset = tmp_path / "mine.yaml"
    parameters = {"description": "mine", "prediction": tiles, "scales": [0.8, 1], "threshold": threshold, "min_area": 6}
    preset.write_text(yaml.safe_dump(parameters))
    options = ("predict", model_path, tmp_path / "a.png", "--preset", preset)
    assert exit_code(*options, "--out", tmp_path / "as preset") == 0
    assert exit_code(*options, "--out", tmp_path / "but", "--threshold", lower) == 0
    for folder, value in (("as preset", threshold), ("but", lower)):
        np.testing.assert_array_equal(read_mask(tmp_path / folder / "a.png"), find_foreground(probability, value, 6))
    words = [str(word) for word in (*options, "--out", tmp_path)]
    parsed = command_line.parser(prediction_defaults(str(preset))).parse_args(words)
    assert prediction_setting(parsed) == PredictionSetting(**tiles)


def test_predict_fails_with_a_remedy_and_writes_nothing(model_path, tmp_path, capsys):
    (tmp_path / "broken.png").write_text("no image")
    assert exit_code("predict", model_path, tmp_path / "broken.png", "--out", tmp_path / "out") == 1
    assert "broken.png: is not a PNG" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    same = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.tif"]
    assert exit_code("predict", model_path, *same, "--out", tmp_path / "out") == 1
    assert "x.png: would be both the mask of x.png and the mask of x.tif" in capsys.readouterr().err


def test_predict_and_evaluate_without_tiles(model_path, data_folder, tmp_path, capsys):
    path = sorted((data_folder / "images").iterdir())[0]
    image = read_image(path)
    assert exit_code("predict", model_path, path, "--out", tmp_path, "--non-tiled", 64) == 0
    assert "the whole image reduced to one tile of 64 px" in capsys.readouterr().out
    expected = predict_reduced(load_model(model_path), image, 64) >= 0.5
    np.testing.assert_array_equal(read_image(tmp_path / f"{path.stem}.png")[..., 0] > 0, expected)
    assert (
        exit_code("predict", model_path, path, "--out", tmp_path) == 1
    )  # Another mask, in tiles, is not taken for it.
    assert "exists already" in capsys.readouterr().err
    assert exit_code("evaluate", model_path, data_folder, "--split", "all", "--non-tiled", 64) == 0
    assert "non-tiled Dice of 5 images" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_predict_streams_large_images(model_path, tmp_path, rng, capsys, suffix):
    image = rng.integers(0, 256, (150, 90, 3)).astype(np.uint8)
    write_image(tmp_path / "a.tif", image)
    options = ("--out", tmp_path / "out", "--tile-size", 64, "--format", suffix)
    assert exit_code("predict", model_path, tmp_path / "a.tif", *options) == 0
    assert "megapixels_per_second" in capsys.readouterr().out
    out = tmp_path / "out" / f"a.{suffix}"
    mask = np.load(out) if suffix == "npy" else read_image(out)[..., 0]
    probability = predict_tiled(load_model(model_path), image, tile_size=64)
    np.testing.assert_array_equal(mask, np.uint8(255) * (probability >= 0.5))
    assert exit_code("predict", model_path, tmp_path / "a.tif", *options, "--probability", "--overwrite") == 0
    written = np.load(out) if suffix == "npy" else tifffile.imread(out)
    np.testing.assert_array_equal(written, probability)


def four_images(folder):
    paths = [folder / f"{name}.png" for name in "abcd"]
    for path in paths:
        write_image(path, np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    return paths


def batch_of_images(folder):
    """Three images and, between them, one that is cut."""
    paths = four_images(folder)
    paths[1].write_bytes(paths[0].read_bytes()[:500])
    return paths


def fail_at(monkeypatch, name, error):
    """Let reading the image of that name fail."""

    def read_or_fail(part):
        if part.path.name == name:
            raise error
        return read_image(part)

    monkeypatch.setattr(pictures, "read_image", read_or_fail)


@pytest.mark.parametrize("command", [("predict",), ("predict", "--format", "tif"), ("instances",)])
def test_a_batch_goes_on_behind_a_bad_file_and_is_completed_later(model_path, tmp_path, capsys, command):
    paths, suffix = batch_of_images(tmp_path), "png" if command == ("predict",) else "tif"
    model = ("--model", model_path) if command == ("instances",) else (model_path,)
    if command == ("instances",):
        call = (command[0], *paths, *model, "--out", tmp_path / "out")
    else:
        call = (command[0], *model, *paths, *command[1:], "--out", tmp_path / "out")
    assert exit_code(*call) == 1
    error = capsys.readouterr().err
    assert "1 of 4 images: could not be done, the others are\n  " in error
    assert "b.png: is a PNG file that is cut" in error
    assert error.endswith(". Mend them, and give the same command again: it does only what is missing.\n")
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob(f"*.{suffix}")}
    assert sorted(written) == [f"{name}.{suffix}" for name in "acd"]
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert exit_code(*call) == 0
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob(f"*.{suffix}")}
    assert again.items() >= written.items() and f"b.{suffix}" in again
    assert (tmp_path / "out" / f"b.{suffix}").read_bytes() == (tmp_path / "out" / f"a.{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "b.png: needs more memory than there is. Close other programs"),
        (OSError(errno.EIO, "Input/output error"), "b.png: cannot be used (Input/output error). Check"),
    ],
)
def test_a_batch_goes_on_behind_an_image_that_the_machine_fails_at(
    model_path, tmp_path, monkeypatch, capsys, error, message
):
    paths = four_images(tmp_path)
    fail_at(monkeypatch, "b.png", error)
    assert exit_code("predict", model_path, *paths, "--out", tmp_path / "out") == 1
    assert "1 of 4 images: could not be done, the others are\n  " in (said := capsys.readouterr().err)
    assert message in said
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png", "d.png"]


def test_a_full_disk_ends_a_batch_with_the_list_of_bad_files(model_path, tmp_path, monkeypatch, capsys):
    paths = batch_of_images(tmp_path)
    fail_at(monkeypatch, "c.png", OSError(errno.ENOSPC, "No space left on device"))
    assert exit_code("predict", model_path, *paths, "--out", tmp_path / "out") == 1
    earlier, last = capsys.readouterr().err.splitlines()
    assert "b.png: is a PNG file that is cut" in earlier and "c.png: cannot be used (No space left on device)" in last
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["a.png"]


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
@pytest.mark.parametrize("command", ["predict", "instances"])
def test_no_result_takes_the_place_of_an_image(model_path, tmp_path, capsys, command, more):
    image = tmp_path / "slide.tif"
    write_image(image, np.zeros((40, 40, 3), np.uint8))
    before = image.read_bytes()
    model = ("--model", model_path) if command == "instances" else (model_path, "--format", "tif")
    assert exit_code(command, *model, image, "--out", tmp_path, *more) in (1, 2)
    assert image.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir()) == ["slide.tif"]
    if command == "predict":
        assert "slide.tif: is read by this command, and would be lost" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", [".slide.tif.lock", ".tiledseg-finished.jsonl", ".slide.tif.partial"])
def test_no_working_file_leads_to_an_image(model_path, tmp_path, capsys, hidden):
    image = tmp_path / "slide.tif"
    write_image(image, np.zeros((40, 40, 3), np.uint8))
    before = image.read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / hidden).symlink_to(image)
    assert exit_code("predict", model_path, image, "--out", tmp_path / "out", "--format", "tif") == 1
    assert "under another name, which this command reads" in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.parametrize("order", [("c", "c_overlay"), ("c_overlay", "c")])
def test_masks_and_overlays_never_share_a_name(model_path, tmp_path, capsys, order):
    paths = [tmp_path / f"{stem}.png" for stem in order]
    for path in paths:
        write_image(path, np.zeros((40, 40, 3), np.uint8))
    assert exit_code("predict", model_path, *paths, "--out", tmp_path / "out", "--overlay") == 1
    error = capsys.readouterr().err
    assert "c_overlay.png: would be both the mask of c_overlay.png and the overlay of c.png" in error
    assert not (tmp_path / "out").exists()


def test_an_overlay_of_others_is_not_replaced_unasked(model_path, tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_overlay.png").write_text("precious")
    call = ("predict", model_path, tmp_path / "a.png", "--out", tmp_path / "out", "--overlay")
    assert exit_code(*call) == 1
    assert "a_overlay.png: exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "a_overlay.png").read_text() == "precious"


def test_predict_replaces_nothing_unasked(model_path, tmp_path, capsys):
    write_image(tmp_path / "a.png", np.zeros((80, 80, 3), np.uint8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("precious")
    options = ("--out", tmp_path / "out", "--tile-size", 64)
    assert exit_code("predict", model_path, tmp_path / "a.png", *options) == 1
    assert "a.png: exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").read_text() == "precious"
    assert exit_code("predict", model_path, tmp_path / "a.png", *options, "--overwrite") == 0
    assert read_mask(tmp_path / "out" / "a.png").shape == (80, 80)


def test_evaluate_scores_a_split_of_a_data_folder(model_path, data_folder, capsys):
    options = ("--tile-size", 64, "--threshold", 0)
    assert exit_code("evaluate", model_path, data_folder, *options) == 0
    output = capsys.readouterr().out
    assert "smear_0003" in output and "smear_0004" in output and "smear_0000" not in output
    shares = [read_mask(data_folder / "masks" / f"smear_000{index}.png").mean() for index in (3, 4)]
    dice = np.mean([2 * share / (1 + share) for share in shares])  # at threshold 0 everything is foreground
    assert f"tiled Dice of 2 images: mean {dice:.3f}" in output
    assert exit_code("evaluate", model_path, data_folder / "nothing") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tile-size", 65], "tile size 65: does not fit the poolings"),
        (["--tile-size", 48], "Use at least 52 pixels"),
        (["--mode", "blend", "--tile-size", 64, "--overlap", 40], "overlap 40: does not fit tiles of 64 px"),
        (["--probability"], "--format png: holds a mask"),
        (["--format", "tif", "--overlay"], "--overlay: needs the whole image in memory"),
        (["--format", "tif", "--scales", "0.5", "1"], "--scales: needs the whole image in memory"),
        (["--format", "npy", "--min-area", "9"], "--min-area: needs the whole image in memory"),
        (["--format", "tif", "--preset", "standard"], "--scales, --min-area, --min-confidence: needs the whole image"),
        (["--preset", "standart"], "preset standart: is not known. Choose one of general"),
        (["--format", "npy", "--min-confidence", "0.7"], "--min-confidence: needs the whole image in memory"),
        (["--format", "tif", "--non-tiled", "64"], "--non-tiled: needs the whole image in memory"),
    ],
)
def test_predict_refuses_what_does_not_go_together(model_path, tmp_path, capsys, options, message):
    write_image(tmp_path / "a.png", np.zeros((80, 80, 3), np.uint8))
    assert exit_code("predict", model_path, tmp_path / "a.png", "--out", tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_report_refuses_unusable_data_before_it_makes_a_run(tmp_path, capsys, folder):
    (tmp_path / "empty").mkdir()
    assert exit_code("report", "--data", tmp_path / folder, "--run", tmp_path / "run") == 1
    assert f"{folder}: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


LAST_RESORT = [
    (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png: cannot be used (No such file or directory)"),
    (PermissionError(13, "Permission denied", b"a\xff.png"), r"a\xff.png: cannot be used (Permission denied)"),
    (NotADirectoryError(20, "Not a directory", "run"), "run: cannot be used (Not a directory). Check its name"),
    (OSError(28, "No space left on device"), "input or output: cannot be used (No space left on device)"),
    (OSError("a device is odd"), "input or output: cannot be used (a device is odd). Check"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "text: is in another encoding than UTF-8"),
    (MemoryError(), "this command: needs more memory than there is. Close other programs, or choose smaller images"),
    (RecursionError("maximum recursion depth exceeded"), "input: is nested too deeply to be read. Write it"),
    (ImportError("no module\n  named x"), "Python: cannot import what it needs (no module named x). Install"),
    (ZeroDivisionError("division by zero"), "unexpected error: ZeroDivisionError (division by zero). This should not"),
    (AssertionError(), "unexpected error: AssertionError. This should not happen; set TILEDSEG_TRACEBACK=1"),
    (UserError("a.png", "is bad", "Mend it"), "error: a.png: is bad. Mend it.\n"),
]


def raising(error):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(("error", "message"), LAST_RESORT, ids=lambda value: str(value)[:40])
def test_every_error_ends_in_one_sentence(monkeypatch, capsys, error, message):
    monkeypatch.setattr(data, "check", raising(error))
    assert exit_code("data", "check", "x") == 1
    captured = capsys.readouterr().err
    assert message in captured and captured.startswith("error: ") and captured.count("\n") == 1
    assert ".." not in captured and captured.endswith(".\n")


def test_developers_see_where_an_error_comes_from(monkeypatch, capsys):
    monkeypatch.setattr(data, "check", raising(ZeroDivisionError("a")))
    monkeypatch.setenv("TILEDSEG_TRACEBACK", "1")
    assert exit_code("data", "check", "x") == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (Stopped(15), 143), (Stopped(1), 129), (BrokenPipeError(), 141)]
)
def test_what_comes_from_outside_has_its_exit_code(monkeypatch, capfd, error, code):
    monkeypatch.setattr(data, "check", raising(error))
    monkeypatch.setattr("tiledseg_utils.commands.console.give_up_printing", lambda: None)  # stdout is the test's own
    assert exit_code("data", "check", "x") == code
    said = "interrupted; give the same command again to do the rest; with --overwrite, it starts from the beginning\n"
    expected = "" if code == 141 else said
    assert capfd.readouterr().err == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("", "run: is there. Choose another folder with --run, or replace it with --overwrite."),
        ("1", "run: is there. Choose another folder with RUN=, or replace it with OVERWRITE=1."),
    ],
)
def test_users_of_make_are_told_its_variables(monkeypatch, capsys, make, message):
    monkeypatch.setenv("TILEDSEG_MAKE", make)
    error = UserError("run", "is there", "Choose another folder with --run, or replace it with --overwrite")
    monkeypatch.setattr(data, "check", raising(error))
    assert exit_code("data", "check", "x") == 1
    assert message in capsys.readouterr().err


def test_make_says_that_it_is_make():
    recipe = subprocess.run(["make", "-n", "report"], capture_output=True, text=True, cwd=ROOT)
    assert recipe.returncode == 0 and "tiledseg_utils report" in recipe.stdout
    assert "report: export TILEDSEG_MAKE = 1" in (ROOT / "Makefile").read_text()


def actions(parser, words=()):
    """Every argument of a parser and of its commands, with the command that it belongs to."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from actions(command, (*words, name))
        else:
            yield pytest.param(action, id=" ".join((*words, action.dest)))


@pytest.mark.parametrize("action", list(actions(command_line.parser({}))))
def test_every_argument_has_help(action):
    assert action.help and (action.help == argparse.SUPPRESS or not action.help.endswith("."))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_only_defaults_that_say_something(command, capsys):
    assert exit_code(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "(default: None)" not in text and "(default: False)" not in text
    if command == "report":
        assert "(default: quick)" in text


def test_version(capsys):
    assert exit_code("--version") == 0
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module, name = source.rsplit(".", 1)
    version = getattr(importlib.import_module(module), name)
    assert capsys.readouterr().out == f"tiledseg {version}\n" and tiledseg_utils.__version__ == version


def test_as_a_program(tmp_path):
    environment = {**os.environ, "PYTHONPATH": "."}
    command = [sys.executable, "-m", "tiledseg_utils", "data", "check", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "nowhere" in done.stderr
