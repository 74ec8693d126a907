"""Slides: the lamp, stains, sizes, layout and lens of a drawn smear."""

from dataclasses import dataclass, replace

import numpy as np

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


def draw_slide(rng: np.random.Generator, coarse_share: float) -> Slide:
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


def vary_slide(rng: np.random.Generator, slide: Slide) -> Slide:
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
