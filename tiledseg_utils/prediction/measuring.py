"""Nuclei are measured in the pass that labels them, so that an image is predicted once and never whole in memory."""

from collections.abc import Iterable, Iterator

import numpy as np

from ..data.streaming import Source
from ..scoring.measure import Measurement


class NucleusMeter:
    """Measures the nuclei of an image while their labels come, which is later than the probabilities they come from.

    Args:
        source: the image, or the map of probabilities.
        has_image: whether the brightness is to be measured in it.
    """

    def __init__(self, source: Source, has_image: bool):
        self._measurement, self._source, self._row = Measurement(source.shape, source.name), source, 0
        self._has_image, self._waiting = has_image, np.zeros((0, source.shape[1]), np.float32)
        self.table = self._measurement.table

    def remember(self, bands: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
        """The same bands; their foreground is kept until the labels are there."""
        for start, band in bands:
            foreground = band[..., 0] if band.ndim == 3 else band
            self._waiting = np.concatenate([self._waiting, foreground])
            yield start, band

    def add(self, labels: np.ndarray) -> None:
        """Measure the next rows, (n, W) int32."""
        count, stop = len(labels), self._row + len(labels)
        image = self._source.read_stored(self._row, stop) if self._has_image else None
        self._measurement.add(labels, image, self._waiting[:count])
        self._waiting, self._row = self._waiting[count:].copy(), stop
