"""Networks with classes: their heads, losses, views and files; from a data folder of classes to masks of them."""

import dataclasses

import numpy as np
import pytest
import tifffile

from tests.commands.test_main import exit_code
from tests.prediction.test_channels import SMALL
from tiledseg_utils.base.files import UserError, read_csv
from tiledseg_utils.course.baselines import go_on_learning, reduced_tiles
from tiledseg_utils.data.classes import Classes
from tiledseg_utils.data.images import class_numbers_of, find_pairs, mask_of, split_pairs
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.models import build_model, losses
from tiledseg_utils.models.backend import keras
from tiledseg_utils.models.foreground import foreground_of
from tiledseg_utils.models.inputs import classes_of
from tiledseg_utils.models.interface import Interface
from tiledseg_utils.models.onnx_file import TOLERANCE, save_onnx
from tiledseg_utils.models.reduced import network_within, reduced_model
from tiledseg_utils.prediction.bioimageio import describe
from tiledseg_utils.prediction.inference import load_model, predict_file, predict_reduced, predict_tiled, predict_whole
from tiledseg_utils.scoring.classes import find_classes
from tiledseg_utils.settings.parameters import TileSetting, TrainingSetting
from tiledseg_utils.tiles.sampling import repeat_factors
from tiledseg_utils.tiles.tiling import read_manifest, read_tiles, reduce_image, shrink, write_tile_set
from tiledseg_utils.training.batches import class_target, read_training_tiles
from tiledseg_utils.training.fit import train

MEMBERS = ("README.md", "model.onnx", "test_input.npy", "test_output.npy", "sample_input.png", "sample_output.png")
CLASSES = Classes((0, 10, 20), ("ground", "bright", "dark"), ((0, 0, 0), (255, 255, 0), (0, 0, 255)))


def network(name="unet", **settings):
    return build_model(name, SMALL[name] | settings, interface=Interface(classes=CLASSES))


def image_of(height=150, width=140, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_exact_tiles_of_classes_equal_the_whole_image(name):
    model, image = network(name), image_of()
    whole, tiled = predict_whole(model, image), predict_tiled(model, image, tile_size=64)
    assert whole.shape == (150, 140, 3) and np.ptp(whole) > 0 and np.abs(tiled - whole).max() < 1e-5
    assert np.allclose(whole.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_new_network_begins_with_the_prior_of_each_class(patch_size):
    model = network(patch_size=patch_size, prior=0.1)
    for weight in model.get_layer("scores").weights[:1]:
        weight.assign(np.zeros(weight.shape))
    assert np.allclose(predict_whole(model, image_of()), [0.9, 0.05, 0.05], atol=1e-5)


def test_who_asks_for_no_classes_gets_the_foreground(tmp_path):
    network(seed=3).save(tmp_path / "model.keras")
    model, view = load_model(tmp_path / "model.keras", classes=True), load_model(tmp_path / "model.keras")
    assert classes_of(model) == classes_of(view) == CLASSES and foreground_of(model) is foreground_of(model)
    image = image_of()
    maps, foreground = predict_tiled(model, image), predict_tiled(view, image)
    assert foreground.shape == image.shape[:2] and np.allclose(maps[..., 1:].sum(-1), foreground, atol=1e-6)
    view.save(tmp_path / "view.keras")
    assert np.array_equal(predict_tiled(load_model(tmp_path / "view.keras", classes=True), image), foreground)


def test_the_view_of_a_reduced_model_is_the_view_of_its_network():
    inner = network()
    view = foreground_of(reduced_model(inner, 2))
    assert network_within(view).output_shape[-1] == 1
    assert predict_reduced(view, image_of(), 64).shape == (150, 140)
    assert predict_reduced(reduced_model(inner, 2), image_of(), 64).shape == (150, 140, 3)


def test_views_of_many_classes_are_turned_back_as_maps_not_as_vectors():
    names = tuple("abcdefgh")
    eight = Classes(tuple(range(8)), names, tuple((number, 0, 0) for number in range(8)))
    model, image = build_model("unet", SMALL["unet"], interface=Interface(classes=eight)), image_of(64, 64)
    maps = predict_whole(model, image, test_time_augmentation=True)
    assert np.allclose(maps.sum(axis=-1), 1, atol=1e-5)
    turned = predict_whole(model, np.rot90(image).copy(), test_time_augmentation=True)
    assert np.allclose(np.rot90(maps), turned, atol=1e-5)


def test_a_file_gets_the_values_of_classes_or_the_probability_of_foreground(tmp_path):
    model, image = network(seed=5), image_of()
    maps = predict_tiled(model, image, tile_size=64)
    threshold = float(np.median(maps[..., 1:].sum(-1)))
    predict_file(model, image, tmp_path / "mask.tif", threshold=threshold, tile_size=64)
    expected = find_classes(maps, threshold)
    assert np.array_equal(tifffile.imread(tmp_path / "mask.tif"), CLASSES.stored(expected)) and expected.any()
    predict_file(model, image, tmp_path / "map.npy", tile_size=64)
    assert np.allclose(np.load(tmp_path / "map.npy"), maps[..., 1:].sum(-1), atol=1e-6)


def test_onnx_keeps_the_classes(tmp_path):
    assert save_onnx(network(patch_size=2), tmp_path / "model.onnx") < TOLERANCE


def test_losses_of_classes_are_means_over_all_but_the_background():
    numbers = np.random.default_rng(0).integers(0, 3, (2, 16, 16))
    truth = class_target(numbers, 3)
    maps = np.random.default_rng(1).random(truth.shape, np.float32)
    maps /= maps.sum(-1, keepdims=True)
    of_each = [float(losses.dice_coefficient(truth[..., k : k + 1], maps[..., k : k + 1])) for k in (1, 2)]
    assert float(losses.dice_coefficient(truth, maps)) == pytest.approx(np.mean(of_each), abs=1e-6)
    entropy = -np.log(np.take_along_axis(maps, numbers[..., None], -1)).mean()
    assert float(losses.cross_entropy(truth, maps)) == pytest.approx(entropy, abs=1e-5)
    found = maps.argmax(-1)
    recalls = [(found[numbers == k] == k).mean() for k in (1, 2)]
    assert float(losses.sensitivity(truth, maps)) == pytest.approx(np.mean(recalls), abs=1e-5)
    spared = [(found[numbers != k] != k).mean() for k in (1, 2)]
    assert float(losses.specificity(truth, maps)) == pytest.approx(np.mean(spared), abs=1e-5)
    similar = [float(losses.structural_similarity(truth[..., k : k + 1], maps[..., k : k + 1])) for k in (1, 2)]
    assert float(losses.structural_similarity(truth, maps)) == pytest.approx(np.mean(similar), abs=1e-5)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_every_loss_is_least_where_the_classes_are_right(name):
    numbers = np.random.default_rng(0).integers(0, 3, (1, 16, 16))
    truth = class_target(numbers, 3)
    right = 0.98 * truth + 0.02 / 3
    wrong = 0.98 * class_target((numbers + 1) % 3, 3) + 0.02 / 3
    values = [float(keras.ops.mean(losses.LOSSES[name](truth, maps))) for maps in (right, wrong)]
    assert values[0] < values[1]


def test_reduced_masks_of_classes_are_what_most_pixels_are():
    numbers = np.array([[1, 1, 2, 2], [1, 0, 2, 0]], np.uint8).repeat(2, 0)
    assert shrink(numbers, 2).tolist() == [[1, 2], [0, 0]]  # Of two that are as frequent, the first.
    reduced = reduce_image(np.array([[3, 3, 3, 0]] * 4, np.uint8), 2)
    assert reduced.dtype == np.uint8 and set(np.unique(reduced)) <= {0, 3}


def test_rare_classes_are_drawn_more_often():
    assert repeat_factors([{0, 1}, {0}, {0}, {0}]).tolist() == [2, 1, 1, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five images with bright and dark squares on grey, and their classes."""
    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for number in range(5):
        numbers = np.zeros((96, 96), np.uint8)
        for kind, row in ((1, 0), (2, 48)):
            top, left = row + random.integers(4, 20), random.integers(4, 70)
            numbers[top : top + 20, left : left + 20] = kind
        image = np.array([128, 200, 60])[numbers][..., None] + random.normal(0, 8, (96, 96, 3))
        write_image(folder / "images" / f"{number}.png", image.clip(0, 255).astype(np.uint8))
        write_image(folder / "masks" / f"{number}.png", CLASSES.stored(numbers))
    lines = [",".join(map(str, row.values())) for row in CLASSES.rows()]
    (folder / "classes.csv").write_text("value,name,color\n" + "\n".join(lines) + "\n")
    (folder / "split.csv").write_text("stem,split\n0,train\n1,train\n2,train\n3,valid\n4,test\n")
    return folder


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run that has learnt to tell bright from dark squares."""
    run = tmp_path_factory.mktemp("run")
    splits = split_pairs(find_pairs(folder), folder, seed=1)
    write_tile_set(splits, run / "tiles", TileSetting(tile_size=32, reduced=False))
    setting = TrainingSetting(
        epochs=8, steps_per_epoch=20, validation_steps=2, batch_size=4, learning_rate=0.01, patience=0
    )
    settings = {"base_filters": 8, "levels": 2, "normalization": "batch"}
    train(run, "unet", settings, {"hflip": 0.5, "noise": 0.3}, setting, seed=1)
    return run


def test_tiles_keep_classes_and_weigh_by_the_rarest(folder, run):
    rows = [row for row in read_manifest(run / "tiles") if row["split"] == "train"]
    _, numbers = read_tiles(run / "tiles", rows, classes=True)
    _, masks = read_tiles(run / "tiles", rows)
    assert set(np.unique(numbers)) == {0, 1, 2} and ((numbers > 0) == masks).all() and masks.dtype == bool
    whole = class_numbers_of(find_pairs(folder)[0])
    placed = [row for row in rows if row["source"] == "0" and (row["row"], row["column"]) == (32, 32)]
    assert (numbers[rows.index(placed[0])] == whole[32:64, 32:64]).all()
    weights = {"empty": [], "shown": []}
    for row, mask in zip(rows, masks, strict=True):
        weights["shown" if mask.any() else "empty"].append(row["weight"])
    assert min(weights["shown"]) > 1 >= max(weights["empty"])


def test_a_class_that_no_training_tile_shows_is_refused(folder, tmp_path):
    pairs = find_pairs(folder)
    more = Classes((*CLASSES.values, 30), (*CLASSES.names, "other"), (*CLASSES.colors, (9, 9, 9)))
    pairs = [dataclasses.replace(pair, classes=more) for pair in pairs]
    write_tile_set({"train": pairs[:3], "valid": pairs[3:]}, tmp_path, TileSetting(tile_size=32))
    with pytest.raises(UserError, match="names the class other, which no training tile shows"):
        read_training_tiles(tmp_path)


def test_images_with_and_without_classes_are_refused_together(folder, tmp_path):
    pairs = find_pairs(folder)
    pairs[1] = dataclasses.replace(pairs[1], classes=None)
    with pytest.raises(UserError, match="0 and 1 differ in their classes"):
        write_tile_set({"train": pairs[:2]}, tmp_path, TileSetting(tile_size=32))


def test_a_trained_network_tells_classes_apart(folder, run):
    pair = find_pairs(folder)[4]
    found = find_classes(predict_tiled(load_model(run / "model.keras", classes=True), pair.image, tile_size=32), 0.5)
    numbers = class_numbers_of(pair)
    for number in (1, 2):
        both = np.count_nonzero((found == number) & (numbers == number))
        assert 2 * both / (np.count_nonzero(found == number) + np.count_nonzero(numbers == number)) > 0.8
    view = predict_tiled(load_model(run / "model.keras"), pair.image, tile_size=32) >= 0.5
    assert (view != mask_of(pair)).mean() < 0.02


def test_predict_writes_values_and_colours_of_classes(folder, run, tmp_path, capsys):
    image, out = folder / "images" / "4.png", tmp_path / "masks"
    for arguments in (("--overlay",), ("--format", "tif")):
        assert exit_code("predict", run / "model.keras", image, "--out", out, "--tile-size", 32, *arguments) == 0
    assert "classes bright, dark" in capsys.readouterr().out
    stored = tifffile.imread(out / "4.tif")
    assert set(np.unique(stored)) == {0, 10, 20}
    (tmp_path / "classes.csv").write_text((folder / "classes.csv").read_text())
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "4.png", image_of(96, 96))
    (out / "4.tif").unlink()
    overlay = out / "4_overlay.png"
    assert overlay.exists()
    overlay.unlink()
    assert (CLASSES.stored(class_numbers_of(find_pairs(tmp_path)[0])) == stored).all()


def test_evaluate_scores_each_class(folder, run, tmp_path, capsys):
    assert exit_code("evaluate", run / "model.keras", folder, "--tile-size", 32, "--split", "test") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = {words[0]: float(words[3]) for words in lines if len(words) >= 7 and words[0] in ("bright", "dark")}
    assert min(scores.values()) > 0.8 and len(scores) == 2
    shares = next(words for words in lines if len(words) == 4 and words[0] == "dark")
    assert float(shares[3]) > 80 and sum(map(float, shares[1:])) == pytest.approx(100, abs=0.2)


def test_evaluate_refuses_other_classes(folder, run, tmp_path, capsys):
    (tmp_path / "classes.csv").write_text("value,name,color\n0,ground,#000000\n10,leaf,#ffff00\n20,dark,#0000ff\n")
    for name in ("images", "masks"):
        (tmp_path / name).symlink_to(folder / name)
    assert exit_code("evaluate", run / "model.keras", tmp_path, "--split", "all") == 1
    error = capsys.readouterr().err
    assert "lists the classes ground, leaf, dark, and the model tells apart ground, bright, dark" in error


def test_score_compares_folders_of_classes(folder, run, tmp_path, capsys):
    arguments = ("--split", "test", "--out", tmp_path / "scores.csv")
    assert exit_code("score", folder / "masks", folder, "--split", "test") == 0
    assert "bright" in capsys.readouterr().out
    (tmp_path / "masks").mkdir()
    numbers = class_numbers_of(find_pairs(folder)[4])
    numbers = np.where(numbers == 1, 2, numbers)
    write_image(tmp_path / "masks" / "4.png", CLASSES.stored(numbers))
    assert exit_code("score", tmp_path / "masks", folder, *arguments) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bright", "0.0", "0.0", "100.0"] in lines
    rows = read_csv(tmp_path / "scores_summary.csv")
    dark = next(row for row in rows if row["class"] == "dark")
    assert float(dark["pooled_dice"]) == pytest.approx(2 * 400 / (400 + 800))


def test_a_package_of_the_zoo_names_the_classes(tmp_path):
    described = describe(network(), "a network", "me", "MIT", dict.fromkeys(MEMBERS, b""))
    (output,) = described["outputs"]
    assert output["axes"][-1]["channel_names"] == list(CLASSES.names) and "bright" in output["description"]


def test_rivals_in_a_run_with_classes_learn_its_foreground(folder, run):
    train_pairs = split_pairs(find_pairs(folder), folder, seed=1)["train"]
    tiles = reduced_tiles(train_pairs, 64, run)
    assert read_training_tiles(tiles).masks.dtype == bool
    student = load_model(run / "model.keras")
    setting = TrainingSetting(epochs=1, steps_per_epoch=2, batch_size=2, learning_rate=0.001)
    before = predict_whole(student, image_of(64, 64))
    taught = go_on_learning(student, tiles, setting, {}, seed=1)
    assert taught.output_shape[-1] == 1 and np.abs(predict_whole(taught, image_of(64, 64)) - before).max() > 0
