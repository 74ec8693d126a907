"""What was learnt from is known: data that change under a run are told, and a model knows what it has seen."""

import json
import shutil

import cv2
import numpy as np
import pytest

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError, read_csv, read_json, write_csv
from tiledseg_utils.data import images, provenance
from tiledseg_utils.data.pictures import read_image, write_image
from tiledseg_utils.models.backend import keras
from tiledseg_utils.models.inputs import images_learnt_from, remember_images
from tiledseg_utils.prediction.inference import load_model
from tiledseg_utils.tiles import tiling

SETTING = tiling.TileSetting(tile_size=64)


def notebook_1(run, data, meanwhile=lambda data: None):
    """What notebook 1 does with its data."""
    hashes = provenance.begin_run(run, data)
    splits = images.split_pairs(images.find_pairs(data), data, seed=3)
    tiling.write_tile_set(splits, run / "tiles", SETTING)
    meanwhile(data)
    return provenance.finish_run(run, data, splits, hashes, seed=1)


@pytest.fixture(scope="module")
def finished(data_folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(data_folder, run / "data")
    notebook_1(run, run / "data")
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A run folder, data included, behind notebook 1; it may be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def other_mask(data):
    mask = data / "masks" / "smear_0004.png"
    write_image(mask, np.flipud(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)))


def one_byte(data):
    path = data / "images" / "smear_0003.png"
    path.write_bytes(path.read_bytes() + b"\0")


def exchanged_split(data):
    rows = read_csv(data / "split.csv")
    rows[0]["split"], rows[-1]["split"] = rows[-1]["split"], rows[0]["split"]
    write_csv(data / "split.csv", rows)


def one_more(data):
    for part in ("images", "masks"):
        shutil.copy(data / part / "smear_0000.png", data / part / "more.png")


def one_less(data):
    for part in ("images", "masks"):
        (data / part / "smear_0001.png").unlink()


def all_masks(data):
    for path in (data / "masks").iterdir():
        path.write_bytes(b"other")


CHANGES = [
    (other_mask, "masks/smear_0004.png differs"),
    (one_byte, "images/smear_0003.png differs"),
    (exchanged_split, "split.csv differs"),
    (lambda data: (data / "split.csv").unlink(), "split.csv is gone"),
    (one_more, "images/more.png is new, masks/more.png is new"),
    (one_less, "images/smear_0001.png is gone, masks/smear_0001.png is gone"),
    (lambda data: (data / "images" / "smear_0002.png").unlink(), "images/smear_0002.png is gone"),
    (lambda data: (data / "masks").rename(data / "labels"), "masks/smear_0004.png is gone, and 5 more"),
    (all_masks, "masks/smear_0003.png differs, masks/smear_0004.png differs"),
    (shutil.rmtree, "the data of this run are gone"),
]
NAMES = ["mask", "image", "exchanged", "no split", "more", "less", "no partner", "labels", "all masks", "no folder"]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=NAMES)
def test_data_that_change_behind_notebook_1_are_told_by_the_notebooks_behind_it(run, change, message):
    change(run / "data")
    with pytest.raises(UserError) as told:
        provenance.run_splits(run)
    assert message in told.value.problem
    assert "start again from notebook 1 (report: with --overwrite, or another --run)" in told.value.remedy


@pytest.mark.parametrize(("change", "message"), CHANGES[:-1], ids=NAMES[:-1])
def test_data_that_change_while_notebook_1_runs_are_told_by_itself(run, change, message):
    with pytest.raises(UserError) as told:
        notebook_1(run, run / "data", meanwhile=change)
    assert message in told.value.problem
    assert not (run / provenance.RECORD).exists()


@pytest.mark.parametrize(("change", "message"), CHANGES[:-1], ids=NAMES[:-1])
def test_data_that_change_before_notebook_1_runs_are_told_by_itself(run, change, message):
    request = {"data": {"files": provenance.hash_files(run / "data")}}
    (run / "request.json").write_text(json.dumps(request))
    change(run / "data")
    with pytest.raises(UserError) as told:
        provenance.begin_run(run, run / "data")
    assert message in told.value.problem


def test_what_does_not_concern_the_run_may_change(run, data_folder):
    (run / "data" / "images" / "notes.txt").write_text("a")
    (run / "data" / "images" / ".hidden.png").write_text("a")
    (run / "data" / "readme.md").write_text("a")
    expected = images.split_pairs(images.find_pairs(data_folder), data_folder, seed=9)
    found = provenance.run_splits(run)
    assert {name: [pair.stem for pair in pairs] for name, pairs in found.items()} == {
        name: [pair.stem for pair in pairs] for name, pairs in expected.items()
    }
    assert read_json(run / provenance.RECORD)["sha256"] == images.hash_folder(run / "data")


def test_data_in_the_run_folder_move_with_it(run, tmp_path):
    run.rename(tmp_path / "moved")
    (pair,) = provenance.run_splits(tmp_path / "moved")["valid"]
    assert pair.image == tmp_path / "moved" / "data" / "images" / "smear_0002.png"


RECORD = "results/01_data.json"
MANIFEST = "tiles/manifest.csv"
DAMAGE = [
    (RECORD, lambda text: text[:200], r"01_data\.json: is damaged \(.*Run notebook 01_data_and_tiling again"),
    (RECORD, lambda text: "", r"01_data\.json: is an empty file"),
    (RECORD, lambda text: "[]", r"01_data\.json: is damaged \(it holds a list"),
    (RECORD, lambda text: "null", r"01_data\.json: is damaged \(it holds a NoneType"),
    (RECORD, lambda text: "-1", r"01_data\.json: is damaged \(it holds a int"),
    (RECORD, lambda text: '{"seed": 1, "path": "data"}', r"is damaged, or of an earlier version \(sha256 is missing\)"),
    (RECORD, lambda text: text.replace('"files"', '"file"'), r"earlier version \(files is missing\)"),
    (RECORD, lambda text: text.replace('"path": "data"', '"path": -3'), r"is damaged \(path is '-3'\)"),
    (RECORD, lambda text: text.replace('"smear_0002"', '"smear_9"'), r"is damaged \(smear_9 is not among its files"),
    (RECORD, lambda text: text.replace('"valid"', '"walid"'), r"is damaged \(it has no split valid"),
    (MANIFEST, lambda text: text[: len(text) // 2], r"manifest\.csv: is not the list of tiles that notebook 1 wrote"),
    (MANIFEST, None, r"manifest\.csv: is not the list of tiles that notebook 1 wrote"),
    (RECORD, None, r"01_data\.json: notebook 01_data_and_tiling has not run to its end"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGE)
def test_a_damaged_record_is_told(run, name, change, message):
    if change:
        (run / name).write_text(change((run / name).read_text()))
    else:
        (run / name).unlink()
    with pytest.raises(UserError, match=message):
        provenance.run_splits(run)


MANIFESTS = [
    (lambda rows: rows[:1], "it has no rows"),
    (lambda rows: [], "it has no rows"),
    (lambda rows: [*rows[:-1], rows[-1][:30]], "TypeError"),
    (lambda rows: [rows[0].replace("weight", "wait"), *rows[1:]], "KeyError: 'weight'"),
    (lambda rows: [*rows, rows[-1].replace(",test,", ",rest,")], "'split': 'rest'"),
    (lambda rows: [*rows, rows[-1].replace(",1.0,0", ",-1.0,0")], "'weight': -1.0"),
    (lambda rows: [*rows, rows[-1].replace(",1.0,0", ",nan,0")], "'weight': nan"),
    (lambda rows: [*rows, rows[-1].replace(",1.0,0", ",one,0")], "could not convert string to float: 'one'"),
    (lambda rows: ["\x00\x01garbage"], "KeyError|line contains NUL|it has no rows"),
]


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_a_damaged_list_of_tiles_is_told(run, change, message):
    path = run / MANIFEST
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(
        UserError, match=rf"manifest\.csv: the list of tiles is damaged \(.*({message}).*Run notebook 01"
    ):
        tiling.read_manifest(run / "tiles")


def test_a_list_of_tiles_that_is_no_text_is_told(run):
    (run / MANIFEST).write_bytes(b"\xff\xfe\x00tile")
    with pytest.raises(UserError, match="the list of tiles is damaged"):
        tiling.read_manifest(run / "tiles")


def test_a_half_written_tile_set_has_no_list(run, monkeypatch):
    monkeypatch.setattr(tiling, "write_image", lambda *arguments, **more: 1 / 0)
    splits = provenance.run_splits(run)
    with pytest.raises(ZeroDivisionError):
        tiling.write_tile_set(splits, run / "tiles", SETTING)
    assert not (run / MANIFEST).exists()


def copied(pair, folder):
    path = folder / "x.png"
    shutil.copy(pair.image, path)
    return images.Pair("renamed", path, pair.mask)


def converted(pair, folder):
    write_image(folder / "x.tif", read_image(pair.image))
    return images.Pair("converted", folder / "x.tif", pair.mask)


def other_mask_same_image(pair, folder):
    write_image(folder / "x.png", np.zeros((280, 280), bool))
    return images.Pair(pair.stem, pair.image, folder / "x.png")


def same_name_other_image(pair, folder):
    write_image(folder / "x.png", read_image(pair.image)[::-1])
    return images.Pair(pair.stem, folder / "x.png", pair.mask)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pair, folder: pair, True),
        (copied, True),
        (converted, True),
        (other_mask_same_image, True),
        (same_name_other_image, False),
    ],
    ids=["itself", "renamed copy", "PNG as TIFF", "another mask", "another image of its name"],
)
def test_a_model_recognises_what_it_learnt_from(finished, tmp_path, change, expected):
    learnt = provenance.learnt_from(finished / "tiles")
    for split, pairs in provenance.run_splits(finished).items():
        pair = change(pairs[0], tmp_path)
        seen = split if expected and split != "test" else "no"
        assert provenance.seen_by(learnt, [pair]) == {pair.stem: seen}


def test_what_two_models_have_learnt_from():
    first = {"train": {"a": ["1", "2"]}, "valid": {"b": ["3"]}}
    second = {"train": {"a": ["4"], "c": ["5"]}, "valid": {}}
    joint = provenance.both(first, second)
    assert joint == {"train": {"a": ["1", "2", "4"], "c": ["5"]}, "valid": {"b": ["3"]}}
    assert provenance.both(first, None) is None and provenance.both(None, second) is None


def test_images_that_learnt_along_count_as_trained_on(run):
    splits = provenance.run_splits(run)
    tiling.write_tile_set({**splits, "test": [], tiling.ADDED: splits["test"]}, run / "tiles", SETTING)
    seen = provenance.seen_by(provenance.learnt_from(run / "tiles"), splits["test"])
    assert set(seen.values()) == {"train"}


def test_of_a_tile_set_of_an_earlier_version_nothing_is_known(run):
    (run / "tiles" / provenance.SOURCES).unlink()
    assert provenance.learnt_from(run / "tiles") is None
    assert provenance.seen_by(None, provenance.run_splits(run)["valid"]) == {"smear_0002": "unknown"}


@pytest.mark.parametrize("name", ["unet", "deeplab_v3_plus"])
def test_what_a_model_learnt_from_survives_whatever_saves_and_copies_it(tmp_path, name):
    learnt = {"train": {"ü {0}": ["a" * 64, "b" * 64]}, "valid": {}}
    model = models.build_model(name, {"unet": {"base_filters": 4, "levels": 2}}.get(name))
    weights = model.get_weights()
    model.save(tmp_path / "before.keras")
    assert images_learnt_from(load_model(tmp_path / "before.keras")) is None
    remember_images(model, learnt)
    model.save(tmp_path / "first.keras")
    load_model(tmp_path / "first.keras").save(tmp_path / "second.keras")
    keras.models.load_model(tmp_path / "second.keras").save(tmp_path / "third.keras")
    third = load_model(tmp_path / "third.keras")
    assert images_learnt_from(third) == images_learnt_from(keras.models.clone_model(model)) == learnt
    assert all(map(np.array_equal, weights, third.get_weights()))


@pytest.mark.parametrize("known", [[], 5, "train", {"train": []}, {"valid": {}}])
def test_a_model_that_says_nonsense_counts_as_one_that_does_not_know(known):
    model = models.build_model("unet", {"base_filters": 4, "levels": 2})
    remember_images(model, known)
    assert images_learnt_from(model) is None
