"""Options of the command line that are no parameters of a run, checked as these are."""

from typing import Literal

from .schema import decimal, field, setting, sizes, whole, wholes, zero_or


@setting
class CommandSetting:
    """Options of the command line that are no parameters of a run."""

    seeds: whole(1, 100) = field(1, "trainings of each split, which differ in their seed alone", "trainings")
    jpeg_quality: whole(1, 100) = field(90, "quality of JPEG images; without it, PNG images are written")
    touching: decimal(0, 1) = field(0.7, "share of cells laid beside another; smears to count in", "share")
    skip_contrast: whole(0, 255) = field(0, "grey levels; tiles that span fewer are skipped", "grey levels")
    non_tiled: zero_or(32, 8192) = field(
        0, "side of the one tile to which each image is reduced instead of being cut; 0 predicts in tiles", "pixels"
    )
    iou_thresholds: sizes(0.5, 1) = field(
        lambda: [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9], "IoU from which two objects match, one or more"
    )
    rules: Literal["default", "every", "neurips"] = field(
        "default",
        "objects that count: default leaves out those within 2 pixels of the border, every takes all, as StarDist and "
        "the Data Science Bowl 2018 do, neurips is the challenge's",
    )
    objects: Literal["auto", "components", "none"] = field(
        "auto",
        "what is an object: auto takes labels where both folders hold them, components the pieces of masks; none "
        "scores pixels alone",
    )
    nucleus_area: whole(1, 10**9) = field(16, "size of the smallest nucleus that is kept", "pixels")
    flow_threshold: decimal(0, 4) = field(
        0.0,
        "mean squared difference of the predicted flow from a nucleus' own, from which the nucleus is dropped; "
        "0 keeps all, and Cellpose uses 0.4",
    )
    pixel_size: decimal(0.001, 1000) = field(
        ..., "side of a pixel of the full image; by default what the image's file says", "µm"
    )
    ome_zarr: Literal["0.4", "0.5"] = field(
        "0.4", "version of ome.zarr: 0.4 is what most programs open, 0.5 is newer and stands on Zarr 3"
    )
    level: whole(0, 40) = field(0, "level of a pyramid that is read; 0 is the full resolution")
    series: whole(0, 10**6) = field(..., "number of the image in a file of several; by default what a slide is about")
    channels: wholes(0, 10**6) = field(
        ...,
        "numbers of the channels that are read, from 0; one or three, or as many as a model learnt from; by default "
        "those, or the first three, or the first",
    )
    mpp: decimal(0.001, 1000) = field(
        ..., "side of a pixel to which images are resampled, such as that of the training images", "µm"
    )
