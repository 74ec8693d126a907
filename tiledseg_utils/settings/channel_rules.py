"""What suits images whose channels are learnt from as they are stored, and what needs red, green and blue."""

from ..base.files import UserError
from .augmentation import Augmentation

COLOURS_ONLY = ("stain", "color", "stray_light")
"""Changes of `Augmentation` that only images in red, green and blue have."""


def check_channel_augmentation(augmentation: Augmentation) -> None:
    """Raise a UserError if a change may happen that channels without colours do not have."""
    for name in COLOURS_ONLY:
        if getattr(augmentation, name):
            problem = f"is {getattr(augmentation, name):g}, and changes red, green and blue, where channels are given"
            raise UserError(f"augmentation.{name}", problem, f"Give {name}: 0")


def _tiles_are_not_changed(parameters) -> None:
    tiles = parameters.tiles
    if not tiles.channels:
        return
    for name in ("white_balance", "contrast"):
        if getattr(tiles, name) is not False:
            problem = f"is {str(getattr(tiles, name)).lower()}, where channels are given, without white or common grey"
            raise UserError(f"tiles.{name}", problem, f"Give {name}: false")
    if tiles.reduction != 1:
        problem = f"is {tiles.reduction}, and networks that reduce their images take RGB, where channels are given"
        raise UserError("tiles.reduction", problem, "Give reduction: 1")


def _changes_fit(parameters) -> None:
    if parameters.tiles.channels:
        check_channel_augmentation(parameters.augmentation)


def _images_are_not_drawn(parameters) -> None:
    if parameters.tiles.channels and parameters.added_images:
        problem = f"is {parameters.added_images}, and drawn images are RGB, where channels are given"
        raise UserError("added_images", problem, "Give 0")


def _model_fits(parameters) -> None:
    """Raise a UserError for what models need colours for."""
    settings = getattr(parameters.model_settings, parameters.model)
    where = f"model_settings.{parameters.model}"
    if not parameters.tiles.channels:
        return
    color_space = getattr(settings, "color_space", "rgb")
    if color_space != "rgb":
        problem = f"is {color_space}, and is for red, green and blue, where channels are given"
        raise UserError(f"{where}.color_space", problem, "Give rgb, which changes nothing")
    if getattr(settings, "gamma", 1) != 1:
        raise UserError(
            f"{where}.gamma", f"is {settings.gamma:g}, and is for colours, where channels are given", "Give 1"
        )
    if getattr(settings, "weights", "none") != "none":
        problem = "is imagenet, which is for red, green and blue, where channels are given"
        raise UserError(f"{where}.weights", problem, "Give none")


def _lessons_have_colours(parameters) -> None:
    if parameters.tiles.channels and parameters.models:
        problem = "are given, and notebook 7 compares networks for red, green and blue, where channels are given"
        raise UserError("models", problem, "Give none, or leave out channels")


def _mistakes_have_colours(parameters) -> None:
    if parameters.tiles.channels:
        problem = "is given, and notebook 9 makes mistakes with red, green and blue, where channels are given"
        raise UserError("part_side", problem, "Leave it out, or leave out channels")


CHANNEL_RULES = (
    ({"tiles"}, _tiles_are_not_changed),
    ({"tiles", "model", "model_settings"}, _model_fits),
    ({"tiles", "augmentation"}, _changes_fit),
    ({"tiles", "added_images"}, _images_are_not_drawn),
    ({"tiles", "models"}, _lessons_have_colours),
    ({"tiles", "part_side"}, _mistakes_have_colours),
)
"""As `parameters.RULES`."""
