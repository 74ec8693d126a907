"""One picture in every kind of TIFF: read the same way whole, by rows and by `data check`, or refused by name."""

import contextlib
import itertools
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import pictures
from tiledseg_utils.data.masks import read_mask
from tiledseg_utils.data.pictures.stored import tell_notes
from tiledseg_utils.data.streaming import open_source

from .picture_files import (
    GREY,
    HEIGHT,
    NUMBERS,
    PICTURE,
    TABLE,
    WIDTH,
    assert_read_alike,
    assert_refused,
    low_bits,
    pack,
    raw_tiff,
    to_cmyk,
    to_ycbcr,
)

JPEG_LOSS = 14  # grey levels
INVERTED = "WhiteIsZero, inverted"


# What is stored for the picture by each PhotometricInterpretation, and what is shown.
STORED = {
    0: ("miniswhite", 255 - GREY, np.dstack([GREY] * 3)),
    1: ("minisblack", GREY, np.dstack([GREY] * 3)),
    2: ("rgb", PICTURE, PICTURE),
    3: ("palette", NUMBERS, TABLE[NUMBERS]),
    5: ("separated", to_cmyk(PICTURE), PICTURE),
    6: ("ycbcr", to_ycbcr(PICTURE), PICTURE),
    8: ("cielab", PICTURE, None),
}
COMPRESSIONS = {"none": None, "zlib": "zlib", "LZW": "lzw", "JPEG": "jpeg", "ZSTD": "zstd", "JPEG 2000": "jpeg2000"}


def write_tiff(path, photometric, compression, orientation=1, alpha=None, planar=False, **more):
    name, pixels, _ = STORED[photometric]
    options = {"photometric": name, "compression": COMPRESSIONS[compression], "metadata": None}
    if orientation != 1:
        options["extratags"] = [(274, "H", 1, orientation, True)]
    if photometric == 3:
        options["colormap"] = TABLE.T.astype(np.uint16) * 257
    if compression == "JPEG":
        options["compressionargs"] = {"level": 95}
        if photometric in (2, 6) and not planar:  # tifffile converts RGB by itself
            pixels = PICTURE
            options |= {"photometric": "rgb", "subsampling": (1, 1)}
            options["compressionargs"]["outcolorspace"] = name
    if alpha is not None:
        pixels = np.dstack([pixels, np.full((HEIGHT, WIDTH), alpha, np.uint8)])
        options["extrasamples"] = [more.pop("extrasample", "unassalpha")]
        if photometric == 3:  # tifffile writes no table beside alpha
            table = options.pop("colormap").ravel().tolist()
            options["extratags"] = [*options.get("extratags", []), (320, "H", 768, table, True)]
            options["photometric"] = "minisblack"
    if pixels.ndim == 3:
        options["planarconfig"] = "separate" if planar else "contig"
        pixels = np.moveaxis(pixels, -1, 0) if planar else pixels
    if compression == "JPEG" and pixels.shape[-1] > 3 and alpha is not None and not planar:  # nothing writes this
        options |= {"shape": pixels.shape, "dtype": np.uint8, "photometric": name, "rowsperstrip": HEIGHT}
        options.pop("subsampling", None)
        pixels = iter([imagecodecs.jpeg8_encode(np.dstack([GREY] * 4))])
    else:
        pixels = np.ascontiguousarray(pixels)
    tifffile.imwrite(path, pixels, **options | more)
    if photometric == 3 and alpha is not None:
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages.first.tags[262].overwrite(3)


def refusal(photometric, compression, alpha, planar):
    """The words of the message where a combination must be refused, else None."""
    if photometric == 8:
        return "CIELAB"
    if photometric == 3 and compression in ("JPEG", "JPEG 2000"):
        return f"a colour table in {compression.replace(' ', '')}"
    if photometric == 6 and compression == "JPEG 2000":
        return "YCBCR in JPEG2000"
    if compression == "JPEG" and alpha is not None and not planar:
        return "channels in JPEG"
    return None


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("photometric", STORED)
def test_one_picture_in_every_kind_of_tiff(tmp_path, photometric, compression):
    """64 files each, 2,688 in all."""
    shown = STORED[photometric][2]
    loss = JPEG_LOSS if compression == "JPEG" else 2 if photometric == 6 else 1 if photometric == 5 else 0
    alphas, path = (None, 0, 128, 255), tmp_path / "a.tif"
    for orientation, alpha, planar in itertools.product(range(1, 9), alphas, (False, True)):
        write_tiff(path, photometric, compression, orientation, alpha, planar)
        words = refusal(photometric, compression, alpha, planar)
        if words:
            assert_refused(path, words)
            continue
        image, notes = assert_read_alike(path)
        assert np.abs(image.astype(int) - shown).max() <= loss, (orientation, alpha, planar)
        assert any(f"orientation tag {orientation} is not applied" in note for note in notes) == (orientation > 1)
        assert (INVERTED in notes) == (photometric == 0)


def test_what_was_done_to_a_file_is_told_once(tmp_path, caplog):
    for name in ("image", "mask"):
        write_tiff(tmp_path / f"{name}.tif", 0, "LZW", orientation=6)
    tell_notes.cache_clear()
    for _ in range(2):
        pictures.read_image(tmp_path / "image.tif")
        open_source(tmp_path / "image.tif").close()
        with contextlib.suppress(UserError):  # greys are refused as a mask
            read_mask(tmp_path / "mask.tif")
    turned = "orientation tag 6 is not applied: viewers show it turned by 90 degrees clockwise"
    expected = [f"{tmp_path / name}: {note}" for name in ("image.tif", "mask.tif") for note in (turned, INVERTED)]
    assert caplog.messages == expected


# ---------------------------------------------------------------- more of TIFF


@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("photometric", [0, 1, 2, 5])
def test_colours_never_depend_on_transparency(tmp_path, photometric, planar, kind):
    """Premultiplied colours have lost what transparency took from them; they are taken where it took nothing."""
    for alpha in (0, 128, 255):
        write_tiff(tmp_path / "a.tif", photometric, "LZW", alpha=alpha, planar=planar, extrasample=kind)
        if kind == "assocalpha" and alpha < 255:
            assert_refused(tmp_path / "a.tif", "partly transparent (at row 0, column 0)")
        else:
            image, _ = assert_read_alike(tmp_path / "a.tif")
            assert np.abs(image.astype(int) - STORED[photometric][2]).max() <= (photometric == 5)


LAYOUTS = {
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 16)},
    "big": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian tiles": {"byteorder": ">", "tile": (16, 16)},
    "predictor": {"predictor": True, "rowsperstrip": 5},
}
DEPTHS = {
    "uint8": PICTURE,
    "uint16": PICTURE.astype(np.uint16) * 257,
    "int16": PICTURE.astype(np.int16) - 100,
    "grey uint16": GREY.astype(np.uint16) * 9,
    "uint32": GREY.astype(np.uint32) * 2**20,
}
BYTEWISE = ("none", "zlib", "LZW", "ZSTD", "packbits", "lzma")
WITHOUT_LOSS = [case for case in itertools.product(DEPTHS, LAYOUTS, BYTEWISE) if case[1:] != ("predictor", "none")]
# These have their own order of bytes, and no predictor.
WITHOUT_LOSS += itertools.product(
    ["uint8", "uint16", "grey uint16"], ["strips", "tiles", "big"], ["jpegxl", "jpeg2000"]
)


@pytest.mark.parametrize(("depth", "layout", "compression"), WITHOUT_LOSS)
def test_depths_layouts_and_compressions_without_loss(tmp_path, depth, layout, compression):
    pixels = DEPTHS[depth]
    options = LAYOUTS[layout] | {"compression": COMPRESSIONS.get(compression, compression)}
    options["photometric"] = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    expected = pictures.to_rgb(pictures.Stored(np.atleast_3d(pixels), 3, False))[0]
    np.testing.assert_array_equal(pictures.read_image(tmp_path / "a.tif"), expected)
    if depth != "uint32":  # which is not read by rows
        np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_numbers_of_few_bits_are_spread_over_all_greys(tmp_path, bits, photometric):
    numbers = low_bits(bits)
    tags = {258: bits, 262: photometric}
    if photometric == 3:
        tags[320] = (TABLE[: 2**bits].T.astype(int) * 257).ravel().tolist()
    raw_tiff(tmp_path / "a.tif", pack(numbers, bits), tags)
    image, _ = assert_read_alike(tmp_path / "a.tif")
    greys = np.dstack([numbers * (255 // (2**bits - 1))] * 3)
    np.testing.assert_array_equal(image, {0: 255 - greys, 1: greys, 3: TABLE[numbers]}[photometric])


def test_twelve_bits_in_a_row_are_scaled_like_sixteen(tmp_path):
    values = (GREY.astype(int) * 16).ravel()
    pairs = np.repeat(values, 3)[: HEIGHT * WIDTH * 3].reshape(-1, 3)
    bits = ((pairs[:, :1] >> np.arange(11, -1, -1)) & 1).astype(np.uint8).reshape(HEIGHT, -1)
    raw_tiff(tmp_path / "a.tif", np.packbits(bits, axis=1).tobytes(), {258: 12})
    tifffile.imwrite(tmp_path / "b.tif", (GREY.astype(np.uint16) * 16))
    np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], assert_read_alike(tmp_path / "b.tif")[0])


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_colour_tables_of_all_programs(tmp_path, factor):
    """They are stored in 16 bits; some programs fill only the lower or only the upper 8."""
    raw_tiff(tmp_path / "a.tif", NUMBERS.tobytes(), {262: 3, 320: (TABLE.T.astype(int) * factor).ravel().tolist()})
    np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], TABLE[NUMBERS])
    np.testing.assert_array_equal(pictures.decode(tmp_path / "a.tif").indices, NUMBERS)


def test_a_colour_table_of_greys_is_no_colour_table(tmp_path):
    greys = np.repeat(np.arange(255, -1, -1), 3).reshape(256, 3)
    raw_tiff(tmp_path / "a.tif", NUMBERS.tobytes(), {262: 3, 320: (greys.T * 257).ravel().tolist()})
    stored = pictures.decode(tmp_path / "a.tif")
    assert stored.indices is None
    np.testing.assert_array_equal(stored.pixels[..., 0], 255 - NUMBERS)


RGB_BYTES, CMYK_BYTES, YCBCR_BYTES = PICTURE.tobytes(), to_cmyk(PICTURE).tobytes(), to_ycbcr(PICTURE).tobytes()
REFUSED_TIFFS = {
    "five inks": (CMYK_BYTES, {262: 5, 277: 4, 258: [8] * 4, 334: 5}, "other inks"),
    "other inks": (CMYK_BYTES, {262: 5, 277: 4, 258: [8] * 4, 332: 2}, "other inks"),
    "inverted inks": (CMYK_BYTES, {262: 5, 277: 4, 258: [8] * 4, 336: [255, 0]}, "other inks"),
    "three inks": (RGB_BYTES, {262: 5, 277: 3, 258: [8] * 3}, "3 channels, where its colours need 4"),
    "inks in 16 bits": (CMYK_BYTES * 2, {262: 5, 277: 4, 258: [16] * 4}, "SEPARATED in 16 bits"),
    "reduced colours": (YCBCR_BYTES, {262: 6, 277: 3, 258: [8] * 3, 530: [2, 2]}, "reduced resolution"),
    "default of colours": (YCBCR_BYTES, {262: 6, 277: 3, 258: [8] * 3}, "reduced resolution"),
    "video range": (
        YCBCR_BYTES,
        {262: 6, 277: 3, 258: [8] * 3, 530: [1, 1], 532: [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]},
        "another range",
    ),
    "other weights": (
        YCBCR_BYTES,
        {262: 6, 277: 3, 258: [8] * 3, 530: [1, 1], 529: [2126, 10000, 7152, 10000, 722, 10000]},
        "another range",
    ),
    "no table": (NUMBERS.tobytes(), {262: 3}, "a missing table"),
    "mask": (pack(low_bits(1), 1), {262: 4, 258: 1}, "MASK"),
    "ICC Lab": (RGB_BYTES, {262: 9, 277: 3, 258: [8] * 3}, "ICCLAB"),
    "ITU Lab": (RGB_BYTES, {262: 10, 277: 3, 258: [8] * 3}, "ITULAB"),
    "camera raw": (GREY.tobytes(), {262: 32803}, "CFA"),
    "linear raw": (RGB_BYTES, {262: 34892, 277: 3, 258: [8] * 3}, "LINEAR_RAW"),
    "LogLuv": (RGB_BYTES, {262: 32845, 277: 3, 258: [8] * 3}, "LOGLUV"),
    "unknown colours": (GREY.tobytes(), {262: 777}, "PhotometricInterpretation 777"),
    "negative with sign": (GREY.tobytes(), {262: 0, 339: 2}, "with sign"),
    "three bits": (GREY.tobytes(), {258: 3}, "numbers of 3 bits"),
    "5-6-5 bits": (GREY.tobytes() * 2, {262: 2, 277: 3, 258: [5, 6, 5]}, "(5, 6, 5) bits"),
    "mixed bits": (RGB_BYTES * 2, {262: 2, 277: 3, 258: [8, 16, 8]}, "(8, 16, 8) bits"),
    "two channels of RGB": (GREY.tobytes() * 2, {262: 2, 277: 2, 258: [8] * 2}, "2 channels, where its colours need 3"),
    "old JPEG": (GREY.tobytes(), {259: 6}, "the compression OJPEG"),
    "ThunderScan": (GREY.tobytes(), {259: 32809}, "the compression THUNDERSCAN"),
    "JPEG XR": (GREY.tobytes(), {259: 22610}, "the compression JPEGXR_NDPI"),
    "LERC": (GREY.tobytes(), {259: 34887}, "the compression LERC"),
    "unknown compression": (GREY.tobytes(), {259: 4711}, "the compression number 4711"),
}


@pytest.mark.parametrize("name", REFUSED_TIFFS)
def test_what_is_not_converted_right_is_refused_by_name(tmp_path, name):
    data, tags, words = REFUSED_TIFFS[name]
    raw_tiff(tmp_path / "a.tif", data, tags)
    assert_refused(tmp_path / "a.tif", "is a TIFF with", words, "which is not read")


def test_a_missing_photometric_tag_means_what_it_means_elsewhere(tmp_path):
    for pixels in (GREY, PICTURE):
        samples = pixels[0, 0].size
        raw_tiff(tmp_path / "a.tif", pixels.tobytes(), {277: samples, 258: [8] * samples})
        data = tmp_path.joinpath("a.tif").read_bytes()
        # 262 becomes 65000, a number that means nothing; the tags stay sorted well enough for all readers.
        (tmp_path / "a.tif").write_bytes(data.replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 65000, 3)))
        np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], np.atleast_3d(pixels) * np.ones(3))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("tags", [{}, {262: 0}, {266: 2}])
def test_fax_compressions(tmp_path, compression, tags):
    picture = Image.fromarray(PICTURE).convert("1")
    picture.save(tmp_path / "a.tif", compression=compression, tiffinfo=tags)
    shown = imagecodecs.tiff_decode((tmp_path / "a.tif").read_bytes(), asrgb=True)[..., :3]
    np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.tif")[0], shown)


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
BY_LIBTIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd")


@pytest.mark.parametrize(
    ("mode", "compression"), [*itertools.product(MODES, BY_LIBTIFF), *itertools.product(["L", "RGB", "CMYK"], ["jpeg"])]
)
def test_files_of_another_program_are_read_as_it_reads_them(tmp_path, mode, compression):
    """Pillow writes by libtiff, and reads by it, too."""
    Image.fromarray(PICTURE).convert(mode).save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as file:
        shown = np.asarray(file.convert("RGB")).astype(int)
    image, _ = assert_read_alike(tmp_path / "a.tif")
    assert np.abs(image - shown).max() <= (2 if mode in ("CMYK", "YCbCr") else 0)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_jpeg_beside_transparency_is_refused(tmp_path, mode):
    Image.fromarray(PICTURE).convert(mode).save(tmp_path / "a.tif", compression="jpeg")
    assert_refused(tmp_path / "a.tif", "channels in JPEG")
