"""What a smear shows besides red and white cells, none of it labelled: platelets, dried stain, dust, scratches."""

import math

import cv2
import numpy as np

from .shapes import add, cover_of, radius_map
from .slide import BLUE, CHROMATIN, HAEMOGLOBIN, OPAQUE, Slide


def draw_artefacts(rng, planes: np.ndarray, slide: Slide, noise, white: list, labels: np.ndarray) -> None:
    """Add all of it to the concentrations, (4, H, W), of a smear with these white cells and labels, (H, W)."""
    _smudges(rng, planes, noise)
    draw_platelets(rng, planes, slide, noise, white)
    for _ in range(rng.poisson(1.5)):
        _burst_cell(rng, planes, noise)
    for _ in range(rng.poisson(2)):
        _precipitate(rng, planes, noise, rng.uniform(6, 30))
    for _ in range(rng.poisson(slide.clumps)):
        _precipitate(rng, planes, noise, rng.uniform(0.2, 1) * min(150, 0.12 * min(labels.shape)))
    _dust_and_fibres(rng, planes)
    if rng.random() < 0.06:
        _scratch(rng, planes, labels)


def draw_platelets(rng, planes, slide: Slide, noise, white) -> None:
    """Fragments of 3-12 px, alone, in heaps, or at the edge of a white cell; some large (to 22, giants 44 px), pale."""
    shape = planes.shape[1:]
    density = np.exp(rng.normal(-10.5, 1)) if rng.random() < 0.85 else rng.uniform(0.5, 2) * 1e-4
    typical, dark = rng.uniform(4, 9), rng.uniform(0.3, 1.0)

    def draw(middle, spread: float) -> None:
        large = rng.random() < 0.1
        radius = min(typical * rng.lognormal(0, 0.3) * (2.8 if large else 1), 22) / 2 * (slide.giant if large else 1)
        rho = radius_map(rng, radius, {2: 0.06, 3: 0.06}, rng.uniform(1, 1.5))
        body = cover_of(rho, radius, 3.5) * np.clip(1 + 0.3 * noise(rho.shape, 1), 0, None) * (0.35 if large else 1)
        centre = middle + rng.normal(0, spread, 2)
        add(planes[CHROMATIN], centre, dark * rng.uniform(0.6, 1.2) * body)
        add(planes[BLUE], centre, rng.uniform(0.2, 1) * body)

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
    rho = radius_map(rng, radius, {2: 0.2, 3: 0.15, 5: 0.1, 8: 0.06}, rng.uniform(1, 1.8))
    fine, medium, broad = (noise(rho.shape, sigma) for sigma in (1, 2, 5))
    filled = rng.uniform(-0.6, 1.7) - 3.5 * np.maximum(rho - 0.7, 0)
    grains = np.clip(0.9 * fine + 0.5 * medium + 0.4 * broad + filled, 0, 2.5) * (rho < 1.2)
    haze = rng.uniform(0, 0.3) * cover_of(rho, radius, 0.5 * radius) * np.clip(1 + 0.4 * broad, 0, None)
    centre = rng.uniform(0, 1, 2) * planes.shape[1:]
    add(planes[CHROMATIN], centre, rng.uniform(0.6, 1.1) * grains + haze)
    add(planes[OPAQUE], centre, rng.uniform(0.08, 0.2) * grains)


def _burst_cell(rng, planes, noise) -> None:
    """A nucleus smeared out to a pale net of threads ("basket cell")."""
    radius = rng.uniform(25, 75)
    rho = radius_map(rng, radius, {2: 0.15, 3: 0.12, 5: 0.08}, rng.uniform(1, 2))
    threads = np.exp(-((noise(rho.shape, 5) / 0.22) ** 2)) + np.exp(-((noise(rho.shape, 2) / 0.3) ** 2))
    fading = np.clip(1.1 - rho + 0.12 * noise(rho.shape, 5), 0, 1)
    net = rng.uniform(0.1, 0.25) * fading * (threads + rng.uniform(0.2, 1.2) * fading)
    add(planes[CHROMATIN], rng.uniform(0, 1, 2) * planes.shape[1:], net)


def _smudges(rng, planes, noise) -> None:
    """A film of dried plasma, and lilac or pinkish clouds, far out of focus."""
    film = rng.uniform(0, 0.1 if rng.random() < 0.8 else 0.3) * rng.uniform(0, 1, (4, 4)).astype(np.float32)
    film = np.maximum(cv2.resize(film, planes.shape[:0:-1], interpolation=cv2.INTER_CUBIC), 0)
    planes[BLUE] += 0.6 * film
    planes[CHROMATIN] += 0.15 * film
    for _ in range(rng.poisson(3)):
        radius = rng.uniform(15, 90)
        rho = radius_map(rng, radius, {2: 0.15, 3: 0.15}, rng.uniform(1, 2))
        cloud = np.exp(-2 * rho**2) * np.clip(1 + 0.2 * noise(rho.shape, 5), 0, None)
        plane = planes[rng.choice([HAEMOGLOBIN, CHROMATIN, BLUE], p=[0.25, 0.4, 0.35])]
        add(plane, rng.uniform(0, 1, 2) * plane.shape, rng.uniform(0.03, 0.2) * cloud)


def _dust_and_fibres(rng, planes) -> None:
    """Black specks, stained threads and small bubbles."""
    shape = planes.shape[1:]
    for _ in range(rng.poisson(rng.choice([1, 30], p=[0.8, 0.2]) * shape[0] * shape[1] / 2048**2)):
        radius = rng.uniform(1, 4.5)
        rho = radius_map(rng, radius, {2: 0.2, 3: 0.2, 5: 0.1})
        add(planes[OPAQUE], rng.uniform(0, 1, 2) * shape, rng.uniform(0.3, 1.2) * cover_of(rho, radius))
    for _ in range(rng.poisson(2)):
        path = np.cumsum(np.cumsum(rng.normal(0, 0.5, (30, 2)), axis=0) + rng.normal(0, 4, 2), axis=0)
        thread = np.zeros((161, 161), np.float32)
        cv2.polylines(thread, [np.int32((path + 60) * 8)], False, 1.0, int(rng.integers(1, 4)), cv2.LINE_8, 3)
        add(planes[CHROMATIN], rng.uniform(0, 1, 2) * shape, rng.uniform(0.1, 0.5) * cv2.blur(thread, (3, 3)))
    for _ in range(rng.poisson(2)):
        radius = rng.uniform(3, 12)
        ring = np.exp(-(((radius_map(rng, radius, {2: 0.05}) - 1) * radius / 1.2) ** 2))
        add(planes[OPAQUE], rng.uniform(0, 1, 2) * shape, rng.uniform(-0.03, 0.08) * ring)


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
