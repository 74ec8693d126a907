"""The command `data`: make a data folder (`synthetic`, `neurips`, `bbbc038`), or look for problems (`check`)."""

import argparse
import collections
from pathlib import Path

from ..base.files import UserError
from ..base.text import printable, printable_lines
from ..settings.command_options import CommandSetting
from ..settings.parameters import GeneratedImages, Parameters
from ..settings.schema import add_option
from .console import print_table
from .options import add_command


def add(commands) -> None:
    commands = commands.add_parser("data", help="make or check a data folder").add_subparsers(required=True)
    _add_synthetic(commands)
    _add_neurips(commands)
    _add_bbbc038(commands)
    command = add_command(commands, "check", "tell what is in a data folder and what is wrong with it")
    command.add_argument("folder", type=Path, help="folder with images/ and masks/")
    command.set_defaults(function=check)


def _add_synthetic(commands) -> None:
    command = add_command(commands, "synthetic", "generate blood smears with exact masks")
    command.add_argument("folder", type=Path, help="folder to write images/, masks/ and split.csv into")
    for split, count in (("train", 36), ("valid", 4), ("test", 10)):
        add_option(command, GeneratedImages, split, default=count)
    add_option(command, Parameters, "seed")
    add_option(command, Parameters, "image_size", "--size")
    add_option(command, CommandSetting, "jpeg_quality", "--jpeg", default=None, metavar="QUALITY")
    add_option(command, CommandSetting, "touching", default=None)
    command.set_defaults(function=synthetic)


def synthetic(arguments) -> None:
    from ..data.synthetic import write_dataset

    counts = {"train": arguments.train, "valid": arguments.valid, "test": arguments.test}
    options = {"size": arguments.size or None, "jpeg_quality": arguments.jpeg, "touching": arguments.touching}
    write_dataset(arguments.folder, arguments.seed, counts, **options)
    print(f"{sum(counts.values())} images with masks in {printable(arguments.folder)}")


def _add_neurips(commands) -> None:
    about = (
        "Make a data folder of the labelled images of the NeurIPS 2022 Cell Segmentation challenge, "
        "doi:10.5281/zenodo.10719375, licence CC BY-NC-ND 4.0. After an interruption, the same command goes on."
    )
    command = add_command(commands, "neurips", "download the images of the NeurIPS 2022 challenge", description=about)
    command.add_argument("folder", type=Path, help="folder to write images/, labels/ and manifest.csv into")
    command.add_argument("--archive", type=Path, help="a Training-labeled.zip that is here already")
    command.add_argument(
        "--select",
        default="all",
        help="stems with commas between, a file with one per line, all, bare-nuclei, or published: the images of the "
        "published experiment, found by what they show, under its names and with its split",
    )
    command.add_argument("--keep-going", action="store_true", help="leave out unreadable images; list them at the end")
    command.add_argument("--yes", action="store_true", help="download without asking")
    command.add_argument("--record", help=argparse.SUPPRESS)  # address of the Zenodo record; tests have their own
    command.set_defaults(function=neurips)


def neurips(arguments) -> None:
    from ..data.neurips import RECORD, convert_archive, fetch_archive

    archive = arguments.archive or fetch_archive(arguments.folder, arguments.yes, arguments.record or RECORD)
    rows = convert_archive(archive, arguments.folder, arguments.select, arguments.keep_going)
    print(f"{len(rows)} images with labels in {printable(arguments.folder)}")


def _add_bbbc038(commands) -> None:
    about = (
        "Make a data folder of image set BBBC038, the training images of the 2018 Data Science Bowl, with each nucleus "
        "labelled; doi:10.1038/s41592-019-0612-7, licence CC0. After an interruption, the same command goes on."
    )
    command = add_command(commands, "bbbc038", "download the nuclei of the Data Science Bowl 2018", description=about)
    command.add_argument("folder", type=Path, help="folder to write images/, labels/, split.csv and kinds.csv into")
    command.add_argument("--archive", type=Path, help="a stage1_train.zip that is here already")
    add_option(command, Parameters, "seed", help="of the split, which is drawn within each kind of image")
    command.add_argument("--keep-going", action="store_true", help="leave out unreadable images; list them at the end")
    command.add_argument("--yes", action="store_true", help="download without asking")
    command.add_argument("--address", help=argparse.SUPPRESS)  # of the archive; tests have their own
    command.set_defaults(function=bbbc038)


def bbbc038(arguments) -> None:
    from ..data.bbbc038 import ADDRESS, convert_archive, fetch_archive, summarize_notes

    folder = arguments.folder
    archive = arguments.archive or fetch_archive(folder, arguments.yes, arguments.address or ADDRESS)
    rows = convert_archive(archive, folder, arguments.seed, arguments.keep_going)
    kinds = collections.Counter(row["kind"] for row in rows)
    print(f"{len(rows)} images with labels in {printable(folder)}: ", end="")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    if notes := summarize_notes(folder):
        print(printable(notes))


def check(arguments) -> None:
    from ..data.images import check_folder

    rows, problems = check_folder(arguments.folder)
    print_table(rows)
    for problem in problems:
        print(f"problem: {printable_lines(problem)}")
    if problems:
        found = f"{len(problems)} problem(s) in {len(rows)} image(s)"
        raise UserError(arguments.folder, found, "Mend them as said above")
    print(f"{len(rows)} images, no problems")
