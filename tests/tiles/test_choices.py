"""What a preset leaves open is measured on the training images, told with its reason, and overridden by a number."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.test_measured_kinds import cues
from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.images import Pair
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.settings.parameters import TileSetting, TrainingSetting
from tiledseg_utils.tiles.choices import batch_choice, choose, counting_tiles
from tiledseg_utils.tiles.sampling import share_by_kind
from tiledseg_utils.tiles.tiling import read_manifest, reduction_of_tiles, write_tile_set

OPEN = TileSetting(tile_size=0, reduction=0, contrast="auto")


def chosen(images, setting=OPEN):
    setting, rows = choose(setting, images)
    return setting, {row["setting"]: row for row in rows}


@pytest.mark.parametrize(
    ("diameter", "extent", "side", "reduction", "tile_size"),
    [
        (15, 15, 256, 1, 128),
        (15, 32, 256, 1, 128),
        (15, 33, 256, 1, 256),
        (9, 512, 512, 1, 384),  # A net of membranes: each is narrow, and reaches over the image.
        (127, 127, 360, 1, 384),
        (128, 128, 1024, 2, 256),
        (255, 300, 512, 2, 256),
        (350, 400, 1920, 4, 384),
        (600, 600, 520, 8, 128),
        (None, None, 100, 1, 128),
        (None, None, 1000, 1, 384),
    ],
)
def test_large_objects_are_reduced_and_tiles_hold_small_images(diameter, extent, side, reduction, tile_size):
    setting, rows = chosen([cues(0.5, diameter=diameter, extent=extent)._replace(side=side)])
    assert (setting.reduction, setting.tile_size, setting.stride) == (reduction, tile_size, tile_size // 2)
    assert rows["reduction"]["value"] == rows["reduction"]["measured"] == reduction
    assert ("no mask shows an object" if diameter is None else f"{diameter} px wide") in rows["reduction"]["reason"]


def test_contrast_is_stretched_if_one_image_in_ten_is_dim():
    bright, dim = cues(0.5), cues(0.01)._replace(levels=30.0)
    assert chosen([bright] * 8 + [dim] * 2)[0].contrast is True
    assert chosen([bright] * 19 + [dim])[0].contrast is False
    assert chosen([dim._replace(levels=39.0)])[0].contrast is False  # dsb2018, which needs no stretching
    assert chosen([dim], replace(OPEN, white_balance=True))[0].contrast is False


def test_channels_are_neither_reduced_nor_stretched_and_tiles_fit_them():
    dim = cues(0.5, diameter=300, extent=300)._replace(levels=30.0, side=2000)
    setting, rows = chosen([dim], replace(OPEN, channels=[0, 3]))
    assert (setting.reduction, setting.tile_size, setting.contrast) == (1, 384, False)
    assert rows["reduction"]["reason"] == "networks that reduce their images take RGB, and channels are given"
    assert rows["contrast"]["reason"] == "channels are given, each of which is scaled by its own percentiles"


def test_given_values_win_and_the_measured_ones_are_told():
    given = TileSetting(tile_size=64, reduction=1, contrast=False)
    setting, rows = chosen([cues(0.5, diameter=300)._replace(levels=30.0)], given)
    assert setting == given
    assert [(row["value"], row["measured"]) for row in rows.values()] == [(1, 4), (64, 256), (False, True)]
    assert all(row["reason"].startswith("given by the preset; ") for row in rows.values())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reduction": 3}, "reduction: 3 is not known. Give one of 0, 1, 2, 4, 8"),
        ({"reduction": True}, "reduction: True is a truth value"),
        ({"contrast": "yes"}, "contrast: 'yes' is not known. Give one of true, false, auto"),
        ({"contrast": 1}, "contrast: 1 is a whole number. Give one of true, false, auto"),
        ({"tile_size": 0, "stride": 64}, "stride: is 64, and tile_size is measured"),
        ({"contrast": True, "white_balance": True}, "contrast: is true, and so is white_balance"),
    ],
)
def test_values_that_cannot_be_are_refused(values, words):
    with pytest.raises(UserError) as caught:
        TileSetting(**values)
    assert words in str(caught.value)


def test_what_is_not_measured_is_not_cut():
    with pytest.raises(ValueError, match="contrast is auto"):
        OPEN.normalization  # noqa: B018 - reading it is what is refused
    with pytest.raises(ValueError, match="must be measured first"):
        write_tile_set({}, "nowhere", OPEN)


@pytest.mark.parametrize(("tile_size", "batch_size"), [(128, 32), (256, 8), (384, 4), (4096, 1), (16, 256)])
def test_a_batch_of_open_size_has_half_a_million_pixels(tile_size, batch_size):
    assert TrainingSetting(batch_size=0).for_tiles(tile_size).batch_size == batch_size
    assert TrainingSetting(batch_size=3).for_tiles(tile_size).batch_size == 3
    row = batch_choice(TrainingSetting(batch_size=0), tile_size)
    assert row["value"] == row["measured"] == batch_size and row["reason"].startswith(f"tiles are {tile_size} px wide;")
    row = batch_choice(TrainingSetting(batch_size=3), tile_size)
    assert (row["value"], row["measured"]) == (3, batch_size) and row["reason"].startswith("given by the preset; tiles")


@pytest.mark.parametrize(("width", "side", "batch_size"), [(20, 128, 16), (32, 128, 16), (40, 256, 4), (90, 256, 4)])
def test_counting_learns_small_nuclei_from_small_tiles_in_batches_of_as_many_pixels(tmp_path, width, side, batch_size):
    mask = np.zeros((300, 400), bool)
    mask[100 : 100 + width, 100 : 100 + width] = True
    write_image(tmp_path / "a.png", np.full((300, 400, 3), 90, np.uint8))
    write_image(tmp_path / "a_mask.png", mask)
    pairs = [Pair("a", tmp_path / "a.png", tmp_path / "a_mask.png")]
    training = TrainingSetting(batch_size=4)
    assert counting_tiles(pairs, 0, training) == (side, replace(training, batch_size=batch_size))
    assert counting_tiles(pairs, 192, training) == (192, training)


def test_kinds_are_drawn_by_the_root_of_their_images():
    weights = share_by_kind(np.array([1, 3, 2, 2, 5]), ["a", "a", "b", "c", "d"], dict.fromkeys("abc", "dark"))
    assert weights[:4].sum() == pytest.approx(3**0.5) and weights[1] == pytest.approx(3 * weights[0])
    assert weights[4] == pytest.approx(1)


@pytest.fixture
def pairs(tmp_path):
    """Four images with a square each."""
    found = []
    for stem in "abcd":
        mask = np.zeros((100, 130), bool)
        mask[20:60, 40:80] = True
        write_image(tmp_path / f"{stem}.png", np.dstack([np.where(mask, 90, 200).astype(np.uint8)] * 3))
        write_image(tmp_path / f"{stem}_mask.png", mask)
        found.append(Pair(stem, tmp_path / f"{stem}.png", tmp_path / f"{stem}_mask.png"))
    return found


def test_tiles_of_reduced_images_and_of_balanced_kinds(pairs, tmp_path):
    setting = TileSetting(tile_size=32, reduction=2, balance=True, balance_kinds=True, reduced=False)
    splits = {"train": pairs[:3], "valid": pairs[3:], "test": []}
    rows = write_tile_set(splits, tmp_path / "tiles", setting, {"a": "grey", "b": "grey", "c": "purple", "d": "grey"})
    assert reduction_of_tiles(read_manifest(tmp_path / "tiles")) == 2
    own = {stem: [row for row in rows if row["source"] == stem] for stem in "abcd"}
    assert {row["scale"] for row in rows} == {0.5} and len(own["a"]) == 2 * 3  # of 50 x 65 px
    weights = {stem: sum(row["weight"] for row in rows) for stem, rows in own.items()}
    assert weights == pytest.approx({"a": 2**0.5 / 2, "b": 2**0.5 / 2, "c": 1, "d": 1}, abs=1e-6)
    # The last tiles reach 31 columns past the image, and repeat six of the square's 20.
    assert sum(row["foreground"] for row in own["b"]) * 32**2 == 20 * (20 + 6)


def test_a_manifest_of_images_in_their_own_size_says_so(pairs, tmp_path):
    rows = write_tile_set({"train": pairs}, tmp_path / "tiles", TileSetting(tile_size=64))
    assert {row["reduction"] for row in rows} == {1}
    assert reduction_of_tiles(read_manifest(tmp_path / "tiles")) == 1
