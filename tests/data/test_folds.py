"""K-fold splits: each image is tested once, what belongs together stays together, and kinds are spread evenly."""

import shutil
from collections import Counter

import cv2
import numpy as np
import pytest

from tiledseg_utils.base.files import UserError, write_csv
from tiledseg_utils.data import images
from tiledseg_utils.data.folds import draw_folds, fold_pairs


@pytest.fixture
def folder(tmp_path):
    """Twelve images of noise: a to l."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number, stem in enumerate("abcdefghijkl"):
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{stem}.png"), noise)
        cv2.imwrite(str(tmp_path / "masks" / f"{stem}.png"), np.uint8(255) * (noise[..., 0] > 128))
    return tmp_path


def all_folds(folder, folds, seed=1):
    pairs = images.find_pairs(folder)
    found = [fold_pairs(pairs, folder, seed, folds, number) for number in range(1, folds + 1)]
    return [{split: "".join(pair.stem for pair in pairs) for split, pairs in each.items()} for each in found]


def test_each_image_is_tested_once_and_by_a_network_that_has_not_seen_it(folder):
    found = all_folds(folder, 3)
    assert sorted("".join(each["test"] for each in found)) == list("abcdefghijkl")
    for each in found:
        assert sorted("".join(each.values())) == list("abcdefghijkl")
        assert [len(each[split]) for split in images.SPLITS] == [6, 2, 4]  # A fifth of 8 are 2.
        assert all(list(stems) == sorted(stems) for stems in each.values())
    assert all_folds(folder, 3) == found != all_folds(folder, 3, seed=2)


def test_split_csv_does_not_decide_but_its_groups_stay_together(folder):
    rows = [{"stem": stem, "split": "train", "group": "1" if stem in "acegik" else stem} for stem in "abcdefghijkl"]
    write_csv(folder / "split.csv", rows)
    found = all_folds(folder, 3)
    assert [each["test"] for each in found].count("acegik") == 1
    assert all(len(each["valid"]) in (1, 2) for each in found)  # The slide is too large to judge by.
    with pytest.raises(UserError, match="holds 7 images or groups of images, of which none is left for train"):
        all_folds(folder, 2)  # Where the others are tested, the slide is all that is left.
    write_csv(folder / "split.csv", [row | {"group": row["group"].replace("b", "")} for row in rows])
    with pytest.raises(UserError, match="'b' has no group"):
        all_folds(folder, 3)


def test_the_same_picture_under_two_names_stays_together(folder):
    shutil.copy(folder / "images" / "a.png", folder / "images" / "l.png")
    rows = [{"stem": stem, "group": {"l": "one", "c": "one"}.get(stem, stem)} for stem in "abcdefghijkl"]
    write_csv(folder / "kinds.csv", rows)  # l is with c, and a is with l.
    assert [set("acl") & set(each["test"]) for each in all_folds(folder, 4)].count(set("acl")) == 1


def test_kinds_are_spread_evenly(folder):
    rows = [{"stem": stem, "kind": "rare" if stem in "cfl" else "common"} for stem in "abcdefghijkl"]
    write_csv(folder / "kinds.csv", rows)
    assert [len(set("cfl") & set(each["test"])) for each in all_folds(folder, 3)] == [1, 1, 1]


def test_large_groups_are_dealt_first():
    groups = [[f"{size}_{number}" for number in range(size)] for size in (1, 1, 4, 1, 2, 1)]
    parts = draw_folds(groups, {}, 0, 2)
    assert Counter(sum(map(len, part)) for part in parts) == {5: 2}


def test_too_many_folds_are_refused(folder):
    with pytest.raises(UserError, match=r"of which none is left for test\. Use fewer folds, or add images"):
        all_folds(folder, 13)
