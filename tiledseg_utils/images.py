"""Images and masks: files in, plain arrays out, and a sentence for the user where that cannot be done.

A data set is a folder with `images/`, either `masks/` or `labels/`, and optionally a `split.csv`. Whatever the files
are, the other modules see one kind of image, `(H, W, 3)` uint8 RGB, and one kind of mask, `(H, W)` bool, or `(H, W)`
int32 instance labels with 0 as the background. A file's format is told by its first bytes, not by its name. Pixels
are taken as stored: an orientation tag (EXIF) is not applied, for it would turn an image away from its mask.
"""

import contextlib
import csv
import hashlib
import io
import logging
import math
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile

from .files import UserError, atomic_path, read_csv

SPLITS = ("train", "valid", "test")
COLUMNS = ("stem", "split", "height", "width", "dtype", "channels", "foreground_percent", "objects", "note")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
NEVER_IMAGES = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".ini", ".db"}
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}
SIGNATURES |= dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF")
PERCENTILES = (0.1, 99.9)  # of wider integers, that become 0 and 255
JPEG_GREY_LIMIT = 0.08  # share of 32-223. 24 real masks: 0; small cells at quality 30: 0.035; photographs: 0.1 and more

# What the decoders would print, the UserError says, together with the name of the file.
(cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2).setLogLevel(0)  # moved in OpenCV 5; 0 is silent
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file; `stem` is the name that they share."""

    stem: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Stored:
    """What a file holds: integers `(H, W, 1)` or `(H, W, 3)` RGB, and its count of channels before any were dropped."""

    pixels: np.ndarray
    channels: int
    is_jpeg: bool


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(path, f"cannot be opened ({error.strerror})", "Check its name and permissions") from error


def decode(path: Path, data: bytes | None = None) -> Stored:
    """Decode a PNG, JPEG, TIFF or BMP file, whose content is `data` if that is not to be read from `path`.

    Raises:
        UserError: as for `read_image`.
    """
    data = _read_bytes(path) if data is None else data
    kind = next((kind for start, kind in SIGNATURES.items() if data.startswith(start)), None)
    if not data:
        raise UserError(path, "is an empty file", "Copy it again from its source")
    if kind is None:
        raise UserError(path, "is not a PNG, JPEG, TIFF or BMP image, whatever its name says", "Save it as PNG")
    # OpenCV may fill the missing part of a cut JPEG with grey and say nothing. Inside a scan 0xFF is escaped, so the
    # last end marker (D9) precedes the last scan marker (DA) only in a cut file, whatever thumbnails it holds.
    jpeg_is_cut = kind == "JPEG" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if jpeg_is_cut or (kind == "PNG" and b"IEND\xaeB`\x82" not in data):
        raise UserError(path, f"is a {kind} file that is cut short", "Copy or download it again")
    pixels, is_jpeg = _decode_tiff(path, data) if kind == "TIFF" else (_decode_cv2(path, data, kind), kind == "JPEG")
    if pixels.dtype.kind not in "iu":
        nan = ", some of them not a number (NaN)" if np.isnan(pixels).any() else ""
        remedy = "Scale an image to 0-255 and save it as 8-bit; threshold a mask and save 0 and 255"
        raise UserError(path, f"holds decimal numbers ({pixels.dtype.name}){nan}", remedy)
    pixels = np.atleast_3d(pixels)
    channels = pixels.shape[2]
    return Stored(pixels[..., : 3 if channels >= 3 else 1], channels, is_jpeg)


def _decode_cv2(path: Path, data: bytes, kind: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise UserError(path, f"is cut short, damaged, or a rare kind of {kind}", "Copy it again, or save it as PNG")
    return pixels


def open_tiff(path: Path, source: str | os.PathLike | BinaryIO) -> tifffile.TiffFile:
    """Open a TIFF of one page, whose bytes are all there; only its tags are read.

    Args:
        path: the name for errors.
        source: the file, or its content.

    Raises:
        UserError: the file is cut, damaged, or a stack of several pages.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(tifffile.TiffFile(source))
            page, series = file.pages.first, file.series[0]
            count = sum(not each.is_reduced for each in file.pages)  # thumbnails do not count
            is_stack = count > 1 or math.prod(series.shape) != page.size or page.axes not in ("YX", "YXS", "SYX")
            ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
            file.filehandle.seek(page.offset)
            tag_count = file.filehandle.read(file.tiff.tagnosize)
            if int.from_bytes(tag_count, "little" if file.byteorder == "<" else "big") != len(page.tags):
                raise ValueError("tags are missing")  # tifffile would guess them
            if not ends or max(ends) > file.filehandle.size:
                raise ValueError("pixels are missing")
            if not is_stack:
                stack.pop_all()  # stays open
                return file
    except Exception as error:  # every layer of tifffile raises its own kind for bytes that make no sense
        raise _damaged_tiff(path, error) from error
    raise UserError(path, "is a stack of several pages", "Save each page, or channels as RGB, as one file")


def _damaged_tiff(path: Path, error: Exception) -> UserError:
    return UserError(path, f"is a cut or damaged TIFF ({error})", "Copy it again, or save it as PNG")


def lacks_codec(error: Exception) -> bool:
    """Tell a compression that tifffile alone cannot decode, but OpenCV perhaps can, from damage."""
    return "requires the 'imagecodecs'" in str(error) or isinstance(error, ImportError)


def _decode_tiff(path: Path, data: bytes) -> tuple[np.ndarray, bool]:
    pixels = None
    with open_tiff(path, io.BytesIO(data)) as file:
        page = file.pages.first
        try:
            if page.photometric != tifffile.PHOTOMETRIC.PALETTE:  # OpenCV looks up palettes
                pixels = np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else page.asarray()
        except Exception as error:  # as in open_tiff
            if not lacks_codec(error):
                raise _damaged_tiff(path, error) from error
    compression = getattr(page.compression, "name", f"number {page.compression}")
    if pixels is None:
        pixels = _decode_cv2(path, data, f"TIFF (compression {compression})")
    return pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels, "JPEG" in compression


def scale_to_uint8(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale integers so that `low` becomes 0 and `high` 255; where these are equal, keep the highest 8 bits."""
    bits = 8 * pixels.dtype.itemsize
    if low == high:
        return (pixels >> (bits - 8)).clip(0, 255).astype(np.uint8)
    scaled = (pixels.astype(np.float32 if bits <= 16 else np.float64) - low) * (255 / (high - low))
    return np.rint(scaled, out=scaled).clip(0, 255).astype(np.uint8)


def percentile_limits(pixels: np.ndarray) -> tuple[float, float]:
    """The values of integers that `read_image` scales to 0 and 255: the 0.1 and 99.9 percentiles of all channels."""
    safe = pixels.astype(np.float64) if pixels.dtype.kind == "i" else pixels  # NumPy's differences may overflow
    low, high = np.percentile(safe, PERCENTILES).tolist()
    if low == high:  # a few bright spots on even ground
        low, high = float(pixels.min()), float(pixels.max())
    return low, high


def to_rgb(stored: Stored) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of `read_image`; also return notes for the user."""
    pixels, used = stored.pixels, stored.pixels.shape[2]
    notes = [f"{stored.channels} channels, first {used} used"] if stored.channels > used else []
    if pixels.dtype != np.uint8:
        bits = 8 * pixels.dtype.itemsize
        low, high = percentile_limits(pixels)
        notes.append(f"{bits}-bit, " + ("constant" if low == high else f"scaled from {low:.0f}-{high:.0f}"))
        pixels = scale_to_uint8(pixels, low, high)
    dark = [name for index, name in enumerate(("red", "green", "blue")[:used]) if not stored.pixels[..., index].any()]
    notes += ["image is all zero"] if len(dark) == used else [f"{name} channel is all zero" for name in dark]
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if used == 1 else np.ascontiguousarray(pixels), notes


def to_mask(path: Path, stored: Stored) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of `read_labels`: bool for a binary mask, int32 for labels; also return notes for the user."""
    pixels, notes = stored.pixels[..., 0], []
    low, high = int(pixels.min()), int(pixels.max())
    if any((stored.pixels[..., index] != pixels).any() for index in range(1, stored.pixels.shape[2])):
        raise UserError(path, "is a coloured picture, not a mask", "Save the mask in grey, background 0, objects 255")
    if low < 0 or high > np.iinfo(np.int32).max:
        raise UserError(path, f"holds labels from {low} to {high}", "Save background as 0, objects as 1, 2, 3, ...")
    if stored.is_jpeg:
        grey = ((pixels > 31) & (pixels < 224)).mean()
        if grey > JPEG_GREY_LIMIT:
            remedy = "Check that it is not an image, and save the mask as PNG"
            raise UserError(path, f"is no mask: {grey:.0%} of its pixels are neither black nor white", remedy)
        if 0 < high <= 127:
            remedy = "JPEG ruins labels and 0/1 masks: save the mask from its source as PNG"
            raise UserError(path, f"is a JPEG mask whose brightest pixel is only {high} of 255", remedy)
        mask, notes = pixels > 127, ["JPEG mask, thresholded at 127"]
    elif ((pixels == low) | (pixels == high)).all():
        mask = (pixels == high) & (high > 0)
    elif _forms_areas(pixels, high):
        return pixels.astype(np.int32), ["instance labels"]
    else:
        remedy = f"Threshold it at {high // 2} and save 0 and 255, or save instance labels; never smooth or blur them"
        raise UserError(path, "has shades between background and foreground, as a blurred mask has", remedy)
    constant = ["mask is all zero"] if not mask.any() else ["mask is all foreground"] if mask.all() else []
    return mask, notes + constant


def _forms_areas(pixels: np.ndarray, high: int) -> bool:
    """Tell instance labels from the soft edge of a mask by the pixels between 0 and the maximum.

    In labels, four equal neighbours surround at least a quarter of these; or, where objects are only a few pixels
    wide, at least half touch nothing but their own value and 0. On a soft edge, each has a darker and a brighter one.
    """
    inside = (pixels > 0) & (pixels < high)
    apart, total = inside.copy(), np.count_nonzero(inside)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        same = pixels[a] == pixels[b]
        harmless = same | (pixels[a] == 0) | (pixels[b] == 0)
        for side in (a, b):
            inside[side] &= same
            apart[side] &= harmless
    return 4 * np.count_nonzero(inside) >= total or 2 * np.count_nonzero(apart) >= total


def to_labels(mask: np.ndarray) -> np.ndarray:
    """The connected components of a bool mask; labels as they are."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1] if mask.dtype == bool else mask


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a PNG, JPEG, TIFF or BMP file as `(H, W, 3)` uint8 RGB.

    8-bit values stay as they are. Wider integers are scaled, all channels together, so that their 0.1 and 99.9
    percentiles become 0 and 255: 12-bit data in a 16-bit file would be black otherwise. Where the percentiles coincide,
    minimum and maximum take their place; a constant image keeps its highest 8 bits. One channel, or two (grey and
    alpha), become three equal ones; of more than three (alpha, further stains) the first three are used.

    Raises:
        UserError: the file cannot be opened, is empty, cut, damaged or no image, has several pages, or holds floats.
    """
    return to_rgb(decode(Path(path)))[0]


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Read a mask file as instance labels, `(H, W)` int32, 0 = background.

    - At most two grey levels make a binary mask, whose larger level is the foreground. A constant file is empty if it
      is 0, else all foreground. The objects are the connected components (8 neighbours).
    - A JPEG is always binary, with the foreground above 127, since compression leaves traces around every object that
      a cast to bool would count. It is refused if over 8 % of its pixels are neither near black nor near white
      (32-223), or if it is not all 0 and yet nowhere above 127.
    - More than two levels are instance labels, kept as they are, if the values between 0 and the maximum form areas.
      In a blurred or smoothly resized mask they do not, and it is refused.
    - Three equal colour channels count as grey; alpha is ignored.

    Raises:
        UserError: as for `read_image`, and for a coloured or soft mask or a negative label.
    """
    return to_labels(to_mask(Path(path), decode(Path(path)))[0])


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Read a mask file as `(H, W)` bool, True = foreground, by the rules of `read_labels`."""
    return to_mask(Path(path), decode(Path(path)))[0] != 0


def write_image(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array without loss as PNG or TIFF, by the suffix of `path`; the file is complete or absent.

    uint8 `(H, W)` or `(H, W, 3)` RGB is written as it is, bool `(H, W)` as 0 and 255, and labels `(H, W)` of any other
    integer type as uint16 (PNG) or int32 (TIFF).

    Raises:
        UserError: another suffix, shape or type, labels out of range, or a folder that cannot be written to.
    """
    path, is_png = Path(path), Path(path).suffix.lower() == ".png"
    if not is_png and path.suffix.lower() not in (".tif", ".tiff"):
        raise UserError(path, "is not the name of a lossless image file", "Use the suffix .png or .tif")
    is_color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if array.size == 0 or array.dtype.kind not in "biu" or not (array.ndim == 2 or is_color):
        remedy = "Pass uint8 (H, W, 3) or (H, W), or bool or integer labels (H, W)"
        raise UserError(path, f"cannot hold {array.dtype} of shape {array.shape}", remedy)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        dtype = np.uint16 if is_png else np.int32
        if array.min() < 0 or array.max() > np.iinfo(dtype).max:
            remedy = "Number objects from 1" + ", or use .tif for labels above 65535" * is_png
            raise UserError(path, f"cannot hold labels from {array.min()} to {array.max()}", remedy)
        array = array.astype(dtype)
    with atomic_path(path) as temporary:
        if is_png:
            array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR) if is_color else array
            temporary.write_bytes(cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
        else:
            tifffile.imwrite(temporary, array, compression="zlib", photometric="rgb" if is_color else "minisblack")


def _list_files(folder: Path, problems: list[str], ending: str = "") -> dict[str, Path]:
    """Return the image files in a folder by stem, less its `ending`; add to `problems`."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = unicodedata.normalize("NFC", path.stem).removesuffix(ending)  # macOS takes accents apart
        if path.name.startswith(".") or path.suffix.lower() in NEVER_IMAGES:
            continue
        if path.is_dir() or path.suffix.lower() not in IMAGE_SUFFIXES:
            problems.append(f"{folder.name}/{path.name} is not a PNG, JPEG, TIFF or BMP file")
        elif stem in files:
            problems.append(f"{files[stem].name} and {path.name} in {folder.name} differ only in their endings")
        else:
            files[stem] = path
    return files


def _scan(folder: Path) -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """Return images and masks by stem, and every problem with their names."""
    problems: list[str] = []
    found = [name for name in ("images", "masks", "labels") if (folder / name).is_dir()]
    if found not in (["images", "masks"], ["images", "labels"]):
        state = f"holds {' and '.join(found) or 'none of them'}" if folder.is_dir() else "is no folder"
        return {}, {}, [f"should be a folder with images and either masks or labels, but {state}"]
    images, masks = (_list_files(folder / name, problems, "_label" * (name == "labels")) for name in found)
    for stem in sorted(images.keys() ^ masks.keys()):
        alone, other = (images[stem], found[1]) if stem in images else (masks[stem], "images")
        problems.append(f"{alone.parent.name}/{alone.name} has no partner in {other}")
    return images, masks, problems if images or problems else ["holds no images"]


def all_in_one(path: Path, problems: Sequence[str], remedy: str) -> UserError:
    """One error that lists up to ten problems."""
    listed = [*problems[:10], f"and {len(problems) - 10} more"] if len(problems) > 10 else problems
    return UserError(path, problems[0] if len(problems) == 1 else "\n  ".join(["", *listed]), remedy)


def find_pairs(folder: str | os.PathLike) -> list[Pair]:
    """Return the pairs of a data folder, sorted by stem.

    `folder/images/<stem>.<any>` belongs to `folder/masks/<stem>.<any>`, or to `folder/labels/<stem>_label.<any>` as in
    the NeurIPS 2022 challenge, or to the same without `_label`. Left out are hidden files and those with the suffixes
    of `NEVER_IMAGES` (text and tables); anything else that is not a PNG, JPEG, TIFF or BMP is a problem.

    Raises:
        UserError: a missing or empty folder, an image without mask or the reverse, doubled stems; one error lists all.
    """
    images, masks, problems = _scan(Path(folder))
    if problems:
        remedy = "Give each file in images one of the same name in masks or labels, and keep nothing else there"
        raise all_in_one(Path(folder), problems, remedy)
    return [Pair(stem, images[stem], masks[stem]) for stem in sorted(images)]


def check_sizes(pair: Pair, image: np.ndarray, mask: np.ndarray) -> None:
    """Raise a UserError if a mask has not the height and width of its image."""
    if image.shape[:2] != mask.shape:
        sizes = f"is {mask.shape[0]} x {mask.shape[1]} pixels (rows x columns), but its image {pair.image} is"
        remedy = "Export the mask again at the size of the image"
        raise UserError(pair.mask, f"{sizes} {image.shape[0]} x {image.shape[1]}", remedy)


def read_pair(pair: Pair, labels: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read an image, `(H, W, 3)` uint8, and its mask, `(H, W)` bool, or int32 instance labels if `labels`.

    Raises:
        UserError: as for `read_image` and `read_labels`, or the two differ in size.
    """
    image, mask = read_image(pair.image), (read_labels if labels else read_mask)(pair.mask)
    check_sizes(pair, image, mask)
    return image, mask


def _given_split(folder: Path, stems: Collection[str]) -> dict[str, str]:
    """Return the split of each stem by `split.csv`, or nothing where there is no such file."""
    path, splits, problems = folder / "split.csv", {}, []
    if not path.exists():
        if len(stems) < 3:
            remedy = "Add images, so that there are at least three, or a split.csv with the columns stem,split"
            raise UserError(folder, f"holds {len(stems)} image(s), too few for train, valid and test", remedy)
        return {}
    try:
        rows = read_csv(path)
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError(path, f"is no readable table ({error})", "Save it as comma-separated UTF-8 text") from error
    if not rows or not {"stem", "split"} <= rows[0].keys():
        raise UserError(path, "has no rows with the columns stem and split", "Begin it with the line stem,split")
    for row in rows:
        stem, split = (unicodedata.normalize("NFC", row[key] or "").strip() for key in ("stem", "split"))
        if stem not in stems:
            problems.append(f"'{stem}' is not the name (without suffix) of an image")
        elif stem in splits:
            problems.append(f"'{stem}' is listed more than once")
        if split not in SPLITS:
            problems.append(f"'{stem}' has the unknown split '{split}'")
        splits[stem] = split
    problems += [f"'{stem}' is left out" for stem in sorted(set(stems) - splits.keys())]
    if "train" not in splits.values():
        problems.append("no image is left for training")
    if problems:
        raise all_in_one(path, problems, "List each image once, with the split train, valid or test")
    return splits


def split_pairs(
    pairs: Sequence[Pair], folder: str | os.PathLike, seed: int, fractions: Sequence[float] = (0.6, 0.2, 0.2)
) -> dict[str, list[Pair]]:
    """Divide pairs, whole images, into `train`, `valid` and `test`; each list is sorted by stem.

    `folder/split.csv` (columns stem,split) decides if it exists. Otherwise the split is drawn by `seed` and does not
    depend on the order of `pairs`; each part gets one image, and the others go where `fractions` lack most.

    Raises:
        UserError: split.csv has errors (all are listed), or there is none and fewer than three images.
    """
    splits = _given_split(Path(folder), {pair.stem for pair in pairs})
    if not splits:
        if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
            raise UserError("fractions", f"are {tuple(fractions)}", "Pass three shares that add up to 1")
        counts = [1, 1, 1]
        for _ in range(len(pairs) - 3):
            counts[np.argmax(np.multiply(fractions, len(pairs)) - counts)] += 1
        shuffled = np.random.default_rng(seed).permutation(sorted(pair.stem for pair in pairs)).tolist()
        splits = dict(zip(shuffled, np.repeat(SPLITS, counts).tolist(), strict=True))
    ordered = sorted(pairs, key=lambda pair: pair.stem)
    return {split: [pair for pair in ordered if splits[pair.stem] == split] for split in SPLITS}


@contextlib.contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def check_folder(folder: str | os.PathLike) -> tuple[list[dict], list[str]]:
    """Read every file of a data folder and report, without stopping at errors.

    Returns:
        rows: one per image, with stem, split (of split.csv), height and width in pixels, dtype and channels of the
            file, foreground_percent, objects (instances or connected components), and note. Unknown values are None.
        problems: one sentence for each; if there are none, the folder is ready for use.
    """
    images, masks, found = _scan(Path(folder))
    rows, splits, problems = [], {}, [f"{folder}: {problem}." for problem in found]
    with _collecting(problems):
        splits = _given_split(Path(folder), images.keys()) if images else {}
    for stem in sorted(images.keys() | masks.keys()):
        row, image, notes, known = dict.fromkeys(COLUMNS), None, [], len(problems)
        row |= {"stem": stem, "split": splits.get(stem)}
        with _collecting(problems):
            if stem in images:
                stored = decode(images[stem])
                image, notes = to_rgb(stored)
                row |= {"height": image.shape[0], "width": image.shape[1]}
                row |= {"dtype": stored.pixels.dtype.name, "channels": stored.channels}
        with _collecting(problems):
            if stem in masks:
                mask, mask_notes = to_mask(masks[stem], decode(masks[stem]))
                notes = notes + mask_notes
                row |= {"foreground_percent": 100 * float((mask != 0).mean())}
                row |= {"objects": int(np.count_nonzero(np.unique(to_labels(mask))))}
                if image is not None:
                    check_sizes(Pair(stem, images[stem], masks[stem]), image, mask)
        row["note"] = ", ".join(notes + ["see problems"] * (len(problems) > known))
        rows += [row] if stem in images else []
    return rows, problems


def require_sound(folder: str | os.PathLike) -> list[dict]:
    """Return the rows of `check_folder`, or raise one UserError that lists every problem."""
    rows, problems = check_folder(folder)
    if problems:
        raise all_in_one(Path(folder), problems, "Mend these files, then try again")
    return rows


def hash_folder(folder: str | os.PathLike) -> str:
    """Return the SHA-256, in hex, of names and bytes of all pairs and split.csv, wherever the folder is."""
    digest, split = hashlib.sha256(), Path(folder, "split.csv")
    files = [path for pair in find_pairs(folder) for path in (pair.image, pair.mask)]
    for path in files + [split] * split.exists():
        name = unicodedata.normalize("NFC", path.relative_to(folder).as_posix())
        content = _read_bytes(path)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
