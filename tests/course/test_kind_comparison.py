"""One network for all kinds of image against one for each: who learns what, for how long, and what is compared."""

import numpy as np
import pytest

from tests.data.test_measured_kinds import cues
from tiledseg_utils.base.files import UserError, write_csv
from tiledseg_utils.course import kind_comparison as ways
from tiledseg_utils.course import kinds, plots
from tiledseg_utils.data import images, provenance
from tiledseg_utils.data.cues import measure_cues
from tiledseg_utils.data.measured_kinds import known_kinds
from tiledseg_utils.scoring.pixels import Counts
from tiledseg_utils.settings.parameters import TileSetting, TrainingSetting
from tiledseg_utils.tiles import tiling

SETTING = TrainingSetting(epochs=1, steps_per_epoch=10, validation_steps=3)


def made_up(train, valid="ab", test=""):
    """Images that nobody reads, of the kinds that their names begin with."""
    pairs = {}
    for name, own in {"train": train, "valid": valid, "test": test}.items():
        pairs[name] = [images.Pair(f"{kind}{name}{number}", "", "") for number, kind in enumerate(own)]
    return pairs, {pair.stem: pair.stem[0] for own in pairs.values() for pair in own}


def test_looks_of_a_stained_image_are_of_three_kinds(splits):
    image, mask = images.read_pair(splits["train"][0])
    assert ways.look(image, "stained") is image
    seen = {kind: measure_cues(ways.look(image, kind), mask.astype(np.int32)) for kind in ways.LOOKS}
    assert [seen[kind].colour for kind in ways.LOOKS] == [True, False, False]
    assert seen["dark"].brightness < 0.3 < seen["grey"].brightness
    dark = ways.look(np.array([[[0, 0, 0], [255, 255, 255], [128, 128, 128]]], np.uint8), "dark")
    assert dark.tolist() == [[[255] * 3, [0] * 3, [63] * 3]]


def test_kinds_are_drawn_with_one_frequent_among_the_training_images(splits, tmp_path):
    usual = {**splits, "train": splits["train"] * 3}
    usual["train"] = [images.Pair(f"t{n}", pair.image, pair.mask) for n, pair in enumerate(usual["train"])]
    made, kind_of = ways.draw_kinds(usual, tmp_path)
    own = {name: [kind_of[pair.stem] for pair in pairs] for name, pairs in made.items()}
    assert own["train"] == ["stained", "stained", "stained", "dark", "grey", "stained"]
    assert own["valid"] == ["stained", "dark", "grey"] and own["test"] == ["stained", "dark"]
    grey, mask = images.read_pair(made["train"][4])
    image, usual_mask = images.read_pair(usual["train"][4])
    assert np.array_equal(grey, ways.look(image, "grey")) and np.array_equal(mask, usual_mask)


def test_steps_are_shared_by_the_root_and_none_is_lost():
    assert ways.share_steps({"a": 100, "b": 1}, 11) == {"a": 10, "b": 1}
    for steps in range(4, 60):
        shares = ways.share_steps({"a": 140, "b": 56, "c": 8, "d": 7}, max(steps, 12))
        assert sum(shares.values()) == max(steps, 12) and min(shares.values()) >= 1
    with pytest.raises(UserError, match="steps_per_epoch: 3 leave none for the kind b"):
        ways.share_steps({"a": 100, "b": 1}, 3)


def test_each_way_has_the_same_steps_and_each_kind_only_its_own_images():
    splits, kind_of = made_up("bbbbaaaaaaaaa", test="ab")
    setting = TileSetting(tile_size=64, balance_kinds=True)
    parts = ways.parts_of(splits, kind_of, setting, SETTING)
    assert list(parts) == [("as they come", "all"), ("balanced", "all"), ("one per kind", "a"), ("one per kind", "b")]
    assert [part.tiles.balance_kinds for part in parts.values()] == [False, True, False, False]
    assert [part.training.steps_per_epoch for part in parts.values()] == [10, 10, 6, 4]
    assert [part.training.validation_steps for part in parts.values()] == [3, 3, 2, 2]
    assert [len(part.splits["train"]) for part in parts.values()] == [13, 13, 9, 4]
    assert all("test" not in part.splits for part in parts.values())
    assert {kind_of[pair.stem] for pair in parts["one per kind", "b"].splits["valid"]} == {"b"}
    assert len({part.folder for part in parts.values()}) == 4


@pytest.fixture
def run(data_folder, splits, tmp_path):
    """A run of generated images that are not in its folder, so that they count as the user's own."""
    tiling.write_tile_set(splits, tmp_path / "tiles", TileSetting(tile_size=64))
    provenance.finish_run(tmp_path, data_folder, splits, provenance.hash_files(data_folder), seed=3)
    return tmp_path


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("ggggg", "holds images of one kind only, so there is nothing to compare. Use a run whose images are"),
        ("ggggd", "the kind d: has no training image, and no network can be trained for it alone"),
        ("gdggd", "the kind d: has no validation image, .*or write the name of a similar kind into kinds.csv"),
    ],
)
def test_kinds_that_cannot_be_compared_are_named(run, splits, of, words):
    stems = [pair.stem for pairs in splits.values() for pair in pairs]
    rows = [{"stem": stem, "kind": kind} for stem, kind in zip(stems, of, strict=True)]
    write_csv(run / "results" / kinds.TABLE, rows)
    with pytest.raises(UserError, match=words):
        ways.begin(run)


def test_the_router_looks_at_the_image_alone():
    black, white = np.zeros((40, 50, 3), np.uint8), np.full((40, 50, 3), 255, np.uint8)
    known = known_kinds({"a": cues(0.1), "b": cues(0.8)}, {"a": "dark", "b": "bright"})
    router = ways.Router(known, {"dark": lambda image: "by the dark network", "bright": lambda image: "by the other"})
    assert [router.kind_of(image) for image in (black, white)] == ["dark", "bright"]
    assert router(black) == "by the dark network" and router(white) == "by the other"
    channels = np.zeros((40, 50, 4), np.uint16)
    assert router.kind_of(channels) == "dark"


def counts(*dice):
    """Of images of 100 true pixels, by stem."""
    return {f"{'ab'[n % 2]}{n}": Counts(round(100 * d), 0, 200 - 2 * round(100 * d), 0) for n, d in enumerate(dice)}


def test_ways_are_compared_image_by_image_and_by_kind():
    found = {
        "as they come": counts(0.5, 0.2, 0.7),
        "balanced": counts(0.6, 0.2, 0.9),
        "one per kind": counts(0.6, 0.1, 0.6),
    }
    kind_of = {stem: stem[0] for stem in found["balanced"]}
    rows = ways.compare(found, kind_of, seed=1)
    assert [(row["kind"], row["images"]) for row in rows] == [("a", 2), ("b", 1), ("all", 3)]
    assert rows[0]["dice"]["balanced"]["mean"] == pytest.approx(0.75)
    assert rows[0]["dice"]["balanced"]["ci95"] == pytest.approx([0.6, 0.9])
    assert rows[0]["changes"]["balanced", "as they come"]["mean"] == pytest.approx(0.15)
    assert rows[0]["changes"]["balanced", "as they come"]["ci95"] == pytest.approx([0.1, 0.2])
    assert rows[2]["changes"]["one per kind", "balanced"]["mean"] == pytest.approx(-0.4 / 3)
    scores, changes = ways.score_table(rows), ways.change_table(rows)
    assert scores[0]["balanced"] == "0.750 (0.600 to 0.900)" and scores[1]["one per kind"] == "0.100"
    assert changes[0]["balanced, less as they come"] == "+0.150 (+0.100 to +0.200)"
    assert changes[1]["one per kind, less balanced"] == "-0.100"
    assert len(plots.Table(scores)) == 3


@pytest.mark.parametrize(
    ("interval", "margin", "found"),
    [
        ([0.1, 0.2], 0, True),
        ([-0.2, -0.1], 0, False),
        ([-0.1, 0.1], 0, None),
        ([-0.1, 0.1], -0.2, True),
        ([0.0, 0.0], 0.01, False),
        ([None, None], 0, None),
    ],
)
def test_a_change_is_judged_by_its_interval(interval, margin, found):
    assert ways.exceeds({"mean": 0, "ci95": interval}, margin) is found
