"""Drawn blood smears with exact labels: data for a class without a download.

A bright-field microscope measures light that was left over. Each dye takes its share, and what several layers take
adds up as optical density (the law of Beer and Lambert): `light = lamp * 10 ** -(concentration @ STAINS)`.
So a smear is drawn as four maps of concentration, cell by cell, and photographed only at the end. This is the mixing
model that Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution" (Anal. Quant. Cytol.
Histol. 23, 2001), invert to take stains apart.

The label of a white cell covers the whole cell, nucleus and cytoplasm. Everything else is background, including what
looks like a nucleus at first sight: platelets, stain precipitate, burst cells, dust.

`smears` holds the parts of the drawing: `slide`, `shapes`, `cells` and `artefacts`.
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..base.files import UserError, atomic_path, check_names, progress, read_json, write_csv, write_json
from .classes import FILE, Classes, write_classes
from .images import SPLITS, Pair, find_pairs
from .pictures import write_image
from .smears import artefacts, cells
from .smears.shapes import noise_source
from .smears.slide import FOREGROUND, Slide, draw_slide, vary_slide

SMALLEST = 256  # pixels; less cannot hold one white cell within FOREGROUND
RECIPE = "synthetic.json"
ADDED_SERIES = 1_000_000_000  # added to the seed of smears that learn along with real images
DRAWING = 1  # count up when the same seed starts to give other pixels: write_dataset then refuses older folders
VARIATION = 3  # the same for varied smears
CLASSES = Classes(
    values=(0, 1, 2, 3),
    names=("background", "red cell", "cytoplasm", "nucleus"),
    colors=((0, 0, 0), (213, 94, 0), (86, 180, 233), (0, 0, 139)),
)
"""Of `draw_classes`. The colours tell from each other without colour vision, too."""
CYTOPLASM, NUCLEUS = 2, 3


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
    picture, labels, _ = _draw(seed, index, size, touching, varied)
    return picture, labels


def draw_classes(seed: int, index: int, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image of `draw_smear` with a mask of its classes, (H, W) uint8: the numbers of `CLASSES`.

    Cytoplasm is what of a white cell is not its nucleus. A red cell under a platelet or under dust is still one, and so
    is its pale centre.
    """
    picture, _, parts = _draw(seed, index, size, None, False)
    return picture, parts


def _draw(
    seed: int, index: int, size: int | None, touching: float | None, varied: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and labels of `draw_smear`, and numbers of `CLASSES`, (H, W) uint8."""
    if size is not None and size < SMALLEST:
        raise UserError("size", f"{size} px cannot hold a white cell in its surroundings", f"Use {SMALLEST} px or more")
    rng = np.random.default_rng((seed, index))
    height, width = rng.choice([1024, 1536, 2048, 2096], 2, p=[0.3, 0.2, 0.2, 0.3])
    shape = (size, size) if size else (int(height), int(height if rng.random() < 0.8 else width))
    slide = draw_slide(rng, coarse_share=0.4 if varied else 0.25)
    if varied:
        slide = vary_slide(rng, slide)
    if touching is not None:
        slide = replace(slide, touching=touching, foreground=0.9 * FOREGROUND[1])
    noise = noise_source(rng)

    red = cells.red_cell_positions(rng, slide, shape)
    labels, white = cells.place_white_cells(rng, slide, noise, red, shape)
    for centre, radius, *_ in white:  # white cells push red cells aside
        away = red - centre
        distance = np.maximum(np.hypot(*away.T), 1)[:, None]
        pushed = centre + away / distance * (radius + slide.red_diameter * rng.uniform(0.3, 0.5))
        red = np.where(distance < radius + 0.4 * slide.red_diameter, pushed, red)

    planes = np.zeros((4, *shape), np.float32)
    parts = cells.draw_red_cells(rng, slide, noise, red, planes).astype(np.uint8)
    parts[labels > 0] = CYTOPLASM
    for _, _, there, cover, stain, nucleus in white:
        planes[(slice(None), *there)] *= 1 - cover
        planes[(slice(None), *there)] += stain
        parts[there][nucleus > 0.5] = NUCLEUS
    artefacts.draw_artefacts(rng, planes, slide, noise, white, labels)
    return _photograph(rng, slide, planes), labels, parts


def _check_folder(folder: Path, recipe: dict, expected: set[str]) -> None:
    """Refuse a folder with images other than the `expected` ones, or with those of another recipe."""
    files = [file for part in ("images", "masks") for file in (folder / part).glob("*")]
    # Hidden files were left behind by an interrupted call.
    present = {file.relative_to(folder).as_posix() for file in files if not file.name.startswith(".")}
    tables = [name for name in (RECIPE, "split.csv", FILE) if (folder / name).exists()]
    is_same = present <= expected and RECIPE in tables and read_json(folder / RECIPE) == recipe
    if (present or tables) and not is_same:
        problem = f"the folder holds {'images' if present else tables[0]} that this call would not write the same"
        raise UserError(folder, problem, "Choose an empty folder, or remove this one if you no longer need it")


def write_dataset(
    folder: str | Path,
    seed: int,
    images: Mapping[str, int],
    size: int | None = None,
    jpeg_quality: int | None = None,
    touching: float | None = None,
    varied: bool = False,
    classes: bool = False,
) -> list[str]:
    """Write drawn smears as a data set: `images/`, `masks/`, `split.csv`, and the recipe in `synthetic.json`.

    Masks are PNG files, uint16 with instance labels or uint8 with classes. `split.csv` (columns stem, split) comes
    last, so a folder that has one is complete. After an interruption, call it again: it draws what is missing, and the
    bytes come out the same.

    Args:
        folder: made if absent; may hold an earlier, perhaps unfinished, result of the very same call.
        seed: see draw_smear.
        images: how many images each split gets, as in {"train": 10, "valid": 3, "test": 5}.
        size: see draw_smear.
        jpeg_quality: 1-100 for JPEG images; None for PNG. The masks are lossless in any case.
        touching, varied: see draw_smear.
        classes: write masks of `CLASSES` instead of labels, and `classes.csv`; smears are then drawn as they are.

    Returns:
        the stems of all images, in the order of the splits.

    Raises:
        UserError: an unknown split, a folder that holds other images, which are never overwritten, or one that cannot
            be written to.

    Example:
        from tiledseg_utils.data.synthetic import write_dataset
        stems = write_dataset("smears", seed=1, images={"train": 2, "valid": 1, "test": 1}, size=256)
    """
    check_names("images", images, SPLITS)
    folder = Path(folder)
    suffix = ".png" if jpeg_quality is None else ".jpg"
    splits = [split for split in SPLITS for _ in range(images.get(split, 0))]  # whatever the order of the mapping
    stems = [f"smear_{index:04d}" for index in range(len(splits))]
    recipe = {"drawing": DRAWING, "seed": seed, "images": dict(images), "size": size, "jpeg_quality": jpeg_quality}
    recipe |= ({} if touching is None else {"touching": touching}) | ({"varied": VARIATION} if varied else {})
    recipe |= {"classes": True} if classes else {}
    own = {f"images/{stem}{suffix}" for stem in stems} | {f"masks/{stem}.png" for stem in stems}
    _check_folder(folder, recipe, own)
    write_json(folder / RECIPE, recipe)

    def draw(index: int) -> None:
        image, mask = folder / "images" / f"{stems[index]}{suffix}", folder / "masks" / f"{stems[index]}.png"
        if image.exists() and mask.exists():
            return
        if classes:
            picture, labels = draw_classes(seed, index, size)
        else:
            picture, labels = draw_smear(seed, index, size, touching, varied)
        write_image(mask, labels)
        if jpeg_quality is None:
            write_image(image, picture)
        else:
            _write_jpeg(image, picture, jpeg_quality)

    with ThreadPoolExecutor(2) as pool:  # Each image depends on its index alone.
        for _ in progress(pool.map(draw, range(len(stems))), total=len(stems), unit="image"):
            pass
    if classes:
        write_classes(folder, CLASSES)
    write_csv(folder / "split.csv", [{"stem": stem, "split": split} for stem, split in zip(stems, splits, strict=True)])
    return stems


def _write_jpeg(path: Path, picture: np.ndarray, quality: int) -> None:
    """Write (H, W, 3) uint8 RGB, atomically."""
    with atomic_path(path) as temporary:
        code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        temporary.write_bytes(code.tobytes())


def added_pairs(folder: str | Path, seed: int, count: int, size: int | None = None) -> list[Pair]:
    """Draw varied smears to train on along with real images; their stems are `added_...`, and `count` may be 0.

    They come from a series of their own, so that none of them is also a test image of a generated data set.
    """
    if not count:
        return []
    write_dataset(folder, seed + ADDED_SERIES, {"train": count}, size, varied=True)
    return [replace(pair, stem=f"added_{pair.stem}") for pair in find_pairs(folder)]
