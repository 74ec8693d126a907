"""The 24 images that the published experiment used, found in the challenge's archive by what they show.

The archive names its images otherwise. `published_images.csv` has no pixels of them, but a hash of each that survives
another size and another compression: which of the lowest frequencies of the small grey image lie above their median
(a perceptual hash by the discrete cosine transform; Zauner 2010, "Implementation and benchmarking of perceptual image
hash functions").
"""

import functools
from pathlib import Path

import cv2
import numpy as np

from ..base.files import read_csv

TABLE = Path(__file__).with_name("published_images.csv")
SMALL, KEPT = 64, 16  # sides, pixels and frequencies
SAME = 40
"""Of 255 bits, how many may differ. Other sizes and strong JPEG changed up to 20; no two of the images share so many
that fewer than 104 differ."""


def perceptual_hash(image: np.ndarray) -> str:
    """255 bits of an image, (H, W, 3) uint8 RGB, as 64 hexadecimal digits."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:KEPT, :KEPT].ravel()[1:]  # without the mean
    return np.packbits(np.append(low > np.median(low), False)).tobytes().hex()


def distance(one: str, other: str) -> int:
    """How many bits of two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


@functools.cache
def published_images() -> dict[str, dict[str, str]]:
    """By stem: the split of the published figures, the hash, and whether the image was looked at in development."""
    return {row["stem"]: row for row in read_csv(TABLE)}


def find_published(image: np.ndarray) -> tuple[str | None, str]:
    """The stem under which an image, (H, W, 3) uint8 RGB, was published, or None; and how near the nearest is."""
    own = perceptual_hash(image)
    distances = {stem: distance(own, row["hash"]) for stem, row in published_images().items()}
    nearest = min(distances, key=distances.get)
    reason = f"{distances[nearest]} of 255 bits differ from {nearest}, up to {SAME} are the same picture"
    return (nearest if distances[nearest] <= SAME else None), reason
