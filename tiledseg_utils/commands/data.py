"""The command `data`: make a data folder, look for problems (`check`), or sort images into kinds (`kinds`)."""

import argparse
import collections
import os
from pathlib import Path

from ..base.files import UserError, write_csv
from ..base.paths import Output, check_paths
from ..base.text import printable, printable_lines
from ..settings.command_options import CommandSetting
from ..settings.parameters import AUTO, GeneratedImages, Parameters, TileSetting, TrainingSetting
from ..settings.schema import add_option, check_value
from .console import print_table
from .options import add_command


def add(commands) -> None:
    commands = commands.add_parser("data", help="make or check a data folder").add_subparsers(required=True)
    _add_synthetic(commands)
    _add_neurips(commands)
    _add_bbbc038(commands)
    command = add_command(commands, "check", "tell what is in a data folder and what is wrong with it")
    command.add_argument("folder", type=Path, help="folder with images/ and masks/")
    about = "numbers of 1 to 8 channels, from 0, that every image must have, in 8 or 16 bit, as `channels` of a run"
    add_option(command, TileSetting, "channels", help=about)
    command.set_defaults(function=check)
    _add_kinds(commands)


def _add_synthetic(commands) -> None:
    command = add_command(commands, "synthetic", "generate blood smears with exact masks")
    command.add_argument("folder", type=Path, help="folder to write images/, masks/ and split.csv into")
    for split, count in (("train", 36), ("valid", 4), ("test", 10)):
        add_option(command, GeneratedImages, split, default=count)
    add_option(command, Parameters, "seed")
    add_option(command, Parameters, "image_size", "--size")
    add_option(command, CommandSetting, "jpeg_quality", "--jpeg", default=None, metavar="QUALITY")
    add_option(command, CommandSetting, "touching", default=None)
    about = "write masks of classes (red cell, cytoplasm, nucleus) and classes.csv, instead of labels of white cells"
    command.add_argument("--classes", action="store_true", help=about)
    command.set_defaults(function=synthetic)


def synthetic(arguments) -> None:
    from ..data.synthetic import write_dataset

    counts = {"train": arguments.train, "valid": arguments.valid, "test": arguments.test}
    options = {"size": arguments.size or None, "jpeg_quality": arguments.jpeg, "touching": arguments.touching}
    options |= {"classes": arguments.classes}
    if arguments.classes and arguments.touching is not None:
        raise UserError(
            "--touching", "is for counting, and --classes draws smears as they are", "Leave one of them out"
        )
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

    if arguments.channels:
        check_value(TileSetting, "channels", arguments.channels)
    rows, problems = check_folder(arguments.folder, arguments.channels)
    print_table(rows)
    for problem in problems:
        print(f"problem: {printable_lines(problem)}")
    if problems:
        found = f"{len(problems)} problem(s) in {len(rows)} image(s)"
        raise UserError(arguments.folder, found, "Mend them as said above")
    _print_measured(arguments.folder, rows, arguments.channels)
    if not arguments.channels:
        _print_left_out_channels(rows)
    _print_rare_kinds(arguments.folder, [row["stem"] for row in rows])
    print(f"{len(rows)} images, no problems")


def _print_measured(folder: Path, rows: list[dict], channels: list[int]) -> None:
    """What a preset takes from these images where it leaves settings open, and why."""
    from ..data.cues import measure_pairs
    from ..data.images import find_pairs
    from ..tiles.choices import batch_choice, choose

    learnt = {row["stem"] for row in rows if row["split"] in (None, "train")}
    cues, _ = measure_pairs(pair for pair in find_pairs(folder, channels) if pair.stem in learnt)
    setting = TileSetting(tile_size=0, reduction=0, contrast=AUTO, channels=channels)
    measured, chosen = choose(setting, cues.values())
    chosen.append(batch_choice(TrainingSetting(batch_size=0), measured.tile_size))
    print("measured for presets that leave these settings open:")
    for row in chosen:
        print(f"  {row['setting']} {str(row['value']).lower()}: {row['reason']}")


def _print_left_out_channels(rows: list[dict]) -> None:
    """Say in one sentence what else only the notes of single images tell: channels that nobody will learn from."""
    count = sum(row["channels"] > 3 for row in rows)
    if count:
        print(
            f"{count} of {len(rows)} images have more than 3 channels, of which the first three are taken as red, "
            "green and blue. If the others are more than transparency, name all channels to learn from, such as "
            "--channels 0 1 2 3 here and channels: [0, 1, 2, 3] in tiles of a preset."
        )


def _print_rare_kinds(folder: Path, stems: list[str]) -> None:
    """Which kinds of the user's own table are too small; a table with errors is refused."""
    from ..data.kinds import kinds_of_folder, rare_kinds

    for sentence in rare_kinds(kinds_of_folder(folder, stems) or {}):
        print(sentence)


def _add_kinds(commands) -> None:
    about = (
        "Sort the images of a data folder into kinds by what can be measured without a network: grey or colour, how "
        "bright, and how large objects are. As kinds.csv in the folder, the table says which kinds are rare, "
        "and scores are given by kind."
    )
    command = add_command(commands, "kinds", "sort the images of a data folder into kinds", description=about)
    command.add_argument("folder", type=Path, help="folder with images/ and masks/")
    command.add_argument("--out", type=Path, help="table stem,kind to write, such as kinds.csv in that folder")
    command.set_defaults(function=kinds)


def kinds(arguments) -> None:
    from ..data.cues import measure_pairs
    from ..data.images import find_pairs
    from ..data.kinds import rare_kinds
    from ..data.measured_kinds import find_kinds, kind_rows

    folder, out = arguments.folder, arguments.out
    pairs = find_pairs(folder)
    if out is not None:
        if out.suffix.lower() != ".csv":
            raise UserError(out, "is not the name of a table", "Give a name that ends in .csv")
        check_paths([path for pair in pairs for path in (pair.image, pair.mask)], [Output(out, "the table of kinds")])
        if os.path.lexists(out):
            raise UserError(out, "exists already", "Choose another name, or remove it first")
    cues, _ = measure_pairs(pairs)
    found = find_kinds(cues)
    print_table(kind_rows(found, cues))
    for sentence in rare_kinds(found.of):
        print(sentence)
    if out is not None:
        write_csv(out, [{"stem": stem, "kind": kind} for stem, kind in found.of.items()])
        print(f"{len(cues)} images by kind in {printable(out)}")
