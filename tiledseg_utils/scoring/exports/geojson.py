"""GeoJSON (RFC 7946) as QuPath reads it: one feature for each nucleus, with its measurements.

Coordinates are pixels of the full image (level 0), x before y; the corner of the first pixel is (0, 0).
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .outlines import Nucleus, Polygon


def write_geojson(path: Path, nuclei: Iterable[Nucleus], scale: tuple[float, float] = (1.0, 1.0)) -> None:
    """Write a FeatureCollection, one nucleus after the other.

    QuPath 0.4 and later take the measurements as they are here.

    Args:
        path: .geojson.
        nuclei: as `outlines.cut_out` gives them.
        scale: height and width of their pixels, in pixels of the full image (see `streaming.Source`).
    """
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, nucleus in enumerate(nuclei):
            file.write(",\n" if number else "\n")
            json.dump(feature(nucleus, scale), file, allow_nan=False)
        file.write("\n]}\n")


def feature(nucleus: Nucleus, scale: tuple[float, float] = (1.0, 1.0)) -> dict:
    """One nucleus as a feature; a MultiPolygon if it has several polygons."""
    polygons = [_closed(polygon, scale) for polygon in nucleus.outlines()]
    is_one = len(polygons) == 1
    geometry = {"type": "Polygon", "coordinates": polygons[0]}
    if not is_one:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    properties = {"objectType": "detection", "name": str(int(nucleus.row["label"]))}
    properties["measurements"] = _measurements(nucleus)
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(polygon: Polygon, scale: tuple[float, float]) -> list:
    """Rings in pixels of the full image that end where they begin, as GeoJSON wants them."""
    if scale != (1.0, 1.0):
        polygon = [ring * np.array(scale[::-1]) for ring in polygon]
    return [[*ring.tolist(), ring[0].tolist()] for ring in polygon]


def _measurements(nucleus: Nucleus) -> dict[str, float]:
    """All numbers of the table; what is not known is left out, since JSON has no sign for it."""
    numbers = nucleus.row.drop("label").items()
    values = {name: float(value) for name, value in numbers if isinstance(value, int | float | np.number | np.bool_)}
    return {name: value for name, value in values.items() if math.isfinite(value)}
