"""The command `report`: all notebooks, one after the other, and a report of what they found."""

from pathlib import Path

from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "report", "run the notebooks and write a report")
    command.add_argument("--data", type=Path, help="folder with images/ and masks/; without it, images are generated")
    command.add_argument("--preset", default="quick", help="a name in notebooks/presets, or the path of a YAML file")
    command.add_argument("--run", type=Path, help="folder for all results; runs/<preset> by default")
    command.add_argument("--overwrite", action="store_true", help="replace a run that is already there")
    command.set_defaults(function=report, needs_keras=True)


def report(arguments) -> None:
    from ..course.report import make_report  # Imported here, as in the other commands, so that --help answers at once.

    run = arguments.run or Path("runs") / Path(arguments.preset).stem
    make_report(run, arguments.preset, arguments.data, arguments.overwrite)
