"""The augmentation keeps its promises: image and mask move together, labels survive, samples repeat."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tiledseg_utils.base.files import UserError
from tiledseg_utils.settings.presets import read_preset
from tiledseg_utils.tiles import augmentation
from tiledseg_utils.tiles.augmentation import TRANSFORMS, Augmentation, augment, sampling_grid

PHOTOMETRIC = ("stain", "color", "brightening", "blur", "sharpening", "noise", "stray_light", "cell_brightness")
GEOMETRIC = tuple(name for name in TRANSFORMS if name not in PHOTOMETRIC)
MAPPED = GEOMETRIC[3:]  # all but flips and quarter turns
SIZE = 96
ORIGINAL = Augmentation(**read_preset("original")["augmentation"])
VARIANTS = {"hflip": 1, "vflip": 1, "rotation": 1, "scale": 1, "distortion": 1, "elastic": 1}
VARIANTS |= {"quarter_turn": 3, "shear": 4, "barrel": 5}  # of 19, by transform; one was the tile itself


def always(*names, **parameters):
    return Augmentation(**dict.fromkeys(names, 1), **parameters)


def discs(height=SIZE, width=SIZE, count=12, seed=0):
    """Draw labelled discs, among them an id beyond 16 bits, and one that touches the border."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    for label in [*range(1, count), 70000]:
        cv2.circle(labels, (int(rng.integers(width)), int(rng.integers(height))), 9, label, -1)
    cv2.circle(labels, (0, 0), 9, 7, -1)
    return labels


def noise_image(height=SIZE, width=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(mask):
    return np.repeat(np.uint8(255) * (mask != 0)[..., None], 3, axis=2)


def grid_of(shape, chosen, seed=0):
    return sampling_grid(shape, chosen, np.random.default_rng(seed))


# Image and mask


@pytest.mark.parametrize("names", [*((name,) for name in GEOMETRIC), GEOMETRIC])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
@pytest.mark.parametrize("shape", [(96, 96), (97, 64)])
def test_image_and_mask_move_together(names, dtype, shape):
    mask = discs(*shape).astype(dtype)
    for index in range(4):
        image, moved = augment(grey(mask), mask, always(*names), 1, 2, index)
        assert image.shape == (*shape, 3) and image.dtype == np.uint8
        assert moved.shape == shape and moved.dtype == dtype
        assert (moved[image[..., 0] == 255] != 0).all() and (moved[image[..., 0] == 0] == 0).all()
        rim = (image[..., 0] > 127) != (moved != 0)
        assert rim.mean() < 0.02  # only pixels that lie half on a disc


@pytest.mark.parametrize("name", [*GEOMETRIC, "all"])
def test_no_label_is_invented(name):
    mask = discs()
    chosen = always(*(GEOMETRIC if name == "all" else (name,)))
    for index in range(5):
        _, moved = augment(noise_image(), mask, chosen, 0, 0, index)
        assert set(np.unique(moved)) <= set(np.unique(mask))


def test_every_pixel_comes_from_the_tile_even_beyond_the_border():
    mask = np.arange(1, 32 * 32 + 1, dtype=np.int32).reshape(32, 32) + 70000  # 0 would betray a constant border
    image = np.full((32, 32, 3), 200, np.uint8)
    moved_image, moved = augment(image, mask, always("scale", "rotation", scale_range=(0.25, 0.3)), 0, 0, 0)
    assert np.isin(moved, mask).all()
    assert (moved_image == 200).all()


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_colours_never_touch_the_mask(name):
    mask = discs()
    image, moved = augment(noise_image(), mask, always(name), 0, 0, 0)
    assert np.array_equal(moved, mask)
    assert not np.array_equal(image, noise_image())


def test_identity_is_the_default():
    assert all(getattr(Augmentation(), name) == 0 for name in TRANSFORMS)
    image, mask = augment(noise_image(), discs(), Augmentation(), 0, 0, 0)
    assert np.array_equal(image, noise_image()) and np.array_equal(mask, discs())
    assert grid_of((64, 64), Augmentation()) is None


@pytest.mark.parametrize("chosen", [Augmentation(), always(*TRANSFORMS), *(always(name) for name in TRANSFORMS)])
def test_inputs_stay_as_they_are(chosen):
    image, mask = noise_image(), discs()
    image.flags.writeable = mask.flags.writeable = False
    new_image, new_mask = augment(image, mask, chosen, 0, 0, 0)
    assert not np.shares_memory(image, new_image) and not np.shares_memory(mask, new_mask)
    new_image[:], new_mask[:] = 0, 0


def test_views_are_accepted():
    image, mask = noise_image(200, 200), discs(200, 200)
    window = np.s_[150:54:-1, 3:99]
    for chosen in (always("hflip"), always("rotation"), Augmentation()):
        expected = augment(image[window].copy(), mask[window].copy(), chosen, 0, 0, 0)
        for one, other in zip(augment(image[window], mask[window], chosen, 0, 0, 0), expected, strict=True):
            assert np.array_equal(one, other)


# Exact moves


@pytest.mark.parametrize(("name", "flip"), [("hflip", np.fliplr), ("vflip", np.flipud)])
def test_flips_are_exact_and_undo_themselves(name, flip):
    image, mask = noise_image(61, 96), discs(61, 96)
    once = augment(image, mask, always(name), 0, 0, 0)
    assert np.array_equal(once[0], flip(image)) and np.array_equal(once[1], flip(mask))
    twice = augment(*once, always(name), 0, 0, 0)
    assert np.array_equal(twice[0], image) and np.array_equal(twice[1], mask)


def test_quarter_turns_are_exact_and_all_occur():
    image, mask = noise_image(), discs()
    seen = set()
    for index in range(40):
        turned = augment(image, mask, always("quarter_turn"), 0, 0, index)
        (k,) = (k for k in (1, 2, 3) if np.array_equal(turned[0], np.rot90(image, k)))
        assert np.array_equal(turned[1], np.rot90(mask, k))
        assert np.array_equal(np.rot90(turned[0], -k), image)
        seen.add(k)
    assert seen == {1, 2, 3}


def test_a_tile_that_is_not_square_turns_by_half():
    image, mask = noise_image(61, 96), discs(61, 96)
    for index in range(10):
        turned = augment(image, mask, always("quarter_turn"), 0, 0, index)
        assert np.array_equal(turned[0], image[::-1, ::-1]) and np.array_equal(turned[1], mask[::-1, ::-1])


# The map


@pytest.mark.parametrize("size", [64, 65])
@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotation_by_quarters_equals_rot90(size, angle):
    """A centre of W // 2 instead of (W - 1) / 2 would shift the result by a pixel."""
    image, mask = noise_image(size, size), discs(size, size)
    turned, moved = augment(image, mask, always("rotation", rotation_angles=[angle]), 0, 0, 0)
    inside = np.s_[2:-2, 2:-2]
    expected = np.rot90(image, angle // 90)
    assert np.abs(turned[inside].astype(int) - expected[inside]).max() <= 2
    assert np.array_equal(moved[inside], np.rot90(mask, angle // 90)[inside])


@pytest.mark.parametrize("shape", [(64, 64), (33, 80)])
def test_linear_maps_are_what_they_say(shape):
    rows, columns = np.indices(shape, dtype=float)
    y, x = rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2
    map_x, map_y = grid_of(shape, always("scale", scale_range=(0.8, 0.8)))
    assert np.allclose(map_x - (shape[1] - 1) / 2, x / 0.8, atol=1e-4)
    assert np.allclose(map_y - (shape[0] - 1) / 2, y / 0.8, atol=1e-4)
    map_x, map_y = grid_of(shape, always("shear", shear_range=(0.1, 0.1)))
    assert np.allclose(map_x, columns, atol=1e-4) and np.allclose(map_y, rows - 0.1 * x, atol=1e-4)
    assert map_x.dtype == map_y.dtype == np.float32 and map_x.shape == map_y.shape == shape


def test_ranges_are_covered():
    centre = (8 - 1) / 2
    shrink = [
        1 / (grid_of((8, 8), always("scale", scale_range=(0.5, 2)), seed)[0][0, 7] - centre) for seed in range(300)
    ]
    factors = np.array(shrink) * centre
    assert 0.5 <= factors.min() < 0.55 and 1.8 < factors.max() <= 2 + 1e-5
    assert 0.4 < (factors < 1).mean() < 0.6  # halving is as likely as doubling
    chosen = always("rotation", rotation_angles=(10, 200))
    assert len({grid_of((8, 8), chosen, seed)[0].tobytes() for seed in range(30)}) == 2


def displacement(shape, chosen, seed=0):
    map_x, map_y = grid_of(shape, chosen, seed)
    rows, columns = np.indices(shape)
    return map_x - columns, map_y - rows


@pytest.mark.parametrize(("alpha", "sigma"), [(1300, 8), (112, 8), (100, 4), (600, 12.5)])
def test_elastic_amplitude_matches_the_direct_computation(alpha, sigma):
    fields = [
        displacement((256, 256), always("elastic", elastic_alpha=alpha, elastic_sigma=sigma), s) for s in range(12)
    ]
    rng = np.random.default_rng(1)
    direct = [ndimage.gaussian_filter(rng.uniform(-1, 1, (256, 256)), sigma, mode="wrap") * alpha for _ in range(24)]
    assert np.std(fields) == pytest.approx(np.std(direct), rel=0.06)
    assert np.std(direct) == pytest.approx(0.163 * alpha / sigma, rel=0.06)  # so both are right, not just alike
    borders = [field[[0, -1]] for pair in fields for field in pair]
    assert np.std(borders) == pytest.approx(np.std(fields), rel=0.2)


def test_elastic_field_is_as_smooth_as_sigma_says():
    """The correlation of smoothed white noise at distance d is exp(-d**2 / 4 sigma**2)."""
    fields = np.array([displacement((256, 256), always("elastic", elastic_sigma=8), seed) for seed in range(10)])
    for distance in (4, 8, 16):
        for one, other in [
            (fields[..., distance:], fields[..., :-distance]),
            (fields[..., distance:, :], fields[..., :-distance, :]),
        ]:
            measured = np.corrcoef(one.ravel(), other.ravel())[0, 1]
            assert measured == pytest.approx(np.exp(-(distance**2) / (4 * 8**2)), abs=0.04)


@pytest.mark.parametrize("name", ["elastic", "distortion"])
def test_rows_and_columns_are_displaced_independently(name):
    chosen = always(name, distortion_sigma=8)
    dx, dy = np.concatenate([np.reshape(displacement((128, 128), chosen, seed), (2, -1)) for seed in range(16)], axis=1)
    assert abs(np.corrcoef(dx, dy)[0, 1]) < 0.15


@pytest.mark.parametrize("shape", [(256, 256), (100, 181)])
@pytest.mark.parametrize("size", [0.02, 0.05])
def test_distortion_peaks_at_its_size(shape, size):
    for field in displacement(shape, always("distortion", distortion_size=size)):
        assert np.abs(field).max() == pytest.approx(size * shape[1], rel=0.01)


@pytest.mark.parametrize("shape", [(201, 201), (150, 200)])
@pytest.mark.parametrize(("lens", "inwards"), [("barrel", True), ("pincushion", False)])
def test_lens_moves_only_its_inside(lens, inwards, shape):
    row, column, radius = 0.4 * (shape[0] - 1), 0.6 * (shape[1] - 1), 0.3 * shape[1]
    dx, dy = displacement(shape, always(lens, lens_centres=[[0.4, 0.6]], lens_radius=0.3))
    rows, columns = np.indices(shape)
    distance = np.hypot(rows - row, columns - column)
    assert np.abs([dx, dy])[:, distance > radius + 3].max() < 1e-4
    assert np.abs([dx, dy])[:, np.abs(distance - radius) < 1].max() < 0.05
    middle = np.round([row, column]).astype(int)
    assert np.hypot(dx, dy)[tuple(middle)] < 1.5
    between = (distance > 0.1 * radius) & (distance < 0.9 * radius)
    outwards = (dx * (columns - column) + dy * (rows - row))[between] / distance[between]
    assert (outwards < 0).all() if inwards else (outwards > 0).all()
    factor = np.sin(np.pi / 2 * distance[between] / radius) ** (0.3 if inwards else -0.3)
    assert np.allclose(outwards, (factor - 1) * distance[between], atol=0.1)


def test_one_lens_per_sample():
    chosen = always("barrel", lens_centres=ORIGINAL.lens_centres, lens_radius=0.1)
    moved = [np.argmax(np.hypot(*displacement((100, 100), chosen, seed))) for seed in range(60)]
    assert 5 <= len(set(moved)) <= 10  # five centres; the two strongest pixels may tie


def test_everything_is_one_map():
    """The image that `augment` returns is the input read once through `sampling_grid`."""
    image, mask = cv2.GaussianBlur(noise_image(), (0, 0), 2), discs()
    chosen = always(*MAPPED)
    for index in range(3):
        grid = sampling_grid(mask.shape, chosen, np.random.default_rng((5, 6, index)))
        moved, labels = augment(image, mask, chosen, 5, 6, index)
        for channel in range(3):
            direct = ndimage.map_coordinates(image[..., channel].astype(float), grid[::-1], order=1, mode="mirror")
            assert np.abs(moved[..., channel] - direct).max() < 3  # OpenCV rounds places to 1/32 pixel
        direct = ndimage.map_coordinates(mask, grid[::-1], order=0, mode="mirror")
        assert (labels == direct).mean() > 0.99


def test_order_is_lens_and_tissue_first_then_linear():
    shape, chosen = (80, 80), always("elastic", "scale", scale_range=(0.5, 0.5))
    bent, both = displacement(shape, always("elastic"), 3), grid_of(shape, chosen, 3)
    rows, columns = np.indices(shape)
    for target, axis, field in zip(both, (columns, rows), bent, strict=True):
        assert np.allclose(target, 39.5 + 2 * (axis - 39.5 + field), atol=1e-3)


# Colours


def ramp():
    return np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)


@pytest.mark.parametrize("beta", [-255, -100, 0, 100, 255])
@pytest.mark.parametrize("alpha", [0.5, 1.2, 4])
def test_brightening_saturates(alpha, beta):
    chosen = always("brightening", brightening_alpha=(alpha, alpha), brightening_beta=(beta, beta))
    bright, _ = augment(ramp(), np.zeros((4, 256), bool), chosen, 0, 0, 0)
    assert (np.diff(bright[0, :, 0].astype(int)) >= 0).all()  # a wrap-around would step down
    assert np.abs(bright[0, :, 0] - np.clip(alpha * np.arange(256) + beta, 0, 255)).max() <= 0.5
    if beta >= 0:
        assert np.array_equal(bright, cv2.convertScaleAbs(ramp(), alpha=alpha, beta=beta))


@pytest.mark.parametrize("share", [0, 0.2, 1])
def test_stray_light_pales_what_is_dark_and_leaves_the_background(share):
    hazy, _ = augment(
        ramp(), np.zeros((4, 256), bool), always("stray_light", stray_light_share=(share, share)), 0, 0, 0
    )
    assert np.abs(hazy[0, [0, 220], 0] - [220.0 * share, 220]).max() <= 0.5
    assert np.abs(np.ptp(hazy) - 255 * (1 - share)) <= 1
    assert (np.diff(hazy[0, :, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("name", PHOTOMETRIC)
@pytest.mark.parametrize("level", [0, 255])
def test_extremes_do_not_wrap_around(name, level):
    """Strong settings leave white rather white, and black rather black; one wrap would be 200 levels off."""
    chosen = always(
        name, noise_sigma=(20, 20), sharpening_k=10, color_value=(1, 1.3) if level else (0.7, 1),
        stain_shift=(-0.5, 0.1) if level else (0, 0.5), brightening_alpha=(0.9, 1.2), brightening_beta=(-30, 30),
    )  # fmt: skip
    image = np.full((32, 32, 3), level, np.uint8)
    for index in range(5):
        new, _ = augment(image, np.zeros((32, 32), bool), chosen, 0, 0, index)
        assert np.abs(new.astype(int) - level).max() < 100


def test_sharpening_is_the_published_kernel():
    image = cv2.GaussianBlur(noise_image(), (0, 0), 3)
    sharp, _ = augment(image, discs(), always("sharpening", sharpening_k=0.5), 0, 0, 0)
    sums = np.stack([ndimage.uniform_filter(image[..., c].astype(float), 3, mode="mirror") * 9 for c in range(3)], -1)
    assert np.abs(sharp - np.clip(image + 0.5 * (9 * image.astype(float) - sums), 0, 255)).max() <= 0.51


def hue_of(rgb):
    return int(cv2.cvtColor(np.full((1, 1, 3), rgb, np.uint8), cv2.COLOR_RGB2HSV_FULL)[0, 0, 0]) * 360 / 256


@pytest.mark.parametrize("shift", [-170, -60, -10, 10, 60, 170])
@pytest.mark.parametrize("rgb", [(255, 5, 5), (255, 0, 40), (10, 200, 90), (60, 20, 220)])
def test_hue_is_circular(rgb, shift):
    chosen = always("color", color_hue=(shift, shift), color_saturation=(1, 1), color_value=(1, 1))
    image, _ = augment(np.full((8, 8, 3), rgb, np.uint8), np.zeros((8, 8), bool), chosen, 0, 0, 0)
    error = (hue_of(image[0, 0]) - hue_of(np.uint8(rgb)) - shift + 180) % 360 - 180
    assert abs(error) < 4


def test_half_turns_of_hue_agree():
    def turned(shift):
        return augment(noise_image(), discs(), always("color", color_hue=(shift, shift)), 0, 0, 0)[0]

    assert np.array_equal(turned(180), turned(-180))


def test_stain_identity_and_scale():
    image = noise_image()
    same, _ = augment(image, discs(), always("stain", stain_scale=(1, 1), stain_shift=(0, 0)), 0, 0, 0)
    assert np.abs(same.astype(int) - image).max() <= 1
    deep, _ = augment(image, discs(), always("stain", stain_scale=(2, 2), stain_shift=(0, 0)), 0, 0, 0)
    assert np.abs(deep - (image / 255.0) ** 2 * 255).max() <= 2  # twice the stain, the square of the light
    eosin = 255 * np.exp(-np.array([0.07, 0.99, 0.11]))
    tile = np.broadcast_to(np.rint(eosin).astype(np.uint8), (8, 8, 3))
    drawn = augment(tile, np.zeros((8, 8), bool), always("stain", stain_shift=(0, 0), stain_scale=(0.5, 1.5)), 0, 0, 3)[
        0
    ]
    direction = -np.log(drawn[0, 0] / 255.0)
    assert np.allclose(direction / np.linalg.norm(direction), [0.07, 0.99, 0.11], atol=0.03)  # more or less, but eosin


def test_noise_and_blur_have_the_sigma_they_say():
    flat = np.full((256, 256, 3), 128, np.uint8)
    noisy, _ = augment(flat, np.zeros((256, 256), bool), always("noise", noise_sigma=(8, 8)), 0, 0, 0)
    assert noisy.std() == pytest.approx(8, rel=0.03) and noisy.mean() == pytest.approx(128, abs=0.1)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02
    blurred, _ = augment(noise_image(), discs(), always("blur", blur_sigma=(2, 2)), 0, 0, 0)
    assert np.array_equal(blurred, cv2.GaussianBlur(noise_image(), (0, 0), 2))


# Chance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 1000), st.integers(0, 10**6), st.permutations(range(3)))
def test_a_sample_depends_on_its_key_alone(seed, epoch, index, order):
    image, mask, chosen = noise_image(32, 32), discs(32, 32), always(*TRANSFORMS)
    keys = [(seed, epoch, index), (seed, epoch, index + 1), (seed, epoch + 1, index)]
    straight = [augment(image, mask, chosen, *key) for key in keys]
    shuffled = {i: augment(image, mask, chosen, *keys[i]) for i in order}
    for i in range(3):
        assert np.array_equal(straight[i][0], shuffled[i][0]) and np.array_equal(straight[i][1], shuffled[i][1])
    assert len({image.tobytes() for image, _ in straight}) == 3


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(TRANSFORMS)), st.integers(0, 50))
def test_properties_hold_for_any_choice_of_transforms(names, index):
    mask = discs(40, 56)
    before = mask.copy()
    image, moved = augment(noise_image(40, 56), mask, always(*names), 0, 0, index)
    assert image.shape == (40, 56, 3) and image.dtype == np.uint8
    assert moved.shape == (40, 56) and moved.dtype == np.int32 and set(np.unique(moved)) <= set(np.unique(mask))
    assert np.array_equal(mask, before)


@pytest.mark.parametrize("off", TRANSFORMS)
def test_switching_one_off_leaves_the_draws_of_the_others(off):
    def draws(names):
        drawn = augmentation._draw(always(*names), np.random.default_rng((1, 2, 3)))
        return {name: stream.random(3).tolist() for name, stream in drawn.items()}

    everything = draws(TRANSFORMS)
    others = [name for name in TRANSFORMS if name != off]
    assert draws(others) == {name: everything[name] for name in others}


def test_switching_off_shows_in_the_sample():
    chosen = always("rotation", "elastic", "brightening", "hflip")
    grids = [grid_of((64, 64), dataclasses.replace(chosen, **{name: 0})) for name in ("brightening", "hflip")]
    assert all(np.array_equal(grid, grid_of((64, 64), chosen)) for grid in grids)


def test_probabilities_are_kept():
    chosen, image, mask = Augmentation(hflip=0.25, noise=0.5), noise_image(8, 8), np.zeros((8, 8), np.int32)
    mask[:, 0] = 1
    image[:, :, :] = 100
    samples = [augment(image, mask, chosen, 0, 0, index) for index in range(1000)]
    flipped, noisy = np.array([(m[0, 0] == 0, (i != 100).any()) for i, m in samples]).T
    assert flipped.mean() == pytest.approx(0.25, abs=0.05) and noisy.mean() == pytest.approx(0.5, abs=0.06)
    assert (flipped & noisy).mean() == pytest.approx(0.125, abs=0.04)


def test_original_leaves_one_sample_in_19_unchanged():
    exact = {name: 1 - 19 ** (-VARIANTS.get(name, 0) / 18) for name in TRANSFORMS}
    assert np.prod(1 - np.array(list(exact.values()))) == pytest.approx(1 / 19)
    assert {name: getattr(ORIGINAL, name) for name in TRANSFORMS} == pytest.approx(exact, abs=1e-4)
    assert not any(getattr(ORIGINAL, name) for name in PHOTOMETRIC)
    assert ORIGINAL.lens_centres == ((0.3, 0.3), (0.3, 0.7), (0.5, 0.5), (0.7, 0.3), (0.7, 0.7))
    assert (ORIGINAL.scale_range, ORIGINAL.rotation_angles) == ((0.8, 0.8), (210.0,))
    assert (ORIGINAL.lens_radius, ORIGINAL.lens_amount, len(ORIGINAL.lens_centres)) == (0.3, 0.3, 5)
    assert (ORIGINAL.distortion_sigma, ORIGINAL.distortion_size, ORIGINAL.shear_range) == (40, 0.02, (-0.1, 0.1))
    assert (ORIGINAL.elastic_alpha, ORIGINAL.elastic_sigma) == (112, 8)


def test_sibling_leaves_one_sample_in_20_unchanged():
    sibling = Augmentation(**read_preset("sibling")["augmentation"])
    variants = VARIANTS | {"distortion": 2}
    exact = {name: 1 - 20 ** (-variants.get(name, 0) / 19) for name in TRANSFORMS}
    assert {name: getattr(sibling, name) for name in TRANSFORMS} == pytest.approx(exact, abs=1e-4)


def test_sizes_and_sigmas_are_drawn_from_their_lists():
    def peaks(**settings):
        """The largest displacement of each of 24 samples, as a share of the width."""
        found = []
        for index in range(24):
            map_x, _ = grid_of((64, 64), always("distortion", **settings), index)
            found.append(np.abs(map_x - np.arange(64)).max() / 64)
        return np.array(found)

    alone, listed = peaks(distortion_size=0.02), peaks(distortion_sizes=[0.02, 0.06])
    assert alone.min() > 0.019 and alone.max() < 0.021
    small, large = listed < 0.03, listed > 0.05
    assert (small | large).all() and 4 < small.sum() < 20
    elastic = [
        grid_of((64, 64), always("elastic", elastic_sigmas=sigmas, elastic_sigma=8))[0] for sigmas in ([8], [16], [])
    ]
    np.testing.assert_array_equal(elastic[2], grid_of((64, 64), always("elastic", elastic_sigma=8))[0])
    assert np.abs(np.diff(elastic[1])).std() < np.abs(np.diff(elastic[0])).std()  # Neighbours move together farther.


def test_original_never_tears_the_tissue():
    """The area of every pixel of an elastic map stays positive; with the published alpha of 1300 it does not."""

    def folded(alpha):
        map_x, map_y = grid_of((256, 256), always("elastic", elastic_alpha=alpha))
        (xy, xx), (yy, yx) = np.gradient(map_x), np.gradient(map_y)
        return (xx * yy - xy * yx <= 0).mean()

    assert folded(ORIGINAL.elastic_alpha) == 0 and folded(1300) > 0.1


# Settings


def test_from_dict_reads_what_yaml_gives():
    read = Augmentation.from_dict({"hflip": 1, "scale_range": [0.64, 1.57], "lens_centres": [[0.3, 0.7], [0.5, 0.5]]})
    assert read.hflip == 1.0 and read.scale_range == (0.64, 1.57) and read.lens_centres == ((0.3, 0.7), (0.5, 0.5))
    assert hash(read) == hash(Augmentation.from_dict(dataclasses.asdict(read)))
    assert Augmentation.from_dict({}) == Augmentation()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"hflp": 0.5}, r"hflp: is not known. Did you mean hflip\? Valid are hflip, vflip"),
        ({"xyzzy": 0.5}, r"xyzzy: is not known. Valid are hflip"),
        ({3: 0.5}, "3: is not known"),
        (None, "augmentation: has no value. Give names with values"),
        ([("hflip", 1)], "is a list. Give names with values"),
        ({"hflip": 1.5}, "augmentation.hflip: 1.5 is out of range. Give a number from 0 to 1"),
        ({"hflip": -0.1}, "-0.1 is out of range"),
        ({"hflip": float("nan")}, "nan is not a finite number"),
        ({"hflip": True}, "True is a truth value"),
        ({"hflip": "often"}, "'often' is text"),
        ({"hflip": None}, "has no value"),
        ({"hflip": [0.5]}, "is a list"),
        ({"scale_range": 0.8}, "0.8 is a decimal number. Give two numbers, each a number from 0.25 to 4"),
        ({"scale_range": [0.8]}, "1 entries"),
        ({"scale_range": [0.8, 1, 1.2]}, "3 entries"),
        ({"scale_range": [1.2, 0.8]}, "low end 1.2 lies above the high end 0.8"),
        ({"scale_range": [0, 1]}, "0 is out of range"),
        ({"scale_range": ["a", 1]}, "'a' is text"),
        ({"rotation_angles": 90}, "90 is a whole number. Give a list"),
        ({"rotation_angles": [90, 400]}, "400 is out of range. Give a list, each a number from -360 to 360"),
        ({"lens_centres": []}, r"\[\] has 0 entries. Give a list of pairs, each a number from 0 to 1"),
        ({"lens_centres": [0.5, 0.5]}, "0.5 is a decimal number. Give a list of pairs"),
        ({"lens_centres": [[0.5, 0.5, 0.5]]}, "3 entries"),
        ({"lens_centres": [[0.5, 1.5]]}, "is out of range"),
        ({"lens_amount": 1}, "is out of range"),
        ({"lens_radius": 0}, "is out of range"),
        ({"elastic_sigma": 0}, "is out of range"),
        ({"distortion_sigma": -1}, "is out of range"),
        ({"elastic_alpha": float("inf")}, "inf is not a finite number"),
        ({"blur_sigma": [0, 1]}, "is out of range"),
        ({"shear_range": [-2, 0]}, "is out of range"),
        ({"color_hue": [-200, 0]}, "is out of range"),
    ],
)
def test_mistakes_are_explained(mapping, message):
    with pytest.raises(UserError, match=message):
        Augmentation.from_dict(mapping)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (noise_image().astype(np.float32), discs()),
        (noise_image()[..., 0], discs()),
        (noise_image()[..., :2], discs()),
        (noise_image(), discs()[1:]),
        (noise_image(), discs().astype(np.int64)),
        (noise_image(), discs().astype(np.float32)),
    ],
)
def test_wrong_arrays_are_refused(image, mask):
    with pytest.raises(ValueError, match="must be"):
        augment(image, mask, Augmentation(), 0, 0, 0)


def test_some_cells_change_their_brightness_and_the_background_never_does():
    image, labels = np.full((40, 40, 3), 100, np.uint8), np.zeros((40, 40), np.int32)
    for number in range(16):
        row, column = 10 * (number // 4), 10 * (number % 4)
        labels[row : row + 8, column : column + 8] = number + 1
    settings = Augmentation(cell_brightness=1, cell_brightness_share=0.5, cell_brightness_range=(0.5, 2))
    changed, _ = augment(image, labels, settings, seed=1, epoch=0, index=0)
    factors = [np.unique(changed[labels == number]) for number in range(1, 17)]
    assert all(len(values) == 1 for values in factors)  # each cell as one
    values = np.concatenate(factors)
    assert 4 <= np.count_nonzero(values != 100) <= 12 and values.min() >= 50 and values.max() <= 200
    assert len(np.unique(values)) > 4 and (changed[labels == 0] == 100).all()
