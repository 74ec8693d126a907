import pytest
from matplotlib import colors
from matplotlib.patches import PathPatch, Rectangle

from tiledseg_utils import models
from tiledseg_utils.course import diagrams


def parts(name, settings, size=64):
    """Heights of the blocks from left to right, their colours, and the ends of the arcs from left to right."""
    ax = diagrams.network_diagram(models.build_model(name, settings), size).axes[0]
    blocks = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    arcs = [patch.get_path().vertices[[0, -1], 0] for patch in ax.patches if isinstance(patch, PathPatch)]
    assert all(start < end for start, end in arcs)
    names = {color: kind for kind, color in diagrams.COLORS.items()}
    kinds = [names[colors.to_hex(patch.get_facecolor()).upper()] for patch in blocks]
    return [patch.get_height() for patch in blocks], kinds, arcs


def test_a_unet_is_as_deep_as_its_levels_with_a_skip_for_all_but_one():
    heights, kinds, arcs = parts("unet", {"base_filters": 4, "levels": 3})
    assert heights == [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 2, 1 / 2, 1, 1, 1]
    assert kinds == ["convolution"] * 10 + ["1x1 convolution"]
    assert len(arcs) == 2
    assert parts("unet", {"base_filters": 4, "levels": 3, "patch_size": 2})[0] == [height / 2 for height in heights]


@pytest.mark.parametrize(
    ("name", "settings", "kind", "count"),
    [
        ("attention_unet", {"base_filters": 4, "levels": 3}, "gate", 2),
        ("deeplab_v3_plus", {"filters": 8}, "dilated convolution", 3),
        ("swin_unet", {"base_filters": 16, "levels": 2, "window": 2}, "attention in windows", 6),
    ],
)
def test_what_is_special_has_a_color_of_its_own(name, settings, kind, count):
    assert parts(name, settings)[1].count(kind) == count


def test_nodes_of_unet3_plus_have_arcs_from_every_scale():
    """Of three levels: into each of two nodes, all views but the nearest; and where its views come together."""
    _, _, arcs = parts("unet3_plus", {"base_filters": 4, "levels": 3, "patch_size": 1})
    assert len({round(start, 6) for start, _ in arcs if start < arcs[0][1]}) >= 3 and len(arcs) == 8
