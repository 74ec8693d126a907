"""`make browser`: the report of a run, its viewer, the page of `compare`, the book and JupyterLab in a real Chromium.

It needs Playwright for Python and a Chromium, and prints what it has counted. Exit code: 0 if nothing is wrong, else 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser.lab import check_lab
from tests.browser.pages import check_folders, check_viewer

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHOWN = 40  # problems of each kind of page
KEPT = ("request.json", "metrics.json", "results")


def find_chromium(given: str | None) -> str:
    """The path of a Chromium.

    Raises:
        SystemExit: there is none; says so.
    """
    found = next(filter(None, map(shutil.which, [given] if given else NAMES)), None)
    if found is None:
        wanted = given or "chromium"
        sys.exit(f"error: {wanted} is not on the PATH. Install Debian's package chromium, or give CHROMIUM=path.")
    return found


def make_pages(python: str, run: Path, folder: Path) -> list[Path]:
    """The folders of pages of a run: its report, its comparison with a copy of itself, and its book."""
    if not (run / "report" / "index.html").exists() or not (run / "metrics.json").exists():
        sys.exit(f"error: {run} holds no finished run. Make one with make report.")
    copy = folder / "copy of the run"
    copy.mkdir()
    for name in KEPT:
        (shutil.copytree if (run / name).is_dir() else shutil.copy)(run / name, copy / name)
    for command in (
        ["compare", str(run), str(copy), "--out", str(folder / "comparison")],
        ["book", str(run), "--out", str(folder / "book")],
    ):
        if subprocess.run([python, "-m", "tiledseg_utils", *command]).returncode:
            sys.exit(f"error: the command {command[0]} failed.")
    return [run / "report", folder / "comparison", folder / "book"]


def _told(problems: list[str]) -> list[str]:
    """The same problems, printed at once: they are not lost if a later page ends the command."""
    print(*problems[:SHOWN], sep="\n", end="\n" if problems else "", flush=True)
    return problems


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.browser", description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    parser.add_argument("--pages", type=Path, nargs="+", default=[], help="look at these folders of pages alone")
    parser.add_argument("--python", default=sys.executable, help="Python of the environment with the course")
    parser.add_argument("--chromium", help="path or name of the browser")
    parser.add_argument("--without-lab", action="store_true", help="leave JupyterLab out")
    given = parser.parse_args(arguments)
    chromium = find_chromium(given.chromium)
    from playwright.sync_api import sync_playwright

    problems = []
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder, python = Path(temporary), os.path.abspath(given.python)
        folders = [path.resolve() for path in given.pages or make_pages(python, given.run, folder)]
        # Chromium has no sandbox for the user root, as in most containers.
        options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for each in folders:
            found, counts = check_folders(browser, [each])
            problems += _told(found)
            print(f"{each.name}: " + ", ".join(f"{count} {name}" for name, count in counts.items()), flush=True)
            if (viewer := each / "viewer.html").exists():
                found, tried = check_viewer(browser, viewer)
                problems += _told(found)
                print(f"viewer: {tried - len(found)} of {tried} steps with the keyboard", flush=True)
        if not given.without_lab and not given.pages:
            (folder / "lab").mkdir()
            found, counts = check_lab(browser, python, folder / "lab")
            problems += _told(found)
            print(f"JupyterLab: {counts['cells']} cells of notebook 01 in {counts['seconds']} s", flush=True)
        browser.close()
    print(f"{len(problems)} problems" if problems else "nothing is wrong")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
