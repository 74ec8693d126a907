"""The model that comes with the package: its file, its recipe and its card agree."""

import re
from pathlib import Path

import pytest

from tests.commands.test_main import exit_code
from tiledseg_utils.base.files import hash_file
from tiledseg_utils.base.paths import BOX, model_path
from tiledseg_utils.data.masks import read_labels
from tiledseg_utils.data.pictures import read_image, write_image
from tiledseg_utils.data.synthetic import draw_smear
from tiledseg_utils.models.inputs import images_learnt_from, remembered_options
from tiledseg_utils.models.model_files import load_model
from tiledseg_utils.scoring.matching import match_instances
from tiledseg_utils.scoring.pixels import count_pixels
from tiledseg_utils.settings.parameters import check_all
from tiledseg_utils.settings.presets import read_preset
from tiledseg_utils.settings.remembered import options_of
from tiledseg_utils.training.box import counting_rule, recipe_hash

CARD = (BOX / "smears.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model():
    return load_model(BOX / "smears.keras")


def test_the_file_is_small_and_the_one_that_the_card_is_about():
    path = BOX / "smears.keras"
    assert path.stat().st_size <= 3_000_000
    assert hash_file(path) in CARD and f"{path.stat().st_size:,} bytes" in CARD


def test_the_recipe_is_the_one_that_the_file_was_made_by(model):
    parameters = check_all(read_preset("smears"))
    expected = options_of(parameters) | {"instances": counting_rule(parameters), "recipe": recipe_hash()}
    assert remembered_options(model) == expected
    settings = parameters.model_settings.unet
    assert model.count_params() == int(re.search(r"([\d,]+) parameters", CARD)[1].replace(",", ""))
    assert (model.name, settings.patch_size) == ("unet", 2)


def test_it_has_learnt_from_generated_images_alone(model):
    learnt = images_learnt_from(model)
    parameters = check_all(read_preset("smears"))
    own, added = parameters.generated_images, parameters.added_images
    assert len(learnt["train"]) == own.train + added and len(learnt["valid"]) == own.valid
    assert all(re.fullmatch(r"(added_)?smear_\d{4}", stem) for split in learnt.values() for stem in split)


def test_the_score_of_a_generated_image_is_that_of_the_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, labels = draw_smear(seed=2, index=0, size=512)
    write_image(tmp_path / "a.png", image)
    assert exit_code("predict", "smears", "a.png", "--out", "masks") == 0
    dice = count_pixels(read_image(tmp_path / "masks" / "a.png")[..., 0] > 0, labels > 0).dice
    expected = float(re.search(r"smear of the test.*Dice \| ([\d.]+) \|", CARD)[1])
    assert dice == pytest.approx(expected, abs=0.005)  # Other processors round otherwise.


def test_it_counts_cells(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image, labels = draw_smear(seed=2, index=1, size=512, touching=0.7)
    write_image(tmp_path / "a.png", image)
    assert exit_code("instances", "--model", "smears", "a.png", "--out", "labels") == 0
    assert "counted as its run did: method watershed" in capsys.readouterr().out
    found = match_instances(read_labels(tmp_path / "labels" / "a.tif"), labels)
    assert found.tp >= 9 and found.f1 > 0.6  # 14 cells, most of which touch


def test_a_name_means_the_box_where_no_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_path("smears") == BOX / "smears.keras"
    assert model_path("smear") == Path("smear") and model_path("./smears") == Path("smears")
    assert model_path("folder/smears") == Path("folder/smears")
    (tmp_path / "smears").mkdir()
    assert model_path("smears") == Path("smears")
