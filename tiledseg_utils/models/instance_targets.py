"""What `models.instance_unet` should predict of a label image, map by map."""

import cv2
import numpy as np
from scipy.ndimage import find_objects
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


def contacts(labels: np.ndarray) -> np.ndarray:
    """The pixels of each nucleus within `RIM` pixels (in a square) of another one, (H, W) bool.

    Args:
        labels: (H, W) int32, 0 = background.
    """
    values, kernel = labels.astype(np.float32), np.ones((2 * RIM + 1,) * 2, np.uint8)
    never = np.where(labels > 0, values, np.float32(np.inf))
    highest = cv2.dilate(values, kernel, borderType=cv2.BORDER_REPLICATE)
    lowest = cv2.erode(never, kernel, borderType=cv2.BORDER_REPLICATE)
    return (labels > 0) & (highest != lowest)


def flow_targets(labels: np.ndarray) -> np.ndarray:
    """Unit vectors (rows, columns) to each nucleus' centre, (..., 2) float32; 0 in the background and at the centre.

    The centre is the nucleus' pixel nearest to its centre of mass. In a nucleus with a dent, a straight way to it may
    lead through background or a neighbour; `heat_flow_targets` lead around.

    Args:
        labels: (H, W) or (N, H, W) int32, 0 = background.
    """
    flow = np.zeros((labels.size // labels.shape[-1], labels.shape[-1], 2), np.float32)
    for _, places, centre in _nuclei(labels):
        away = (centre - places).astype(np.float32)
        flow[tuple(places.T)] = away / np.maximum(np.hypot(*away.T), 1)[:, None]
    return flow.reshape(*labels.shape, 2)


def heat_flow_targets(labels: np.ndarray) -> np.ndarray:
    """Unit vectors (rows, columns) towards each nucleus' source of heat, (..., 2) float32; 0 in the background.

    Heat enters at the centre of `flow_targets` and spreads inside the nucleus alone, one pixel in each step. Its
    gradient leads to the centre without leaving the nucleus, whatever its shape: the flows of Cellpose (Stringer et
    al., Nature Methods 2021, doi 10.1038/s41592-020-01018-x).

    Args:
        labels: (H, W) or (N, H, W) int32, 0 = background. All images at once take half the time of one by one.
    """
    flow = np.zeros((labels.size // labels.shape[-1], labels.shape[-1], 2), np.float32)
    by_steps: dict[int, list] = {}
    for nucleus in _nuclei(labels):
        height, width = (side.stop - side.start + 2 for side in nucleus[0])
        steps = 64 * int(np.ceil(2 * (height + width) / 64))  # Few different numbers: many nuclei share a strip.
        by_steps.setdefault(steps, []).append(nucleus)
    for steps, nuclei in by_steps.items():
        places, directions = _heat_directions(nuclei, steps)
        flow[tuple(places.T)] = directions
    return flow.reshape(*labels.shape, 2)


def _heat_directions(nuclei: list[tuple], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of some nuclei, (n, 2), and their unit vectors along the gradient of heat after some steps.

    The nuclei lie side by side in one strip, each in a frame of one pixel, which stays cold.
    """
    heights, widths = (np.array([box[axis].stop - box[axis].start + 2 for box, _, _ in nuclei]) for axis in (0, 1))
    lefts = np.cumsum(widths) - widths
    inside = np.zeros((heights.max(), widths.sum()), np.float32)
    moved, sources = [], []
    for (box, places, centre), left in zip(nuclei, lefts, strict=True):
        shift = [1 - box[0].start, 1 - box[1].start + left]
        moved.append(places + shift)
        sources.append(centre + shift)
    rows, columns = np.concatenate(moved).T
    inside[rows, columns] = 1
    heat, sources = np.zeros_like(inside), tuple(np.transpose(sources))
    for _ in range(steps):
        heat[sources] += 1
        heat = cv2.blur(heat, (3, 3), borderType=cv2.BORDER_CONSTANT) * inside
    heat = np.log1p(heat)
    gradient = np.stack(
        [heat[rows + 1, columns] - heat[rows - 1, columns], heat[rows, columns + 1] - heat[rows, columns - 1]], -1
    )
    length = np.hypot(*gradient.T)[:, None]
    directions = np.divide(gradient, length, out=np.zeros_like(gradient), where=length > 0)
    return np.concatenate([places for _, places, _ in nuclei]), directions


def _nuclei(labels: np.ndarray):
    """Of each nucleus the box, its pixels (n, 2), and of these the one nearest to their centre of mass.

    Several images lie one below the other; their nuclei are found in each by itself.
    """
    height, width = labels.shape[-2:]
    for index, image in enumerate(labels.reshape(-1, height, width)):
        top = np.array([index * height, 0])
        for number, box in enumerate(find_objects(image), start=1):
            if box is None:
                continue
            rows, columns = box
            places = np.argwhere(image[box] == number) + np.array([rows.start, columns.start])
            centre = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
            yield (slice(rows.start + top[0], rows.stop + top[0]), columns), places + top, centre + top


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
    middle = side // 2 + (width - 1) / 2 % 1
    distances = np.empty((RAYS, len(rows)), np.float32)
    for k in range(RAYS // 2):
        cosine, sine = np.cos(2 * np.pi * k / RAYS), np.sin(2 * np.pi * k / RAYS)
        back = np.float64([[cosine, -sine, 0], [sine, cosine, 0]])  # From the turned image to the image itself.
        back[:, 2] = [(width - 1) / 2, (height - 1) / 2] - back[:, :2] @ [middle, middle]
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        turned = cv2.warpAffine(labels.astype(np.float32), back, (side, side), flags=flags, borderValue=-1)
        row = np.rint(cosine * rows - sine * columns + middle).astype(int)
        column = np.rint(cosine * columns + sine * rows + middle).astype(int)
        runs, starts = _runs_of_rows(turned)
        place, run = row * side + column, runs[row, column]
        is_same = turned[row, column] == labels[places]
        distances[k] = np.where(is_same, starts[run + 1] - place - 0.5, 0.5)
        distances[k + RAYS // 2] = np.where(is_same, place - starts[run] + 0.5, 0.5)
    rays = np.zeros((height, width, RAYS), np.float32)
    rays[places] = distances.T
    return rays


def _runs_of_rows(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal labels along rows: the number of each pixel's run, (H, W), and where each begins, counting pixels.

    One more begins after the last pixel.
    """
    is_first = np.ones(labels.shape, bool)
    is_first[:, 1:] = labels[:, 1:] != labels[:, :-1]
    runs = np.cumsum(is_first, dtype=np.int32).reshape(labels.shape) - 1
    return runs, np.append(np.flatnonzero(is_first), labels.size)


def instance_targets(
    labels: np.ndarray, flow: str = "centre", rays: bool = False, contact_weight: float = 1.0
) -> np.ndarray:
    """All that `models.instance_unet` should predict, (..., 6) or (..., 6 + RAYS) float32 in its order of channels.

    Parts of a label that do not touch count as separate nuclei: a border may have cut and mirrored one.

    Args:
        labels: (H, W) or (N, H, W) int32, 0 = background.
        flow: "centre" for `flow_targets`, "heat" for `heat_flow_targets`.
        rays: whether `ray_targets` follow.
        contact_weight: the value of the boundary where two nuclei touch (`contacts`), instead of 1. In the loss it is
            the weight of these few pixels, as U-Net's authors weigh the gaps between touching cells (Ronneberger et
            al., MICCAI 2015, arXiv:1505.04597).
    """
    if labels.ndim == 2:
        return instance_targets(labels[None], flow, rays, contact_weight)[0]
    labels = np.stack([label(image, connectivity=2) for image in labels]).astype(np.int32)
    foreground = (labels > 0)[..., None].astype(np.float32)
    vectors = {"centre": flow_targets, "heat": heat_flow_targets}[flow](labels)
    classes = np.stack([boundary_targets(image) for image in labels])
    if contact_weight != 1:
        classes[np.stack([contacts(image) for image in labels]), 2] = contact_weight
    maps = [foreground, classes, vectors]
    return np.concatenate([*maps, np.stack([ray_targets(image) for image in labels])] if rays else maps, -1)
