import math

import numpy as np
import pytest

from tiledseg_utils.course.claims import Claim, architecture_claims, interval_text, method_claims


def test_a_claim_says_whether_it_holds():
    assert Claim("Water is wet.", np.bool_(True))._repr_markdown_() == "**✔ As expected:** Water is wet."
    assert "✘ Not so in this run" in Claim("Water is dry.", False)._repr_markdown_()


def method_row(way, dice, difference=0.0, seam=1.0, seconds=1.0):
    return {"method": way, "dice": dice, "largest_difference": difference, "seam_score": seam, "seconds": seconds}


@pytest.mark.parametrize(
    ("exact", "odd", "seam", "turned", "expected"),
    [(1e-7, 0.2, 6.0, 0.91, [True] * 4), (1e-3, 0.0, 0.9, 0.89, [False] * 4)],
)
def test_claims_about_methods_of_tiling_follow_the_measurements(exact, odd, seam, turned, expected):
    rows = [
        method_row("whole image", 0.9),
        method_row("exact", 0.9, exact),
        method_row("one pixel more", 0.9, odd),
        method_row("side by side", 0.9, seam=seam),
        method_row("blended", 0.9),
        method_row("8 views", turned, seconds=8.0),
    ]
    claims = method_claims(rows)
    assert [claim.holds for claim in claims] == expected
    assert "8.0 times" in claims[-1].sentence
    small_tiles = [row for row in rows if row["method"] not in ("exact", "one pixel more")]
    assert [claim.holds for claim in method_claims(small_tiles)] == expected[2:]


def test_without_seams_there_is_nothing_to_claim():
    ways = ("whole image", "side by side", "blended", "8 views")
    claims = method_claims([method_row(way, 0.9, seam=math.nan) for way in ways])
    assert claims[0].holds is None and "no seams" in claims[0].sentence


def test_claims_about_architectures_are_about_those_that_are_there():
    rows = [
        {"dice_tiled": 0.9, "dice_non_tiled": 0.5, "exact": "yes", "largest_difference": 1e-7},
        {"dice_tiled": 0.9, "dice_non_tiled": 0.5, "exact": "ImageMean", "largest_difference": 0.1},
    ]
    assert [claim.holds for claim in architecture_claims(rows)] == [True] * 3
    assert [claim.holds for claim in architecture_claims(rows[:1])] == [True] * 2
    assert not architecture_claims([{**rows[0], "dice_non_tiled": 0.95}])[0].holds


def test_an_interval_ends_a_sentence_if_there_is_one():
    assert interval_text([0.1, 0.25]) == ", 95 % interval 0.100 to 0.250"
    assert interval_text([None, None]) == ""
