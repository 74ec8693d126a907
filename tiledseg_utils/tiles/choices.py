"""Settings of tiles that are measured on the training images where a preset leaves them open.

nnU-Net (Isensee et al., Nature Methods 18, 2021, doi:10.1038/s41592-020-01008-z) takes them from a fingerprint of the
data. So does this module, with few rules that are told along with what they choose. A number in the preset overrides
each of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from ..data.cues import Cues, measure_pairs
from ..data.images import Pair
from ..settings.parameters import AUTO, LARGEST_MEASURED_TILE, SMALLEST_IMAGE, TILE_STEP, TileSetting, TrainingSetting

LARGE_OBJECT = 128
"""Pixels. Objects that wide, or twice, or four times as wide, are seen at a half, a quarter or an eighth of the size:
a network that works at full size sees a part of such an object at a time, and its outline needs no more pixels."""

TILE_OBJECTS = 4
"""Tiles are at least as wide as that many objects. Wider ones leave room for fewer places in a batch of as many pixels.
Validation images of dsb2018, whose nuclei reach over 27 px, had a mean Dice higher by 0.006 (0.001 to 0.012; 30 images)
with tiles of 128 px than with 256 px, and those of drawn cells of 15 px one of 0.963 instead of 0.941 (4 images)."""

NARROW = 32
"""Grey levels, an eighth of all. Where one image in ten spans fewer, the contrast of all is stretched. Stretching also
lifts the glow of empty background. One image in ten of dsb2018 spans 39 levels: of four trainings with stretched
contrast, one took glow for nuclei (mean Dice of 30 validation images 0.862, the others 0.883 to 0.886), and of eight
without, none (0.883 to 0.889)."""

DECISIVE_PERCENTILE = 10


def choose(setting: TileSetting, cues: Collection[Cues]) -> tuple[TileSetting, list[dict]]:
    """Fill in what a setting leaves open, and tell why.

    Args:
        setting: its `tile_size` and `reduction` may be 0, its `contrast` "auto". Where it names channels, images are
            neither reduced nor stretched.
        cues: of the training images, in their own size; at least one.

    Returns:
        the setting without open values; and a row for each of the three: `setting`, `value`, `measured` (what the data
        ask for, whether it is taken or not) and `reason`.
    """
    diameters = [own.diameter for own in cues if own.diameter is not None]
    diameter = float(np.median(diameters)) if diameters else None
    reduction = 1 if setting.channels else _reduction(diameter)
    used = setting.reduction or reduction
    side = float(np.median([own.side for own in cues])) / used
    extents = [own.extent for own in cues if own.extent is not None]
    extent = float(np.median(extents)) / used if extents else None
    wanted = side if extent is None else min(side, TILE_OBJECTS * extent)
    tile_size = min(LARGEST_MEASURED_TILE, TILE_STEP * max(1, int(np.ceil(wanted / TILE_STEP))))
    levels = float(np.percentile([own.levels for own in cues], DECISIVE_PERCENTILE))
    contrast = levels < NARROW and not setting.white_balance and not setting.channels
    size = "no mask shows an object" if diameter is None else f"objects are {diameter:.0f} px wide (median of images)"
    across = f"the shorter side of images is {side:.0f} px (median, reduced)"
    held = "a tile holds it"
    if extent is not None:
        across += f", and objects reach over {extent:.0f} px"
        held = f"a tile holds {TILE_OBJECTS} objects in a row, or an image that is smaller"
    dark = f"one image in ten spans {levels:.0f} grey levels or fewer"
    found = {
        "reduction": (reduction, f"{size}; from {LARGE_OBJECT} px on, images are reduced"),
        "tile_size": (tile_size, f"{across}; {held}, up to {LARGEST_MEASURED_TILE} px"),
        "contrast": (contrast, f"{dark}; below {NARROW}, the contrast of all is stretched"),
    }
    if setting.channels:
        found["reduction"] = (reduction, "networks that reduce their images take RGB, and channels are given")
        found["contrast"] = (contrast, "channels are given, each of which is scaled by its own percentiles")
    open_values = {"reduction": 0, "tile_size": 0, "contrast": AUTO}
    rows, changes = [], {}
    for name, (measured, reason) in found.items():
        value = getattr(setting, name)
        if value is not False and value == open_values[name]:
            changes[name] = measured
        else:
            reason = f"given by the preset; {reason}"
        rows.append({"setting": name, "value": changes.get(name, value), "measured": measured, "reason": reason})
    if "tile_size" in changes and not setting.stride:
        changes["stride"] = tile_size // 2
    return replace(setting, **changes), rows


def batch_choice(setting: TrainingSetting, tile_size: int) -> dict:
    """The size of a batch of tiles of a side, pixels, as a row like those of `choose`."""
    measured = replace(setting, batch_size=0).for_tiles(tile_size).batch_size
    given = "given by the preset; " if setting.batch_size else ""
    reason = f"{given}tiles are {tile_size} px wide; a batch holds about half a million pixels"
    return {"setting": "batch_size", "value": setting.batch_size or measured, "measured": measured, "reason": reason}


def counting_tiles(pairs: Sequence[Pair], tile_size: int, training: TrainingSetting) -> tuple[int, TrainingSetting]:
    """The side of the tiles that counting is learnt from, pixels, and the training with batches of these.

    Args:
        pairs: the images to learn from, with instance labels.
        tile_size: 0 measures it, as `choose` does for images that are not reduced, up to 256 px.
        training: where tiles are measured, its batch is counted in tiles of 256 px; smaller ones are as many more.
    """
    if tile_size:
        return tile_size, training
    setting, _ = choose(TileSetting(tile_size=0, reduction=1), measure_pairs(pairs)[0].values())
    measured = min(setting.tile_size, SMALLEST_IMAGE)
    return measured, replace(training, batch_size=training.batch_size * (SMALLEST_IMAGE // measured) ** 2)


def _reduction(diameter: float | None) -> int:
    """By how much images are reduced whose objects are that wide: 1, 2, 4 or 8."""
    if diameter is None:
        return 1
    return next((factor for factor in (8, 4, 2) if diameter >= factor / 2 * LARGE_OBJECT), 1)
