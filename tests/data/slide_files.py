"""A picture of three levels, written as every kind of pyramid: slides, OME-TIFF, TIFF of each compression, OME-Zarr."""

import struct

import cv2
import numpy as np
import tifffile
import zarr

MPP = 0.5  # µm, side of a pixel of the full image
COARSE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
FULL = np.repeat(np.repeat(COARSE, 16, 0), 16, 1)  # 384 x 576, the same in every level
LEVELS = [FULL, FULL[::2, ::2], FULL[::4, ::4]]
RESOLUTION = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
TILED = {"tile": (128, 128), "photometric": "rgb"}


def write_flagged(path, **options):
    """Pages one after the other, the smaller ones flagged as reduced."""
    with tifffile.TiffWriter(path) as tiff:
        for number, pixels in enumerate(LEVELS):
            tiff.write(pixels, subfiletype=int(number > 0), metadata=None, **{**TILED, **RESOLUTION, **options})


def write_below(path, **options):
    """The smaller pages below the first (SubIFDs), as OME-TIFF has them."""
    is_ome = path.name.endswith(".ome.tif")
    about = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP} if is_ome else None
    with tifffile.TiffWriter(path, ome=is_ome) as tiff:
        tiff.write(LEVELS[0], subifds=2, metadata=about, **{**TILED, **RESOLUTION, **options})
        for pixels in LEVELS[1:]:
            tiff.write(pixels, subfiletype=1, **{**TILED, **options})


def write_svs(path, **options):
    """As a scanner of Aperio does: thumbnail and label lie between and behind the levels."""
    about = f"Aperio Image Library v1\r\n576x384 |AppMag = 20|MPP = {MPP}"
    rest = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(LEVELS[0], description=about, **{**TILED, **options}, metadata=None)
        tiff.write(FULL[::8, ::8], description="Aperio Image Library v1 thumbnail", **rest)
        for pixels in LEVELS[1:]:
            tiff.write(pixels, description="Aperio Image Library v1", **{**TILED, **options}, metadata=None)
        tiff.write(FULL[:50, :60], description="Aperio Image Library v1 label 60x50", subfiletype=1, **rest)


RESTART = 18  # blocks of 8 pixels between two marks in a JPEG, from which decoding can start


def ndpi_jpeg(pixels, quality=95):
    """A JPEG with restart marks, as a scanner of Hamamatsu stores a level in one piece."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, RESTART]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", pixels[..., ::-1], options)[1].tobytes()


def write_ndpi(path):
    """As a scanner of Hamamatsu does: one strip a level, a table of its restart marks, and offsets of 64 bits.

    A classic TIFF but for three things: the offset of a page has 8 bytes, behind a page's tags stand the upper halves
    of their values, and a tag of its own (65426) says where in the JPEG each piece starts.
    """
    out, links = bytearray(struct.pack("<2sHQ", b"II", 42, 0)), [4]

    def put(data):
        out.extend(b"\0" * (-len(out) % 8))
        start = len(out)
        out.extend(data)
        return start

    for number, pixels in enumerate(LEVELS):
        data = ndpi_jpeg(pixels)
        scan = data.index(b"\xff\xda")
        marks = [scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")]
        marks += [at + 2 for at in range(marks[0], len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
        height, width = pixels.shape[:2]
        longs = {256: width, 257: height, 273: put(data), 278: height, 279: len(data)}
        shorts = {259: 7, 262: 6, 277: 3, 284: 1, 296: 3}
        per_centimetre = put(struct.pack("<II", round(1e4 / (MPP * 2**number)), 1))
        entries = {code: (4, 1, struct.pack("<I", value)) for code, value in longs.items()}
        entries |= {code: (3, 1, struct.pack("<HH", value, 0)) for code, value in shorts.items()}
        entries[258] = (3, 3, struct.pack("<I", put(struct.pack("<3H", 8, 8, 8))))
        entries[271] = (2, 10, struct.pack("<I", put(b"Hamamatsu\0")))
        entries |= {code: (5, 1, struct.pack("<I", per_centimetre)) for code in (282, 283)}
        entries[65420] = (4, 1, struct.pack("<I", 1))
        entries[65421] = (11, 1, struct.pack("<f", 20 / 2**number))
        entries[65426] = (4, len(marks), struct.pack("<I", put(struct.pack(f"<{len(marks)}I", *marks))))
        tags = b"".join(struct.pack("<HHI4s", code, *entries[code]) for code in sorted(entries))
        page = put(struct.pack("<H", len(entries)) + tags + bytes(8) + bytes(4 * len(entries)))
        out[links[-1] : links[-1] + 8] = struct.pack("<Q", page)
        links.append(page + 2 + len(tags))
    path.write_bytes(out)


def write_planar(path, **options):
    """Each colour in a plane of its own."""
    with tifffile.TiffWriter(path) as tiff:
        for number, pixels in enumerate(LEVELS):
            planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
            about = {"subfiletype": int(number > 0), "planarconfig": "separate", "metadata": None}
            tiff.write(planes, **about, **{**TILED, **RESOLUTION, **options})


def write_zarr(path, version="0.5", axes="tczyx", levels=LEVELS, **options):
    """An OME-Zarr; version 0.4 is Zarr 2 and has its description elsewhere than 0.5."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    for number, pixels in enumerate(levels):
        array = pixels.transpose(2, 0, 1)[None, :, None]
        kept = tuple(slice(None) if axis in axes else 0 for axis in "tczyx")
        array = np.ascontiguousarray(array[kept])
        chunks = (1,) * (array.ndim - 2) + (128, 128)
        group.create_array(str(number), data=array, chunks=chunks, **options)
    group.attrs.update(describe(version, axes, len(levels)))
    return group


def describe(version, axes="tczyx", levels=3):
    about = [{"name": axis, **({"unit": "micrometer"} if axis in "yx" else {})} for axis in axes]
    datasets = []
    for number in range(levels):
        scale = [MPP * 2**number if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    image = {"version": version, "axes": about, "datasets": datasets}
    return {"ome": {"version": version, "multiscales": [image]}} if version == "0.5" else {"multiscales": [image]}


LOSSLESS = {"compression": "jpeg2000", "compressionargs": {"reversible": True}}
KINDS = {
    "aperio.svs": (write_svs, {"compression": "zlib"}),
    "aperio_jpeg2000.svs": (write_svs, LOSSLESS),
    "below.ome.tif": (write_below, {"compression": "zlib"}),
    "below.tif": (write_below, {}),
    "flagged.tif": (write_flagged, {}),
    "lzw.tif": (write_flagged, {"compression": "lzw"}),
    "zstd.tif": (write_flagged, {"compression": "zstd"}),
    "jpeg2000.tif": (write_flagged, LOSSLESS),
    "planar.tif": (write_planar, {"compression": "zlib"}),
    "new.zarr": (write_zarr, {"version": "0.5"}),
    "old.ome.zarr": (write_zarr, {"version": "0.4"}),
    "sharded.zarr": (write_zarr, {"version": "0.5", "axes": "cyx", "shards": (3, 256, 256)}),
}
"""Files that keep every pixel: by name, what writes one, and with which options."""


def write(path):
    """Write the file of `KINDS` that a path is named like, and return the path."""
    writer, options = KINDS[path.name]
    writer(path, **options)
    return path
