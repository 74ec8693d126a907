"""Figures: overlays, error maps, curves. The colours (Okabe & Ito 2008) are safe for colour-blind readers.

`Table` and `Claim`, which notebooks show beside figures, can be had from here as well.
"""

import base64
import itertools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..base.files import atomic_path, write_json
from ..base.text import printable
from ..data.classes import Classes
from ..data.composites import visible as visible
from ..scoring.calibration import Reliability
from ..scoring.pixels import Counts
from ..tiles.planning import Plan
from ..tiles.tiling import reduce_image, splits_in
from .claims import Claim, correlation_claim
from .tables import Table as Table

# The same figures for everyone, whatever a matplotlibrc says; and a dollar sign in a name begins no formula.
matplotlib.rcdefaults()
matplotlib.rcParams["text.parse_math"] = False

MISSED = (0, 114, 178)  # blue
INVENTED = (213, 94, 0)  # vermilion
FOUND = (0, 158, 115)  # bluish green
PIL_GREEN = (0, 128, 0)  # what the published experiment coloured its masks with
TILED, NON_TILED = "#0072B2", "#E69F00"


def overlay(image: np.ndarray, mask: np.ndarray, color: Sequence[int] = FOUND, opacity: float = 0.45) -> np.ndarray:
    """Tint the foreground of an image.

    Args:
        image: (H, W, 3) uint8 RGB, or channels that `visible` shows; not modified.
        mask: (H, W) bool.
        color: RGB, 0..255.
        opacity: of the tint, 0..1.

    Returns:
        (H, W, 3) uint8 RGB; mixed in floating point, so that nothing wraps around at 255.
    """
    mixed = visible(image).astype(np.float32)
    mixed[mask] = (1 - opacity) * mixed[mask] + opacity * np.asarray(color, np.float32)
    return np.rint(mixed).astype(np.uint8)


def class_overlay(image: np.ndarray, numbers: np.ndarray, classes: Classes, opacity: float = 0.45) -> np.ndarray:
    """Tint every pixel of an image by its class, but for the background; arguments as of `overlay`.

    Args:
        numbers: (H, W) of the classes.
        classes: their table.
    """
    colors = np.array(classes.colors, np.float32)[numbers]
    mixed = visible(image).astype(np.float32)
    shown = numbers > 0
    mixed[shown] = (1 - opacity) * mixed[shown] + opacity * colors[shown]
    return np.rint(mixed).astype(np.uint8)


def outline(image: np.ndarray, mask: np.ndarray, color: Sequence[int] = FOUND, width: int = 1) -> np.ndarray:
    """Draw the outline of a (H, W) bool mask on an image, `width` pixels wide; the image is not modified."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(visible(image).copy(), contours, -1, tuple(int(value) for value in color), width)


def error_map(image: np.ndarray, prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Missed pixels in blue, invented ones in vermilion, found ones in pale green, on a greyed (H, W, 3) image."""
    grey = cv2.cvtColor(cv2.cvtColor(visible(image), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    picture = overlay(grey, prediction & reference, FOUND, 0.3)
    picture = overlay(picture, reference & ~prediction, MISSED, 0.9)
    return overlay(picture, prediction & ~reference, INVENTED, 0.9)


def picture_grid(
    pictures: Mapping[str, np.ndarray], columns: int = 4, side: float = 3.0, errors: bool = False
) -> Figure:
    """Pictures under their titles, `columns` in a row.

    Args:
        pictures: (H, W, 3) uint8 RGB, channels that `visible` shows, or (H, W) probabilities, shown from black (0) to
            white (1).
        columns: pictures in a row.
        side: width of a picture in the figure, inches.
        errors: explain the colours of `error_map` below.
    """
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    height = side * max(picture.shape[0] / picture.shape[1] for picture in pictures.values())
    figure = Figure(figsize=(side * columns, (height + 0.3) * rows + 0.3 * errors), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (title, picture) in zip(axes, pictures.items(), strict=False):
        ax.imshow(visible(picture) if picture.ndim == 3 else picture, cmap="gray", vmin=0, vmax=1)
        ax.set_title(printable(title), fontsize=9)
    if errors:
        names = {"found": FOUND, "missed": MISSED, "invented": INVENTED}
        handles = [Patch(color=np.array(color) / 255, label=name) for name, color in names.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def magnitudes(differences: np.ndarray) -> np.ndarray:
    """Differences as brightness by powers of ten: 0 up to a millionth, 1 from 1 on; of the same shape, float32."""
    return np.clip(1 + np.log10(np.maximum(differences, 1e-6)) / 6, 0, 1).astype(np.float32)


def crop_around(mask: np.ndarray, size: int) -> tuple[slice, slice]:
    """The (size, size) window of a (H, W) bool mask around its densest spot; around the centre when it is empty."""
    density = cv2.blur(cv2.blur(mask.astype(np.float32), (size // 2, size // 2)), (size // 2, size // 2))
    centre = np.unravel_index(int(density.argmax()), mask.shape) if mask.any() else np.array(mask.shape) // 2
    starts = [max(0, min(middle - size // 2, length - size)) for middle, length in zip(centre, mask.shape, strict=True)]
    return tuple(slice(int(start), int(start) + size) for start in starts)


def pixelated(image: np.ndarray, size: int) -> np.ndarray:
    """What is left of an image reduced to (size, size), shown at its old size with every pixel as a block."""
    return cv2.resize(visible(reduce_image(image, size)), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def tile_chart(manifest: Sequence[Mapping]) -> Figure:
    """Tiles by split, with and without foreground, and a histogram of the foreground where there is any."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    bars, histogram = figure.subplots(1, 2)
    names = splits_in(manifest)
    filled = [sum(row["split"] == name and row["foreground"] > 0 for row in manifest) for name in names]
    empty = [sum(row["split"] == name and row["foreground"] == 0 for row in manifest) for name in names]
    bars.bar(names, filled, color=TILED, label="with foreground")
    bars.bar(names, empty, bottom=filled, color="0.8", label="empty")
    bars.set(ylabel="tiles", ylim=(0, 1.3 * max(map(sum, zip(filled, empty, strict=True)))))
    bars.legend(frameon=False, ncols=2, loc="upper center")
    histogram.hist([100 * row["foreground"] for row in manifest if row["foreground"] > 0], bins=30, color=TILED)
    histogram.set(xlabel="foreground of a tile, %", ylabel="tiles")
    return figure


def reach_chart(image: np.ndarray, pixel: tuple[int, int], radius: int, influence: np.ndarray, window: tuple) -> Figure:
    """How far a network sees: its receptive field around a pixel, and what in it really counts.

    Args:
        image: (H, W, 3) uint8 RGB.
        pixel: (row, column).
        radius: of the receptive field, pixels.
        influence, window: as `diagnostics.influence_map` returns them.
    """
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows, columns = window
    extent = (columns.start, columns.stop, rows.stop, rows.start)
    left.imshow(visible(image[window]), extent=extent)
    left.set_title(f"the cross depends on nothing outside the frame of {2 * radius + 1} px", fontsize=9)
    shown = right.imshow(influence, extent=extent, cmap="magma")
    right.set_title("change of its probability when a block is covered", fontsize=9)
    figure.colorbar(shown, ax=right, shrink=0.8)
    corner = pixel[1] - radius - 0.5, pixel[0] - radius - 0.5
    for ax, color in ((left, "black"), (right, "white")):
        ax.plot(pixel[1], pixel[0], "+", color=color, markersize=12)
        ax.add_patch(Rectangle(corner, 2 * radius + 1, 2 * radius + 1, fill=False, color=color, linewidth=1.5))
        ax.set(xlim=extent[:2], ylim=extent[2:])
    return figure


def plan_chart(image: np.ndarray, plans: Mapping[str, Plan]) -> Figure:
    """Tiles on an image: junctions as white lines, and of one tile in the middle its outline and what of it is used."""
    figure = Figure(figsize=(4.2 * len(plans), 4.6), layout="constrained")
    for ax, (name, plan) in zip(figure.subplots(1, len(plans), squeeze=False)[0], plans.items(), strict=True):
        ax.imshow(visible(image))
        for row in plan.rows.seams:
            ax.axhline(row, color="white", linewidth=1)
        for column in plan.columns.seams:
            ax.axvline(column, color="white", linewidth=1)
        i, j = (len(axis.origins) // 2 for axis in (plan.rows, plan.columns))
        row, column, used = plan.rows.origins[i], plan.columns.origins[j], (plan.rows.used(i), plan.columns.used(j))
        ax.add_patch(Rectangle((column, row), plan.tile[1], plan.tile[0], fill=False, color=TILED, linewidth=2))
        place = column + used[1].start, row + used[0].start
        size = used[1].stop - used[1].start, used[0].stop - used[0].start
        ax.add_patch(Rectangle(place, *size, color=NON_TILED, alpha=0.5))
        ax.set_title(
            f"{name}: {plan.count} tiles, {plan.pixels / (image.shape[0] * image.shape[1]):.2f} x the pixels",
            fontsize=9,
        )
        ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
        ax.set_axis_off()
    handles = [
        Patch(fill=False, edgecolor=TILED, label="a tile"),
        Patch(color=NON_TILED, alpha=0.5, label="what of it is used"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def training_curves(history: Sequence[Mapping], best_epoch: int) -> Figure:
    """Loss and Dice of training and validation by epoch, the best epoch marked, and the learning rate."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for ax, name in zip(figure.subplots(1, 3), ("loss", "dice_coefficient", "learning_rate"), strict=True):
        ax.plot(epochs, [row[name] for row in history], "o-", color="black", markersize=3, label="training")
        if f"val_{name}" in history[0]:
            values = [row[f"val_{name}"] for row in history]
            ax.plot(epochs, values, "s--", color=TILED, markersize=3, label="validation")
            ax.axvline(best_epoch, color="0.7", linewidth=1, label="best epoch")
            ax.legend(frameon=False)
        ax.set(xlabel="epoch", title=name.replace("_", " "))
    return figure


def learning_curves(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Validation loss by epoch, a line for each training."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    for (name, history), style in zip(histories.items(), itertools.cycle(["o-", "s--", "^-.", "v:"]), strict=False):
        epochs = [row["epoch"] for row in history]
        ax.plot(epochs, [row["val_loss"] for row in history], style, markersize=3, label=name)
    ax.set(xlabel="epoch", ylabel="validation loss")
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def run_curves(histories: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Loss and Dice of several runs by epoch, over each other: validation as lines, training as thin dots."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for number, (run, history) in enumerate(histories.items()):
        epochs, color = [row["epoch"] for row in history], f"C{number % 10}"
        validated = all("val_loss" in row for row in history)
        for ax, name in zip(axes, ("loss", "dice_coefficient"), strict=True):
            label = None if validated else f"{run} (training)"
            ax.plot(epochs, [row[name] for row in history], ":", color=color, linewidth=1, label=label)
            if validated:
                style = "os^vD"[number % 5] + ("-", "--", "-.")[number % 3]
                ax.plot(epochs, [row[f"val_{name}"] for row in history], style, color=color, markersize=3, label=run)
            ax.set(xlabel="epoch", title=name.replace("_", " "))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def threshold_curve(thresholds: Sequence[float], counts: Sequence[Counts], in_use: float) -> Figure:
    """Dice, precision and recall by threshold, and the threshold in use."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    ax = figure.subplots()
    for score, style in zip(("dice", "precision", "recall"), ("-", "--", ":"), strict=True):
        ax.plot(thresholds, [getattr(count, score) for count in counts], style, label=score, color="black")
    ax.axvline(in_use, color="0.7")
    ax.set(xlabel="threshold", ylabel="score", ylim=(0, 1.02))
    ax.legend(frameon=False)
    return figure


def reliability_curve(reliability: Reliability) -> Figure:
    """Share of foreground by probability, bin by bin, and below it how many pixels each bin has."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = reliability.pixels > 0
    pixels = reliability.pixels[filled]
    ax.plot([0, 1], [0, 1], color="0.7", label="calibrated")
    x, y = reliability.probability[filled] / pixels, reliability.foreground[filled] / pixels
    ax.plot(x, y, "o-", color=TILED, label="test images")
    ax.set(ylabel="share of foreground", ylim=(-0.02, 1.02))
    ax.legend(frameon=False)
    edges = np.linspace(0, 1, len(reliability.pixels) + 1)
    below.stairs(reliability.pixels, edges, fill=True, color="0.6")
    below.set(xlabel="probability of foreground", ylabel="pixels", yscale="log", xlim=(0, 1))
    below.yaxis.set_major_formatter("{x:,.0f}")  # Powers of ten would be formulas, see above.
    return figure


def paired_scores(
    tiled: Mapping[str, float],
    non_tiled: Mapping[str, float],
    title: str,
    names: Sequence[str] = ("non-tiled", "tiled"),
) -> Figure:
    """Both scores of every image, joined by a line; `names` are those of the left and of the right ones."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    ax = figure.subplots()
    for stem in tiled:
        ax.plot([0, 1], [non_tiled[stem], tiled[stem]], color="0.75", zorder=0)
    ax.scatter([0] * len(tiled), [non_tiled[stem] for stem in tiled], color=NON_TILED, marker="s")
    ax.scatter([1] * len(tiled), list(tiled.values()), color=TILED)
    ax.set(xticks=[0, 1], xticklabels=names, xlim=(-0.4, 1.4), ylim=(-0.02, 1.02), title=title)
    return figure


def cost_chart(rows: Sequence[Mapping]) -> Figure:
    """Dice of architectures against the seconds of a training step; filled where tiles are exact, larger for more
    parameters. `rows` as `model_comparison.measure` returns them.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for row in rows:
        place = row["seconds_per_step"], row["dice_tiled"]
        filled = TILED if row["exact"] == "yes" else "none"
        ax.scatter(*place, s=row["parameters"] ** 0.5 / 8 + 15, facecolors=filled, edgecolors=TILED, alpha=0.8)
        ax.annotate(row["model"], place, xytext=(9, 4), textcoords="offset points", fontsize=9)
    ax.set(xscale="log", xlabel="seconds per training step", ylabel="mean Dice of the test images, tiled")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.set_title("filled: exact tiles are possible; area grows with the number of parameters", fontsize=9)
    ax.margins(x=0.25, y=0.2)
    return figure


def cost_intervals(rows: Sequence[Mapping]) -> Figure:
    """What mistakes cost, with 95 % intervals, as `mistakes.MistakeCosts.rows` lists them; units of a kind together.

    The kind is the first word of the unit. A mistake whose interval reaches below zero is shown as an empty circle.
    """
    kinds = {}
    for row in rows:
        kinds.setdefault(row["unit"].split()[0], []).append(row)
    figure = Figure(figsize=(9, 0.34 * len(rows) + 1.3 * len(kinds)), layout="constrained")
    heights = [len(found) + 1.5 for found in kinds.values()]
    axes = figure.subplots(len(kinds), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (kind, found) in zip(axes, kinds.items(), strict=True):
        for place, row in enumerate(found):
            low, high = (row["cost"] if row[end] is None else row[end] for end in ("low", "high"))
            ax.plot([low, high], [place, place], color=TILED, linewidth=2)
            ax.plot(row["cost"], place, "o", color=TILED, markerfacecolor=TILED if low >= 0 else "white")
            place_of_text = max(high, row["cost"]), place
            text = f"{row['cost']:.2g} {row['unit']}"
            ax.annotate(text, place_of_text, xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
        ax.axvline(0, color="0.7", linewidth=1)
        ax.set(yticks=range(len(found)), yticklabels=[row["pitfall"] for row in found], ylim=(len(found) - 0.4, -0.6))
        ax.set(xlabel=f"cost, {kind}")
        first, last = min(0, ax.dataLim.x0), ax.dataLim.x1
        width = last - first or 1
        ax.set_xlim(first - 0.02 * width, last + 0.45 * width)
    return figure


def disagreement_pictures(disagreement: np.ndarray, error: np.ndarray) -> tuple[dict[str, np.ndarray], Claim]:
    """The `magnitudes` of `diagnostics.disagreement_map` and of the errors there, (H, W), and whether they agree."""
    shared, seen, true = disagreement > 0, magnitudes(disagreement), magnitudes(error)
    pictures = {"disagreement of tiles": seen, "difference from the whole image": true * shared}
    return pictures, correlation_claim(seen[shared], true[shared])


def error_pictures(
    stem: str, image: np.ndarray, reference: np.ndarray, masks: Mapping[str, Mapping], dice: Mapping[str, Mapping]
) -> dict[str, np.ndarray]:
    """The reference outlined, and the `error_map` of each way, 480 px around the foreground, by title.

    `masks` and `dice` are by way and then by stem, as `model_comparison.compare` returns them.
    """
    pictures = {f"{stem}, reference": outline(image, reference, width=2)}
    for way in masks:
        pictures[f"{way.replace('_', '-')}, Dice {dice[way][stem]:.3f}"] = error_map(image, masks[way][stem], reference)
    return {title: picture[crop_around(reference, 480)] for title, picture in pictures.items()}


class Picture:
    """A published figure: shows itself in a notebook, with its caption as the text that screen readers speak."""

    def __init__(self, path: Path, caption: str):
        self.path, self.caption = path, caption

    def _repr_mimebundle_(self, include=None, exclude=None):
        png = base64.b64encode(self.path.read_bytes()).decode()
        return {"image/png": png, "text/plain": self.caption}, {"image/png": {"alt": self.caption}}


class FigureFolder:
    """The figures of a run: written with their captions to `<run>/figures/`, where the report finds them, and shown."""

    def __init__(self, run: str | Path):
        self.folder = Path(run) / "figures"

    def show(self, name: str, caption: str, figure: Figure) -> Picture:
        """Write a figure as `<name>.png`, its caption as `<name>.json`, and return it for the notebook to show."""
        path, caption = self.folder / f"{name}.png", printable(caption)
        with atomic_path(path) as temporary, warnings.catch_warnings():
            # Signs that the font lacks appear as boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(temporary, dpi=110)
        write_json(path.with_suffix(".json"), {"caption": caption})
        return Picture(path, caption)

    def grid(self, name: str, caption: str, pictures: Mapping[str, np.ndarray], columns: int = 4, **options) -> Picture:
        """`show` a `picture_grid`."""
        return self.show(name, caption, picture_grid(pictures, columns, **options))
