"""What a run is and what a model learnt from, told by hashes of the contents of files.

Notebook 1 records the data of a run once (`begin_run`, `finish_run`). The later notebooks take the split from that
record (`run_splits`), which refuses data that have changed since. A tile set knows the images that it was cut from
(`identify`), and a model those that it has seen (`seen_by`).
"""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base.files import UserError, hash_file, read_record, write_json
from ..base.paths import NEVER_IMAGES
from .classes import FILE as CLASSES
from .images import SPLITS, Pair, find_pairs, hash_folder, image_of

RECORD = Path("results", "01_data.json")
SOURCES = "sources.json"  # beside the manifest of a tile set
TILES = Path("tiles", "manifest.csv")
RUN_AGAIN = "Run notebook 01_data_and_tiling again"
AGAIN = "start again from notebook 1 (report: with --overwrite, or another --run)"


def hash_files(folder: str | Path) -> dict[str, str]:
    """SHA-256, in hex, of every image and mask, split.csv and classes.csv, by its path below a data folder.

    Nothing is checked: files without a partner are listed like the others.

    Raises:
        UserError: a file cannot be opened.
    """
    folder = Path(folder)
    files = [path for part in ("images", "masks", "labels") for path in sorted((folder / part).glob("*"))]
    files = [path for path in files if not path.name.startswith(".") and path.suffix.lower() not in NEVER_IMAGES]
    files += [folder / "split.csv", folder / CLASSES]
    names = {path: unicodedata.normalize("NFC", path.relative_to(folder).as_posix()) for path in files}
    return {names[path]: hash_file(path) for path in files if path.is_file()}


def check_data(folder: Path, recorded: Mapping[str, str], now: Mapping[str, str] | None = None) -> None:
    """Refuse a data folder that is not the one that a run began with.

    Args:
        folder: images, masks and perhaps split.csv.
        recorded: what `hash_files` returned when the run began.
        now: what it returns now, if that is known.

    Raises:
        UserError: names up to five files that have changed, are gone or are new.
    """
    if not folder.is_dir():
        raise UserError(folder, "the data of this run are gone", f"Put them back, or {AGAIN}")
    now = hash_files(folder) if now is None else now
    found = [f"{name} is gone" for name in sorted(recorded.keys() - now.keys())]
    found += [f"{name} is new" for name in sorted(now.keys() - recorded.keys())]
    found += [f"{name} differs" for name in sorted(now.keys() & recorded.keys()) if now[name] != recorded[name]]
    if found:
        more = f", and {len(found) - 5} more" if len(found) > 5 else ""
        problem = f"the data have changed since this run began: {', '.join(found[:5])}{more}"
        raise UserError(folder, problem, f"Restore them, or {AGAIN}")


def recorded_files(path: Path, data: Mapping, remedy: str) -> dict[str, str]:
    """The hashes of files in the `data` of a request that was read from `path`.

    Raises:
        UserError: it is damaged; with this `remedy`.
    """
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, dict):
        raise UserError(path, "is damaged (data)", remedy)
    return files


def begin_run(run: Path, data: Path) -> dict[str, str]:
    """Begin notebook 1: delete the record of an earlier notebook 1, and return the hashes of the data.

    Raises:
        UserError: the data are not those with which `report` began this run.
    """
    hashes, request = hash_files(data), run / "request.json"
    remedy = f"Delete it, or {AGAIN}"
    asked = read_record(request, {}, remedy).get("data") if request.exists() else None
    if asked is not None:
        check_data(data, recorded_files(request, asked, remedy), hashes)
    (run / RECORD).unlink(missing_ok=True)
    return hashes


def finish_run(
    run: Path, data: Path, splits: Mapping[str, Sequence[Pair]], hashes: Mapping[str, str], seed: int
) -> dict:
    """End notebook 1: record in `results/01_data.json` what the run is made of, for the later notebooks.

    Args:
        run: run folder, with the tiles of these data.
        data: data folder; if it lies in the run folder, its path is recorded relative to that, and moves with it.
        splits: source images by split.
        hashes: of the files, before any of them was read.
        seed: of the run; the later notebooks read it here.

    Returns:
        what was written: seed, path, sha256 (of the folder), images (counts by split), split (stems by split), files
        (their hashes) and manifest (the hash of the tiles' manifest); also channels, if the images are not read as RGB.

    Raises:
        UserError: the data have changed meanwhile.
    """
    check_data(data, hashes)
    run, data = run.resolve(), data.resolve()
    record = {
        "seed": seed,
        "path": str(data.relative_to(run) if data.is_relative_to(run) else data),
        "sha256": hash_folder(data),
        "images": {name: len(pairs) for name, pairs in splits.items()},
        "split": {name: [pair.stem for pair in pairs] for name, pairs in splits.items()},
        "files": dict(hashes),
        "manifest": hash_file(run / TILES),
    }
    channels = next((list(pair.channels) for own in splits.values() for pair in own), [])
    if channels:
        record["channels"] = channels
    write_json(run / RECORD, record)
    return record


def read_run(run: Path) -> dict:
    """What `finish_run` wrote, its path made absolute.

    Raises:
        UserError: notebook 1 did not run to its end, or the file is damaged.
    """
    path = run / RECORD
    if not path.exists():
        raise UserError(path, "notebook 01_data_and_tiling has not run to its end in this run folder", "Run it first")
    example = {"seed": 0, "path": "", "sha256": "", "images": {}, "split": {}, "files": {}, "manifest": ""}
    record = read_record(path, example, RUN_AGAIN)
    return record | {"path": str(run.resolve() / record["path"])}


def channels_of_run(run: Path) -> tuple[int, ...]:
    """The channels of the images of a run that are read as they are stored; empty if the images are RGB.

    Raises:
        UserError: as for `read_run`.
    """
    channels = read_run(run).get("channels", [])
    if not isinstance(channels, list) or not all(type(number) is int for number in channels):
        raise UserError(run / RECORD, "is damaged (channels)", RUN_AGAIN)
    return tuple(channels)


def run_splits(run: Path) -> dict[str, list[Pair]]:
    """The source images of a run by split, as notebook 1 divided them, if its data and tiles are still the same.

    Raises:
        UserError: says what has changed, or that notebook 1 did not run to its end.
    """
    record = read_run(run)
    data = Path(record["path"])
    check_data(data, record["files"])
    if not (run / TILES).exists() or hash_file(run / TILES) != record["manifest"]:
        raise UserError(run / TILES, "is not the list of tiles that notebook 1 wrote", RUN_AGAIN)
    pairs = {pair.stem: pair for pair in find_pairs(data, channels_of_run(run))}
    splits = record["split"]
    wrong = [f"it has no split {name}" for name in SPLITS if not isinstance(splits.get(name), list)]
    if not wrong:
        wrong = [f"{stem} is not among its files" for name in SPLITS for stem in splits[name] if stem not in pairs]
    if wrong:
        raise UserError(run / RECORD, f"is damaged ({wrong[0]})", RUN_AGAIN)
    return {name: [pairs[stem] for stem in splits[name]] for name in SPLITS}


def check_run(run: Path) -> None:
    """Refuse data or tiles that have changed since notebook 1, if that has run; raises as `run_splits`."""
    if (run / RECORD).exists():
        run_splits(run)


def hash_array(array: np.ndarray) -> str:
    """SHA-256, in hex, of the shape and the values of an array."""
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def identify(pair: Pair, image: np.ndarray, mask: np.ndarray) -> dict[str, str]:
    """Hashes by which a pair is recognised: of the `file` of the image, its `pixels` (H, W, 3), and the `mask` (H, W).

    The pixels stay the same when the image is converted without loss; the file, when another version of this package
    reads it differently.
    """
    return {"file": hash_file(pair.image), "pixels": hash_array(image), "mask": hash_array(mask)}


def learnt_from(tiles: Path) -> dict[str, dict[str, list[str]]] | None:
    """What training on a tile set sees: for "train" and "valid", by stem, the hashes of the image's file and pixels.

    None if the tile set does not say what it was cut from, as earlier versions wrote it.
    """
    path = tiles / SOURCES
    if not path.exists():
        return None
    sources = read_record(path, {}, RUN_AGAIN)
    try:
        train, added, valid = (
            {stem: [hashes["file"], hashes["pixels"]] for stem, hashes in sources.get(name, {}).items()}
            for name in ("train", "added", "valid")
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(path, f"is damaged ({type(error).__name__}: {error})", RUN_AGAIN) from error
    return {"train": train | added, "valid": valid}


def both(first: Mapping | None, second: Mapping | None) -> dict[str, dict[str, list[str]]] | None:
    """What two models have learnt from (see `learnt_from`) in one; None if it is unknown of either."""
    if first is None or second is None:
        return None
    learnt = {}
    for split in ("train", "valid"):
        stems = sorted({*first[split], *second[split]})
        learnt[split] = {stem: [*first[split].get(stem, []), *second[split].get(stem, [])] for stem in stems}
    return learnt


def seen_by(learnt: Mapping[str, Mapping[str, Sequence[str]]] | None, pairs: Sequence[Pair]) -> dict[str, str]:
    """Whether a model has seen images, by stem: in "train" or "valid", "no", or "unknown" if `learnt` is None.

    A new name or another mask does not make an image unseen.

    Args:
        learnt: what the model says that it learnt from, see `learnt_from`.
        pairs: images with masks.
    """
    if learnt is None:
        return {pair.stem: "unknown" for pair in pairs}
    # Training comes last, as it counts where an image was in both.
    known = {value: split for split in ("valid", "train") for each in learnt[split].values() for value in each}
    return {
        pair.stem: known.get(hash_file(pair.image)) or known.get(hash_array(image_of(pair)), "no") for pair in pairs
    }
