"""Results as OME-Zarr: chunks of a pyramid, written by rows.

NGFF 0.4 is what QuPath, Fiji and napari open; 0.5 is newer and stands on Zarr 3 instead of 2.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

CHUNK = 512  # side, pixels
SMALLEST = 256  # longest side of the last level of the pyramid, pixels


def write_ome_zarr(
    folder: Path,
    read: Callable[[int, int], np.ndarray],
    shape: tuple[int, int],
    dtype: np.dtype,
    pixel_size: float | None = None,
    is_labels: bool = False,
    version: str = "0.4",
) -> None:
    """Write a result, (H, W), and its pyramid, in which every level is half as wide and high as the one before.

    A pixel of a probability map is the mean of the four that it stands for; of masks and labels, it is the first.

    Args:
        folder: to be made; it must not exist.
        read: (first row, number of rows) -> (n, W), rows of the result.
        shape: (H, W), pixels.
        dtype: of the result.
        pixel_size: side of a pixel, µm; None if it is not known.
        is_labels: mark it as labels, so that viewers give each a colour.
        version: of NGFF, "0.4" or "0.5".
    """
    import numcodecs
    import zarr

    zarr_format = {"0.4": 2, "0.5": 3}[version]
    storage = {
        2: {"compressors": numcodecs.Blosc("lz4", 5), "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        3: {"compressors": zarr.codecs.BloscCodec(cname="lz4", clevel=5), "dimension_names": ("y", "x")},
    }
    group = zarr.open_group(folder, mode="w-", zarr_format=zarr_format)
    arrays, sides = [], shape
    while True:
        array = group.create_array(
            str(len(arrays)),
            shape=sides,
            chunks=(CHUNK, CHUNK),
            dtype=dtype,
            fill_value=0,
            config={"write_empty_chunks": True},  # Or a chunk that is lost could not be told from an empty one.
            **storage[zarr_format],
        )
        for top in range(0, sides[0], CHUNK):
            stop = min(top + CHUNK, sides[0])
            rows = read(top, stop - top) if not arrays else _halved(arrays[-1][2 * top : 2 * stop])
            array[top:stop] = rows.astype(dtype, copy=False)
        arrays.append(array)
        if max(sides) <= SMALLEST:
            break
        sides = tuple(-(-side // 2) for side in sides)
    about = {"multiscales": [_multiscale(folder, [array.shape for array in arrays], pixel_size)]}
    if is_labels:
        about["image-label"] = {}
    if version == "0.4":  # Each part tells the version.
        group.attrs.update({name: _with_version(part, version) for name, part in about.items()})
    else:
        group.attrs["ome"] = {"version": version, **about}


def _halved(rows: np.ndarray) -> np.ndarray:
    if rows.dtype.kind != "f":
        return rows[::2, ::2]
    padded = np.pad(rows, [(0, side % 2) for side in rows.shape], "edge")
    return padded.reshape(len(padded) // 2, 2, -1, 2).mean(axis=(1, 3))


def _multiscale(folder: Path, shapes: list[tuple[int, int]], pixel_size: float | None) -> dict:
    """The description of the pyramid. Without a known pixel size, the unit is a pixel of the full image."""
    unit = {} if pixel_size is None else {"unit": "micrometer"}
    datasets = []
    for number, sides in enumerate(shapes):
        scale = [(pixel_size or 1.0) * full / own for full, own in zip(shapes[0], sides, strict=True)]
        step = {"type": "scale", "scale": scale}
        datasets.append({"path": str(number), "coordinateTransformations": [step]})
    axes = [{"name": name, "type": "space", **unit} for name in "yx"]
    name = folder.name.removeprefix(".").split(".")[0]
    return {"name": name, "axes": axes, "datasets": datasets}


def _with_version(part: dict | list[dict], version: str) -> dict | list[dict]:
    return [{"version": version, **each} for each in part] if isinstance(part, list) else {"version": version, **part}
