"""A picture of an image with the outlines and numbers of its nuclei."""

import cv2
import numpy as np
import pandas as pd
from skimage.segmentation import find_boundaries

GREEN, WHITE, BLACK = (0, 158, 115), (255, 255, 255), (0, 0, 0)


def draw_nuclei(image: np.ndarray, labels: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """The image with the rim of each nucleus in green, and its label in the middle where it is large enough to read.

    Args:
        image: (H, W, 3) uint8; stays as it is.
        labels: (H, W) int32.
        table: as `measure.measure` returns it for the labels.

    Returns:
        (H, W, 3) uint8.
    """
    picture = image.copy()
    picture[find_boundaries(labels, mode="inner")] = GREEN
    for label, row, column, axis in table[["label", "centroid_row", "centroid_column", "minor_axis"]].itertuples(False):
        text, scale = str(label), min(0.5, axis / 40)
        if scale < 0.2:  # fewer than eight pixels across
            continue
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        corner = round(column - width / 2), round(row + height / 2)
        for colour, thickness in ((BLACK, 2), (WHITE, 1)):
            cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return picture
