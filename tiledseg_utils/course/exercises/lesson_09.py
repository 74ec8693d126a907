"""The checks of lesson 9: six mistakes that stop no program, found and mended."""

import cv2
import numpy as np

from ...tiles.augmentation import Augmentation, sampling_grid
from . import Exercise, Trial, result_of, same


def random_grid(shape: tuple[int, int], rng: np.random.Generator):
    """A random warp, as `cv2.remap` takes it: the columns and the rows to read, each (H, W) float32."""
    return sampling_grid(shape, Augmentation(elastic=1, distortion=1), rng)


def _warp_pair(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator):
    grid = random_grid(mask.shape, rng)
    image = cv2.remap(image, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.remap(np.uint8(mask), *grid, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return image, labels > 0


def _striped_disc() -> tuple[np.ndarray, np.ndarray]:
    """An image (128, 128, 3) uint8 that shows its mask (128, 128) bool in white."""
    rows, columns = np.indices((128, 128)) - 64
    mask = (rows**2 + columns**2 < 40**2) & (columns % 12 < 6)
    return np.repeat(np.uint8(255 * mask)[..., None], 3, axis=2), mask


def _warped(answer) -> tuple[np.ndarray, np.ndarray]:
    image, mask = result_of(answer, *_striped_disc(), np.random.default_rng(5))
    return np.asarray(image), np.asarray(mask)


def _agree(answer) -> bool:
    image, mask = _warped(answer)
    white, mask = image[..., 0] > 127, mask > 0.5 * mask.max()
    return (white & mask).sum() / (white | mask).sum() > 0.7


def _right_mask(answer) -> bool:
    return same(_warped(answer)[1] > 0, _warp_pair(*_striped_disc(), np.random.default_rng(5))[1])


check_warp = Exercise(
    "9.1 One warp for both",
    _warp_pair,
    (
        Trial(
            lambda answer: [array.shape for array in _warped(answer)] == [(128, 128, 3), (128, 128)],
            "Return two things: the warped image, and the warped mask.",
        ),
        Trial(
            lambda answer: not same(_warped(answer)[0], _striped_disc()[0]),
            "The image comes back as it was. It has to be warped, too.",
        ),
        Trial(
            lambda answer: not same(_warped(answer)[1] > 0, _striped_disc()[1]),
            "The image is warped, and the mask is not. The mask no longer shows where the cells are.",
        ),
        Trial(
            _agree,
            "Image and mask do not agree. How often is `random_grid` called? Each call draws another warp.",
        ),
        Trial(
            _right_mask,
            "The grid is right, but the mask has grown or shrunk at its edge. A mask holds names, and there is nothing "
            "between two names: read the nearest pixel.",
        ),
    ),
    "Right: one draw, and both read through the same grid.",
)

check_jpeg = Exercise(
    "9.2 A mask from a JPEG",
    [9, 4],
    (
        Trial(lambda answer: len(answer) == 2, "Give two numbers in a list: with the mistake, and mended."),
        Trial(
            lambda answer: answer[0] != 4,
            "Your first number asks which values are large. `astype(bool)` does not ask that: what is `bool(2)`?",
        ),
        Trial(lambda answer: answer[0] != 12, "Not all are foreground: what is `bool(0)`?"),
        Trial(lambda answer: answer[0] == 9, "The first number: count all values that are not 0."),
        Trial(lambda answer: answer[1] == 4, "The second number: count the values above 127. 120 is below."),
    ),
    "Right: more than twice as many pixels as there are.",
)


def _split_tiles(sources: list[str], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    images = sorted(set(sources))
    rng.shuffle(images)
    held_out = set(images[: max(1, len(images) // 5)])
    train = [i for i, source in enumerate(sources) if source not in held_out]
    valid = [i for i, source in enumerate(sources) if source in held_out]
    return train, valid


_SOURCES = [f"image {number % 10}" for number in range(60)]


def _parts(answer, seed: int = 3) -> tuple[list[int], list[int]]:
    train, valid = result_of(answer, list(_SOURCES), np.random.default_rng(seed))
    return [int(i) for i in train], [int(i) for i in valid]


def _shares_no_image(answer) -> bool:
    train, valid = ({_SOURCES[i] for i in part} for part in _parts(answer))
    return not train & valid


check_split = Exercise(
    "9.3 Split without a leak",
    _split_tiles,
    (
        Trial(
            lambda answer: sorted([i for part in _parts(answer) for i in part]) == list(range(60)),
            "Each tile must be in exactly one of the two lists. Return its place in `sources`, 0 for the first one.",
        ),
        Trial(lambda answer: all(_parts(answer)), "One of the two lists is empty."),
        Trial(
            _shares_no_image,
            "There is a leak: an image has tiles in both lists. Choose images, not tiles.",
        ),
        Trial(
            lambda answer: len(_parts(answer)[1]) <= 30,
            "Most tiles are for validation, and few are left to learn from. Hold out about a fifth of the images.",
        ),
        Trial(
            lambda answer: len({tuple(sorted(_parts(answer, seed)[1])) for seed in range(20)}) > 1,
            "The same images are held out, whatever `rng` says. Whoever sorted the images has chosen for you: shuffle.",
        ),
    ),
    "Right: whole images are held out, chosen by chance.",
)

check_line = Exercise(
    "9.4 Which line?",
    1,
    (
        Trial(lambda answer: answer in (1, 2, 3, 4), "Answer with the number of a line, from 1 to 4."),
        Trial(lambda answer: answer != 2, "Behind line 2 it is too late: the network has seen the image already."),
        Trial(lambda answer: answer != 3, "Behind line 3 you have a mask, which has no colours."),
        Trial(lambda answer: answer == 1, "That mends what you look at. What has the network looked at?"),
    ),
    "Right: turn the channels around as soon as the file is read.",
)


def _normalise(tiles: np.ndarray) -> np.ndarray:
    return (tiles - tiles.mean(axis=(0, 1, 2))) / tiles.std(axis=(0, 1, 2))


def _two_tiles() -> np.ndarray:
    """A dark tile and a bright one, (2, 8, 8, 3), whose red is brighter than their blue."""
    rng = np.random.default_rng(0)
    tiles = rng.uniform(0, 60, (2, 8, 8, 3)) + np.array([120.0, 60.0, 0.0])
    tiles[1] += 70
    return tiles


def _normalised(answer) -> np.ndarray:
    return np.asarray(result_of(answer, _two_tiles()), float)


check_normalise = Exercise(
    "9.5 Normalise without seams",
    _normalise,
    (
        Trial(
            lambda answer: _normalised(answer).shape == (2, 8, 8, 3),
            "Return an array of the shape of `tiles`: all tiles, each normalised.",
        ),
        Trial(
            lambda answer: _normalised(answer)[1].mean() - _normalised(answer)[0].mean() > 0.5,
            "A dark tile and a bright one come out equally bright: each still has its own mean. Use one for all.",
        ),
        Trial(
            lambda answer: np.allclose(_normalised(answer).mean(), 0, atol=1e-6),
            "The mean of all tiles together should be 0. What do you subtract?",
        ),
        Trial(
            lambda answer: np.allclose(_normalised(answer).mean(axis=(0, 1, 2)), 0, atol=1e-6),
            "Red, green and blue share one mean. Give each channel its own: which axes do you take the mean over?",
        ),
        Trial(
            lambda answer: np.allclose(_normalised(answer).std(axis=(0, 1, 2)), 1, atol=1e-6),
            "The means are right. The standard deviation of each channel, over all tiles, should be 1.",
        ),
    ),
    "Right: the same mean and deviation for all tiles of the image.",
)

check_batch = Exercise(
    "9.6 The size of a batch",
    2,
    (
        Trial(lambda answer: answer == int(answer), "Answer with the size of the batch, not with the score."),
        Trial(lambda answer: answer in (1, 2, 4), "Try the sizes 1, 2 and 4."),
        Trial(lambda answer: answer != 4, "With all tiles in one batch, the score is the highest."),
        Trial(lambda answer: answer == 2, "The score is low there, but it can get lower still."),
    ),
    "Right. Same tiles, same prediction: only the batches differ.",
)
