"""Tissue is found by its colour, and tiles without any are neither read nor predicted."""

import numpy as np
import pytest
import tifffile

from tiledseg_utils import models
from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.streaming import Source, open_source
from tiledseg_utils.prediction import inference, tissue

HOW = {"mode": "exact", "tile_size": 64, "threshold": 0.5}


def slide(rng, height=600, width=900):
    """Grey glass with noise, and two violet pieces of tissue."""
    image = rng.normal(225, 3, (height, width, 1)).repeat(3, -1)
    for top, left in ((40, 60), (400, 700)):
        image[top : top + 120, left : left + 150] = rng.normal((150, 90, 170), 12, (120, 150, 3))
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    return models.unet(base_filters=4, levels=2, seed=3)


def test_tissue_is_what_has_a_colour(rng):
    mask = tissue.tissue_mask(open_source(slide(rng)))
    assert mask.shape == (600, 900)
    assert mask[40:160, 60:210].all() and mask[400:520, 700:850].all()
    assert mask.sum() == 2 * (120 + 4) * (150 + 4)  # two pixels around each


def test_an_image_full_of_tissue_is_kept_and_one_without_is_refused(rng):
    full = slide(rng)[40:160, 60:210]
    assert tissue.tissue_mask(open_source(full)).all()
    glass = slide(rng)[200:390, :500]
    with pytest.raises(UserError, match=r"image: shows no tissue: nothing in it has a colour\. Leave out --tissue"):
        tissue.tissue_mask(open_source(glass))


def test_the_mask_is_made_from_a_small_level(tmp_path, rng, monkeypatch):
    full = slide(rng).repeat(4, 0).repeat(4, 1)
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, step in enumerate((1, 2, 4, 16)):
            options = {"tile": (128, 128), "photometric": "rgb", "metadata": None, "subfiletype": int(number > 0)}
            tiff.write(np.ascontiguousarray(full[::step, ::step]), **options)
    read = []
    own = Source.read_rows
    monkeypatch.setattr(Source, "read_rows", lambda self, *rows: read.append(self.shape) or own(self, *rows))
    with open_source(path) as source:
        mask = tissue.tissue_mask(source)
    assert set(read) == {(1200, 1800)}  # 900 and 225 pixels are too few, 3600 more than needed
    assert mask.shape == (683, 1024)
    assert 0.06 < mask.mean() < 0.08


def test_tiles_without_tissue_are_skipped_and_the_others_are_as_ever(tmp_path, rng, network):
    image = slide(rng)
    tifffile.imwrite(tmp_path / "slide.tif", image, photometric="rgb", tile=(64, 64))
    every = inference.predict_file(network, tmp_path / "slide.tif", tmp_path / "every.npy", **HOW)
    some = inference.predict_file(network, tmp_path / "slide.tif", tmp_path / "some.npy", **HOW, tissue=True)
    assert some["tiles"] == every["tiles"] and every["skipped"] == 0 and some["skipped"] > 0.7 * some["tiles"]
    mask, expected = np.load(tmp_path / "some.npy"), np.load(tmp_path / "every.npy")
    for place in (np.s_[40:160, 60:210], np.s_[400:520, 700:850]):
        np.testing.assert_array_equal(mask[place], expected[place])
    assert not mask[250:350].any()
    again = inference.predict_file(network, tmp_path / "slide.tif", tmp_path / "some.npy", **HOW, tissue=True)
    assert again["resumed_at_row"] == 600 and again["skipped"] == some["skipped"]


def test_rows_of_tiles_without_tissue_are_not_read(tmp_path, rng, network, monkeypatch):
    tifffile.imwrite(tmp_path / "slide.tif", slide(rng), photometric="rgb", tile=(64, 64))
    monkeypatch.setattr(tissue, "tissue_mask", None)
    with open_source(tmp_path / "slide.tif") as source:
        plan = inference.plan_prediction(network, source.shape, mode="exact", tile_size=64)
        empty = np.ones((len(plan.rows.origins), len(plan.columns.origins)), bool)
        empty[0, 3] = False
        rows = []
        own = Source.read_rows
        monkeypatch.setattr(Source, "read_rows", lambda self, *span: rows.append(span) or own(self, *span))
        maps = list(inference.predict_maps(network, source, plan, inference.PredictionSetting(), None, 0, empty))
    assert rows == [(0, 64)] and [index for index, found in enumerate(maps) if found is not None] == [3]
