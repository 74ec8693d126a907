"""The recipe of the model in the box, followed with a preset that takes seconds."""

import numpy as np

from tiledseg_utils.models.inputs import images_learnt_from, normalization_of, remembered_options
from tiledseg_utils.models.model_files import load_model
from tiledseg_utils.training import box

TINY = {
    "generated_images": {"train": 1, "valid": 1, "test": 1},
    "added_images": 1,
    "image_size": 256,
    "tiles": {"tile_size": 128, "reduced": False, "white_balance": True},
    "model": "unet",
    "model_settings": {"unet": {"base_filters": 2, "levels": 2}},
    "min_area": 20,
    "training": {"epochs": 1, "steps_per_epoch": 1, "validation_steps": 1, "batch_size": 1, "average_epochs": 1},
}


def test_the_recipe_makes_the_same_model_again_and_scores_it(tmp_path, monkeypatch):
    monkeypatch.setattr(box, "read_preset", lambda name: TINY)
    first, second = (load_model(box.make(tmp_path / name)) for name in ("first", "second"))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert normalization_of(first) == "white_balance"
    assert set(images_learnt_from(first)["train"]) == {"smear_0000", "added_smear_0000"}
    assert remembered_options(first)["recipe"] == box.recipe_hash()
    found = box.scores(tmp_path / "first" / "smears.keras", tmp_path / "first")
    assert set(found) == {"Dice, as they are", "Dice, varied", "F1, touching"}
    assert all(0 <= score <= 1 for score in found.values())


def test_another_seed_is_another_recipe(monkeypatch):
    before = box.recipe_hash()
    monkeypatch.setattr(box, "read_preset", lambda name: {**TINY, "seed": 2})
    other = box.recipe_hash()
    monkeypatch.setattr(box, "read_preset", lambda name: {**TINY, "seed": 2, "description": "The same."})
    assert len({before, other, box.recipe_hash()}) == 2
