"""What lessons find in a run folder: the user's own labels, and their kinds."""

import numpy as np
import pytest

from tiledseg_utils.base.files import UserError, write_csv
from tiledseg_utils.course import lesson
from tiledseg_utils.data import images, provenance
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.settings.parameters import TileSetting
from tiledseg_utils.tiles import tiling


def begin(run, data, numbered):
    """A run folder as notebook 1 leaves it, on three images whose masks number their two objects or do not."""
    for number, stem in enumerate("abc"):
        image = np.full((64, 64, 3), 50 * number + 20, np.uint8)
        mask = np.zeros((64, 64), np.uint16)
        mask[5:20, 5:20] = 1 if numbered else 255
        mask[30:50, 10:30] = 2 if numbered else 255
        image[mask > 0] += 30
        write_image(data / "images" / f"{stem}.png", image)
        write_image(data / "labels" / f"{stem}.tif", mask)
    write_csv(data / "split.csv", [{"stem": s, "split": p} for s, p in zip("abc", images.SPLITS, strict=True)])
    files = provenance.begin_run(run, data)
    splits = images.split_pairs(images.find_pairs(data), data, 0)
    tiling.write_tile_set(splits, run / "tiles", TileSetting(tile_size=64))
    provenance.finish_run(run, data, splits, files, seed=3)
    return splits


def test_masks_with_numbers_are_labels_of_the_users_own(tmp_path):
    splits = begin(tmp_path / "run", tmp_path / "mine", numbered=True)
    assert lesson.own_labels(tmp_path / "run") == splits
    assert lesson.groups_of(tmp_path / "run") is None


def test_masks_without_numbers_are_not(tmp_path):
    begin(tmp_path / "run", tmp_path / "mine", numbered=False)
    assert lesson.own_labels(tmp_path / "run") == {}


def test_drawn_images_are_not_the_users_own(tmp_path):
    begin(tmp_path / "run", tmp_path / "run" / "data", numbered=True)
    assert lesson.own_labels(tmp_path / "run") == {} and lesson.groups_of(tmp_path / "run") is None


def test_kinds_are_read_beside_the_images(tmp_path):
    begin(tmp_path / "run", tmp_path / "mine", numbered=True)
    write_csv(tmp_path / "mine" / "kinds.csv", [{"stem": "a", "kind": "grey"}, {"stem": "b", "kind": "purple"}])
    assert lesson.groups_of(tmp_path / "run") == {"a": "grey", "b": "purple"}
    write_csv(tmp_path / "mine" / "kinds.csv", [{"stem": "a", "type": "grey"}])
    with pytest.raises(UserError, match="does not have the columns stem and kind"):
        lesson.groups_of(tmp_path / "run")
