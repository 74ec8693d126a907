"""The sentence that a report opens with, for each way a run may turn out."""

import pytest

from tiledseg_utils.course.verdict import LEAD_PICTURES, interval, lead_picture, verdict, versus, warnings


def metrics_of(difference, *rivals, images=10, tiled=0.958):
    return {
        "data": {"images": {"test": images}},
        "tiled": {"dice": {"mean": tiled}},
        "difference": {"dice_mean": difference[0], "ci95": list(difference[1:])},
        "baselines": [
            {
                "way": way,
                "reduced_to": size,
                "dice": {"mean": tiled - mean},
                "difference": {"dice_mean": mean, "ci95": ci},
            }
            for way, size, mean, ci in rivals
        ],
    }


def test_the_strongest_rival_that_reduces_and_the_whole_image_have_clauses_of_their_own():
    rivals = [
        ("reduced to 512 px", 512, 0.48, [0.25, 0.71]),
        ("reduced to 1024 px", 1024, 0.0528, [0.0379, 0.0664]),
        ("same network, whole image in one piece", None, 0.0, [0.0, 0.0]),
    ]
    assert verdict(metrics_of((0.8305, 0.7008, 0.9468), *rivals)) == (
        "Tiled prediction scores 0.958 mean Dice on 10 test images: 0.831 more than the same network on one reduced "
        "image (95 % interval 0.701 to 0.947), 0.053 more than the strongest fair rival that reduces the image, "
        "“reduced to 1024 px” (95 % interval 0.038 to 0.066), and as much as the whole image in one piece."
    )


def test_a_single_image_without_rivals():
    assert verdict(metrics_of((0.4, None, None), images=1)) == (
        "Tiled prediction scores 0.958 mean Dice on 1 test image: 0.400 more than the same network on one reduced "
        "image (one image gives no interval)."
    )


def test_with_classes_the_dice_is_that_of_all_together():
    of_classes = {"classes": [{"class": "nucleus", "pooled_dice": 0.9, "images": 1}]}
    sentence = verdict(metrics_of((0.4, None, None), images=1) | of_classes)
    assert sentence.startswith("Tiled prediction scores 0.958 mean Dice of all classes together on 1 test image: 0.400")


@pytest.mark.parametrize(
    ("mean", "ci95", "words"),
    [
        (0.2, [0.1, 0.3], "0.200 more than it (95 % interval 0.100 to 0.300)"),
        (-0.2, [-0.3, -0.1], "0.200 less than it (95 % interval 0.100 to 0.300)"),
        (0.02, [-0.01, 0.05], "not clearly more or less than it (+0.020, 95 % interval -0.010 to +0.050)"),
        (0.02, [0.0, 0.05], "not clearly more or less than it (+0.020, 95 % interval +0.000 to +0.050)"),
        (-0.02, [-0.05, 0.01], "not clearly more or less than it (-0.020, 95 % interval -0.050 to +0.010)"),
        (0.0, [0.0, 0.0], "as much as it"),
        (0.0001, [-0.0002, 0.0003], "as much as it"),
        (-0.1, [None, None], "0.100 less than it (one image gives no interval)"),
        (0.0, [None, None], "as much as it"),
    ],
)
def test_differences_in_words(mean, ci95, words):
    assert versus({"dice_mean": mean, "ci95": ci95}, "it") == words


def test_intervals_have_signs():
    assert interval([-0.0104, 0.05]) == "-0.010 to +0.050" and interval([None, None]) == ""


def test_the_lead_picture_is_the_most_telling_that_is_there():
    assert lead_picture({"04_gallery", "05_rivals", "00_first"}) == "05_rivals"
    assert lead_picture(LEAD_PICTURES) == LEAD_PICTURES[0] == "05_side_by_side"
    assert lead_picture({"b", "a"}) == "a" and lead_picture(()) is None


def with_scores(per_image, kinds=()):
    metrics = metrics_of((0.8, 0.7, 0.9))
    metrics["tiled"]["dice"]["per_image"] = per_image
    return metrics | ({"kinds": kinds} if kinds else {})


def test_a_lost_kind_is_told_and_its_images_are_not_told_again():
    kinds = [
        {"kind": "bright grey", "images": 3, "mean": 0.009, "stems": ["a", "b", "c"]},
        {"kind": "dark", "images": 1, "mean": 0.9, "stems": ["d"]},
    ]
    metrics = with_scores({"a": 0.0, "b": 0.02, "c": 0.007, "d": 0.9}, kinds)
    lost = "The kind “bright grey” is lost: its 3 test images score 0.009 mean Dice."
    assert warnings(metrics) == [lost] and verdict(metrics).endswith(f". {lost}")


def test_single_images_near_zero_are_told():
    assert warnings(with_scores({"a": 0.05, "b": 0.02, "c": 0.95})) == [
        "Look at the errors: 2 test images score below 0.1 Dice, the lowest b (0.020)."
    ]
    assert warnings(with_scores({"a": 0.1, "b": 0.02}))[0].startswith("Look at the errors: 1 test image scores below")
    assert warnings(with_scores({"a": 0.5})) == [] and warnings(metrics_of((0.8, 0.7, 0.9))) == []
