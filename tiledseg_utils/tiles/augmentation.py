"""Random changes to a tile and its mask that leave the mask true.

The way of a sample: flips and quarter turns (exact) -> every other geometric transform in one resampling -> colours.

* One grid. All geometric transforms but the exact ones compose into one map that says for each output pixel where to
  read. Image and mask are read through the same map, so they cannot disagree, and interpolation blurs only once.
* The image is read bilinearly, the mask by nearest neighbour, since the mean of two labels is not a label.
* Beyond the border both are mirrored, so the mask stays true there too, and no invented colour enters.
* Images are RGB throughout: hue is an angle, and the mean of two reds on either side of 0, taken as numbers, is cyan.
* A sample is a function of (seed, epoch, index), and each transform draws from a random stream of its own: switching
  one off leaves the draws of the others as they were.
"""

from math import ceil, cos, exp, radians, sin
from statistics import NormalDist

import cv2
import numpy as np

from ..data.channels import Channels, each_channel
from ..settings.augmentation import CHANCE, Augmentation
from ..settings.channel_rules import check_channel_augmentation
from ..settings.schema import fields_of, unit_of

# Also the order of the random streams: a new transform goes last in the class, or the draws of those after it change.
TRANSFORMS = tuple(name for name in fields_of(Augmentation) if unit_of(Augmentation, name) == CHANCE)


def augment(image, mask, settings: Augmentation, seed: int, epoch: int, index: int, channels: Channels | None = None):
    """Change copies of an image and its mask at random, the mask always along with the image.

    Args:
        image: (H, W, 3) uint8 RGB, or `channels` as they are stored.
        mask: (H, W) bool, uint8 or int32 labels.
        settings: what may happen, and how often.
        seed, epoch, index: integers from 0; the result depends on nothing else, in particular not on earlier calls.
        channels: of the image if it is not RGB. A grey level is then a 255th of what lies between the values that
            become 0 and 1 in a channel.

    Returns:
        image, mask: of the same shapes and dtypes as before. The mask gets no new labels.

    Raises:
        ValueError: a shape or dtype is not as above, or a seed is negative.
    """
    count, dtype = (3, "uint8") if channels is None else (len(channels), channels.dtype)
    if image.dtype != dtype or image.ndim != 3 or image.shape[2] != count:
        raise ValueError(f"the image must be (H, W, {count}) {dtype}, not {image.shape} {image.dtype}")
    if mask.dtype not in (np.bool_, np.uint8, np.int32) or mask.shape != image.shape[:2]:
        raise ValueError(f"the mask must be {image.shape[:2]} bool, uint8 or int32, not {mask.shape} {mask.dtype}")
    drawn = _draw(settings, np.random.default_rng((seed, epoch, index)))
    labels = np.array(mask, order="C").view(np.uint8).reshape(*mask.shape, -1)  # as bytes: OpenCV cannot remap int32
    image, labels = _flip_and_turn((np.array(image, order="C"), labels), drawn)
    image = image.reshape(*image.shape[:2], count)  # OpenCV drops the axis of a single channel.
    grid = _grid(image.shape[:2], settings, drawn)
    if grid is not None:
        border = {"borderMode": cv2.BORDER_REFLECT_101}
        image = each_channel(lambda array: cv2.remap(array, *grid, cv2.INTER_LINEAR, **border), image)
        labels = cv2.remap(labels, *grid, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    mask = labels.reshape(mask.shape[0], -1).view(mask.dtype)
    if channels is not None:
        return _change_channels(image, mask, settings, drawn, channels), mask
    if "cell_brightness" in drawn:
        image = _change_cells(image, mask, settings, drawn["cell_brightness"])
    return _recolor(image, settings, drawn), mask


def sampling_grid(shape: tuple[int, int], settings: Augmentation, rng: np.random.Generator):
    """Draw the map of all geometric transforms but flips and quarter turns, which come before it.

    With `rng = np.random.default_rng((seed, epoch, index))`, it is the map that `augment` uses for that sample.

    Args:
        shape: height and width in pixels.
        settings: what may happen, and how often.
        rng: source of the draws; a second call with the same generator draws another sample.

    Returns:
        map_x, map_y: (H, W) float32, the column and row in the input that each output pixel reads, pixel centres at
        whole numbers; or None if no transform was drawn that needs a map.
    """
    return _grid(shape, settings, _draw(settings, rng))


def _draw(settings, rng):
    """Decide which transforms happen: a dict from their names to the generators for their parameters."""
    streams = zip(TRANSFORMS, rng.spawn(len(TRANSFORMS)), strict=True)
    return {name: stream for name, stream in streams if stream.random() < getattr(settings, name)}


def _flip_and_turn(arrays, drawn):
    """Apply the transforms that only move whole pixels, exactly, to arrays of the same height and width."""
    for name, axis in (("hflip", 1), ("vflip", 0)):
        if name in drawn:
            arrays = [cv2.flip(array, axis) for array in arrays]
    if "quarter_turn" in drawn:
        height, width = arrays[0].shape[:2]
        turns = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
        turn = turns[drawn["quarter_turn"].integers(3)] if height == width else cv2.ROTATE_180
        arrays = [cv2.rotate(array, turn) for array in arrays]
    return arrays


def _grid(shape, settings, drawn):
    """Compose the map from output back to input pixels, x -> M (x + bend(x)), counted from the centre of the tile."""
    bends = drawn.keys() & {"barrel", "pincushion", "distortion", "elastic"}
    if not bends and not drawn.keys() & {"rotation", "scale", "shear"}:
        return None
    inverse = np.linalg.inv(_linear_map(settings, drawn)).astype(np.float32)
    y, x = _centred(shape)
    maps = [row[0] * x + (row[1] * y + (size - 1) / 2) for row, size in zip(inverse, shape[::-1], strict=True)]
    if bends:
        dx, dy = _bend(shape, settings, drawn)
        for target, row in zip(maps, inverse, strict=True):
            target += cv2.resize(row[0] * dx + row[1] * dy, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return tuple(maps)


def _centred(shape, steps=(1, 1)):
    """Return y as (H, 1) and x as (1, W), float32, from the centre: between the two middle pixels if a side is even."""
    axes = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * step for n, step in zip(shape, steps, strict=True))
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def _bend(shape, settings, drawn):
    """Compose what is not linear: the displacement dx, dy in pixels, at the centres of blocks of 2 x 2 pixels.

    Displacements vary over sigma >= 4 pixels, so a quarter of the points is enough, and takes a quarter of the time.
    """
    blocks = [(size + 1) // 2 for size in shape]
    start_y, start_x = _centred(blocks, [size / count for size, count in zip(shape, blocks, strict=True)])
    x, y = (np.broadcast_to(start, blocks).copy() for start in (start_x, start_y))
    sigma = _one_of(settings.elastic_sigmas, settings.elastic_sigma, drawn.get("elastic"))
    size = _one_of(settings.distortion_sizes, settings.distortion_size, drawn.get("distortion"))
    for axis in (x, y):
        if "elastic" in drawn:
            axis += settings.elastic_alpha / 2 * _smooth_noise(blocks, sigma / 2, drawn["elastic"])
        if "distortion" in drawn:
            noise = _smooth_noise(blocks, settings.distortion_sigma / 2, drawn["distortion"])
            axis += size * shape[1] / np.abs(noise).max() * noise
    # A lens takes a point at distance d from its middle to d * sin(pi d / 2R)**amount: smooth at the rim, one to one.
    for lens, amount in (("barrel", settings.lens_amount), ("pincushion", -settings.lens_amount)):
        if lens in drawn:
            row, column = settings.lens_centres[drawn[lens].integers(len(settings.lens_centres))]
            dx, dy = x - (column - 0.5) * (shape[1] - 1), y - (row - 0.5) * (shape[0] - 1)
            reach = np.clip(cv2.magnitude(dx, dy) / (settings.lens_radius * shape[1]), 1e-6, 1)
            pull = np.sin(reach * (np.pi / 2)) ** amount - 1
            x, y = x + dx * pull, y + dy * pull
    return x - start_x, y - start_y


def _one_of(listed, otherwise, rng):
    """Draw one of some values; `otherwise`, without a draw, if there are none or nothing is drawn at all."""
    return listed[rng.integers(len(listed))] if listed and rng is not None else otherwise


def _smooth_noise(shape, sigma, rng):
    """Draw white noise, uniform in (-1, 1), smoothed by a Gaussian: (H, W) float32 of std 0.163 / sigma.

    Smoothing leaves nothing finer than sigma, so the noise is made in cells of about sigma/2 and enlarged: by the
    sampling theorem this loses below 1e-8 of the amplitude, and cubic enlargement adds an error of 2 %. A cell is a
    mean of pixels, so its std is less by the root of their number. The margin makes borders as lively as the middle.
    """
    cells = np.ceil(np.divide(shape, max(1, int(sigma / 2)))).astype(int)
    step_y, step_x = shape / cells
    margin = ceil(3 * sigma / min(step_y, step_x))
    noise = (2 * rng.random(cells + 2 * margin, dtype=np.float32) - 1) / np.sqrt(step_x * step_y, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma / step_x, sigmaY=sigma / step_y)
    return cv2.resize(noise[margin:-margin, margin:-margin], shape[::-1], interpolation=cv2.INTER_CUBIC)


def _linear_map(settings, drawn):
    """Compose scale, then shear, then rotation: the (2, 2) matrix that takes an input (x, y) to its output."""
    matrix = np.eye(2)
    if "scale" in drawn:
        matrix *= exp(drawn["scale"].uniform(*np.log(settings.scale_range)))
    if "shear" in drawn:
        matrix = np.array([[1, 0], [drawn["shear"].uniform(*settings.shear_range), 1]]) @ matrix
    if "rotation" in drawn:
        angles, stream = settings.rotation_angles, drawn["rotation"]
        angle = radians(angles[stream.integers(len(angles))] if angles else stream.uniform(*settings.rotation_range))
        matrix = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]]) @ matrix  # y counts downwards
    return matrix


def _change_channels(image, mask, settings, drawn, channels):
    """Apply the changes that need no colours to channels as they are stored; in grey levels, each for itself.

    Raises:
        UserError: a change was asked for that needs red, green and blue.
    """
    check_channel_augmentation(settings)
    if not drawn.keys() & {"cell_brightness", "brightening", "blur", "noise", "sharpening"}:
        return image
    low = np.array(channels.low, np.float32)
    level = (np.array(channels.high, np.float32) - low) / 255
    grey = (image - low) / level
    if "cell_brightness" in drawn:
        grey *= _cell_factors(mask, settings, drawn["cell_brightness"])[..., None]
    if "brightening" in drawn:  # Each channel has a lamp of its own.
        stream, count = drawn["brightening"], len(channels)
        alpha = stream.uniform(*settings.brightening_alpha, count)
        grey = grey * alpha.astype(np.float32) + stream.uniform(*settings.brightening_beta, count).astype(np.float32)
    if "blur" in drawn:
        sigma = drawn["blur"].uniform(*settings.blur_sigma)
        grey = each_channel(lambda array: cv2.GaussianBlur(array, (0, 0), sigma), grey)
    if "noise" in drawn:
        stream = drawn["noise"]
        grey += stream.uniform(*settings.noise_sigma) * stream.standard_normal(grey.shape, np.float32)
    if "sharpening" in drawn:
        kernel = _sharpening_kernel(settings)
        grey = each_channel(lambda array: cv2.filter2D(array, -1, kernel), grey)
    return np.rint(grey * level + low).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


def _change_cells(image, mask, settings, rng):
    """Multiply the grey levels of some objects by a factor each, so that brightness alone does not tell a nucleus.

    After the winner of the NeurIPS 2022 challenge (Lee et al., MEDIAR, arXiv:2212.03465). All of a mask without labels
    is one object.
    """
    factors = _cell_factors(mask, settings, rng)
    return np.clip(np.rint(image * factors[..., None]), 0, 255).astype(np.uint8)


def _cell_factors(mask, settings, rng):
    """What to multiply each pixel by, (H, W) float32: 1 in the background and in objects that stay as they are."""
    numbers, places = np.unique(mask, return_inverse=True)
    factors = np.exp(rng.uniform(*np.log(settings.cell_brightness_range), len(numbers)))
    changes = (rng.random(len(numbers)) < settings.cell_brightness_share) & (numbers > 0)
    return np.where(changes, factors, 1).astype(np.float32)[places.reshape(mask.shape)]


def _recolor(image, settings, drawn):
    """Apply the colour transforms in their natural order (specimen, light, lens, camera), saturating at 0 and 255."""
    if "stain" in drawn:
        image = _restain(image, settings, drawn["stain"])
    if "stray_light" in drawn:
        share = drawn["stray_light"].uniform(*settings.stray_light_share)
        image = cv2.LUT(image, _to_grey(np.arange(256) + share * (settings.stray_light_grey - np.arange(256))))
    if "color" in drawn:
        image = _jitter_hsv(image, settings, drawn["color"])
    if "brightening" in drawn:
        stream = drawn["brightening"]
        alpha, beta = stream.uniform(*settings.brightening_alpha), stream.uniform(*settings.brightening_beta)
        # A table rather than cv2.convertScaleAbs, which would turn -20 into 20; for positive results they agree.
        image = cv2.LUT(image, _to_grey(alpha * np.arange(256) + beta))
    if "blur" in drawn:
        image = cv2.GaussianBlur(image, (0, 0), drawn["blur"].uniform(*settings.blur_sigma))
    if "noise" in drawn:
        sigma = np.float32(drawn["noise"].uniform(*settings.noise_sigma))
        ranks = drawn["noise"].integers(256, size=image.shape, dtype=np.uint8)
        image = cv2.add(image, cv2.LUT(ranks, sigma * _NORMAL_QUANTILES), dtype=cv2.CV_8U)
    if "sharpening" in drawn:
        image = cv2.filter2D(image, -1, _sharpening_kernel(settings))
    return image


def _sharpening_kernel(settings):
    k = settings.sharpening_k
    return np.array([[-k, -k, -k], [-k, 1 + 8 * k, -k], [-k, -k, -k]])


# Optical density in red, green and blue of a unit of haematoxylin, eosin and DAB (Ruifrok & Johnston 2001).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_OPTICAL_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
# Drawing one of 256 quantiles of the normal distribution is several times as fast as drawing from the distribution.
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], dtype=np.float32)


def _restain(image, settings, rng):
    """Scale and shift the amounts of three stains; in optical density, where they add up, that is one matrix."""
    scale, shift = rng.uniform(*settings.stain_scale, 3), rng.uniform(*settings.stain_shift, 3)
    matrix = np.linalg.inv(_STAINS) @ np.diag(scale) @ _STAINS
    density = cv2.transform(cv2.LUT(image, _OPTICAL_DENSITY), np.column_stack([matrix.T, shift @ _STAINS]))
    return cv2.convertScaleAbs(cv2.exp(-density), alpha=255)


def _jitter_hsv(image, settings, rng):
    """Turn the hue on its circle of 256 steps, scale saturation and value; nothing is interpolated while in HSV."""
    hue = np.arange(256) + round(rng.uniform(*settings.color_hue) * 256 / 360)
    factors = rng.uniform(*settings.color_saturation), rng.uniform(*settings.color_value)
    table = np.stack([(hue % 256).astype(np.uint8), *(_to_grey(factor * np.arange(256)) for factor in factors)], -1)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    return cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB_FULL)


def _to_grey(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
