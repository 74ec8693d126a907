"""What `models.instance_unet` should predict of a label image, map by map."""

import cv2
import numpy as np
from scipy.ndimage import center_of_mass, find_objects
from skimage.measure import label

from .instance_unet import RAYS

RIM = 2
"""How far the boundary reaches into a nucleus, pixels."""


def boundary_targets(labels: np.ndarray) -> np.ndarray:
    """Background, interior and boundary as (H, W, 3) float32 in {0, 1}.

    A nucleus' boundary is its part within `RIM` pixels (in a square) of background or another nucleus. At the border of
    the image there is none, as the nucleus may go on beyond it.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    values, kernel = labels.astype(np.float32), np.ones((2 * RIM + 1,) * 2, np.uint8)
    alone = cv2.erode(values, kernel, borderType=cv2.BORDER_REPLICATE) == cv2.dilate(
        values, kernel, borderType=cv2.BORDER_REPLICATE
    )
    foreground = labels > 0
    return np.stack([~foreground, foreground & alone, foreground & ~alone], -1).astype(np.float32)


def flow_targets(labels: np.ndarray) -> np.ndarray:
    """Unit vectors (rows, columns) to each nucleus' centre, (H, W, 2) float32; 0 in the background and at the centre.

    The centre is the nucleus' pixel nearest to its centre of mass. In a nucleus with a dent, a straight way to it may
    lead through background or a neighbour; `heat_flow_targets` lead around.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    flow = np.zeros((*labels.shape, 2), np.float32)
    for _, places, centre in _nuclei(labels):
        away = (centre - places).astype(np.float32)
        flow[tuple(places.T)] = away / np.maximum(np.hypot(*away.T), 1)[:, None]
    return flow


def heat_flow_targets(labels: np.ndarray) -> np.ndarray:
    """Unit vectors (rows, columns) towards each nucleus' source of heat, (H, W, 2) float32; 0 in the background.

    Heat enters at the centre of `flow_targets` and spreads inside the nucleus alone, one pixel in each step. Its
    gradient leads to the centre without leaving the nucleus, whatever its shape: the flows of Cellpose (Stringer et
    al., Nature Methods 2021, doi 10.1038/s41592-020-01018-x).

    Args:
        labels: (H, W) int32, 0 = background.
    """
    flow = np.zeros((*labels.shape, 2), np.float32)
    for box, places, centre in _nuclei(labels):
        corner = np.array([box[0].start, box[1].start]) - 1  # A frame of one pixel, which stays cold.
        inside = np.zeros([side.stop - side.start + 2 for side in box])
        rows, columns = (places - corner).T
        inside[rows, columns] = 1
        heat, source = np.zeros_like(inside), tuple(centre - corner)
        for _ in range(2 * sum(inside.shape)):
            heat[source] += 1
            heat = cv2.blur(heat, (3, 3), borderType=cv2.BORDER_CONSTANT) * inside
        heat = np.log1p(heat)
        gradient = np.stack(
            [heat[rows + 1, columns] - heat[rows - 1, columns], heat[rows, columns + 1] - heat[rows, columns - 1]], -1
        )
        length = np.hypot(*gradient.T)[:, None]
        flow[tuple(places.T)] = np.divide(gradient, length, out=np.zeros_like(gradient), where=length > 0)
    return flow


def _nuclei(labels: np.ndarray):
    """Of each nucleus the box, its pixels (n, 2), and of these the one nearest to their centre of mass."""
    numbers = np.unique(labels[labels > 0])
    boxes = find_objects(labels)
    for number, mass in zip(numbers, center_of_mass(labels > 0, labels, numbers), strict=True):
        box = boxes[number - 1]
        places = np.argwhere(labels[box] == number) + [side.start for side in box]
        yield box, places, places[np.argmin(((places - mass) ** 2).sum(axis=1))]


def ray_targets(labels: np.ndarray) -> np.ndarray:
    """How far each pixel's nucleus reaches in `RAYS` directions, (H, W, RAYS) float32, pixels; 0 in the background.

    Ray k has the angle 2 pi k / RAYS from the direction of growing columns towards that of growing rows, as in StarDist
    (Schmidt et al., MICCAI 2018, arXiv:1806.03535). The image is turned until a ray lies along its rows, and there the
    pixels up to the next label are counted; so distances are right to about a pixel.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    height, width = labels.shape
    side = int(np.ceil(np.hypot(height, width))) + 4
    places = np.nonzero(labels)
    rows, columns = places[0] - (height - 1) / 2, places[1] - (width - 1) / 2
    # Pixels stay on pixels in the turns by quarters, also where sides are even.
    middle, reach = side // 2 + (width - 1) / 2 % 1, np.arange(side, dtype=np.int16)
    rays = np.zeros((height, width, RAYS), np.float32)
    for k in range(RAYS // 2):
        cosine, sine = np.cos(2 * np.pi * k / RAYS), np.sin(2 * np.pi * k / RAYS)
        back = np.float64([[cosine, -sine, 0], [sine, cosine, 0]])  # From the turned image to the image itself.
        back[:, 2] = [(width - 1) / 2, (height - 1) / 2] - back[:, :2] @ [middle, middle]
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        turned = cv2.warpAffine(labels.astype(np.float32), back, (side, side), flags=flags, borderValue=-1)
        row = np.rint(cosine * rows - sine * columns + middle).astype(int)
        column = np.rint(cosine * columns + sine * rows + middle).astype(int)
        first, last = _run_of_each_pixel(turned, reach)
        is_same = turned[row, column] == labels[places]
        rays[*places, k] = np.where(is_same, last[row, column] - column + 0.5, 0.5)
        rays[*places, k + RAYS // 2] = np.where(is_same, column - first[row, column] + 0.5, 0.5)
    return rays


def _run_of_each_pixel(labels: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last column of the run of equal labels in its row that each pixel belongs to."""
    is_first = np.ones(labels.shape, bool)
    is_first[:, 1:] = labels[:, 1:] != labels[:, :-1]
    is_last = np.ones(labels.shape, bool)
    is_last[:, :-1] = is_first[:, 1:]
    first = np.maximum.accumulate(np.where(is_first, columns, 0), axis=1)
    last = np.minimum.accumulate(np.where(is_last, columns, columns[-1])[:, ::-1], axis=1)[:, ::-1]
    return first, last


def instance_targets(labels: np.ndarray, flow: str = "centre", rays: bool = False) -> np.ndarray:
    """All that `models.instance_unet` should predict, (H, W, 6) or (H, W, 6 + RAYS) float32 in its order of channels.

    Parts of a label that do not touch count as separate nuclei: a border may have cut and mirrored one.

    Args:
        labels: (H, W) int32, 0 = background.
        flow: "centre" for `flow_targets`, "heat" for `heat_flow_targets`.
        rays: whether `ray_targets` follow.
    """
    labels = label(labels, connectivity=2).astype(np.int32)
    foreground = (labels > 0)[..., None].astype(np.float32)
    vectors = {"centre": flow_targets, "heat": heat_flow_targets}[flow](labels)
    maps = [foreground, boundary_targets(labels), vectors]
    return np.concatenate([*maps, ray_targets(labels)] if rays else maps, -1)
