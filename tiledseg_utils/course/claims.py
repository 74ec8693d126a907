"""What the course expects of a run, beside what the run has found."""

import math
from collections.abc import Mapping, Sequence

import numpy as np


class Claim:
    """A sentence of the course and whether it `holds` in this run; None where the run says nothing about it."""

    def __init__(self, sentence: str, holds: bool | None):
        self.sentence, self.holds = sentence, None if holds is None else bool(holds)

    def _repr_markdown_(self):
        verdict = {True: "✔ As expected", False: "✘ Not so in this run", None: "Not measurable in this run"}
        return f"**{verdict[self.holds]}:** {self.sentence}"


def interval_text(interval: Sequence[float | None], digits: str = ".3f") -> str:
    """A 95 % interval [low, high] as the end of a sentence; nothing for [None, None]."""
    low, high = interval
    return "" if low is None else f", 95 % interval {low:{digits}} to {high:{digits}}"


def method_claims(rows: Sequence[Mapping]) -> list[Claim]:
    """Claims about the methods of predicting in `diagnostics.measure_methods`."""
    found, claims = {row["method"]: row for row in rows}, []
    if "exact" in found:
        exact, odd = (found[name]["largest_difference"] for name in ("exact", "one pixel more"))
        claims.append(Claim(f"Exact tiles differ from the whole image by {exact:.1e} at most.", exact <= 1e-5))
        claims.append(Claim(f"One pixel more, off the grid, differs by up to {odd:.3f}.", odd > 0.01))
    beside, blended = (found[name]["seam_score"] for name in ("side by side", "blended"))
    if math.isnan(beside) or math.isnan(blended):
        claims.append(Claim("Each image is one tile, so there are no seams.", None))
    else:
        claims.append(Claim(f"Seam score side by side {beside:.2f}, blended {blended:.2f}.", beside > blended))
    plain, turned = found["whole image"], found["8 views"]
    gain, cost = turned["dice"] - plain["dice"], turned["seconds"] / plain["seconds"]
    views = f"The eight symmetries change the mean Dice by {gain:+.4f}, for {cost:.1f} times the seconds."
    return [*claims, Claim(views, gain > 0)]


def architecture_claims(rows: Sequence[Mapping]) -> list[Claim]:
    """Claims about the architectures in `model_comparison.measure`."""
    wins = sum(row["dice_tiled"] > row["dice_non_tiled"] for row in rows)
    claims = [Claim(f"Tiled beats non-tiled for {wins} of {len(rows)} architectures.", wins == len(rows))]
    exact = [row["largest_difference"] for row in rows if row["exact"] == "yes"]
    others = [row["largest_difference"] for row in rows if row["exact"] != "yes"]
    if exact:
        claims.append(Claim(f"Exact tiles differ from the whole by {max(exact):.1e} at most.", max(exact) <= 1e-5))
    if others:
        claims.append(Claim(f"Where tiles cannot be exact, by {min(others):.4f} at least.", min(others) > 1e-3))
    return claims


def correlation_claim(disagreement: np.ndarray, error: np.ndarray) -> Claim:
    """A claim about two maps of the same pixels, as `plots.disagreement_pictures` shows them, where tiles disagree."""
    if min(len(np.unique(values)) for values in (disagreement, error)) < 2:
        return Claim("No pixel lies in two tiles that disagree, so there is nothing to correlate.", None)
    related = np.corrcoef(disagreement, error)[0, 1]
    return Claim(f"The orders of magnitude of disagreement and error correlate by {related:.2f}.", related > 0.5)
