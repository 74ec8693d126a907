"""The exercises of lesson 7: solutions pass, stubs are told as such, and each typical error has a hint of its own."""

from tiledseg_utils.course.exercises import lesson_07
from tiledseg_utils.models import MODELS, build_model
from tiledseg_utils.models.backend import layers
from tiledseg_utils.models.receptive_field import receptive_field

from .table import require_table


def convolution(x, filters, rate=1, padding="same"):
    return layers.Conv2D(filters, 3, padding=padding, dilation_rate=rate, use_bias=False)(x)


def unpadded(x, filters, rate):
    return convolution(convolution(x, filters, rate, "valid"), filters, rate, "valid")


def only_one(x, filters, rate):
    return layers.Add()([x, convolution(x, filters, rate)])


def without_rate(x, filters, rate):
    return layers.Add()([x, convolution(convolution(x, filters), filters)])


def side_by_side(x, filters, rate):
    return layers.Add()([x, convolution(x, filters, rate), convolution(x, filters, rate)])


def without_shortcut(x, filters, rate):
    return convolution(convolution(x, filters, rate), filters, rate)


WRONG = {
    "check_parameters": [
        (18432, "two numbers in a list"),
        ([18496, 2336], "64 biases"),
        ([288, 2336], "each of the 64 outputs"),
        ([18432, 288], "1 x 1 convolution"),
        ([18432, 2624], "32 or 64"),
        ([18432, 9216], "which add up"),
    ],
    "check_residual": [
        (unpadded, "keep the size"),
        (only_one, "exactly twice"),
        (without_rate, "pass `rate` on"),
        (side_by_side, "read the same features"),
        (without_shortcut, "unchanged"),
    ],
    "check_not_exact": [
        ("deeplab_v3_plus", "a set of names"),
        ({"swin_unet", "deeplab_v3_plus"}, "one window at a time"),
        ({"attention_unet"}, "1 x 1 convolutions"),
        ({"unet3_plus", "efficient_unet"}, "limited neighbourhood"),
        ({"efficient_unet"}, "black block"),
        ({"deeplab_v3_plus"}, "weighs its channels"),
    ],
    "check_levels": [(4, "below 64"), (2, "Try more"), (6, "fewer levels")],
}


def test_exercises():
    require_table(lesson_07, WRONG)


def test_the_solutions_are_what_the_networks_say():
    small = {"unet": {"base_filters": 2, "levels": 2}, "deeplab_v3_plus": {"encoder": "MobileNetV2", "filters": 8}}
    fields = {
        name: receptive_field(build_model(name, small.get(name, {}))) for name in MODELS if name in lesson_07.NAMES
    }
    assert fields.keys() == lesson_07.NAMES
    assert {name for name, field in fields.items() if field.non_local_layers} == lesson_07.check_not_exact.solution
    halos = {n: receptive_field(build_model("unet", {"base_filters": 2, "levels": n})).halo for n in range(2, 7)}
    assert min(n for n, halo in halos.items() if halo >= 64) == lesson_07.check_levels.solution
