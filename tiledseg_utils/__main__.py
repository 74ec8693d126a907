"""The command line: `tiledseg COMMAND --help`, or `python -m tiledseg_utils COMMAND --help`.

Each command has a file of its name in `commands`.

Exit codes: 0 success, 1 failure (one line says what and how to mend it), 2 wrong usage, 130 interrupted (129 and 143
by SIGHUP and SIGTERM), 141 nobody reads what is printed.
"""

import argparse
import sys
from pathlib import Path

from .base import environment
from .base.version import VERSION
from .commands import book, compare, data, evaluate, export, instances, measure, predict, report, runs, score
from .commands.console import run_safely
from .commands.options import prediction_defaults


def program() -> str:
    """What the user has typed to get here: the installed command, or Python with the name of the package."""
    return "tiledseg" if Path(sys.argv[0]).stem.lower() == "tiledseg" else "python -m tiledseg_utils"


def parser(prediction: dict) -> argparse.ArgumentParser:
    """The arguments of every command; `prediction` has other defaults for those of `add_prediction_options`."""
    main_parser = argparse.ArgumentParser(program(), description="Tiled image segmentation, a course.")
    main_parser.add_argument("--version", action="version", version=f"tiledseg {VERSION}", help="print the version")
    commands = main_parser.add_subparsers(title="commands", required=True)
    report.add(commands)
    compare.add(commands)
    book.add(commands)
    data.add(commands)
    predict.add(commands, prediction)
    instances.add(commands)
    measure.add(commands)
    evaluate.add(commands, prediction)
    score.add(commands)
    runs.add(commands)
    export.add(commands)
    return main_parser


def run_command(arguments: list[str] | None) -> None:
    """Run a command.

    Raises:
        SystemExit: wrong usage, or help was asked for.
    """
    parsed = parser({}).parse_args(arguments)
    environment.settle_command()
    if hasattr(parsed, "needs_keras"):
        environment.warn_of_foreign_packages()
        environment.check_start()
    if preset := getattr(parsed, "prediction_preset", None):
        parsed = parser(prediction_defaults(preset)).parse_args(arguments)
    parsed.parse_again = lambda defaults: parser(defaults).parse_args(arguments)  # For defaults that a model brings.
    parsed.function(parsed)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return run_safely(lambda: run_command(arguments))


if __name__ == "__main__":
    sys.exit(main())
