"""The drawn smears: reproducible, exactly labelled, and as hard as the real ones."""

import csv
import dataclasses
import math

import cv2
import numpy as np
import pytest
from scipy import ndimage

from tiledseg_utils.base.files import UserError, read_csv, read_json, write_json
from tiledseg_utils.data import synthetic
from tiledseg_utils.data.images import read_image
from tiledseg_utils.data.smears import artefacts, cells
from tiledseg_utils.data.smears.shapes import noise_source
from tiledseg_utils.data.smears.slide import BLUE, CHROMATIN, HAEMOGLOBIN, KINDS, draw_slide, vary_slide
from tiledseg_utils.data.synthetic import added_pairs, draw_smear, write_dataset

SIZE = 512


@pytest.fixture(scope="module")
def smears():
    return [draw_smear(7, index, SIZE) for index in range(16)]


def read_folder(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_image_depends_on_seed_and_index_only(smears):
    for index in (3, 0):  # in another order than the fixture's
        image, labels = draw_smear(7, index, SIZE)
        np.testing.assert_array_equal(image, smears[index][0])
        np.testing.assert_array_equal(labels, smears[index][1])


def test_another_seed_or_index_gives_another_image(smears):
    images = [smears[0][0], smears[1][0], draw_smear(8, 0, SIZE)[0]]
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert (images[a] != images[b]).mean() > 0.5


def test_array_contract(smears):
    for image, labels in smears:
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        assert labels.shape == (SIZE, SIZE) and labels.dtype == np.int32
        np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))  # no gaps


@pytest.mark.parametrize("size", [256, 384, SIZE])
def test_foreground_is_rare_but_never_absent(size, smears):
    drawn = smears if size == SIZE else [draw_smear(1, index, size) for index in range(12)]
    for _, labels in drawn:
        assert 0.003 <= (labels > 0).mean() <= 0.08


def test_every_label_is_one_cell_of_plausible_size_with_a_dark_nucleus(smears):
    whole = 0
    for image, labels in smears:
        r, g, b = np.moveaxis(image.astype(int), -1, 0)
        red = np.median(r[(labels == 0) & (r - g > 20) & (r > b)])
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            body = labels[box] == number
            pieces, count = ndimage.label(body, np.ones((3, 3)))
            assert np.bincount(pieces[body]).max() > 0.97 * body.sum(), count
            if any(side.start == 0 or side.stop == SIZE for side in box):
                continue  # cut by the border
            whole += 1
            assert 20 <= 2 * np.sqrt(body.sum() / np.pi) <= 130
            darkest = np.quantile(image[box][body][:, 0], 0.15)  # azure B takes red light, haemoglobin hardly
            assert darkest < red - 15
    assert whole > 30


def test_things_that_look_like_nuclei_lie_outside_of_the_labels(smears):
    unlabelled = []
    for image, labels in smears:
        near = cv2.dilate((labels > 0).astype(np.uint8), np.ones((9, 9)))
        r, g, b = np.moveaxis(image.astype(int), -1, 0)
        unlabelled.append(((near == 0) & (r < 110) & (g < 100) & (b > r)).sum())
    assert np.mean(np.array(unlabelled) > 40) > 0.5  # platelets nearly everywhere
    assert max(unlabelled) > 1500  # and clumps of precipitate


def test_background_has_the_colours_of_real_smears(smears):
    # Medians of the empty background of 24 real smears (NeurIPS 2022 Cell Segmentation, the bright-field blood
    # smears): R 209-241, G 205-240, B 217-239, and G never above R. The margins are for what 24 did not show.
    for image, labels in smears:
        level = image[..., 1][labels == 0]
        split, _ = cv2.threshold(level.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
        r, g, b = np.median(image[(labels == 0) & (image[..., 1] > split)], axis=0)
        assert 200 <= r <= 248 and 196 <= g <= 245 and 200 <= b <= 252
        assert g <= r + 2


def test_sizes():
    with pytest.raises(UserError, match="cannot hold"):
        draw_smear(0, 0, 100)
    image, labels = draw_smear(0, 1)
    assert labels.shape == image.shape[:2] and 1024 <= min(labels.shape) <= max(labels.shape) <= 2096


def test_labels_are_exact(smears, monkeypatch):
    # Bleach the white cells: the picture changes where the labels are, and nowhere else.
    white_cell = cells._white_cell

    def bleached(*args, **kwargs):
        cover, stain, nucleus = white_cell(*args, **kwargs)
        return cover, 0 * stain, nucleus

    monkeypatch.setattr(cells, "_white_cell", bleached)
    for index in range(4):
        image, labels = smears[index]
        empty, same_labels = draw_smear(7, index, SIZE)
        np.testing.assert_array_equal(labels, same_labels)
        changed = (image != empty).any(axis=-1)
        assert changed[labels > 0].mean() > 0.97
        in_reach = cv2.dilate((labels > 0).astype(np.uint8), np.ones((61, 61)))  # of blur, sharpening, JPEG blocks
        assert not changed[in_reach == 0].any()
        strongly = (np.abs(image.astype(int) - empty).max(axis=-1) > 60) & (labels == 0)
        assert strongly.sum() < 0.01 * (labels > 0).sum()


def test_dataset_layout(tmp_path):
    stems = write_dataset(tmp_path / "smears", 3, {"train": 2, "valid": 1}, size=256)
    assert stems == ["smear_0000", "smear_0001", "smear_0002"]
    with (tmp_path / "smears" / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stem"], row["split"]) for row in rows] == list(zip(stems, ["train", "train", "valid"], strict=True))
    for index, stem in enumerate(stems):
        image, labels = draw_smear(3, index, 256)
        written = cv2.imread(str(tmp_path / "smears" / "images" / f"{stem}.png"), cv2.IMREAD_COLOR_RGB)
        mask = cv2.imread(str(tmp_path / "smears" / "masks" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, image)
        assert mask.dtype == np.uint16
        np.testing.assert_array_equal(mask, labels)


def test_interrupted_dataset_continues_with_the_same_bytes(tmp_path, monkeypatch):
    def write(name):
        return write_dataset(tmp_path / name, 3, {"train": 2, "test": 2}, size=256, jpeg_quality=90)

    write("whole")
    drawn = []

    def draw_until_the_power_fails(seed, index, *shape):
        drawn.append(index)
        if index == 2 and drawn.count(2) == 1:
            raise KeyboardInterrupt
        return draw_smear(seed, index, *shape)

    monkeypatch.setattr(synthetic, "draw_smear", draw_until_the_power_fails)
    with pytest.raises(KeyboardInterrupt):
        write("broken")
    assert not (tmp_path / "broken" / "split.csv").exists()
    write("broken")
    assert sorted(drawn) == [0, 1, 2, 2, 3]  # finished images are not drawn again
    assert read_folder(tmp_path / "broken") == read_folder(tmp_path / "whole")
    write("broken")
    assert len(drawn) == 5


@pytest.mark.parametrize("change", [{"seed": 4}, {"images": {"train": 1}}, {"size": 300}, {"jpeg_quality": 80}])
def test_other_images_are_never_overwritten(tmp_path, change):
    call = {"seed": 3, "images": {"train": 2}, "size": 256}
    write_dataset(tmp_path, **call)
    before = read_folder(tmp_path)
    with pytest.raises(UserError, match="would not write the same"):
        write_dataset(tmp_path, **(call | change))
    assert read_folder(tmp_path) == before


def test_a_folder_of_someone_elses_images_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "smear_0000.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=str(tmp_path)):
        write_dataset(tmp_path, 3, {"train": 1}, size=256)
    assert (tmp_path / "images" / "smear_0000.png").read_bytes() == b"mine"


def test_the_order_of_the_splits_is_that_of_the_course_not_of_the_mapping(tmp_path):
    write_dataset(tmp_path / "a", 3, {"test": 1, "train": 2}, size=256)
    assert [row["split"] for row in read_csv(tmp_path / "a" / "split.csv")] == ["train", "train", "test"]
    with pytest.raises(UserError, match="Did you mean train"):
        write_dataset(tmp_path / "b", 3, {"trian": 1}, size=256)


def test_smears_that_learn_along_with_others_are_none_of_those_that_are_tested_on(tmp_path):
    write_dataset(tmp_path / "data", 3, {"train": 1, "test": 1}, size=256)
    pairs = added_pairs(tmp_path / "added", 3, 2, size=256)
    assert [pair.stem for pair in pairs] == ["added_smear_0000", "added_smear_0001"]  # or tiles would share their names
    tested = [read_image(path) for path in (tmp_path / "data" / "images").iterdir()]
    assert not any(np.array_equal(read_image(pair.image), image) for pair in pairs for image in tested)
    assert added_pairs(tmp_path / "none", 3, 0) == []


def test_varied_slides_differ_more_from_each_other():
    generators = [np.random.default_rng(seed) for seed in range(300)]
    usual = [draw_slide(rng, coarse_share=0.25) for rng in generators]
    varied = [vary_slide(rng, slide) for rng, slide in zip(generators, usual, strict=True)]

    def spread(slides, value):
        return np.std([math.log(value(slide)) for slide in slides])

    for value in (
        lambda slide: slide.white_diameter,
        lambda slide: slide.red_diameter,
        lambda slide: slide.stains[CHROMATIN, 1],
    ):
        assert spread(varied, value) > 1.3 * spread(usual, value)
    ratios = {
        round(after.white_diameter / before.white_diameter, 6) for before, after in zip(usual, varied, strict=True)
    }
    assert 0.8 <= min(ratios) < 0.85 and 1.35 < max(ratios) <= 1.4
    coarse, fine = ([after.naked > 0 for after in varied if after.coarse == side] for side in (True, False))
    assert np.mean(coarse) > 2 * np.mean(fine) > 0


def cells_of(**settings):
    """Forty white cells of a slide with these settings: of each, what it covers and its concentrations."""
    rng = np.random.default_rng(2)
    slide = dataclasses.replace(draw_slide(rng, coarse_share=1), **settings)
    return [cells._white_cell(rng, slide, noise_source(rng), 300)[:2] for _ in range(40)]


def test_naked_nuclei_are_smaller_and_darker_than_other_cells_and_have_no_cytoplasm():
    usual, naked = cells_of(), cells_of(naked=1)
    sizes = [np.median([cover.sum() for cover, _ in cells]) for cells in (usual, naked)]
    assert sizes[1] < 0.7 * sizes[0]
    palest = [
        np.median([np.quantile(stain[CHROMATIN][cover == 1], 0.2) for cover, stain in cells])
        for cells in (usual, naked)
    ]
    assert palest[1] > 0.8 > 2 * palest[0]


def test_granulocytes_can_be_as_red_as_red_cells():
    for eosin, low, high in ((0.3, 0.2, 0.35), (1.2, 0.8, 1.4)):
        red = [stain[HAEMOGLOBIN] for _, stain in cells_of(eosin=eosin)]
        assert low < max(np.median(plane[plane > 0.01]) for plane in red if (plane > 0.01).any()) < high


def test_lobes_of_granulocytes_can_lie_apart():
    segmented = np.eye(len(KINDS))[KINDS.index("segmented")]
    pieces = [
        np.mean([ndimage.label(stain[CHROMATIN] > 0.5)[1] for _, stain in cells_of(kinds=segmented, **settings)])
        for settings in ({}, {"apart": 1.0})
    ]
    assert pieces[1] > 1.3 * pieces[0]


def test_large_platelets_can_be_giants():
    largest = []
    for giant in (1, 2):
        rng = np.random.default_rng(4)
        slide = dataclasses.replace(draw_slide(rng, coarse_share=0), giant=giant)
        planes = np.zeros((4, 1000, 1000), np.float32)
        artefacts.draw_platelets(rng, planes, slide, noise_source(rng), [])
        largest.append(np.bincount(ndimage.label(planes[BLUE] > 0.02)[0].ravel())[1:].max())
    assert largest[1] > 2 * largest[0]


def test_platelets_stick_to_the_outside_of_white_cells():
    rng = np.random.default_rng(4)
    slide = draw_slide(rng, coarse_share=1)
    cells = [(np.array([y, x]), 20.0) for y in (60, 180) for x in (60, 180)]
    y, x = np.mgrid[:240, :240]
    distance = np.min([np.hypot(y - cy, x - cx) for (cy, cx), _ in cells], axis=0)
    ring, inside, away = (distance > 20) & (distance < 30), distance < 12, distance > 34
    planes = np.zeros((4, 240, 240), np.float32)
    for _ in range(10):
        artefacts.draw_platelets(rng, planes, dataclasses.replace(slide, sticking=3), noise_source(rng), cells)
    stain = planes[CHROMATIN]
    assert stain[ring].mean() > 5 * max(stain[inside].mean(), stain[away].mean())


def test_varied_smears_are_recorded(tmp_path):
    write_dataset(tmp_path, 3, {"train": 1}, size=256, varied=True)
    with pytest.raises(UserError, match="would not write the same"):
        write_dataset(tmp_path, 3, {"train": 1}, size=256)
    note = tmp_path / "synthetic.json"
    write_json(note, read_json(note) | {"varied": True})  # as the first variation was recorded
    with pytest.raises(UserError, match="would not write the same"):
        write_dataset(tmp_path, 3, {"train": 1}, size=256, varied=True)


def test_touching_smears_are_crowded_and_recorded(tmp_path):
    lost = []
    for share in (0.0, 0.8):
        _, labels = draw_smear(7, 1, SIZE, touching=share)
        assert 0.05 < (labels > 0).mean() <= 0.08
        lost.append(1 - ndimage.label(labels, np.ones((3, 3)))[1] / labels.max())
    assert lost[1] > lost[0] + 0.3
    write_dataset(tmp_path, 1, {"train": 1}, 256, touching=0.8)
    with pytest.raises(UserError, match="would not write the same"):
        write_dataset(tmp_path, 1, {"train": 1}, 256)


@pytest.mark.parametrize("name", ["split.csv", "synthetic.json"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"the folder holds {name} that this call would not write the same"):
        write_dataset(tmp_path, 3, {"train": 1}, size=256)
    assert (tmp_path / name).read_text() == "{}"
