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
    (images.find_pairs, lambda found: (len(found["pairs"]), found["image"].shape), (5, (280, 280, 3))),
    (pictures.read_image, lambda found: found["image"].shape, (100, 150, 3)),
    (synthetic.write_dataset, lambda found: len(found["stems"]), 4),
    (tiling.split, lambda found: (found["tiles"].shape, found["again"].shape), ((40, 256, 256, 3), (1000, 1500, 3))),
    (pixels.count_pixels, lambda found: found["counts"].dice, 0.5),
    (
        matching.match_instances,
        lambda found: (found["matches"].tp, found["matches"].fp, found["matches"].fn),
        (0, 1, 1),
    ),
    (receptive_field.receptive_field, lambda found: (found["field"].halo, found["field"].alignment), (16, 4)),
    (inference.predict_tiled, lambda found: found["probability"].shape, (100, 150)),
    (files.predict_file, lambda found: found["report"]["megapixels"], 0.015),
    (instances.label_file, lambda found: found["nuclei"], 0),  # The slide is empty.
]
"""Functions, what their example finds, and what that should be."""


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


@pytest.mark.parametrize(("function", "result", "expected"), EXAMPLES, ids=lambda value: getattr(value, "__name__", ""))
def test_an_example_runs_and_does_what_it_says(folder, monkeypatch, function, result, expected):
    monkeypatch.chdir(folder)
    found = {}
    exec(example_of(function), found)
    assert result(found) == expected
