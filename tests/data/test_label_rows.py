"""Large label images are read as runs, by the rules that small ones are read by as pixels."""

import cv2
import numpy as np
import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import label_rows
from tiledseg_utils.data.label_rows import LabelArray, LabelRuns, open_labels
from tiledseg_utils.data.masks import read_labels
from tiledseg_utils.prediction.zarr_writer import write_ome_zarr

from .test_images import save_tiff

HEIGHT, WIDTH = 230, 310


def nuclei():
    """12 x 12 discs with numbers, in no order; some of them touch, and one of them is cut by the border."""
    labels, numbers = np.zeros((HEIGHT, WIDTH), np.int32), np.random.default_rng(2).permutation(144) + 1
    for number, (row, column) in zip(numbers.tolist(), np.ndindex(12, 12), strict=True):
        cv2.circle(labels, (26 * column + 9, 20 * row + 10), 10, number, -1)
    return labels


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(label_rows, "LARGE", 1000)
    monkeypatch.setattr(label_rows, "BAND", 40 * WIDTH)


def split_nuclei():
    labels = nuclei()
    labels[:, 100:102] = 0  # Nuclei in two pieces, the larger of which keeps the number.
    labels[labels == 100] = 400
    return labels


@pytest.mark.parametrize("labels", [nuclei(), split_nuclei(), np.where(nuclei() < 4, nuclei(), 0)])
@pytest.mark.parametrize("layout", [{}, {"tile": (64, 64), "compression": "zlib"}])
def test_runs_are_the_labels_that_pixels_give(tmp_path, labels, layout):
    path = save_tiff(tmp_path / "labels.tif", labels, **layout)
    expected = read_labels(path)
    with open_labels(path) as found:
        assert isinstance(found, LabelRuns) and not found.is_mask and found.shape == labels.shape
        rows = [found.read(start, min(start + 17, HEIGHT)) for start in range(0, HEIGHT, 17)]
    assert all(each.dtype == np.int32 for each in rows)
    np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_an_ome_zarr_of_labels_is_read_as_runs(tmp_path):
    labels = nuclei()
    write_ome_zarr(
        tmp_path / "a.ome.zarr", lambda top, rows: labels[top : top + rows], labels.shape, labels.dtype, None, True
    )
    with open_labels(tmp_path / "a.ome.zarr") as found:
        assert isinstance(found, LabelRuns)
        np.testing.assert_array_equal(found.read(0, HEIGHT), labels)


def test_pieces_of_a_mask_are_numbered_across_bands(tmp_path):
    mask = (nuclei() > 0).astype(np.uint8) * 255
    path = save_tiff(tmp_path / "mask.tif", mask)
    expected = read_labels(path)
    with open_labels(path) as found:
        labels = found.read(0, HEIGHT)
        assert isinstance(found, LabelRuns) and found.is_mask and found.count == expected.max()
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == 1 + expected.max()  # The same pieces, in another order.


@pytest.mark.parametrize("value", [0, 7])
def test_one_value_everywhere(tmp_path, value):
    path = save_tiff(tmp_path / "constant.tif", np.full((HEIGHT, WIDTH), value, np.uint16))
    with open_labels(path) as found:
        assert found.is_mask and found.count == (value > 0)
        assert (found.read(3, 9) == (value > 0)).all()


def restarted():
    """Labels of tiles whose numbers begin anew in each: every band for itself looks right."""
    labels = nuclei()
    for top in range(0, HEIGHT, 40):
        band = labels[top : top + 40]
        band[band > 0] = np.unique(band, return_inverse=True)[1].reshape(band.shape)[band > 0]
    return labels


def classes():
    return np.where(nuclei() > 0, 1 + nuclei() % 3, 0)


def blurred():
    return cv2.GaussianBlur((nuclei() > 0).astype(np.uint8) * 255, (0, 0), 2)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (restarted(), "looks like classes"),
        (classes(), "looks like classes"),
        (blurred(), "has shades"),
        (np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH)), "has shades"),
        (nuclei() + 1, "has no background"),
        (np.where(nuclei() == 5, -5, nuclei()), "holds labels from -5"),
    ],
    ids=["restarted", "classes", "blurred", "noise", "no background", "negative"],
)
def test_what_are_no_labels_is_refused_as_in_small_files(tmp_path, labels, problem):
    path = save_tiff(tmp_path / "labels.tif", labels.astype(np.int32))
    for read in (read_labels, open_labels):
        with pytest.raises(UserError, match=r"labels\.tif") as caught:
            read(path)
        assert caught.value.problem.startswith(problem)


def test_small_files_and_other_kinds_are_read_as_pixels(tmp_path, monkeypatch):
    labels = nuclei()
    inverted = save_tiff(tmp_path / "b.tif", (labels == 0).astype(np.uint8) * 255, photometric="miniswhite")
    with open_labels(inverted) as found:
        assert isinstance(found, LabelArray) and found.is_mask and found.count == read_labels(inverted).max()
    monkeypatch.setattr(label_rows, "LARGE", HEIGHT * WIDTH)
    with open_labels(save_tiff(tmp_path / "a.tif", labels)) as found:
        assert isinstance(found, LabelArray) and not found.is_mask
        np.testing.assert_array_equal(found.read(10, 20), labels[10:20])
