"""Rows in: the same values as whole images, in little memory."""

import itertools
import os
import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import pictures
from tiledseg_utils.data.pictures import tiff_rows
from tiledseg_utils.data.streaming import open_source, percentile_of_counts

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 75, 53


def assert_user_error(call, path, *words):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(caught.value.remedy) > 10
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"


def read_in_bands(image, step=20, overlap=6):
    """All rows, read in overlapping bands, each of which must repeat what it shares with the last."""
    with open_source(image) as source:
        height = source.shape[0]
        whole = np.empty((*source.shape, 3), source.dtype)
        for start in range(0, height, step):
            rows = source.read_rows(first := max(start - overlap, 0), stop := min(start + step, height))
            assert rows.shape == (stop - first, source.shape[1], 3) and rows.dtype == source.dtype
            assert rows.flags.c_contiguous and rows.flags.writeable
            np.testing.assert_array_equal(rows[: start - first], whole[first:start])
            whole[first:stop] = rows
        np.testing.assert_array_equal(source.read_rows(0, height), whole)
    return whole


def pixels_of(dtype, channels):
    shape = (HEIGHT, WIDTH, channels) if channels else (HEIGHT, WIDTH)
    return RNG.normal(0.4, 0.1, shape) > 0.4 if dtype is bool else RNG.normal(90, 12, shape).astype(dtype)


# ---------------------------------------------------------------- reading


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "deflated strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one deflated strip": {"rowsperstrip": HEIGHT, "compression": "zlib"},
    "tiles": {"tile": (16, 32)},
    "deflated tiles": {"tile": (32, 16), "compression": "zlib"},
    "predictor": {"tile": (16, 16), "compression": "zlib", "predictor": True},
    "bigtiff": {"tile": (16, 16), "bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian tiles": {"byteorder": ">", "tile": (16, 16), "compression": "zlib"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int8])
@pytest.mark.parametrize("channels", [0, 2, 3, 4, 5])
def test_tiff_gives_what_read_image_gives(tmp_path, layout, dtype, channels):
    options = LAYOUTS[layout] | {"photometric": "rgb" if channels > 2 else "minisblack"}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels_of(dtype, channels), planarconfig="contig" if channels else None, **options)
    np.testing.assert_array_equal(read_in_bands(path), pictures.read_image(path))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_tiff_with_separate_planes(tmp_path, layout, channels):
    planes = np.moveaxis(pixels_of(np.uint16, channels), -1, 0)
    photometric = "rgb" if channels > 2 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric=photometric, planarconfig="separate", **LAYOUTS[layout])
    np.testing.assert_array_equal(read_in_bands(tmp_path / "a.tif"), pictures.read_image(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".png", []), (".jpg", []), (".bmp", []), (".tif", [cv2.IMWRITE_TIFF_COMPRESSION, 5]), (".tif", [259, 32773])],
)
@pytest.mark.parametrize("channels", [0, 3])
def test_files_of_opencv_give_what_read_image_gives(tmp_path, suffix, options, channels):
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), pixels_of(np.uint8, channels), options)
    np.testing.assert_array_equal(read_in_bands(path), pictures.read_image(path))


def test_tiff_of_one_bit_of_a_palette_and_with_empty_tiles(tmp_path):
    tifffile.imwrite(tmp_path / "bit.tif", pixels_of(bool, 0))
    palette = RNG.integers(0, 65536, (3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", pixels_of(np.uint8, 0), photometric="palette", colormap=palette)
    tiles = (None if number % 3 else np.full((16, 16), number, np.uint8) for number in range(20))
    tifffile.imwrite(tmp_path / "empty.tif", tiles, shape=(HEIGHT, WIDTH), dtype=np.uint8, tile=(16, 16))
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_in_bands(path), pictures.read_image(path))


@given(
    values=hnp.arrays(st.sampled_from([np.uint16, np.int16, np.int8]), hnp.array_shapes(max_dims=1, max_side=3000)),
    percent=st.floats(0, 100) | st.sampled_from(pictures.PERCENTILES),
)
@settings(max_examples=200, deadline=None)
def test_percentiles_of_counts_are_those_of_numpy(values, percent):
    first = int(values.min())
    counts = np.bincount(values.astype(np.int64) - first)
    expected = np.percentile(values.astype(np.float64), percent)  # int16 itself overflows in NumPy 2.4
    assert percentile_of_counts(counts, percent, first) == expected


@pytest.mark.parametrize("value", [0, 4095, 65535])
def test_constant_and_nearly_constant_16_bit(tmp_path, value):
    pixels = np.full((HEIGHT, WIDTH), value, np.uint16)
    for spots in (0, 2):
        pixels[40, :spots] = value // 2
        tifffile.imwrite(tmp_path / "a.tif", pixels)
        np.testing.assert_array_equal(read_in_bands(tmp_path / "a.tif"), pictures.read_image(tmp_path / "a.tif"))


def test_percentiles_come_from_one_pass(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", pixels_of(np.uint16, 3), photometric="rgb", **LAYOUTS["deflated tiles"])
    decoded, decode = [], tiff_rows._Segments._decode
    monkeypatch.setattr(
        tiff_rows._Segments, "_decode", lambda self, index: decoded.append(index) or decode(self, index)
    )
    with open_source(tmp_path / "a.tif") as source:
        assert decoded == []
        source.read_rows(40, 50)
        assert sorted(decoded) == list(range(12))
        source.read_rows(45, 60)
        assert len(decoded) == 12  # the last pass has left these tiles


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool, np.float32, ">u2", "<f2", ">f8"])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_and_npy_files(tmp_path, dtype, channels, order):
    pixels = np.asarray(pixels_of(dtype, channels), order=order)
    np.save(tmp_path / "a.npy", pixels)
    used = np.atleast_3d(pixels)[..., : 3 if channels >= 3 else 1]
    if used.dtype.kind == "f":
        expected = used.astype(np.float32)
    elif dtype in (np.uint16, ">u2"):
        expected = pictures.scale_to_uint8(used.astype(np.uint16), *np.percentile(used, pictures.PERCENTILES).tolist())
    else:
        expected = used.astype(np.uint8) * (255 if dtype is bool else 1)
    expected = np.broadcast_to(expected, (HEIGHT, WIDTH, 3))
    for image in (pixels, tmp_path / "a.npy", str(tmp_path / "a.npy"), np.load(tmp_path / "a.npy", mmap_mode="r")):
        np.testing.assert_array_equal(read_in_bands(image), expected)


def test_rows_are_a_copy():
    pixels = pixels_of(np.uint8, 3)
    before = pixels.copy()
    open_source(pixels).read_rows(0, HEIGHT)[:] = 0
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
@pytest.mark.parametrize(("value", "state"), [(np.nan, "not a number"), (-np.inf, "infinite"), (1e39, "infinite")])
def test_floats_must_be_finite_in_the_rows_that_are_read(tmp_path, suffix, value, state):
    pixels = pixels_of(np.float64, 3)
    path = tmp_path / f"a{suffix}"

    def save(path, pixels):
        np.save(path, pixels) if suffix == ".npy" else tifffile.imwrite(path, pixels, photometric="rgb")

    save(path, pixels)
    np.testing.assert_array_equal(read_in_bands(path), pixels.astype(np.float32))
    pixels[12, 7, 1] = pixels[12, 9, 0] = value
    save(path, pixels)
    with open_source(path) as source:
        assert source.dtype == np.float32
        np.testing.assert_array_equal(source.read_rows(2, 12), pixels[2:12].astype(np.float32))
        assert_user_error(lambda: source.read_rows(5, 20), path, f"pixel (row 12, column 7) is {state}")
        source.read_rows(13, HEIGHT)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 5), np.uint8), ["no pixels", "0 x 5"]),
        (np.zeros((5, 0, 3), np.uint8), ["no pixels", "5 x 0"]),
        (np.zeros((5, 5, 0), np.uint8), ["(5, 5, 0)"]),
        (np.zeros((3, 50, 50), np.uint8), ["(3, 50, 50)", "1 to 4 channels"]),
        (np.zeros((2, 5, 5, 3), np.uint8), ["(2, 5, 5, 3)"]),
        (np.zeros(5, np.uint8), ["(5,)"]),
        (np.zeros((5, 5), np.int32), ["int32", "uint8"]),
        (np.zeros((5, 5), np.int64), ["int64"]),
        (np.zeros((5, 5), complex), ["complex128"]),
        (np.zeros((5, 5), "U3"), ["str"]),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, words):
    assert_user_error(lambda: open_source(array), "image", *words)
    np.save(tmp_path / "a.npy", array)
    assert_user_error(lambda: open_source(tmp_path / "a.npy"), tmp_path / "a.npy", *words)


def test_rows_outside_the_image():
    source = open_source(pixels_of(np.uint8, 0))
    for start, stop in ((-1, 5), (5, 5), (7, 5), (0, HEIGHT + 1)):
        with pytest.raises(ValueError, match="are not within the 75 rows of image"):
            source.read_rows(start, stop)


def test_files_that_cannot_be_opened(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((4, 9, 9), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "wide.tif", np.zeros((9, 9), np.int32))
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.npy").write_text("stem,split")
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    expected = {
        "stack.tif": "stack of several pages",
        "wide.tif": "holds int32",
        "empty.tif": "is an empty file",
        "text.npy": "is not a PNG",
        "objects.npy": "cut or damaged",
        "none.tif": "cannot be opened (No such file",
        "": "cannot be opened (Is a directory)",
    }
    for name, problem in expected.items():
        assert_user_error(lambda name=name: open_source(tmp_path / name), tmp_path / name, problem)


@pytest.mark.parametrize("name", ["npy", "one strip", "deflated strips", "tiles"])
def test_cut_files_are_refused_when_they_are_opened(tmp_path, name):
    pixels, path = pixels_of(np.uint8, 3), tmp_path / ("a.npy" if name == "npy" else "a.tif")
    np.save(path, pixels) if name == "npy" else tifffile.imwrite(path, pixels, **LAYOUTS[name])
    data = path.read_bytes()
    for length in {*range(1, 400, 3), *range(400, len(data), 97), len(data) - 1}:
        path.write_bytes(data[:length])
        assert_user_error(lambda: open_source(path), path)


@pytest.mark.parametrize(
    ("layout", "index", "region", "good"),
    [
        ({"rowsperstrip": 10}, 3, "rows 30-39, columns 0-52", [(0, 30), (40, 75)]),
        ({"rowsperstrip": 10}, 7, "rows 70-74, columns 0-52", [(0, 70)]),
        ({"tile": (32, 16)}, 6, "rows 32-63, columns 32-47", [(0, 32), (64, 75)]),
        ({"tile": (32, 16)}, 11, "rows 64-74, columns 48-52", [(0, 64)]),
    ],
)
def test_damage_is_told_where_it_is(tmp_path, layout, index, region, good):
    pixels, path = pixels_of(np.uint8, 3), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, compression="zlib", **layout)
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages.first.dataoffsets[index], file.pages.first.databytecounts[index]
    data = bytearray(path.read_bytes())
    data[offset + size // 2 : offset + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with open_source(path) as source:
        for start, stop in good:
            np.testing.assert_array_equal(source.read_rows(start, stop), pixels[start:stop])
        for _ in range(2):
            words = ["is damaged: " + region + " cannot be decoded (", "Copy it again"]
            assert_user_error(lambda: source.read_rows(0, HEIGHT), path, *words)


@pytest.mark.parametrize(
    ("options", "channels"),
    [({}, 3), ({}, 0), ({"tile": (256, 256), "compression": "zlib"}, 3), ({"tile": (256, 256)}, 0)],
)
def test_memory_stays_small(tmp_path, options, channels):
    shape = (8000, 4000, 3) if channels else (8000, 4000)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="rgb" if channels else None, **options)
    tracemalloc.start()
    try:
        with open_source(tmp_path / "a.tif") as source:
            for start in range(0, 8000, 400):
                source.read_rows(max(start - 100, 0), start + 400)
        assert tracemalloc.get_traced_memory()[1] < 3 * 500 * 4000 * 3  # 3 bands; the files are 5.3 and 16
    finally:
        tracemalloc.stop()


def test_files_are_closed_and_not_kept_in_memory(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels_of(np.uint8, 3), tile=(16, 16))
    with open_source(tmp_path / "a.tif") as source:
        handle = source._read.__self__._page.file.filehandle
        assert not handle.closed
    assert handle.closed
    code = (  # a mapped file of 100 MB, read once: the pages must not stay
        "import sys, numpy as np, psutil\nfrom tiledseg_utils.data.streaming import open_source\n"
        "assert 'keras' not in sys.modules\nsource = open_source(sys.argv[1])\nsource.read_rows(0, 100)\n"
        "before = psutil.Process().memory_info().rss\n"
        "for start in range(0, 10_000, 100): source.read_rows(start, start + 100)\n"
        "print((psutil.Process().memory_info().rss - before) / 1e6)"
    )
    np.save(tmp_path / "a.npy", np.ones((10_000, 10_000), np.uint8))
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.npy"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30 and done.stderr == ""


def test_identity_tells_images_apart(tmp_path, monkeypatch):
    pixels = pixels_of(np.uint8, 3)
    arrays = [pixels, pixels + 1, pixels[:-1], pixels.view(np.int8), pixels.reshape(WIDTH, HEIGHT, 3)]
    identities = [open_source(array).identity() for array in arrays]
    assert all(a != b for a, b in itertools.combinations(identities, 2))
    for same in (pixels.copy(), np.asfortranarray(pixels)):
        assert open_source(same).identity() == identities[0]
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, pixels)
    monkeypatch.chdir(tmp_path)
    first = open_source("a.npy").identity()
    assert first == open_source(tmp_path / "a.npy").identity() != open_source("b.npy").identity()
    os.utime("a.npy", ns=(0, 1234))
    assert open_source("a.npy").identity() == first | {"mtime_ns": 1234}
    np.save("b.npy", pixels + 1)  # the image has changed, its size and time have not
    os.replace("b.npy", "a.npy")
    os.utime("a.npy", ns=(0, 1234))
    changed = open_source("a.npy").identity()
    assert [key for key in first if changed[key] != (first | {"mtime_ns": 1234})[key]] == ["sha256_of_samples"]
