import numpy as np
import pytest

from tiledseg_utils import models
from tiledseg_utils.base.files import read_json
from tiledseg_utils.course import mistakes


@pytest.fixture
def show(splits, tmp_path):
    return mistakes.MistakeCosts(tmp_path, splits["test"], side=120, threshold=0.5, seed=1)


def truth(show):
    return {stem: mask.astype(np.float32) for stem, (_, mask) in show.parts.items()}


def without_its_left_half(show):
    return {stem: probability * (np.arange(120) >= 60) for stem, probability in truth(show).items()}


def test_parts_lie_around_the_foreground(show, splits):
    assert list(show.parts) == [pair.stem for pair in splits["test"]]
    for image, mask in show.parts.values():
        assert image.shape == (120, 120, 3) and image.dtype == np.uint8
        assert mask.shape == (120, 120) and mask.dtype == bool and mask.any()


def test_predictions_and_masks_are_taken_part_by_part(show):
    assert {stem: bright.shape for stem, bright in show.predicted(lambda image: image.mean(axis=2)).items()} == {
        stem: mask.shape for stem, (_, mask) in show.parts.items()
    }
    flipped = show.masks(np.flipud)
    assert all((flipped[stem] == mask[::-1]).all() for stem, (_, mask) in show.parts.items())


def test_scores_are_of_each_part(show):
    assert set(show.dice(truth(show)).values()) == {1.0}
    assert set(show.area(show.masks(lambda mask: mask * 1)).values()) == {100.0}
    half = without_its_left_half(show)
    for stem, changed in show.changed(half, truth(show)).items():
        mask = show.parts[stem][1]
        assert changed == pytest.approx(100 * mask[:, :60].sum() / mask.sum())


def test_tiles_of_a_source_are_counted_together(show):
    network = models.build_model("unet", {"base_filters": 4, "levels": 2})
    tiles, full, empty = np.zeros((3, 16, 16, 3), np.uint8), np.ones((16, 16), bool), np.zeros((16, 16), bool)
    # Before it has learnt, a network says 2 % everywhere: nothing is found.
    scores = show.dice_of_tiles(network, zip(tiles, [full, empty, empty], strict=True), ["a", "a", "b"], batch_size=2)
    assert scores == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(("low", "holds"), [(0.2, True), (-0.2, False)])
def test_a_cost_is_entered_and_claimed_if_its_interval_is_above_zero(show, low, holds):
    claim = show.cost("pitfall", "Dice lost", {"a": 0.9, "b": 0.9}, {"a": 0.9 - low, "b": 0.1}, "care")
    (row,) = show.rows
    assert list(row) == ["pitfall", "cost", "unit", "low", "high", "mend"]
    assert row["cost"] == pytest.approx((low + 0.8) / 2)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(0.8))
    assert claim.holds == holds and claim.sentence.startswith(f"pitfall: {row['cost']:.3g} Dice lost, 95 % interval")


def test_a_single_image_has_no_interval(show):
    claim = show.cost("pitfall", "Dice lost", {"a": 0.9}, {"a": 0.8}, "care")
    assert claim.holds and claim.sentence == "pitfall: 0.1 Dice lost." and show.rows[0]["low"] is None


def test_lost_dice_is_shown_and_entered(show, tmp_path):
    picture, claim = show.lost("half a mask", truth(show), without_its_left_half(show), "the other half")
    lost = [1 - score for score in show.dice(without_its_left_half(show)).values()]
    assert show.rows[0]["cost"] == pytest.approx(np.mean(lost)) and show.rows[0]["mend"] == "the other half"
    assert picture.path == tmp_path / "figures" / "09_half_a_mask.png" and picture.path.exists()
    assert read_json(picture.path.with_suffix(".json"))["caption"].startswith("half a mask: ")
    assert claim.sentence.startswith("half a mask: ")


def test_changes_are_measured_against_what_is_expected_of_each_network(show):
    right, broken = truth(show), without_its_left_half(show)
    show.changes("half", broken, right, right, "whole")
    changed = np.mean(list(show.changed(broken, right).values()))
    assert show.rows[0]["cost"] == pytest.approx(changed) and show.rows[0]["unit"].startswith("% ")
    nothing = {stem: 0 * probability for stem, probability in right.items()}
    show.changes("half", broken, nothing, right, "whole", right_expected=nothing)
    assert show.rows[1]["cost"] == pytest.approx(changed)


def test_zoom_looks_at_the_foreground(show):
    (image, mask), *_ = show.parts.values()
    moved = np.zeros((120, 120))
    moved[100:110, 10:20] = 1
    shown = {}
    show.figures.grid = lambda name, caption, pictures, **options: shown.update({name: pictures})
    show.grid("moved", "", {"moved": moved, "image": image}, zoom=30)
    show.grid("as it is", "", {"image": image, "mask": mask * 1.0}, zoom=30)
    assert shown["09_moved"]["moved"].sum() == 100 and shown["09_moved"]["image"].shape == (30, 30, 3)
    assert shown["09_as_it_is"]["mask"].any()
