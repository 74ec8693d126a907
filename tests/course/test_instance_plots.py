"""What notebook 8 shows of instances."""

import numpy as np
import pytest

from tiledseg_utils.course import instance_plots
from tiledseg_utils.course.plots import FOUND, INVENTED, MISSED
from tiledseg_utils.data.images import Pair
from tiledseg_utils.data.pictures import write_image
from tiledseg_utils.models.instance_targets import instance_targets
from tiledseg_utils.scoring.matching import THRESHOLDS, Matches


def squares(*corners, side=12, shape=(60, 60)):
    labels = np.zeros(shape, np.int32)
    for number, (row, column) in enumerate(corners, start=1):
        labels[row : row + side, column : column + side] = number
    return labels


REFERENCE = squares((10, 10), (10, 22), (40, 40))


def test_outlines_run_between_touching_nuclei():
    picture = instance_plots.outlines(np.zeros((60, 60, 3), np.uint8), REFERENCE)
    assert (picture[15, 21] == FOUND).all() and not picture[15, 15].any() and not picture[30, 30].any()


def test_matches_misses_and_inventions_have_their_colours():
    found = squares((10, 10), (40, 10))  # one right, one invented, two missed
    picture = instance_plots.match_picture(np.zeros((60, 60, 3), np.uint8), found, REFERENCE)
    assert (picture[10, 15] == FOUND).all()
    assert (picture[40, 15] == INVENTED).all()
    assert (picture[40, 45] == MISSED).all()


def test_opposite_directions_have_opposite_hues():
    pictures = instance_plots.map_pictures(instance_targets(REFERENCE))
    direction = pictures["direction to the centre"].astype(int)
    assert not direction[0, 0].any()
    left, right = direction[46, 41], direction[46, 50]
    assert np.abs(left - right).sum() > 300
    assert pictures["interior (green), boundary (red)"][46, 46].tolist() == [0, 255, 0]
    assert pictures["interior (green), boundary (red)"][40, 46].tolist() == [255, 0, 0]


def sweep(tp, fp, fn):
    return [Matches(tp, fp, fn, 0.8 * tp)] * len(THRESHOLDS)


def test_rows_count_and_gains_have_the_sign_of_the_difference():
    sweeps = {
        "components": {"a": sweep(2, 1, 4), "b": sweep(3, 0, 3)},
        "flow": {"a": sweep(6, 0, 0), "b": sweep(5, 0, 1)},
    }
    rows = instance_plots.score_rows(sweeps)
    assert [row["method"] for row in rows] == ["components", "flow"]
    assert (rows[0]["counted"], rows[0]["there"]) == (6, 12)
    assert rows[1]["f1"] == pytest.approx((1 + 10 / 11) / 2) and rows[1]["low"] <= rows[1]["f1"] <= rows[1]["high"]
    gains, (claim,) = instance_plots.gains(sweeps, ["a", "b"])
    assert gains["flow"]["mean"] > 0.3 and claim.holds
    _, (claim,) = instance_plots.gains(dict(reversed(sweeps.items())), ["a", "b"])
    assert not claim.holds


def test_a_perfect_network_is_as_good_as_its_method():
    found, sweeps = instance_plots.compare_methods({"a": instance_targets(REFERENCE)}, {"a": REFERENCE}, 16)
    assert {method: labels["a"].max() for method, labels in found.items()} == {
        "components": 2, "watershed": 2,  # of two squares side by side, the shape has no waist
        "boundary": 3, "flow": 3, "combined": 3
    }  # fmt: skip
    assert sweeps["flow"]["a"][0].f1 == 1 > sweeps["components"]["a"][0].f1
    rules = {row["rule"]: row["mean_f1"] for row in instance_plots.rule_rows(found["flow"], {"a": REFERENCE})}
    assert set(rules.values()) == {1.0}


def test_the_rule_is_chosen_by_method_threshold_and_flow(tmp_path):
    """Faint nuclei need a lower threshold, and what is no nucleus, flows that do not lead to its middle."""
    write_image(tmp_path / "a.png", np.zeros((*REFERENCE.shape, 3), np.uint8))
    write_image(tmp_path / "a.tif", REFERENCE)
    pairs = [Pair("a", tmp_path / "a.png", tmp_path / "a.tif")]

    def chosen(maps):
        return instance_plots.choose_rule(lambda image: maps, pairs, 16)

    maps = instance_targets(REFERENCE)
    assert chosen(maps)[0] == {"method": "boundary", "threshold": 0.5, "flow_threshold": 0.0}
    faint = maps * np.float32([0.45, 1, 1, 1, 1, 1])
    rule, tried = chosen(faint)
    assert [row["f1"] for row in tried[:5]] == [0] * 5 and tried[5]["f1"] > 0  # At 0.5, no method finds anything.
    # So flows are checked before the method is known: two squares taken for one do not pass.
    assert rule == {"method": "boundary", "threshold": 0.4, "flow_threshold": 0.4}
    maps[-10:-2, 2:10, 0] = 1  # without flows
    rule, tried = chosen(maps)
    assert rule == {"method": "boundary", "threshold": 0.5, "flow_threshold": 0.4}
    assert len({tuple(row.values()) for row in tried}) == len(tried)


def test_the_share_of_nuclei_that_components_lose():
    assert instance_plots.touching_share(REFERENCE) == pytest.approx(1 / 3)
    assert instance_plots.touching_share(np.zeros((20, 20), np.int32)) == 0


def test_the_histogram_counts_each_nucleus_once():
    figure = instance_plots.area_histogram({"components": np.array([10, 10, 40]), "flow": np.array([])})
    (outline, _) = figure.axes[0].patches
    assert outline.get_xy()[:, 1].max() == 2 and outline.get_xy()[:, 0].max() == 40
    instance_plots.area_histogram({"flow": np.array([])})
