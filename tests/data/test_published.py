"""The images of the published experiment are found by what they show, whatever their names, and no other is."""

import itertools
from collections import Counter

import cv2
import numpy as np
import pytest

from tests.data.test_images import encode
from tests.data.test_neurips import sample, write_archive
from tiledseg_utils.base.files import UserError, read_csv
from tiledseg_utils.data import published
from tiledseg_utils.data.images import find_pairs, split_pairs
from tiledseg_utils.data.neurips import convert_archive
from tiledseg_utils.data.synthetic import draw_smear

SPLITS = {"10051": "train", "10052": "valid", "10053": "test"}


@pytest.fixture(scope="module")
def smears():
    """Five smears with their labels; the first three stand for published ones."""
    return [draw_smear(1, number, 512) for number in range(5)]


@pytest.fixture
def known(smears, monkeypatch):
    """The first three smears are the published ones."""
    images = zip(SPLITS.items(), smears, strict=False)
    hashes = {stem: (split, published.perceptual_hash(image)) for (stem, split), (image, _) in images}
    table = {
        stem: {"stem": stem, "split": split, "hash": own, "looked_at": "no"} for stem, (split, own) in hashes.items()
    }
    for module in ("published", "neurips"):
        monkeypatch.setattr(f"tiledseg_utils.data.{module}.published_images", lambda: table)


def test_the_table_tells_24_images_apart():
    rows = published.published_images()
    assert Counter(row["split"] for row in rows.values()) == {"train": 14, "valid": 4, "test": 6}
    assert [stem for stem, row in rows.items() if row["looked_at"] == "yes"] == ["10060", "10079"]
    distances = [published.distance(a["hash"], b["hash"]) for a, b in itertools.combinations(rows.values(), 2)]
    assert min(distances) > 2.5 * published.SAME


def changed(image):
    """The same picture, otherwise stored; and pictures that are near to it, but others."""
    small = cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    same = [image, small, cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)]
    same.append(cv2.convertScaleAbs(image, alpha=1.1, beta=4))
    others = [image[:, ::-1], image[::-1], np.rot90(image), image[:256, :256], np.roll(image, 120, axis=1)]
    return same, [np.ascontiguousarray(other) for other in others]


def test_the_hash_survives_another_size_and_compression_only(smears):
    for image, _ in smears:
        own = published.perceptual_hash(image)
        same, others = changed(image)
        assert max(published.distance(own, published.perceptual_hash(other)) for other in same) <= published.SAME
        assert min(published.distance(own, published.perceptual_hash(other)) for other in others) > published.SAME


def test_images_are_found_in_an_archive_under_other_names(tmp_path, smears, known, capsys):
    members, expected = {}, {}
    for number, (image, labels) in enumerate(smears):
        half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        members |= sample(f"cell_{number}", encode(".jpg", half), np.ascontiguousarray(labels[::2, ::2]), ".jpg")
        members |= sample(
            f"flipped_{number}", encode(".png", np.ascontiguousarray(half[:, ::-1])), labels[::2, ::2].copy()
        )
        if number < len(SPLITS):
            expected[list(SPLITS)[number]] = f"cell_{number}"
    archive = write_archive(tmp_path / "a.zip", members)
    rows = convert_archive(archive, tmp_path / "out", "published")
    assert {row["stem"]: row["archive_stem"] for row in rows} == expected
    splits = split_pairs(find_pairs(tmp_path / "out"), tmp_path / "out", seed=0)
    assert {pair.stem: split for split, pairs in splits.items() for pair in pairs} == SPLITS
    said = capsys.readouterr().out
    assert (
        "cell_0: taken as 10051, " in said
        and "flipped_0: left, " in said
        and "3 of the 3 published images found" in said
    )
    selection = {row["stem"]: row["written_as"] for row in read_csv(tmp_path / "out" / "selection.csv")}
    assert selection["cell_1"] == "10052" and selection["flipped_1"] == ""


def test_two_that_look_the_same_and_missing_ones_are_told(tmp_path, smears, known, capsys):
    image, labels = smears[0]
    members = sample("a", encode(".png", image), labels) | sample("b", encode(".png", image), labels)
    archive = write_archive(tmp_path / "a.zip", members)
    with pytest.raises(UserError, match="a and b both look like 10051"):
        convert_archive(archive, tmp_path / "out", "published")
    assert "1 of the 3 published images found; not found: 10052, 10053" in capsys.readouterr().out
