"""The command `book`: the executed lessons of a run, and all that is written about the course, as pages to read."""

import time
from pathlib import Path

from ..base.text import printable
from .options import add_command


def add(commands) -> None:
    command = add_command(commands, "book", "make a book of a finished run: lessons, texts and reference, offline")
    command.add_argument("run", type=Path, metavar="RUN", help="run folder")
    command.add_argument("--out", type=Path, required=True, help="folder for the pages; index.html is the first")
    command.add_argument("--overwrite", action="store_true", help="replace a book that is already there")
    command.set_defaults(function=book, needs_keras=True)


def book(arguments) -> None:
    from ..course.book import write_book

    start = time.perf_counter()
    pages = write_book(arguments.run, arguments.out, arguments.overwrite)
    seconds = time.perf_counter() - start
    print(f"{pages} pages in {seconds:.0f} s; the book is {printable(arguments.out / 'index.html')}")
