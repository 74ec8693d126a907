"""`evaluate` scores what the model never saw, and marks what it did."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from tests.commands.test_main import exit_code
from tests.training.test_fit import QUICK, train_in
from tiledseg_utils import models
from tiledseg_utils.data import images, provenance
from tiledseg_utils.data.masks import read_mask
from tiledseg_utils.models.inputs import images_learnt_from, remember_images
from tiledseg_utils.prediction.inference import load_model

EVERYTHING = ("--tile-size", 64, "--threshold", 0)  # is foreground, so that a Dice follows from the mask alone


def save_model(path, learnt):
    model = models.build_model("unet", {"base_filters": 4, "levels": 2})
    remember_images(model, learnt)
    model.save(path)
    return path


@pytest.fixture(scope="module")
def learnt(data_folder, tile_set):
    return provenance.learnt_from(tile_set[0])


@pytest.fixture(scope="module")
def model_path(learnt, tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.keras", learnt)


@pytest.fixture(scope="module")
def unknown_path(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("unknown") / "model.keras", None)


@pytest.fixture
def folder(data_folder, tmp_path):
    """A data folder that may be changed: smears 0 and 1 were trained on, 2 chose the model, 3 and 4 are test images."""
    shutil.copytree(data_folder, tmp_path / "data")
    return tmp_path / "data"


def scored(output: str) -> dict[str, str]:
    """What the table says of each image: seen in training, in validation, not at all, or unknown."""
    lines = [line.split() for line in output.splitlines()]
    return {words[0]: words[1] for words in lines if len(words) == 10 and words[0] != "stem"}


def dice(folder, stems):
    shares = [read_mask(folder / "masks" / f"{stem}.png").mean() for stem in stems]
    return float(np.mean([2 * share / (1 + share) for share in shares]))


ALL = {"smear_0000": "train", "smear_0001": "train", "smear_0002": "valid", "smear_0003": "no", "smear_0004": "no"}
UNSEEN = ["smear_0003", "smear_0004"]


@pytest.mark.parametrize(
    ("options", "expected", "said"),
    [
        ((), UNSEEN, "left out of 5 images: 2 that the model was trained on, 1 it was chosen by"),
        (("--split", "unseen"), UNSEEN, "left out of 5 images"),
        (("--split", "test"), UNSEEN, "tiled Dice of 2 images: mean"),
        (("--split", "valid"), ["smear_0002"], "the model learnt from all of them: their scores say nothing about"),
        (("--split", "train"), ["smear_0000", "smear_0001"], "the model learnt from all of them"),
        (("--split", "all"), list(ALL), "tiled Dice of the 2 of them that the model never saw: mean"),
    ],
)
def test_what_was_learnt_from_is_left_out_or_marked(model_path, folder, capsys, options, expected, said):
    assert exit_code("evaluate", model_path, folder, *EVERYTHING, *options) == 0
    output = capsys.readouterr().out
    assert scored(output) == {stem: ALL[stem] for stem in expected}
    assert said in output
    images_scored = f"{len(expected)} image{'s' if len(expected) > 1 else ''}"
    assert f"tiled Dice of {images_scored}: mean {dice(folder, expected):.3f}" in output
    assert ("never saw: mean" in output) == (options == ("--split", "all"))
    if options == ("--split", "all"):
        assert f"never saw: mean {dice(folder, UNSEEN):.3f}" in output


def renamed(folder):
    for part in ("images", "masks"):
        for path in (folder / part).iterdir():
            path.rename(path.with_name(f"my_{path.name}"))
    (folder / "split.csv").unlink()
    return {f"my_{stem}": seen for stem, seen in ALL.items()}


def added(folder):
    for part in ("images", "masks"):
        for number in range(3):
            shutil.copy(folder / part / "smear_0000.png", folder / part / f"copy_{number}.png")
            shutil.copy(folder / part / "smear_0004.png", folder / part / f"new_{number}.png")
    (folder / "split.csv").unlink()
    return ALL | {f"copy_{number}": "train" for number in range(3)} | {f"new_{number}": "no" for number in range(3)}


def corrected(folder):
    shutil.copy(folder / "masks" / "smear_0004.png", folder / "masks" / "smear_0001.png")
    return ALL


@pytest.mark.parametrize("change", [renamed, added, corrected])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_images_are_recognised_whatever_happened_to_the_folder(model_path, folder, capsys, change, seed):
    expected = change(folder)
    assert exit_code("evaluate", model_path, folder, *EVERYTHING, "--seed", seed) == 0
    assert scored(capsys.readouterr().out) == {stem: "no" for stem, seen in expected.items() if seen == "no"}
    assert exit_code("evaluate", model_path, folder, *EVERYTHING, "--seed", seed, "--split", "all") == 0
    assert scored(capsys.readouterr().out) == expected


def test_if_all_was_learnt_from_it_says_so_with_a_remedy(model_path, folder, capsys):
    for part in ("images", "masks"):
        for stem in UNSEEN:
            (folder / part / f"{stem}.png").unlink()
    (folder / "split.csv").unlink()
    assert exit_code("evaluate", model_path, folder, *EVERYTHING) == 1
    error = capsys.readouterr().err
    assert "the model learnt from all 3 images" in error and "score these with --split all" in error


def test_of_a_model_that_does_not_know_the_test_images_are_scored_and_it_says_so(unknown_path, folder, capsys):
    assert exit_code("evaluate", unknown_path, folder, *EVERYTHING) == 0
    output = capsys.readouterr().out
    assert "which images the model learnt from is unknown, as its file does not say: the split test is scored" in output
    assert scored(output) == dict.fromkeys(UNSEEN, "unknown")
    assert exit_code("evaluate", unknown_path, folder, *EVERYTHING, "--split", "all") == 0
    output = capsys.readouterr().out
    assert "is unknown, as its file does not say: all images are scored" in output
    assert scored(output) == dict.fromkeys(ALL, "unknown")


def test_a_preset_brings_its_seed(unknown_path, folder, tmp_path, capsys):
    (folder / "split.csv").unlink()
    pairs = images.find_pairs(folder)
    tests = {seed: [pair.stem for pair in images.split_pairs(pairs, folder, seed)["test"]] for seed in range(9)}
    seed = next(seed for seed in tests if tests[seed] != tests[1])
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"seed": seed}))
    for options, expected in (
        (("--preset", tmp_path / "own.yaml"), tests[seed]),
        (("--preset", tmp_path / "own.yaml", "--seed", 1), tests[1]),
        ((), tests[1]),
    ):
        assert exit_code("evaluate", unknown_path, folder, *options, *EVERYTHING, "--overlap", 32) == 0
        assert list(scored(capsys.readouterr().out)) == expected


def test_a_training_writes_into_its_models_what_it_learnt_from(learnt, tile_set, tmp_path):
    train_in(tmp_path, tile_set, replace(QUICK, epochs=1))
    for name in ("model.keras", "training/epoch_001.keras"):
        assert images_learnt_from(load_model(tmp_path / name)) == learnt
    assert list(learnt["train"]) == ["smear_0000", "smear_0001"] and list(learnt["valid"]) == ["smear_0002"]
