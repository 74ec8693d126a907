"""What probabilities are worth: of the pixels that a network gives 0.8, are eight in ten foreground?"""

import numpy as np

BINS = 15
"""As Guo et al. take them."""


class Reliability:
    """Pixels in bins by their probability of foreground (Guo et al., ICML 2017, arXiv:1706.04599).

    Bins have equal widths; a probability of 1 is in the last. Guo et al. look at the class that wins, this at the
    foreground, so that pixels below 0.5 have bins of their own.

    Attributes:
        pixels: (bins,) int64.
        probability: (bins,) float64, sums.
        foreground: (bins,) int64.
    """

    def __init__(self, bins: int = BINS):
        self.pixels, self.foreground = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
        self.probability = np.zeros(bins)

    def add(self, probability: np.ndarray, reference: np.ndarray) -> None:
        """Count the pixels of an image: (H, W) float in [0, 1], and (H, W) bool."""
        bins = len(self.pixels)
        number = np.minimum((probability * bins).astype(np.int64), bins - 1).ravel()
        self.pixels += np.bincount(number, minlength=bins)
        self.probability += np.bincount(number, probability.ravel(), bins)
        self.foreground += np.bincount(number[reference.ravel()], minlength=bins)

    @property
    def gaps(self) -> np.ndarray:
        """(bins,) mean probability less share of foreground; above 0 the network promises too much, NaN if empty."""
        with np.errstate(invalid="ignore"):
            return (self.probability - self.foreground) / self.pixels

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean of the absolute gaps, weighted by pixels; in [0, 1]."""
        return self._error(slice(None))

    @property
    def doubtful_ece(self) -> float:
        """The same without the first and the last bin, which hold the pixels of which the network is sure."""
        return self._error(slice(1, -1))

    def _error(self, part: slice) -> float:
        pixels = self.pixels[part].sum()
        error = np.abs(self.probability[part] - self.foreground[part]).sum()
        return float(error / pixels) if pixels else float("nan")

    def record(self) -> dict:
        """All of it as plain numbers, for a JSON file; `ece` and `doubtful_ece` are None where no pixel counts."""
        errors = {name: getattr(self, name) for name in ("ece", "doubtful_ece")}
        return {
            **{name: None if np.isnan(value) else value for name, value in errors.items()},
            **{name: getattr(self, name).tolist() for name in ("pixels", "probability", "foreground")},
        }
