"""Drawn blood smears with exact labels: data for a class without a download.

A bright-field microscope measures light that was left over. Each dye takes its share, and what several layers take
adds up as optical density (the law of Beer and Lambert): `light = lamp * 10 ** -(concentration @ STAINS)`.
So a smear is drawn as four maps of concentration, cell by cell, and photographed only at the end. This is the mixing
model that Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution" (Anal. Quant. Cytol.
Histol. 23, 2001), invert to take stains apart.

The label of a white cell covers the whole cell, nucleus and cytoplasm. Everything else is background, also what looks
like a nucleus at first sight: platelets, stain precipitate, burst cells, dust.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ..base.files import UserError, atomic_path, check_names, progress, read_json, write_csv, write_json
from .images import SPLITS, Pair, find_pairs
from .pictures import write_image

# Optical density of one unit of each stain in red, green and blue, measured on May-Grünwald-Giemsa smears.
STAINS = {
    "haemoglobin": (0.125, 0.280, 0.190),  # a red cell, eosin included; the ratios vary from slide to slide
    "chromatin": (0.550, 0.730, 0.180),  # azure B on DNA: nuclei, platelets, precipitate
    "blue": (0.170, 0.110, 0.030),  # methylene blue on RNA: the cytoplasm of lymphocytes and monocytes
    "opaque": (1.000, 1.000, 1.000),  # dust, and edges that bend light out of the lens
}
HAEMOGLOBIN, CHROMATIN, BLUE, OPAQUE = range(4)
KINDS = ("segmented", "band", "lymphocyte", "monocyte", "smudge")
FOREGROUND = (0.003, 0.08)  # white cells cover this share of every image, as in real smears
SMALLEST = 256  # pixels; less cannot hold one white cell within FOREGROUND
ADDED_SERIES = 1_000_000_000  # added to the seed of smears that learn along with real images
DRAWING = 1  # count up when the same seed starts to give other pixels: write_dataset then refuses older folders
VARIATION = 3  # the same for varied smears


@dataclass(frozen=True)
class Slide:
    """What all cells of one image have in common. Lengths in pixels."""

    lamp: np.ndarray  # (3,) float32, RGB of the empty background, 0-255
    stains: np.ndarray  # (4, 3) float32, STAINS as this laboratory's batch of dye has them
    red_diameter: float
    white_diameter: float
    layout: str  # "loose", "rouleaux", "packed"
    bare: float  # 0-1, share of the smear without red cells
    overlap: float  # 1: overlapping cells add up (Beer-Lambert); 0: they only give way to each other
    pallor: float  # 0-1, how pale the centres of the red cells are
    kinds: np.ndarray  # (5,) probabilities of KINDS
    cytoplasm: float  # strength of the cytoplasm's stain
    foreground: float  # share of the pixels that white cells should cover
    touching: float  # share of the white cells that are laid beside another one
    rim: float  # opaque ring around red cells, from refraction
    blur: float  # sigma of the defocus
    sharpening: float  # of the camera; leaves a bright halo around dark cells
    noise: float  # standard deviation in gray levels
    coarse: bool  # through a lens that shows less: smaller white cells, more noise, deeper nuclei
    clumps: float = 0.3  # of stain, large ones, to be expected
    naked: float = 0.0  # share of the white cells that are small, nearly black nuclei without cytoplasm
    apart: float = 0.0  # 0-1, how far apart the lobes of nuclei may lie
    giant: float = 1.0  # enlarges large platelets
    sticking: float = 0.0  # platelets that stick to a white cell, to be expected
    eosin: float = 0.3  # highest concentration in the granules of white cells; that of red cells is about 1


def _draw_slide(rng: np.random.Generator, coarse_share: float) -> Slide:
    pick, crowded = rng.random(2)
    layout = "loose" if pick < 0.42 else "rouleaux" if pick < 0.7 else "packed"
    lamp = rng.normal(223, 2) if rng.random() < 0.7 else rng.uniform(214, 242)
    stains = np.array(list(STAINS.values()), np.float32)
    stains[HAEMOGLOBIN] *= rng.uniform(0.72, 1.25) * np.array([rng.uniform(0.85, 1.35), 1, rng.uniform(0.85, 1.25)])
    coarse = rng.random() < coarse_share
    stains[CHROMATIN] *= np.array([1.25, 1.1, 1.4] if coarse else [1, 1, 1]) * rng.uniform(0.75, 1.05)
    stains[CHROMATIN] *= rng.uniform([0.92, 0.95, 0.8], [1.12, 1.05, 1.2])
    washed_out = rng.random() < 0.08
    if washed_out:
        stains[[HAEMOGLOBIN, CHROMATIN]] *= [[0.45], [0.85]]
    return Slide(
        lamp=np.float32(
            [lamp, lamp - rng.uniform(1, 6), lamp + (rng.uniform(-3, 9) if coarse else rng.uniform(-6, 1))]
        ),
        stains=stains,
        red_diameter=rng.uniform(25, 36) if coarse else rng.normal(30.5, 1.8),
        white_diameter=rng.uniform(35, 48) if coarse else rng.uniform(48, 70),
        layout=layout,
        bare=rng.choice([0, rng.uniform(0.25, 0.65)], p=[0.1, 0.9] if layout == "packed" else [0.85, 0.15]),
        overlap=0 if layout == "packed" else rng.uniform(0, 0.4),
        pallor=rng.uniform(0, 0.15) if layout == "packed" else rng.uniform(0.1, 0.95),
        kinds=rng.dirichlet([1.0, 0.4, 1.0, 0.35, 0.35]),
        cytoplasm=float(np.exp(rng.normal(-0.1, 0.55))) * (0.5 if washed_out else 1),
        foreground=rng.uniform(0.035, 0.075) if crowded < 0.15 else float(np.exp(rng.uniform(-5.5, -3.6))),
        touching=0.15,
        rim=rng.uniform(0.25, 0.5) if rng.random() < 0.04 else rng.uniform(0, 0.04),
        blur=rng.uniform(0.8, 1.3),
        sharpening=rng.uniform(0.1, 0.7),
        noise=rng.uniform(1.8, 4) if coarse else rng.uniform(0.8, 1.6),
        coarse=coarse,
    )


def _vary(rng: np.random.Generator, slide: Slide) -> Slide:
    """The same slide under another lens, with more or less dye, more clumps of it, and with what is rarer elsewhere."""
    magnification = np.exp(rng.uniform(np.log(0.8), np.log(1.4)))
    stains = slide.stains.copy()
    stains[[HAEMOGLOBIN, CHROMATIN]] *= np.exp(rng.uniform(np.log(0.8), np.log(1.4), (2, 1)))
    return replace(
        slide,
        stains=stains,
        red_diameter=magnification * slide.red_diameter,
        white_diameter=magnification * slide.white_diameter,
        touching=rng.uniform(0, 0.5),
        clumps=2.0,
        apart=1.0,
        giant=rng.uniform(1, 2),
        naked=rng.uniform(0.2, 0.8) if rng.random() < (0.7 if slide.coarse else 0.2) else 0.0,
        sticking=rng.uniform(0.3, 2) if rng.random() < 0.4 else 0.0,
        eosin=rng.uniform(0.3, 1.2) if rng.random() < 0.5 else 0.3,
    )


def _noise(rng: np.random.Generator) -> Callable[[tuple[int, int], float], np.ndarray]:
    """A source of smooth noise patches (mean 0, deviation 1) at three scales, cut from tiles that are made once."""
    tiles = {}
    for sigma in (1, 2, 5):
        tile = cv2.GaussianBlur(rng.standard_normal((640, 640), np.float32), (0, 0), sigma)
        tiles[sigma] = (tile - tile.mean()) / tile.std()

    def patch(shape: tuple[int, int], sigma: int) -> np.ndarray:
        y, x = rng.integers(0, 641 - np.array(shape))
        return tiles[sigma][y : y + shape[0], x : x + shape[1]]

    return patch


def _radius_map(rng, radius: float, waves: Mapping[int, float], stretch: float = 1.0, tail: float = 0.0) -> np.ndarray:
    """Distance from the centre as a share of a wobbly outline's radius: 1 on the outline, below 1 inside.

    `waves` gives the amplitude of the outline's harmonics, `stretch` the ratio of its axes, `tail` one pointed end.
    """
    half = math.ceil(radius * (math.sqrt(stretch) * (1 + sum(waves.values()) + tail)) + 3)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    turn, *phases = rng.uniform(0, 2 * math.pi, 1 + len(waves))
    u = (x * math.cos(turn) + y * math.sin(turn)) / math.sqrt(stretch)
    v = (y * math.cos(turn) - x * math.sin(turn)) * math.sqrt(stretch)
    angle = np.arctan2(v, u)
    outline = 1 + tail * np.exp(-((angle / 0.4) ** 2))
    for (order, amplitude), phase in zip(waves.items(), phases, strict=True):
        outline += amplitude * np.cos(order * angle + phase)
    return np.hypot(u, v) / (radius * outline)


def _cover(rho: np.ndarray, radius: float, edge: float = 1.5) -> np.ndarray:
    """1 inside an outline, 0 outside, with a ramp `edge` pixels wide."""
    return np.clip((1 - rho) * radius / edge + 0.5, 0, 1)


def _windows(shape, centre, patch_shape):
    """Where a patch lies in an image, and which part of the patch that is; both are empty outside."""
    image, patch = [], []
    for length, middle, extent in zip(shape, centre, patch_shape, strict=True):
        start = round(float(middle)) - extent // 2
        low, high = max(start, 0), max(min(start + extent, length), 0)
        image.append(slice(low, max(low, high)))
        patch.append(slice(low - start, max(low, high) - start))
    return tuple(image), tuple(patch)


def _add(plane: np.ndarray, centre, patch: np.ndarray) -> None:
    """Lay a patch over a plane of concentrations: light passes through both (Beer-Lambert)."""
    there, here = _windows(plane.shape, centre, patch.shape)
    plane[there] += patch[here]


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
        rho = _radius_map(rng, radius, waves, stretch, tail)
        pallor = np.clip(slide.pallor * rng.normal(1, 0.35), 0, 0.9)
        thickness = 1 - pallor * np.exp(-((rho / rng.uniform(0.35, 0.6)) ** sharpness))
        thickness = thickness * (0.94 + 0.1 * rho) * rng.normal(1, 0.05) + 0.015 * noise(rho.shape, 2)
        rim = slide.rim * np.exp(-(((rho - 1) * radius / 1.6) ** 2))
        stamp = np.stack([_cover(rho, radius) * thickness, rim, np.maximum((1 - rho) * radius, 0)])
        stamps += [np.rot90(stamp, turn, axes=(1, 2)) for turn in range(4)]
    return stamps


def _draw_red_cells(rng, slide: Slide, noise, centres: np.ndarray, planes: np.ndarray) -> None:
    """Draw all red cells. Where two meet, they overlap, or, if packed, press each other flat along a bright seam."""
    stamps = _red_cell_stamps(rng, slide, noise)
    depths = np.zeros(planes.shape[1:], np.float32)
    for centre, choice in zip(centres, rng.integers(0, len(stamps), len(centres)), strict=True):
        there, here = _windows(depths.shape, centre, stamps[choice].shape[1:])
        cell, rim, depth = stamps[choice][:, here[0], here[1]]
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


def _red_cell_positions(rng, slide: Slide, shape) -> np.ndarray:
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


def _white_cell(rng, slide: Slide, noise, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """One white cell: how much of each pixel it covers (h, w), and its concentrations (4, h, w)."""
    kind = str(rng.choice(KINDS, p=slide.kinds))
    if slide.naked and rng.random() < slide.naked:
        kind = "naked"
    scale = {"lymphocyte": 0.82, "monocyte": 1.25, "smudge": 1.05, "naked": 0.65}.get(kind, 1.0)
    radius = min(slide.white_diameter * scale * rng.lognormal(0, 0.11), largest) / 2
    ragged = {"smudge": 0.05, "monocyte": 0.03}.get(kind, 0.008)
    waves = {2: rng.uniform(0, 0.05), 3: rng.uniform(0, 0.04), 4: ragged, 7: ragged / 2, 11: ragged / 2}
    tail = rng.uniform(0.2, 0.5) if rng.random() < 0.08 else 0.0
    rho = _radius_map(rng, radius, waves, 1 + abs(rng.normal(0, 0.35 if kind == "smudge" else 0.1)), tail)
    shape = rho.shape
    fine, medium, broad = (noise(shape, sigma) for sigma in (1, 2, 5))
    if kind == "smudge":
        rho = rho + 0.03 * medium
    cover = _cover(rho, radius, 2)
    nucleus = _nucleus(rng, kind, shape, radius, slide.apart) + rng.uniform(0.03, 0.1) * broad
    nucleus = _cover(np.maximum(nucleus, rho / 0.95), radius * 0.5, 1.2)
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
    return cover, stain * cover


def _place_white_cells(rng, slide: Slide, noise, red: np.ndarray, shape) -> tuple[np.ndarray, list]:
    """Labels (H, W) int32, and for each white cell (centre, radius, window, cover, concentrations)."""
    labels, cells, covered = np.zeros(shape, np.int32), [], 0
    goal, limit = slide.foreground * labels.size, 0.95 * FOREGROUND[1] * labels.size
    for _ in range(5000):
        cover, stain = _white_cell(rng, slide, noise, largest=0.25 * min(shape))
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
        there, here = _windows(shape, centre, cover.shape)
        if cells and covered + body[here].sum() > limit:
            break
        mine = labels[there] == 0
        labels[there][mine & body[here]] = len(cells) + 1
        covered += int((mine & body[here]).sum())
        cells.append(
            (centre, radius, there, np.where(mine, cover[here], 0), np.where(mine, stain[:, here[0], here[1]], 0))
        )
        if covered >= goal:
            break
    return labels, cells


# What is not labelled


def _platelets(rng, planes, slide: Slide, noise, white) -> None:
    """Fragments of 3-12 px, alone, in heaps, or at the edge of a white cell; some large (to 22, giants 44 px), pale."""
    shape = planes.shape[1:]
    density = np.exp(rng.normal(-10.5, 1)) if rng.random() < 0.85 else rng.uniform(0.5, 2) * 1e-4
    typical, dark = rng.uniform(4, 9), rng.uniform(0.3, 1.0)

    def draw(middle, spread: float) -> None:
        large = rng.random() < 0.1
        radius = min(typical * rng.lognormal(0, 0.3) * (2.8 if large else 1), 22) / 2 * (slide.giant if large else 1)
        rho = _radius_map(rng, radius, {2: 0.06, 3: 0.06}, rng.uniform(1, 1.5))
        body = _cover(rho, radius, 3.5) * np.clip(1 + 0.3 * noise(rho.shape, 1), 0, None) * (0.35 if large else 1)
        centre = middle + rng.normal(0, spread, 2)
        _add(planes[CHROMATIN], centre, dark * rng.uniform(0.6, 1.2) * body)
        _add(planes[BLUE], centre, rng.uniform(0.2, 1) * body)

    for _ in range(rng.poisson(1 + density * shape[0] * shape[1])):
        heap = 1 if rng.random() < 0.93 else rng.integers(3, 15)
        middle = rng.uniform(0, 1, 2) * shape
        if planes[HAEMOGLOBIN][tuple(middle.astype(int))] > 0.3 and rng.random() < 0.7:
            continue  # most lie between the red cells
        for _ in range(heap):
            draw(middle, 6 * math.sqrt(heap - 1))
    for centre, radius, *_ in white:
        for _ in range(rng.poisson(slide.sticking)):
            angle, reach = rng.uniform(0, 2 * math.pi), radius + rng.uniform(0.1, 0.6) * typical
            draw(centre + reach * np.array([math.sin(angle), math.cos(angle)]), 0)


def _precipitate(rng, planes, noise, radius: float) -> None:
    """A clump of dried stain: grains, nearly black, that thin out towards a ragged edge."""
    rho = _radius_map(rng, radius, {2: 0.2, 3: 0.15, 5: 0.1, 8: 0.06}, rng.uniform(1, 1.8))
    fine, medium, broad = (noise(rho.shape, sigma) for sigma in (1, 2, 5))
    filled = rng.uniform(-0.6, 1.7) - 3.5 * np.maximum(rho - 0.7, 0)
    grains = np.clip(0.9 * fine + 0.5 * medium + 0.4 * broad + filled, 0, 2.5) * (rho < 1.2)
    haze = rng.uniform(0, 0.3) * _cover(rho, radius, 0.5 * radius) * np.clip(1 + 0.4 * broad, 0, None)
    centre = rng.uniform(0, 1, 2) * planes.shape[1:]
    _add(planes[CHROMATIN], centre, rng.uniform(0.6, 1.1) * grains + haze)
    _add(planes[OPAQUE], centre, rng.uniform(0.08, 0.2) * grains)


def _burst_cell(rng, planes, noise) -> None:
    """A nucleus smeared out to a pale net of threads ("basket cell")."""
    radius = rng.uniform(25, 75)
    rho = _radius_map(rng, radius, {2: 0.15, 3: 0.12, 5: 0.08}, rng.uniform(1, 2))
    threads = np.exp(-((noise(rho.shape, 5) / 0.22) ** 2)) + np.exp(-((noise(rho.shape, 2) / 0.3) ** 2))
    fading = np.clip(1.1 - rho + 0.12 * noise(rho.shape, 5), 0, 1)
    net = rng.uniform(0.1, 0.25) * fading * (threads + rng.uniform(0.2, 1.2) * fading)
    _add(planes[CHROMATIN], rng.uniform(0, 1, 2) * planes.shape[1:], net)


def _smudges(rng, planes, noise) -> None:
    """A film of dried plasma, and lilac or pinkish clouds, far out of focus."""
    film = rng.uniform(0, 0.1 if rng.random() < 0.8 else 0.3) * rng.uniform(0, 1, (4, 4)).astype(np.float32)
    film = np.maximum(cv2.resize(film, planes.shape[:0:-1], interpolation=cv2.INTER_CUBIC), 0)
    planes[BLUE] += 0.6 * film
    planes[CHROMATIN] += 0.15 * film
    for _ in range(rng.poisson(3)):
        radius = rng.uniform(15, 90)
        rho = _radius_map(rng, radius, {2: 0.15, 3: 0.15}, rng.uniform(1, 2))
        cloud = np.exp(-2 * rho**2) * np.clip(1 + 0.2 * noise(rho.shape, 5), 0, None)
        plane = planes[rng.choice([HAEMOGLOBIN, CHROMATIN, BLUE], p=[0.25, 0.4, 0.35])]
        _add(plane, rng.uniform(0, 1, 2) * plane.shape, rng.uniform(0.03, 0.2) * cloud)


def _dust_and_fibres(rng, planes) -> None:
    """Black specks, stained threads and small bubbles."""
    shape = planes.shape[1:]
    for _ in range(rng.poisson(rng.choice([1, 30], p=[0.8, 0.2]) * shape[0] * shape[1] / 2048**2)):
        radius = rng.uniform(1, 4.5)
        rho = _radius_map(rng, radius, {2: 0.2, 3: 0.2, 5: 0.1})
        _add(planes[OPAQUE], rng.uniform(0, 1, 2) * shape, rng.uniform(0.3, 1.2) * _cover(rho, radius))
    for _ in range(rng.poisson(2)):
        path = np.cumsum(np.cumsum(rng.normal(0, 0.5, (30, 2)), axis=0) + rng.normal(0, 4, 2), axis=0)
        thread = np.zeros((161, 161), np.float32)
        cv2.polylines(thread, [np.int32((path + 60) * 8)], False, 1.0, int(rng.integers(1, 4)), cv2.LINE_8, 3)
        _add(planes[CHROMATIN], rng.uniform(0, 1, 2) * shape, rng.uniform(0.1, 0.5) * cv2.blur(thread, (3, 3)))
    for _ in range(rng.poisson(2)):
        radius = rng.uniform(3, 12)
        ring = np.exp(-(((_radius_map(rng, radius, {2: 0.05}) - 1) * radius / 1.2) ** 2))
        _add(planes[OPAQUE], rng.uniform(0, 1, 2) * shape, rng.uniform(-0.03, 0.08) * ring)


def _scratch(rng, planes, labels) -> None:
    """A band across the slide where everything was scraped off, with debris folded up along its edges."""
    height, width = labels.shape
    middle = rng.uniform(0.1, 0.9) * height + np.cumsum(rng.normal(0, 0.7, width)) + np.linspace(-20, 20, width)
    half = rng.uniform(12, 45) + np.cumsum(rng.normal(0, 0.5, width))
    rows = np.arange(height)[:, None]
    depth = half - np.abs(rows - middle)
    scraped = (np.clip(depth / 3, 0, 1) * (labels == 0)).astype(np.float32)
    planes *= 1 - scraped
    above, below = np.clip(6 * cv2.GaussianBlur(rng.standard_normal((2, width)), (49, 1), 8) - 0.7, 0, 1.2)
    debris = np.where(rows < middle, above, below) * np.exp(-(((depth + 3) / rng.uniform(4, 9)) ** 2)) * (labels == 0)
    planes[CHROMATIN] += 0.6 * debris
    planes[HAEMOGLOBIN] += 2.0 * debris


# The picture


def _photograph(rng, slide: Slide, planes: np.ndarray) -> np.ndarray:
    """Send light through the slide, (4, H, W) concentrations, and take the picture, (H, W, 3) uint8."""
    shape = planes.shape[1:]
    density = cv2.transform(cv2.merge(list(planes)), np.ascontiguousarray(slide.stains.T))
    light = cv2.exp(density * np.float32(-math.log(10)))
    uneven = rng.uniform(0, 0.02) if rng.random() < 0.85 else rng.uniform(0.02, 0.06)
    lamp = cv2.resize(
        rng.uniform(-uneven, uneven, (3, 3)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    light *= (1 + lamp)[..., None] * slide.lamp
    light = cv2.GaussianBlur(light, (0, 0), slide.blur)
    light += slide.sharpening * (light - cv2.GaussianBlur(light, (0, 0), 2.2))
    light += slide.noise * rng.standard_normal(shape, np.float32)[..., None]
    picture = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    # Real pictures come as JPEG, and a network should know its marks before it meets them.
    _, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 96))])
    return cv2.imdecode(code, cv2.IMREAD_COLOR_RGB)


def draw_smear(
    seed: int, index: int, size: int | None = None, touching: float | None = None, varied: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw image number `index` of the endless series `seed`.

    Args:
        seed, index: non-negative; the image depends on the arguments alone, not on what was drawn before.
        size: height and width in pixels, at least 256. None draws both from 1024 to 2096, not always square.
        touching: share of the white cells that are laid beside another one, 0-1, in an image as full of them as
            `FOREGROUND` allows: for counting. None draws smears as they are, in which few touch.
        varied: let magnification, dye and its clumps differ more from image to image than in one data set, and draw
            more of what few slides show: coarse lenses, naked nuclei, white cells that touch, platelets that are giants
            or stick to white cells, and granulocytes that are red or have lobes that lie apart. A network that learns
            from such images takes a real one for one more variation (domain randomization: Tobin et al., IROS 2017,
            arXiv:1703.06907).

    Returns:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) int32, 0 = background, 1..N = white cells, without gaps. They cover 0.3-8 % of the image. A
            label holds every pixel that its cell touches, which puts its outline a pixel outside of the visible edge.

    Raises:
        UserError: `size` is too small.
    """
    if size is not None and size < SMALLEST:
        raise UserError("size", f"{size} px cannot hold a white cell in its surroundings", f"Use {SMALLEST} px or more")
    rng = np.random.default_rng((seed, index))
    height, width = rng.choice([1024, 1536, 2048, 2096], 2, p=[0.3, 0.2, 0.2, 0.3])
    shape = (size, size) if size else (int(height), int(height if rng.random() < 0.8 else width))
    slide = _draw_slide(rng, coarse_share=0.4 if varied else 0.25)
    if varied:
        slide = _vary(rng, slide)
    if touching is not None:
        slide = replace(slide, touching=touching, foreground=0.9 * FOREGROUND[1])
    noise = _noise(rng)

    red = _red_cell_positions(rng, slide, shape)
    labels, white = _place_white_cells(rng, slide, noise, red, shape)
    for centre, radius, *_ in white:  # white cells push red cells aside
        away = red - centre
        distance = np.maximum(np.hypot(*away.T), 1)[:, None]
        pushed = centre + away / distance * (radius + slide.red_diameter * rng.uniform(0.3, 0.5))
        red = np.where(distance < radius + 0.4 * slide.red_diameter, pushed, red)

    planes = np.zeros((4, *shape), np.float32)
    _draw_red_cells(rng, slide, noise, red, planes)
    for _, _, there, cover, stain in white:
        planes[(slice(None), *there)] *= 1 - cover
        planes[(slice(None), *there)] += stain
    _smudges(rng, planes, noise)
    _platelets(rng, planes, slide, noise, white)
    for _ in range(rng.poisson(1.5)):
        _burst_cell(rng, planes, noise)
    for _ in range(rng.poisson(2)):
        _precipitate(rng, planes, noise, rng.uniform(6, 30))
    for _ in range(rng.poisson(slide.clumps)):
        _precipitate(rng, planes, noise, rng.uniform(0.2, 1) * min(150, 0.12 * min(shape)))
    _dust_and_fibres(rng, planes)
    if rng.random() < 0.06:
        _scratch(rng, planes, labels)
    return _photograph(rng, slide, planes), labels


def write_dataset(
    folder: str | Path,
    seed: int,
    images: Mapping[str, int],
    size: int | None = None,
    jpeg_quality: int | None = None,
    touching: float | None = None,
    varied: bool = False,
) -> list[str]:
    """Write drawn smears as a data set: `images/`, `masks/`, `split.csv`, and the recipe in `synthetic.json`.

    Masks are uint16 PNG files with instance labels. `split.csv` (columns stem, split) comes last, so a folder that has
    one is complete. After an interruption, call it again: it draws what is missing, and the bytes come out the same.

    Args:
        folder: made if absent; may hold an earlier, perhaps unfinished, result of the very same call.
        seed: see draw_smear.
        images: how many images each split gets, as in {"train": 10, "valid": 3, "test": 5}.
        size: see draw_smear.
        jpeg_quality: 1-100 for JPEG images; None for PNG. The masks are lossless in any case.
        touching, varied: see draw_smear.

    Returns:
        the stems of all images, in the order of the splits.

    Raises:
        UserError: an unknown split, a folder that holds other images, which are never overwritten, or one that cannot
            be written to.
    """
    check_names("images", images, SPLITS)
    folder = Path(folder)
    suffix = ".png" if jpeg_quality is None else ".jpg"
    splits = [split for split in SPLITS for _ in range(images.get(split, 0))]  # whatever the order of the mapping
    stems = [f"smear_{index:04d}" for index in range(len(splits))]
    recipe = {"drawing": DRAWING, "seed": seed, "images": dict(images), "size": size, "jpeg_quality": jpeg_quality}
    recipe |= {} if touching is None else {"touching": touching}
    recipe |= {"varied": VARIATION} if varied else {}
    expected = {f"images/{stem}{suffix}" for stem in stems} | {f"masks/{stem}.png" for stem in stems}
    present = {
        file.relative_to(folder).as_posix()
        for part in ("images", "masks")
        for file in (folder / part).glob("*")
        if not file.name.startswith(".")  # left behind by an interrupted call
    }
    note = folder / "synthetic.json"
    foreign = [name for name in ("synthetic.json", "split.csv") if (folder / name).exists()]
    if (present or foreign) and not (present <= expected and note.exists() and read_json(note) == recipe):
        problem = f"the folder holds {'images' if present else foreign[0]} that this call would not write the same"
        raise UserError(folder, problem, "Choose an empty folder, or remove this one if you no longer need it")
    write_json(note, recipe)
    for index, stem in enumerate(progress(stems, unit="image")):
        image, mask = folder / "images" / f"{stem}{suffix}", folder / "masks" / f"{stem}.png"
        if image.exists() and mask.exists():
            continue
        picture, labels = draw_smear(seed, index, size, touching, varied)
        write_image(mask, labels)
        if jpeg_quality is None:
            write_image(image, picture)
            continue
        with atomic_path(image) as temporary:
            code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])[1]
            temporary.write_bytes(code.tobytes())
    write_csv(folder / "split.csv", [{"stem": stem, "split": split} for stem, split in zip(stems, splits, strict=True)])
    return stems


def training_pairs(folder: str | Path, seed: int, count: int, size: int | None = None) -> list[Pair]:
    """Draw varied smears that learn along with real images, marked as `added_...`; `count` may be 0.

    They come from a series of their own, so that none of them is also a test image of a generated data set.
    """
    if not count:
        return []
    write_dataset(folder, seed + ADDED_SERIES, {"train": count}, size, varied=True)
    return [replace(pair, stem=f"added_{pair.stem}") for pair in find_pairs(folder)]
