"""One picture, written into files of every kind; and what must hold for each of them."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data import pictures
from tiledseg_utils.data.streaming import open_source

HEIGHT, WIDTH = 24, 17
Y, X = np.mgrid[:HEIGHT, :WIDTH]
PICTURE = np.stack([40 + 6 * Y, 200 - 7 * X, 90 + 3 * X + 2 * Y], axis=-1).astype(np.uint8)  # smooth, for lossy codecs
PICTURE[6:14, 4:12] = 60, 20, 120
GREY = PICTURE[..., 0]
NUMBERS = (np.arange(HEIGHT * WIDTH) % 256).reshape(HEIGHT, WIDTH).astype(np.uint8)
TABLE = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)


def low_bits(bits):
    """`NUMBERS`, of which each has the lowest bits only."""
    return NUMBERS & np.uint8(2**bits - 1)


def to_ycbcr(rgb):
    """Luminance and colours as TIFF 6.0 defines them."""
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    parts = [luminance, (blue - luminance) / 1.772 + 128, (red - luminance) / 1.402 + 128]
    return np.rint(np.stack(parts, axis=-1)).clip(0, 255).astype(np.uint8)


def to_cmyk(rgb):
    black = 255 - rgb.max(axis=-1, keepdims=True).astype(int)
    return np.concatenate([255 - np.rint(rgb / np.maximum(255 - black, 1) * 255), black], axis=-1).astype(np.uint8)


def rows_of(path):
    with open_source(path) as source:
        cuts = [0, 5, 16, source.shape[0]]
        return np.concatenate([source.read_rows(start, stop) for start, stop in itertools.pairwise(cuts)])


def assert_read_alike(path):
    """Read a file whole, by rows, and as `data check` does; return its pixels and notes."""
    whole = pictures.read_image(path)
    checked, notes = pictures.to_rgb(pictures.decode(path))
    np.testing.assert_array_equal(whole, rows_of(path))
    np.testing.assert_array_equal(whole, checked)
    return whole, notes


def assert_refused(path, *words):
    for read in (pictures.read_image, pictures.decode, rows_of):
        with pytest.raises(UserError) as caught:
            read(path)
        assert caught.value.path == str(path) and len(caught.value.remedy) > 10
        for word in words:
            assert word in caught.value.problem, f"{word!r} is not in {caught.value.problem!r}"


def raw_tiff(path, data, tags):
    """Write a TIFF of one strip tag by tag, as no program would: {number: value or list of values}."""
    tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: HEIGHT, 279: len(data)} | tags
    lists = {code: value if isinstance(value, (list, tuple)) else [value] for code, value in tags.items()}
    after = 8 + 2 + 12 * len(tags) + 4
    lists[273] = [after]
    more, entries = data, []
    for code, values in sorted(lists.items()):
        kind, form = (4, "I") if code in (273, 279) else (5, "I") if code in (529, 532) else (3, "H")
        packed = struct.pack(f"<{len(values)}{form}", *values)
        if len(packed) > 4:
            packed, more = struct.pack("<I", after + len(more)), more + packed
        entries.append(struct.pack("<HHI", code, kind, len(values) // (2 if kind == 5 else 1)) + packed.ljust(4, b"\0"))
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + more)


def pack(numbers, bits):
    """Rows of `bits` bits each, filled up to whole bytes."""
    places = np.unpackbits(numbers[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(places.reshape(len(numbers), -1), axis=1).tobytes()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(kind, pixels, bits=8, *more, interlaced=False):
    """A PNG of (H, W) or (H, W, C), of colour type `kind`, with more chunks before its pixels."""
    height, width = pixels.shape[:2]
    if interlaced:  # Adam7: seven pictures, each by its own grid
        grids = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        parts = [pixels[top::down, left::across] for top, left, down, across in grids]
    else:
        parts = [pixels]
    rows = [row for part in parts for row in part if part.size]
    big = [row.astype(">u2").tobytes() if bits == 16 else pack(row.reshape(1, -1), bits) for row in rows]
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in big))
    return pictures_start("PNG") + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pictures_start(kind):
    return next(start for start, name in pictures.SIGNATURES.items() if name == kind)


def exif(tag, order="<", kind=3):
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([tag, 0] if kind == 3 else [tag]))
    entry = struct.pack(order + "HHI", 274, kind, 1) + value
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return start + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def bmp(pixels, bits, *, old=False, top_down=False, header=40, runs=False, fourth=None):
    """A BMP of numbers (H, W) with the table, or of RGB."""
    height, width = pixels.shape[:2]
    rows = pixels if top_down else pixels[::-1]
    if bits > 8:
        parts = [rows[..., ::-1]] + ([] if fourth is None else [np.full((height, width, 1), fourth, np.uint8)])
        lines = [row.tobytes() for row in np.dstack(parts)]
    elif runs:
        lines = [b"".join(bytes([1, value << 4 if bits == 4 else value]) for value in row) + b"\0\0" for row in rows]
    else:
        lines = [pack(row[None], bits) for row in rows]
    data = b"".join(line if runs else line + bytes(-len(line) % 4) for line in lines)
    table = b"".join(bytes(colour[::-1]) + b"\0" * (not old) for colour in TABLE[: 2**bits]) if bits <= 8 else b""
    compression = {4: 2, 8: 1}[bits] if runs else 0
    about = struct.pack("<IIHHIIIIII", header, width, 1, bits, compression, len(data), 0, 0, 0, 0)
    about = about[:8] + struct.pack("<i", -height if top_down else height) + about[8:] + bytes(header - 40)
    about = struct.pack("<IHHHH", 12, width, height, 1, bits) if old else about
    start = 14 + len(about) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + about + table + data


def jpeg_of(mode="RGB", pixels=PICTURE, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "JPEG", **{"quality": 95} | options)
    return stream.getvalue()
