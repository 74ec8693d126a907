"""Workers of a cluster predict what a single process does, also if one of them dies."""

import os
import pickle
import signal
import threading
import time

import keras
import numpy as np
import pytest
import tifffile
from distributed import Client, Future, LocalCluster

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.pictures import read_image
from tiledseg_utils.models.inputs import remember_normalization
from tiledseg_utils.prediction import cluster as clusters
from tiledseg_utils.prediction import inference, instances

HOW = {"mode": "exact", "tile_size": 64, "batch_size": 2}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return models.unet(base_filters=4, levels=2, normalization="batch", seed=3)


@pytest.fixture
def image(tmp_path, rng):
    path = tmp_path / "image.tif"
    small = rng.integers(0, 256, (40, 30, 3), np.uint8)
    tifffile.imwrite(path, small.repeat(9, 0).repeat(7, 1), photometric="rgb", tile=(64, 64), resolution=(20000, 20000))
    return path


@pytest.fixture(scope="module")
def client():
    """Two workers in threads of this process, which start at once."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as local,
        Client(local) as own,
    ):
        yield own


@pytest.mark.parametrize("mode", ["exact", "blend"])
@pytest.mark.parametrize(
    "more", [{}, {"threshold": 0.5, "skip_contrast": 30}, {"test_time_augmentation": True}, {"tissue": True}]
)
def test_files_are_the_same_byte_for_byte(network, image, tmp_path, client, mode, more):
    how = {**HOW, "mode": mode, "overlap": 16, **more}
    alone = inference.predict_file(network, image, tmp_path / "alone.tif", **how)
    together = inference.predict_file(network, image, tmp_path / "together.tif", **how, cluster=client)
    assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / "together.tif").read_bytes()
    assert together["tiles"] == alone["tiles"] and together["skipped"] == alone["skipped"]


def test_labels_and_tables_are_the_same(network, image, tmp_path, client):
    counts, threshold = [], float(np.median(inference.predict_tiled(network, read_image(image), **HOW)))
    for name, cluster in (("alone", None), ("together", client)):
        out, table = tmp_path / f"{name}.tif", tmp_path / f"{name}.csv"
        counts.append(
            instances.label_file(image, out, network, table=table, cluster=cluster, threshold=threshold, **HOW)
        )
    assert counts[0] == counts[1] > 0
    for suffix in (".tif", ".csv"):
        assert (tmp_path / f"alone{suffix}").read_bytes() == (tmp_path / f"together{suffix}").read_bytes()


def test_what_is_measured_of_the_whole_image_goes_to_the_workers(network, rng, tmp_path, client):
    """16-bit numbers are scaled, and contrast is stretched, by all of the image, not by a worker's rows."""
    deep = (rng.random((200, 120)) * np.linspace(100, 9000, 200)[:, None]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    model = keras.models.clone_model(network)
    model.set_weights(network.get_weights())
    remember_normalization(model, "contrast")
    for name, cluster in (("alone", None), ("together", client)):
        inference.predict_file(model, tmp_path / "deep.tif", tmp_path / f"{name}.npy", **HOW, cluster=cluster)
    np.testing.assert_array_equal(np.load(tmp_path / "alone.npy"), np.load(tmp_path / "together.npy"))


def test_tasks_do_not_carry_the_plan(network, image, tmp_path, client, monkeypatch):
    """The scheduler keeps what comes with a task, often in the process that asks: it would grow with the image."""
    sizes, submit = [], client.submit

    def recorded(function, *arguments, **options):
        if function is clusters.predict_tiles:
            sizes.append(len(pickle.dumps([each.key if isinstance(each, Future) else each for each in arguments])))
        return submit(function, *arguments, **options)

    monkeypatch.setattr(client, "submit", recorded)
    inference.predict_file(network, image, tmp_path / "out.npy", **HOW, cluster=client)
    assert len(sizes) > 5 and max(sizes) < 500


def test_an_image_in_memory_is_refused(network, rng, tmp_path, client):
    pixels = rng.integers(0, 256, (80, 80, 3), np.uint8)
    with pytest.raises(UserError, match="is in memory, and workers read images from files"):
        inference.predict_file(network, pixels, tmp_path / "out.npy", **HOW, cluster=client)


def test_workers_that_see_another_image_or_version_are_told(network, image, tmp_path, client, monkeypatch):
    monkeypatch.setattr(clusters, "_facts", lambda source: {"thread": threading.get_ident()})
    with pytest.raises(UserError, match=r"image\.tif: is another file where a worker looks"):
        inference.predict_file(network, image, tmp_path / "out.npy", **HOW, cluster=client)
    monkeypatch.undo()
    job = clusters.Job("", image, {}, (), None, None, 0, None, version="0.0")
    with pytest.raises(UserError, match=r"has a worker with tiledseg .*, where 0\.0 asks"):
        clusters.predict_tiles(job, b"", range(1))


def test_a_damaged_tile_is_told_by_its_name(network, image, tmp_path, client):
    tifffile.imwrite(image, np.zeros((200, 150, 3), np.uint8), photometric="rgb", tile=(64, 64), compression="zlib")
    content = bytearray(image.read_bytes())
    with tifffile.TiffFile(image) as tiff:
        offset = tiff.pages.first.dataoffsets[4]
    content[offset : offset + 8] = bytes(8)
    image.write_bytes(content)
    with pytest.raises(UserError, match=r"image\.tif: is damaged: rows 64-127, columns 64-127"):
        inference.predict_file(network, image, tmp_path / "out.npy", **HOW, cluster=client)


@pytest.mark.parametrize(
    ("count", "across", "batch", "workers"), [(169, 13, 8, 2), (16, 4, 8, 2), (5000, 80, 8, 4), (3, 3, 1, 64)]
)
def test_tasks_are_whole_batches_and_enough_for_all_workers(count, across, batch, workers):
    parts = list(clusters._divide(range(count), across, batch, workers, map_size=768**2 // 4))
    assert [tile for part in parts for tile in part] == list(range(count))
    assert all(len(part) % batch == 0 for part in parts[:-1])
    assert len(parts) >= min(4 * workers, -(-count // batch))
    assert max(map(len, parts[-workers:])) <= batch  # So that all workers end together.
    assert max(map(len, parts)) <= max(across, clusters.BATCHES * batch) + batch


@pytest.mark.parametrize(("side", "largest"), [(1024, 16), (2048, 4), (8192, 1)])
def test_tasks_of_large_tiles_have_few_of_them(side, largest):
    parts = list(clusters._divide(range(500), 20, 1, 2, side**2))
    assert max(map(len, parts)) == largest and sum(map(len, parts)) == 500


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(UserError("a.tif", "is cut", "Copy it again")))
    assert (error.path, error.problem, error.remedy) == ("a.tif", "is cut", "Copy it again")
    assert str(error) == "a.tif: is cut. Copy it again."


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "missing.json", "nonsense://x"])
def test_a_scheduler_that_cannot_be_reached_is_told(address, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 0.5)
    with pytest.raises(UserError, match="is no scheduler that can be reached"), clusters.connect(address):
        pass


@pytest.mark.parametrize("address", ["local:0", "local:many", "local:5000"])
def test_a_wrong_number_of_workers_is_told(address):
    with pytest.raises(UserError, match="names no number of workers"), clusters.connect(address):
        pass


@pytest.mark.parametrize("deaths", [1, 2])
def test_workers_that_are_killed_are_replaced(network, image, tmp_path, deaths):
    """Their rows go to others, and the file is the same, also where no worker is left that the model was sent to."""
    inference.predict_file(network, image, tmp_path / "alone.tif", **HOW)
    with clusters.connect("local:2") as client:
        assert len(client.nthreads()) == 2 and set(client.nthreads().values()) == {1}
        pids, killed = client.run(os.getpid).values(), []

        def kill():
            for pid in list(pids)[:deaths]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                time.sleep(1)

        thread = threading.Timer(0.3, kill)
        thread.start()
        inference.predict_file(network, image, tmp_path / "together.tif", **HOW, cluster=client)
        thread.join()
    assert len(killed) == deaths
    assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / "together.tif").read_bytes()
