"""From maps to instances: what each method divides, and that no cut of the image changes it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label as label_pieces

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import synthetic
from tiledseg_utils.data.masks import read_labels
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.data.pixel_size import read_pixel_size
from tiledseg_utils.models import instance_targets as targets
from tiledseg_utils.models.instance_unet import CHANNELS, RAYS
from tiledseg_utils.prediction import dividing, instances
from tiledseg_utils.prediction.inference import predict_file, predict_tiled
from tiledseg_utils.scoring.matching import match_instances
from tiledseg_utils.scoring.measure import measure


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
    return labels, targets.instance_targets(labels, rays=True)


TOUCHING = discs((32, 30, 16), (32, 60, 15))


@pytest.mark.parametrize(
    ("method", "count"), [("components", 1), ("watershed", 2), ("boundary", 2), ("flow", 2), ("combined", 2)]
)
def test_touching_nuclei_are_divided_where_their_border_is(method, count):
    labels = instances.label_image(targets.instance_targets(TOUCHING, rays=True), method)
    assert labels.max() == count and labels.dtype == np.int32
    np.testing.assert_array_equal(labels > 0, TOUCHING > 0)  # every pixel of the foreground belongs to a nucleus
    if count == 2:
        assert match_instances(labels, TOUCHING, 0.9).tp == 2


@pytest.mark.parametrize("method", dividing.METHODS)
def test_an_oval_and_its_rough_outline_stay_one_nucleus(method):
    y, x = np.mgrid[:64, :96]
    wave = 1 + 0.04 * np.cos(11 * np.arctan2(y - 32, x - 48))
    oval = (np.hypot((y - 32) / 18, (x - 48) / 26) <= wave).astype(np.int32)
    assert instances.label_image(targets.instance_targets(oval, rays=True), method).max() == 1


@pytest.mark.parametrize("method", dividing.METHODS)
def test_small_components_are_dropped_and_small_parts_joined(method):
    speck = discs((10, 10, 2), (40, 50, 14))
    assert instances.label_image(targets.instance_targets(speck, rays=True), method, min_area=16).max() == 1
    assert instances.label_image(targets.instance_targets(speck, rays=True), method, min_area=1).max() == 2
    beside = discs((32, 40, 16), (32, 57, 4))  # a small one on the rim of a large one
    labels = instances.label_image(targets.instance_targets(beside, rays=True), method, min_area=200)
    assert labels.max() == 1 and np.count_nonzero(labels) == np.count_nonzero(beside)


def maps_of(mask, seed=0):
    """Maps whose foreground is `mask`, and whose interiors, boundaries, flows and rays are random."""
    maps = np.random.default_rng(seed).random((*mask.shape, CHANNELS + RAYS)).astype(np.float32)
    maps[..., 0] = mask
    maps[..., dividing.FLOW] = 2 * maps[..., dividing.FLOW] - 1
    return maps


def check_that_labels_fit(labels, mask, min_area):
    """Each component of at least `min_area` is filled with labels of its own, and each label is one piece."""
    components = label_pieces(mask, connectivity=2)
    areas = np.bincount(components.ravel())
    np.testing.assert_array_equal(labels > 0, mask & (areas >= min_area)[components])
    assert len(np.unique(labels[labels > 0])) == labels.max()
    assert label_pieces(labels, connectivity=2).max() == labels.max()  # as many pieces as labels
    owners = {(label, component) for label, component in zip(labels.ravel(), components.ravel(), strict=True) if label}
    assert len(owners) == labels.max()


@pytest.mark.parametrize("method", dividing.METHODS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.2, 0.4, 0.6, 0.9]),
    size=st.sampled_from([(1, 9), (12, 17), (31, 32)]),
    min_area=st.sampled_from([1, 2, 16]),
)
def test_every_pixel_of_a_component_gets_a_label_of_its_own_component(method, seed, share, size, min_area):
    mask = np.random.default_rng(seed).random(size) < share
    labels = instances.label_image(maps_of(mask, seed), method, min_area=min_area)
    check_that_labels_fit(labels, mask, min_area)


def test_a_nucleus_that_hangs_on_by_a_corner_is_flooded_over_it():
    """With floods over sides only, the part behind the corner got no label, or one from far away."""
    foreground = discs((20, 20, 12), (20, 41, 12)) > 0
    tail = np.zeros_like(foreground)
    tail[[32, 33, 34, 35], [41, 42, 43, 44]] = True  # the first is the disc's, the others hang on at corners
    mask = foreground | tail
    labels = instances.label_image(maps_of(mask), "watershed", min_area=1)
    check_that_labels_fit(labels, mask, 1)
    assert labels[35, 44] == labels[20, 41] != labels[20, 20]


def test_small_parts_join_a_neighbour_over_a_corner():
    mask = np.zeros((12, 30), bool)
    mask[1:6, 1:6] = mask[1:6, 12:28] = mask[3, 6:12] = True
    mask[6, 6] = mask[7, 7] = True  # hangs on the left square by a corner
    maps = np.zeros((*mask.shape, 6), np.float32)
    maps[..., 0] = mask
    maps[..., dividing.BOUNDARY] = 1
    interior = np.zeros_like(mask)
    interior[1:6, 1:6] = interior[1:6, 12:28] = True
    interior[7, 7] = True  # too small to be a nucleus
    maps[..., dividing.INTERIOR] = 2 * interior
    labels = instances.label_image(maps, "boundary", min_area=4)
    check_that_labels_fit(labels, mask, 4)
    assert labels.max() == 2
    assert labels[7, 7] == labels[6, 6] == labels[3, 3]


def test_of_a_label_in_two_pieces_the_largest_counts(monkeypatch):
    """As walkers may end at a sink that lies behind another one."""
    mask = np.ones((4, 30), bool)
    pieces = np.repeat([1, 2, 1], [14, 10, 6])[None].repeat(4, axis=0)
    monkeypatch.setitem(dividing.METHODS, "flow", lambda maps, mask: np.int32(pieces))
    labels = instances.label_image(maps_of(mask), "flow", min_area=1)
    np.testing.assert_array_equal(labels, np.repeat([1, 2], [14, 16])[None].repeat(4, axis=0))


def test_labels_are_the_same_in_every_process(crowd, tmp_path):
    """Repeatable to the byte, as cv2.distanceTransform was not."""
    np.save(tmp_path / "maps.npy", crowd[1][..., 0])
    script = (
        "import sys, hashlib, numpy as np; from tiledseg_utils.prediction.instances import label_image\n"
        "print(hashlib.sha256(label_image(np.load(sys.argv[1]))).hexdigest())\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "maps.npy")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running)


@pytest.mark.parametrize("method", ["watershed", "boundary", "flow", "combined"])
def test_perfect_maps_of_a_crowded_smear_give_its_cells(method, crowd):
    reference, maps = crowd
    components = instances.label_image(maps, "components").max()
    assert components < 0.7 * reference.max()
    assert match_instances(instances.label_image(maps, method), reference, ignore_border=0).f1 > 0.95


@pytest.mark.parametrize("method", dividing.METHODS)
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


def spoilt(crowd):
    """Maps of a smear in which the flow of every third cell leads away from its centre, and these cells' labels."""
    reference, maps = crowd
    wrong = [number for number in np.unique(reference)[1:] if number % 3 == 0]
    flow = dividing.FLOW
    maps = maps.copy()
    maps[..., flow] = np.where(np.isin(reference, wrong)[..., None], -maps[..., flow], maps[..., flow])
    return maps, wrong


def test_nuclei_whose_flow_is_not_their_own_are_dropped(crowd):
    reference, (maps, wrong) = crowd[0], spoilt(crowd)
    every = instances.label_image(maps, "boundary")
    kept = instances.label_image(maps, "boundary", flow_threshold=1.0)
    assert len(wrong) > 2 and every.max() == reference.max()
    assert kept.max() == reference.max() - len(wrong)
    assert sorted(np.unique(kept)) == list(range(kept.max() + 1))
    mostly = [np.bincount(reference[every == number]).argmax() for number in range(1, every.max() + 1)]
    dropped = [number for number, cell in enumerate(mostly, start=1) if cell in wrong]
    np.testing.assert_array_equal(kept > 0, (every > 0) & ~np.isin(every, dropped))
    np.testing.assert_array_equal(instances.label_image(maps, "boundary", flow_threshold=4), every)


@pytest.mark.parametrize("step", [1, 7, 100, 511])
def test_the_check_of_flows_does_not_depend_on_how_the_rows_arrive(step, crowd):
    maps = spoilt(crowd)[0][: 200 if step == 1 else 512]
    bands = ((start, maps[start : start + step]) for start in range(0, len(maps), step))
    parts = [rows for _, rows in instances.label_rows(bands, "boundary", flow_threshold=1.0)]
    expected = instances.label_image(maps, "boundary", flow_threshold=1.0)
    assert 0 < expected.max() < instances.label_image(maps, "boundary").max()
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_boundary_divides_nuclei_without_a_waist():
    block = np.zeros((40, 60), np.int32)
    block[10:30, 10:30], block[10:30, 30:50] = 1, 2
    maps = targets.instance_targets(block)
    assert instances.label_image(maps, "watershed").max() == 1
    assert match_instances(instances.label_image(maps, "boundary"), block, 0.9).tp == 2


def test_each_component_is_divided_by_the_method_that_suits_its_flow():
    """Two pairs without a waist: one whose border the classes do not show, and one with a second centre in its flow."""
    pairs = np.zeros((90, 60), np.int32)
    for number, top in ((1, 10), (3, 50)):
        pairs[top : top + 30, 10:30], pairs[top : top + 30, 30:50] = number, number + 1
    maps = targets.instance_targets(pairs, flow="heat")
    maps[:45, :, dividing.INTERIOR], maps[:45, :, dividing.BOUNDARY] = pairs[:45] > 0, 0
    maps[52:62, 12:22, dividing.FLOW] = targets.heat_flow_targets(np.ones((10, 10), np.int32))
    boundary, flow, combined = (instances.label_image(maps, name) for name in ("boundary", "flow", "combined"))
    assert boundary[:45].max() == 1 and match_instances(boundary[45:], pairs[45:], 0.9).tp == 2
    assert match_instances(flow[:45], pairs[:45], 0.9).tp == 2 and len(np.unique(flow[45:])) > 3
    assert match_instances(combined, pairs, 0.9).tp == combined.max() == 4


def test_two_nuclei_taken_for_one_are_told_by_their_flow():
    maps = targets.instance_targets(TOUCHING)
    both = (TOUCHING > 0).astype(np.int32)
    assert dividing.drop_wrong_flow(maps, TOUCHING, 0.4).max() == 2
    assert dividing.drop_wrong_flow(maps, both, 0.4).max() == 0
    assert dividing.drop_wrong_flow(maps, both, 4).max() == 1


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
    return models.instance_unet(base_filters=4, levels=3, normalization="batch", rays=True, seed=5)


def test_the_number_of_nuclei_does_not_depend_on_the_tile_size(network):
    image = synthetic.draw_smear(5, 2, 256)[0]
    maps = predict_tiled(network, image)
    values = np.sort(maps[..., 0].ravel())
    upper = slice(int(0.9 * len(values)), int(0.99 * len(values)))  # of this untrained network
    gap = upper.start + int(np.argmax(np.diff(values[upper])))
    threshold = float(values[gap] + values[gap + 1]) / 2  # which no pixel meets by a hair
    for method in dividing.METHODS:
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
    count = instances.label_file(tmp_path / "probability.npy", tmp_path / "labels.tif")
    assert count == crowd[0].max()  # It is done already.
    with pytest.raises(UserError, match="exists already"):
        instances.label_file(tmp_path / "probability.npy", tmp_path / "labels.tif", threshold=0.4)


def test_nuclei_are_measured_while_they_are_labelled(tmp_path, crowd, monkeypatch):
    """The table is that of the whole arrays, and is finished, replaced or refused with its labels."""
    probability = crowd[1][..., 0] * np.float32(0.9)
    tifffile.imwrite(tmp_path / "map.tif", probability, resolution=(40000, 40000), resolutionunit="CENTIMETER")
    monkeypatch.setattr(instances, "PIXELS_AT_A_TIME", 100 * 512)
    paths = tmp_path / "map.tif", tmp_path / "labels.tif"
    instances.label_file(*paths)
    count = instances.label_file(*paths, table=tmp_path / "nuclei.csv")  # The labels are there, their table is not.
    table = pd.read_csv(tmp_path / "nuclei.csv")
    labels = read_labels(tmp_path / "labels.tif")
    pd.testing.assert_frame_equal(
        table.drop(columns="file"), measure(labels, None, probability, 0.25), check_exact=True
    )
    assert len(table) == count and (table["file"] == "map.tif").all()
    before = (tmp_path / "labels.tif").stat().st_mtime_ns
    assert instances.label_file(*paths, table=tmp_path / "nuclei.csv") == count
    assert (tmp_path / "labels.tif").stat().st_mtime_ns == before
    (tmp_path / "nuclei.csv").write_text("mine")
    with pytest.raises(UserError, match=r"nuclei\.csv: exists already, and this command has not made it"):
        instances.label_file(*paths, table=tmp_path / "nuclei.csv")
    instances.label_file(*paths, table=tmp_path / "nuclei.csv", overwrite=True, pixel_size=0.5)
    table = pd.read_csv(tmp_path / "nuclei.csv")
    np.testing.assert_allclose(table["area_um2"], table["area"] / 4)
    assert read_pixel_size(tmp_path / "labels.tif") == 0.5


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
    with pytest.raises(UserError, match=r"flow_threshold 0.4: needs 6 maps, and there are 1"):
        instances.label_image(maps, "watershed", flow_threshold=0.4)
    with pytest.raises(UserError, match="flow_threshold"):
        instances.label_image(maps, "watershed", flow_threshold=-0.1)
    with pytest.raises(UserError, match="wathershed"):
        instances.label_image(maps, "wathershed")
    np.save(tmp_path / "mask.npy", np.zeros((32, 32), np.uint8))
    with pytest.raises(UserError, match="holds whole numbers"):
        instances.label_file(tmp_path / "mask.npy", tmp_path / "labels.tif")


def test_walkers_follow_the_field_and_stay_at_the_centre():
    flow = np.zeros((40, 50, 2), np.float32)
    flow[..., 1] = 0.25
    ends = dividing.follow_flow(flow, steps=8)
    np.testing.assert_allclose(ends[10, 5], (10, 7), atol=1e-4)
    y, x = np.mgrid[:40, :50].astype(np.float32)
    away = np.stack([20 - y, 24 - x], -1)
    ends = dividing.follow_flow(away / np.maximum(np.hypot(*np.moveaxis(away, -1, 0)), 1)[..., None])
    assert np.abs(ends - (20, 24)).max() < 1


def test_an_image_without_nuclei(tmp_path):
    for method in dividing.METHODS:
        assert not instances.label_image(np.zeros((40, 40, CHANNELS + RAYS), np.float32), method).any()


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
    labels = read_labels(tmp_path / "labels.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "at_once.tif"), labels)
    for size in (64, 96, 160, 256):
        labels_path, table_path = tmp_path / f"{size}.tif", tmp_path / f"{size}.csv"
        instances.label_file(tmp_path / "image.png", labels_path, network, **settings, table=table_path, tile_size=size)
        table = pd.read_csv(table_path).drop(columns=["file", "mean_probability"])
        pd.testing.assert_frame_equal(table, measure(labels, image), check_exact=True)
