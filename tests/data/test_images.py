"""Every rule and every error of `tiledseg_utils.data.images`, with files made on the spot."""

import os
import random
import shutil
import subprocess
import sys
import unicodedata

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tiledseg_utils.base.files import UserError, write_csv
from tiledseg_utils.data import images, pictures
from tiledseg_utils.data.images import (
    Pair,
    check_folder,
    find_pairs,
    hash_folder,
    read_image,
    read_pair,
    split_pairs,
)
from tiledseg_utils.data.masks import read_labels, read_mask
from tiledseg_utils.data.pictures import bitmaps, write_image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 9, 3), np.uint8)
GREY = COLOUR[..., 0]
Y, X = np.mgrid[:200, :200]
DISCS = sum(((Y - y) ** 2 + (X - x) ** 2 < 15**2) for y, x in ((40, 40), (40, 120), (150, 90))).astype(bool)
LABELS = cv2.connectedComponents(DISCS.astype(np.uint8))[1].astype(np.int32)
tmp_is_fine = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def encode(suffix, array, *options):
    """The bytes of an RGB, RGBA or grey array as OpenCV writes them."""
    if array.ndim == 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(array), options)
    assert done
    return data.tobytes()


def save(path, array, *options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(path.suffix, array, *options))
    return path


def save_tiff(path, array, **options):
    tifffile.imwrite(path, array, **options)
    return path


def assert_user_error(call, path, *words):
    """The error names the file, contains all `words`, and has a remedy."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert str(path) in message
    assert len(caught.value.remedy) > 10 and caught.value.remedy in message
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    return message


def make_folder(folder, stems=("a", "b", "c"), masks="masks", ending=""):
    for number, stem in enumerate(stems):
        save(folder / "images" / f"{stem}.png", np.where(DISCS, 50 + number, 200).astype(np.uint8))
        save(folder / masks / f"{stem}{ending}.png", DISCS.astype(np.uint8) * 255)
    return folder


# ---------------------------------------------------------------- read_image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_8_bit_colour_is_kept(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", COLOUR))
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
    np.testing.assert_array_equal(image, COLOUR)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_colours_are_in_rgb_order(tmp_path, suffix):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(read_image(save(tmp_path / f"a{suffix}", red)).astype(int) - red).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_grey_is_repeated(tmp_path, suffix):
    grey = np.full((16, 11), 90, np.uint8)
    np.testing.assert_array_equal(read_image(save(tmp_path / f"a{suffix}", grey)), np.full((16, 11, 3), 90))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped(tmp_path, suffix):
    alpha = np.dstack([COLOUR, np.zeros_like(GREY)])
    np.testing.assert_array_equal(read_image(save(tmp_path / f"a{suffix}", alpha)), COLOUR)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "tile": (16, 16)}])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_tiff_uses_the_first_three_channels(tmp_path, options, extra):
    pixels = np.dstack([COLOUR, *[GREY] * extra])
    path = save_tiff(tmp_path / "a.tif", pixels, photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_tiff_with_separate_planes(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    path = save_tiff(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_tiff_with_grey_and_alpha(tmp_path):
    pixels = np.dstack([GREY, 255 - GREY])
    path = save_tiff(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_image(path), np.dstack([GREY] * 3))


def test_tiff_palette_gives_its_colours(tmp_path):
    palette = np.zeros((3, 256), np.uint16)
    palette[0] = np.arange(256) * 257  # the index is the red value
    image = read_image(save_tiff(tmp_path / "a.tif", GREY, photometric="palette", colormap=palette))
    np.testing.assert_array_equal(image[..., 0], GREY)
    assert not image[..., 1:].any()


def test_tiff_of_one_bit(tmp_path):
    np.testing.assert_array_equal(
        read_image(save_tiff(tmp_path / "a.tif", GREY > 99, photometric="minisblack"))[..., 2], (GREY > 99) * 255
    )


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"imagej": True}, {"ome": True}])
def test_tiff_dialects(tmp_path, options):
    suffix = ".ome.tif" if "ome" in options else ".tif"
    np.testing.assert_array_equal(read_image(save_tiff(tmp_path / f"a{suffix}", COLOUR, **options)), COLOUR)


def test_tiff_thumbnail_is_no_second_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(COLOUR)
        file.write(COLOUR[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), COLOUR)


@pytest.mark.parametrize("options", [{}, {"truncate": True}, {"compression": "zlib"}])
def test_tiff_stack_is_refused(tmp_path, options):
    path = save_tiff(tmp_path / "a.tif", np.stack([GREY] * 4), photometric="minisblack", **options)
    for read in (read_image, read_mask):
        assert_user_error(lambda read=read: read(path), path, "stack of several pages", "Save the page")


@pytest.mark.parametrize("options", [{"metadata": {"axes": "CYX"}}, {"imagej": True}])
def test_a_tiff_with_a_page_for_each_channel_is_refused_with_the_way_to_learn_from_it(tmp_path, options):
    path = save_tiff(tmp_path / "a.tif", np.stack([GREY] * 4), photometric="minisblack", **options)
    assert_user_error(lambda: read_image(path), path, "stack of several pages", "Its pages are channels")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(100, 100), (100, 100, 3), (100, 100, 4)])
def test_16_bit_is_scaled_by_percentiles_of_all_channels(tmp_path, suffix, shape):
    pixels = RNG.normal(2000, 300, shape).clip(0, 4095).astype(np.uint16)  # 12 bits in 16
    image = read_image(save(tmp_path / f"a{suffix}", pixels)).astype(float)
    used = np.dstack([pixels] * 3) if len(shape) == 2 else pixels[..., :3]
    low, high = np.percentile(used, (0.1, 99.9))
    expected = ((used - low) / (high - low)).clip(0, 1) * 255
    assert np.abs(image - expected).max() <= 0.51
    assert image.min() == 0 and image.max() == 255 and 110 < image.mean() < 145


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.int32])
def test_other_integers_are_scaled(tmp_path, dtype):
    info = np.iinfo(dtype)
    ramp = np.linspace(info.min // 2, info.max // 2, 10_000).reshape(100, 100).astype(dtype)
    image = read_image(save_tiff(tmp_path / "a.tif", ramp))[..., 0].astype(int)
    assert image.min() == 0 and image.max() == 255
    assert (np.diff(image.ravel()) >= 0).all() and abs(image.mean() - 127.5) < 1


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (4095, 15), (65535, 255)])
def test_constant_16_bit_keeps_its_high_byte(tmp_path, value, expected):
    assert (read_image(save(tmp_path / "a.png", np.full((9, 9), value, np.uint16))) == expected).all()


def test_few_bright_spots_in_16_bit_are_visible(tmp_path):
    pixels = np.zeros((100, 100), np.uint16)
    pixels[50, 50:54] = 900, 900, 450, 900
    image = read_image(save(tmp_path / "a.png", pixels))[..., 0]
    assert image[50, 50] == 255 and image[50, 52] in (127, 128) and image[0, 0] == 0


def test_zero_channel_is_kept(tmp_path):
    pixels = COLOUR.copy()
    pixels[..., 0] = 0
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), pixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_decimal_numbers_are_refused(tmp_path, dtype):
    path = save_tiff(tmp_path / "a.tif", GREY.astype(dtype))
    for read in (read_image, read_mask):
        message = assert_user_error(lambda read=read: read(path), path, np.dtype(dtype).name, "0-255", "threshold")
        assert "NaN" not in message


def test_nan_is_named(tmp_path):
    pixels = GREY.astype(np.float32)
    pixels[2, 2] = np.nan
    path = save_tiff(tmp_path / "a.tif", pixels)
    assert_user_error(lambda: read_image(path), path, "NaN", "Scale")


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (30, 1, 3)])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_one_pixel_wide(tmp_path, shape, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", np.full(shape, 255, np.uint8)))
    assert image.shape == (*shape[:2], 3) and (image == 255).all()


@pytest.mark.parametrize("name", ["two words.png", "größe µm.png", "細胞 1.tif", "a'b;c.jpg", "ключ.bmp"])
def test_names_with_spaces_and_other_letters(tmp_path, name):
    path = save(tmp_path / "äußere Ordner" / name, np.full((8, 8, 3), 7, np.uint8))
    assert (read_image(str(path)) == 7).all()


def test_format_is_told_by_content(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(encode(".png", COLOUR))
    np.testing.assert_array_equal(read_image(path), COLOUR)


# ---------------------------------------------------------------- broken files


def whole_files():
    labels = LABELS[::4, ::4].astype(np.int16)
    yield "png", ".png", lambda path: save(path, COLOUR)
    yield "png16", ".png", lambda path: save(path, COLOUR.astype(np.uint16) * 9)
    yield "jpg", ".jpg", lambda path: save(path, COLOUR)
    yield "progressive jpg", ".jpg", lambda path: save(path, COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    yield "bmp", ".bmp", lambda path: save(path, COLOUR)
    yield "lzw tif", ".tif", lambda path: save(path, COLOUR)
    yield "raw tif", ".tif", lambda path: save_tiff(path, COLOUR)
    yield "deflate tif", ".tif", lambda path: save_tiff(path, labels, compression="zlib")
    yield "packbits tif", ".tif", lambda path: save(path, COLOUR, cv2.IMWRITE_TIFF_COMPRESSION, 32773)
    yield "tiled tif", ".tif", lambda path: save_tiff(path, COLOUR, tile=(16, 16), compression="zlib")


@pytest.mark.parametrize(("suffix", "make"), [pytest.param(*rest, id=name) for name, *rest in whole_files()])
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path, suffix, make):
    path = make(tmp_path / f"a{suffix}")
    data, image = path.read_bytes(), read_image(path)
    for length in {*range(1, 30), *range(30, len(data), 7), *range(len(data) - 12, len(data))}:
        path.write_bytes(data[:length])
        try:
            survived = read_image(path)
        except UserError as error:
            assert str(path) in str(error) and ("Copy" in error.remedy or "PNG" in error.remedy)
        else:  # only what no pixel depends on was lost, such as the resolution in dots per inch
            assert length > len(data) - 12 and suffix == ".tif"
            np.testing.assert_array_equal(survived, image)


def test_a_cut_jpeg_is_told_before_decoding(tmp_path, monkeypatch):
    """Decoders fill the missing part with grey, so the test must not depend on the decoder."""
    monkeypatch.setattr(bitmaps, "_decode", lambda *_: np.full((64, 64, 3), 128, np.uint8))
    photo = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    for progressive in (0, 1):
        data = encode(".jpg", photo, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
        thumbnail = encode(".jpg", COLOUR)
        with_thumbnail = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]
        for whole in (data, with_thumbnail, data + b"trailing bytes"):
            (tmp_path / "a.jpg").write_bytes(whole)
            read_image(tmp_path / "a.jpg")
        for cut in (data[:-1], data[: len(data) // 2], data[:-2] + b"\0\0", with_thumbnail[:-9]):
            (tmp_path / "a.jpg").write_bytes(cut)
            assert_user_error(lambda: read_image(tmp_path / "a.jpg"), tmp_path / "a.jpg", "cut short", "Copy it again")


def test_damage_inside_a_file(tmp_path):
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    for path in (save(tmp_path / "a.png", noise), save_tiff(tmp_path / "a.tif", noise, compression="zlib")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
        path.write_bytes(data)
        assert_user_error(lambda path=path: read_image(path), path, "damaged", "Copy it again")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is an empty file", "Copy it again"]),
        (b"stem,split\na,train\n", ["is not a PNG, JPEG, TIFF or BMP", "Save it as PNG"]),
        (b"RIFF\x24\0\0\0WEBPVP8 ", ["is not a PNG, JPEG, TIFF or BMP"]),
        (b"BMW is a car maker", ["damaged"]),
        (b"II*\0 and then nonsense", ["damaged"]),
        (b"\xff\xd8\xff nonsense", ["damaged"]),
        (b"\x89PNG\r\n\x1a\n IEND\xaeB`\x82", ["damaged"]),
    ],
)
def test_files_that_are_no_images(tmp_path, suffix, content, words):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_image, read_mask, read_labels):
        assert_user_error(lambda read=read: read(path), path, *words)


def test_missing_file_and_folder_in_its_place(tmp_path):
    for path in (tmp_path / "nothing.png", tmp_path):
        assert_user_error(lambda path=path: read_image(path), path, "cannot be opened", "Check its name")


def test_decoders_are_silent(tmp_path):
    """What they would print without the name of a file only frightens the user."""
    (tmp_path / "cut.tif").write_bytes(encode(".tif", COLOUR)[:100])
    (tmp_path / "odd.tif").write_bytes(b"II*\0\xff\xff\0\0" + bytes(40))
    (tmp_path / "cut.bmp").write_bytes(encode(".bmp", COLOUR)[:100])
    code = (
        "import sys, pathlib\nfrom tiledseg_utils.data.images import *\nassert 'keras' not in sys.modules\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: read_image(path)\n    except UserError: pass\n    else: raise SystemExit(path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@given(data=st.binary(max_size=200), start=st.sampled_from(list(pictures.SIGNATURES)))
@tmp_is_fine
def test_any_bytes_give_a_user_error(tmp_path, data, start):
    path = tmp_path / "a.png"
    path.write_bytes(start + data)
    with pytest.raises(UserError):
        read_image(path)


# ---------------------------------------------------------------- write_image


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@given(array=hnp.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3))))
@tmp_is_fine
def test_colour_survives_a_round_trip(tmp_path, suffix, array):
    path = tmp_path / f"новый é {suffix}"
    write_image(path, array)
    np.testing.assert_array_equal(read_image(path), array)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
@tmp_is_fine
def test_mask_survives_a_round_trip(tmp_path, suffix, mask):
    path = tmp_path / f"m{suffix}"
    write_image(path, mask)
    np.testing.assert_array_equal(read_mask(path), mask)
    stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, mask * 255)


@pytest.mark.parametrize(("suffix", "largest"), [(".png", 65_535), (".tif", 2**31 - 1)])
@given(data=st.data())
@tmp_is_fine
def test_labels_survive_a_round_trip(tmp_path, suffix, largest, data):
    ids = data.draw(hnp.arrays(np.int32, (3, 3), elements=st.integers(1, largest), unique=True))
    labels = np.kron(ids, np.ones((5, 5), np.int32)) * data.draw(hnp.arrays(bool, (3, 3))).repeat(5, 0).repeat(5, 1)
    labels = np.pad(labels, 1)
    path = tmp_path / f"m{suffix}"
    write_image(path, labels)
    read = read_labels(path)
    if len(np.unique(labels)) > 2:
        np.testing.assert_array_equal(read, labels)
    else:  # binary by the rule
        np.testing.assert_array_equal(read > 0, labels == labels.max() if labels.any() else labels > 0)


def test_grey_is_written_as_it_is(tmp_path):
    for suffix in (".png", ".tif"):
        write_image(tmp_path / f"a{suffix}", GREY)
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), np.dstack([GREY] * 3))


def test_types_and_compression_of_written_labels(tmp_path):
    write_image(tmp_path / "m.png", LABELS)
    assert cv2.imdecode(np.fromfile(tmp_path / "m.png", np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    write_image(tmp_path / "m.tif", LABELS.astype(np.int64))
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.asarray().dtype == np.int32 and "DEFLATE" in file.pages.first.compression.name


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("a.jpg", COLOUR, ["lossless", ".png or .tif"]),
        ("a", COLOUR, ["lossless", ".png or .tif"]),
        ("a.png", LABELS * 65_536, ["cannot hold labels from 0 to 196608", ".tif"]),
        ("a.tif", LABELS.astype(np.int64) * 2**31, ["cannot hold labels", "Number objects"]),
        ("a.tif", LABELS - 1, ["labels from -1", "Number objects"]),
        ("a.png", LABELS / 3, ["float64", "Pass uint8"]),
        ("a.png", np.zeros((0, 5), bool), ["(0, 5)", "Pass uint8"]),
        ("a.png", np.zeros((5, 5, 4), np.uint8), ["(5, 5, 4)", "Pass uint8"]),
        ("a.png", np.zeros((5, 5, 3), bool), ["(5, 5, 3)", "Pass uint8"]),
        ("a.png", np.zeros(5, bool), ["(5,)", "Pass uint8"]),
    ],
)
def test_what_cannot_be_written(tmp_path, name, array, words):
    assert_user_error(lambda: write_image(tmp_path / name, array), tmp_path / name, *words)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    write_image(path, GREY)
    before = path.read_bytes()

    def fail(temporary, *_, **__):
        temporary.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    assert_user_error(lambda: write_image(path, GREY + 1), path, "no space left")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- find_pairs, read_pair


@pytest.mark.parametrize(("masks", "ending"), [("masks", ""), ("labels", "_label"), ("labels", "")])
def test_pairs_are_found_and_sorted(tmp_path, masks, ending):
    folder = make_folder(tmp_path / "my däta", ("c", "a b", "é"), masks, ending)
    pairs = find_pairs(folder)
    assert [pair.stem for pair in pairs] == ["a b", "c", "é"]
    assert pairs[0] == Pair("a b", folder / "images" / "a b.png", folder / masks / f"a b{ending}.png")
    assert find_pairs(str(folder)) == pairs
    image, mask = read_pair(pairs[2])
    assert image.shape == (200, 200, 3) and (mask == DISCS).all() and mask.dtype == bool
    np.testing.assert_array_equal(read_pair(pairs[2], labels=True)[1], LABELS)


def test_label_ending_is_part_of_the_name_in_masks(tmp_path):
    assert [pair.stem for pair in find_pairs(make_folder(tmp_path, ("a_label",)))] == ["a_label"]


def test_accents_match_however_they_are_stored(tmp_path):
    save(tmp_path / "images" / f"{unicodedata.normalize('NFD', 'é')}.png", COLOUR)
    save(tmp_path / "masks" / f"{unicodedata.normalize('NFC', 'é')}.png", GREY)
    assert [pair.stem for pair in find_pairs(tmp_path)] == [unicodedata.normalize("NFC", "é")]


def test_hidden_files_and_notes_are_ignored(tmp_path):
    make_folder(tmp_path)
    for name in (".DS_Store", "._a.png", "readme.txt", "scores.CSV", "Thumbs.db", "about.json"):
        for folder in ("images", "masks"):
            (tmp_path / folder / name).write_bytes(b"x")
    (tmp_path / "images" / ".ipynb_checkpoints").mkdir()
    assert len(find_pairs(tmp_path)) == 3


def test_all_problems_of_a_folder_are_listed_at_once(tmp_path):
    make_folder(tmp_path)
    save(tmp_path / "images" / "alone.bmp", COLOUR)
    save(tmp_path / "masks" / "orphan.png", GREY)
    save(tmp_path / "images" / "a.tif", COLOUR)
    (tmp_path / "images" / "slide.czi").write_bytes(b"x")
    (tmp_path / "masks" / "more").mkdir()
    words = ["images/alone.bmp has no partner in masks", "masks/orphan.png has no partner in images"]
    words += [
        "a.png and a.tif in images differ only",
        "images/slide.czi is not",
        "masks/more is not",
        "one of the same",
    ]
    assert_user_error(lambda: find_pairs(tmp_path), tmp_path, *words)


def test_at_most_ten_problems_are_spelt_out(tmp_path):
    make_folder(tmp_path)
    for number in range(13):
        save(tmp_path / "images" / f"x{number:02}.png", COLOUR)
    message = assert_user_error(lambda: find_pairs(tmp_path), tmp_path, "x09.png", "and 3 more")
    assert message.count("has no partner") == 10


def test_folders_of_another_layout(tmp_path):
    layout = "should be a folder with images and either masks or labels"
    assert_user_error(lambda: find_pairs(tmp_path / "none"), tmp_path / "none", layout, "is not a folder")
    assert_user_error(lambda: find_pairs(tmp_path), tmp_path, layout, "holds none of them")
    (tmp_path / "images").mkdir()
    assert_user_error(lambda: find_pairs(tmp_path), tmp_path, layout, "holds images")
    (tmp_path / "masks").mkdir()
    assert_user_error(lambda: find_pairs(tmp_path), tmp_path, "holds no images")
    (tmp_path / "labels").mkdir()
    assert_user_error(lambda: find_pairs(tmp_path), tmp_path, layout, "holds images and masks and labels")


def test_sizes_that_differ(tmp_path):
    pair = Pair(
        "a",
        save(tmp_path / "images" / "a.png", COLOUR),
        save(tmp_path / "masks" / "a.png", (GREY.T > 300).astype(np.uint8)),
    )
    for labels in (False, True):
        words = [str(pair.image), "9 x 12", "12 x 9", "Export the mask again"]
        assert_user_error(lambda labels=labels: read_pair(pair, labels), pair.mask, *words)


# ---------------------------------------------------------------- split_pairs


def pairs_named(stems):
    return [Pair(stem, images.Path(f"{stem}.png"), images.Path(f"{stem}.png")) for stem in stems]


def stems_of(split):
    return {name: [pair.stem for pair in part] for name, part in split.items()}


@given(
    count=st.integers(3, 60),
    seed=st.integers(0, 9),
    weights=st.tuples(*[st.floats(0, 1, allow_nan=False)] * 3).filter(lambda weights: sum(weights) > 0.1),
)
@tmp_is_fine
def test_drawn_split_covers_each_image_once(tmp_path, count, seed, weights):
    pairs = pairs_named(f"{number:03}" for number in range(count))
    fractions = [weight / sum(weights) for weight in weights]
    split = split_pairs(pairs, tmp_path, seed, fractions)
    assert list(split) == ["train", "valid", "test"]
    assert sorted(stem for part in stems_of(split).values() for stem in part) == [pair.stem for pair in pairs]
    assert all(
        part and stems == sorted(stems) for part, stems in zip(split.values(), stems_of(split).values(), strict=True)
    )
    for part, fraction in zip(split.values(), fractions, strict=True):
        assert abs(len(part) - max(1, fraction * count)) < 3
    random.Random(seed).shuffle(pairs)
    assert split_pairs(pairs, tmp_path, seed, fractions) == split


def test_default_fractions_and_seeds(tmp_path):
    pairs = pairs_named("abcdefghijklmnopqrst")
    split = split_pairs(pairs, tmp_path, 1)
    assert [len(part) for part in split.values()] == [12, 4, 4]
    assert split_pairs(pairs, tmp_path, 1) == split != split_pairs(pairs, tmp_path, 2)


def test_too_few_images(tmp_path):
    for count in range(3):
        words = [f"holds {count} image(s)", "at least three", "split.csv"]
        assert_user_error(lambda count=count: split_pairs(pairs_named("ab"[:count]), tmp_path, 0), tmp_path, *words)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)])
def test_fractions_that_make_no_sense(tmp_path, fractions):
    assert_user_error(lambda: split_pairs(pairs_named("abc"), tmp_path, 0, fractions), "fractions", "add up to 1")


def test_split_csv_decides(tmp_path):
    rows = [{"stem": stem, "split": split} for stem, split in (("b", "train"), ("a", "train"), ("é", "valid"))]
    write_csv(tmp_path / "split.csv", rows)
    split = split_pairs(pairs_named("aéb"), tmp_path, 0)
    assert stems_of(split) == {"train": ["a", "b"], "valid": ["é"], "test": []}


@pytest.mark.parametrize(
    "text", ["\ufeffstem,split\r\na,train\r\nb,valid\r\n", "note,split,stem\n,train ,a\nx, valid,b\n"]
)
def test_split_csv_of_a_spreadsheet(tmp_path, text):
    (tmp_path / "split.csv").write_text(text, encoding="utf-8", newline="")
    assert stems_of(split_pairs(pairs_named("ab"), tmp_path, 0)) == {"train": ["a"], "valid": ["b"], "test": []}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stem,split\na,train\nb,train\nx,test\n", ["'x' is not the name", "'c' is left out"]),
        ("stem,split\na,train\nb,train\nc.png,test\n", ["'c.png' is not the name (without suffix)"]),
        ("stem,split\na,train\nb,dev\nc,test\n", ["'b' has the unknown split 'dev'"]),
        ("stem,split\na,train\nb,test\nc,test\na,test\n", ["'a' is listed more than once"]),
        ("stem,split\na,train\nb,test\n", ["'c' is left out"]),
        ("stem,split\na,valid\nb,test\nc,test\n", ["no image is left for training"]),
        ("stem,split\na,train\nb\nc,test\n", ["'b' has the unknown split ''"]),
        ("name,part\na,train\n", ["columns stem and split", "stem,split"]),
        ("stem;split\na;train\n", ["semicolons between its columns", "comma-separated", "stem,split"]),
        ("\ufeffstem;split\r\na;train\r\n", ["semicolons between its columns", "comma-separated"]),
        ("stem\tsplit\na\ttrain\n", ["tabs between its columns", "comma-separated"]),
        ("Stem,Split\na,train\n", ["columns stem and split", "stem,split"]),
        ('stem,split\n"a,train\n' + "x" * 200_000, ["not a readable table (field larger than", "comma-separated"]),
        ("stem,split\n", ["no rows"]),
        ("", ["no rows"]),
    ],
)
def test_errors_in_split_csv(tmp_path, text, words):
    path = tmp_path / "split.csv"
    path.write_text(text, encoding="utf-8")
    assert_user_error(lambda: split_pairs(pairs_named("abc"), tmp_path, 0), path, *words)


@pytest.mark.parametrize(
    ("encoding", "problem"),
    [("latin-1", "is not UTF-8 text (byte 11)"), ("cp1252", "is not UTF-8 text"), ("utf-16", "is UTF-16 text")],
)
def test_split_csv_in_another_encoding(tmp_path, encoding, problem):
    path = tmp_path / "split.csv"
    path.write_bytes("stem,split\nä,train\n".encode(encoding))
    assert_user_error(lambda: split_pairs(pairs_named("ä"), tmp_path, 0), path, problem, "UTF-8", "stem,split")


def test_split_csv_that_is_no_file(tmp_path):
    path = tmp_path / "split.csv"
    path.mkdir()
    assert_user_error(lambda: split_pairs(pairs_named("abc"), tmp_path, 0), path, "Is a directory", "permissions")
    path.rmdir()
    os.mkfifo(path)
    assert_user_error(lambda: split_pairs(pairs_named("abc"), tmp_path, 0), path, "is a pipe", "ordinary file")


# ---------------------------------------------------------------- check_folder, hash_folder


def test_check_of_a_sound_folder(tmp_path):
    folder = make_folder(tmp_path, ("a", "b"))
    save(folder / "images" / "c.tif", np.linspace(1000, 4000, 40_000).reshape(200, 200).astype(np.uint16))
    save(folder / "masks" / "c.jpg", DISCS.astype(np.uint8) * 255)
    save_tiff(folder / "images" / "d.tif", np.dstack([np.zeros_like(Y), X, Y, X]).astype(np.uint8), photometric="rgb")
    save(folder / "masks" / "d.png", np.zeros((200, 200), np.uint8))
    save(folder / "images" / "e.png", np.zeros((200, 200), np.uint8))
    save(folder / "masks" / "e.png", LABELS.astype(np.uint16))
    save(folder / "masks" / "b.png", np.full((200, 200), 255, np.uint8))
    write_csv(folder / "split.csv", [{"stem": stem, "split": "train"} for stem in "abcde"])
    rows, problems = check_folder(folder)
    assert problems == []
    assert [list(row) for row in rows] == [list(images.COLUMNS)] * 5
    first = {"stem": "a", "split": "train", "height": 200, "width": 200, "dtype": "uint8", "channels": 1}
    assert rows[0] == first | {"foreground_percent": 100 * DISCS.mean(), "objects": 3, "note": ""}
    assert (rows[1]["foreground_percent"], rows[1]["objects"], rows[1]["note"]) == (100, 1, "mask is all foreground")
    assert (rows[2]["dtype"], rows[2]["channels"], rows[2]["objects"]) == ("uint16", 1, 3)
    assert rows[2]["note"] == "16-bit, scaled from 1003-3996, JPEG mask, thresholded at 127"
    assert (rows[3]["channels"], rows[3]["objects"], rows[3]["foreground_percent"]) == (4, 0, 0)
    assert rows[3]["note"] == "4 channels, first 3 used, red channel is all zero, mask is all zero"
    assert rows[4]["note"] == "image is all zero, image is of one colour, instance labels" and rows[4]["objects"] == 3
    write_csv(tmp_path / "report.csv", rows)


def test_check_goes_on_after_errors(tmp_path):
    folder = make_folder(tmp_path, "abcdef")
    (folder / "images" / "a.png").write_bytes(b"")
    (folder / "masks" / "b.png").write_text("no image")
    save(folder / "masks" / "c.png", DISCS[:90].astype(np.uint8))
    save(folder / "masks" / "d.png", cv2.GaussianBlur(DISCS.astype(np.uint8) * 255, (3, 3), 0))
    save(folder / "images" / "alone.png", np.dstack([DISCS * np.uint8(9)] * 3))
    (folder / "masks" / "orphan.png").write_bytes(b"")
    write_csv(folder / "split.csv", [{"stem": "a", "split": "trian"}])
    rows, problems = check_folder(folder)
    assert [row["stem"] for row in rows] == ["a", "alone", "b", "c", "d", "e", "f"]
    noted = [row["stem"] for row in rows if "see problems" in row["note"]]
    assert noted == ["a", "b", "c", "d"] and rows[0]["height"] is None and rows[0]["objects"] == 3
    for path in (
        "alone.png has no partner",
        "orphan.png has no partner",
        "split.csv",
        "images/a.png: is an empty file",
    ):
        assert sum(path in problem for problem in problems) == 1
    for path in ("masks/b.png: ", "masks/c.png: ", "masks/d.png: ", "masks/orphan.png: "):
        assert sum(path in problem for problem in problems) == 1
    assert len(problems) == 8 and all(problem.endswith(".") for problem in problems)


def test_check_of_hopeless_folders(tmp_path):
    rows, problems = check_folder(tmp_path / "none")
    assert rows == [] and len(problems) == 1 and "is not a folder" in problems[0]
    rows, problems = check_folder(make_folder(tmp_path, "ab"))
    assert len(rows) == 2 and len(problems) == 1 and "at least three" in problems[0]


def test_hash_depends_on_names_and_bytes_only(tmp_path):
    folder = make_folder(tmp_path / "one", "ab")
    before = hash_folder(folder)
    assert len(before) == 64 and int(before, 16)
    shutil.copytree(folder, tmp_path / "two" / "elsewhere")
    assert hash_folder(str(tmp_path / "two" / "elsewhere")) == before
    (folder / "images" / "note.txt").write_text("not data")
    assert hash_folder(folder) == before
    seen = {before}
    write_csv(folder / "split.csv", [{"stem": "a", "split": "train"}])
    seen.add(hash_folder(folder))
    (folder / "images" / "a.png").write_bytes((folder / "images" / "b.png").read_bytes())
    seen.add(hash_folder(folder))
    for name in ("images", "masks"):
        (folder / name / "b.png").rename(folder / name / "c.png")
    seen.add(hash_folder(folder))
    assert len(seen) == 4


def test_hash_does_not_depend_on_the_order_of_listing(tmp_path, monkeypatch):
    folder = make_folder(tmp_path)
    before, listing = hash_folder(folder), images.Path.iterdir
    monkeypatch.setattr(images.Path, "iterdir", lambda path: sorted(listing(path), reverse=True))
    assert hash_folder(folder) == before


def test_hash_refuses_what_find_pairs_refuses(tmp_path):
    assert_user_error(lambda: hash_folder(tmp_path), tmp_path, "holds none of them")


def test_require_sound_lists_all_problems_or_returns_the_rows(tmp_path):
    for stem in "abc":
        write_image(tmp_path / "images" / f"{stem}.png", RNG.integers(0, 256, (40, 40, 3), np.uint8))
        write_image(tmp_path / "masks" / f"{stem}.png", RNG.integers(0, 2, (40, 40)).astype(bool))
    assert [row["stem"] for row in images.require_sound(tmp_path)] == ["a", "b", "c"]
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "masks" / "c.png").write_bytes(b"text")
    with pytest.raises(UserError, match=r"(?s)a\.png: is an empty file.*c\.png: is not a PNG.*Mend these files"):
        images.require_sound(tmp_path)


# ---------------------------------------------------------------- what a run cannot use


def picture(number, height=60, width=70):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def data_set(folder, count=4, split=None):
    """Pairs a, b, c, ... of 60 x 70 pixels with 5 to 8 % foreground."""
    for number, stem in enumerate("abcdefgh"[:count]):
        save(folder / "images" / f"{stem}.png", picture(number))
        set_mask(folder, stem, 14 + number)
    if split:
        (folder / "split.csv").write_text("stem,split\n" + "".join(f"{row}\n" for row in split))
    return folder


def set_mask(folder, stem, side, value=255):
    mask = np.zeros((60, 70), np.uint8)
    mask[5 : 5 + side, 5 : 5 + side] = 255
    save(folder / "masks" / f"{stem}.png", mask if value else 255 - mask)


SPLIT = ["a,train", "b,valid", "c,test", "d,train"]


def write_copy(folder, source, target):
    (folder / target).write_bytes((folder / source).read_bytes())


def without_foreground(folder, stems):
    for stem in stems:
        save(folder / "masks" / f"{stem}.png", np.zeros((60, 70), np.uint8))


def without_background(folder, stems):
    for stem in stems:
        save(folder / "masks" / f"{stem}.png", np.full((60, 70), 255, np.uint8))


def of_one_colour(folder, stems):
    for stem in stems:
        save(folder / "images" / f"{stem}.png", np.zeros((60, 70, 3), np.uint8))


def of_size(folder, height, width):
    save(folder / "images" / "a.png", picture(0, height, width))
    save(folder / "masks" / "a.png", np.eye(height, width, dtype=np.uint8))


def inverted(folder, stems):
    for stem in stems:
        set_mask(folder, stem, 16, value=0)


def renamed(folder, stem):
    for part in ("images", "masks"):
        (folder / part / "a.png").rename(folder / part / f"{stem}.png")


def pipe(folder):
    (folder / "images" / "a.png").unlink()
    os.mkfifo(folder / "images" / "a.png")


FLAWS = {
    "copy in train and test": (lambda at: write_copy(at, "images/a.png", "images/c.png"), SPLIT, "a (train), c (test)"),
    "copy in train and valid": (
        lambda at: write_copy(at, "images/b.png", "images/d.png"),
        SPLIT,
        "b (valid), d (train)",
    ),
    "nothing anywhere": (lambda at: without_foreground(at, "abcd"), None, "no mask has any foreground"),
    "nothing in training": (lambda at: without_foreground(at, "ad"), SPLIT, "no mask for training has any foreground"),
    "no background": (lambda at: without_background(at, "abcd"), None, "no mask has any background"),
    "no background to learn": (
        lambda at: without_background(at, "ad"),
        SPLIT,
        "no mask for training has any background",
    ),
    "all black": (lambda at: of_one_colour(at, "abcd"), SPLIT, "every image for training is of one colour"),
    "1 x 1": (lambda at: of_size(at, 1, 1), SPLIT, "a.png: is only 1 x 1 pixels"),
    "3 x 300": (lambda at: of_size(at, 3, 300), SPLIT, "a.png: is only 3 x 300 pixels"),
    "20 x 20": (lambda at: of_size(at, 20, 20), None, "a.png: is only 20 x 20 pixels"),
    "half of the masks inverted": (lambda at: inverted(at, "bd"), SPLIT, "masks of b, d have at least 94 % foreground"),
    "one mask inverted": (lambda at: inverted(at, "c"), None, "masks of c have at least 94 % foreground"),
    "240 letters": (lambda at: renamed(at, "n" * 240), None, "a name of 240 bytes, over 200"),
    "80 signs of 3 bytes": (lambda at: renamed(at, "細" * 80), None, "a name of 240 bytes, over 200"),
    "a pipe": (pipe, SPLIT, "is a pipe, a device or a socket"),
}


@pytest.mark.parametrize(("spoil", "split", "problem"), [pytest.param(*row, id=name) for name, row in FLAWS.items()])
def test_what_a_run_cannot_use_is_a_problem(tmp_path, spoil, split, problem):
    folder = data_set(tmp_path, split=split)
    assert check_folder(folder)[1] == []
    spoil(folder)
    problems = check_folder(folder)[1]
    assert any(problem in each for each in problems), problems
    assert_user_error(lambda: images.require_sound(folder), folder, problem)


USABLE = {
    "a blank image": lambda at: of_one_colour(at, "b"),
    "an image without cells": lambda at: without_foreground(at, "a"),
    "a full mask": lambda at: without_background(at, "b"),
    "32 x 32": lambda at: of_size(at, 32, 32),
    "mathtext": lambda at: renamed(at, "$x^2$ and $\\frac"),
    "200 letters": lambda at: renamed(at, "n" * 200),
    "dense tissue": lambda at: [set_mask(at, stem, side) for stem, side in zip("abcd", (56, 58, 30, 40), strict=True)],
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in USABLE.items()])
def test_what_a_run_can_use_is_no_problem(tmp_path, change):
    folder = data_set(tmp_path)
    change(folder)
    assert check_folder(folder)[1] == []
    assert len(images.require_sound(folder)) == 4


def test_the_same_pixels_in_other_bytes_are_the_same_picture(tmp_path):
    folder = data_set(tmp_path, split=SPLIT)
    (folder / "images" / "c.png").unlink()
    save_tiff(folder / "images" / "c.tif", picture(0), compression="zlib")
    rows, problems = check_folder(folder)
    assert len(problems) == 1 and "a (train), c (test) are the same picture. Keep one of them" in problems[0]
    assert [row["note"] for row in rows] == ["", "", "same picture as a", ""]


def test_the_same_picture_twice_is_told_where_no_split_is_given(tmp_path, capsys):
    folder = data_set(tmp_path)
    write_copy(folder, "images/a.png", "images/c.png")
    rows, problems = check_folder(folder)
    assert problems == [] and rows[2]["note"] == "same picture as a"
    assert len(images.require_sound(folder)) == 4
    remedy = "Keep one of them, or give them the same split in split.csv, or the split that is drawn may separate them."
    assert capsys.readouterr().out == f"warning: a, c are the same picture. {remedy}\n"
    (folder / "split.csv").write_text("stem,split\na,train\nb,valid\nc,train\nd,test\n")
    assert len(images.require_sound(folder)) == 4 and capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path, monkeypatch):
    folder, listing = data_set(tmp_path), images.Path.iterdir

    def refuse(path):
        if path.name == "masks":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(images.Path, "iterdir", refuse)
    assert f"{folder}: masks cannot be read (Permission denied)." in check_folder(folder)[1]
