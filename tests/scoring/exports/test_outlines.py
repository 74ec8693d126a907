"""Outlines of nuclei in the formats of other programs, drawn again and compared pixel by pixel."""

import itertools
import json
import zipfile

import cv2
import numpy as np
import pytest
import roifile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.measure import label, points_in_poly

from tests.data.test_streaming import assert_user_error
from tiledseg_utils.scoring.exports.geojson import write_geojson
from tiledseg_utils.scoring.exports.outlines import cut_out, trace_outlines
from tiledseg_utils.scoring.exports.pictures import draw_nuclei
from tiledseg_utils.scoring.exports.rois import LARGEST, write_rois
from tiledseg_utils.scoring.measure import measure


def fill(rings, shape):
    """Pixels (H, W) bool whose centre lies within an odd number of rings (V, 2) of (x, y)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([columns.ravel(), rows.ravel()], -1) + 0.5
    inside = np.zeros(len(centres), bool)
    for ring in rings:
        inside ^= points_in_poly(centres, np.asarray(ring, float))
    return inside.reshape(shape)


def check_valid(polygons):
    """Rings are simple, and holes lie within the ring around them, as RFC 7946 and its readers want it."""
    for polygon in polygons:
        for number, ring in enumerate(polygon):
            assert len(ring) >= 4 and len({tuple(corner) for corner in ring.tolist()}) == len(ring)
            x, y = ring.T.astype(float)
            area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
            assert area < 0 if number else area > 0
            outside = [cv2.pointPolygonTest(polygon[0].astype(np.float32), (a, b), False) < 0 for a, b in ring.tolist()]
            assert not any(outside)


SHAPES = {
    "one pixel": ["1"],
    "a hole": ["111", "101", "111"],
    "two holes that touch at a corner": ["1111", "1011", "1101", "1111"],
    "a hole open at a corner": ["1110", "1010", "1101", "0111"],
    "pixels that touch at corners": ["101", "010", "101"],
    "an island in a hole": ["11111", "10001", "10101", "10001", "11111"],
    "two pieces": ["1101", "1101"],
}


@pytest.mark.parametrize("name", SHAPES)
def test_outlines_of_special_shapes(name):
    mask = np.array([[sign == "1" for sign in row] for row in SHAPES[name]])
    polygons = trace_outlines(mask)
    check_valid(polygons)
    np.testing.assert_array_equal(fill(itertools.chain(*polygons), mask.shape), mask)
    expected = {"one pixel": [1], "a hole": [2], "two holes that touch at a corner": [3], "two pieces": [1, 1]}
    if name in expected:
        assert sorted(len(polygon) for polygon in polygons) == expected[name]
    if name == "an island in a hole":
        assert sorted(len(polygon) for polygon in polygons) == [1, 2]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 0.9), size=st.tuples(st.integers(1, 16), st.integers(1, 16))
)
def test_outlines_of_any_mask_are_valid_and_hold_its_pixels(seed, share, size):
    mask = np.random.default_rng(seed).random(size) < share
    polygons = trace_outlines(mask)
    check_valid(polygons)
    np.testing.assert_array_equal(fill(itertools.chain(*polygons), mask.shape), mask)


@pytest.fixture(scope="module")
def labels():
    """Labels (H, W) int32: nuclei over the border, with holes, of one pixel, and beside others."""
    field = gaussian_filter(np.random.default_rng(3).random((150, 130)), 3)
    labels = label(field > np.quantile(field, 0.5), connectivity=2)
    labels[labels > 0] += 500 * (np.arange(130) // 40)[np.nonzero(labels)[1]]
    labels[20:29, 50:59], labels[22:27, 52:57], labels[24, 54] = 7000, 0, 8000
    labels[0, 0] = labels[-1, -1] = 9000
    return labels.astype(np.int32)


@pytest.fixture(scope="module")
def table(labels):
    return measure(labels, pixel_size=0.25)


def test_geojson_is_valid_and_drawn_again_gives_the_labels(labels, table, tmp_path):
    write_geojson(tmp_path / "a.geojson", cut_out(lambda start, stop: labels[start:stop], table))
    content = json.loads((tmp_path / "a.geojson").read_text())
    assert set(content) == {"type", "features"} and content["type"] == "FeatureCollection"
    assert len(content["features"]) == len(table)
    drawn = np.zeros_like(labels)
    for feature in content["features"]:
        assert feature["type"] == "Feature" and feature["properties"]["objectType"] == "detection"
        geometry, number = feature["geometry"], int(feature["properties"]["name"])
        polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        assert geometry["type"] == ("MultiPolygon" if len(polygons) > 1 else "Polygon")
        rings = list(itertools.chain(*polygons))
        assert all(ring[0] == ring[-1] for ring in rings)
        drawn[fill(rings, labels.shape)] = number
        (row,) = table[table["label"] == number].to_dict("records")
        measurements = feature["properties"]["measurements"]
        assert measurements["area_um2"] == row["area"] / 16
        assert measurements["touches_border"] == row["touches_border"]
    np.testing.assert_array_equal(drawn, labels)  # IoU 1


def test_numbers_that_are_not_known_are_left_out(labels, table, tmp_path):
    unknown = table.assign(area_um2=np.nan, mean_probability=np.inf)
    write_geojson(tmp_path / "a.geojson", cut_out(lambda start, stop: labels[start:stop], unknown))
    content = json.loads((tmp_path / "a.geojson").read_text(), parse_constant=pytest.fail)
    assert not {"area_um2", "mean_probability"} & set(content["features"][0]["properties"]["measurements"])


def test_rois_are_read_back_and_give_the_labels(labels, table, tmp_path):
    for name in ("a.zip", "b.zip"):
        write_rois(tmp_path / name, cut_out(lambda start, stop: labels[start:stop], table), labels.shape)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    rois = roifile.roiread(tmp_path / "a.zip")
    assert len(rois) == len(table)
    drawn = np.zeros_like(labels)
    for roi in rois:
        rings = roi.coordinates(multi=True)
        drawn[fill(rings if isinstance(rings, list) else [rings], labels.shape)] = int(roi.name)
    np.testing.assert_array_equal(drawn, labels)
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist()[0].endswith(".roi")


def test_an_image_too_large_for_rois_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    assert_user_error(lambda: write_rois(path, [], (10, LARGEST + 1)), path, str(LARGEST), "--geojson")
    assert not path.exists()


def test_cutting_out_reads_few_rows_at_a_time(labels, table):
    tall = np.zeros((5000, 130), np.int32)
    tall[1000:1150], tall[4000:4150] = labels, np.where(labels, labels + 10_000, 0)
    spans = []

    def read(start, stop):
        spans.append(stop - start)
        return tall[start:stop]

    nuclei = list(cut_out(read, measure(tall)))
    assert len(nuclei) == 2 * len(table) and max(spans) <= 1024 + 150
    assert all(nucleus.mask.sum() == nucleus.row["area"] for nucleus in nuclei)


def test_an_overlay_shows_rims_and_numbers():
    labels = np.zeros((60, 60), np.int32)
    labels[10:50, 10:50], labels[2, 2] = 7, 1
    image = np.full((60, 60, 3), 100, np.uint8)
    picture = draw_nuclei(image, labels, measure(labels))
    assert (image == 100).all() and picture.shape == image.shape
    is_rim, is_number = (picture == (0, 158, 115)).all(-1), (picture == 255).all(-1)
    assert is_rim[2, 2] and is_rim[10, 10:50].all() and not is_rim[11:49, 11:49].any()
    rows, columns = np.nonzero(is_number)  # of the large one only, in its middle
    assert len(rows) and abs(rows.mean() - 29.5) < 3 and abs(columns.mean() - 29.5) < 3
