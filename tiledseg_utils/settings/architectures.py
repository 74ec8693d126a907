"""The settings of each architecture: what a preset may give for it. `models` builds what they describe.

This module knows nothing of Keras, so that a preset is checked in a moment.
"""

from typing import Literal

from pydantic import model_validator

from ..base.files import UserError
from .schema import decimal, field, one_of, setting, whole

Name = Literal[
    "unet", "attention_unet", "multires_unet", "unet3_plus", "efficient_unet", "deeplab_v3_plus", "swin_unet"
]

WIDEST = 2048
"""Filters of the deepest level of the published experiment's network, of 124,557,041 parameters; more fit no machine
that this course is for."""

FILTERS, LEVELS = "filters of the first level; they double with each level", "resolutions, the deepest included"
PATCH_SIZE = "side of the blocks of pixels that are folded into channels before the first level"


def _check_width(settings) -> None:
    """Refuse networks that are too large to be built, which would take hours or all memory to find out."""
    widest = settings.base_filters * 2 ** (settings.levels - 1)
    if widest > WIDEST:
        problem = f"{settings.base_filters} in {settings.levels} levels are {widest} filters in the deepest level"
        raise UserError("base_filters", problem, f"Use fewer levels or filters: at most {WIDEST} in the deepest")


class _Pyramid:
    """What architectures share whose filters double where the resolution halves."""

    @property
    def alignment(self) -> int:
        """Of what number of pixels the sides of tiles must be multiples."""
        return self.patch_size * 2 ** (self.levels - 1)

    @model_validator(mode="after")
    def _is_no_giant(self):
        _check_width(self)
        return self


@setting
class Unet(_Pyramid):
    """Settings of `models.unet`."""

    base_filters: whole(1, 512) = field(16, FILTERS)
    levels: whole(2, 10) = field(5, LEVELS)
    first_kernel: one_of(1, 3, 5, 7, 9, 11, 13, 15) = field(3, "side of the kernels at full resolution", "pixels")
    dropout: decimal(0, 0.99) = field(0.0, "rate per level; it grows with depth")
    dilation: whole(1, 64) = field(1, "distance of a kernel's points at full resolution", "pixels")
    normalization: Literal["none", "batch"] = field("none", "of the layers")
    color_space: Literal["rgb", "hsv", "hls", "lab"] = field("rgb", "into which the model converts its input")
    patch_size: whole(1, 8) = field(1, PATCH_SIZE, "pixels")
    gamma: decimal(0.1, 10) = field(1.0, "exponent of the input, in [0, 1], before its colours; above 1 darkens")
    activation: Literal["relu", "mish"] = field("relu", "between the layers; mish is smooth (Misra 2020)")
    prior: decimal(0.0001, 0.9999) = field(0.02, "what a new network predicts; 0.5 is a bias of 0", "probability")

    @model_validator(mode="after")
    def _keeps_something(self):
        deepest = self.dropout * (self.levels - 1)
        if deepest >= 1:
            problem = f"{self.dropout} in {self.levels} levels drops everything in the deepest"
            raise UserError("dropout", problem, f"Give less than {1 / (self.levels - 1):.3g}")
        return self


@setting
class AttentionUnet(_Pyramid):
    """Settings of `models.attention_unet`."""

    base_filters: whole(1, 512) = field(16, FILTERS)
    levels: whole(2, 10) = field(4, LEVELS)
    gate: Literal["grid", "channels"] = field("grid", "where attention works; the paper's is grid")
    dropout: decimal(0, 0.99) = field(0.0, "rate between the convolutions of a block")
    patch_size: whole(1, 8) = field(2, PATCH_SIZE, "pixels")


@setting
class MultiresUnet(_Pyramid):
    """Settings of `models.multires_unet`."""

    base_filters: whole(4, 512) = field(16, FILTERS)
    levels: whole(2, 10) = field(4, LEVELS)
    patch_size: whole(1, 8) = field(2, PATCH_SIZE, "pixels")


@setting
class Unet3Plus(_Pyramid):
    """Settings of `models.unet3_plus`."""

    base_filters: whole(1, 512) = field(8, FILTERS)
    levels: whole(2, 10) = field(4, LEVELS)
    patch_size: whole(1, 8) = field(2, PATCH_SIZE, "pixels")


@setting
class EfficientUnet:
    """Settings of `models.efficient_unet`."""

    alignment = 32

    version: Literal["B0", "B1", "B2", "B3", "B4", "B5", "B6", "B7"] = field("B0", "of the EfficientNet")
    base_filters: whole(1, 128) = field(8, "filters of the decoder at full resolution")
    weights: Literal["none", "imagenet"] = field("none", "with which the encoder starts; imagenet is downloaded once")


@setting
class DeeplabV3Plus:
    """Settings of `models.deeplab_v3_plus`."""

    alignment = 16

    encoder: Literal["ResNet50", "MobileNetV2"] = field("ResNet50", "encoder; MobileNetV2 takes a tenth of the time")
    filters: whole(1, 2048) = field(64, "filters of the pyramid and the decoder")
    weights: Literal["none", "imagenet"] = field("none", "with which the encoder starts; imagenet is downloaded once")


@setting
class SwinUnet:
    """Settings of `models.swin_unet`."""

    base_filters: whole(1, 512) = field(32, "channels of the first level; from 64 on a multiple of 32")
    levels: whole(1, 8) = field(3, LEVELS)
    window: whole(2, 32) = field(4, "side of the windows", "patches of 4 pixels")

    @property
    def alignment(self) -> int:
        """Of what number of pixels the sides of tiles must be multiples."""
        return 4 * self.window * 2 ** (self.levels - 1)

    @model_validator(mode="after")
    def _has_whole_heads(self):
        if self.base_filters >= 64 and self.base_filters % 32:
            raise UserError(
                "base_filters", f"{self.base_filters} is not a multiple of 32", "Give a multiple from 64 on"
            )
        _check_width(self)
        return self


@setting
class ModelSettings:
    """Settings of the architectures, by their name."""

    unet: Unet = field(Unet, "see notebook 3")
    attention_unet: AttentionUnet = field(AttentionUnet, "see notebook 7")
    multires_unet: MultiresUnet = field(MultiresUnet, "see notebook 7")
    unet3_plus: Unet3Plus = field(Unet3Plus, "see notebook 7")
    efficient_unet: EfficientUnet = field(EfficientUnet, "see notebook 7")
    deeplab_v3_plus: DeeplabV3Plus = field(DeeplabV3Plus, "see notebook 7")
    swin_unet: SwinUnet = field(SwinUnet, "see notebook 7")
