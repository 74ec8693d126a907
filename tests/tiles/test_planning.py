import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiledseg_utils.base.files import UserError
from tiledseg_utils.tiles.planning import blended_plan, exact_plan, make_axis


@st.composite
def axes(draw):
    """Arguments of `make_axis` of all kinds, small images and clamped last tiles included."""
    alignment = draw(st.sampled_from([1, 2, 8]))
    tile = alignment * draw(st.integers(1, 12))
    overlap = alignment * draw(st.integers(0, tile // alignment - 1))
    return draw(st.integers(1, 300)), tile, overlap, draw(st.integers(0, overlap // 2)), alignment


@given(axes())
def test_weights_of_an_axis_add_up_to_one_at_every_pixel(arguments):
    axis = make_axis(*arguments)
    total = np.zeros(axis.length)
    for origin, weights in zip(axis.origins, axis.weights, strict=True):
        total[origin : origin + axis.tile] += weights
        assert weights.min() >= 0
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes())
def test_tiles_are_aligned_inside_the_image_and_never_use_what_is_dropped(arguments):
    length, tile, _, dropped, alignment = arguments
    axis = make_axis(*arguments)
    assert axis.length == math.ceil(length / alignment) * alignment
    assert all(origin % alignment == 0 for origin in axis.origins)
    assert axis.origins[0] == 0 and axis.origins[-1] + axis.tile == axis.length
    assert axis.tile <= tile
    for index in range(len(axis.origins)):
        used = axis.used(index)
        assert index == 0 or used.start >= dropped
        assert index + 1 == len(axis.origins) or used.stop <= axis.tile - dropped


def test_without_a_ramp_every_pixel_belongs_to_one_tile():
    axis = make_axis(2096, 512, 192, 96, 16)
    assert axis.origins == (0, 320, 640, 960, 1280, 1584)
    assert axis.seams == (416, 736, 1056, 1376, 1680)
    assert set(np.unique(axis.weights)) == {0, 1}
    assert [axis.used(i) for i in (0, 1, 5)] == [slice(0, 416), slice(96, 416), slice(96, 512)]


def test_a_ramp_is_half_a_hann_window():
    axis = make_axis(100, 60, 20, 0)
    rise = axis.weights[1, :20]
    np.testing.assert_allclose(rise, np.sin(np.pi / 2 * (np.arange(20) + 0.5) / 20) ** 2, atol=1e-6)
    np.testing.assert_allclose(axis.weights[0, 40:], rise[::-1], atol=1e-6)
    assert axis.seams == (50,) and rise[9] < 0.5 < rise[10]


@pytest.mark.parametrize("arguments", [(0, 4, 0, 0), (9, 4, 4, 0), (9, 4, 2, 2), (9, 0, 0, 0), (9, 4, 2, -1)])
def test_axes_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="length"):
        make_axis(*arguments)


def test_exact_tiles_have_a_halo_but_at_the_border():
    plan = exact_plan((2096, 700, 3), alignment=16, halo=96, tile_size=512)
    assert plan.tile == (512, 512) and plan.count == 6 * 2 and plan.pixels == 12 * 512**2
    for axis in (plan.rows, plan.columns):
        for index in range(len(axis.origins)):
            used = axis.used(index)
            assert used.start >= 96 or (index == 0 and used.start == 0)
            assert used.stop <= axis.tile - 96 or (index + 1 == len(axis.origins) and used.stop == axis.tile)


def test_an_image_smaller_than_a_tile_is_one_tile_however_large_the_halo():
    plan = exact_plan((100, 180), alignment=16, halo=96, tile_size=192)
    assert plan.tile == (112, 192) and plan.count == 1 and plan.rows.seams == ()


@pytest.mark.parametrize("max_pixels", [150_000, 400_000, 1_000_000, 3_000_000])
@pytest.mark.parametrize("shape", [(2096, 2096), (700, 5000), (4000, 300), (61, 61)])
def test_a_chosen_tile_is_allowed_and_no_square_is_cheaper(shape, max_pixels):
    plan = exact_plan(shape, alignment=16, halo=96, max_pixels=max_pixels)
    assert math.prod(plan.tile) <= max_pixels
    assert plan.tile[0] % 16 == 0 and plan.tile[1] % 16 == 0
    largest = math.isqrt(max_pixels) // 16 * 16
    assert plan.pixels <= min(exact_plan(shape, 16, 96, side).pixels for side in range(208, largest + 1, 16))


def test_the_whole_image_is_chosen_when_it_is_allowed():
    assert exact_plan((1000, 600), 16, 96, max_pixels=1008 * 608).count == 1
    assert exact_plan((1000, 600), 16, 96).count == 1


def test_blending_drops_the_outer_pixels_and_keeps_a_ramp():
    plan = blended_plan((2096, 400), alignment=16, halo=96, overlap=64, tile_size=512)
    used = plan.rows.used(1)
    assert (used.start, used.stop) == (24, 488)
    assert plan.columns.tile == 400 and plan.columns.origins == (0,)
    generous = blended_plan((2096, 2096), alignment=16, halo=96, overlap=256, tile_size=512)
    assert generous.rows.used(1) == slice(96, 416)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: exact_plan((900, 900), 16, 96, 500),
            "tile size 500: does not fit the poolings.*multiple of 16 pixels",
        ),
        (lambda: exact_plan((900, 900), 16, 96, 192), "tile size 192: is all halo.*at least 208 pixels, or mode blend"),
        (lambda: exact_plan((900, 900), 16, 96, max_pixels=40_000), "memory_mib: is too little.*43264 is the least"),
        (lambda: blended_plan((900, 900), 16, 96, 40, 512), "overlap 40: takes tiles off the grid.*multiple of 16"),
        (lambda: blended_plan((900, 900), 16, 96, 272, 512), "overlap 272: does not fit tiles of 512 px"),
    ],
)
def test_plans_that_cannot_be(make, message):
    with pytest.raises(UserError, match=message):
        make()
