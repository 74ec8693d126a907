import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiledseg_utils.base.files import UserError, read_csv
from tiledseg_utils.data import images, pictures
from tiledseg_utils.tiles import tiling

sizes = st.integers(1, 90)


@given(length=sizes, tile=sizes, data=st.data())
def test_origins_cover_every_pixel_and_stay_on_the_grid(length, tile, data):
    stride = data.draw(st.integers(1, tile))
    origins = tiling.tile_origins(length, tile, stride)
    assert (origins % stride == 0).all()
    covered = np.unique(np.concatenate([np.arange(origin, origin + tile) for origin in origins]))
    assert set(range(length)) <= set(covered)
    if len(origins) > 1:  # not one tile more than needed
        assert origins[-2] + tile < length


@pytest.mark.parametrize(("length", "tile", "stride"), [(0, 4, 4), (4, 0, 1), (4, 4, 0), (9, 4, 5)])
def test_origins_refuse_gaps_and_nonsense(length, tile, stride):
    with pytest.raises(ValueError, match="stride"):
        tiling.tile_origins(length, tile, stride)


@settings(max_examples=60, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(1, 40), data=st.data())
def test_splitting_then_stitching_gives_back_every_pixel(height, width, tile, data):
    stride = data.draw(st.integers(max(1, tile // 4), tile))
    channels = data.draw(st.sampled_from([(), (1,), (3,)]))
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, *channels)).astype(np.uint8)
    tiles, origins = tiling.split(image, tile, stride)
    assert tiles.shape[1:] == (tile, tile, *channels)
    window = data.draw(st.sampled_from([None, np.outer(np.arange(1, tile + 1), np.arange(1, tile + 1))]))
    np.testing.assert_allclose(tiling.stitch(tiles, origins, image.shape, window), image, rtol=1e-5)


def test_without_overlap_stitching_keeps_the_dtype(rng):
    labels = rng.integers(0, 2**31 - 1, (50, 70)).astype(np.int32)
    stitched = tiling.stitch(*tiling.split(labels, 32), labels.shape)
    assert stitched.dtype == np.int32
    np.testing.assert_array_equal(stitched, labels)


def test_overlapping_tiles_are_averaged_by_weight():
    tiles = np.stack([np.zeros((2, 2)), np.ones((2, 2))])
    window = np.array([[1, 3], [1, 3]])
    stitched = tiling.stitch(tiles, np.array([[0, 0], [0, 1]]), (2, 3), window)
    np.testing.assert_allclose(stitched, [[0, 0.25, 1]] * 2)


def test_an_uncovered_pixel_is_an_error():
    with pytest.raises(ValueError, match=r"No tile covers pixel \(0, 2\)"):
        tiling.stitch(np.ones((1, 2, 2)), np.array([[0, 0]]), (2, 3))


def test_padding_reflects_and_never_moves_the_image(rng):
    image = rng.integers(0, 256, (3, 5, 3)).astype(np.uint8)
    padded = tiling.pad_to(image, 8, 5)
    assert padded.shape == (8, 5, 3)
    np.testing.assert_array_equal(padded[:3], image)
    np.testing.assert_array_equal(padded[3:6], image[::-1])
    assert tiling.pad_to(image, 2, 2) is image


def test_a_one_pixel_wide_image_can_be_tiled():
    image = np.arange(100, dtype=np.uint8).reshape(100, 1)
    tiles, origins = tiling.split(image, 64)
    assert tiles.shape == (2, 64, 64)
    np.testing.assert_array_equal(tiling.stitch(tiles, origins, image.shape), image)


def test_reducing_a_mask_keeps_its_share_of_foreground():
    mask = np.zeros((400, 300), bool)
    mask[100:300, 50:200] = True
    reduced = tiling.reduce_image(mask, 64)
    assert reduced.shape == (64, 64) and reduced.dtype == bool
    assert reduced.mean() == pytest.approx(mask.mean(), abs=0.01)


def test_enlarging_to_a_multiple_as_the_published_experiment_did():
    assert tiling.enlarge_to_multiple(np.zeros((2096, 1024, 3), np.uint8), 512).shape == (2560, 1024, 3)
    assert tiling.enlarge_to_multiple(np.ones((500, 512), bool), 512).all()


def test_no_image_has_tiles_in_two_splits(tile_set, splits):
    _, manifest = tile_set
    owners = {pair.stem: name for name, pairs in splits.items() for pair in pairs}
    assert {row["source"] for row in manifest} == set(owners)
    assert all(row["split"] == owners[row["source"]] for row in manifest)


def test_tiles_on_disk_hold_what_the_manifest_says(tile_set, splits):
    folder, manifest = tile_set
    assert tiling.read_manifest(folder) == manifest
    pair = splits["train"][0]
    image, mask = images.read_pair(pair)
    rows = [row for row in manifest if row["source"] == pair.stem and row["scale"] == 1]
    tile_images, tile_masks = tiling.read_tiles(folder, rows)
    origins = np.array([(row["row"], row["column"]) for row in rows])
    np.testing.assert_array_equal(tiling.stitch(tile_images, origins, image.shape), image)
    np.testing.assert_array_equal(tiling.stitch(tile_masks, origins, mask.shape), mask)
    assert [row["foreground"] for row in rows] == pytest.approx([mask.mean() for mask in tile_masks], abs=1e-6)
    (whole,) = [row for row in manifest if row["source"] == pair.stem and row["tile"].endswith("_whole")]
    assert whole["scale"] == pytest.approx(64 / 280, abs=1e-6)


def test_statistics(tile_set):
    table = {row["split"]: row for row in tiling.tile_statistics(tile_set[1])}
    assert table["train"]["sources"] == 2 and table["train"]["whole_reduced"] == 2
    assert table["train"]["tiles"] == 2 * (25 + 1)
    assert 0 < table["train"]["empty_percent"] < 100


@pytest.mark.parametrize("empty", ["keep", "drop", "down-weight"])
def test_empty_tiles(splits, tmp_path, empty):
    setting = tiling.TileSetting(tile_size=64, empty=empty, reduced=False)
    manifest = tiling.write_tile_set({"train": splits["train"]}, tmp_path, setting)
    weights = {row["foreground"] == 0: row["weight"] for row in manifest}
    assert (
        weights
        == {"keep": {True: 1.0, False: 1.0}, "drop": {False: 1.0}, "down-weight": {True: 0.25, False: 1.0}}[empty]
    )
    assert (
        len(list((tmp_path / "train" / "masks").iterdir())) == len(manifest) == len(read_csv(tmp_path / "manifest.csv"))
    )


def test_balanced_tile_sets_give_every_image_the_same_weight(splits, tmp_path):
    plain = tiling.TileSetting(tile_size=64, empty="down-weight", reduced=False)
    before = tiling.write_tile_set(splits, tmp_path / "plain", plain)
    after = tiling.write_tile_set(splits, tmp_path / "balanced", dataclasses.replace(plain, balance=True))
    for stem in {row["source"] for row in before}:
        weights = np.array([[row["weight"] for row in rows if row["source"] == stem] for rows in (before, after)])
        assert weights[1].sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(weights[1], weights[0] / weights[0].sum(), atol=1e-6)


def test_enlarged_and_overlapping_tile_sets(splits, tmp_path):
    setting = tiling.TileSetting(tile_size=64, stride=32, fit="enlarge", reduced=False)
    manifest = tiling.write_tile_set({"train": splits["train"][:1]}, tmp_path, setting)
    assert len(manifest) == 9 * 9  # 280 px become 320; origins 0, 32, ..., 256
    assert manifest[0]["scale"] == pytest.approx(320 / 280, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fit": "stretch"}, "fit: 'stretch' is not known. Give one of pad, enlarge"),
        ({"empty": "lose"}, "Give one of keep, drop, down-weight"),
        ({"tile_size": 8}, "tile_size: 8 is out of range. Give 0 or a whole number from 16 to 4096"),
        ({"stride": 600}, "stride: 600 does not suit a tile_size of 512. Give 0 for no overlap, or from 32 to 512"),
        ({"empty_weight": 0.0}, "empty_weight: 0.0 is out of range"),
    ],
)
def test_settings_out_of_range(values, message):
    with pytest.raises(UserError, match=message):
        tiling.TileSetting(**values)


def test_missing_manifest_says_which_notebook_to_run(tmp_path):
    with pytest.raises(UserError, match="Run notebook 01_data_and_tiling"):
        tiling.read_manifest(tmp_path)


@pytest.mark.parametrize("shape", [(70, 1), (1, 30), (20, 20)])
def test_images_narrower_than_a_tile_become_tiles(tmp_path, shape):
    pair = images.Pair("thin", tmp_path / "image.png", tmp_path / "mask.png")
    pictures.write_image(pair.image, np.full((*shape, 3), 200, np.uint8))
    pictures.write_image(pair.mask, np.ones(shape, bool))
    for fit in ("pad", "enlarge"):
        rows = tiling.write_tile_set({"train": [pair]}, tmp_path / fit, tiling.TileSetting(tile_size=64, fit=fit))
        tile_images, tile_masks = tiling.read_tiles(tmp_path / fit, rows)
        assert (tile_images == 200).all() and tile_masks.all()
