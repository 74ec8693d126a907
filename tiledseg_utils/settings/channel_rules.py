"""What suits images whose channels are learnt from as they are stored, and what needs red, green and blue."""

from ..base.files import UserError
from .augmentation import Augmentation

COLOURS_ONLY = ("stain", "color", "stray_light")
"""Changes of `Augmentation` that only images in red, green and blue have."""


def check_channel_augmentation(augmentation: Augmentation) -> None:
    """Raise a UserError if changes may happen that channels without colours do not have."""
    found = {name: getattr(augmentation, name) for name in COLOURS_ONLY if getattr(augmentation, name)}
    if found:
        changes = ", ".join(f"{name} {value:g}" for name, value in found.items())
        problem = f"needs red, green and blue for {changes}, but channels are given"
        raise UserError("augmentation", problem, "Give " + ", ".join(f"{name}: 0" for name in found))


def _tiles_are_not_changed(parameters) -> None:
    tiles = parameters.tiles
    if not tiles.channels:
        return
    if tiles.white_balance:
        problem = "is true, but channels are given, which have no common white"
        raise UserError("tiles.white_balance", problem, "Give white_balance: false")
    if tiles.contrast is True:
        problem = "is true, but channels are given, each of which is scaled by itself"
        raise UserError("tiles.contrast", problem, "Give contrast: false")
    if tiles.reduction > 1:
        problem = f"is {tiles.reduction}, but channels are given, and networks that reduce their images take RGB"
        raise UserError("tiles.reduction", problem, "Give reduction: 1")


def _changes_fit(parameters) -> None:
    if parameters.tiles.channels:
        check_channel_augmentation(parameters.augmentation)


def _images_are_not_drawn(parameters) -> None:
    if parameters.tiles.channels and parameters.added_images:
        problem = f"is {parameters.added_images}, but channels are given, and drawn images are RGB"
        raise UserError("added_images", problem, "Give 0")


def _model_fits(parameters) -> None:
    """Raise a UserError for what models need colours for."""
    settings = getattr(parameters.model_settings, parameters.model)
    where = f"model_settings.{parameters.model}"
    if not parameters.tiles.channels:
        return
    color_space = getattr(settings, "color_space", "rgb")
    if color_space != "rgb":
        problem = f"is {color_space}, which is for red, green and blue, but channels are given"
        raise UserError(f"{where}.color_space", problem, "Give rgb, which changes nothing")
    if getattr(settings, "gamma", 1) != 1:
        raise UserError(
            f"{where}.gamma", f"is {settings.gamma:g}, which is for colours, but channels are given", "Give 1"
        )
    if getattr(settings, "weights", "none") != "none":
        problem = "is imagenet, which is for red, green and blue, but channels are given"
        raise UserError(f"{where}.weights", problem, "Give none")


def _lessons_have_colours(parameters) -> None:
    if parameters.tiles.channels and parameters.models:
        problem = "are given, but so are channels, and notebook 7 compares networks for red, green and blue"
        raise UserError("models", problem, "Give none, or leave out channels")


def _mistakes_have_colours(parameters) -> None:
    if parameters.tiles.channels:
        problem = "is given, but so are channels, and notebook 9 makes mistakes with red, green and blue"
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
