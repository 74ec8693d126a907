import contextlib
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tifffile

from tests.benchmarks import __main__ as command_line
from tests.benchmarks import accuracy, augmentation, cluster, inference, memory, timing, training
from tiledseg_utils import models
from tiledseg_utils.tiles.augmentation import augment


class RedShare:
    """A network of no context: the red channel as probability."""

    def predict(self, batch, verbose):
        return batch[..., :1] / np.float32(255)


@pytest.mark.parametrize("shape", [(200, 300), (30, 40), (64, 112), (65, 64)])
def test_one_predict_per_tile_reproduces_the_image(shape, rng):
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    probability = inference.predict_per_tile(RedShare(), image, tile=64, overlap=16)
    np.testing.assert_array_equal(probability, image[..., 0] / np.float32(255))


def test_tiles_meet_in_the_middle_of_their_overlap():
    class Counter:
        calls = 0

        def predict(self, batch, verbose):
            self.calls += 1
            return np.full(batch.shape, self.calls, np.float32)

    result = inference.predict_per_tile(Counter(), np.zeros((48 + 64, 48 + 64, 3), np.uint8), tile=64, overlap=16)
    assert (result[:56, :56] == 1).all() and (result[:56, 56:] == 2).all()
    assert (result[56:, :56] == 3).all() and (result[56:, 56:] == 4).all()


def test_only_the_prediction_is_timed(monkeypatch):
    now = iter([100.0, 103.5])
    monkeypatch.setattr(inference, "prepare", lambda way, size: (lambda image: image + 1, np.zeros(size)))
    seconds, output = inference.run("any", 2, clock=lambda: next(now))
    assert seconds == 3.5 and output.tolist() == [1, 1]


@pytest.fixture
def measured(capsys):
    """Fake ways: (order of the calls, what `interleave` returns)."""
    calls = []

    def fake(way, times, value):
        times = iter(times)

        def call():
            calls.append(way)
            return next(times), np.full((1000, 1000), value, np.float32)

        return call

    # The first time is the warm-up's, far too long.
    ways = {
        inference.OURS: fake(inference.OURS, [99, 2, 9, 1], 0.5),
        inference.WHOLE: fake(inference.WHOLE, [99, 1, 1, 1], 0.5),
        "other": fake("other", [99, 5, 4, 3], 0.25),
    }
    return calls, timing.interleave(ways, 3)


def test_ways_take_turns_after_a_warm_up(measured):
    calls, (seconds, _) = measured
    assert calls == [inference.OURS, inference.WHOLE, "other"] * 4
    assert seconds == {inference.OURS: [2, 9, 1], inference.WHOLE: [1, 1, 1], "other": [5, 4, 3]}


def test_results_are_medians_and_ratios_to_ours(measured, tmp_path):
    ours, whole, other = inference.summarize(*measured[1])
    assert [row["seconds"] for row in (ours, whole, other)] == [2, 1, 4]
    assert [row["megapixels_per_second"] for row in (ours, whole, other)] == [0.5, 1, 0.25]
    assert [row["ours_is_faster_by"] for row in (ours, whole, other)] == [1, 0.5, 2]
    assert [row["max_difference"] for row in (ours, whole, other)] == [0, 0, 0.25]
    assert inference.table_row(other) == {
        "way": "other",
        "seconds": "4.00",
        "Mpx/s": "0.25",
        "ours is": "2.00 x as fast",
        "max difference": "2.5e-01",
    }
    json.dumps([ours, whole, other])


def test_missing_peers_are_one_line_and_exit_code_1(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(timing.importlib.util, "find_spec", lambda name: None)
    assert command_line.main(["inference", "--out", str(tmp_path / "out.json")]) == 1
    assert capsys.readouterr().err == (
        'error: torch: is not installed. Install the benchmark\'s packages: pip install -e ".[bench]".\n'
    )
    assert not list(tmp_path.iterdir())


def test_without_a_name_the_benchmarks_are_listed(capsys):
    assert command_line.main([]) == 0
    listing = capsys.readouterr().out
    assert "inference" in listing and "memory" in listing


def test_memory_benchmark(monkeypatch, tmp_path, capsys):
    """All of it but streaming and the process for it."""
    seen = []

    def stream(model_path, image, out):
        assert model_path.is_file()
        with tifffile.TiffFile(image) as file:
            assert file.is_bigtiff and file.pages[0].is_tiled and file.pages[0].compression == 1
            seen.append(file.asarray())
        out.touch()
        return {"model_mib": 300.0, "added_mib": 100.0 + len(seen), "seconds": 2.0}

    monkeypatch.setattr(memory, "stream", stream)
    monkeypatch.setattr(memory, "MODEL", ("unet", {"base_filters": 1, "levels": 2}))
    monkeypatch.setattr(memory, "ProcessPoolExecutor", lambda count, context: ThreadPoolExecutor(count))
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    arguments = ["--rows", "100", "1100", "--columns", "600", "--square", "40", "--out", str(tmp_path / "out.json")]
    assert command_line.main(["memory", *arguments]) == 0
    assert [image.shape for image in seen] == [(100, 600, 3), (1100, 600, 3), (40, 40, 3)]
    assert all(image.std() > 30 for image in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["results"][1]["megapixels_per_second"] == pytest.approx(0.33)
    assert content["spread_percent"] == pytest.approx(100 / 101)  # The square image does not count.
    output = capsys.readouterr().out
    assert "1100 x 600      1    2.0      0.33   300       102" in output
    assert "Added memory differs by 1.0 % between 2 heights" in output


def test_memory_benchmark_of_a_compressed_image_and_a_tiny_network(tmp_path):
    memory.write_texture(tmp_path / "image.tif", 700, 600, "jpeg")
    with tifffile.TiffFile(tmp_path / "image.tif") as file:
        assert file.pages.first.compression == 7 and file.pages.first.shape == (700, 600, 3)
    assert models.build_model(*memory.TINY).count_params() < 10_000


def test_cluster_benchmark_of_memory(monkeypatch, tmp_path, capsys):
    out, taken = tmp_path / "cluster.json", iter([300, 330])
    monkeypatch.setattr(cluster.cluster, "connect", lambda address: contextlib.nullcontext(None))
    monkeypatch.setattr(cluster, "memory_of", lambda client: next(taken))
    assert command_line.main(["cluster", "--heights", "512", "1024", "--size", "512", "--out", str(out)]) == 0
    assert "memory differs by 10.0 % in workers" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert [row["rows"] for row in result["results"]] == [512, 1024]
    assert result["spread_percent"]["worker_mib"] == pytest.approx(10)


def test_cluster_benchmark(monkeypatch, tmp_path, capsys):
    """All of it but the workers, which here are none."""
    monkeypatch.setattr(cluster, "MODEL", ("unet", {"base_filters": 1, "levels": 2}))
    monkeypatch.setattr(cluster.cluster, "connect", lambda address: contextlib.nullcontext(None))
    monkeypatch.setattr(cluster, "memory_of", lambda client: 400)
    seconds = iter([9, 8.0, 9, 5.0, 9, 8.0, 9, 4.0, 9, 8.0, 9, 4.5])  # One and two workers in turns, each warmed up.
    own = cluster.timed
    monkeypatch.setattr(cluster, "timed", lambda *rest: own(*rest) and next(seconds))
    out = tmp_path / "out.json"
    assert command_line.main(["cluster", "--size", "512", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert content["efficiency"] == pytest.approx(8 / (2 * 4.5)) and content["same_bytes"] is True
    assert "efficiency of 2 workers: 0.889; same bytes: True" in capsys.readouterr().out


def test_too_little_space_is_told_before_anything_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    assert command_line.main(["memory", "--rows", "100000000", "--columns", "100000000"]) == 1
    assert "has too little space. Set TMPDIR to a folder on a larger disk" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_streaming_is_measured_on_top_of_the_model(tmp_path):
    models.build_model("unet", {"base_filters": 4, "levels": 2}).save(tmp_path / "model.keras")
    memory.write_texture(tmp_path / "image.tif", 70, 600)
    results = memory.stream(tmp_path / "model.keras", tmp_path / "image.tif", tmp_path / "mask.tif")
    assert results["model_mib"] > 50 and results["added_mib"] >= 0 and results["seconds"] > 0
    assert tifffile.imread(tmp_path / "mask.tif").shape == (70, 600)
    json.dumps(results)


def test_augmentation_benchmark(monkeypatch, tmp_path, capsys):
    """All of it but the peer."""
    monkeypatch.setattr(augmentation, "require", lambda *names: None)
    monkeypatch.setattr(augmentation, "versions", lambda *names: {})
    monkeypatch.setattr(augmentation, "albumentations", lambda: lambda image, mask, index: (image, mask))
    out = tmp_path / "out.json"
    assert command_line.main(["augmentation", "--size", "64", "--samples", "3", "--out", str(out)]) == 0
    ours, other = json.loads(out.read_text())["results"]
    assert ours["way"] == "ours" and ours["ours_is_faster_by"] == 1
    assert other["samples_per_second"] * other["ours_is_faster_by"] == pytest.approx(ours["samples_per_second"])
    assert "x as fast" in capsys.readouterr().out


def test_the_augmentation_benchmark_uses_every_geometric_transform(rng):
    image, mask = rng.integers(0, 256, (64, 64, 3), np.uint8), rng.random((64, 64)) < 0.5
    changed, _ = augmentation.ours(image, mask, 0)
    for name in augmentation.GEOMETRIC:
        fewer = dataclasses.replace(augmentation.SETTINGS, **{name: 0.0})
        assert not np.array_equal(augment(image, mask, fewer, 0, 0, 0)[0], changed), name


@pytest.mark.parametrize(("ways", "options"), [("WAYS", []), ("GPU_WAYS", ["--gpu"])])
def test_training_benchmark(monkeypatch, tmp_path, capsys, ways, options):
    """All of it but the peers and the processes."""
    monkeypatch.setattr(training, "require", lambda *names: None)
    monkeypatch.setattr(training, "versions", lambda *names: {})
    monkeypatch.setattr(training, "NETWORKS", {"course": ({"base_filters": 2, "levels": 2}, 2, 16)})
    monkeypatch.setattr(training, ways, {"ours": "jax", "again": "jax"})
    monkeypatch.setattr(timing, "ProcessPoolExecutor", lambda count, context: ThreadPoolExecutor(count))
    out = tmp_path / "out.json"
    assert command_line.main(["training", "--networks", "course", "--steps", "2", "--out", str(out), *options]) == 0
    ours, again = json.loads(out.read_text())["results"]
    assert ours["ours_takes"] == 1 and len(ours["rounds"]) == 5 and ours["seconds_per_step"] > 0
    assert again["ours_takes"] == pytest.approx(ours["seconds_per_step"] / again["seconds_per_step"])
    # The same seed: the same steps, to below what the 0.02 scores with which the network begins, half being foreground.
    assert again["loss"] == ours["loss"] < 1.46
    assert "x as long" in capsys.readouterr().out


def test_accuracy_benchmark(data_folder, tmp_path, capsys, monkeypatch):
    """Two short trainings; called again, it only scores."""
    preset = tmp_path / "tiny.yaml"
    preset.write_text(
        "tiles: {tile_size: 64, empty: drop}\n"
        "model_settings: {unet: {base_filters: 2, levels: 2}}\n"
        "training: {epochs: 2, steps_per_epoch: 2, validation_steps: 1, batch_size: 2}\n"
        "prediction: {tile_size: 64}\n"
        "threshold: 0.02\n"
    )
    out = tmp_path / "out.json"
    command = ["accuracy", str(data_folder), "--preset", str(preset), "--seeds", "1", "2", "--out", str(out)]
    assert command_line.main([*command, "--every", "1"]) == 0
    content = json.loads(out.read_text())
    first, second = content["results"]
    assert first["seed"] == 1 and len(first["curve"]) == 2
    assert 0 < first["curve"][0]["minutes"] < first["curve"][1]["minutes"]
    assert first["dice"]["per_image"] != second["dice"]["per_image"]
    # The model that training chose is one of those that were scored.
    assert any(first["dice"]["mean"] == pytest.approx(point["dice"]) for point in first["curve"])
    assert "mean of 2 trainings" in capsys.readouterr().out

    monkeypatch.setattr(keras.Model, "fit", None)
    assert command_line.main(command) == 0
    again = json.loads(out.read_text())["results"]
    assert [result["dice"] for result in again] == [first["dice"], second["dice"]]
    assert [result["curve"] for result in again] == [first["curve"][1:], second["curve"][1:]]  # Always the last one.


def test_minutes_until_a_score_was_reached():
    curve = [{"minutes": 1, "dice": 0.5}, {"minutes": 2, "dice": 0.8}, {"minutes": 3, "dice": 0.7}]
    assert [accuracy.minutes_until(dice, curve) for dice in (0.4, 0.6, 0.9)] == ["1.0", "2.0", "never"]


def test_matching_benchmark(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert command_line.main(["matching", "--size", "500", "--count", "90", "--out", str(out)]) == 0
    whole, competition = json.loads(out.read_text())["results"]
    assert whole["fp"] == 0 and 70 < whole["tp"] < 80 < whole["tp"] + whole["fn"] < 90  # Some are at the border.
    assert (competition["way"], competition["tp"], competition["fp"]) == ("competition", whole["tp"], 1)
    assert whole["seconds"] > 0 and whole["peak_mib"] > whole["added_mib"] and "added_mib" in capsys.readouterr().out
