"""The learner's edition of the notebooks: stubs in place of the solutions, which follow folded away.

The notebooks in git are the one source. In them, a solution stands between the lines `# BEGIN SOLUTION` and
`# END SOLUTION` of a code cell; an answer that is a value stands there as `name = value`.
"""

import contextlib
import copy
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from ..base.files import UserError, atomic_path
from .lesson import project_folder
from .links import GLOSSARY
from .report import NOTEBOOK_FOLDER

BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"
BLOCK = re.compile(rf"^(?P<indent> *){BEGIN}\n(?P<solution>.*?)^ *{END}$", re.MULTILINE | re.DOTALL)
VALUE = re.compile(r"(?P<name>\w+) = ")
LAB = Path("runs") / "lab" / "notebooks"


def stub_of(source: str) -> str:
    """A cell with a stub in place of each solution: `name = ...` for a value, else three dots."""

    def stub(block: re.Match) -> str:
        value = VALUE.match(block["solution"].strip())
        name = f"{value['name']} = " if value and not block["indent"] else ""
        return f"{block['indent']}{name}...  # your answer"

    return BLOCK.sub(stub, source)


def solutions_of(source: str) -> str:
    """The cell without the lines that mark its solutions."""
    return "\n".join(line for line in source.split("\n") if line.strip() not in (BEGIN, END))


def learners_edition(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook with stubs; each solution stands folded away below the cell that checks it."""
    edition, cells, waiting = copy.deepcopy(notebook), [], []
    for cell in edition.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        if BEGIN in cell.source:
            waiting.append((cell.id, solutions_of(cell.source)))
            cell.source = stub_of(cell.source)
        elif "check_" in cell.source:
            for identity, solution in waiting:
                text = f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>"
                cells.append(nbformat.v4.new_markdown_cell(text, id=f"{identity}-solution"))
            waiting = []
    edition.cells = cells
    return edition


def write_edition(folder: Path) -> list[Path]:
    """Write the learner's edition into a folder. Notebooks that are there stay, since somebody may have worked in them.

    Returns:
        the notebooks that were written.
    """
    written = []
    for path in sorted(NOTEBOOK_FOLDER.glob("*.ipynb")):
        target = folder / path.name
        if not target.exists():
            with atomic_path(target) as temporary:
                nbformat.write(learners_edition(nbformat.read(path, as_version=4)), temporary)
            written.append(target)
    if (glossary := NOTEBOOK_FOLDER / f"{GLOSSARY}.md").exists():  # The lessons link to it; nobody works in it.
        with atomic_path(folder / glossary.name) as temporary:
            temporary.write_bytes(glossary.read_bytes())
    return written


def open_lab(root: Path, options: Sequence[str] = ()) -> int:
    """Write the learner's edition into `runs/lab/notebooks` below `root`, and open JupyterLab with its first notebook.

    As the user root, as in most containers, JupyterLab only starts if that is said.

    Args:
        root: top folder of the clone, or any folder.
        options: for JupyterLab, such as `--no-browser`.

    Returns:
        the exit code of JupyterLab.

    Raises:
        UserError: JupyterLab is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise UserError("JupyterLab", "is not installed", 'Install the course with it: pip install ".[notebooks]"')
    folder = root / LAB
    written = write_edition(folder)
    first = sorted(folder.glob("*.ipynb"))[0].relative_to(root)
    kept = "" if written else "; those that are there stay (delete one, and it is written anew)"
    print(f"{len(written)} notebook(s) written into {folder}{kept}", flush=True)
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(first), "--ServerApp.root_dir", str(root), *as_root, *options]
    with subprocess.Popen(command) as lab:
        while lab.poll() is None:
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is for JupyterLab, which asks before it ends.
                lab.wait()
    return lab.returncode


if __name__ == "__main__":
    try:
        sys.exit(open_lab(project_folder(), sys.argv[1:]))
    except UserError as problem:
        sys.exit(f"error: {problem}")
