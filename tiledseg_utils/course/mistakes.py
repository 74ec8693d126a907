"""What a mistake costs: the same images with it and without it, compared image by image. The mistakes are elsewhere."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data.images import Pair, read_pair
from ..models.backend import keras
from ..prediction.inference import predict_batches
from ..scoring.pixels import Counts, Predict, count_pixels
from ..scoring.statistics import paired_difference
from ..settings.parameters import Parameters
from ..settings.schema import check_value
from . import plots
from .claims import interval_text

Maps = Mapping[str, np.ndarray]
"""By image, (H, W) probabilities."""


class MistakeCosts:
    """Images on which mistakes are measured, and the list of what they cost.

    Args:
        run: run folder; figures go to its figures.
        pairs: images with masks.
        side: of the part of each image around its foreground that is looked at, pixels.
        threshold: of probabilities.
        seed: of the bootstrap.

    Attributes:
        parts: by stem, the image (H, W, 3) uint8 RGB and the mask (H, W) bool.
        rows: what has been entered: pitfall, cost, unit, low, high (of the 95 % interval), mend.
    """

    def __init__(self, run: Path, pairs: Sequence[Pair], side: int, threshold: float, seed: int):
        check_value(Parameters, "threshold", threshold)
        self.figures, self.threshold, self.seed, self.rows = plots.FigureFolder(run), threshold, seed, []
        self.parts = {}
        for pair in pairs:
            image, mask = read_pair(pair)
            window = plots.crop_around(mask, side)
            self.parts[pair.stem] = image[window], mask[window]

    def predicted(self, predict: Predict) -> dict[str, np.ndarray]:
        """The probability map of each part."""
        return {stem: predict(image) for stem, (image, _) in self.parts.items()}

    def masks(self, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
        """What becomes of the mask of each part."""
        return {stem: change(mask) for stem, (_, mask) in self.parts.items()}

    def dice(self, maps: Maps) -> dict[str, float]:
        """Dice of each part."""
        return {stem: count_pixels(maps[stem] >= self.threshold, mask).dice for stem, (_, mask) in self.parts.items()}

    def dice_of_tiles(
        self, model: keras.Model, samples: Iterable[tuple], sources: Sequence[str], batch_size: int = 4
    ) -> dict[str, float]:
        """Dice by source, the pixels of all tiles of a source counted together.

        This is not a score to report (see `scoring.pixels`), but two networks that see the same tiles can be compared.

        Args:
            model: (N, h, w, 3) to (N, h, w, 1).
            samples: tiles (h, w, 3) uint8 with their masks (h, w) bool.
            sources: where each sample comes from.
        """
        tiles, masks = zip(*samples, strict=True)
        counts = dict.fromkeys(sources, Counts(0, 0, 0, 0))
        maps = predict_batches(model.predict_on_batch, tiles, batch_size)
        for probability, mask, source in zip(maps, masks, sources, strict=True):
            counts[source] += count_pixels(probability >= self.threshold, mask)
        return {source: count.dice for source, count in counts.items()}

    def area(self, masks: Maps) -> dict[str, float]:
        """How many pixels of other masks (H, W) are not zero, in percent of the foreground."""
        return {
            stem: 100 * np.count_nonzero(masks[stem]) / max(1, np.count_nonzero(mask))
            for stem, (_, mask) in self.parts.items()
        }

    def changed(self, maps: Maps, expected: Maps) -> dict[str, float]:
        """How many pixels are of another class than expected, in percent of the foreground."""
        return self.area({stem: (maps[stem] >= self.threshold) ^ (expected[stem] >= self.threshold) for stem in maps})

    def grid(self, pitfall: str, caption: str, pictures: Maps, zoom: int = 0, **options) -> plots.Picture:
        """Pictures by title, in a row, as a figure of the run.

        With `zoom`, only so many pixels of each are shown: around the foreground of the first picture if that is
        (H, W), else around that of the first part.
        """
        if zoom:
            picture, (_, mask) = next(iter(pictures.values())), next(iter(self.parts.values()))
            window = plots.crop_around(picture > 0 if picture.ndim == 2 else mask, zoom)
            pictures = {title: picture[window] for title, picture in pictures.items()}
        name = re.sub(r"\W+", "_", pitfall)
        return self.figures.grid(f"09_{name}", caption, pictures, columns=len(pictures), **options)

    def cost(self, pitfall: str, unit: str, more: Mapping, less: Mapping, mend: str) -> plots.Claim:
        """Enter by how much one score exceeds another, on average over the images (or other repetitions).

        The claim holds if it does, and no part of the interval is below zero. Without any score there is no entry, and
        nothing to claim.

        Args:
            pitfall: its name.
            unit: of the difference, as words that follow its number.
            more, less: both scores by image.
            mend: in words, without a full stop.
        """
        if not more:
            return plots.Claim(f"{pitfall}: the images have too few tiles.", None)
        found = paired_difference(more, less, self.seed)
        low, high = found["ci95"]
        row = {"pitfall": pitfall, "cost": found["mean"], "unit": unit, "low": low, "high": high, "mend": mend}
        self.rows.append(row)
        sentence = f"{pitfall}: {found['mean']:.3g} {unit}{interval_text(found['ci95'], '.3g')}."
        return plots.Claim(sentence, found["mean"] > 0 and (low is None or low >= 0))

    def lost(self, pitfall: str, right: Maps, broken: Maps, mend: str) -> tuple[plots.Picture, plots.Claim]:
        """Enter how much Dice is lost, and show the errors in the image that has lost most."""
        scores = {"as it should be": self.dice(right), pitfall: self.dice(broken)}
        before, after = scores.values()
        stem = max(self.parts, key=lambda stem: before[stem] - after[stem])
        found = zip(scores, (right, broken), strict=True)
        masks = {way: {stem: maps[stem] >= self.threshold} for way, maps in found}
        pictures = plots.error_pictures(stem, *self.parts[stem], masks, scores)
        caption = f"{pitfall}: the image that has lost most Dice, and the errors without and with the mistake."
        claim = self.cost(pitfall, "Dice lost", before, after, mend)
        return self.grid(pitfall, caption, pictures, side=2.6, errors=True), claim

    def changes(
        self,
        pitfall: str,
        broken: Maps,
        right: Maps,
        expected: Maps,
        mend: str,
        right_expected: Maps | None = None,
    ) -> tuple[plots.Picture, plots.Claim]:
        """Enter how many pixels are of another class than expected, and show the image that has changed most.

        Where the right maps come from another network, `right_expected` is what is expected of them.
        """
        found = {"as it should be": (right, right_expected or expected), pitfall: (broken, expected)}
        stem = max(self.parts, key=lambda stem: np.abs(broken[stem] - expected[stem]).mean())
        pictures = {f"{stem}, whole image": expected[stem]}
        for way, (maps, other) in found.items():
            pictures[f"difference, {way}"] = plots.magnitudes(np.abs(maps[stem] - other[stem]))
        caption = f"{pitfall}: a probability map, and how far tiles differ from it, from a millionth (black) to 1."
        less, more = (self.changed(*both) for both in found.values())
        claim = self.cost(pitfall, "% of the foreground changed", more, less, mend)
        return self.grid(pitfall, caption, pictures, side=2.6), claim
