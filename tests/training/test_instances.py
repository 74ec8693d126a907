"""Targets, loss and network of instance segmentation."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError, read_csv, read_json
from tiledseg_utils.data import provenance, synthetic
from tiledseg_utils.data.images import find_pairs, split_pairs
from tiledseg_utils.data.masks import read_labels
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.models import instance_targets as targets
from tiledseg_utils.models.inputs import images_learnt_from, normalization_of
from tiledseg_utils.models.instance_targets import (
    boundary_targets,
    flow_targets,
    heat_flow_targets,
    instance_targets,
    ray_targets,
)
from tiledseg_utils.models.instance_unet import CHANNELS, RAYS
from tiledseg_utils.models.model_files import load_checkpoint, load_model
from tiledseg_utils.models.receptive_field import required_halo
from tiledseg_utils.models.two_scales import sees_two_scales
from tiledseg_utils.prediction.dividing import follow_flow
from tiledseg_utils.prediction.inference import predict_tiled, predict_whole
from tiledseg_utils.training.fit import TrainingSetting
from tiledseg_utils.training.instances import (
    EMPTY,
    instance_loss,
    label_tiles,
    smallest_area,
    tile_weights,
    train_instances,
)

ROOT = str(Path(__file__).parents[2])

LABELS = np.zeros((24, 30), np.int32)
LABELS[4:16, 3:13] = 7
LABELS[4:16, 13:24] = 2


def test_classes_divide_the_image_and_the_boundary_runs_between_nuclei():
    classes = boundary_targets(LABELS)
    np.testing.assert_array_equal(classes.sum(axis=-1), 1)
    assert classes[10, 8, 1] and classes[10, 18, 1]
    assert classes[10, 11:15, 2].all() and not classes[10, 10, 2] and not classes[10, 15, 2]
    np.testing.assert_array_equal(classes[..., 0], LABELS == 0)


def test_the_border_of_the_image_is_no_boundary():
    assert boundary_targets(np.ones((20, 20), np.int32))[..., 1].all()


def test_flow_points_to_the_centre_of_its_own_nucleus():
    flow = flow_targets(LABELS)
    assert not flow[LABELS == 0].any()
    for column, direction in ((4, 1), (12, -1), (13, 1), (23, -1)):  # at 12 to the one, at 13 to the other
        assert flow[10, column] @ (0, direction) > 0.9
    length = np.hypot(*np.moveaxis(flow, -1, 0))
    np.testing.assert_allclose(length[LABELS > 0].round(5) % 1, 0)
    assert np.count_nonzero(length[LABELS > 0] == 0) == 2


def test_the_centre_of_a_crescent_lies_in_it():
    crescent = np.zeros((21, 21), np.int32)
    crescent[2:19, 2:19] = 1
    crescent[5:19, 5:16] = 0
    centre = np.argwhere((crescent > 0) & ~flow_targets(crescent).any(axis=-1))
    assert len(centre) == 1 and crescent[tuple(centre[0])]


@pytest.mark.parametrize("flow", ["centre", "heat"])
def test_several_images_at_once_are_as_each_alone(flow, rng):
    """Also where a nucleus at the lower border of one has the number of one at the upper border of the next."""
    images = np.kron(rng.integers(0, 4, (3, 5, 6)), np.ones((1, 9, 7))).astype(np.int32)
    together = instance_targets(images, flow=flow, rays=True, contact_weight=8)
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(found, instance_targets(image, flow=flow, rays=True, contact_weight=8))


def test_heat_leads_around_the_dent_of_a_crescent_where_straight_vectors_leave_it():
    crescent = np.zeros((41, 41), np.int32)
    crescent[4:37, 4:37] = 1
    crescent[10:37, 12:29] = 0

    def arrived(flow):
        """How many walkers from all pixels end within two pixels of the centre, as a share."""
        centre = np.argwhere((crescent > 0) & ~flow_targets(crescent).any(axis=-1))[0]
        ends = follow_flow(flow, 200)[crescent > 0]
        return np.mean(np.hypot(*(ends - centre).T) < 3)

    assert arrived(flow_targets(crescent)) < 0.8
    assert arrived(heat_flow_targets(crescent)) > 0.95
    np.testing.assert_allclose(np.hypot(*heat_flow_targets(LABELS)[10, 4]), 1, atol=1e-5)
    assert not heat_flow_targets(LABELS)[LABELS == 0].any()


def test_rays_reach_as_far_as_their_nucleus():
    y, x = np.mgrid[:80, :100]
    disc = np.int32(np.hypot(y - 30, x - 40) <= 12)
    rays = ray_targets(disc)
    np.testing.assert_allclose(rays[30, 40], 12, atol=1.5)
    np.testing.assert_allclose(rays[30, 46][[0, RAYS // 2]], [6, 18], atol=1.5)  # towards growing columns, and back
    np.testing.assert_allclose(rays[36, 40][[RAYS // 4, 3 * RAYS // 4]], [6, 18], atol=1.5)  # growing rows
    assert not rays[disc == 0].any()
    touching = ray_targets(LABELS)
    assert touching[10, 10, 0] == 3 - 0.5 and touching[10, 15, RAYS // 2] == 3 - 0.5  # not into the neighbour


def test_rays_count_in_the_loss_by_their_ratio_and_only_inside():
    truth = instance_targets(LABELS, rays=True)[None]
    best, twice, elsewhere = float(instance_loss(truth, truth)), truth.copy(), truth.copy()
    twice[..., CHANNELS:] *= 2
    elsewhere[..., CHANNELS:][LABELS[None] == 0] = 50
    inside = np.count_nonzero(LABELS)
    assert float(instance_loss(truth, twice)) - best == pytest.approx(np.log(2) * inside / (inside + 1), rel=1e-3)
    assert float(instance_loss(truth, elsewhere)) == pytest.approx(best)


def test_a_network_with_rays_predicts_positive_lengths(rng):
    network = models.instance_unet(base_filters=4, levels=2, rays=True, seed=1)
    maps = predict_whole(network, rng.integers(0, 256, (40, 50, 3), np.uint8))
    assert maps.shape == (40, 50, CHANNELS + RAYS) and maps[..., CHANNELS:].min() > 0


def test_rare_groups_and_small_images_are_drawn_by_the_root_of_their_number():
    labels = np.ones((14, 4, 4), np.int32)
    labels[0] = 0
    stems = (
        ["a"] * 4 + list("bcdefghi") + ["j", "k"]
    )  # Nine images of one kind, of which one has four tiles; two others.
    weights = tile_weights(labels, stems, dict.fromkeys("abcdefghi", "many") | {"j": "rare"})
    assert weights[:12].sum() == pytest.approx(3)  # the root of nine
    assert weights[12] == pytest.approx(1) and weights[13] == pytest.approx(1)  # k belongs to no group
    assert weights[1] / weights[0] == pytest.approx(1 / EMPTY)
    assert weights[:4].sum() / weights[4] == pytest.approx(2)  # the root of four


def test_parts_of_a_label_that_do_not_touch_have_centres_of_their_own():
    apart = np.zeros((20, 40), np.int32)
    apart[5:15, 3:13] = apart[5:15, 27:37] = 1
    flow = instance_targets(apart)[..., 4:]
    assert flow[10, 4, 1] > 0.9 and flow[10, 11, 1] < -0.9


def test_the_loss_is_least_for_the_truth_and_every_head_counts():
    truth = instance_targets(LABELS)[None]
    best = float(instance_loss(truth, truth))
    assert best < 1e-3
    for channels in (slice(0, 1), slice(1, 4), slice(4, 6)):
        wrong = truth.copy()
        wrong[:, 5:10, :, channels] = wrong[:, 5:10, ::-1, channels][..., ::-1]
        assert float(instance_loss(truth, wrong)) > best + 0.05
    elsewhere = truth.copy()
    elsewhere[:, :, :, 4:][LABELS[None] == 0] = 5.0
    assert float(instance_loss(truth, elsewhere)) == pytest.approx(best)  # no meaning in the background


@pytest.fixture(scope="module")
def network():
    return models.instance_unet(base_filters=4, levels=3, normalization="batch", seed=3)


def test_the_network_gives_probabilities_and_needs_the_halo_of_its_body(network, rng):
    image = rng.integers(0, 256, (150, 170, 3), np.uint8)
    maps = predict_whole(network, image)
    assert maps.shape == (150, 170, 6) and maps.dtype == np.float32
    np.testing.assert_allclose(maps[..., 1:4].sum(axis=-1), 1, rtol=1e-5)
    assert maps[..., 0].min() >= 0 and maps[..., 0].max() <= 1
    assert required_halo(network) == required_halo(models.build_model("unet", {"levels": 3})) == 24
    np.testing.assert_allclose(predict_tiled(network, image, tile_size=64), maps, atol=1e-5)
    halves = models.instance_unet(patch_size=2, base_filters=4, levels=2)
    assert required_halo(halves) == required_halo(models.build_model("unet", {"patch_size": 2, "levels": 2}))
    np.testing.assert_allclose(predict_tiled(halves, image, tile_size=64), predict_whole(halves, image), atol=1e-5)


def test_it_opens_in_a_fresh_process(network, tmp_path):
    network.save(tmp_path / "model.keras")
    code = (
        "import sys, tiledseg_utils.models, keras, numpy as np\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "print(model.predict_on_batch(np.full((1, 32, 32, 3), 7, 'uint8')).sum())"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "model.keras"], capture_output=True, text=True)
    expected = network.predict_on_batch(np.full((1, 32, 32, 3), 7, "uint8")).sum()
    assert float(done.stdout.split()[-1]) == pytest.approx(float(expected), rel=1e-4), done.stderr


COUNTING = TrainingSetting(epochs=3, steps_per_epoch=12, validation_steps=2, batch_size=2, learning_rate=0.01)
SETTINGS = {"base_filters": 4, "levels": 3, "normalization": "batch"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Folder of two training images and one to validate by, with touching nuclei."""
    folder = tmp_path_factory.mktemp("touching")
    synthetic.write_dataset(folder, 3, {"train": 2, "valid": 1}, 256, touching=0.5)
    return folder


def count_in(run, folder, with_validation=False, setting=COUNTING):
    """Train in a run folder; return the result and the final weights."""
    splits = split_pairs(find_pairs(folder), folder, 0)
    splits |= {} if with_validation else {"valid": []}
    result = train_instances(run, splits, 128, SETTINGS, {"hflip": 0.5}, setting, seed=4)
    return result, load_model(run / "instances.keras", channels=(6,)).get_weights()


@pytest.fixture(scope="module")
def uninterrupted(drawn, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    return run, *count_in(run, drawn)


def test_training_learns_records_and_ends_with_the_last_epoch(uninterrupted, drawn):
    run, result, weights = uninterrupted
    images, labels, _ = label_tiles(split_pairs(find_pairs(drawn), drawn, 0)["train"], 128)
    truth = np.stack([instance_targets(mask) for mask in labels])
    model = load_model(run / "instances.keras", channels=(6,))
    untrained = models.instance_unet(**SETTINGS, seed=4)
    losses = [float(instance_loss(truth, each.predict_on_batch(images))) for each in (model, untrained)]
    assert losses[0] < 0.9 * losses[1]
    assert [row["epoch"] for row in result["history"]] == [1, 2, 3] and result["best_epoch"] == 3
    assert "val_loss" not in result["history"][0] and result["steps"] == 36
    assert [row["epoch"] for row in read_csv(run / "counting" / "history.csv")] == ["1", "2", "3"]
    last = load_checkpoint(run / "counting" / "epoch_003.keras").get_weights()
    assert all(np.array_equal(*pair) for pair in zip(weights, last, strict=True))


def test_the_model_remembers_what_it_learnt_from(uninterrupted, drawn):
    model = load_model(uninterrupted[0] / "instances.keras", channels=(6,))
    pairs = find_pairs(drawn)
    seen = provenance.seen_by(images_learnt_from(model), pairs)
    assert sorted(seen.values()) == ["no", "train", "train"]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.training.test_instances import count_in
from tiledseg_utils.training.batches import TrainingBatches

folder, run = (Path(argument) for argument in sys.argv[1:])
batch = TrainingBatches.batch

def killing(self, epoch, step):
    if (epoch, step) == (2, 5):
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, epoch, step)

TrainingBatches.batch = killing
count_in(run, folder)
"""


def test_kill_in_epoch_3_and_resume_ends_as_if_never_killed(uninterrupted, drawn, tmp_path, capsys):
    """Two trainings with one seed also end with the same bits, as the other one runs in another process."""
    process = subprocess.run([sys.executable, "-c", SCRIPT, drawn, tmp_path], env={**os.environ, "PYTHONPATH": ROOT})
    assert process.returncode == -signal.SIGKILL
    assert read_json(tmp_path / "counting" / "state.json")["epoch"] == 2
    assert not (tmp_path / "instances.keras").exists()
    result, weights = count_in(tmp_path, drawn)
    assert "resuming after epoch 2" in capsys.readouterr().out
    assert all(np.array_equal(*pair) for pair in zip(weights, uninterrupted[2], strict=True))
    assert [row["loss"] for row in result["history"]] == [row["loss"] for row in uninterrupted[1]["history"]]


def test_validation_images_judge_the_epochs_and_change_nothing_else(uninterrupted, drawn, tmp_path):
    result, _ = count_in(tmp_path, drawn, with_validation=True)
    losses = [row["val_loss"] for row in result["history"]]
    assert result["best_epoch"] == 1 + int(np.argmin(losses))
    np.testing.assert_allclose(
        [row["loss"] for row in result["history"]], [row["loss"] for row in uninterrupted[1]["history"]]
    )
    model = load_model(tmp_path / "instances.keras", channels=(6,))
    assert "valid" in provenance.seen_by(images_learnt_from(model), find_pairs(drawn)).values()


def test_a_finished_training_gives_the_model_of_two_scales_and_that_of_one(drawn, tmp_path):
    splits = split_pairs(find_pairs(drawn), drawn, 0) | {"valid": []}
    setting = replace(COUNTING, epochs=1, steps_per_epoch=1)
    for two_scales in (True, False):
        how = {"normalization": "contrast", "two_scales": two_scales}
        train_instances(tmp_path, splits, 128, SETTINGS, {}, setting, seed=4, **how)
        model = load_model(tmp_path / "instances.keras", channels=(6,))
        assert sees_two_scales(model) == two_scales and normalization_of(model) == "contrast"
        trained = load_checkpoint(tmp_path / "counting" / "epoch_001.keras").get_weights()
        assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), trained, strict=True))


def test_other_labels_in_the_same_run_are_refused(uninterrupted, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "drawn")
    path = min((tmp_path / "drawn" / "masks").iterdir())
    write_image(path, read_labels(path)[::-1])
    with pytest.raises(UserError, match="other settings or tiles"):
        count_in(uninterrupted[0], tmp_path / "drawn")


def test_the_boundary_weighs_more_where_nuclei_touch():
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    expected = np.zeros(labels.shape, bool)
    expected[5:15, 13:17] = True
    np.testing.assert_array_equal(targets.contacts(labels), expected)
    assert not targets.contacts(np.where(labels == 2, 0, labels)).any()
    plain, weighted = (targets.instance_targets(labels, contact_weight=weight) for weight in (1, 8))
    changed = np.argwhere(plain != weighted)
    assert set(changed[:, 2]) == {3} and len(changed) == expected.sum()
    assert (weighted[..., 3][expected] == 8).all() and (plain[..., 3][expected] == 1).all()


def test_tiles_lie_flush_with_the_borders(tmp_path):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 255, (40, 75, 3), np.uint8)
    labels = np.zeros((40, 75), np.int32)
    labels[3:12, 20:30], labels[3:12, 50:60], labels[25:38, 40:70] = 1, 2, 3
    write_image(tmp_path / "images" / "a.png", image)
    write_image(tmp_path / "labels" / "a.tif", labels)
    tiles, parts, stems = label_tiles(find_pairs(tmp_path), 32)
    assert stems == ["a"] * 6  # rows from 0 and 8, columns from 0, 21 and 43
    np.testing.assert_array_equal(tiles[4], image[8:40, 21:53])
    np.testing.assert_array_equal(parts[2], labels[:32, 43:75])
    denser, *_ = label_tiles(find_pairs(tmp_path), 32, overlap=True)
    assert len(denser) == 3 * 5  # one between any two
    np.testing.assert_array_equal(denser[::2].reshape(8, -1)[[0, 1, 2, 5, 6, 7]], tiles.reshape(6, -1))
    larger, parts, _ = label_tiles(find_pairs(tmp_path), 64)  # An image that is smaller than a tile is reflected.
    assert larger.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(parts[0, 40:], labels[39:15:-1, :64])


def test_tiles_of_images_that_show_a_nucleus(tmp_path):
    for stem, labels in (("a", np.pad(np.full((20, 20), 3, np.int32), ((0, 44), (0, 44)))), ("b", None)):
        labels = np.zeros((64, 64), np.int32) if labels is None else labels
        write_image(tmp_path / "images" / f"{stem}.png", np.zeros((64, 64, 3), np.uint8))
        write_image(tmp_path / "labels" / f"{stem}.tif", labels)
    pairs = find_pairs(tmp_path)
    images, labels, stems = label_tiles(pairs, 32)
    assert stems == ["a"] * 4 + ["b"] * 4
    assert images.shape == (8, 32, 32, 3) and labels.shape == (8, 32, 32) and labels.max() == 1
    assert smallest_area(pairs) == 100  # a quarter of the only one, 20 x 20
    for call in (lambda: label_tiles(pairs[1:], 32), lambda: smallest_area(pairs[1:])):
        with pytest.raises(UserError, match="show no nucleus"):
            call()
    assert targets.RIM == 2
