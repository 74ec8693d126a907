"""A table of nuclei: the numbers of regionprops, whatever the cut."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.measure import label, regionprops_table

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.masks import to_labels
from tiledseg_utils.scoring.measure import Measurement, measure

NAMES = {"label": "label", "centroid-0": "centroid_row", "centroid-1": "centroid_column", "area": "area"}
NAMES |= {f"bbox-{number}": name for number, name in enumerate(["min_row", "min_column", "max_row", "max_column"])}
NAMES |= {"axis_major_length": "major_axis", "axis_minor_length": "minor_axis", "perimeter": "perimeter"}
NAMES |= {"eccentricity": "eccentricity", "solidity": "solidity"}
NAMES |= {f"intensity_{k}-{n}": f"{k}_{c}" for k in ("mean", "min", "max", "std") for n, c in enumerate("rgb")}
COLOURS = {"r": "red", "g": "green", "b": "blue"}


def scene(seed, size, share, roughness):
    """Labels (H, W) int32 of blobs, some cut in two by a straight line, and an image (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.random(size), roughness)
    labels = label(field > np.quantile(field, 1 - share), connectivity=2)
    labels += 1000 * (labels > 0) * (np.arange(size[1]) // 9 % 2)
    labels[0, 0], labels[-1, -1] = 5000, 6000
    return labels.astype(np.int32), rng.integers(0, 256, (*size, 3)).astype(np.uint8)


def check_against_regionprops(labels, image):
    table = measure(labels, image)
    properties = sorted({name.split("-")[0] for name in NAMES})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = regionprops_table(labels, image, properties=properties)
    for theirs, ours in NAMES.items():
        kind, _, channel = ours.partition("_")
        ours = f"{kind}_{COLOURS[channel]}" if channel in COLOURS else ours
        np.testing.assert_allclose(table[ours], expected[theirs], rtol=1e-6, atol=1e-6, err_msg=ours)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    share=st.floats(0.05, 0.95),
    roughness=st.sampled_from([0.1, 1, 2, 4]),
)
def test_numbers_are_those_of_regionprops_and_no_cut_changes_a_bit(seed, size, share, roughness):
    labels, image = scene(seed, size, share, roughness)
    check_against_regionprops(labels, image)
    rng = np.random.default_rng(seed)
    probability = rng.random(size).astype(np.float32)
    measurement, row = Measurement(size), 0
    while row < size[0]:
        stop = row + int(rng.integers(1, 9))
        measurement.add(labels[row:stop], image[row:stop], probability[row:stop])
        row = stop
    assert measurement.table().equals(measure(labels, image, probability))


@pytest.mark.parametrize(
    "shape",
    [
        ["1"],
        ["1111111"],
        ["100", "010", "001"],
        ["11111", "10001", "10001", "11111"],
        ["1110", "1010", "1101", "0111"],  # a hole that is open at a corner
        ["111000111", "101000101", "111000111"],  # one label in two pieces
    ],
)
def test_shapes_at_the_edge_of_definitions(shape):
    labels = np.pad([[int(sign) for sign in row] for row in shape], ((2, 3), (1, 0))).astype(np.uint16)
    labels[-1, 0] = 7  # a second label, so that two pieces are no mask
    check_against_regionprops(labels, np.zeros((*labels.shape, 3), np.uint8))


def test_a_square_in_micrometres():
    labels = np.zeros((20, 30), np.uint8)
    labels[4:10, 0:6] = 9
    probability = np.where(labels > 0, np.float32(0.75), 0)
    (row,) = measure(labels, labels[..., None], probability, pixel_size=0.5).to_dict("records")
    assert (row["label"], row["area"], row["area_um2"], row["solidity"]) == (9, 36, 9.0, 1.0)
    assert (row["centroid_row"], row["centroid_column_um"]) == (6.5, 1.25)
    assert (row["mean_probability"], row["max_grey"], row["std_grey"]) == (0.75, 9, 0)
    assert row["touches_border"] and row["perimeter"] == 20 and row["perimeter_um"] == 10


def test_numbers_wider_than_eight_bits_are_not_scaled():
    labels = np.ones((2, 4), np.int32)
    image = np.array([[1000, 1001, 1002, 60000]] * 2, np.uint16)
    (row,) = measure(labels, image).to_dict("records")
    assert (row["min_grey"], row["max_grey"]) == (1000, 60000)
    assert row["mean_grey"] == image.mean() and row["std_grey"] == pytest.approx(image.std(), rel=1e-12)


def test_no_nuclei_make_an_empty_table_with_all_columns():
    nothing = np.zeros((5, 6), np.int32)
    table = measure(nothing, nothing.astype(np.uint8), nothing.astype(np.float32), 0.5)
    assert len(table) == 0 and {"label", "area_um2", "std_grey", "mean_probability"} <= set(table)


MASK = np.zeros((9, 9), np.uint8)
MASK[1:3, 1:3] = MASK[5:8, 5:8] = 255


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (MASK > 0, "a mask of true and false"),
        (MASK, "one value in 2 pieces"),
        (MASK.astype(np.float32), "float32 of shape (9, 9)"),
        (-MASK.astype(np.int32), "from -255 to 0"),
        (MASK.astype(np.int64) << 30, "from 0 to 273804165120"),
        (MASK[..., None], "(9, 9, 1)"),
    ],
)
def test_what_are_no_labels_is_refused_with_the_way_to_labels(labels, words):
    with pytest.raises(UserError) as caught:
        measure(labels)
    assert words in str(caught.value)
    if "mask" in str(caught.value):
        assert "data.masks.to_labels" in caught.value.remedy
        assert len(measure(to_labels(MASK > 0))) == 2


def test_a_spiral_is_one_piece():
    spiral = np.zeros((7, 7), np.int32)
    spiral[0], spiral[:, 6], spiral[6], spiral[2:, 0], spiral[2, :4] = 1, 1, 1, 1, 1
    spiral[2, 4], spiral[3, 4] = 0, 1  # hangs on by a corner
    assert measure(spiral)["area"].tolist() == [np.count_nonzero(spiral)]


def test_rows_that_do_not_fit_are_refused():
    measurement = Measurement((4, 5))
    with pytest.raises(ValueError, match="do not fit"):
        measurement.add(np.zeros((2, 6), np.int32))
    with pytest.raises(ValueError, match="do not fit"):
        measurement.add(np.zeros((2, 5), np.int32), np.zeros((3, 5), np.uint8))
    measurement.add(np.zeros((3, 5), np.int32))
    with pytest.raises(ValueError, match="3 of 4 rows"):
        measurement.table()
