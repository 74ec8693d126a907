"""Images of 1 to 8 channels as they are stored: read, checked, measured, cut into tiles, changed at random."""

import shutil

import numpy as np
import pytest
import tifffile

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.channels import Channels, each_channel, measure_channels, read_scaling
from tiledseg_utils.data.images import check_folder, find_pairs, read_pair
from tiledseg_utils.data.pictures import ImagePart, read_channels, read_image, write_channels, write_image
from tiledseg_utils.data.streaming import open_source
from tiledseg_utils.settings.augmentation import Augmentation
from tiledseg_utils.settings.parameters import TileSetting, check_all
from tiledseg_utils.tiles.augmentation import augment
from tiledseg_utils.tiles.tiling import read_manifest, read_tiles, reduce_image, write_tile_set


def image_of(channels: int, dtype, seed: int = 0, side: int = 48) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (side, side + 8, channels), dtype)
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Three images of four channels in 16 bit, with their masks."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        write_channels(tmp_path / "images" / f"{number}.tif", image_of(4, np.uint16, number))
        mask = np.zeros((48, 56), bool)
        mask[8:20, 8:20] = True
        write_image(tmp_path / "masks" / f"{number}.png", mask)
    return tmp_path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 4, 8])
def test_channels_come_as_they_are_stored_whole_and_by_rows(tmp_path, channels, dtype):
    image, path = image_of(channels, dtype), tmp_path / "image.tif"
    write_channels(path, image)
    assert np.array_equal(read_channels(path), image)
    assert read_channels(path).dtype == dtype
    chosen = list(range(channels))[::-1][:3]
    with open_source(ImagePart(path, channels=tuple(chosen), stored=True)) as source:
        assert (source.channels, source.dtype) == (len(chosen), dtype)
        assert np.array_equal(source.read_rows(5, 30), image[5:30][..., chosen])
    with open_source(image, stored=True) as source:
        assert np.array_equal(source.read_rows(5, 30), image[5:30])


@pytest.mark.parametrize("plan", ["contig", "separate"])
def test_planes_and_a_saved_array_hold_the_same_channels(tmp_path, plan):
    image = image_of(5, np.uint16)
    pixels = image if plan == "contig" else np.moveaxis(image, -1, 0)
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="minisblack", planarconfig=plan)
    np.save(tmp_path / "image.npy", image)
    assert np.array_equal(read_channels(tmp_path / "image.tif", [4, 0]), image[..., [4, 0]])
    with open_source(ImagePart(tmp_path / "image.npy", channels=(4, 0), stored=True)) as source:
        assert np.array_equal(source.read_rows(0, 48), image[..., [4, 0]])


def test_pages_are_channels_where_the_file_says_so(tmp_path):
    planes = np.moveaxis(image_of(4, np.uint16), -1, 0)
    writers = {
        "imagej.tif": {"imagej": True, "metadata": {"axes": "CYX"}},
        "image.ome.tif": {"ome": True, "metadata": {"axes": "CYX"}, "tile": (16, 16), "compression": "zlib"},
        "plain.tif": {"metadata": {"axes": "CYX"}, "photometric": "minisblack"},
    }
    for name, options in writers.items():
        tifffile.imwrite(tmp_path / name, planes, **options)
        assert np.array_equal(read_channels(tmp_path / name, [3, 0]), np.moveaxis(planes[[3, 0]], 0, -1))
        with open_source(ImagePart(tmp_path / name, channels=(2,), stored=True)) as source:
            assert np.array_equal(source.read_rows(7, 40)[..., 0], planes[2, 7:40])
        with pytest.raises(UserError, match="is a stack of several pages"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_focal_planes_and_times_are_no_channels(tmp_path, kind, axes):
    planes = np.moveaxis(image_of(4, np.uint16), -1, 0)
    tifffile.imwrite(tmp_path / "stack.tif", planes, **{kind: True}, metadata={"axes": axes})
    with pytest.raises(UserError, match="is a stack of several pages"):
        read_channels(tmp_path / "stack.tif")


def test_the_transparency_of_a_png_is_its_last_channel(tmp_path):
    import cv2

    image = image_of(4, np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)  # OpenCV takes blue first
    assert np.array_equal(read_channels(tmp_path / "image.png", [3, 2]), image[..., [3, 0]])


def test_numbers_that_are_no_channels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "nine.tif", image_of(9, np.uint8), photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "decimal.tif", np.zeros((40, 40), np.float32))
    tifffile.imwrite(tmp_path / "signed.tif", np.zeros((40, 40), np.int16))
    with pytest.raises(UserError, match="has 9 channels, and at most 8 are read"):
        read_channels(tmp_path / "nine.tif")
    with pytest.raises(UserError, match=r"has no channel 9. Choose from its channels, 0 to 8"):
        read_channels(tmp_path / "nine.tif", [9])
    with pytest.raises(UserError, match="holds decimal numbers"):
        read_channels(tmp_path / "decimal.tif")
    with pytest.raises(UserError, match="holds int16, and channels are read in 8 or 16 bit"):
        open_source(ImagePart(tmp_path / "signed.tif", stored=True))


def test_a_folder_with_other_channels_is_told(folder):
    rows, problems = check_folder(folder, [0, 3])
    assert problems == [] and {row["channels"] for row in rows} == {4}
    write_channels(folder / "images" / "1.tif", image_of(2, np.uint8))
    problems = check_folder(folder, [0, 1])[1]
    assert problems == [
        f"{folder}: the channels differ between images (2 of uint8 in 1; 4 of uint16 in 0, 2). "
        "Save all images with the same channels, in 8 or in 16 bit."
    ]
    assert "1.tif: has no channel 3. Choose from its channels, 0 to 1" in "".join(check_folder(folder, [0, 3])[1])


def test_the_rule_of_a_channel_is_that_of_all_training_pixels(folder):
    images = [folder / "images" / f"{number}.tif" for number in range(3)]
    measured = measure_channels(images, [3, 1])
    pixels = np.concatenate([read_channels(path, [3, 1]).reshape(-1, 2) for path in images])
    expected = np.percentile(pixels, (0.1, 99.9), axis=0)
    assert np.allclose([measured.low, measured.high], expected)
    assert (measured.numbers, measured.dtype) == ((3, 1), "uint16")


def test_a_channel_of_one_value_has_no_rule_and_one_of_few_values_has(folder):
    image = image_of(2, np.uint16)
    image[..., 0] = 7
    write_channels(folder / "images" / "0.tif", image)
    with pytest.raises(UserError, match=r"channel 0: is 7 in every pixel of every training image. Leave it out"):
        measure_channels([folder / "images" / "0.tif"], [0])
    image[3, 4, 0] = 900
    write_channels(folder / "images" / "0.tif", image)
    assert measure_channels([folder / "images" / "0.tif"], [0]).high == (900.0,)


def test_tiles_keep_channels_and_their_rule(folder):
    pairs = find_pairs(folder, [2, 0])
    splits = {"train": pairs[:1], "valid": pairs[1:2], "test": pairs[2:]}
    setting = TileSetting(tile_size=16, channels=[2, 0])
    write_tile_set(splits, folder / "tiles", setting)
    rows = [row for row in read_manifest(folder / "tiles") if row["split"] == "train"]
    tiles, masks = read_tiles(folder / "tiles", rows)
    image = read_pair(pairs[0])[0]
    at = next(place for place, row in enumerate(rows) if row["tile"] == "0_00016x00032")
    assert np.array_equal(tiles[at], image[16:32, 32:48])
    assert tiles.dtype == np.uint16 and masks.shape == tiles.shape[:3]
    assert read_scaling(folder / "tiles") == measure_channels([pairs[0].image], [2, 0])
    write_tile_set({"train": find_pairs(folder)[:1]}, folder / "tiles", TileSetting(tile_size=16))
    assert read_scaling(folder / "tiles") is None


def test_one_channel_is_changed_like_another():
    image = image_of(8, np.uint16, side=64)[:, :64]
    one = np.dstack([reduce_image(image[..., place : place + 1], 25) for place in range(8)])
    assert np.array_equal(reduce_image(image, 25), one)
    assert each_channel(lambda array: array, image[..., :1]).shape == (64, 64, 1)


CHANNELS = Channels((0, 1), "uint16", (100.0, 1000.0), (1120.0, 11200.0))


def test_geometry_moves_all_channels_alike():
    image, mask = image_of(2, np.uint16, side=64)[:, :64], np.zeros((64, 64), bool)
    image[..., 1] = image[..., 0]
    changed, _ = augment(image, mask, Augmentation(rotation=1, elastic=1, hflip=1), 1, 0, 0, CHANNELS)
    assert changed.dtype == np.uint16 and changed.shape == image.shape
    assert np.array_equal(changed[..., 0], changed[..., 1]) and not np.array_equal(changed, image)


def test_a_grey_level_is_a_255th_of_the_range_of_a_channel():
    image, mask = np.full((32, 32, 2), (610, 6100), np.uint16), np.zeros((32, 32), bool)
    settings = Augmentation(brightening=1, brightening_alpha=(1, 1), brightening_beta=(10, 10))
    changed, _ = augment(image, mask, settings, 1, 0, 0, CHANNELS)
    assert changed[0, 0].tolist() == [650, 6500]  # ten times 4, and ten times 40
    settings = Augmentation(noise=1, noise_sigma=(5, 5))
    changed, _ = augment(image, mask, settings, 1, 0, 0, CHANNELS)
    assert np.allclose(changed.std(axis=(0, 1)), [20, 200], rtol=0.1)


def test_settings_that_need_colours_are_refused_by_name():
    refused = {
        "blue for color 0.1, but": {"augmentation": {"color": 0.1}},
        r"blue for stain 0.5, color 0.1, but channels are given\. Give stain: 0, color: 0": {
            "augmentation": {"stain": 0.5, "color": 0.1}
        },
        "tiles.white_balance": {"tiles": {"channels": [0], "white_balance": True}},
        "tiles.contrast": {"tiles": {"channels": [0], "contrast": True}},
        "tiles.reduction: is 2": {"tiles": {"channels": [0], "reduction": 2}},
        "added_images": {"added_images": 3},
        "color_space": {"model": "unet", "model_settings": {"unet": {"color_space": "hsv"}}},
        "weights": {"model": "efficient_unet", "model_settings": {"efficient_unet": {"weights": "imagenet"}}},
        "models": {"models": ["unet"], "model_settings": {}},
        "part_side": {"part_side": 200},
    }
    for name, given in refused.items():
        with pytest.raises(UserError, match=name):
            check_all({"tiles": {"channels": [0, 1]}, **given})
    with pytest.raises(UserError, match="has 9 entries"):
        check_all({"tiles": {"channels": list(range(9))}})


def test_a_copy_in_another_file_is_the_same_picture(folder):
    shutil.copy(folder / "images" / "0.tif", folder / "images" / "3.tif")
    shutil.copy(folder / "masks" / "0.png", folder / "masks" / "3.png")
    (folder / "split.csv").write_text("stem,split\n0,train\n1,valid\n2,test\n3,test\n")
    problems = check_folder(folder, [1])[1]
    assert len(problems) == 1 and "0 (train), 3 (test) are the same picture" in problems[0]
