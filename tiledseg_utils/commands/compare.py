"""The command `compare`: finished runs beside each other, on one page."""

from pathlib import Path

from ..base.text import printable
from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "compare", "compare finished runs on one page")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders; the first is the one to beat")
    command.add_argument("--out", type=Path, required=True, help="folder for the page, index.html, and its figure")
    command.add_argument("--overwrite", action="store_true", help="replace a page that is already there")
    command.set_defaults(function=compare)


def compare(arguments) -> None:
    from ..course.run_comparison import write_comparison

    page = write_comparison(arguments.runs, arguments.out, arguments.overwrite)
    print(f"the comparison is {printable(page)}")
