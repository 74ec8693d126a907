"""Red and white blood cells, as concentrations of stain."""

import math

import numpy as np
from scipy.spatial import cKDTree

from .shapes import cover_of, radius_map, windows
from .slide import BLUE, CHROMATIN, FOREGROUND, HAEMOGLOBIN, KINDS, OPAQUE, Slide

# Red cells


def _red_cell_stamps(rng, slide: Slide, noise, count: int = 48) -> list[np.ndarray]:
    """Red cells in all shapes that a slide has: discs, ovals, tear drops, crenated ones.

    A stamp is (3, h, w): haemoglobin, refracting rim, and depth, which is the distance from the edge in pixels.
    """
    stamps = []
    odd_shapes = rng.uniform(0, 0.3)
    sharpness = rng.uniform(1.6, 3.5)
    for _ in range(count):
        radius = slide.red_diameter / 2 * rng.normal(1, 0.07)
        waves = {2: 0.03, 3: rng.uniform(0, 0.05), 4: rng.uniform(0, 0.04), 5: rng.uniform(0, 0.02)}
        stretch, tail = 1 + abs(rng.normal(0, 0.12)), 0.0
        if rng.random() < odd_shapes:
            oval, drop = (rng.uniform(1.4, 2.2), 0.0), (stretch, rng.uniform(0.3, 0.7))
            crenated, bent = {int(rng.integers(8, 13)): rng.uniform(0.04, 0.09)}, {3: 0.1, 4: 0.08}
            stretch, tail = [oval, drop, (stretch, tail), (stretch, tail)][odd := rng.integers(4)]
            waves |= [{}, {}, crenated, bent][odd]
        rho = radius_map(rng, radius, waves, stretch, tail)
        pallor = np.clip(slide.pallor * rng.normal(1, 0.35), 0, 0.9)
        thickness = 1 - pallor * np.exp(-((rho / rng.uniform(0.35, 0.6)) ** sharpness))
        thickness = thickness * (0.94 + 0.1 * rho) * rng.normal(1, 0.05) + 0.015 * noise(rho.shape, 2)
        rim = slide.rim * np.exp(-(((rho - 1) * radius / 1.6) ** 2))
        stamp = np.stack([cover_of(rho, radius) * thickness, rim, np.maximum((1 - rho) * radius, 0)])
        stamps += [np.rot90(stamp, turn, axes=(1, 2)) for turn in range(4)]
    return stamps


def draw_red_cells(rng, slide: Slide, noise, centres: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Draw all red cells, and return where they are, (H, W) bool.

    Where two meet, they overlap, or, if packed, press each other flat along a bright seam.
    """
    stamps = _red_cell_stamps(rng, slide, noise)
    depths = np.zeros(planes.shape[1:], np.float32)
    covered = np.zeros(planes.shape[1:], bool)
    for centre, choice in zip(centres, rng.integers(0, len(stamps), len(centres)), strict=True):
        there, here = windows(depths.shape, centre, stamps[choice].shape[1:])
        cell, rim, depth = stamps[choice][:, here[0], here[1]]
        covered[there] |= depth > 0
        below = planes[HAEMOGLOBIN][there]
        if slide.layout == "packed":
            seam = np.minimum(np.abs(depth - depths[there]) / 1.7, 1) + (np.minimum(depth, depths[there]) <= 0)
            cell = np.where(depth > depths[there], cell, below) * np.clip(seam, 0.35, 1)
            depths[there] = np.maximum(depth, depths[there])
        else:
            cell = np.maximum(below, cell) + slide.overlap * np.minimum(below, cell)
        planes[HAEMOGLOBIN][there] = cell
        if slide.rim > 0.01:
            planes[OPAQUE][there] = np.maximum(planes[OPAQUE][there], rim)
    return covered


def red_cell_positions(rng, slide: Slide, shape) -> np.ndarray:
    """Centres of the red cells, (n, 2) float, row before column."""
    diameter = slide.red_diameter
    spacing = {"loose": rng.uniform(0.95, 1.5), "rouleaux": rng.uniform(1.5, 2.3), "packed": rng.uniform(0.93, 1.1)}
    step = spacing[slide.layout] * diameter
    y, x = np.mgrid[0 : shape[0] + step : 0.866 * step, 0 : shape[1] + step : step]
    x = x + np.where(np.arange(len(x)) % 2, step / 2, 0)[:, None]
    centres = np.stack([y.ravel(), x.ravel()], axis=1)
    jitter = {"loose": 0.3, "rouleaux": 0.4, "packed": 0.12}[slide.layout]
    centres += rng.normal(0, jitter * step, centres.shape)
    if slide.bare:
        # Cells settle along the edges of a foam: there the nearest and the second nearest bubble are equally far.
        bubble = rng.uniform(90, 180)
        bubbles = rng.uniform(0, 1, (max(3, round(shape[0] * shape[1] / bubble**2 / 3)), 2)) * shape
        wavy = centres + rng.uniform(8, 25) * np.sin(centres[:, ::-1] / rng.uniform(25, 60))
        gap = np.diff(cKDTree(bubbles).query(wavy, k=2)[0], axis=1)[:, 0]
        slope = 1 + rng.uniform(-0.5, 0.5) * (centres[:, 0] / shape[0] - 0.5)
        centres = centres[gap < np.quantile(gap, 1 - slide.bare) * slope]
    if slide.layout == "loose":
        return centres[rng.random(len(centres)) < rng.uniform(0.75, 1)]
    if slide.layout == "packed":
        return centres
    stacks, taken, cell = [], {}, 0.7 * diameter
    length, pitch = rng.uniform(2, 5), rng.uniform(0.5, 0.8) * diameter
    for number, (y, x) in enumerate(centres):
        heading = rng.uniform(0, 2 * math.pi)
        for _ in range(rng.geometric(1 / length)):
            if taken.setdefault((y // cell, x // cell), number) != number:
                break
            stacks.append((y, x))
            heading += rng.normal(0, 0.35)
            y, x = y + pitch * math.sin(heading), x + pitch * math.cos(heading)
    return np.array(stacks)


# White cells


def _nucleus(rng, kind: str, shape, radius: float, apart: float) -> np.ndarray:
    """The radius map of a nucleus: lobes on an arc that flow together where they come close (metaballs)."""
    lobes, arc, size, span = {
        "segmented": (rng.integers(2, 6), 0.42, rng.uniform(0.3, 0.38), rng.uniform(2.6, 4.4)),
        "band": (8, 0.42, rng.uniform(0.22, 0.29), rng.uniform(3.0, 4.6)),
        "lymphocyte": (2, 0.06, rng.uniform(0.62, 0.85), 3.0),
        "monocyte": (4, 0.27, rng.uniform(0.36, 0.46), rng.uniform(2.2, 3.6)),
        "smudge": (1, 0.0, 0.9, 0.0),
        "naked": (1, 0.0, 1.2, 0.0),
    }[kind]
    if kind == "segmented" and apart:  # no draw otherwise, so that usual smears stay the same
        apart = rng.uniform(0, apart)
        arc, size = arc + 0.12 * apart, size * (1 - 0.35 * apart)
    half = shape[0] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) / radius
    shift = rng.normal(0, 0.06, 2)
    angles = rng.uniform(0, 2 * math.pi) + np.linspace(0, span, lobes) + rng.normal(0, 0.12, lobes)
    field = np.zeros(shape, np.float32)
    for angle in angles:
        reach = arc * rng.uniform(0.8, 1.2)
        v, u = y - shift[0] - reach * math.sin(angle), x - shift[1] - reach * math.cos(angle)
        turn, stretch = rng.uniform(0, math.pi), 1 + (kind == "segmented") * rng.uniform(0, 0.5)
        along = (u * math.cos(turn) + v * math.sin(turn)) ** 2 / stretch
        across = (v * math.cos(turn) - u * math.sin(turn)) ** 2 * stretch
        field += np.exp(2.2 * (1 - (along + across) / (size * rng.uniform(0.85, 1.15)) ** 2))
    return np.sqrt(np.maximum(1 - np.log(np.maximum(field, 1e-12)) / 2.2, 0))


def _white_cell(rng, slide: Slide, noise, largest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One white cell: how much of each pixel it covers (h, w), its concentrations (4, h, w), and its nucleus (h, w)."""
    kind = str(rng.choice(KINDS, p=slide.kinds))
    if slide.naked and rng.random() < slide.naked:
        kind = "naked"
    scale = {"lymphocyte": 0.82, "monocyte": 1.25, "smudge": 1.05, "naked": 0.65}.get(kind, 1.0)
    radius = min(slide.white_diameter * scale * rng.lognormal(0, 0.11), largest) / 2
    ragged = {"smudge": 0.05, "monocyte": 0.03}.get(kind, 0.008)
    waves = {2: rng.uniform(0, 0.05), 3: rng.uniform(0, 0.04), 4: ragged, 7: ragged / 2, 11: ragged / 2}
    tail = rng.uniform(0.2, 0.5) if rng.random() < 0.08 else 0.0
    rho = radius_map(rng, radius, waves, 1 + abs(rng.normal(0, 0.35 if kind == "smudge" else 0.1)), tail)
    shape = rho.shape
    fine, medium, broad = (noise(shape, sigma) for sigma in (1, 2, 5))
    if kind == "smudge":
        rho = rho + 0.03 * medium
    cover = cover_of(rho, radius, 2)
    nucleus = _nucleus(rng, kind, shape, radius, slide.apart) + rng.uniform(0.03, 0.1) * broad
    nucleus = cover_of(np.maximum(nucleus, rho / 0.95), radius * 0.5, 1.2)
    strength = {"lymphocyte": 1.0, "monocyte": 0.78, "smudge": 0.72, "naked": 1.1}.get(kind, 0.95) * rng.normal(1, 0.08)
    stain = np.zeros((4, *shape), np.float32)
    density = slide.cytoplasm * rng.uniform(0.6, 1.4)
    if kind in ("segmented", "band"):
        granules = np.clip(1 + 0.25 * fine + 0.25 * medium, 0, None)
        stain[CHROMATIN] = (0.13 * max(density, 0.25) * granules) + 0.06 * np.exp(-(((rho - 0.95) / 0.06) ** 2))
        stain[HAEMOGLOBIN] = rng.uniform(0, slide.eosin) * granules
        stain[BLUE] = rng.uniform(0, 0.2)
    elif kind == "naked":
        stain[OPAQUE] = rng.uniform(0, 0.1)
    elif kind == "smudge":
        stain[CHROMATIN] = strength * rng.uniform(0.3, 0.8) * np.clip(1 + 0.15 * medium + 0.2 * broad, 0, None)
    else:
        stain[BLUE] = density * rng.uniform(0.35, 1.1) * np.clip(0.6 + 0.5 * rho + 0.1 * medium, 0, None)
        stain[CHROMATIN] = rng.uniform(0.02, 0.12) * np.clip(1 + 0.3 * medium, 0, None)
    texture = np.clip(1 + rng.uniform(0.05, 0.18) * medium + 0.08 * broad, 0.3, 1.4)
    stain[CHROMATIN] += nucleus * (strength * texture - stain[CHROMATIN])
    stain[BLUE] *= 1 - 0.6 * nucleus
    stain[HAEMOGLOBIN] *= 1 - nucleus
    if rng.random() < {"monocyte": 0.5, "smudge": 0.4}.get(kind, 0.06):  # vacuoles
        stain *= 1 - 0.85 * np.clip((noise(shape, 2) - 1.5) * 2, 0, 1) * (rho < 0.9)
    return cover, stain * cover, nucleus


def place_white_cells(rng, slide: Slide, noise, red: np.ndarray, shape) -> tuple[np.ndarray, list]:
    """Labels (H, W) int32, and for each white cell (centre, radius, window, cover, concentrations, nucleus)."""
    labels, cells, covered = np.zeros(shape, np.int32), [], 0
    goal, limit = slide.foreground * labels.size, 0.95 * FOREGROUND[1] * labels.size
    for _ in range(5000):
        cover, stain, nucleus = _white_cell(rng, slide, noise, largest=0.25 * min(shape))
        body = cover > 0  # with the soft edge: people, too, draw the outline about a pixel outside
        radius = math.sqrt(body.sum() / math.pi)
        if cells and rng.random() < slide.touching:  # beside another one
            other, reach, *_ = cells[rng.integers(len(cells))]
            angle = rng.uniform(0, 2 * math.pi)
            centre = other + (reach + radius) * np.array([math.sin(angle), math.cos(angle)])
        elif len(red) and rng.random() < 0.85:  # where the red cells are
            centre = red[rng.integers(len(red))] + rng.normal(0, 5, 2)
        else:
            centre = rng.uniform(0, 1, 2) * shape
        margin = radius if not cells else 0.3 * radius
        if np.any(centre < margin) or np.any(centre > np.array(shape) - margin):
            continue
        if any(np.hypot(*(centre - other)) < 0.93 * (radius + reach) for other, reach, *_ in cells):
            continue
        there, here = windows(shape, centre, cover.shape)
        if cells and covered + body[here].sum() > limit:
            break
        mine = labels[there] == 0
        labels[there][mine & body[here]] = len(cells) + 1
        covered += int((mine & body[here]).sum())
        parts = (cover[here], stain[:, here[0], here[1]], nucleus[here])
        cells.append((centre, radius, there, *(np.where(mine, part, 0) for part in parts)))
        if covered >= goal:
            break
    return labels, cells
