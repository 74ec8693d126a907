"""ImageJ's regions of interest (ROI): a zip file that its ROI Manager opens."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import roifile

from ...base.files import UserError
from .outlines import Nucleus, Polygon

LARGEST = 60_535
"""Pixels: the largest whole coordinate of a ROI."""

MOVE, LINE, CLOSE = 0.0, 1.0, 4.0  # what a number in the path of a composite ROI asks for


def write_rois(path: Path, nuclei: Iterable[Nucleus], shape: tuple[int, int]) -> None:
    """Write one ROI for each nucleus, named by its label; twice the same bytes for the same nuclei.

    Args:
        path: .zip.
        nuclei: with outlines along the sides of pixels, as ImageJ's wand draws them.
        shape: (H, W) of the image, pixels.

    Raises:
        UserError: the image is too large for the coordinates of a ROI.
    """
    if max(shape) > LARGEST:
        problem = f"would need coordinates up to {max(shape)}, and ROIs have them up to {LARGEST}"
        raise UserError(path, problem, "Write the outlines with --geojson")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for nucleus in nuclei:
            name = str(int(nucleus.row["label"]))
            entry = zipfile.ZipInfo(
                f"{name.zfill(6)}.roi"
            )  # It has a fixed date, where the time of writing would differ.
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, to_roi(nucleus.outlines(), name).tobytes())


def to_roi(polygons: list[Polygon], name: str) -> roifile.ImagejRoi:
    """A traced outline; a composite of paths where there are holes or several polygons."""
    rings = [ring for polygon in polygons for ring in polygon]
    roi = roifile.ImagejRoi.frompoints(rings[0], name=name)
    if len(rings) == 1:
        roi.roitype = roifile.ROI_TYPE.TRACED
        return roi
    path = []
    for ring in rings:
        for kind, (x, y) in zip([MOVE] + [LINE] * (len(ring) - 1), ring.tolist(), strict=True):
            path += [kind, x, y]
        path.append(CLOSE)
    (roi.left, roi.top), (roi.right, roi.bottom) = np.min(np.vstack(rings), 0), np.max(np.vstack(rings), 0)
    roi.roitype, roi.n_coordinates, roi.integer_coordinates = roifile.ROI_TYPE.RECT, 0, None
    roi.multi_coordinates, roi.shape_roi_size = np.array(path, np.float32), len(path)
    return roi
