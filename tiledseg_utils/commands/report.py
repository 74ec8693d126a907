"""The command `report`: all notebooks, one after the other, and a report of what they found."""

from pathlib import Path

from ..base.text import printable
from ..settings.command_options import CommandSetting
from ..settings.parameters import Parameters
from ..settings.schema import add_option
from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "report", "run the notebooks and write a report")
    command.add_argument("--data", type=Path, help="folder with images/ and masks/; without it, images are generated")
    command.add_argument("--preset", default="quick", help="a name in notebooks/presets, or the path of a YAML file")
    command.add_argument(
        "--run", type=Path, help="folder for all results; by default runs/<preset>, or runs/<preset>_3_folds"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a run that is already there")
    help_ = "train and test once for each of so many folds of the images, by image; 0 runs once"
    add_option(command, Parameters, "folds", help=help_)
    add_option(command, CommandSetting, "seeds")
    command.set_defaults(function=report, needs_keras=True)


def report(arguments) -> None:
    from ..course.report import make_report  # Imported here, as in the other commands, so that --help answers at once.

    folds, seeds = arguments.folds, arguments.seeds
    name = Path(arguments.preset).stem + f"_{folds}_folds" * (folds > 0) + f"_{seeds}_seeds" * (seeds > 1)
    run = arguments.run or Path("runs") / name
    if not folds and seeds == 1:
        make_report(run, arguments.preset, arguments.data, arguments.overwrite)
        return
    from ..course.run_sets import make_set

    page = make_set(run, arguments.preset, arguments.data, arguments.overwrite, folds, seeds)
    print(f"the page of all runs is {printable(page)}", flush=True)
