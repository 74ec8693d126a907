"""The viewer of the report: test images to zoom into, with their reference, predictions and errors as layers.

Notebook 5 leaves the masks of both ways in `<run>/results/05_masks/<way>/<stem>.png`. Without them, there is no viewer.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from ..base.files import atomic_path, read_json
from ..data import images
from ..data.composites import visible
from ..data.masks import read_mask
from ..data.pictures import write_image
from ..data.provenance import RECORD, channels_of_run, read_run
from ..prediction.inference import load_model, plan_prediction
from .page_tables import render
from .plots import FOUND, INVENTED, MISSED
from .web_pictures import LOSSLESS, remove_others, webp, write_bytes

MASKS = Path("results", "05_masks")
WAYS = {"tiled": "tiled", "non_tiled": "non-tiled"}
MOST_IMAGES = 12
MOST_PIXELS = 12e6  # Of all images together; they then take about two megabytes.
LARGEST_SIDE = 1400  # pixels


def write_masks(run: Path, masks: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Leave masks, (H, W) bool by way ("tiled", "non_tiled") and stem, where the viewer finds them."""
    for way, by_stem in masks.items():
        for stem, mask in by_stem.items():
            write_image(Path(run) / MASKS / way / f"{stem}.png", mask, sync=False)


def write_viewer(run: Path, folder: Path, prediction: Mapping) -> bool:
    """Write `viewer.html` and its pictures into a report's folder, if the masks of the run are there.

    Args:
        run: run folder.
        folder: of the report.
        prediction: how the run predicts in tiles, as `inference.plan_prediction` takes it.

    Returns:
        whether there is a viewer.
    """
    pairs = _pairs_with_masks(run)
    chosen = _spread(pairs, _dice(run))
    written, shown = set(), []
    model = load_model(run / "model.keras") if chosen and (run / "model.keras").exists() else None
    side = min(LARGEST_SIDE, (MOST_PIXELS / max(1, len(chosen))) ** 0.5)
    for number, pair in enumerate(chosen, start=1):
        image, reference = images.read_pair(pair)
        masks = {way: read_mask(_mask_path(run, way, pair.stem)) for way in WAYS}
        if any(mask.shape != reference.shape for mask in masks.values()):
            continue  # Of an image that has been replaced since; its scores are not of this one.
        scale = min(1, side / max(reference.shape))
        for layer, picture in _layers(image, reference, masks, scale).items():
            name = f"{number:02}_{layer}.webp"
            write_bytes(folder / "viewer" / name, picture)
            written.add(name)
        seams = plan_prediction(model, image.shape, **prediction).seams if model else ((), ())
        height, width = (round(scale * length) for length in reference.shape)
        grid = [[round(scale * place, 1) for place in axis] for axis in seams]
        shown.append({"stem": pair.stem, "number": f"{number:02}", "width": width, "height": height, "grid": grid})
        shown[-1] |= {"scale": round(scale, 3), "dice": {way: scores[pair.stem] for way, scores in _dice(run).items()}}
    if shown:
        page = render("viewer.html", run=run.name, images=shown, tests=len(pairs), colors=_colors())
        with atomic_path(folder / "viewer.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
    else:
        (folder / "viewer.html").unlink(missing_ok=True)
    remove_others(folder / "viewer", written)
    return bool(shown)


def _mask_path(run: Path, way: str, stem: str) -> Path:
    return run / MASKS / way / f"{stem}.png"


def _dice(run: Path) -> dict[str, dict[str, float]]:
    """Dice of the test images by way and stem, as notebook 5 left them."""
    path = run / "results" / "05_comparison.json"
    comparison = read_json(path) if path.exists() else {}
    return {way: comparison[way]["dice"]["per_image"] for way in WAYS if way in comparison}


def _pairs_with_masks(run: Path) -> list[images.Pair]:
    """The test images of a run that have a score and a mask of each way."""
    if not (run / RECORD).exists():
        return []
    record, dice = read_run(run), _dice(run)
    pairs = {pair.stem: pair for pair in images.find_pairs(Path(record["path"]), channels_of_run(run))}
    tests = [pairs[stem] for stem in record["split"]["test"] if stem in pairs]
    scored = [pair for pair in tests if all(pair.stem in dice.get(way, ()) for way in WAYS)]
    return [pair for pair in scored if all(_mask_path(run, way, pair.stem).exists() for way in WAYS)]


def _spread(pairs: list[images.Pair], dice: Mapping) -> list[images.Pair]:
    """At most `MOST_IMAGES` of some images, from the worst to the best tiled Dice, the same distance apart."""
    ranked = sorted(pairs, key=lambda pair: dice["tiled"][pair.stem])
    if len(ranked) <= MOST_IMAGES:
        return ranked
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, MOST_IMAGES).round().astype(int)]


def _layers(image: np.ndarray, reference: np.ndarray, masks: Mapping, scale: float) -> dict[str, bytes]:
    """What the viewer draws, as WebP: the image, and over it transparent masks and error maps."""
    size = tuple(round(scale * length) for length in reference.shape[::-1])
    small = cv2.resize(visible(image), size, interpolation=cv2.INTER_AREA)
    masks = {"reference": reference, **masks}
    masks = {
        way: cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
        for way, mask in masks.items()
    }
    layers = {"image": webp(small, 80)}
    for way, mask in masks.items():
        layers[way] = webp(_tint({FOUND: (mask, 0.5)}, mask.shape), LOSSLESS)
    for way in WAYS:
        found, true = masks[way], masks["reference"]
        tints = {FOUND: (found & true, 0.35), MISSED: (true & ~found, 0.9), INVENTED: (found & ~true, 0.9)}
        layers[f"errors_{way}"] = webp(_tint(tints, true.shape), LOSSLESS)
    return layers


def _tint(tints: Mapping[tuple, tuple], shape: tuple[int, int]) -> np.ndarray:
    """Colours with opacities where masks are true, as (H, W, 4) uint8 RGBA; transparent elsewhere."""
    layer = np.zeros((*shape, 4), np.uint8)
    for color, (mask, opacity) in tints.items():
        layer[mask] = (*color, round(255 * opacity))
    return layer


def _colors() -> dict[str, str]:
    named = {"found": FOUND, "missed": MISSED, "invented": INVENTED}
    return {name: "rgb({}, {}, {})".format(*color) for name, color in named.items()}
