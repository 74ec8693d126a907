"""A model remembers how its run used it; what is given wins, and what a file from elsewhere remembers is checked."""

import argparse
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tifffile
import yaml

from tests.commands.test_main import exit_code
from tests.training.test_fit import QUICK, train_in
from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.commands.remembered import how, remembered_counting, remembered_prediction
from tiledseg_utils.data.masks import read_mask
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.models.inputs import remember_normalization, remember_options, remembered_options
from tiledseg_utils.models.two_scales import two_scale_model
from tiledseg_utils.prediction.dividing import METHODS
from tiledseg_utils.prediction.inference import load_model, multi_scale, predict_tiled
from tiledseg_utils.prediction.instances import label_image
from tiledseg_utils.scoring.foreground import find_foreground
from tiledseg_utils.settings.parameters import check_all
from tiledseg_utils.settings.remembered import options_of
from tiledseg_utils.training.fit import train
from tiledseg_utils.training.instances import remember_counting

TILES = {"mode": "blend", "tile_size": 64, "overlap": 16, "test_time_augmentation": True}


def small_model():
    return models.build_model("unet", {"base_filters": 4, "levels": 2, "seed": 2})


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 130, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def found(image):
    """The probability of the image in 8 views and two sizes, and settings that find some of its pixels."""
    probability = multi_scale(partial(predict_tiled, small_model(), **TILES), [0.8, 1])(image)
    confidence = float(np.quantile(probability, 0.93))
    finding = {"threshold": float(np.quantile(probability, 0.8)), "min_area": 6, "min_confidence": confidence}
    return probability, finding


@pytest.fixture(scope="module")
def folder(image, found, tmp_path_factory):
    """A folder with a model that remembers all of that, one that remembers nothing, and the image."""
    folder = tmp_path_factory.mktemp("remembered")
    model = small_model()
    model.save(folder / "before.keras")
    remember_options(model, {"predict": {**TILES, "scales": [0.8, 1], **found[1]}})
    model.save(folder / "model.keras")
    write_image(folder / "a.png", image)
    return folder


def predict(folder, out, *options, model="model.keras"):
    assert exit_code("predict", folder / model, folder / "a.png", "--out", out, *options) == 0


def test_predict_does_as_the_run_did_and_says_so(folder, found, tmp_path, capsys):
    probability, finding = found
    predict(folder, tmp_path)
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("predicted as its run did: 8 views, sizes 0.8 and 1, threshold 0.")
    assert "pieces of 6 px or more" in said and "tiles of 64 px" in said
    assert said.endswith("; --preset or options change that")
    expected = find_foreground(probability, **finding)
    assert 0 < expected.sum() < (probability >= finding["threshold"]).sum()
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), expected)


def test_options_that_are_given_win(folder, image, found, tmp_path, capsys):
    predict(folder, tmp_path, "--threshold", 0.01, "--no-test-time-augmentation", "--scales", 1, "--min-area", 0)
    said = capsys.readouterr().out
    given = "--test-time-augmentation and --scales and --threshold and --min-area, as given"
    assert f"predicted as its run did, but for {given}: 1 view, size 1, threshold 0.01, of confidence" in said
    once = predict_tiled(small_model(), image, mode="blend", tile_size=64, overlap=16)
    expected = find_foreground(once, 0.01, 0, found[1]["min_confidence"])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), expected)


def test_a_preset_wins_and_the_model_is_not_asked(folder, image, tmp_path, capsys):
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        yaml.safe_dump({"prediction": {"mode": "blend", "tile_size": 64, "overlap": 32}, "threshold": 0.02})
    )
    predict(folder, tmp_path, "--preset", preset)
    said = capsys.readouterr().out
    assert f"predicted as a run of {preset} does: 1 view, size 1, threshold 0.02, mode blend, tiles of 64 px" in said
    expected = predict_tiled(small_model(), image, mode="blend", tile_size=64, overlap=32) >= 0.02
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), expected)


def test_a_model_of_before_predicts_as_before_and_it_is_said(folder, image, tmp_path, capsys):
    predict(folder, tmp_path, model="before.keras")
    said = capsys.readouterr().out
    assert (
        "run predicted is unknown, as its file does not say: 1 view, size 1, threshold 0.5, mode exact is used" in said
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), predict_tiled(small_model(), image) >= 0.5)


def test_row_by_row_what_needs_the_whole_image_is_left_out_and_named(folder, image, found, tmp_path, capsys):
    predict(folder, tmp_path, "--format", "tif")
    assert (
        "predicted as its run did, but for --scales and --min-area and --min-confidence, which would need the whole "
        "image in memory: 8 views, size 1, threshold" in capsys.readouterr().out
    )
    expected = predict_tiled(small_model(), image, **TILES) >= found[1]["threshold"]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif") > 0, expected)
    assert exit_code("predict", folder / "model.keras", folder / "a.png", "--out", tmp_path, "--format", "npy",
                     "--min-area", 9) == 1  # fmt: skip
    assert "--min-area: needs the whole image in memory" in capsys.readouterr().err


def test_evaluate_scores_what_the_run_would_predict(folder, found, data_folder, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    shutil.copy(folder / "a.png", tmp_path / "images" / "a.png")
    write_image(tmp_path / "masks" / "a.png", np.uint8(255) * find_foreground(found[0], **found[1]))
    call = ("evaluate", folder / "model.keras", tmp_path, "--split", "all")
    assert exit_code(*call) == 0
    said = capsys.readouterr().out
    assert "predicted as its run did: 8 views" in said and "tiled Dice of 1 image: mean 1.000" in said
    assert exit_code(*call, "--min-confidence", 0) == 0
    assert "mean 1.000" not in capsys.readouterr().out


def test_what_is_said_names_all_that_changes_the_result():
    model = small_model()
    remember_normalization(model, "white_balance")
    options = {
        **TILES,
        "scales": [0.5, 1.25],
        "threshold": 0.625,
        "min_area": 200,
        "min_confidence": 0.5,
        "non_tiled": 0,
    }
    words = "8 views, sizes 0.5 and 1.25, threshold 0.625, pieces of 200 px or more, of confidence 0.5 or more, "
    assert how(model, argparse.Namespace(**options)) == f"{words}mode blend, tiles of 64 px, white balanced"
    words += "the whole image reduced to one tile of 512 px, white balanced"
    assert how(model, argparse.Namespace(**options | {"non_tiled": 512})) == words


CANNOT_BE = {
    "no options": ([], r"model\.keras: remembers no options of predict but \[\]"),
    "a number": (7, "remembers no options of predict but 7"),
    "text for a command": ({"predict": "all"}, "remembers no options of predict but 'all'"),
    "an unknown name": ({"predict": {"treshold": 0.5}}, r"an option that is not known \('treshold'\)"),
    "a path": ({"predict": {"out": "/etc"}}, r"an option that is not known \('out'\)"),
    "above the range": ({"predict": {"threshold": 7}}, "a threshold that cannot be: 7 is out of range"),
    "below the range": ({"predict": {"min_area": -1}}, "a min_area that cannot be: -1 is out of range"),
    "not a number": ({"predict": {"threshold": float("nan")}}, "a threshold that cannot be: nan is not a finite"),
    "infinite": ({"predict": {"min_confidence": float("inf")}}, "a min_confidence that cannot be: inf is not a finite"),
    "text": ({"predict": {"threshold": "0.5"}}, "a threshold that cannot be: '0.5' is text"),
    "true for a number": ({"predict": {"min_area": True}}, "a min_area that cannot be: True is a truth value"),
    "nothing": ({"predict": {"tile_size": None}}, "a tile_size that cannot be: has no value"),
    "no sizes": ({"predict": {"scales": []}}, r"a scales that cannot be: \[\] has 0 entries"),
    "many sizes": ({"predict": {"scales": [1] * 17}}, "a scales that cannot be: .* has 17 entries"),
    "a size of nothing": ({"predict": {"scales": [1, 0]}}, "a scales that cannot be: 0 is out of range"),
    "a huge tile": ({"predict": {"tile_size": 10**9}}, "a tile_size that cannot be: 1000000000 is out of range"),
    "another mode": ({"predict": {"mode": "magic"}}, "a mode that cannot be: 'magic' is not known"),
    "a number for yes": ({"predict": {"test_time_augmentation": 1}}, "a test_time_augmentation that cannot be: 1 is"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CANNOT_BE)
def test_what_cannot_be_is_refused_with_the_name_of_the_file(folder, kind):
    options, message = CANNOT_BE[kind]
    model = small_model()
    remember_options(model, options)
    with pytest.raises(UserError, match=message) as error:
        remembered_prediction(model, folder / "model.keras")
    assert error.value.path == str(folder / "model.keras")
    assert error.value.remedy == "Give --preset, and the model is not asked" and "\n" not in str(error.value)


def test_a_file_that_remembers_nonsense_is_told_and_a_preset_helps(folder, tmp_path, capsys):
    model = small_model()
    remember_options(model, {"predict": {"threshold": 7, "class_name": "Lambda"}})
    model.save(tmp_path / "odd.keras")
    call = ("predict", tmp_path / "odd.keras", folder / "a.png", "--out", tmp_path / "out")
    assert exit_code(*call) == 1
    assert "odd.keras: " in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert exit_code(*call, "--preset", "smoke") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, r"remembers a method that is not known \('magic'\)"),
        ({"method": ["flow"]}, r"remembers a method that is not known \(\['flow'\]\)"),
        ({"min_area": 0}, "remembers a min_area that cannot be: 0 is out of range"),
        ({"threshold": -1}, "remembers a threshold that cannot be: -1 is out of range"),
        ({"test_time_augmentation": 1}, "remembers a test_time_augmentation that cannot be: 1 is"),
        ({"overwrite": True}, r"remembers an option that is not known \('overwrite'\)"),
        (3, "remembers no options of instances but 3"),
    ],
)
def test_a_rule_for_counting_that_cannot_be_is_refused(folder, options, message):
    model = small_model()
    remember_options(model, {"instances": options})
    with pytest.raises(UserError, match=message) as error:
        remembered_counting(model, folder / "model.keras", METHODS)
    assert "--flow-threshold and --[no-]test-time-augmentation, and the model is not asked" in error.value.remedy


def test_instances_are_counted_as_the_run_did(folder, image, found, tmp_path, capsys):
    path, threshold = tmp_path / "instances.keras", found[1]["threshold"]
    shutil.copy(folder / "before.keras", path)
    remember_counting(path, "components", threshold, 40)
    again, before = load_model(path), load_model(folder / "before.keras")
    for kept, was in zip(again.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, was)
    maps = predict_tiled(before, image, mode="auto")
    call = ("instances", folder / "a.png", "--model", path, "--out")
    assert exit_code(*call, tmp_path / "as run") == 0
    assert f"counted as its run did: method components, threshold {threshold}, min area 40" in capsys.readouterr().out
    assert exit_code(*call, tmp_path / "but", "--min-area", 1) == 0
    assert "counted as its run did, but for --min-area, as given: method components" in capsys.readouterr().out
    for name, least in (("as run", 40), ("but", 1)):
        expected = label_image(maps, "components", threshold, least)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name / "a.tif"), expected)


def test_instances_are_counted_in_the_views_of_the_run(folder, image, found, tmp_path, capsys):
    path, threshold = tmp_path / "instances.keras", found[1]["threshold"]
    shutil.copy(folder / "before.keras", path)
    remember_counting(path, "components", threshold, 1, test_time_augmentation=True)
    call = ("instances", folder / "a.png", "--model", path, "--out")
    for option, views in (((), 8), (("--no-test-time-augmentation",), 1), (("--test-time-augmentation",), 8)):
        assert exit_code(*call, tmp_path / "labels", *option, "--overwrite") == 0
        assert f", {views} view" in capsys.readouterr().out
        maps = predict_tiled(load_model(path), image, mode="auto", test_time_augmentation=views == 8)
        expected = label_image(maps, "components", threshold, 1)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels" / "a.tif"), expected)


def test_instances_sees_both_scales_of_a_model_or_only_one(folder, image, found, tmp_path, capsys):
    path, threshold = tmp_path / "instances.keras", found[1]["threshold"]
    two_scale_model(load_model(folder / "before.keras")).save(path)
    remember_counting(path, "components", threshold, 1)
    call = ("instances", folder / "a.png", "--model", path, "--out", tmp_path / "labels", "--overwrite")
    networks = {"both": load_model(path), "one": load_model(folder / "before.keras")}
    for name, option, words in (
        ("both", (), "counted as its run did: method components"),
        ("one", ("--one-scale",), "counted as its run did, but for --one-scale, as given: method components"),
    ):
        assert exit_code(*call, *option) == 0
        said = capsys.readouterr().out
        assert words in said and (", 1 view, each at two scales;" in said) == (name == "both")
        expected = label_image(predict_tiled(networks[name], image, mode="auto"), "components", threshold, 1)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels" / "a.tif"), expected)


def test_one_scale_without_a_model_is_refused(folder, tmp_path, capsys):
    np.save(tmp_path / "map.npy", np.zeros((8, 8), np.float32))
    assert exit_code("instances", tmp_path / "map.npy", "--one-scale", "--out", tmp_path / "labels") == 1
    assert "--one-scale: says how a model sees images, and --model is not given" in capsys.readouterr().err


def test_a_training_writes_it_into_the_final_model_alone(tile_set, tmp_path):
    settings = {"prediction": {"mode": "auto", "tile_size": 64}, "threshold": 0.6, "scales": [0.5, 1]}
    options = options_of(check_all(settings))
    assert options["predict"] | {"mode": "auto", "scales": [0.5, 1], "threshold": 0.6} == options["predict"]
    once = replace(QUICK, epochs=1)
    train_in(tmp_path, tile_set, once)
    plain = load_model(tmp_path / "model.keras")
    assert remembered_options(plain) is None and "options" not in plain.to_json()
    network = {"base_filters": 4, "levels": 2, "dropout": 0.2, "normalization": "batch"}
    checkpoint = (tmp_path / "training" / "epoch_001.keras").read_bytes()
    train(tmp_path, "unet", network, {"hflip": 0.5}, once, seed=1, options=options)  # Nothing is trained again.
    model = load_model(tmp_path / "model.keras")
    assert remembered_prediction(model, tmp_path / "model.keras") == options["predict"]
    assert (tmp_path / "training" / "epoch_001.keras").read_bytes() == checkpoint
    for weights, was in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, was)
