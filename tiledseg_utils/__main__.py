"""The command line: `python -m tiledseg_utils COMMAND --help`.

Exit codes: 0 success, 1 failure (one line says what and how to mend it), 2 wrong usage, 130 interrupted (129 and 143
by SIGHUP and SIGTERM), 141 nobody reads what is printed.
"""

import argparse
import sys
from pathlib import Path

from . import __version__
from .base import environment
from .base.files import UserError
from .base.text import printable, printable_lines
from .commands.console import print_table, run_safely
from .commands.evaluate import evaluate
from .commands.predict import label_instances, predict
from .settings.parameters import CommandSetting, GeneratedImages, Parameters, PredictionSetting
from .settings.schema import add_option


def report(arguments) -> None:
    from .course.report import make_report  # Imported here, as below, so that --help answers at once.

    make_report(
        arguments.run or Path("runs") / Path(arguments.preset).stem,
        arguments.preset,
        arguments.data,
        arguments.overwrite,
    )


def data_synthetic(arguments) -> None:
    from .data.synthetic import write_dataset

    counts = {"train": arguments.train, "valid": arguments.valid, "test": arguments.test}
    options = {"size": arguments.size or None, "jpeg_quality": arguments.jpeg, "touching": arguments.touching}
    write_dataset(arguments.folder, arguments.seed, counts, **options)
    print(f"{sum(counts.values())} images with masks in {printable(arguments.folder)}")


def data_check(arguments) -> None:
    from .data.images import check_folder

    rows, problems = check_folder(arguments.folder)
    if rows:
        print_table(rows)
    for problem in problems:
        print(f"problem: {printable_lines(problem)}")
    if problems:
        raise UserError(
            arguments.folder, f"{len(problems)} problem(s) in {len(rows)} image(s)", "Mend them as said above"
        )
    print(f"{len(rows)} images, no problems")


def data_neurips(arguments) -> None:
    from .data.neurips import RECORD, convert_archive, fetch_archive

    archive = arguments.archive or fetch_archive(arguments.folder, arguments.yes, arguments.record or RECORD)
    rows = convert_archive(archive, arguments.folder, arguments.select, arguments.keep_going)
    print(f"{len(rows)} images with labels in {printable(arguments.folder)}")


def prediction_defaults(preset: str) -> dict:
    """What a run of the preset has for the arguments of `add_prediction_arguments`."""
    from .course.report import check_parameters, default_parameters, read_preset

    given = read_preset(preset)
    check_parameters(given)
    parameters = default_parameters() | given
    names = ("scales", "threshold", "min_area", "min_confidence", "seed")
    return parameters["prediction"] | {name: parameters[name] for name in names}


def add_prediction_arguments(command: argparse.ArgumentParser, defaults: dict) -> None:
    """How to predict an image in tiles."""
    command.add_argument(
        "--preset",
        dest="prediction_preset",
        help="predict as a run of this preset does, but for the options below that are given",
    )
    for name in ("mode", "tile_size", "overlap", "symmetries", "memory_mb"):
        add_option(command, PredictionSetting, name)
    for name in ("scales", "threshold", "min_area", "min_confidence"):
        add_option(command, Parameters, name)
    command.set_defaults(**defaults)


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the default behind each option that has one."""

    def _get_help_string(self, action):
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def parser(prediction: dict) -> argparse.ArgumentParser:
    """The arguments of every command; `prediction` has other defaults for those of `add_prediction_arguments`."""
    defaults = {"formatter_class": Formatter}
    main_parser = argparse.ArgumentParser("python -m tiledseg_utils", description="Tiled image segmentation, a course.")
    main_parser.add_argument("--version", action="version", version=f"tiledseg {__version__}", help="print the version")
    commands = main_parser.add_subparsers(title="commands", required=True)

    command = commands.add_parser("report", help="run the notebooks and write a report", **defaults)
    command.add_argument("--data", type=Path, help="folder with images/ and masks/; without it, images are generated")
    command.add_argument("--preset", default="quick", help="a name in notebooks/presets, or the path of a YAML file")
    command.add_argument("--run", type=Path, help="folder for all results; runs/<preset> by default")
    command.add_argument("--overwrite", action="store_true", help="replace a run that is already there")
    command.set_defaults(function=report)

    data_commands = commands.add_parser("data", help="make or check a data folder").add_subparsers(required=True)
    command = data_commands.add_parser("synthetic", help="generate blood smears with exact masks", **defaults)
    command.add_argument("folder", type=Path, help="folder to write images/, masks/ and split.csv into")
    for split, count in (("train", 36), ("valid", 4), ("test", 10)):
        add_option(command, GeneratedImages, split, default=count)
    add_option(command, Parameters, "seed")
    add_option(command, Parameters, "image_size", "--size")
    add_option(command, CommandSetting, "jpeg_quality", "--jpeg", default=None, metavar="QUALITY")
    add_option(command, CommandSetting, "touching", default=None)
    command.set_defaults(function=data_synthetic)
    command = data_commands.add_parser(
        "neurips",
        help="download the images of the NeurIPS 2022 challenge",
        description="Make a data folder of the labelled images of the NeurIPS 2022 Cell Segmentation challenge, "
        "doi:10.5281/zenodo.10719375, licence CC BY-NC-ND 4.0. After an interruption, the same command goes on.",
        **defaults,
    )
    command.add_argument("folder", type=Path, help="folder to write images/, labels/ and manifest.csv into")
    command.add_argument("--archive", type=Path, help="a Training-labeled.zip that is here already")
    command.add_argument(
        "--select", default="all", help="stems with commas between, a file with one per line, all, or bare-nuclei"
    )
    command.add_argument("--keep-going", action="store_true", help="leave out unreadable images; list them at the end")
    command.add_argument("--yes", action="store_true", help="download without asking")
    command.add_argument("--record", help=argparse.SUPPRESS)  # address of the Zenodo record; tests have their own
    command.set_defaults(function=data_neurips)
    command = data_commands.add_parser("check", help="tell what is in a data folder and what is wrong with it")
    command.add_argument("folder", type=Path, help="folder with images/ and masks/")
    command.set_defaults(function=data_check)

    command = commands.add_parser("predict", help="segment images of any size with a trained model", **defaults)
    command.add_argument("model", type=Path, help="a model.keras of a run")
    command.add_argument("images", type=Path, nargs="+", metavar="image", help="images of any size")
    command.add_argument(
        "--out", type=Path, required=True, help="folder for <stem>.png, 0 and 255, as large as the image"
    )
    command.add_argument(
        "--format",
        choices=["png", "tif", "npy"],
        default="png",
        help="tif and npy are for images larger than memory: read and written row by row, and resumed",
    )
    command.add_argument("--probability", action="store_true", help="tif and npy: write float32 instead of a mask")
    add_option(command, CommandSetting, "skip_contrast")
    command.add_argument("--overwrite", action="store_true", help="replace masks that are there")
    add_prediction_arguments(command, prediction)
    command.add_argument("--overlay", action="store_true", help="also write <stem>_overlay.png, foreground in green")
    command.set_defaults(function=predict)

    command = commands.add_parser("instances", help="label and count the nuclei of images", **defaults)
    command.add_argument(
        "images", type=Path, nargs="+", metavar="image", help="without --model, a .tif or .npy of predict --probability"
    )
    command.add_argument("--model", type=Path, help="a model.keras, or instances.keras, of a run")
    command.add_argument("--out", type=Path, required=True, help="folder for <stem>.tif, int32 labels from 1")
    command.add_argument(
        "--method",
        choices=["components", "watershed", "boundary", "flow"],
        help="how nuclei that touch are told apart; by default flow with instances.keras, else watershed",
    )
    add_option(command, Parameters, "threshold")
    add_option(command, CommandSetting, "nucleus_area", "--min-area", dest="min_area")
    command.add_argument("--overwrite", action="store_true", help="replace labels that are there")
    command.set_defaults(function=label_instances)

    command = commands.add_parser("evaluate", help="score a trained model on a data folder", **defaults)
    command.add_argument("model", type=Path, help="a model.keras of a run")
    command.add_argument("data", type=Path, help="folder with images/ and masks/")
    command.add_argument(
        "--split",
        choices=["unseen", "train", "valid", "test", "all"],
        default="unseen",
        help="unseen: all images from which the model did not learn, whatever their names",
    )
    add_option(command, Parameters, "seed", help="of the split, where there is no split.csv; --preset brings its own")
    add_prediction_arguments(command, prediction)
    command.set_defaults(function=evaluate)
    return main_parser


def run_command(arguments: list[str] | None) -> None:
    """Run a command.

    Raises:
        SystemExit: wrong usage, or help was asked for.
    """
    parsed = parser({}).parse_args(arguments)
    environment.settle_command()
    if parsed.function in (report, predict, label_instances, evaluate):
        environment.warn_of_foreign_packages()
        environment.check_start()
    if preset := getattr(parsed, "prediction_preset", None):
        parsed = parser(prediction_defaults(preset)).parse_args(arguments)
    parsed.function(parsed)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return run_safely(lambda: run_command(arguments))


if __name__ == "__main__":
    sys.exit(main())
