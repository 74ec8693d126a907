"""What a run found, in one sentence and one picture; of its metrics alone, without Keras."""

from collections.abc import Collection, Mapping, Sequence

LEAD_PICTURES = ("05_side_by_side", "05_rivals", "04_errors", "04_gallery", "03_preview", "01_images")
"""Figures by what they tell at a glance: errors of both ways side by side, of rivals, of tiled prediction, images."""


def strongest_rival(rows: Sequence[Mapping]) -> Mapping | None:
    """Of fair rivals, as `metrics.json` lists them, the one with the highest mean Dice; None if there is none."""
    return max(rows, key=lambda row: row["dice"]["mean"], default=None)


def rivals_that_reduce(metrics: Mapping) -> list[Mapping]:
    """The fair rivals that reduce the image; the others take it whole, and are no weaker way of seeing it."""
    return [row for row in metrics["baselines"] if row.get("reduced_to")]


def whole_image(metrics: Mapping) -> Mapping | None:
    """The rival that predicts the image in one piece; None where there was no memory for it."""
    return strongest_rival([row for row in metrics["baselines"] if not row.get("reduced_to")])


def interval(ci95: Sequence[float | None]) -> str:
    """A 95 % interval with its signs, "+0.701 to +0.947"; "" for a single image, which has none."""
    low, high = ci95
    return "" if low is None else f"{low:+.3f} to {high:+.3f}"


def versus(difference: Mapping, rival: str) -> str:
    """How tiled prediction does beside a rival, as a part of a sentence.

    Args:
        difference: {"dice_mean", "ci95": [low, high]} of tiled less rival; both None for a single image.
        rival: its name in the sentence.
    """
    mean, (low, high) = difference["dice_mean"], difference["ci95"]
    amount = f"{abs(mean):.3f} {'more' if mean > 0 else 'less'} than {rival}"
    if low is None:
        same = abs(mean) < 0.0005
        return f"as much as {rival}" if same else f"{amount} (one image gives no interval)"
    if low > 0:
        return f"{amount} (95 % interval {low:.3f} to {high:.3f})"
    if high < 0:
        return f"{amount} (95 % interval {-high:.3f} to {-low:.3f})"
    if max(-low, high) < 0.0005:
        return f"as much as {rival}"
    return f"not clearly more or less than {rival} ({mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"


def verdict(metrics: Mapping) -> str:
    """What a run found, in one sentence: mean Dice of tiled prediction, and how its rivals do beside it.

    Further sentences warn of what scores near 0.
    """
    images = metrics["data"]["images"]["test"]
    parts = [versus(metrics["difference"], "the same network on one reduced image")]
    if (rival := strongest_rival(rivals_that_reduce(metrics))) is not None:
        name = f"the strongest fair rival that reduces the image, “{rival['way']}”"
        parts.append(versus(rival["difference"], name))
    if (whole := whole_image(metrics)) is not None:
        parts.append(versus(whole["difference"], "the whole image in one piece"))
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
    of = "1 test image" if images == 1 else f"{images} test images"
    what = "mean Dice of all classes together" if metrics.get("classes") else "mean Dice"
    sentence = f"Tiled prediction scores {metrics['tiled']['dice']['mean']:.3f} {what} on {of}: {listed}."
    return " ".join([sentence, *warnings(metrics)])


NEAR_ZERO = 0.1
"""Of Dice. A kind or an image that scores less is not a matter of outlines: its objects were not found."""


def warnings(metrics: Mapping) -> list[str]:
    """Sentences about kinds of image, classes, and single images of other kinds that score near 0."""
    sentences, told = [], set()
    for row in metrics.get("kinds", ()):
        if row["mean"] < NEAR_ZERO:
            of = "its only test image scores" if row["images"] == 1 else f"its {row['images']} test images score"
            sentences.append(f"The kind “{row['kind']}” is lost: {of} {row['mean']:.3f} mean Dice.")
            told |= set(row["stems"])
    for row in metrics.get("classes", ()):
        if row["pooled_dice"] < NEAR_ZERO and row["images"]:
            sentences.append(f"The class “{row['class']}” is lost: it scores {row['pooled_dice']:.3f} pooled Dice.")
    per_image = metrics["tiled"]["dice"].get("per_image", {})
    low = sorted((score, stem) for stem, score in per_image.items() if score < NEAR_ZERO and stem not in told)
    if low:
        score, stem = low[0]
        of = "1 test image scores" if len(low) == 1 else f"{len(low)} test images score"
        sentences.append(f"Look at the errors: {of} below {NEAR_ZERO:g} Dice, the lowest {stem} ({score:.3f}).")
    return sentences


def lead_picture(names: Collection[str]) -> str | None:
    """The name of the most telling figure among some; else the first by name; None if there are none."""
    return next((name for name in LEAD_PICTURES if name in names), min(names, default=None))
