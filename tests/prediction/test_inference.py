import contextlib
import os
import re
import subprocess
import sys
import threading
import tracemalloc
from functools import partial
from typing import ClassVar

import cv2
import jax
import keras
import numpy as np
import pytest
import tifffile

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.base.finished import JOURNAL
from tiledseg_utils.course.diagnostics import seam_score
from tiledseg_utils.data import streaming
from tiledseg_utils.models.model_files import fingerprint
from tiledseg_utils.models.receptive_field import required_halo
from tiledseg_utils.prediction import dividing, files, forward, inference, instances, tiled
from tiledseg_utils.settings.parameters import PredictionSetting
from tiledseg_utils.tiles.planning import Plan, make_axis, make_plan


@keras.saving.register_keras_serializable("tests")
class RedShare(keras.layers.Rescaling):
    """A network of no context: the red channel as probability."""

    def call(self, inputs):
        return super().call(inputs[..., :1])

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 1)


@pytest.fixture(scope="module")
def pointwise():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    return keras.Model(inputs, RedShare(1 / 255)(inputs))


@pytest.fixture(scope="module")
def network():
    """A U-Net of three levels with random weights, and no bias at the end: alignment 4, halo 24."""
    model = models.build_model("unet", {"base_filters": 4, "levels": 3, "normalization": "batch", "seed": 1})
    model.get_layer("probability").bias.assign([0.0])
    return model


def far_sighted(levels: int, corner: int) -> keras.Model:
    """A U-Net whose kernels are zero but for one corner (0 or -1), so that the farthest pixels in its reach count."""
    model = models.build_model("unet", {"base_filters": 2, "levels": levels})
    for layer in model.layers:
        for weight in layer.weights:
            value = np.zeros(weight.shape)
            if layer.name == "probability":
                value[:] = weight.ndim == 4
            elif isinstance(layer, keras.layers.Conv2DTranspose):
                value[:] = (weight.ndim == 4) / weight.shape[-1]
            elif weight.ndim == 4:
                value[corner, corner] = 1 / weight.shape[2]
            weight.assign(value)
    return model


def noise(rng, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, (*shape, 3)).astype(np.uint8)


def predict_with(model, image, tile: int, overlap: int, dropped: int, alignment: int = 1) -> np.ndarray:
    axes = (make_axis(length, tile, overlap, dropped, alignment) for length in image.shape[:2])
    return inference.predict_plan(model, image, Plan(*axes))


@pytest.mark.parametrize("shape", [(200, 300), (30, 40), (64, 64), (1, 90), (97, 1)])
@pytest.mark.parametrize(
    "way", [{"mode": "exact"}, {"mode": "blend", "overlap": 0}, {"mode": "blend", "overlap": 17}, {"memory_mib": 1}]
)
def test_tiling_a_network_without_context_changes_nothing(pointwise, rng, shape, way):
    image = noise(rng, *shape)
    probability = inference.predict_tiled(pointwise, image, **{"tile_size": 64 * ("mode" in way), **way}, batch_size=3)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, image[..., 0] / np.float32(255), atol=1e-6)


@pytest.mark.parametrize(
    ("levels", "normalization", "shape", "tile"),
    [
        (2, "none", (131, 77), 32),
        (2, "batch", (50, 203), 64),
        (3, "batch", (101, 233), 64),
        (3, "none", (37, 41), 64),
        (3, "none", (7, 190), 80),
        (4, "none", (213, 305), 128),
        (4, "batch", (129, 97), 104),
        (5, "none", (450, 233), 0),
    ],
)
def test_exact_tiles_equal_the_whole_image(rng, levels, normalization, shape, tile):
    settings = {"base_filters": 3, "levels": levels, "normalization": normalization, "seed": 3}
    model, image = models.build_model("unet", settings), noise(rng, *shape)
    tiled = inference.predict_tiled(model, image, tile_size=tile, memory_mib=4)
    np.testing.assert_allclose(tiled, inference.predict_whole(model, image), atol=1e-5)
    if tile == 0:
        assert inference.plan_prediction(model, shape, memory_mib=4).count > 1


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_exactness_takes_the_whole_halo(rng, levels):
    image, step = noise(rng, 160, 168), 2 ** (levels - 1)
    networks = [far_sighted(levels, corner) for corner in (0, -1)]
    halo = required_halo(networks[0])

    def error(halo: int) -> float:
        differences = [
            predict_with(network, image, 128, 2 * halo, halo, step) - inference.predict_whole(network, image)
            for network in networks
        ]
        return np.abs(differences).max()

    assert error(halo) < 1e-6
    assert error(halo - step) > 1e-4


def test_more_halo_does_not_mend_a_misaligned_origin(network, rng):
    image = noise(rng, 160, 200)
    whole = inference.predict_whole(network, image)
    assert np.abs(predict_with(network, image, 96, 48, 24) - whole).max() < 1e-5  # 48 = 2 x 24, origins multiples of 4
    assert np.abs(predict_with(network, image, 96, 50, 25) - whole).max() > 1e-2


def test_symmetries_are_undone(network, rng):
    image = noise(rng, 90, 130)
    once = inference.predict_tiled(network, image, tile_size=80, test_time_augmentation=True)
    np.testing.assert_allclose(once, inference.predict_whole(network, image, test_time_augmentation=True), atol=1e-5)
    plain = inference.predict_tiled(network, image, tile_size=80)
    assert np.abs(plain - once).max() > 1e-3
    square = image[:88, :88]  # turned and mirrored input gives turned and mirrored output
    tiled = partial(inference.predict_tiled, network, tile_size=80, test_time_augmentation=True)
    reduced = partial(inference.predict_reduced, network, size=44, test_time_augmentation=True)
    for predict in (tiled, reduced):
        for turned in (np.rot90, np.fliplr, np.flipud, np.transpose):
            view = np.stack([turned(square[..., channel]) for channel in range(3)], axis=-1)
            np.testing.assert_allclose(predict(view), turned(predict(square)), atol=1e-5)


def test_predictions_at_other_scales_come_back_in_place():
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:40, 30:70] = 200
    seen = []

    def brightness(view):
        seen.append(view.shape)
        return view[..., 0].astype(np.float32) / 255

    np.testing.assert_array_equal(inference.multi_scale(brightness, [1])(image), brightness(image))
    probability = inference.multi_scale(brightness, [0.5, 1, 1.5])(image)
    assert seen[-3:] == [(30, 45, 3), (60, 90, 3), (90, 135, 3)]
    assert probability.dtype == np.float32 and probability.shape == image.shape[:2]
    np.testing.assert_array_equal(probability > 100 / 255, image[..., 0] > 0)
    shares = {scale: inference.multi_scale(brightness, [scale])(image) for scale in (0.5, 1, 1.5)}
    np.testing.assert_allclose(probability, sum(shares.values()) / 3, atol=1e-6)


@pytest.mark.parametrize("scales", [[], [0], [1, 5], [-1], [float("nan")]])
def test_scales_out_of_range_are_refused(scales):
    with pytest.raises(UserError, match=r"scales.* Give a list, each a number from 0\.1 to 4"):
        inference.multi_scale(lambda image: image, scales)


def test_one_shape_is_predicted_whatever_the_number_of_tiles(rng):
    shapes = []

    def forward(batch):
        shapes.append(batch.shape)
        return batch[..., :1] / np.float32(255)

    for count in (1, 4, 6):
        tiles = [noise(rng, 8, 9) if index != 2 else None for index in range(count)]
        maps = list(inference.predict_batches(forward, iter(tiles), batch_size=4))
        assert len(maps) == count
        for tile, probability in zip(tiles, maps, strict=True):
            assert (tile is None) == (probability is None)
            assert tile is None or (probability == tile[..., 0] / np.float32(255)).all()
    assert shapes == [(4, 8, 9, 3)] * 4


def test_background_only_is_never_predicted():
    def forward(batch):
        raise AssertionError("nothing to predict")

    assert list(inference.predict_batches(forward, [None] * 5, batch_size=2)) == [None] * 5


def test_an_error_while_predicting_or_reading_reaches_the_caller():
    def broken(batch):
        raise RuntimeError("out of memory")

    def tiles():
        yield np.zeros((4, 4, 3), np.uint8)
        raise OSError("disk gone")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(inference.predict_batches(broken, [np.zeros((4, 4, 3), np.uint8)], 1))
    with pytest.raises(OSError, match="disk gone"):
        list(inference.predict_batches(lambda batch: batch, tiles(), 1))


def test_blending_hides_seams_of_a_network_with_context(network, rng):
    image = cv2.normalize(cv2.GaussianBlur(noise(rng, 192, 256), (0, 0), 6), None, 0, 255, cv2.NORM_MINMAX)
    whole = inference.predict_whole(network, image)

    def blended(overlap):
        return inference.predict_tiled(network, image, mode="blend", tile_size=64, overlap=overlap)

    assert np.abs(blended(32) - whole).mean() < np.abs(blended(16) - whole).mean() < np.abs(blended(0) - whole).mean()
    edges = range(64, 192, 64), range(64, 256, 64)
    assert seam_score(blended(0), *edges) > 1.5 > seam_score(whole, *edges)


def test_whole_and_reduced_prediction_have_the_size_of_the_image(pointwise):
    image = np.zeros((90, 140, 3), np.uint8)
    image[:, 70:] = 255
    for probability in (inference.predict_reduced(pointwise, image, 32), inference.predict_whole(pointwise, image)):
        assert probability.shape == (90, 140)
        np.testing.assert_allclose(probability[:, [10, -10]], [[0, 1]] * 90, atol=1e-6)


def test_several_devices_give_what_one_gives(tmp_path, network, rng):
    image = noise(rng, 100, 180)
    np.save(tmp_path / "image.npy", image)
    network.save(tmp_path / "model.keras")
    script = (
        "import sys, numpy as np; from tiledseg_utils.prediction import inference; import jax\n"
        "assert len(jax.local_devices()) == 2\n"
        "model = inference.load_model(sys.argv[1] + '/model.keras')\n"
        "image = np.load(sys.argv[1] + '/image.npy')\n"
        "np.save(sys.argv[1] + '/two.npy', inference.predict_tiled(model, image, tile_size=64))\n"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    one = inference.predict_tiled(network, image, tile_size=64)
    np.testing.assert_allclose(np.load(tmp_path / "two.npy"), one, atol=1e-6)


def edgeless(rng, *shape: int) -> np.ndarray:
    """An image with two objects far apart on a smooth background, of which most tiles are empty."""
    image = np.full((*shape, 3), 230, np.uint8)
    image[20:40, 30:60] = (120, 40, 160)
    image[-30:-10, -50:-20] = (120, 40, 160)
    return image + rng.integers(0, 3, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["exact", "blend"])
@pytest.mark.parametrize(("suffix", "threshold"), [("npy", None), ("tif", None), ("tif", 0.5), ("npy", 0.4)])
def test_a_file_holds_what_the_array_holds(network, rng, tmp_path, mode, suffix, threshold):
    image, out = noise(rng, 210, 130), tmp_path / f"out.{suffix}"
    tifffile.imwrite(tmp_path / "in.tif", image, tile=(64, 64), photometric="rgb")
    how = {"mode": mode, "tile_size": 64, "overlap": 16}
    report = inference.predict_file(network, tmp_path / "in.tif", out, **how, threshold=threshold)
    written = np.load(out) if suffix == "npy" else tifffile.imread(out)
    expected = inference.predict_tiled(network, image, **how)
    if threshold is not None:
        expected = np.uint8(255) * (expected >= threshold)
    np.testing.assert_array_equal(written, expected)
    plan = inference.plan_prediction(network, image.shape, **how)
    assert report["tiles"] == plan.count and report["skipped"] == 0 and report["resumed_at_row"] == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([JOURNAL, "in.tif", out.name])
    again = inference.predict_file(network, tmp_path / "in.tif", out, **how, threshold=threshold)
    assert again["resumed_at_row"] == 210 and again["megapixels"] == 0 and again["tiles"] == report["tiles"]


@pytest.mark.parametrize("mode", ["exact", "blend"])
@pytest.mark.parametrize("bands", [1, 3])
def test_an_interrupted_file_goes_on_and_ends_the_same(network, rng, tmp_path, monkeypatch, capsys, mode, bands):
    image = noise(rng, 230, 100)
    how = {"mode": mode, "tile_size": 64, "overlap": 24}
    inference.predict_file(network, image, tmp_path / "whole.tif", **how)
    write, calls = files.BandWriter.write, []

    def interrupted(self, band):
        if len(calls) == bands:
            raise KeyboardInterrupt
        calls.append(len(band))
        write(self, band)

    monkeypatch.setattr(files.BandWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inference.predict_file(network, image, tmp_path / "out.tif", **how)
    assert not (tmp_path / "out.tif").exists()
    monkeypatch.setattr(files.BandWriter, "write", write)
    capsys.readouterr()
    report = inference.predict_file(network, image, tmp_path / "out.tif", **how)
    rates = re.findall(r"([-\d.]+)Mpx/s", capsys.readouterr().out)
    assert rates and all(float(rate) >= 0 for rate in rates)  # what was done before does not count
    assert report["resumed_at_row"] == sum(calls) > 0
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_another_model_does_not_go_on_where_one_stopped(network, rng, tmp_path, monkeypatch):
    image, out = noise(rng, 150, 60), tmp_path / "out.npy"
    monkeypatch.setattr(files.BandWriter, "finish", lambda self, facts: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        inference.predict_file(network, image, out, tile_size=64)
    monkeypatch.undo()
    other = models.build_model("unet", {"base_filters": 4, "levels": 3, "normalization": "batch", "seed": 2})
    assert fingerprint(other) != fingerprint(network)
    assert inference.predict_file(other, image, out, tile_size=64)["resumed_at_row"] == 0
    np.testing.assert_array_equal(np.load(out), inference.predict_tiled(other, image, tile_size=64))


def test_empty_tiles_are_skipped_on_demand_and_counted(network, rng, tmp_path):
    image = edgeless(rng, 400, 300)
    how = {"tile_size": 96}
    report = inference.predict_file(network, image, tmp_path / "all.npy", **how)
    skipping = inference.predict_file(network, image, tmp_path / "some.npy", **how, skip_contrast=20)
    assert report["skipped"] == 0 and 0 < skipping["skipped"] < skipping["tiles"] == report["tiles"]
    everything, some = np.load(tmp_path / "all.npy"), np.load(tmp_path / "some.npy")
    np.testing.assert_array_equal(some[20:40, 30:60], everything[20:40, 30:60])
    assert (some[180:200] == 0).all() and (everything[180:200] > 0).all()


def test_scopes_of_the_caller_hold_where_tiles_are_predicted():
    """Of Keras and JAX, for one thread only: a device, for instance."""
    seen = []

    def forward(batch):
        precision = jax.config.jax_default_matmul_precision
        seen.append((jax.config.jax_default_device, precision, threading.current_thread()))
        return batch[..., :1] / np.float32(255)

    device = jax.local_devices()[0]
    tiles = [np.zeros((4, 4, 3), np.uint8)] * 5
    with keras.device(device), jax.default_matmul_precision("highest"):
        list(inference.predict_batches(forward, iter(tiles), 2))
    assert seen == [(device, "highest", threading.main_thread())] * 3


def test_tiles_are_read_ahead_in_another_thread():
    readers = []

    def tiles():
        for _ in range(6):
            readers.append(threading.current_thread())
            yield np.zeros((4, 4, 3), np.uint8)

    maps = inference.predict_batches(lambda batch: batch, tiles(), 2)
    next(maps)
    assert threading.main_thread() not in readers
    maps.close()
    assert not any(reader.is_alive() for reader in readers)  # so that a source may be closed now


class Watched(streaming.Source):
    """A source that counts how often it is closed."""

    opened: ClassVar[list] = []

    def __init__(self, array):
        super().__init__("watched", array.shape[:2], array.dtype, lambda a, b: array[a:b], lambda: {"name": "watched"})
        self.closed = 0
        self.opened.append(self)

    def close(self):
        self.closed += 1


def gone(*_, **__):
    raise UserError("watched", "is gone", "Bring it back")


WAYS = {
    "predict_tiled": lambda model, image, out: inference.predict_tiled(model, image, tile_size=64),
    "predict_plan": lambda model, image, out: inference.predict_plan(
        model, image, lambda shape: inference.plan_prediction(model, shape, tile_size=64)
    ),
    "predict_file": lambda model, image, out: inference.predict_file(model, image, out, tile_size=64),
    "label_file": lambda model, image, out: instances.label_file(image, out, model, tile_size=64),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("broken", [None, "reading", "stitching"])
def test_what_was_opened_is_closed_in_any_case(network, rng, tmp_path, monkeypatch, way, broken):
    monkeypatch.setattr(Watched, "opened", [])
    for module in (tiled, instances):
        monkeypatch.setattr(module, "open_source", Watched)
    if broken == "reading":
        monkeypatch.setattr(Watched, "read_rows", gone)
    if broken == "stitching":
        for module in (inference, files, instances):
            monkeypatch.setattr(module, "stitch_rows", gone)
    with contextlib.ExitStack() as stack:
        if broken:
            stack.enter_context(pytest.raises(UserError, match="watched: is gone"))
        WAYS[way](network, noise(rng, 150, 130), tmp_path / "out.npy")
    assert [source.closed for source in Watched.opened] == [1]


@pytest.mark.parametrize("height", [2 * 1000, 1010], ids=["side by side", "the last over the one before"])
def test_rows_are_put_together_in_the_memory_of_one_row_of_tiles(height):
    plan = make_plan((height, 1000), tile=1000, overlap=0, dropped=0)
    row_bytes, maps = 1000 * 1000 * 4, np.ones((1000, 1000), np.float32)
    tracemalloc.start()
    try:
        for _ in tiled.stitch_rows([maps] * plan.count, plan, (height, 1000)):
            pass
        assert tracemalloc.get_traced_memory()[1] < 1.5 * row_bytes
    finally:
        tracemalloc.stop()


def test_a_source_of_the_caller_stays_open(network, rng):
    source = Watched(noise(rng, 80, 90))
    inference.predict_plan(network, source, inference.plan_prediction(network, source.shape))
    assert source.closed == 0


def test_a_model_is_let_go_of(rng):
    """What was compiled for several devices does not keep the last model in memory."""
    code = (
        "import gc, weakref, numpy as np, jax; from tiledseg_utils import inference, models\n"
        "assert len(jax.local_devices()) == 2\n"
        "model = models.build_model('unet', {'base_filters': 2, 'levels': 2})\n"
        "inference.predict_tiled(model, np.zeros((40, 40, 3), np.uint8))\n"
        "watched = weakref.ref(model); del model; gc.collect(); assert watched() is None\n"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def constant(value: float) -> keras.Model:
    """A model that predicts the same value everywhere, or nan in bright pixels."""
    inputs = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Rescaling(0.0, value)(inputs)  # No ReLU behind it, since that of oneDNN makes 0 of nan.
    return keras.Model(inputs, keras.layers.Conv2D(1, 1, kernel_initializer="ones")(x), name="odd")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (30.0, r"model odd: predicts values from 90 to 90, which are no probabilities\. Give a model whose last layer"),
        (0.4, r"model odd: predicts values from 1\.2 to 1\.2, which are no prob"),
        (float("nan"), r"model odd: predicts values that are nan, which are no prob"),
        (float("inf"), r"model odd: predicts values from inf to inf, which are no prob"),
    ],
)
@pytest.mark.parametrize("way", [*WAYS, "predict_whole", "predict_reduced", "test_time_augmentation"])
def test_predictions_that_are_no_probabilities_are_refused(value, message, way, tmp_path):
    image, model = np.full((70, 66, 3), 200, np.uint8), constant(value)
    ways = WAYS | {
        "predict_whole": lambda model, image, out: inference.predict_whole(model, image),
        "predict_reduced": lambda model, image, out: inference.predict_reduced(model, image, 32),
        "test_time_augmentation": lambda model, image, out: inference.predict_tiled(
            model, image, test_time_augmentation=True
        ),
    }
    with pytest.raises(UserError, match=message):
        ways[way](model, image, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_negative_predictions_are_refused_and_rounding_is_not():
    for low, refused in ((-0.5, True), (-1e-5, False)):
        maps = np.full((4, 4, 1), low, np.float32)
        with pytest.raises(UserError, match=r"from -0\.5 to -0\.5") if refused else contextlib.nullcontext():
            forward.check_maps(maps, "model.keras", vectors=False)


def test_vectors_may_have_any_finite_value():
    maps = np.zeros((1, 4, 4, 6), np.float32)
    maps[..., 4:] = -30
    forward.check_maps(maps, "model.keras", vectors=True)
    for channel, value, message in ((4, np.nan, "vectors that are not all finite"), (3, -1, "from -1 to 0")):
        wrong = maps.copy()
        wrong[0, 1, 1, channel] = value
        with pytest.raises(UserError, match=message):
            forward.check_maps(wrong, "model.keras", vectors=True)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99999999999 bytes."),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
)
def test_a_full_memory_is_told_with_what_helps(network, error, monkeypatch):
    def full(batch):
        raise error

    monkeypatch.setattr(network, "predict_on_batch", full)
    with pytest.raises(UserError, match=r"more memory than there is for 1 tile\(s\) of 64 x 64 pixels.*lower --mem"):
        inference.predict_tiled(network, np.zeros((100, 100, 3), np.uint8), tile_size=64)


def test_another_error_of_the_backend_stays_what_it_is(network, monkeypatch):
    def broken(batch):
        raise RuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(network, "predict_on_batch", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        inference.predict_tiled(network, np.zeros((64, 64, 3), np.uint8))


def vectors_to(row: float, column: float, shape: tuple[int, int]) -> np.ndarray:
    """Unit vectors from each pixel to a point, (H, W, 2): rows and columns."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = np.stack([row - y, column - x], -1).astype(np.float32)
    return away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)


def test_vectors_are_turned_with_their_view():
    """A network that finds the bright pixel of any view and points to it: all eight views must agree."""

    def pointing(batch):
        row, column = np.unravel_index(batch[0, ..., 0].argmax(), batch.shape[1:3])
        maps = np.zeros((1, *batch.shape[1:3], 6), np.float32)
        maps[0, ..., 0] = batch[0, ..., 0] / 255
        maps[0, ..., dividing.FLOW] = vectors_to(row, column, batch.shape[1:3])
        return maps

    image = np.zeros((1, 20, 31, 3), np.uint8)
    image[0, 4, 23] = 255
    once, eightfold = pointing(image), forward.with_test_time_augmentation(pointing, vectors=True)(image)
    np.testing.assert_allclose(eightfold, once, atol=1e-6)


def test_symmetries_of_an_instance_network_turn_with_the_image(rng):
    """Equivariance: the prediction of a turned image is the turned prediction, its vectors and rays turned too."""
    network = models.instance_unet(base_filters=4, levels=3, rays=True, seed=3)
    predict = partial(inference.predict_tiled, network, test_time_augmentation=True)
    image = noise(rng, 40, 40)
    maps = predict(image)
    assert np.abs(maps[..., dividing.FLOW]).max() > 1e-3
    turned = np.rot90(maps).copy()
    turned[..., 4], turned[..., 5] = -np.rot90(maps[..., 5]), np.rot90(maps[..., 4])
    turned[..., 6:] = np.roll(turned[..., 6:], -8, axis=-1)  # Ray 8, which pointed down, is ray 0 and points right.
    np.testing.assert_allclose(predict(np.rot90(image)), turned, atol=1e-5)
    mirrored = maps[:, ::-1].copy()
    mirrored[..., 5] *= -1
    mirrored[..., 6:] = mirrored[..., 6 + (16 - np.arange(32)) % 32]
    np.testing.assert_allclose(predict(image[:, ::-1]), mirrored, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mode": "smooth"}, "mode: 'smooth' is not known. Give one of exact, blend, auto"),
        ({"tilesize": 64}, "tilesize: is not known. Did you mean tile_size?"),
        ({"tile_size": -64}, "tile_size: -64 is out of range"),
        ({"tile_size": 90}, "tile size 90: does not fit the poolings.*multiple of 4"),
        ({"tile_size": 48}, "tile size 48: is all halo.*Use at least 52 pixels"),
        ({"memory_mib": 0}, "memory_mib: 0 is out of range. Give a whole number from 1"),
        ({"mode": "blend", "tile_size": 64, "overlap": 40}, "overlap 40: does not fit tiles of 64 px"),
    ],
)
def test_tiles_that_do_not_suit_the_network(network, how, message):
    with pytest.raises(UserError, match=message):
        inference.predict_tiled(network, np.zeros((200, 300, 3), np.uint8), **how)


def test_a_setting_and_single_values_say_the_same(network, rng, tmp_path):
    image, setting = (
        noise(rng, 90, 130),
        PredictionSetting(mode="blend", tile_size=64, overlap=8, test_time_augmentation=True),
    )
    expected = inference.predict_tiled(
        network, image, mode="blend", tile_size=64, overlap=16, test_time_augmentation=True
    )
    changed = {"tile_size": np.int64(64), "overlap": 16}
    np.testing.assert_array_equal(inference.predict_tiled(network, image, setting, **changed), expected)
    inference.predict_file(network, image, tmp_path / "map.npy", setting, **changed)
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), expected)
    instances.label_file(image, tmp_path / "labels.npy", network, "components", setting=setting, **changed)
    labels = instances.label_image(expected, "components")
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), labels)


def test_a_network_that_no_halo_makes_exact_is_refused_and_blended(rng):
    inputs = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GroupNormalization(2, name="spatial_norm")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))
    image = noise(rng, 100, 100)
    with pytest.raises(UserError, match="spatial_norm"):
        inference.predict_tiled(model, image, tile_size=64)
    blended = inference.predict_tiled(model, image, mode="blend", tile_size=64, overlap=16)
    assert np.abs(blended - inference.predict_whole(model, image)).max() > 1e-4


def test_a_network_of_fixed_size_takes_tiles_of_that_size(rng):
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(keras.layers.Rescaling(1 / 255)(inputs))
    model, image = keras.Model(inputs, x), noise(rng, 75, 50)
    assert inference.predict_tiled(model, image).shape == (75, 50)
    for bad in ({"tile_size": 64}, {"image": image[:20]}):
        with pytest.raises(UserError, match="takes images of 32 x 32 pixels only"):
            inference.predict_tiled(model, **{"image": image, **bad})
    with pytest.raises(UserError, match=r"takes images of 32 x 32 pixels only\. Predict in tiles of that size"):
        inference.predict_whole(model, image)
    assert inference.predict_reduced(model, image, 32).shape == (75, 50)
    with pytest.raises(UserError, match="takes images of 32 x 32 pixels only"):
        inference.predict_reduced(model, image, 48)


def test_a_network_of_several_maps(rng, tmp_path):
    inputs = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.Conv2D(2, 3, padding="same", activation="softmax")(keras.layers.Rescaling(1 / 255)(inputs))
    model, image = keras.Model(inputs, x), noise(rng, 75, 50)
    maps = inference.predict_tiled(model, image, tile_size=32)
    np.testing.assert_allclose(maps, inference.predict_whole(model, image), atol=1e-6)
    assert maps.shape == (75, 50, 2)
    # A file, and whatever asks for a foreground, takes one probability.
    model.save(tmp_path / "model.keras")
    for call in (
        lambda: inference.load_model(tmp_path / "model.keras"),
        lambda: inference.predict_file(model, image, tmp_path / "mask.tif"),
    ):
        with pytest.raises(UserError, match="predicts 2 channels"):
            call()


def test_images_that_do_not_suit_the_network(network):
    with pytest.raises(UserError, match=r"holds decimal numbers \(float32\), and the model takes uint8"):
        inference.predict_tiled(network, np.zeros((64, 64, 3), np.float32), tile_size=64)


def test_not_a_number_in_an_image_of_decimals_is_located(rng):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(inputs))
    image = rng.random((90, 70, 3)).astype(np.float32)
    assert (
        np.abs(inference.predict_tiled(model, image, tile_size=32) - inference.predict_whole(model, image)).max() < 1e-5
    )
    image[71, 33, 1] = np.nan
    with pytest.raises(UserError, match=r"row 71, column 33"):
        inference.predict_tiled(model, image, tile_size=32)


def test_mode_auto_is_exact_where_that_is_possible(network):
    def plan(model, mode, tile_size=0, **more):
        axes = vars(inference.plan_prediction(model, (200, 300), mode=mode, tile_size=tile_size, **more)).values()
        return [(axis.tile, axis.origins, axis.weights.tolist()) for axis in axes]

    assert plan(network, "auto") == plan(network, "exact")
    assert plan(network, "auto", 48, overlap=10) == plan(network, "blend", 48, overlap=12)
    assert plan(network, "auto", 48) == plan(network, "blend", 48, overlap=24)
    inputs = keras.Input((None, None, 3), dtype="uint8")
    x = keras.layers.GroupNormalization(1)(keras.layers.Rescaling(1 / 255)(inputs))
    inexact = keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))
    assert plan(inexact, "auto", 128) == plan(inexact, "blend", 128)
