"""Files that are damaged, odd, or more than one picture: told by their right name, and never read as something else."""

import itertools
import os
import re
import stat
import struct
import zlib

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import pictures

from .picture_files import (
    PICTURE,
    TABLE,
    assert_read_alike,
    assert_refused,
    bmp,
    chunk,
    jpeg_of,
    png,
    raw_tiff,
    rows_of,
)

RNG = np.random.default_rng(0)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (96, 128, 3), np.uint8), (0, 0), 3)
SMOOTH = cv2.normalize(SMOOTH, None, 0, 255, cv2.NORM_MINMAX)


def photo(**options):
    return jpeg_of(pixels=SMOOTH, **options)


def pixels_of(data):
    """Start and stop of the coded pixels of the last scan of a JPEG."""
    start = data.rfind(b"\xff\xda") + 20
    return start, len(data) - 2


def zeroed(data, length):
    start, stop = pixels_of(data)
    middle = (start + stop) // 2
    return data[:middle] + bytes(length) + data[middle + length :]


# ---------------------------------------------------------------- JPEG


@pytest.mark.parametrize(
    ("options", "length"),
    [
        *itertools.product([{}, {"restart_marker_rows": 1}, {"quality": 75}, {"progressive": True}], [64, 300]),
        *itertools.product([{}, {"restart_marker_rows": 1}, {"quality": 75}], [16]),
    ],
)
def test_zeros_in_a_jpeg(tmp_path, options, length):
    (tmp_path / "a.jpg").write_bytes(zeroed(photo(**options), length))
    assert_refused(tmp_path / "a.jpg", "damaged")


def damaged_jpegs():
    data, restarts = photo(), photo(restart_marker_rows=1)
    start, stop = pixels_of(data)
    middle = (start + stop) // 2
    yield "end marker glued on", data[:middle] + b"\xff\xd9", "premature end"
    yield "end marker in the middle", data[:middle] + b"\xff\xd9" + data[middle:], "premature end"
    progressive = photo(progressive=True)
    yield "progressive, end marker glued on", progressive[: len(progressive) * 4 // 5] + b"\xff\xd9", ""
    yield "pixels twice", data[:-2] + data[start:], "extraneous bytes"
    yield "piece left out", data[:middle] + data[middle + 300 :], "premature end"
    yield "restart markers exchanged", restarts.replace(b"\xff\xd3", b"\xff\xd5"), "instead of RST"
    yield "no pixels", data[: data.rfind(b"\xff\xda")] + b"\xff\xd9", ""
    yield "marker without a meaning", data[:20] + b"garbage" + data[20:], "bytes between its segments"
    counted = data[: data.rfind(b"\xff\xda")] + b"\xff\xda\0\3\xc8\xff\xd9"
    yield "too short a list of channels", counted, "segment that is too short"
    yield "cut", data[:middle], "cut short"
    yield "only its start", data[:4], "cut short"


@pytest.mark.parametrize(("data", "words"), [pytest.param(*rest, id=name) for name, *rest in damaged_jpegs()])
def test_damaged_jpegs(tmp_path, data, words):
    (tmp_path / "a.jpg").write_bytes(data)
    assert_refused(tmp_path / "a.jpg", "damaged", words)


def test_flat_areas_of_a_jpeg_are_no_damage(tmp_path):
    """With codes of its own, a flat area is nothing but zero bits."""
    flat = np.full((400, 400, 3), 90, np.uint8)
    flat[100:140, 100:140] = SMOOTH[:40, :40]
    for options in ({"optimize": True}, {}, {"progressive": True}, {"quality": 30, "optimize": True}):
        (tmp_path / "a.jpg").write_bytes(jpeg_of(pixels=flat, **options))
        assert np.abs(pictures.read_image(tmp_path / "a.jpg").astype(int) - flat)[200:].max() <= 3


def test_sound_jpegs_of_all_sizes_and_qualities_are_read(tmp_path):
    for number in range(120):
        height, width = RNG.integers(1, 90, 2)
        options = {"quality": int(RNG.integers(1, 100)), "optimize": bool(number % 2), "progressive": number % 3 == 0}
        data = jpeg_of(pixels=SMOOTH[:height, :width], subsampling=number % 3, **options)
        (tmp_path / "a.jpg").write_bytes(data)
        assert pictures.read_image(tmp_path / "a.jpg").shape == (height, width, 3)


# ---------------------------------------------------------------- PNG, BMP


def damaged_pngs():
    sound = png(2, PICTURE)
    start = sound.index(b"IDAT") + 4
    rows = zlib.decompress(sound[start:-16])
    head, end = sound[: start - 8], chunk(b"IEND", b"")
    yield (
        "bit turned",
        sound[: start + 50] + bytes([sound[start + 50] ^ 4]) + sound[start + 51 :],
        "checksum of its IDAT",
    )
    yield "header changed", sound.replace(struct.pack(">I", 17), struct.pack(">I", 18), 1), "checksum of its IHDR"
    yield "rows missing", head + chunk(b"IDAT", zlib.compress(rows[:-99])) + end, "Not enough image data"
    yield "pixels cut", head + chunk(b"IDAT", zlib.compress(rows)[:-99]) + end, "Not enough image data"
    yield "sum of pixels wrong", head + chunk(b"IDAT", zlib.compress(rows)[:-4] + b"abcd") + end, "incorrect data check"
    yield "end missing", sound[:-12], "cut short"
    yield "pixels missing", head + end, ""
    yield "header missing", sound[:8] + sound[33:], ""
    yield "table missing", png(3, PICTURE[..., 0]), ""
    table = chunk(b"PLTE", TABLE[:9].tobytes())
    yield "number beyond the table", png(3, PICTURE[..., 0], 8, table), "colour 178 of a table of 9 colours"


@pytest.mark.parametrize(("data", "words"), [pytest.param(*rest, id=name) for name, *rest in damaged_pngs()])
def test_damaged_pngs(tmp_path, capfd, data, words):
    (tmp_path / "a.png").write_bytes(data)
    assert_refused(tmp_path / "a.png", words)
    assert capfd.readouterr() == ("", "")


def test_an_animated_png(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2, PICTURE, 8, chunk(b"acTL", struct.pack(">II", 7, 0))))
    assert_refused(tmp_path / "a.png", "is an animated PNG of 7 pictures")


def test_a_cut_bmp(tmp_path):
    for bits, pixels in ((24, PICTURE), (8, PICTURE[..., 0])):
        (tmp_path / "a.bmp").write_bytes(bmp(pixels, bits)[:-200])
        assert_refused(tmp_path / "a.bmp", "cut short")


# ---------------------------------------------------------------- TIFF


def damage(path, change, index=0):
    """Change the bytes of a strip or tile."""
    with tifffile.TiffFile(path) as file:
        start, size = file.pages.first.dataoffsets[index], file.pages.first.databytecounts[index]
    data = bytearray(path.read_bytes())
    changed = change(bytes(data[start : start + size]))
    assert len(changed) == size
    data[start : start + size] = changed
    path.write_bytes(data)


def zero_middle(data):
    middle = len(data) // 2
    return data[:middle] + bytes(40) + data[middle + 40 :]


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ("lzw", "cannot be decoded"),
        ("zlib", "cannot be decoded"),
        ("lzma", "cannot be decoded"),
        ("packbits", "bytes instead of"),
        ("jpeg", "zeros in place of pixels"),
        ("jpegxl", "cannot be decoded"),
    ],
)
@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (64, 64)}])
def test_damaged_compressed_tiffs(tmp_path, compression, words, layout):
    runs = np.repeat(np.repeat(SMOOTH[::4, ::4], 4, axis=0), 4, axis=1) if compression == "packbits" else SMOOTH
    tifffile.imwrite(tmp_path / "a.tif", runs, photometric="rgb", compression=compression, **layout)
    assert_read_alike(tmp_path / "a.tif")
    damage(tmp_path / "a.tif", zero_middle, index=1)
    assert_refused(tmp_path / "a.tif", "is damaged: rows ", words)


def test_a_hundred_damaged_lzw_tiffs(tmp_path):
    """LZW has no checksum; but damaged, it hardly ever gives as many bytes as the rows need."""
    told, path = 0, tmp_path / "a.tif"
    for number in range(100):
        tifffile.imwrite(path, SMOOTH, photometric="rgb", compression="lzw")
        place, noise = 200 + 60 * number, RNG.bytes(16)
        damage(path, lambda data, place=place, noise=noise: data[:place] + noise + data[place + 16 :])
        try:
            pictures.read_image(path)
        except UserError as error:
            assert "is damaged: rows 0-95" in error.problem
            told += 1
    assert told >= 97


def test_pages_in_a_circle(tmp_path):
    """One that leads back to itself, and one that leads into the middle of nothing, where tifffile went in circles."""
    for following in (8, 4):
        raw_tiff(tmp_path / "a.tif", PICTURE.tobytes(), {262: 2, 277: 3, 258: [8] * 3})
        data = bytearray((tmp_path / "a.tif").read_bytes())
        (count,) = struct.unpack_from("<H", data, 8)
        data[10 + 12 * count : 14 + 12 * count] = struct.pack("<I", following)
        (tmp_path / "a.tif").write_bytes(data)
        assert_refused(tmp_path / "a.tif", "its chain of pages has no end")


@pytest.mark.parametrize("code", [273, 279])
@pytest.mark.parametrize("kind", [9, 11])
def test_places_of_pixels_must_be_whole_numbers(tmp_path, code, kind):
    """A damaged type makes a place negative (9) or decimal (11)."""
    raw_tiff(tmp_path / "a.tif", PICTURE.tobytes(), {262: 2, 277: 3, 258: [8] * 3})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    entry = data.index(struct.pack("<HHI", code, 4, 1))
    data[entry + 2] = kind
    data[entry + 8 : entry + 12] = struct.pack("<i", -9) if kind == 9 else struct.pack("<f", 8.5)
    (tmp_path / "a.tif").write_bytes(data)
    assert_refused(tmp_path / "a.tif", "not whole numbers from 0")


def test_sizes_that_no_picture_has_are_told_at_once(tmp_path):
    raw_tiff(
        tmp_path / "a.tif", imagecodecs.lzw_encode(PICTURE.tobytes()), {256: 60000, 257: 60000, 278: 60000, 259: 5}
    )
    assert_refused(tmp_path / "a.tif", "too few bytes for 60000 x 60000 numbers")


def test_lzw_that_is_none(tmp_path):
    raw_tiff(tmp_path / "a.tif", PICTURE.tobytes(), {259: 5, 262: 2, 277: 3, 258: [8] * 3})
    assert_refused(tmp_path / "a.tif", "is damaged: rows 0-23", "LZW")


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("missing", [1, 51, 600])
def test_a_strip_that_is_too_short(tmp_path, compression, missing):
    pack = {1: bytes, 5: imagecodecs.lzw_encode, 8: imagecodecs.zlib_encode, 32773: imagecodecs.packbits_encode}
    data = pack[compression](PICTURE.tobytes()[:-missing])
    raw_tiff(tmp_path / "a.tif", data, {259: compression, 262: 2, 277: 3, 258: [8] * 3})
    assert_refused(tmp_path / "a.tif", "damaged")


def test_trailing_bytes_of_a_strip_and_of_a_file_are_no_damage(tmp_path):
    for compression, data in ((1, PICTURE.tobytes()), (5, imagecodecs.lzw_encode(PICTURE.tobytes()))):
        raw_tiff(tmp_path / "a.tif", data + b"more", {259: compression, 262: 2, 277: 3, 258: [8] * 3})
        (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes() + b"more" * 99)
        np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], PICTURE)


def test_tiles_that_were_left_out_are_told(tmp_path):
    tiles = (None if number % 2 else np.full((16, 16), 9, np.uint8) for number in range(4))
    tifffile.imwrite(tmp_path / "a.tif", tiles, shape=(32, 32), dtype=np.uint8, tile=(16, 16))
    image, notes = assert_read_alike(tmp_path / "a.tif")
    assert notes == ["2 of 4 tiles are not in the file, taken as 0"] and not image[:, 16:].any()


def test_jpeg_2000_of_aperio_with_untransformed_colours(tmp_path):
    """Compression 33003 means luminance and colours, but the data do not say so."""
    codes = imagecodecs.jpeg2k_encode(PICTURE, level=0, mct=False, codecformat="j2k")
    raw_tiff(tmp_path / "a.tif", codes, {259: 33003, 262: 2, 277: 3, 258: [8] * 3})
    assert_refused(tmp_path / "a.tif", "YCbCr in JPEG 2000 (compression 33003)")
    raw_tiff(tmp_path / "a.tif", codes, {259: 33005, 262: 2, 277: 3, 258: [8] * 3})
    np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], PICTURE)
    raw_tiff(tmp_path / "a.tif", codes[:-300], {259: 33005, 262: 2, 277: 3, 258: [8] * 3})
    assert_refused(tmp_path / "a.tif", "JPEG 2000 without its end")


# ---------------------------------------------------------------- several pages

TILED = {"tile": (16, 16), "photometric": "rgb", "metadata": None}
PLAIN = {"photometric": "rgb", "metadata": None}
SLIDE = np.ascontiguousarray(SMOOTH[:96, :80])
APERIO = "Aperio Image Library\n80x96 [0,0 80x96] (16x16) JPEG/RGB Q=70|AppMag = 40"


def hamamatsu(lens):
    tags = [(65420, "I", 1, 1, True), (271, "s", 0, "Hamamatsu", True), (65421, "f", 1, lens, True)]
    return TILED | {"extratags": tags}


def small(step):
    return np.ascontiguousarray(SLIDE[::step, ::step])


LABEL = PICTURE[:20, :17]
SLIDES = {
    "Aperio": [
        (SLIDE, TILED | {"description": APERIO}),
        (small(4), PLAIN | {"description": APERIO}),
        (small(2), TILED | {"description": APERIO}),
        (LABEL, PLAIN | {"description": "Aperio label", "subfiletype": 1}),
        (LABEL, PLAIN | {"description": "Aperio macro", "subfiletype": 9}),
    ],
    "Aperio of one level": [(SLIDE, TILED | {"description": APERIO})],
    "Hamamatsu": [(SLIDE, hamamatsu(20.0)), (small(2), hamamatsu(10.0)), (LABEL, PLAIN), (small(4), hamamatsu(5.0))],
    "flagged": [(SLIDE, TILED), (small(2), TILED | {"subfiletype": 1}), (small(4), TILED | {"subfiletype": 1})],
    "without flags": [(SLIDE, TILED), (small(2), TILED), (small(4), TILED)],
    "without flags, with a label": [(SLIDE, TILED), (small(2), TILED), (LABEL, PLAIN)],
    "SubIFDs": [(SLIDE, TILED | {"subifds": 2}), (small(2), TILED | {"subfiletype": 1}), (small(4), TILED)],
}


@pytest.mark.parametrize("name", SLIDES)
@pytest.mark.parametrize("suffix", ["tif", "svs", "ndpi"])
def test_of_a_slide_level_0_is_used(tmp_path, name, suffix):
    with tifffile.TiffWriter(tmp_path / f"a.{suffix}") as file:
        for pixels, options in SLIDES[name]:
            file.write(pixels, **options)
    image, notes = assert_read_alike(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image, SLIDE)
    assert len(notes) == 1 and re.match(r"slide.*level 0 of \d", notes[0])


OTHERS = {
    "thumbnail": ([(SLIDE, PLAIN), (small(4), PLAIN | {"subfiletype": 1})], "the largest of 2 pages used"),
    "thumbnail first": ([(small(4), PLAIN | {"subfiletype": 1}), (SLIDE, PLAIN)], "the largest of 2 pages used"),
    "mask": (
        [(SLIDE, PLAIN), (SLIDE[..., 0] > 99, {"photometric": "mask", "subfiletype": 4, "metadata": None})],
        "the largest of 2 pages used",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_copies_and_masks_beside_a_picture_are_left_out(tmp_path, name):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for pixels, options in OTHERS[name][0]:
            file.write(pixels, **options)
    image, notes = assert_read_alike(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, SLIDE)
    assert len(notes) == 1 and OTHERS[name][1] in notes[0]


GREY_PAGE = {"photometric": "minisblack", "metadata": None}
STACKS = {
    "planes": ([(np.stack([SLIDE[..., 0]] * 3), GREY_PAGE)], "is a stack of several pages, 3 of 96 x 80 pixels"),
    "colours": ([(SLIDE, PLAIN), (SLIDE, PLAIN)], "is a stack of several pages, 2 of 96 x 80 x 3 pixels"),
    "different pictures": (
        [(SLIDE, PLAIN), (LABEL, PLAIN)],
        "of different sizes (20 x 17 x 3, 96 x 80 x 3)",
    ),
    "different tiled pictures": ([(SLIDE, TILED), (SLIDE[:50], TILED)], "holds 2 pages of different sizes"),
    "focal planes": (
        [
            (SLIDE, TILED | {"description": APERIO}),
            (small(4), PLAIN),
            (SLIDE, TILED),
            (small(2), TILED),
            (small(2), TILED),
        ],
        "is a slide (Aperio) with 2 focal planes or channels",
    ),
    "a file of a camera": (
        [(small(4), PLAIN | {"subfiletype": 1, "subifds": 1}), (SLIDE, PLAIN)],
        "begins with a thumbnail",
    ),
    "one page, many planes": (
        [(np.stack([SLIDE[..., 0]] * 3), {"photometric": "minisblack"})],
        "is a stack of several pages, 3 x 96 x 80",
    ),
}


@pytest.mark.parametrize("name", STACKS)
def test_several_pictures_are_called_what_they_are(tmp_path, name):
    pages, words = STACKS[name]
    if name == "one page, many planes":
        tifffile.imwrite(tmp_path / "a.tif", pages[0][0], truncate=True, **pages[0][1])
    else:
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            for pixels, options in pages:
                file.write(pixels, **options)
    assert_refused(tmp_path / "a.tif", words)


def test_a_volume(tmp_path):
    volume = np.zeros((16, 32, 32), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", volume, volumetric=True, tile=(16, 16, 16), photometric="minisblack")
    assert_refused(tmp_path / "a.tif", "a volume (16 x 32 x 32 ZYX)")


def test_one_file_of_a_set_is_read_alone_and_beside_the_others(tmp_path):
    """The metadata of each speak of all, by their names."""
    uuids = [f"urn:uuid:{number * 8}-{number * 4}-{number * 4}-{number * 4}-{number * 12}" for number in "12"]
    places = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="c{c}.ome.tif">{uuids[c]}</UUID></TiffData>'
        for c in (0, 1)
    )
    size = 'SizeX="80" SizeY="96" SizeC="2" SizeZ="1" SizeT="1"'
    (tmp_path / "alone").mkdir()
    for channel in (0, 1):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[channel]}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" {size}>{places}</Pixels>'
            "</Image></OME>"
        )
        for path in (tmp_path / f"c{channel}.ome.tif", tmp_path / "alone" / f"field{channel}.tif"):
            tifffile.imwrite(path, SLIDE[..., channel], description=xml, metadata=None, photometric="minisblack")
    for channel in (0, 1):
        for path in (tmp_path / f"c{channel}.ome.tif", tmp_path / "alone" / f"field{channel}.tif"):
            image, notes = assert_read_alike(path)
            np.testing.assert_array_equal(image, np.dstack([SLIDE[..., channel]] * 3))
            assert notes == []


# ---------------------------------------------------------------- what is no file


def test_pipes_and_devices_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zeros.png"):
        assert not stat.S_ISREG(os.stat(tmp_path / name).st_mode)
        for read in (pictures.read_image, rows_of):
            with pytest.raises(UserError, match="is a pipe, a device or a socket, not a file"):
                read(tmp_path / name)


def test_names_that_lead_nowhere(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.png").mkdir()
    expected = {"loop.png": "Too many levels", "dangling.png": "No such file", "folder.png": "Is a directory"}
    expected |= {"null\0.png": "null", "x" * 300: "File name too long"}
    for name, words in expected.items():
        for read in (pictures.read_image, rows_of):
            with pytest.raises(UserError, match=f"cannot be opened .*{words}"):
                read(tmp_path / name)
