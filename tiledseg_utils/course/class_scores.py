"""Classes in the notebooks: pictures and scores of each, beside the foreground that the lessons are about."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..data.classes import Classes
from ..data.images import Pair, read_pair
from ..scoring.classes import class_counts, confusion, find_classes
from ..scoring.statistics import paired_difference
from .plots import class_overlay

Matrices = Mapping[str, np.ndarray]
"""By stem, pixels by their class in the reference (rows) and in the prediction (columns)."""


def class_table(classes: Classes, pairs: Sequence[Pair]) -> list[dict]:
    """A table of classes, with the share of pixels that each has in some images, in percent."""
    counts = np.zeros(len(classes), np.int64)
    for pair in pairs:
        counts += np.bincount(read_pair(pair, classes=True)[1].ravel(), minlength=len(classes))
    shares = 100 * counts / counts.sum()
    return [row | {"pixels, %": float(share)} for row, share in zip(classes.rows(), shares, strict=True)]


def score_classes(
    predict: Callable[[np.ndarray], np.ndarray],
    pairs: Sequence[Pair],
    threshold: float,
    min_area: int = 0,
    min_confidence: float = 0.0,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Predict images, find their classes (`find_classes`), and count.

    Args:
        predict: from an image (H, W, 3) uint8 to the probabilities of classes (H, W, C) float32.
        pairs: images with masks of classes.
        threshold, min_area, min_confidence: of the foreground.

    Returns:
        numbers of classes, (H, W) uint8, and `confusion`, by stem.
    """
    numbers, matrices = {}, {}
    for pair in pairs:
        image, reference = read_pair(pair, classes=True)
        numbers[pair.stem] = find_classes(predict(image), threshold, min_area, min_confidence)
        matrices[pair.stem] = confusion(numbers[pair.stem], reference, len(pair.classes))
    return numbers, matrices


def sweep_classes(
    predict: Callable[[np.ndarray], np.ndarray], pairs: Sequence[Pair], thresholds: Sequence[float]
) -> dict[float, np.ndarray]:
    """The `confusion` of all of some images together, by threshold of the foreground."""
    totals = dict.fromkeys(thresholds, 0)
    for pair in pairs:
        image, reference = read_pair(pair, classes=True)
        probabilities = predict(image)
        for threshold in thresholds:
            totals[threshold] += confusion(find_classes(probabilities, threshold), reference, len(pair.classes))
    return totals


def shown(rows: Sequence[Mapping]) -> list[dict]:
    """What `class_rows` returns, as a table."""
    table = []
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        line = {"class": row["class"], "images": row["images"], "mean Dice": row["mean_dice"]}
        line |= {"pooled Dice": row["pooled_dice"], "95 % interval": interval, "IoU": row["pooled_iou"]}
        table.append(line | {"precision": row["precision"], "recall": row["recall"]})
    return [{name: "" if value is None else value for name, value in line.items()} for line in table]


def class_pictures(pair: Pair, numbers: np.ndarray, window: tuple[slice, slice]) -> dict[str, np.ndarray]:
    """A part of an image with its classes, with those that were predicted, and where these differ, by title."""
    image, reference = read_pair(pair, classes=True)
    image, reference, numbers = image[window], reference[window], numbers[window]
    differs = np.where(reference == numbers, 1.0, 0.0)
    return {
        f"{pair.stem}, its classes": class_overlay(image, reference, pair.classes, 0.6),
        "predicted": class_overlay(image, numbers, pair.classes, 0.6),
        "black: another class": differs,
    }


def confusion_chart(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Which class was taken for which: each row, a class of the reference, adds up to 100 %."""
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.3 * len(names) + 1.8, 0.8 * len(names) + 1.2), layout="constrained")
    ax = figure.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=130, aspect="auto")  # The darkest blue would hide its number.
    for (row, column), share in np.ndenumerate(shares):
        ax.text(column, row, f"{share:.1f} %", ha="center", va="center", fontsize=9)
    places = range(len(names))
    ax.set(xticks=places, xticklabels=names, yticks=places, yticklabels=names)
    ax.set(xlabel="predicted", ylabel="reference")
    return figure


def class_threshold_chart(totals: Mapping[float, np.ndarray], classes: Classes, threshold: float) -> Figure:
    """Pooled Dice of each class, but the background, by the threshold of the foreground."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    ax = figure.subplots()
    counts = [class_counts(matrix) for matrix in totals.values()]
    for number in range(1, len(classes)):
        color = np.array(classes.colors[number]) / 255
        ax.plot(list(totals), [each[number].dice for each in counts], "o-", color=color, label=classes.names[number])
    ax.axvline(threshold, color="0.6", linewidth=1)
    ax.set(xlabel="threshold of the foreground", ylabel="pooled Dice", ylim=(-0.02, 1.02))
    ax.legend(frameon=False)
    return figure


def class_differences(first: Matrices, second: Matrices, names: Sequence[str], seed: int) -> list[dict]:
    """By how much the Dice of each class is higher in one way than in another, over the images that show the class.

    Args:
        first, second: of both ways, for the same images.
        names: of the classes, the background first.
        seed: of the resamplings for intervals.

    Returns:
        {"class", "images", "first", "second", "difference", "low", "high"}; means, and the 95 % interval of their
        difference, None for fewer than two images.
    """
    dice = [
        {stem: [count.dice for count in class_counts(matrix)] for stem, matrix in way.items()}
        for way in (first, second)
    ]
    rows = []
    for number in range(1, len(names)):
        stems = [stem for stem, matrix in first.items() if matrix[number].any()]
        if not stems:
            continue
        own, other = ({stem: way[stem][number] for stem in stems} for way in dice)
        found = paired_difference(own, other, seed)
        low, high = found["ci95"]
        row = {"class": names[number], "images": len(stems)}
        row |= {"first": float(np.mean(list(own.values()))), "second": float(np.mean(list(other.values())))}
        rows.append(row | {"difference": found["mean"], "low": low, "high": high})
    return rows


def named(rows: Sequence[Mapping], first: str, second: str) -> list[dict]:
    """What `class_differences` returns, as a table with the names of both ways."""
    table = []
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
        line = {"class": row["class"], "images": row["images"], f"{first}, mean Dice": row["first"]}
        line |= {f"{second}, mean Dice": row["second"], "difference": row["difference"], "95 % interval": interval}
        table.append(line)
    return table
