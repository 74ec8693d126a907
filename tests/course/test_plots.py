import base64

import numpy as np
import pytest

from tiledseg_utils.base.files import read_json
from tiledseg_utils.course import plots
from tiledseg_utils.scoring.pixels import Counts
from tiledseg_utils.tiles.planning import make_plan

IMAGE = np.full((60, 80, 3), 250, np.uint8)
MASK = np.zeros((60, 80), bool)
MASK[20:40, 50:70] = True


def test_magnitudes_are_brighter_by_powers_of_ten():
    shown = plots.magnitudes(np.array([0, 1e-7, 1e-6, 1e-3, 1, 3]))
    np.testing.assert_allclose(shown, [0, 0, 0, 0.5, 1, 1], atol=1e-6)


def test_overlay_mixes_without_wrapping_around():
    mixed = plots.overlay(IMAGE, MASK, color=(255, 255, 255), opacity=0.5)
    assert (mixed[MASK] == 252).all() and (mixed[~MASK] == 250).all()  # 252.5 to the even number
    assert (IMAGE == 250).all()  # not modified


def test_outline_surrounds_the_mask_and_nothing_else():
    outlined = plots.outline(IMAGE, MASK)
    changed = (outlined != IMAGE).any(axis=-1)
    assert changed[20, 50:70].all() and changed[20:40, 69].all()
    assert not changed[21:39, 51:69].any() and not changed[~MASK].any()


def test_error_map_tells_found_missed_and_invented_apart():
    prediction = np.roll(MASK, 10, axis=1)
    errors = plots.error_map(IMAGE, prediction, MASK)
    colors = {
        name: errors[30, column].astype(int) for name, column in (("missed", 55), ("found", 65), ("invented", 75))
    }
    assert colors["missed"].argmax() == 2 and colors["invented"].argmax() == 0 and colors["found"].argmax() == 1
    assert len(set(errors[5, 5].tolist())) == 1  # the rest is grey


def test_crop_finds_the_densest_spot_and_stays_inside():
    rows, columns = plots.crop_around(MASK, 30)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (30, 30)
    assert MASK[rows, columns].sum() == MASK.sum()
    assert plots.crop_around(np.zeros((50, 70), bool), 20) == (slice(15, 35), slice(25, 45))
    corner = np.zeros((50, 70), bool)
    corner[-1, -1] = True
    rows, columns = plots.crop_around(corner, 20)
    assert (rows.stop, columns.stop) == (50, 70)
    assert np.empty((10, 12))[plots.crop_around(np.ones((10, 12), bool), 20)].shape == (10, 12)


def test_pixelated_keeps_the_size_but_not_the_detail(rng):
    image = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    blocks = plots.pixelated(image, 8)
    assert blocks.shape == image.shape
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= 64


def test_a_figure_folder_writes_and_shows_the_figure_with_its_caption(tmp_path):
    picture = plots.FigureFolder(tmp_path).grid(
        "01_a", "Two pictures.", {"image": IMAGE, "mask": MASK * 0.5}, errors=True
    )
    assert read_json(tmp_path / "figures" / "01_a.json") == {"caption": "Two pictures."}
    data, metadata = picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == (tmp_path / "figures" / "01_a.png").read_bytes()
    assert metadata["image/png"]["alt"] == "Two pictures."


HISTORY = [
    {"epoch": epoch, "loss": 1 / epoch, "dice_coefficient": 0.5, "learning_rate": 0.1}
    | {"val_loss": 1.0, "val_dice_coefficient": 0.4}
    for epoch in (1, 2)
]
MANIFEST = [
    {"split": split, "foreground": foreground} for split in ("train", "valid", "test") for foreground in (0, 0.1)
]


@pytest.mark.parametrize(
    ("figure", "texts"),
    [
        (plots.training_curves(HISTORY, 2), {"validation", "best epoch"}),
        (plots.learning_curves({"unet": HISTORY, "other": HISTORY}), {"unet", "other"}),
        (plots.tile_chart(MANIFEST), {"with foreground", "empty"}),
        (
            plots.threshold_curve([0.2, 0.5], [Counts(1, 2, 3, 4), Counts(4, 3, 2, 1)], 0.5),
            {"dice", "precision", "recall"},
        ),
    ],
)
def test_curves_explain_their_lines(figure, texts):
    legends = {text.get_text() for ax in figure.axes if ax.get_legend() for text in ax.get_legend().get_texts()}
    assert texts <= legends
    assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes)


def test_paired_scores_join_the_right_points():
    figure = plots.paired_scores({"a": 0.9, "b": 0.7}, {"b": 0.1, "a": 0.2}, "Dice")
    assert sorted(line.get_ydata().tolist() for line in figure.axes[0].lines) == [[0.1, 0.7], [0.2, 0.9]]


def test_paired_scores_can_have_other_names():
    figure = plots.paired_scores({"a": 0.9}, {"a": 0.2}, "Dice", names=("unseen", "seen"))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["unseen", "seen"]


def test_costs_are_grouped_by_their_unit_with_their_intervals():
    rows = [
        {"pitfall": "a", "cost": 0.2, "low": 0.1, "high": 0.3, "unit": "Dice lost"},
        {"pitfall": "b", "cost": 12.0, "low": -1.0, "high": 20.0, "unit": "% more"},
        {"pitfall": "c", "cost": 0.1, "low": None, "high": None, "unit": "Dice too high"},
    ]
    dice, percent = plots.cost_intervals(rows).axes
    assert [label.get_text() for label in dice.get_yticklabels()] == ["a", "c"]
    assert [text.get_text() for text in dice.texts] == ["0.2 Dice lost", "0.1 Dice too high"]
    assert [list(ax.lines[0].get_xdata()) for ax in (dice, percent)] == [[0.1, 0.3], [-1, 20]]
    fills = [line.get_markerfacecolor() for line in (dice.lines[1], percent.lines[1])]
    assert fills == [plots.TILED, "white"]  # The interval of b reaches below zero.
    assert dice.get_xlim()[0] < 0 and percent.get_xlim()[0] < -1


def test_cost_chart_fills_what_is_exact():
    rows = [
        {"model": name, "parameters": 10**6, "seconds_per_step": 0.1, "dice_tiled": 0.9, "exact": exact}
        for name, exact in (("unet", "yes"), ("other", "image_mean"))
    ]
    ax = plots.cost_chart(rows).axes[0]
    assert [len(points.get_facecolor()) for points in ax.collections] == [1, 0]
    assert [text.get_text() for text in ax.texts] == ["unet", "other"]


def test_reach_chart_frames_the_receptive_field():
    window = (slice(10, 42), slice(20, 52))
    influence = np.zeros((16, 16), np.float32)
    figure = plots.reach_chart(IMAGE, (26, 36), 9, influence, window)
    for ax in figure.axes[:2]:
        (frame,) = ax.patches
        assert frame.get_xy() == (26.5, 16.5) and frame.get_width() == frame.get_height() == 19
        assert ax.get_xlim() == (20, 52) and ax.get_ylim() == (42, 10)  # rows grow downwards
    assert "frame of 19 px" in figure.axes[0].get_title()


def test_plan_chart_marks_junctions_and_what_of_a_tile_is_used():
    plan = make_plan((60, 80), tile=32, overlap=16, dropped=8)
    figure = plots.plan_chart(IMAGE, {"with halo": plan, "beside": make_plan((60, 80), 32, 0, 0)})
    ax = figure.axes[0]
    assert len(ax.lines) == len(plan.rows.seams) + len(plan.columns.seams)
    tile, used = ax.patches
    assert (tile.get_x(), tile.get_y()) == (32, 16) and tile.get_width() == 32
    assert (used.get_x(), used.get_y(), used.get_width(), used.get_height()) == (40, 24, 16, 12)
    assert f"{plan.count} tiles" in ax.get_title()


def test_disagreement_is_held_against_the_error_where_tiles_meet():
    disagreement = np.array([[0, 1e-4, 1e-3, 1e-2]])
    pictures, claim = plots.disagreement_pictures(disagreement, np.array([[0.5, 1e-4, 1e-3, 1e-2]]))
    assert claim.holds
    np.testing.assert_array_equal(*pictures.values())  # The error outside what tiles share is not shown.
    assert not plots.disagreement_pictures(disagreement, disagreement[:, ::-1])[1].holds


def test_error_pictures_show_every_way_around_the_foreground():
    image, masks = np.zeros((600, 900, 3), np.uint8), {"tiled": {"a": np.ones((600, 900), bool)}}
    reference = np.zeros((600, 900), bool)
    reference[100:110, 800:810] = True
    pictures = plots.error_pictures("a", image, reference, masks, {"tiled": {"a": 0.25}})
    assert list(pictures) == ["a, reference", "tiled, Dice 0.250"]
    assert all(picture.shape == (480, 480, 3) for picture in pictures.values())
