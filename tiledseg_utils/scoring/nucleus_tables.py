"""Tables of nuclei in files: of one image, of many, and what they say about each image and each group of images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..base.files import UserError, atomic_path
from ..base.finished import find_finished, note_finished
from ..base.text import escape_cell, unescape_cell
from .statistics import bootstrap_interval

SUMMARISED = ("area", "perimeter", "major_axis", "minor_axis", "eccentricity", "solidity")
"""Columns whose means are told for each image and each group, beside those in µm and those of intensities."""


def check_absent(path: Path, identity: Mapping) -> None:
    """Refuse to replace a file unless it was made of exactly this, as `finished` knows.

    Raises:
        UserError: there is another file of that name.
    """
    if os.path.lexists(path) and find_finished(Path(path), identity) is None:
        remedy = "Give another name, or replace it with --overwrite"
        raise UserError(path, "exists already, and this command has not made it", remedy)


def write_nuclei(path: Path, table: pd.DataFrame, file: str, identity: Mapping, facts: Mapping | None = None) -> None:
    """Write the table of one image, atomically, and enter it in the list of finished results.

    Args:
        path: .csv.
        table: as `measure.measure` returns it.
        file: name of the image, which becomes the first column.
        identity, facts: as for `finished.note_finished`.
    """
    table = table.copy()
    table.insert(0, "file", file)
    write_frame(path, table, identity, facts)


def write_frame(path: Path, table: pd.DataFrame, identity: Mapping, facts: Mapping | None = None) -> None:
    """Write a table as csv, atomically; decimals read back to the same bits. It counts as finished, see `finished`."""
    texts = {name: table[name].map(escape_cell) for name in table if table[name].dtype.kind not in "biuf"}
    with atomic_path(path) as temporary:
        table.assign(**texts).to_csv(temporary, index=False, lineterminator="\n")
        note_finished(Path(path), temporary, identity, facts)


def join_nuclei(paths: Sequence[Path]) -> pd.DataFrame:
    """The tables of several images, one below the other; columns that an image does not have are empty for it."""
    tables = [pd.read_csv(path) for path in paths]
    filled = [table for table in tables if len(table)] or tables[:1]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=["file", "label"])
    return joined.assign(file=joined["file"].map(unescape_cell))


def summarise_images(nuclei: pd.DataFrame, files: Sequence[str], groups: Mapping[str, str]) -> pd.DataFrame:
    """One row for each image: file, group, number of nuclei, share cut by the border, and the means of its columns.

    Args:
        nuclei: of all images, as `join_nuclei` returns them.
        files: names of all images, also of those without nuclei.
        groups: by stem; images without one are in the group "all".
    """
    by_file = nuclei.groupby("file")
    table = pd.DataFrame({"file": list(files)})
    table["group"] = [groups.get(Path(file).stem, "all") for file in files]
    table["nuclei"] = table["file"].map(by_file.size()).fillna(0).astype(int)
    for name in ("touches_border", *_measured(nuclei)):
        means = by_file[name].mean() if len(nuclei) else {}
        table[f"mean_{name}".replace("mean_mean_", "mean_")] = table["file"].map(means).astype(float)
    return table.rename(columns={"mean_touches_border": "share_at_border"})


def summarise_groups(images: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """For each group and column of `summarise_images` the mean over the images, with its 95 % interval (`statistics`).

    The group "all" has all images. Images without nuclei count for the number of nuclei, and for nothing else.

    Returns:
        columns group, column, images, mean, low, high; low and high are empty for a single image.
    """
    groups = {"all": images} | dict(iter(images[images["group"] != "all"].groupby("group")))
    rows = []
    for group, members in groups.items():
        for name in images.columns[2:]:
            values = members[name].dropna().to_numpy(float)
            if not len(values):
                continue
            low, high = (values[0],) * 2 if np.ptp(values) == 0 and len(values) > 1 else [None, None]
            if low is None:
                low, high = bootstrap_interval(values, np.mean, seed)
            about = {"group": group, "column": name, "images": len(values)}
            rows.append(about | {"mean": values.mean(), "low": low, "high": high})
    return pd.DataFrame(rows, columns=["group", "column", "images", "mean", "low", "high"])


def _measured(nuclei: pd.DataFrame) -> list[str]:
    intensities = [name for name in nuclei if name.startswith("mean_")]
    micrometres = [name for name in nuclei if name.endswith(("_um", "_um2")) and not name.startswith("centroid")]
    return [name for name in (*SUMMARISED, *micrometres, *intensities) if name in nuclei]
