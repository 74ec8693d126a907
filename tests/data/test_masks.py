"""What counts as a mask or as instance labels: every rule of `tiledseg_utils.data.masks`, as tables."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from tiledseg_utils.base.files import UserError
from tiledseg_utils.data.masks import read_labels, read_mask, to_labels, to_mask
from tiledseg_utils.data.pictures import Stored, write_image

from .test_images import DISCS, LABELS, RNG, assert_user_error, encode, save, save_tiff


@pytest.mark.parametrize("levels", [(0, 1), (0, 255), (0, 7)])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_value_beside_0_is_binary(tmp_path, levels, suffix):
    path = save(tmp_path / f"m{suffix}", np.array(levels, np.uint8)[DISCS.astype(int)])
    mask, labels = read_mask(path), read_labels(path)
    assert mask.dtype == bool and labels.dtype == np.int32
    np.testing.assert_array_equal(mask, DISCS)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize(("value", "expected"), [(0, False), (255, True)])
def test_constant_masks(tmp_path, suffix, value, expected):
    path = save(tmp_path / f"m{suffix}", np.full((20, 10), value, np.uint8))
    assert (read_mask(path) == expected).all() and (read_labels(path) == expected).all()


def test_constant_one_is_all_foreground(tmp_path):
    assert read_mask(save(tmp_path / "m.png", np.ones((5, 5), np.uint8))).all()


def test_components_touch_by_corners(tmp_path):
    path = save(tmp_path / "m.png", np.uint8([[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 255]]))
    np.testing.assert_array_equal(read_labels(path), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 2]])


def test_one_bit_mask(tmp_path):
    np.testing.assert_array_equal(read_mask(save_tiff(tmp_path / "m.tif", DISCS, photometric="minisblack")), DISCS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.int64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_labels_are_kept_as_they_are(tmp_path, dtype, compression):
    labels = LABELS * 9  # ids with gaps
    path = save_tiff(tmp_path / "m.tif", labels.astype(dtype), compression=compression)
    read = read_labels(path)
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)
    np.testing.assert_array_equal(read_mask(path), DISCS)


@pytest.mark.parametrize("suffix", [".png", ".tif"])  # the TIFF is LZW, which OpenCV reads
def test_uint16_labels(tmp_path, suffix):
    path = save(tmp_path / f"m{suffix}", (LABELS * 20_000).astype(np.uint16))
    np.testing.assert_array_equal(read_labels(path), LABELS * 20_000)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_labels_of_tiny_and_of_touching_objects(tmp_path, size):
    spaced = np.zeros((40, 40), np.int32)
    for number, (y, x) in enumerate(((y, x) for y in range(0, 36, size + 2) for x in range(0, 36, size + 2)), 1):
        spaced[y : y + size, x : x + size] = number
    touching = np.pad(np.kron(RNG.permutation(64).reshape(8, 8) + 1, np.ones((size + 3,) * 2, int)), 2).astype(np.int32)
    for labels in (spaced, touching):
        write_image(tmp_path / "m.tif", labels)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.tif"), labels)


def soft_masks():
    hard = DISCS.astype(np.uint8) * 255
    yield "slightly blurred", cv2.GaussianBlur(hard, (3, 3), 0)
    yield "blurred", cv2.GaussianBlur(hard, (0, 0), 5)
    yield "reduced", cv2.resize(hard, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA)
    yield "enlarged", cv2.resize(hard, None, fx=2.3, fy=2.3, interpolation=cv2.INTER_LINEAR)
    yield "blurred 16-bit", cv2.GaussianBlur(hard.astype(np.uint16) * 257, (3, 3), 0)
    yield "decoded jpeg", cv2.imdecode(np.frombuffer(encode(".jpg", hard), np.uint8), cv2.IMREAD_UNCHANGED)
    yield "photograph", np.pad(cv2.GaussianBlur(RNG.integers(0, 256, (99, 99), np.uint8), (0, 0), 2), 1)


@pytest.mark.parametrize("soft", [pytest.param(soft, id=name) for name, soft in soft_masks()])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_soft_masks_are_refused(tmp_path, soft, suffix):
    path = save(tmp_path / f"m{suffix}", soft)
    for read in (read_mask, read_labels):
        threshold = f"Threshold it at {int(soft.max()) // 2}"
        assert_user_error(lambda read=read: read(path), path, "shades between", threshold, "instance labels")


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpeg_ringing_is_thresholded_away(tmp_path, quality):
    path = save(tmp_path / "m.jpg", DISCS.astype(np.uint8) * 255, cv2.IMWRITE_JPEG_QUALITY, quality)
    cast = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED).astype(bool)
    assert cast.sum() > 1.05 * DISCS.sum()  # the mistake that the rule prevents
    np.testing.assert_array_equal(read_mask(path), DISCS)
    assert read_labels(path).max() == 3


def test_jpeg_rule_holds_for_a_renamed_jpeg_and_inside_tiff(tmp_path):
    hard = DISCS.astype(np.uint8) * 255
    (tmp_path / "m.png").write_bytes(encode(".jpg", hard))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), DISCS)
    path = save(tmp_path / "m.tif", hard, cv2.IMWRITE_TIFF_COMPRESSION, 7)
    np.testing.assert_array_equal(read_mask(path), DISCS)


def test_jpeg_that_is_no_mask(tmp_path):
    photo = save(tmp_path / "photo.jpg", np.tile(np.uint8([60, 150, 220, 240]), (64, 16)))
    assert_user_error(lambda: read_mask(photo), photo, "is not a mask", "neither black nor white", "PNG")
    for pixels in (LABELS, DISCS):
        path = save(tmp_path / "labels.jpg", pixels.astype(np.uint8))
        assert_user_error(
            lambda path=path: read_mask(path), path, "brightest pixel is only", "JPEG ruins labels", "PNG"
        )


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
def test_three_equal_channels_count_as_grey(tmp_path, suffix):
    path = save(tmp_path / f"m{suffix}", np.dstack([DISCS.astype(np.uint8) * 255] * 3))
    np.testing.assert_array_equal(read_mask(path), DISCS)


def test_alpha_of_a_mask_is_ignored(tmp_path):
    path = save(tmp_path / "m.png", np.dstack([*[DISCS.astype(np.uint8) * 255] * 3, np.full(DISCS.shape, 9, np.uint8)]))
    np.testing.assert_array_equal(read_mask(path), DISCS)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
def test_coloured_mask_is_refused(tmp_path, suffix):
    path = save(
        tmp_path / f"m{suffix}", np.dstack([DISCS.astype(np.uint8) * 255, *[np.zeros(DISCS.shape, np.uint8)] * 2])
    )
    assert_user_error(lambda: read_mask(path), path, "coloured", "Save the number of each object")


def test_labels_out_of_range(tmp_path):
    path = save_tiff(tmp_path / "m.tif", (LABELS - 1).astype(np.int16))
    assert_user_error(lambda: read_labels(path), path, "labels from -1 to 2", "Save background as 0")
    path = save_tiff(tmp_path / "n.tif", LABELS.astype(np.uint32) * 10**9)
    assert_user_error(lambda: read_labels(path), path, "3000000000", "Save background as 0")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_one_pixel_wide_masks(tmp_path, shape):
    labels = np.arange(40).reshape(1, 40)[:, : shape[0] * shape[1]].reshape(shape) // 8
    write_image(tmp_path / "m.tif", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), labels > 0)


# ---------------------------------------------------------------- what looks like objects, and what does not


def drawn(shape, *objects):
    """Labels of discs, each (row, column, radius, label)."""
    labels = np.zeros(shape, np.int32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for row, column, radius, number in objects:
        labels[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number
    return labels


SCATTERED = [(row, column, 8, 1) for row in (20, 60, 100) for column in (20, 50, 80)]
PAIR = drawn((80, 90), (40, 30, 15, 1), (40, 60, 15, 2))
CELLS = drawn((120, 100), *SCATTERED)
NUMBERED = cv2.connectedComponents(CELLS.astype(np.uint8))[1]
EDGE = 255 * CELLS
EDGE[20, 12] = 254
RIM = cv2.dilate(CELLS.astype(np.uint8), np.ones((9, 9))).astype(bool) & (CELLS == 0)


def crossed():
    labels = np.kron(np.arange(1, 31).reshape(5, 6), np.ones((12, 12), int))
    labels = np.pad(labels, 3).astype(np.int32)
    labels[:, 42:46] = 0  # cuts five labels in two
    return labels


def spread(count, step, size):
    """Labels of squares at some distance: 1, 1 + step, ..."""
    side = int(np.ceil(np.sqrt(count)))
    numbers = np.zeros(side * side, np.int32)
    numbers[:count] = 1 + step * np.arange(count)
    square = np.pad(np.ones((size, size), int), 1)
    return np.kron(numbers.reshape(side, side), square).astype(np.int32)


ACCEPTED = {
    "touching": PAIR,
    "touching, unlike numbers": np.where(PAIR == 2, 200, 3 * PAIR),
    "one object of its own number": np.where(PAIR == 2, 0, 70001 * PAIR),
    "gaps": np.int32([0, 1, 2, 5, 9, 300])[np.minimum(spread(5, 1, 9), 5)],
    "above 65535": spread(40, 70001, 8),
    "255 objects": spread(255, 1, 5),
    "2500 objects": spread(2500, 3, 4),
    "single pixels": spread(100, 1, 1),
    "2 pixels": spread(60, 2, 2),
    "lines of 1 pixel": np.pad(np.repeat([[1], [0], [2], [0], [3]], 50, axis=1), 3),
    "lines of 3 pixels": np.pad(np.repeat([[1], [0], [2], [0], [7]], 50, axis=1).repeat(3, axis=0), 3),
    "tissue": np.pad(np.kron(np.random.default_rng(3).permutation(64).reshape(8, 8) + 1, np.ones((9, 9), int)), 2),
    "hole": np.where(drawn((80, 90), (40, 30, 5, 1)) > 0, 0, PAIR),
    "crop": NUMBERED[12:108, 13:90],
}


@pytest.mark.parametrize("labels", [pytest.param(labels, id=name) for name, labels in ACCEPTED.items()])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_instance_labels_are_kept(tmp_path, labels, dtype):
    path = save_tiff(tmp_path / "m.tif", labels.astype(dtype), compression="zlib")
    expected = labels if len(np.unique(labels)) > 2 else (labels > 0).astype(np.int32)  # binary by the rule
    np.testing.assert_array_equal(read_labels(path), expected)
    np.testing.assert_array_equal(read_mask(path), labels > 0)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.7, 3])
@pytest.mark.parametrize("name", ["touching", "255 objects", "tissue", "hole", "crop", "above 65535"])
def test_labels_resized_to_the_nearest_pixel_are_kept(tmp_path, name, factor):
    labels = ACCEPTED[name].astype(np.int32)
    labels = cv2.resize(labels.astype(float), None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST).astype(int)
    write_image(tmp_path / "m.tif", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif"), labels)


SHADES, CLASSES, VOID, NOTHING = "has shades", "looks like classes", "looks like a void value", "no pixel is 0"
REFUSED = {
    "classes 1-3, no 0": (np.where(RIM, 3, np.where(CELLS > 0, 2, 1)), NOTHING, "Save background as 0"),
    "labels on 255": (np.where(NUMBERED > 0, NUMBERED, 255), NOTHING, "Save background as 0"),
    "100 and 200": (np.where(CELLS > 0, 200, 100), NOTHING, "Save background as 0"),
    "1 and 2": (CELLS + 1, NOTHING, "Save background as 0"),
    "confluent": (spread(16, 1, 8)[1:9, 1:9] + np.tri(8, dtype=int), NOTHING, "Save background as 0"),
    "classes in many pieces": (CELLS * np.where(np.arange(100) < 40, 2, 1), CLASSES, "255 for what counts"),
    "nucleus within its cell": (np.where(RIM, 1, 2 * CELLS), CLASSES, "255 for what counts"),
    "numbers modulo 64": (spread(300, 1, 6) % 64, CLASSES, "16 bits"),
    "void rims": (np.where(RIM, 255, CELLS), VOID, "part of an object or as background"),
    "void rims of instances": (np.where(RIM, 255, NUMBERED), VOID, "part of an object or as background"),
    "void rim of one cell": (drawn((60, 60), (30, 30, 20, 255), (30, 30, 14, 1)), VOID, "part of an object"),
    "void frame": (np.pad(PAIR, 6, constant_values=255), VOID, "part of an object"),
    "void of 16 bits": (np.where(RIM, 65535, NUMBERED), VOID, "part of an object"),
    "grey rims": (np.where(RIM, 128, 255 * CELLS), CLASSES, "255 for what counts"),
    "one edge pixel of 254": (EDGE, SHADES, "Threshold it at 127"),
    "3 grey levels": (np.rint(cv2.GaussianBlur(1.0 * CELLS, (3, 3), 0) * 2), SHADES, "Threshold it at 1"),
    "negative": (CELLS - 1, "holds labels from -1 to 0", "Save background as 0"),
    "too large": (NUMBERED.astype(np.int64) * 2**30, "holds labels from 0 to 9663676416", "Save background as 0"),
}


@pytest.mark.parametrize(
    ("pixels", "problem", "remedy"), [pytest.param(*row, id=name) for name, row in REFUSED.items()]
)
def test_what_is_no_mask_is_refused_by_name(tmp_path, pixels, problem, remedy):
    path = save_tiff(tmp_path / "m.tif", np.asarray(pixels).astype(np.int64), compression="zlib")
    for read in (read_labels, read_mask):
        assert_user_error(lambda read=read: read(path), path, problem, remedy)


@pytest.mark.parametrize("others", [[], [2], [2, 3, 9]])
def test_a_value_in_two_pieces_is_two_objects_whatever_other_values_there_are(others):
    pixels = drawn((80, 200), (20, 20, 9, 1), (60, 20, 7, 1))
    for place, number in enumerate(others):
        pixels[30:50, 60 + 40 * place : 80 + 40 * place] = number
    mask, notes = to_mask("m", Stored(pixels[..., None], 1, False))
    labels = to_labels(mask)
    assert len(np.unique(labels)) - 1 == 2 + len(others)
    assert notes == (["instance labels", "1 in several pieces, each counted"] if others else [])
    if others:
        assert labels[20, 20] == 1 and labels[60, 20] not in [1, *others]  # the larger piece keeps the number


def test_labels_that_something_cut_in_two_are_accepted(tmp_path):
    write_image(tmp_path / "m.tif", crossed())
    labels = read_labels(tmp_path / "m.tif")
    assert len(np.unique(labels)) == 1 + 30 + 5
    np.testing.assert_array_equal(labels > 0, crossed() > 0)


# ---------------------------------------------------------------- compression and interpolation: 0 wrong


def shapes():
    """Binary drawings, 0 and 1: discs, dots, rectangles, an ellipse with a hole, lines, objects at the edge."""
    rng = np.random.default_rng(0)
    discs, dots, lines = np.zeros((300, 300), np.uint8), np.zeros((100, 120), np.uint8), np.zeros((150, 150), np.uint8)
    for _ in range(14):
        cv2.circle(discs, tuple(rng.integers(30, 270, 2).tolist()), int(rng.integers(8, 25)), 1, -1)
        cv2.circle(dots, tuple(rng.integers(5, 95, 2).tolist()), 1, 1, -1)
    for place in range(5):
        cv2.line(lines, (15 + 25 * place, 10), (25 + 25 * place, 140), 1, 1 + place % 3)
    rectangles, ellipse = np.zeros((100, 130), np.uint8), np.zeros((150, 150), np.uint8)
    rectangles[17:50, 23:75] = rectangles[60:90, 80:120] = 1
    cv2.ellipse(ellipse, (75, 75), (60, 30), 30, 0, 360, 1, -1)
    cv2.circle(ellipse, (75, 75), 12, 0, -1)
    one = drawn((128, 160), (60, 80, 25, 1)).astype(np.uint8)
    edge = drawn((150, 150), (70, 0, 40, 1), (10, 149, 30, 1)).astype(np.uint8)
    strip, corner = np.zeros((50, 350), np.uint8), np.zeros((313, 257), np.uint8)
    strip[21:30, 250:260] = corner[309:, 254:] = 1
    names = ("discs", "one disc", "dots", "rectangles", "ellipse", "lines", "edge", "strip", "corner")
    return dict(zip(names, (discs, one, dots, rectangles, ellipse, lines, edge, strip, corner), strict=True))


def outcome(pixels, truth):
    """Whether a picture is refused with a remedy, read right, or read wrong."""
    try:
        mask, _ = to_mask("m", Stored(np.ascontiguousarray(pixels)[..., None], 1, False))
    except UserError as error:
        assert "Threshold it at" in error.remedy or "255" in error.remedy
        return "refused"
    return "right" if mask.dtype == bool and np.array_equal(mask, truth > 0) else "wrong"


@pytest.mark.parametrize("name", list(shapes()))
@pytest.mark.parametrize("white", [255, 254, 200, 128])
def test_a_jpeg_mask_saved_as_png_is_refused_or_right(name, white):
    truth, outcomes = shapes()[name], []
    for quality in range(30, 101):
        content = io.BytesIO()
        Image.fromarray(truth * np.uint8(white)).save(content, "JPEG", quality=quality)
        outcomes.append(outcome(np.asarray(Image.open(content)), truth))
    assert outcomes.count("wrong") == 0 and outcomes.count("refused") >= 69


INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
INTERPOLATIONS |= {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST}


@pytest.mark.parametrize("name", list(shapes()))
@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_a_resized_mask_is_refused_or_right(name, method):
    for white in (255, 254, 200, 128, 65535):
        drawing = shapes()[name].astype(np.uint16) * white
        for factor in (0.3, 0.45, 0.5, 0.7, 0.9, 1.1, 1.5, 2, 2.3, 3, 4):
            options = {"dsize": None, "fx": factor, "fy": factor}
            resized = cv2.resize(drawing, **options, interpolation=INTERPOLATIONS[method])
            values = np.unique(resized).size
            truth = resized if values <= 2 else drawing * 0
            expected = "right" if method == "nearest" or values <= 2 else "refused"
            assert outcome(resized, truth) == expected, (white, factor)


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos", "area"])
@pytest.mark.parametrize("name", ["touching, unlike numbers", "tissue", "crop", "255 objects"])
def test_resized_labels_are_refused_or_no_other_labels(name, method):
    labels = ACCEPTED[name].astype(np.uint16)
    for factor in (0.7, 0.9, 1.1, 1.5, 2.3, 3.5):
        options = {"dsize": None, "fx": factor, "fy": factor}
        resized = cv2.resize(labels, **options, interpolation=INTERPOLATIONS[method])
        nearest = cv2.resize(labels, **options, interpolation=cv2.INTER_NEAREST)
        try:
            read = to_mask("m", Stored(resized[..., None], 1, False))[0]
        except UserError:
            continue
        assert set(np.unique(read)) == set(np.unique(nearest)), factor  # no value was invented


@pytest.mark.parametrize("name", list(shapes()))
def test_soft_turned_and_quantised_masks_are_refused(name):
    mask = shapes()[name] * np.uint8(255)
    turned = cv2.getRotationMatrix2D((60, 60), 7, 1)
    soft = cv2.GaussianBlur(mask, (3, 3), 0)
    made = [soft, cv2.GaussianBlur(mask, (0, 0), 3)]
    rotated = cv2.warpAffine(mask, turned, mask.shape[::-1])
    if rotated.any():  # A shape in a corner has left the picture.
        made.append(rotated)
    palette = Image.fromarray(soft).convert("RGB").quantize(8)
    made += [np.asarray(palette.convert("L")), soft // 64 * 64]
    assert [outcome(pixels, mask * 0) for pixels in made] == ["refused"] * len(made)


# ---------------------------------------------------------------- transparency and colour tables


ALPHA = np.where(DISCS, 255, 0).astype(np.uint8)
WHITE = np.full(DISCS.shape, 255, np.uint8)


@pytest.mark.parametrize(
    ("grey", "alpha", "problem"),
    [
        (0 * WHITE, ALPHA, "is one colour, its shape is in the transparency"),
        (WHITE, ALPHA, "is one colour, its shape is in the transparency"),
        (0 * WHITE, 255 - ALPHA, "is one colour, its shape is in the transparency"),
        (ALPHA, 255 - ALPHA, "has foreground where it is fully transparent"),
        (ALPHA, np.where(np.arange(200) < 60, 0, WHITE), "has foreground where it is fully transparent"),
        (ALPHA, ALPHA, None),
        (ALPHA, WHITE, None),
        (ALPHA, 0 * WHITE, None),
        (ALPHA, WHITE // 2 + ALPHA // 4, None),
    ],
)
def test_transparency(tmp_path, grey, alpha, problem):
    path = save(tmp_path / "m.png", np.dstack([grey, grey, grey, alpha]))
    if problem:
        assert_user_error(lambda: read_mask(path), path, problem, "Save it without transparency")
    else:
        np.testing.assert_array_equal(read_mask(path), DISCS)


COLOURS = [(255, 255, 255), (200, 0, 0), (0, 150, 0), (50, 50, 200), (0, 0, 0)]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("numbers", "order", "problem"),
    [
        (LABELS, [0, 1, 2, 3], None),
        (LABELS, [4, 1, 2, 3], None),
        (LABELS, [4, 1, 1, 1], None),
        (LABELS > 0, [4, 1], None),
        (LABELS == 0, [1, 4], "the background seems to have the number 1"),
        ((LABELS - 1) % 4, [1, 2, 3, 0], "the background seems to have the number 3"),
    ],
)
def test_the_numbers_of_a_colour_table_are_the_labels(tmp_path, suffix, numbers, order, problem):
    picture = Image.fromarray(numbers.astype(np.uint8), "P")
    picture.putpalette([value for index in order for value in COLOURS[index]])
    picture.save(tmp_path / f"m{suffix}")
    path = tmp_path / f"m{suffix}"
    if problem:
        assert_user_error(lambda: read_labels(path), path, "colour table", problem, "Save it without a colour table")
    else:
        expected = numbers if numbers.max() > 1 else LABELS
        np.testing.assert_array_equal(read_labels(path), expected)


def test_a_colour_table_of_greys_shows_the_mask(tmp_path):
    picture = Image.fromarray((~DISCS).astype(np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), DISCS)


def test_decimal_labels_are_refused_with_a_remedy_for_labels(tmp_path):
    path = save_tiff(tmp_path / "m.tif", LABELS.astype(np.float32))
    assert_user_error(lambda: read_labels(path), path, "decimal numbers (float32)", "save labels as whole numbers")
