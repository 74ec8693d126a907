import subprocess
import sys

import keras
import numpy as np
import pytest

from tiledseg_utils.models import losses

TRUTH = np.zeros((1, 4, 4, 1), np.float32)
TRUTH[:, 1:3, 1:3] = 1


def value(function, prediction, truth=TRUTH):
    return float(np.mean(keras.losses.get(function)(truth, np.asarray(prediction, np.float32))))


def test_dice_by_hand():
    # Half of the four foreground pixels at probability 1, one false one: (2 * 2 + 1) / (4 + 3 + 1).
    prediction = np.zeros_like(TRUTH)
    prediction[0, 1, 1:3] = 1
    prediction[0, 0, 0] = 1
    assert value(losses.dice_coefficient, prediction) == pytest.approx(5 / 8)
    assert value(losses.dice_loss, prediction) == pytest.approx(3 / 8)
    assert value(losses.iou_coefficient, prediction) == pytest.approx((2 + 1) / (4 + 3 - 2 + 1))
    assert value(losses.iou_loss, prediction) == pytest.approx(1 / 2)
    assert value(losses.sensitivity, prediction) == pytest.approx(2 / 4)
    assert value(losses.specificity, prediction) == pytest.approx(11 / 12)


def test_combinations_are_means_of_their_parts(rng):
    prediction = rng.uniform(0.05, 0.95, TRUTH.shape)
    bce = value(keras.losses.binary_crossentropy, prediction)
    assert value(losses.bce_dice_loss, prediction) == pytest.approx((bce + value(losses.dice_loss, prediction)) / 2)
    assert value(losses.bce_iou_loss, prediction) == pytest.approx((bce + value(losses.iou_loss, prediction)) / 2)


def test_empty_masks_have_defined_scores():
    empty = np.zeros_like(TRUTH)
    assert value(losses.dice_coefficient, empty, empty) == 1
    assert value(losses.iou_coefficient, empty, empty) == 1
    assert value(losses.sensitivity, empty, empty) == 0
    assert value(losses.specificity, empty, empty) == pytest.approx(1)


def test_dice_is_pooled_over_the_batch():
    """An empty tile predicted empty changes nothing, where a mean over tiles would give it a full score."""
    prediction = 0.5 * TRUTH
    pair, padded = np.concatenate([TRUTH, 0 * TRUTH]), np.concatenate([prediction, 0 * TRUTH])
    assert value(losses.dice_coefficient, padded, pair) == value(losses.dice_coefficient, prediction)


def test_dice_of_tiles_lets_each_tile_with_foreground_count_alike():
    full, empty = np.ones((1, 20, 20, 1), np.float32), np.zeros((1, 20, 20, 1), np.float32)
    small = empty.copy()
    small[0, :5, :5] = 1
    truth = np.concatenate([full, small, empty])
    prediction = np.concatenate([full, empty, full])  # The small object is missed, and one is found where none is.
    expected = 1 - np.mean([1, 50 / (25 + 50)])
    assert value(losses.tile_dice_loss, prediction, truth) == pytest.approx(expected)
    pooled = 1 - 801 / 826  # The small object hardly counts.
    assert value(losses.dice_loss, prediction[:2], truth[:2]) == pytest.approx(pooled)
    bce = value(losses.cross_entropy, prediction, truth)
    assert value(losses.bce_tile_dice_loss, prediction, truth) == pytest.approx((bce + expected) / 2)


def test_dice_of_tiles_leaves_a_batch_without_foreground_to_the_cross_entropy():
    assert value(losses.tile_dice_loss, TRUTH, 0 * TRUTH) == 0
    assert value(losses.bce_tile_dice_loss, TRUTH, 0 * TRUTH) > 0.5


def test_dice_of_tiles_is_the_mean_of_the_classes_that_a_tile_shows():
    truth = np.zeros((1, 10, 10, 4), np.float32)
    truth[..., :5, 1], truth[..., 5:, 2] = 1, 1
    prediction = np.zeros_like(truth)
    prediction[..., 1] = 1  # All is said to be of the first class; the third is not there.
    expected = 1 - np.mean([(2 * 50 + 50) / (150 + 50), 50 / (50 + 50)])
    assert value(losses.tile_dice_loss, prediction, truth) == pytest.approx(expected)


def test_structural_similarity_against_a_direct_computation(rng):
    truth = (rng.random((2, 16, 20, 1)) > 0.6).astype(np.float32)
    prediction = rng.random(truth.shape).astype(np.float32)
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    expected = []
    for x, y in zip(truth[..., 0].astype(float), prediction[..., 0].astype(float), strict=True):
        for row in range(16 - 10):
            for column in range(20 - 10):
                a, b = (image[row : row + 11, column : column + 11] for image in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                spread_a, spread_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                both = (window * (a - mean_a) * (b - mean_b)).sum()
                similar = (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
                expected.append(similar / ((mean_a**2 + mean_b**2 + 1e-4) * (spread_a + spread_b + 9e-4)))
    assert value(losses.structural_similarity, prediction, truth) == pytest.approx(np.mean(expected), abs=1e-4)
    assert value(losses.structural_similarity, truth, truth) == pytest.approx(1, abs=1e-5)
    parts = (keras.losses.binary_crossentropy, losses.iou_loss)
    bce, iou = (value(part, prediction, truth) for part in parts)
    hybrid = (bce + 1 - value(losses.structural_similarity, prediction, truth) + iou) / 3
    assert value(losses.bce_ssim_iou_loss, prediction, truth) == pytest.approx(hybrid, rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_pulls_the_right_way(name):
    truth = np.kron(TRUTH, np.ones((1, 4, 4, 1), np.float32))
    good, bad = 0.9 * truth + 0.05, 0.9 * (1 - truth) + 0.05
    assert value(losses.LOSSES[name], good, truth) < value(losses.LOSSES[name], bad, truth)


def test_a_compiled_model_opens_in_a_fresh_process(tmp_path):
    model = keras.Sequential(
        [keras.Input((16, 16, 1)), keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")]
    )
    model.compile(loss=losses.bce_ssim_iou_loss, metrics=losses.METRICS)
    image = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1)
    truth = (image > 0.5).astype(np.float32)
    expected = model.evaluate(image, truth, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "pair.npz", image=image, truth=truth)
    code = (
        "import sys, numpy as np, tiledseg_utils.models.losses, keras; folder = sys.argv[1];"
        "model = keras.models.load_model(folder + '/model.keras'); pair = np.load(folder + '/pair.npz');"
        "print(*model.evaluate(pair['image'], pair['truth'], verbose=0))"
    )
    output = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert [float(number) for number in output.split()] == pytest.approx(expected, rel=1e-5)
