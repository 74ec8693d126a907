"""PNG, JPEG and BMP files of every kind: read the same way whole, by rows and by `data check`, or refused by name."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import pictures
from tiledseg_utils.data.images import Pair, read_pair
from tiledseg_utils.data.pictures.orientation import SHOWN
from tiledseg_utils.data.pictures.stored import tell_notes

from .picture_files import (
    GREY,
    NUMBERS,
    PICTURE,
    TABLE,
    assert_read_alike,
    assert_refused,
    bmp,
    chunk,
    exif,
    jpeg_of,
    low_bits,
    pack,
    png,
    raw_tiff,
)

RGB16 = PICTURE.astype(np.uint16) * 257
WITH_ALPHA = np.dstack([PICTURE, NUMBERS])
PLTE = chunk(b"PLTE", TABLE.tobytes())
GREYS = np.dstack([GREY] * 3)
PNGS = {
    "grey": (png(0, GREY), GREYS),
    "grey and alpha": (png(4, np.dstack([GREY, NUMBERS])), GREYS),
    "grey, one level clear": (png(0, GREY, 8, chunk(b"tRNS", b"\0\x28")), GREYS),
    "RGB": (png(2, PICTURE), PICTURE),
    "RGB, one colour clear": (png(2, PICTURE, 8, chunk(b"tRNS", b"\0\x28\0\xc8\0\x5a")), PICTURE),
    "RGB, gamma and colour space": (
        png(2, PICTURE, 8, chunk(b"gAMA", b"\0\1\x86\xa0"), chunk(b"sRGB", b"\0")),
        PICTURE,
    ),
    "RGB, significant bits": (png(2, PICTURE, 8, chunk(b"sBIT", b"\5\5\5")), PICTURE),
    "RGBA": (png(6, WITH_ALPHA), PICTURE),
    "interlaced": (png(2, PICTURE, interlaced=True), PICTURE),
    "interlaced table": (png(3, NUMBERS, 8, PLTE, interlaced=True), TABLE[NUMBERS]),
    "table": (png(3, NUMBERS, 8, PLTE), TABLE[NUMBERS]),
    "table and alpha": (png(3, NUMBERS, 8, PLTE, chunk(b"tRNS", bytes(99))), TABLE[NUMBERS]),
    "table of 16": (png(3, low_bits(4), 4, chunk(b"PLTE", TABLE[:16].tobytes())), TABLE[low_bits(4)]),
    "table of 2": (png(3, low_bits(1), 1, chunk(b"PLTE", TABLE[:2].tobytes())), TABLE[low_bits(1)]),
    "1 bit": (png(0, low_bits(1), 1), np.dstack([low_bits(1) * 255] * 3)),
    "2 bits": (png(0, low_bits(2), 2), np.dstack([low_bits(2) * 85] * 3)),
    "4 bits": (png(0, low_bits(4), 4), np.dstack([low_bits(4) * 17] * 3)),
    "16 bits": (png(2, RGB16, 16), None),
    "16 bits and alpha": (png(6, np.dstack([RGB16, RGB16[..., :1]]), 16), None),
    "damaged words beside the picture": (png(2, PICTURE, 8, chunk(b"tEXt", b"a\0b")[:-1] + b"x"), PICTURE),
    "data behind the end": (png(2, PICTURE) + b"more" * 99, PICTURE),
}


@pytest.mark.parametrize("name", PNGS)
def test_kinds_of_png(tmp_path, name):
    data, expected = PNGS[name]
    (tmp_path / "a.png").write_bytes(data)
    if expected is None:
        expected = pictures.to_rgb(pictures.Stored(RGB16, 3, False))[0]
    np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.png")[0], expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["png", "bmp", "tif"])
def test_numbers_of_a_colour_table_are_kept_for_masks(tmp_path, kind, bits):
    path, numbers = tmp_path / f"a.{kind}", low_bits(bits)
    if kind == "png":
        path.write_bytes(png(3, numbers, bits, chunk(b"PLTE", TABLE[: 2**bits].tobytes())))
    elif kind == "bmp":
        path.write_bytes(bmp(numbers, max(bits, 4) if bits == 2 else bits))
    else:
        raw_tiff(
            path, pack(numbers, bits), {258: bits, 262: 3, 320: (TABLE[: 2**bits].T.astype(int) * 257).ravel().tolist()}
        )
    stored = pictures.decode(path)
    np.testing.assert_array_equal(stored.indices, numbers)
    np.testing.assert_array_equal(stored.pixels, TABLE[numbers])


BMPS = {"24 bits": (bmp(PICTURE, 24), PICTURE), "24 bits, top down": (bmp(PICTURE, 24, top_down=True), PICTURE)}
BMPS |= {f"32 bits, fourth {value}": (bmp(PICTURE, 32, fourth=value), PICTURE) for value in (0, 128, 255)}
BMPS |= {"24 bits, old": (bmp(PICTURE, 24, old=True), PICTURE), "24 bits, new": (bmp(PICTURE, 24, header=124), PICTURE)}
for few in (1, 4, 8):
    of_few = low_bits(few)
    BMPS |= {f"{few} bits": (bmp(of_few, few), TABLE[of_few])}
    BMPS |= {f"{few} bits, top down": (bmp(of_few, few, top_down=True), TABLE[of_few])}
    BMPS |= {f"{few} bits, old": (bmp(of_few, few, old=True), TABLE[of_few])}
BMPS |= {"8 bits, runs": (bmp(NUMBERS, 8, runs=True), TABLE[NUMBERS])}
BMPS |= {"4 bits, runs": (bmp(low_bits(4), 4, runs=True), TABLE[low_bits(4)])}


@pytest.mark.parametrize("name", BMPS)
def test_kinds_of_bmp(tmp_path, name):
    (tmp_path / "a.bmp").write_bytes(BMPS[name][0])
    np.testing.assert_array_equal(assert_read_alike(tmp_path / "a.bmp")[0], BMPS[name][1])


def test_kinds_of_bmp_that_are_refused(tmp_path):
    data = bytearray(bmp(PICTURE, 24))
    data[28] = 16
    (tmp_path / "a.bmp").write_bytes(data)
    assert_refused(tmp_path / "a.bmp", "16 bits per pixel")
    data = bytearray(bmp(PICTURE, 32, fourth=0, header=56))
    data[30], data[54:66] = 3, struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    (tmp_path / "a.bmp").write_bytes(data)
    assert_refused(tmp_path / "a.bmp", "another order than usual")


JPEGS = {
    "RGB": jpeg_of(),
    "progressive": jpeg_of(progressive=True),
    "own codes": jpeg_of(optimize=True),
    "restarts": jpeg_of(restart_marker_rows=1),
    "half the colours": jpeg_of(subsampling="4:2:2"),
    "quarter of the colours": jpeg_of(subsampling="4:2:0"),
    "grey": jpeg_of("L"),
    "CMYK": jpeg_of("CMYK"),
    "RGB without a change of colours": jpeg_of(keep_rgb=True),
    "data behind the end": jpeg_of() + b"more" * 99,
    "another picture behind the end": jpeg_of() + jpeg_of("L"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_kinds_of_jpeg(tmp_path, name):
    (tmp_path / "a.jpg").write_bytes(JPEGS[name])
    with Image.open(io.BytesIO(JPEGS[name])) as file:
        shown = np.asarray(file.convert("RGB")).astype(int)
    assert np.abs(assert_read_alike(tmp_path / "a.jpg")[0] - shown).max() <= 3


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", range(10))
def test_the_orientation_of_photographs_is_told_and_not_applied(tmp_path, caplog, kind, order, tag):
    path, plain = tmp_path / f"a.{kind}", tmp_path / f"plain.{kind}"
    for number_kind in (3, 4):
        data = exif(tag, order, number_kind)
        if kind == "png":
            plain.write_bytes(png(2, PICTURE))
            path.write_bytes(png(2, PICTURE, 8, chunk(b"eXIf", data)))
        else:
            plain.write_bytes(jpeg_of())
            path.write_bytes(jpeg_of(exif=b"Exif\0\0" + data))
        caplog.clear()
        tell_notes.cache_clear()
        image, notes = assert_read_alike(path)
        np.testing.assert_array_equal(image, pictures.read_image(plain))
        told = [f"orientation tag {tag} is not applied: viewers show it {SHOWN[tag]}"] if 2 <= tag <= 8 else []
        assert notes == told and caplog.messages == [f"{path}: {note}" for note in told]  # once, though read twice


@pytest.mark.parametrize("turned", ["image", "mask"])
def test_sizes_that_differ_by_an_orientation_name_the_tag(tmp_path, turned):
    for name in ("image", "mask"):
        tag = [chunk(b"eXIf", exif(6))] if name == turned else []
        pixels = NUMBERS & 1 if name == "image" else NUMBERS.T & 1
        (tmp_path / f"{name}.png").write_bytes(png(0, pixels * 255, 8, *tag))
    with pytest.raises(UserError) as caught:
        read_pair(Pair("a", tmp_path / "image.png", tmp_path / "mask.png"))
    assert f"the orientation tag 6 of {turned}.png is not applied" in caught.value.problem
    assert "without the tag" in caught.value.remedy
