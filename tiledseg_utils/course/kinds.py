"""Kinds of image in the notebooks: what notebook 1 finds and shows of them, and scores by kind in notebook 4."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from ..base.files import read_csv, write_csv
from ..data.cues import Cues
from ..data.kinds import kinds_of_folder
from ..data.measured_kinds import find_kinds
from ..scoring.folders import ImageScore, summary_rows
from ..scoring.pixels import Counts
from .instance_plots import COLORS

TABLE = "01_kinds.csv"
COPIES = 3
"""Small copies of images that the chart shows of each kind."""

FEW = 3
"""A kind of fewer test images has a score that says little."""


def begin_kinds(run: Path, data: Path, cues: Mapping[str, Cues]) -> tuple[dict[str, str], str]:
    """The kind of each image, and where it is from; written down for the later notebooks.

    Args:
        run: run folder.
        data: data folder; its kinds.csv counts if that names kinds, and else they are measured.
        cues: of all images of the run, by stem.

    Raises:
        UserError: kinds.csv has errors, or does not list all images.
    """
    kinds, source = kinds_of_folder(data, sorted(cues)), "kinds.csv of your folder"
    if kinds is None:
        kinds, source = dict(find_kinds(cues).of), "measured"
    write_csv(Path(run) / "results" / TABLE, [{"stem": stem, "kind": kind} for stem, kind in sorted(kinds.items())])
    return kinds, source


def kinds_of(run: Path) -> dict[str, str]:
    """The kind of each image of a run, as notebook 1 wrote it down; {} if there is only one, or notebook 1 is older."""
    path = Path(run) / "results" / TABLE
    kinds = {row["stem"]: row["kind"] for row in read_csv(path)} if path.exists() else {}
    return kinds if len(set(kinds.values())) > 1 else {}


def rows_of(cues: Mapping[str, Cues], kinds: Mapping[str, str], split_of: Mapping[str, str]) -> list[dict]:
    """A table of kinds, the most frequent first: images in each split, and the medians of their cues.

    Args:
        cues, kinds, split_of: by stem.
    """
    rows = []
    names = sorted(set(kinds.values()), key=lambda name: (-list(kinds.values()).count(name), name))
    for name in names:
        own = [stem for stem in cues if kinds[stem] == name]
        diameters = [cues[stem].diameter for stem in own if cues[stem].diameter is not None]
        row = {"kind": name, "images": len(own)}
        row |= {split: sum(split_of[stem] == split for stem in own) for split in ("train", "valid", "test")}
        row |= {cue: float(np.median([getattr(cues[stem], cue) for stem in own])) for cue in ("chroma", "brightness")}
        row["diameter, px"] = round(float(np.median(diameters)), 1) if diameters else ""
        rows.append(row)
    return rows


def chart(cues: Mapping[str, Cues], small: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> Figure:
    """Every image by its brightness and chroma, a colour for each kind, with small copies of a few.

    Args:
        cues, kinds: by stem.
        small: copies, (48, 48, 3) uint8 RGB, by stem.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    names = sorted(set(kinds.values()))
    for name, color, side in zip(names, itertools.cycle(COLORS), itertools.cycle((-1, 1)), strict=False):
        own = [stem for stem in cues if kinds[stem] == name]
        places = np.array([(cues[stem].brightness, cues[stem].chroma) for stem in own])
        ax.scatter(*places.T, 16, color=color, alpha=0.7, label=f"{name} ({len(own)})")
        order = np.argsort(places.sum(axis=1), kind="stable")
        chosen = order[np.linspace(0, len(own) - 1, min(COPIES, len(own))).astype(int)]
        for number, place in enumerate(chosen):
            offset = (26 * (number - 1), side * (30 + 12 * (number % 2)))
            _show_copy(ax, small[own[place]], places[place], offset, color)
    ax.set(xlabel="brightness (median grey level, 1 is white)", ylabel="chroma (0 is grey)")
    ax.margins(0.15, 0.4)
    ax.legend(frameon=False, loc="upper right")
    return figure


def _show_copy(ax, copy: np.ndarray, place: np.ndarray, offset: tuple[int, int], color: str) -> None:
    """Draw a small copy beside the place of its image, by an offset in points, with a line to it."""
    frame = {"edgecolor": color, "linewidth": 1.5}
    line = {"arrowstyle": "-", "color": color}
    picture = OffsetImage(copy, zoom=0.75)
    box = {"boxcoords": "offset points", "pad": 0.1, "bboxprops": frame, "arrowprops": line}
    ax.add_artist(AnnotationBbox(picture, place, offset, **box))


def score_rows(counts: Mapping[str, Counts], kinds: Mapping[str, str], seed: int) -> list[dict]:
    """Dice of test images by kind, the lowest first: mean with its 95 % interval, pooled, and lowest.

    Args:
        counts: of each image, by stem.
        kinds: of each image, by stem; of others, too.
        seed: of the resamplings for intervals.
    """
    scores = {stem: ImageScore(count) for stem, count in counts.items()}
    rows = []
    for row in summary_rows(scores, (), {stem: kinds[stem] for stem in counts}, seed):
        if row["score"] == "dice" and row["kind"] != "all":
            own = {stem: count.dice for stem, count in counts.items() if kinds[stem] == row["kind"]}
            worst = min(own, key=lambda stem: (own[stem], stem))
            found = {"kind": row["kind"], "images": row["images"], "mean": row["mean"], "pooled": row["pooled"]}
            found |= {
                "ci95": [row["mean_low"], row["mean_high"]],
                "lowest": own[worst],
                "lowest_image": worst,
                "stems": sorted(own),
            }
            rows.append(found)
    return sorted(rows, key=lambda row: (row["mean"], row["kind"]))


def shown(rows: list[dict]) -> list[dict]:
    """`score_rows` as a table; says of few images that their score says little."""
    table = []
    for row in rows:
        low, high = row["ci95"]
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        line = {"kind": row["kind"], "images": row["images"], "mean Dice": row["mean"], "95 % interval": interval}
        line |= {"pooled": row["pooled"], "lowest": row["lowest"], "of": row["lowest_image"]}
        table.append(line | {"note": "few images" if row["images"] < FEW else ""})
    return table
