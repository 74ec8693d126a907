"""A real JupyterLab with the learner's edition: notebook 01 runs by its menu, to its last cell."""

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

NOTEBOOK = "01_data_and_tiling"
TOKEN = "looking"
LONGEST = 1800  # seconds; two minutes are usual
MANY, FEW = r"{\"train\": 36, \"valid\": 4, \"test\": 10}", r"{\"train\": 4, \"valid\": 1, \"test\": 2}"  # In JSON.
DIALOG = ".jp-Dialog"
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
STATE = f"""() => {{
  const panel = document.querySelector("{PANEL}");
  const prompts = [...panel.querySelectorAll(".jp-InputArea-prompt")].map((each) => each.innerText);
  const indicator = panel.querySelector(".jp-Notebook-ExecutionIndicator");
  return {{ started: prompts.some((text) => /[*0-9]/.test(text)), kernel: indicator?.getAttribute("data-status") }};
}}"""


@contextlib.contextmanager
def started(python: str, root: Path) -> Iterator[str]:
    """A JupyterLab whose files lie below `root`; yields its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--no-browser", f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--ip=127.0.0.1"]
    options += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    code = "import sys, pathlib; from tiledseg_utils.course.edition import open_lab; "
    code += "sys.exit(open_lab(pathlib.Path(sys.argv[1]), sys.argv[2:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    # A workspace of the user's own would bring back other notebooks, and a kernel for each.
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment |= {name: str(root / "jupyter" / name.lower()) for name in own}
    with (root / "lab.log").open("w") as log:
        lab = subprocess.Popen(
            [python, "-c", code, str(root), *options], cwd=root, env=environment, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, lab)
            yield address
        finally:
            with contextlib.suppress(OSError):
                urlopen(f"{address}/api/shutdown?token={TOKEN}", data=b"", timeout=10).close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                lab.wait(15)
            lab.kill()


def _wait_for(address: str, lab: subprocess.Popen) -> None:
    for _ in range(120):
        with contextlib.suppress(OSError):
            urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).close()
            return
        if lab.poll() is not None:
            raise RuntimeError(f"JupyterLab ended with {lab.returncode}")
        time.sleep(1)
    raise RuntimeError("JupyterLab did not start within two minutes")


def check_lab(browser, python: str, root: Path) -> tuple[list[str], dict]:
    """Open JupyterLab, run notebook 01 by the menu, save it, and look at what it holds then.

    Args:
        browser: of Playwright.
        python: of the environment with the course and JupyterLab.
        root: an empty folder, in which JupyterLab and the notebook write.

    Returns:
        what is wrong, and {"cells", "seconds"}.
    """
    path = root / "runs" / "lab" / "notebooks" / f"{NOTEBOOK}.ipynb"
    with started(python, root) as address:
        draw_few_images(path)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        said = []
        page.on("pageerror", lambda error: said.append(f"JupyterLab: its script failed: {error}"))
        page.add_locator_handler(page.locator(DIALOG), _answer)
        page.goto(f"{address}/lab/tree/runs/lab/notebooks/{NOTEBOOK}.ipynb?token={TOKEN}", timeout=120_000)
        page.wait_for_selector(f"{PANEL} .jp-InputArea-prompt", timeout=120_000)
        page.wait_for_function(f"() => ({STATE})().kernel === 'idle'", timeout=120_000)
        start = time.monotonic()
        _run_all(page)
        cells = _wait_for_last_cell(page, path)
        page.close()
    return said + wrong_cells(cells), {"cells": len(cells), "seconds": round(time.monotonic() - start)}


def _answer(dialog) -> None:
    """Close a dialog that lies over the page: on a busy machine, JupyterLab asks which kernel a notebook wants."""
    print("JupyterLab asked:", " ".join(dialog.first.inner_text().split())[:200], flush=True)
    dialog.locator("button.jp-mod-accept").first.click()


def _run_all(page) -> None:
    """Choose Run All Cells, until the first of them runs: a page that is still being built loses a click."""
    from playwright.sync_api import TimeoutError as Timeout

    for _ in range(10):
        with contextlib.suppress(Timeout):
            page.get_by_role("menuitem", name="Run", exact=True).click(timeout=20_000)
            page.get_by_role("menuitem", name=re.compile("^Run All Cells")).first.click(timeout=20_000)
            page.wait_for_function(f"() => ({STATE})().started", timeout=20_000)
            return
        page.keyboard.press("Escape")  # A menu that was left open.
    raise RuntimeError("JupyterLab ran no cell, though Run All Cells was chosen ten times")


def _wait_for_last_cell(page, path: Path) -> list[dict]:
    """Save the notebook again and again, until its last cell has run or one has failed; its code cells then."""
    end = time.monotonic() + LONGEST
    while True:
        page.keyboard.press("Control+S")
        page.wait_for_timeout(2000)
        with contextlib.suppress(ValueError):  # It is being written.
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            cells = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
            failed = any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
            if failed or cells[-1]["execution_count"] or time.monotonic() > end:
                return cells


def draw_few_images(notebook: Path) -> None:
    """Let notebook 01 draw seven images instead of fifty, so that it takes a fraction of the time."""
    source = notebook.read_text(encoding="utf-8")
    changed = source.replace(MANY, FEW)
    if changed == source:
        raise RuntimeError(f"{notebook} does not say how many images it draws, as it used to")
    notebook.write_text(changed, encoding="utf-8")


def wrong_cells(cells: list[dict]) -> list[str]:
    """Code cells of a notebook that were not executed, or ended with an error."""
    found = []
    for number, cell in enumerate(cells, start=1):
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"]
        if cell["execution_count"] is None:
            found.append(f"{NOTEBOOK}: code cell {number} was not executed")
        found += [f"{NOTEBOOK}: code cell {number} ended with {error['ename']}" for error in errors]
    return found
