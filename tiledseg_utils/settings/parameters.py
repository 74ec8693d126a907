"""Every parameter of the course: its type, range, unit and default, and what it is.

Presets, the `parameters` cells of the notebooks and the options of the command line are all checked by these classes,
before anything runs. `notebooks/presets/README.md` lists them, and `schema.json` beside it tells editors.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from ..base.files import UserError
from . import architectures
from .architectures import ModelSettings, Unet
from .augmentation import Augmentation
from .channel_rules import CHANNEL_RULES
from .schema import (
    Text,
    Truth,
    channel_numbers,
    decimal,
    field,
    fields_of,
    one_of,
    read,
    setting,
    shown,
    sizes,
    some_of,
    truth_or,
    whole,
    zero_or,
)

SMALLEST_IMAGE = 256  # pixels; less cannot hold one white cell in its surroundings
LESSON_SIDE = 512  # pixels; notebook 6 looks at squares of that side where a preset names no tiles for prediction
AUTO = "auto"  # measured on the training images
ALONE = "none"  # no other network beside the trained one
LARGEST_MEASURED_TILE = 384  # pixels; as large as two cores train within an hour
TILE_STEP = 128  # pixels; measured tiles are multiples of it, which suits the poolings of all networks of the course
BATCH_PIXELS = 2**19  # in a batch of measured size, about: 8 tiles of 256 x 256


@setting
class TileSetting:
    """How a tiled training set is made."""

    tile_size: zero_or(16, 4096) = field(
        512, "side of a tile; 0 measures it on the training images, see `tiles.choices`", "pixels"
    )
    stride: whole(0, 4096) = field(
        0, "distance of tile origins; 0 is tile_size, that is no overlap, or half of it where it is measured", "pixels"
    )
    reduction: one_of(0, 1, 2, 4, 8) = field(
        1, "by which images are reduced before they are cut; 0 measures it; the model remembers", "factor"
    )
    fit: Literal["pad", "enlarge"] = field(
        "pad", "how an image fills its last tiles; pad reflects it, enlarge resizes it, as the published experiment did"
    )
    empty: Literal["keep", "drop", "down-weight"] = field(
        "keep", "what becomes of tiles without foreground; down-weight draws them less often"
    )
    empty_weight: decimal(1e-6, 1) = field(0.25, "how often an empty tile is drawn beside one with foreground")
    balance: Truth = field(False, "whether every image has the same weight in all, however many tiles it has")
    balance_kinds: Truth = field(
        False, "whether rare kinds of image are drawn more often: by the root of the number of their images"
    )
    reduced: Truth = field(
        True, "whether each whole image, reduced to one tile, is kept, too; the published experiment's mixed set"
    )
    white_balance: Truth = field(
        False, "whether the background of all images gets one colour and stray light is taken away; the model remembers"
    )
    contrast: truth_or(AUTO) = field(
        False,
        "whether the grey levels of each image are spread over 0 to 255, as StarDist does; auto measures it; "
        "the model remembers",
    )
    channels: channel_numbers() = field(
        list,
        "numbers of 1 to 8 channels, from 0, that are learnt from as they are stored, in 8 or 16 bit; empty reads RGB",
    )

    @property
    def normalization(self) -> str | None:
        """What `normalization.normalize` is to do to an image before it is cut.

        Raises:
            ValueError: it has not been measured.
        """
        if self.contrast == AUTO:
            raise ValueError("contrast is auto: measure it with choices.choose first.")
        names = [name for name in ("white_balance", "contrast") if getattr(self, name)]
        return names[0] if names else None

    @model_validator(mode="after")
    def _one_normalization(self):
        if self.white_balance and self.contrast is True:
            raise UserError("contrast", "is true, and so is white_balance", "Choose one of the two")
        return self

    @model_validator(mode="after")
    def _stride_fits(self):
        if self.stride and not self.tile_size:
            raise UserError("stride", f"is {self.stride}, and tile_size is measured", "Give 0, or a tile_size, too")
        if self.stride and not self.tile_size / 16 <= self.stride <= self.tile_size:
            problem = f"{self.stride} does not suit a tile_size of {self.tile_size}"
            low = -(-self.tile_size // 16)
            raise UserError("stride", problem, f"Give 0 for no overlap, or from {low} to {self.tile_size} pixels")
        return self


@setting
class TrainingSetting:
    """How a model is trained.

    The schedule "plateau" multiplies the rate by `reduce_factor` when the validation loss has not improved for
    `reduce_patience` epochs. "cosine" raises it through the first epoch and lets it fall to zero over the others, once
    more from the start after `pretraining_epochs` (Loshchilov & Hutter 2017). The mean of the weights after the last
    epochs lies in a wider minimum than each of them (Izmailov et al., UAI 2018, arXiv:1803.05407).
    """

    epochs: whole(1, 10_000) = field(12, "epochs to train, at most", "epochs")
    steps_per_epoch: whole(1, 100_000) = field(30, "batches in an epoch", "batches")
    validation_steps: whole(1, 1000) = field(8, "batches of validation tiles that judge an epoch", "batches")
    batch_size: whole(0, 256) = field(
        8, "tiles in a batch; 0 takes as many as make half a million pixels, 8 of 256 x 256", "tiles"
    )
    loss: Literal["bce_dice", "bce_tile_dice", "dice", "iou", "bce_iou", "bce_ssim_iou", "bce"] = field(
        "bce_dice", "what is minimised"
    )
    optimizer: Literal["adam", "adamw"] = field("adam", "the method of descent")
    learning_rate: decimal(1e-9, 10) = field(1e-3, "the learning rate at the start")
    clip_value: decimal(0, 1e6) = field(0.5, "limit of each component of the gradient; 0 switches clipping off")
    schedule: Literal["plateau", "cosine"] = field("plateau", "how the learning rate falls")
    reduce_factor: decimal(0.001, 0.999) = field(0.3, "factor on the learning rate in schedule plateau", "factor")
    reduce_patience: whole(0, 10_000) = field(4, "epochs without a better loss before the rate falls", "epochs")
    patience: whole(0, 10_000) = field(
        10, "epochs without a better loss before training stops; 0 never stops early", "epochs"
    )
    pretraining_epochs: whole(0, 10_000) = field(
        0, "first epochs, which learn from added generated images alone; only if there are any", "epochs"
    )
    added_share: decimal(0, 1) = field(0.4, "share of added images in the samples of later epochs", "share")
    average_epochs: whole(0, 10_000) = field(
        0,
        "last epochs, of whose weights the model is the mean; 0 takes the epoch of the lowest loss",
        "epochs",
    )
    devices: whole(0, 4096) = field(
        1, "devices that share each batch, see `training.devices`; 0 takes all that there are", "devices"
    )
    precision: Literal["float32", "mixed_bfloat16"] = field(
        "float32", "precision of the layers; mixed_bfloat16 is for GPUs, and weights stay float32"
    )

    def for_tiles(self, tile_size: int) -> "TrainingSetting":
        """The same for tiles of a side, pixels, with the size of a batch if it was left open."""
        if self.batch_size:
            return self
        return replace(self, batch_size=min(256, max(1, round(BATCH_PIXELS / tile_size**2))))

    @model_validator(mode="after")
    def _epochs_suffice(self):
        for name in ("pretraining_epochs", "average_epochs"):
            value = getattr(self, name)
            if value > self.epochs:
                raise UserError(name, f"{value} is out of range", f"Give 0 to {self.epochs}, the epochs")
        return self


@setting
class PredictionSetting:
    """How an image is predicted in tiles, as `inference.predict_tiled` says."""

    mode: Literal["exact", "blend", "auto"] = field(
        "exact", "exact is as the whole image at once; auto is exact if the network allows it, else blend"
    )
    tile_size: whole(0, 16_384) = field(
        0, "side of a tile; a multiple of the network's alignment, 2^(levels-1) for a U-Net; 0 chooses it", "pixels"
    )
    overlap: whole(0, 8192) = field(64, "pixels that tiles share in mode blend", "pixels")
    test_time_augmentation: Truth = field(False, "whether the mean of 8 turned and mirrored predictions is taken")
    batch_size: whole(1, 256) = field(1, "tiles per batch and device", "tiles")
    memory_mib: whole(1, 2**20) = field(700, "memory for the activations of a batch; where tile_size is 0", "MiB")


@setting
class GeneratedImages:
    """How many images each split gets."""

    train: whole(1, 10_000) = field(..., "number of training images", "images")
    valid: whole(1, 10_000) = field(..., "number of validation images", "images")
    test: whole(1, 10_000) = field(..., "number of test images", "images")


@setting
class CountingImages:
    """How many images the lesson about counting gets."""

    train: whole(1, 10_000) = field(..., "number of training images", "images")
    test: whole(1, 10_000) = field(..., "number of test images", "images")
    valid: whole(0, 10_000) = field(0, "number of images that judge each epoch; 0 takes the last epoch", "images")


def _usual_images() -> GeneratedImages:
    return GeneratedImages(train=36, valid=4, test=10)


def _usual_counting_images() -> CountingImages:
    return CountingImages(train=20, test=10)


def _only_name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_-]{1,40}", text):
        raise ValueError(f"{shown(text)} is not a name")
    return text


@setting
class Parameters:
    """All parameters of a run. A preset gives some of them; the others have the defaults of the notebooks."""

    description: Text = field("", "what a preset is for; shown in the report")
    run_dir: Text = field("runs/lab", "folder below which everything is written")
    data_dir: Text = field("", "folder with images/ and masks/; empty generates images")
    experiment: Annotated[Text, AfterValidator(_only_name)] = field(
        "baseline", "name of a training in notebook 3: 1 to 40 letters from a to z, digits, - and _"
    )
    seed: whole(0, 2**32 - 1) = field(1, "of everything that is drawn at random; the same seed gives the same run")
    folds: zero_or(2, 1000) = field(
        0, "parts into which images are dealt, of which one is tested; 0 divides by split.csv or a draw", "folds"
    )
    fold: whole(1, 1000) = field(1, "number of the fold whose images are tested, if there are folds")
    repeat: whole(0, 10_000) = field(0, "added to the seed after notebook 1; the same images and split, trained anew")
    generated_images: GeneratedImages = field(_usual_images, "generated images by split")
    added_images: whole(0, 10_000) = field(0, "generated images that learn along with yours", "images")
    image_size: zero_or(SMALLEST_IMAGE, 8192) = field(
        0, "side of generated images; 0 varies it from 1024 to 2096", "pixels"
    )
    tiles: TileSetting = field(TileSetting, "how the training set is tiled")
    augmentation: Augmentation = field(Augmentation, "what may happen to a sample")
    model: architectures.Name = field("unet", "the architecture")
    model_settings: ModelSettings = field(ModelSettings, "settings of architectures, by their name")
    training: TrainingSetting = field(TrainingSetting, "how the model is trained")
    joined_with: Literal["none", "smears"] = field(
        ALONE,
        "a network of the package, with whose probabilities those of the trained one are averaged; "
        "not where validation tiles show that it does not know such images",
    )
    prediction: PredictionSetting = field(PredictionSetting, "how images are predicted in tiles")
    scales: sizes(0.1, 4) = field(lambda: [1], "sizes of the image over which predictions are averaged; 1 is its own")
    threshold: decimal(0, 1) = field(0.5, "probability from which a pixel is foreground", "probability")
    min_area: whole(0, 10**9) = field(0, "size of the smallest piece of foreground that is kept", "pixels")
    min_confidence: decimal(0, 1) = field(0.0, "least mean probability of a piece that is kept", "probability")
    baseline_epochs: whole(1, 10_000) = field(
        2, "epochs that a network goes on learning from reduced images, in notebook 5", "epochs"
    )
    methods_side: whole(16, 16_384) = field(768, "side of the parts in which ways of tiling are compared", "pixels")
    models: some_of(architectures.Name) = field(list, "architectures to compare; notebook 7 runs if there are any")
    comparison: TrainingSetting = field(TrainingSetting, "how each of these is trained")
    counting_images: CountingImages = field(_usual_counting_images, "generated images to count nuclei in")
    counting_size: whole(SMALLEST_IMAGE, 8192) = field(768, "side of the images to count in", "pixels")
    counting_tile_size: zero_or(16, SMALLEST_IMAGE) = field(
        SMALLEST_IMAGE,
        "side of the tiles that counting is learnt from; 0 measures it, and batches keep their pixels",
        "pixels",
    )
    counting_model: Unet = field(Unet, "settings of the network that counts")
    counting_contrast: Truth = field(False, "whether the contrast of its images is stretched, as by contrast of tiles")
    counting_rays: Truth = field(False, "whether that network also learns rays, for the method rays")
    counting_flow: Literal["centre", "heat"] = field("centre", "its flows lead straight, or as heat spreads (Cellpose)")
    counting_two_scales: Truth = field(False, "whether it also sees each image twice as large, for small nuclei")
    counting_test_time_augmentation: Truth = field(False, "whether it predicts in eight views, turned and mirrored")
    counting: TrainingSetting = field(TrainingSetting, "how that network is trained; notebook 8 runs if it is given")
    part_side: whole(64, 16_384) = field(
        640, "side of the parts on which mistakes are shown; notebook 9 runs if it is given", "pixels"
    )


def check_notebook(namespace: Mapping) -> Parameters:
    """Check the parameters of a notebook, as `check_all` does, before it does anything else.

    Args:
        namespace: `globals()` of the notebook, whose parameters are the names that it annotates with a type.

    Example:
        setting = check_notebook(globals()).tiles
    """
    own = namespace["__annotations__"].keys() & fields_of(Parameters).keys()
    return check_all({name: namespace[name] for name in own})


def check_all(given: Mapping) -> Parameters:
    """Check parameters, each for itself and those that must suit each other, as far as they are given.

    Returns:
        the values, checked, with the defaults of this module for those that were not given.

    Raises:
        UserError: an unknown name, a value of another type or out of range, or values that do not suit each other.
    """
    parameters = read(Parameters, given)
    for needed, rule in RULES:
        if given.keys() >= needed:
            rule(parameters)
    return parameters


def _check_alignment(where: str, side: int, name: str, settings) -> None:
    if side % settings.alignment:
        below = side // settings.alignment * settings.alignment
        sides = f"{below} or {below + settings.alignment}" if below else f"{settings.alignment}"
        problem = f"{side} is not a multiple of {settings.alignment}, which the poolings of {name} ask for"
        raise UserError(where, problem, f"Give {sides} pixels, or other settings of {name}")


def _fold_is_one_of_them(parameters: Parameters) -> None:
    if parameters.folds and parameters.fold > parameters.folds:
        raise UserError("fold", f"{parameters.fold} is out of range", f"Give 1 to {parameters.folds}, the folds")


def _model_fits_tiles(parameters: Parameters) -> None:
    settings = getattr(parameters.model_settings, parameters.model)
    _check_alignment("tiles.tile_size", parameters.tiles.tile_size, parameters.model, settings)


def _models_fit_tiles(parameters: Parameters) -> None:
    for name in parameters.models:
        settings = getattr(parameters.model_settings, name)
        _check_alignment("tiles.tile_size", parameters.tiles.tile_size, f"{name}, one of models,", settings)


def _joined_network_fits_tiles(parameters: Parameters) -> None:
    if parameters.joined_with != ALONE and not parameters.tiles.white_balance:
        problem = f"is {parameters.joined_with}, a network for images of one white, and white_balance is false"
        raise UserError("joined_with", problem, f"Give {ALONE}, or white_balance: true in tiles")


def _model_fits_lessons(parameters: Parameters) -> None:
    settings, tile = getattr(parameters.model_settings, parameters.model), parameters.prediction.tile_size
    if tile:
        _check_alignment("prediction.tile_size", tile, parameters.model, settings)
    elif LESSON_SIDE % settings.alignment:
        problem = f"tiles must be multiples of {settings.alignment} pixels, and notebook 6 lays tiles of {LESSON_SIDE}"
        where = f"model_settings.{parameters.model}"
        raise UserError(where, problem, "Use fewer levels, or a smaller window or patch_size")


def _counting_model_fits_tiles(parameters: Parameters) -> None:
    side = parameters.counting_tile_size or TILE_STEP
    if side % parameters.counting_model.alignment:
        problem = f"tiles must be multiples of {parameters.counting_model.alignment} pixels, and notebook 8 cuts {side}"
        raise UserError("counting_model.levels", problem, "Use fewer levels, or a smaller patch_size")


def _training_fits_memory(parameters: Parameters) -> None:
    _check_batches("training", parameters.training, parameters.tiles.tile_size or LARGEST_MEASURED_TILE)


def _comparison_fits_memory(parameters: Parameters) -> None:
    _check_batches("comparison", parameters.comparison, parameters.tiles.tile_size or LARGEST_MEASURED_TILE)


def _counting_fits_memory(parameters: Parameters) -> None:
    _check_batches("counting", parameters.counting, parameters.counting_tile_size or SMALLEST_IMAGE)


def _check_batches(name: str, training: TrainingSetting, tile_size: int) -> None:
    """Refuse what no machine of this course holds: a batch with its features, and all validation tiles at once."""
    if training.batch_size * tile_size**2 > LARGEST_BATCH:
        most = max(1, LARGEST_BATCH // tile_size**2)
        problem = f"{training.batch_size} tiles of {tile_size} x {tile_size} pixels are more than memory holds"
        raise UserError(f"{name}.batch_size", problem, f"Give {most} or less")
    if training.batch_size * training.validation_steps * tile_size**2 > LARGEST_VALIDATION:
        most = max(1, LARGEST_VALIDATION // (training.batch_size * tile_size**2))
        problem = f"{training.validation_steps} batches of {training.batch_size} tiles are more than memory holds"
        raise UserError(f"{name}.validation_steps", problem, f"Give {most} or less")


LARGEST_BATCH = 2**24  # pixels: 64 tiles of 512 x 512; a small U-Net takes some 100 bytes for each
LARGEST_VALIDATION = 2**30  # pixels: about 7 GB, three bytes of image and four of mask for each

RULES = (
    ({"folds", "fold"}, _fold_is_one_of_them),
    ({"tiles", "model", "model_settings"}, _model_fits_tiles),
    ({"tiles", "models", "model_settings"}, _models_fit_tiles),
    ({"tiles", "joined_with"}, _joined_network_fits_tiles),
    ({"model", "model_settings", "prediction"}, _model_fits_lessons),
    ({"counting_tile_size", "counting_model"}, _counting_model_fits_tiles),
    *CHANNEL_RULES,
    ({"tiles", "training"}, _training_fits_memory),
    ({"tiles", "comparison"}, _comparison_fits_memory),
    ({"counting_tile_size", "counting"}, _counting_fits_memory),
)
"""Which parameters must suit each other: their names, and what refuses them if they do not."""
