"""From maps to instances: what each method divides, and that no cut of the image changes it."""

import numpy as np
import pytest

from tiledseg_utils import instances, models, synthetic
from tiledseg_utils.files import UserError
from tiledseg_utils.inference import predict_file, predict_tiled
from tiledseg_utils.instance_training import instance_targets
from tiledseg_utils.masks import read_labels
from tiledseg_utils.matching import match_instances
from tiledseg_utils.pictures import write_image


def discs(*circles, shape=(64, 96)):
    """Labels (H, W) int32 of circles (row, column, radius); later ones lie on top."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(circles, start=1):
        labels[np.hypot(y - row, x - column) <= radius] = number
    return labels


@pytest.fixture(scope="module")
def crowd():
    """Labels of a smear whose cells touch, and the maps of a network that makes no mistake."""
    labels = synthetic.draw_smear(5, 2, 512, touching=0.8)[1]
    return labels, instance_targets(labels)


TOUCHING = discs((32, 30, 16), (32, 60, 15))


@pytest.mark.parametrize(("method", "count"), [("components", 1), ("watershed", 2), ("boundary", 2), ("flow", 2)])
def test_touching_nuclei_are_divided_where_their_border_is(method, count):
    labels = instances.label_image(instance_targets(TOUCHING), method)
    assert labels.max() == count and labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, TOUCHING > 0)  # every pixel of the foreground belongs to a nucleus
    if count == 2:
        assert match_instances(labels, TOUCHING, 0.9).tp == 2


@pytest.mark.parametrize("method", instances.METHODS)
def test_an_oval_and_its_rough_outline_stay_one_nucleus(method):
    y, x = np.mgrid[:64, :96]
    wave = 1 + 0.04 * np.cos(11 * np.arctan2(y - 32, x - 48))
    oval = (np.hypot((y - 32) / 18, (x - 48) / 26) <= wave).astype(np.int32)
    assert instances.label_image(instance_targets(oval), method).max() == 1


@pytest.mark.parametrize("method", instances.METHODS)
def test_small_components_are_dropped_and_small_parts_joined(method):
    speck = discs((10, 10, 2), (40, 50, 14))
    assert instances.label_image(instance_targets(speck), method, min_area=16).max() == 1
    assert instances.label_image(instance_targets(speck), method, min_area=1).max() == 2
    beside = discs((32, 40, 16), (32, 57, 4))  # a small one on the rim of a large one
    labels = instances.label_image(instance_targets(beside), method, min_area=200)
    assert labels.max() == 1 and np.count_nonzero(labels) == np.count_nonzero(beside)


@pytest.mark.parametrize("method", ["watershed", "boundary", "flow"])
def test_perfect_maps_of_a_crowded_smear_give_its_cells(method, crowd):
    reference, maps = crowd
    components = instances.label_image(maps, "components").max()
    assert components < 0.7 * reference.max()
    assert match_instances(instances.label_image(maps, method), reference, ignore_border=0).f1 > 0.95


@pytest.mark.parametrize("method", instances.METHODS)
@pytest.mark.parametrize("step", [1, 7, 100, 511])
def test_labels_do_not_depend_on_how_the_rows_arrive(method, step, crowd):
    maps = crowd[1][:200, :300] if step == 1 else crowd[1]
    buffer = np.empty((step, *maps.shape[1:]), np.float32)  # used again for every band, as tiled prediction does

    def bands():
        for start in range(0, len(maps), step):
            rows = maps[start : start + step]
            buffer[: len(rows)] = rows
            yield start, buffer[: len(rows)]

    parts = list(instances.label_rows(bands(), method))
    assert [start for start, _ in parts] == np.cumsum([0] + [len(rows) for _, rows in parts[:-1]]).tolist()
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in parts]), instances.label_image(maps, method))


def test_rows_are_let_go_as_soon_as_no_component_in_them_can_grow():
    labels = np.zeros((1000, 64), np.float32)
    for top in range(10, 1000, 50):
        labels[top : top + 30, 10:50] = 1
    taken, waiting = 0, []
    bands = ((start, labels[start : start + 20]) for start in range(0, 1000, 20))

    def counted():
        nonlocal taken
        for start, band in bands:
            taken = start + len(band)
            yield start, band

    for start, rows in instances.label_rows(counted(), "components"):
        waiting.append(taken - (start + len(rows)))
    assert max(waiting) <= 70  # one object and two bands, of 1000 rows


def test_numbers_go_by_where_components_end():
    labels = instances.label_image(
        (discs((40, 20, 12), (20, 70, 15), (45, 75, 7)) > 0).astype(np.float32), "components"
    )
    assert (labels[20, 70], labels[40, 20], labels[45, 75]) == (1, 2, 3)


@pytest.fixture(scope="module")
def network():
    return models.instance_unet(base_filters=4, levels=3, normalization="batch", seed=3)


def test_the_number_of_nuclei_does_not_depend_on_the_tile_size(network):
    image = synthetic.draw_smear(5, 2, 256)[0]
    maps = predict_tiled(network, image)
    values = np.sort(maps[..., 0].ravel())
    upper = slice(int(0.9 * len(values)), int(0.99 * len(values)))  # of this untrained network
    gap = upper.start + int(np.argmax(np.diff(values[upper])))
    threshold = float(values[gap] + values[gap + 1]) / 2  # which no pixel meets by a hair
    for method in instances.METHODS:
        expected = instances.label_image(maps, method, threshold)
        assert expected.max() > 5
        for size in (64, 96, 160) if method != "flow" else (96,):
            labels = instances.label_image(predict_tiled(network, image, tile_size=size), method, threshold)
            assert labels.max() == expected.max()


def test_a_file_larger_than_memory_gives_the_labels_of_the_array(tmp_path, crowd):
    probability = crowd[1][..., 0] * np.float32(0.9)
    np.save(tmp_path / "probability.npy", probability)
    for name in ("labels.tif", "labels.npy"):
        assert instances.label_file(tmp_path / "probability.npy", tmp_path / name) == crowd[0].max()
    expected = instances.label_image(probability)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)
    with pytest.raises(UserError, match="exists already"):
        instances.label_file(tmp_path / "probability.npy", tmp_path / "labels.tif")


def test_more_than_65535_nuclei_are_counted(tmp_path):
    nucleus = np.pad(np.ones((3, 3), np.float32), 1)
    np.save(tmp_path / "probability.npy", np.tile(nucleus, (256, 260)))
    count = instances.label_file(tmp_path / "probability.npy", tmp_path / "labels.tif", method="components", min_area=9)
    assert count == 256 * 260 > 65535
    assert read_labels(tmp_path / "labels.tif").max() == count


def test_wrong_maps_and_methods_are_told(tmp_path):
    maps = np.zeros((32, 32), np.float32)
    with pytest.raises(UserError, match="needs 6 maps, and there are 1"):
        instances.label_image(maps, "flow")
    with pytest.raises(UserError, match="wathershed"):
        instances.label_image(maps, "wathershed")
    np.save(tmp_path / "mask.npy", np.zeros((32, 32), np.uint8))
    with pytest.raises(UserError, match="holds whole numbers"):
        instances.label_file(tmp_path / "mask.npy", tmp_path / "labels.tif")


def test_walkers_follow_the_field_and_stay_at_the_centre():
    flow = np.zeros((40, 50, 2), np.float32)
    flow[..., 1] = 0.25
    ends = instances.follow_flow(flow, steps=8)
    np.testing.assert_allclose(ends[10, 5], (10, 7), atol=1e-4)
    y, x = np.mgrid[:40, :50].astype(np.float32)
    away = np.stack([20 - y, 24 - x], -1)
    ends = instances.follow_flow(away / np.maximum(np.hypot(*np.moveaxis(away, -1, 0)), 1)[..., None])
    assert np.abs(ends - (20, 24)).max() < 1


def test_an_image_without_nuclei(tmp_path):
    for method in instances.METHODS:
        assert not instances.label_image(np.zeros((40, 40, 6), np.float32), method).any()


def test_predicted_and_labelled_in_bands(tmp_path):
    """The ways of a user's image: probability streamed to a file and nuclei from it, or both at once."""
    network = models.build_model("unet", {"base_filters": 4, "levels": 3})
    image = synthetic.draw_smear(5, 2, 256)[0]
    write_image(tmp_path / "image.png", image)
    predict_file(network, tmp_path / "image.png", tmp_path / "p.tif", tile_size=96)
    settings = {
        "method": "components",
        "min_area": 1,
        "threshold": float(np.quantile(predict_tiled(network, image), 0.9)),
    }
    count = instances.label_file(tmp_path / "p.tif", tmp_path / "labels.tif", **settings)
    assert count == read_labels(tmp_path / "labels.tif").max() > 5
    assert count == instances.label_file(
        tmp_path / "image.png", tmp_path / "at_once.tif", network, **settings, tile_size=96
    )
    np.testing.assert_array_equal(read_labels(tmp_path / "at_once.tif"), read_labels(tmp_path / "labels.tif"))
