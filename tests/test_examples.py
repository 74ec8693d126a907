"""The examples in the docstrings of the functions that users call most run as they stand."""

import inspect
import shutil
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiledseg_utils.data import images, pictures, synthetic
from tiledseg_utils.models import receptive_field
from tiledseg_utils.prediction import files, inference, instances
from tiledseg_utils.scoring import matching, pixels
from tiledseg_utils.tiles import tiling

EXAMPLES = [
    (images.find_pairs, "len(pairs) == 5 and image.shape == (280, 280, 3) and mask.any()"),
    (pictures.read_image, "image.shape == (100, 150, 3)"),
    (synthetic.write_dataset, "len(stems) == 4"),
    (tiling.split, "tiles.shape[1:] == (256, 256, 3) and again.shape == image.shape"),
    (pixels.count_pixels, "counts.dice == 0.5"),
    (matching.match_instances, "matches.tp == 0 and matches.fp == matches.fn == 1"),
    (receptive_field.receptive_field, "field.halo % field.alignment == 0"),
    (inference.predict_tiled, "probability.shape == (100, 150)"),
    (files.predict_file, "report['megapixels'] == 0.015"),
    (instances.label_file, "nuclei >= 0"),
]


def example_of(function) -> str:
    """The code below `Example:` in a docstring, which is its last part."""
    return textwrap.dedent(inspect.getdoc(function).split("Example:\n")[1])


@pytest.fixture(scope="module")
def folder(data_folder, tmp_path_factory):
    """The files that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(data_folder, folder / "my_images")
    shutil.copy(Path(__file__).with_name("models") / "unet_f816b64.keras", folder / "model.keras")
    pictures.write_image(folder / "slide.tif", np.full((100, 150, 3), 200, np.uint8))
    for name, columns in (("predicted", slice(10, 20)), ("reference", slice(15, 25))):
        mask = np.zeros((30, 30), np.uint8)
        mask[10:20, columns] = 255
        cv2.imwrite(str(folder / f"{name}.png"), mask)
    return folder


@pytest.mark.parametrize(("function", "expected"), EXAMPLES, ids=[function.__name__ for function, _ in EXAMPLES])
def test_an_example_runs_and_does_what_it_says(folder, monkeypatch, function, expected):
    monkeypatch.chdir(folder)
    names = {}
    exec(example_of(function), names)
    assert eval(expected, names), expected
