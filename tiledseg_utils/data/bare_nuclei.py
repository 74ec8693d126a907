"""Which images of the challenge are like those of the original experiment, by simple statistics.

The experiment did not publish how it chose its images, so this is a rule of thumb that finds their kind.
"""

import cv2
import numpy as np

# What is measured, and the limits. In brackets: the 24 images that the original experiment published.
BARE_NUCLEI = {
    "colour": (5, 100),  # mean difference of the largest and the smallest channel; 0 is grey (10-28)
    "luminance": (110, 255),  # median; where red cells lie close, it is not of the background (126-239)
    "background": (150, 255),  # 90th percentile of the luminance (212-243)
    "dark %": (0, 8),  # luminance below 64 (0-2.4)
    "pink %": (60, 100),  # of the coloured pixels, those with green as the smallest channel (91-100)
    "strong stain %": (0, 10),  # luminance below 100, green 20 below red and blue; much in tissue (0.05-7.7)
    "labelled %": (0.05, 10),  # (0.35-8.1)
    "cell px": (20, 150),  # median diameter of a disc of the same area (36-72)
}


def judge_bare_nuclei(image: np.ndarray, labels: np.ndarray) -> tuple[bool, str]:
    """Tell whether an image is a stained blood smear in which few white cells are labelled.

    Args:
        image: (H, W, 3) uint8, RGB; only every k-th row and column is measured, so that about 1024 remain.
        labels: (H, W) non-negative integers, 0 = background.

    Returns:
        taken: whether all values lie within the limits of `BARE_NUCLEI`.
        reason: the values that do not, or else all of them.
    """
    step = max(1, max(image.shape) // 1024)
    thin = image[::step, ::step]
    luminance = cv2.cvtColor(thin, cv2.COLOR_RGB2GRAY)
    red, green, blue = (thin[..., channel].astype(np.int16) for channel in range(3))
    spread, rest = np.ptp(thin, axis=2), np.minimum(red, blue)
    areas = np.unique(labels[labels > 0], return_counts=True)[1]
    measured = {
        "colour": spread.mean(),
        "luminance": np.median(luminance),
        "background": np.percentile(luminance, 90),
        "dark %": 100 * (luminance < 64).mean(),
        "pink %": 100 * ((spread > 20) & (green <= rest)).sum() / max(1, (spread > 20).sum()),
        "strong stain %": 100 * ((luminance < 100) & (green < rest - 20)).mean(),
        "labelled %": 100 * areas.sum() / labels.size,
        "cell px": 2 * np.sqrt(np.median(areas) / np.pi) if areas.size else 0,
    }
    shown = {name: f"{name} {value:.1f}" for name, value in measured.items()}
    limits = [(name, *BARE_NUCLEI[name]) for name in measured]
    outside = [f"{shown[name]} is not {low}-{high}" for name, low, high in limits if not low <= measured[name] <= high]
    return not outside, ", ".join(outside or shown.values())
