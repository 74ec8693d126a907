"""Cutting images into tiles and putting tiles back together; the tiled training set on disk.

Two uses share one grid: `split` and `stitch` work on arrays (inference, tests), `write_tile_set` writes the training
set that notebook 01 makes. Row before column, pixels as unit, throughout.
"""

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..base.files import UserError, progress, read_csv, sync_disks, write_csv, write_json
from ..data.channels import FILE, each_channel, measure_channels, read_scaling, write_scaling
from ..data.classes import FILE as CLASSES
from ..data.classes import Classes, read_classes, write_classes
from ..data.images import SPLITS, Pair, class_numbers_of, mask_of, read_pair
from ..data.normalization import METHODS, normalize
from ..data.pictures import read_channels, read_image, write_channels, write_image
from ..data.provenance import SOURCES, identify
from ..settings.parameters import TileSetting
from .sampling import repeat_factors, share_by_kind

MANIFEST = "manifest.csv"
KINDS = {"tile": str, "source": str, "split": str, "row": int, "column": int, "scale": float, "foreground": float}
KINDS |= {"weight": float, "white_balance": int, "contrast": int, "reduction": int}  # of the manifest's columns
LATER = {"white_balance": "0", "contrast": "0", "reduction": "1"}  # columns that a manifest need not have
ADDED = "added"  # beside the three splits: tiles of generated images that learn along with real ones


def tile_origins(length: int, tile: int, stride: int) -> np.ndarray:
    """First pixel of each tile along one axis: 0, stride, 2 stride, ... until `length` is covered.

    Origins stay on the stride's grid, so the last tile may reach past the end (`split` pads there). Moving the last
    tile back instead would take it off the grid, and a network with pooling sees every grid offset differently.

    Args:
        length, tile, stride: pixels, all positive, with stride <= tile.

    Returns:
        int array of origins, at least one.

    Raises:
        ValueError: a value is not positive, or the stride exceeds the tile and would leave gaps.
    """
    if min(length, tile, stride) < 1 or stride > tile:
        raise ValueError(f"length {length}, tile {tile}, stride {stride}: all must be positive, and stride <= tile.")
    count = 1 + max(0, -(-(length - tile) // stride))
    return np.arange(count) * stride


def grid_origins(shape: Sequence[int], tile: int, stride: int) -> np.ndarray:
    """(N, 2) row and column of the first pixel of every tile of an image of (height, width, ...), row by row."""
    rows, columns = (tile_origins(length, tile, stride) for length in shape[:2])
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def pad_to(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Extend an image downwards and to the right by reflection, to at least (height, width).

    Reflection keeps textures plausible where black or repeated pixels would invent an edge. An image smaller than its
    padding is reflected repeatedly.
    """
    extra = [(0, max(0, size - length)) for size, length in zip((height, width), image.shape[:2], strict=True)]
    if not any(after for _, after in extra):
        return image
    # NumPy's symmetric mode also extends an axis of one pixel, where reflect has nothing to reflect.
    return np.pad(image, extra + [(0, 0)] * (image.ndim - 2), mode="symmetric")


def split(image: np.ndarray, tile: int, stride: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Cut an image into square tiles.

    Args:
        image: (H, W) or (H, W, C), any dtype.
        tile: side of a tile.
        stride: distance between tile origins; `tile` if None (no overlap), smaller for overlap.

    Returns:
        tiles (N, tile, tile[, C]) and their origins (N, 2); where tiles reach past the image they hold its reflection.

    Example:
        import numpy as np
        from tiledseg_utils.tiles.tiling import split, stitch
        image = np.zeros((1000, 1500, 3), np.uint8)
        tiles, origins = split(image, tile=256, stride=192)
        again = stitch(tiles, origins, image.shape)
    """
    origins = grid_origins(image.shape, tile, stride or tile)
    padded = pad_to(image, *(origins[-1] + tile))
    return np.stack([padded[row : row + tile, column : column + tile] for row, column in origins]), origins


def stitch(
    tiles: Iterable[np.ndarray], origins: np.ndarray, shape: Sequence[int], window: np.ndarray | None = None
) -> np.ndarray:
    """Put tiles back together; where they overlap, their weighted mean.

    Args:
        tiles: (T, T[, C]) arrays in the order of `origins`; they are taken one by one, so a generator will do.
        origins: (N, 2) as `split` returns them.
        shape: (H, W, ...) of the image; what reaches past it is cut off.
        window: (T, T) non-negative weights; None weighs all pixels alike.

    Returns:
        (H, W[, C]) float32, or the dtype of the tiles when they do not overlap and have no window.

    Raises:
        ValueError: a pixel of the image is covered by no tile with a positive weight.
    """
    total = weights = None
    for tile, (row, column) in zip(tiles, origins, strict=True):
        if total is None:
            size, channels = tile.shape[0], tile.shape[2:]
            height, width = np.maximum(np.max(origins, axis=0) + size, shape[:2])
            window = np.ones((size, size), np.float32) if window is None else window.astype(np.float32)
            total = np.zeros((height, width, *channels), np.float64)
            weights = np.zeros((height, width), np.float32)
            dtype = tile.dtype if (window == 1).all() else np.dtype(np.float32)
        place = np.s_[row : row + size, column : column + size]
        total[place] += tile * window.reshape(window.shape + (1,) * len(channels))
        weights[place] += window
    total, weights = total[: shape[0], : shape[1]], weights[: shape[0], : shape[1]]
    if not weights.all():
        row, column = np.argwhere(weights == 0)[0]
        raise ValueError(f"No tile covers pixel ({row}, {column}).")
    result = total / weights.reshape(weights.shape + (1,) * len(channels))
    return result.astype(dtype if (weights == 1).all() else np.float32)


def reduce_image(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a whole image to (size, size), whatever its aspect ratio, as the published experiment did.

    Area averaging when shrinking, so that no pixel is lost to aliasing; masks, (H, W) bool or uint8 numbers of classes,
    stay such, by majority. An image may have any number of channels.
    """
    method = cv2.INTER_AREA if min(image.shape[:2]) >= size else cv2.INTER_LINEAR
    return _resize(lambda array: cv2.resize(array, (size, size), interpolation=method), image)


def _resize(change: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """What a function that averages makes of an image; of a mask, (H, W) bool or classes, what most pixels are."""
    if image.dtype == bool:
        return change(image.astype(np.float32)) >= 0.5
    if image.ndim == 2:
        shares = [change((image == number).astype(np.float32)) for number in range(int(image.max()) + 1)]
        return np.argmax(shares, axis=0).astype(np.uint8)
    return each_channel(change, image)


def enlarge_to_multiple(image: np.ndarray, tile: int) -> np.ndarray:
    """Resize an image up to the next multiple of `tile` in each direction (2096 to 2560 for 512)."""
    height, width = (-(-length // tile) * tile for length in image.shape[:2])
    if image.ndim == 2:
        enlarged = cv2.resize(image.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        return enlarged.astype(image.dtype)
    return each_channel(lambda array: cv2.resize(array, (width, height), interpolation=cv2.INTER_CUBIC), image)


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """The mean of each block of `factor` x `factor` pixels of an image; of a mask or classes, what most of them are.

    Where blocks reach past the image, they hold its reflection. This is what `models.reduced` does to an image.
    """
    if factor == 1:
        return image
    height, width = (-(-length // factor) for length in image.shape[:2])
    padded = pad_to(image, height * factor, width * factor)
    return _resize(lambda array: cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA), padded)


def _tiles_of(pair: Pair, image: np.ndarray, mask: np.ndarray, setting: TileSetting):
    """Yield (name, image tile, mask tile, row, column, scale) of one source image."""
    image, mask = shrink(normalize(image, setting.normalization), setting.reduction), shrink(mask, setting.reduction)
    size, own = setting.tile_size, 1 / setting.reduction
    if setting.reduced:
        scale = own * size / float(np.sqrt(image.shape[0] * image.shape[1]))
        yield f"{pair.stem}_whole", reduce_image(image, size), reduce_image(mask, size), 0, 0, scale
    scale = own
    if setting.fit == "enlarge":
        before = image.shape
        image, mask = enlarge_to_multiple(image, size), enlarge_to_multiple(mask, size)
        scale *= float(np.sqrt(image.shape[0] * image.shape[1] / (before[0] * before[1])))
    tiles, origins = split(image, size, setting.stride or size)
    masks, _ = split(mask, size, setting.stride or size)
    for tile, tile_mask, (row, column) in zip(tiles, masks, origins, strict=True):
        yield f"{pair.stem}_{row:05d}x{column:05d}", tile, tile_mask, int(row), int(column), scale


def _write_tiles(name: str, pair: Pair, folder: Path, setting: TileSetting) -> tuple[dict, list[dict], list[list[int]]]:
    """Write the tiles of one source image; return its hashes, its rows of the manifest, and what each tile shows."""
    rows, shown, (whole, whole_mask) = [], [], read_pair(pair, classes=pair.classes is not None)
    for stem, image, mask, row, column, scale in _tiles_of(pair, whole, whole_mask, setting):
        empty = not mask.any()
        if empty and setting.empty == "drop":
            continue
        if pair.channels:
            write_channels(folder / name / "images" / f"{stem}.tif", image, sync=False)
        else:
            write_image(folder / name / "images" / f"{stem}.png", image, sync=False)
        stored = mask if pair.classes is None else pair.classes.stored(mask)
        write_image(folder / name / "masks" / f"{stem}.png", stored, sync=False)
        shown.append(np.unique(mask).tolist())
        rows.append(
            {
                "tile": stem,
                "source": pair.stem,
                "split": name,
                "row": row,
                "column": column,
                "scale": round(scale, 6),
                "foreground": round(float((mask > 0).mean()), 8),
                "weight": setting.empty_weight if empty and setting.empty == "down-weight" else 1.0,
                "white_balance": int(setting.white_balance),
                "contrast": int(setting.contrast),
                "reduction": setting.reduction,
            }
        )
    return identify(pair, whole, whole_mask), rows, shown


def write_tile_set(
    splits: Mapping[str, Sequence[Pair]],
    folder: Path,
    setting: TileSetting,
    kinds: Mapping[str, str] | None = None,
) -> list[dict]:
    """Write `folder/<split>/{images,masks}/<tile>.png`, `folder/sources.json` and `folder/manifest.csv`.

    Images of channels as they are stored become .tif, with the rule that scales them in `folder/channels.json`. Masks
    of classes keep these, and the set has their `folder/classes.csv`; tiles that show a rare class weigh more
    (`sampling.repeat_factors`). Tiles inherit the split of their source image, so no image has tiles in two splits.
    Masks are lossless. The sources are written with the hashes by which a model will recognise them. The manifest comes
    last: with it, the set is complete.

    Args:
        splits: source images by split: train, valid, test, and perhaps `ADDED`.
        folder: of the tile set.
        setting: how to tile; nothing in it is left to be measured, see `choices.choose`.
        kinds: of the sources by their stems, for `balance_kinds`.

    Returns:
        the manifest's rows: tile, source, split, row, column (pixels in the scaled image), scale (tile pixels per
        source pixel), foreground (share of mask pixels, 0..1), weight (for sampling in training), white_balance and
        contrast (1 if the source was normalized so), and reduction (by which sources were reduced, 1 if not).

    Raises:
        UserError: some masks hold classes, and others do not or hold different ones.
        ValueError: something is left to be measured.
    """
    if not setting.tile_size or not setting.reduction:
        raise ValueError("tile_size and reduction must be measured first: see choices.choose.")
    rows, classes_shown, sources = [], [], {name: {} for name in splits}
    (Path(folder) / MANIFEST).unlink(missing_ok=True)  # An older one would call a half-written set complete.
    pairs = [(name, pair) for name, own in splits.items() for pair in own]
    for table in (FILE, CLASSES):
        (Path(folder) / table).unlink(missing_ok=True)
    if classes := _classes_of(pair for _, pair in pairs):
        write_classes(folder, classes)
    if setting.channels:
        write_scaling(folder, measure_channels([pair.image for pair in splits["train"]], setting.channels))
    with ThreadPoolExecutor(2) as pool:
        written = pool.map(lambda each: _write_tiles(*each, folder, setting), pairs)
        written = zip(pairs, progress(written, total=len(pairs), unit="image"), strict=True)
        for (name, pair), (identity, own, shown) in written:
            sources[name][pair.stem] = identity
            rows += own
            classes_shown += shown
    if classes:
        _repeat_rare(rows, classes_shown)
    if setting.balance:
        total = Counter()
        for row in rows:
            total[row["source"]] += row["weight"]
        for row in rows:
            row["weight"] = round(row["weight"] / total[row["source"]], 8)
    if setting.balance_kinds and kinds:
        _balance_kinds(rows, kinds)
    sync_disks()  # Once, before the manifest says that the thousands of tiles are there.
    write_json(folder / SOURCES, sources)
    write_csv(folder / MANIFEST, rows)
    return rows


def _repeat_rare(rows: Sequence[dict], shown: Sequence[Sequence[int]]) -> None:
    """Raise the weights of training tiles that show rare classes as `sampling.repeat_factors` does."""
    own = [(row, classes) for row, classes in zip(rows, shown, strict=True) if row["split"] == "train"]
    factors = repeat_factors([classes for _, classes in own])
    for (row, _), factor in zip(own, factors, strict=True):
        row["weight"] = round(row["weight"] * float(factor), 8)


def _classes_of(pairs: Iterable[Pair]) -> Classes | None:
    """The classes that all masks hold.

    Raises:
        UserError: they differ.
    """
    found = {pair.classes: pair for pair in pairs}
    if len(found) > 1:
        names = " and ".join(sorted(pair.stem for pair in found.values()))
        remedy = "Give all images the same classes, and draw none beside them (added_images: 0)"
        raise UserError(CLASSES, f"does not hold for all images: {names} differ in their classes", remedy)
    return next(iter(found), None)


def _balance_kinds(rows: Sequence[dict], kinds: Mapping[str, str]) -> None:
    """Change the weights of training tiles as `sampling.share_by_kind` does."""
    own = [row for row in rows if row["split"] == "train"]
    weights = share_by_kind(np.array([row["weight"] for row in own]), [row["source"] for row in own], kinds)
    for row, weight in zip(own, weights, strict=True):
        row["weight"] = round(float(weight), 8)


def read_manifest(folder: Path) -> list[dict]:
    """Read `folder/manifest.csv` with numbers as numbers.

    Raises:
        UserError: there is none, because notebook 01 did not run (to its end) for this run folder, or it is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise UserError(path, "the tiles are missing", "Run notebook 01_data_and_tiling for this run folder first")
    try:
        table = [LATER | row for row in read_csv(path)]
        rows = [{name: kind(row[name]) for name, kind in KINDS.items()} for row in table]
        strange = [row for row in rows if row["split"] not in (*SPLITS, ADDED) or not 0 <= row["weight"] < math.inf]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:  # ValueError: also of bytes that are no text
        problem = f"the list of tiles is damaged ({type(error).__name__}: {error})"
        raise UserError(path, problem, "Run notebook 01_data_and_tiling again") from error
    if strange or not rows:
        problem = f"the list of tiles is damaged ({strange[0] if strange else 'it has no rows'})"
        raise UserError(path, problem, "Run notebook 01_data_and_tiling again")
    return rows


def normalization_of_tiles(manifest: Sequence[Mapping]) -> str | None:
    """How the sources of the tiles of a manifest were normalized, see `normalization.METHODS`."""
    return next((name for name in METHODS if any(row[name] for row in manifest)), None)


def reduction_of_tiles(manifest: Sequence[Mapping]) -> int:
    """By how much the sources of the tiles of a manifest were reduced; 1 for most."""
    return manifest[0]["reduction"]


def read_tiles(folder: Path, rows: Sequence[Mapping], classes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Load tiles of a manifest: images (N, T, T, 3) uint8 RGB, or channels as stored, and masks (N, T, T) bool.

    With `classes`, the masks of a set that has classes are their numbers, uint8.
    """
    known = read_classes(folder)
    read, suffix = (read_image, "png") if read_scaling(folder) is None else (read_channels, "tif")
    pairs = []
    for row in rows:
        place, name = Path(folder) / row["split"], row["tile"]
        image, mask = place / "images" / f"{name}.{suffix}", place / "masks" / f"{name}.png"
        pairs.append(Pair(name, image, mask, classes=known))
    with ThreadPoolExecutor() as pool:
        images = pool.map(read, [pair.image for pair in pairs])
        masks = pool.map(class_numbers_of if classes and known else mask_of, pairs)
        return np.stack(list(images)), np.stack(list(masks))


def splits_in(rows: Sequence[Mapping]) -> list[str]:
    """The names of the splits of a manifest: the three, and `ADDED` if it has any."""
    return [*SPLITS, ADDED] if any(row["split"] == ADDED for row in rows) else list(SPLITS)


def tile_statistics(rows: Sequence[Mapping]) -> list[dict]:
    """Per split: sources, tiles, reduced whole images among them, empty tiles and mean foreground in percent."""
    table = []
    for name in splits_in(rows):
        chosen = [row for row in rows if row["split"] == name]
        foreground = np.array([row["foreground"] for row in chosen])
        table.append(
            {
                "split": name,
                "sources": len({row["source"] for row in chosen}),
                "tiles": len(chosen),
                "whole_reduced": sum(row["tile"].endswith("_whole") for row in chosen),
                "empty_percent": round(100 * float(np.mean(foreground == 0)), 1) if chosen else 0.0,
                "foreground_percent": round(100 * float(foreground.mean()), 2) if chosen else 0.0,
            }
        )
    return table
