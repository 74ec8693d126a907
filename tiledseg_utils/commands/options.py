"""What several commands share: how their options are shown, and those that say how an image is predicted."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters, PredictionSetting
from ..settings.schema import add_option, fields_of

FOREGROUND = ("threshold", "min_area", "min_confidence")
"""Parameters of `foreground.find_foreground`."""


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the default behind each option that has one."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def add_command(commands, name: str, about: str, **more) -> argparse.ArgumentParser:
    """Add a command with one line of help to what `add_subparsers` returned."""
    return commands.add_parser(name, help=about, formatter_class=Formatter, **more)


def add_prediction_options(command: argparse.ArgumentParser, defaults: Mapping) -> None:
    """Let a command be told how to predict an image in tiles, with other `defaults` for some options."""
    command.add_argument(
        "--preset",
        dest="prediction_preset",
        help="predict as a run of this preset does, instead of as the run that trained the model did; options that are "
        "given win over both",
    )
    for name in fields_of(PredictionSetting):
        add_option(command, PredictionSetting, name)
    for name in ("scales", *FOREGROUND):
        add_option(command, Parameters, name)
    add_option(command, CommandSetting, "non_tiled")
    command.set_defaults(**defaults)


PART = ("level", "series", "channels", "mpp", "pixel_size", "keep_going")
"""Which part of an image's file is read: the fields of `pictures.ImagePart` beside its path."""


def add_part_options(command: argparse.ArgumentParser) -> None:
    """Let a command be told which part of each image's file it reads."""
    add_option(command, CommandSetting, "level")
    for name in ("series", "channels", "mpp", "pixel_size"):
        add_option(command, CommandSetting, name)
    about = "tell tiles of a slide that cannot be decoded, and take them as 0, instead of ending there"
    command.add_argument("--keep-going", action="store_true", help=about)


def add_cluster_option(command: argparse.ArgumentParser) -> None:
    """Let a command be told which machines predict."""
    command.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="predict with Dask: local or local:N for N processes here, the address of a scheduler (tcp://HOST:8786), "
        "or its JSON file",
    )


def part_of_file(path: Path, arguments):
    """The `pictures.ImagePart` of an image's file that the options choose."""
    from ..data.pictures import ImagePart  # late, for a quick --help

    stored = getattr(arguments, "stored", False)  # Which the model says, not the user.
    return ImagePart(path, stored=stored, **{name: getattr(arguments, name) for name in PART})


def prediction_defaults(preset: str) -> dict:
    """What a run of the preset has for the options of `add_prediction_options`, and its seed."""
    from ..course.report import check_parameters, default_parameters, read_preset  # late, for a quick --help

    given = read_preset(preset)
    check_parameters(given)
    parameters = default_parameters() | given
    return parameters["prediction"] | {name: parameters[name] for name in ("scales", *FOREGROUND, "seed")}


def prediction_setting(arguments) -> PredictionSetting:
    return PredictionSetting(**{name: getattr(arguments, name) for name in fields_of(PredictionSetting)})


def foreground(arguments) -> dict:
    """What is foreground in a prediction, for `foreground.find_foreground`."""
    return {name: getattr(arguments, name) for name in FOREGROUND}


def predictor(model, arguments):
    """What predicts a whole image, in tiles or reduced to one, and at several scales, as the options say."""
    from ..prediction.inference import multi_scale, predict_reduced, predict_tiled

    predict = functools.partial(predict_tiled, model, setting=prediction_setting(arguments))
    if arguments.non_tiled:
        views = arguments.test_time_augmentation
        predict = functools.partial(predict_reduced, model, size=arguments.non_tiled, test_time_augmentation=views)
    return multi_scale(predict, arguments.scales)
