import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tiledseg_utils.base.environment import ONEDNN_FLAG, fast_flags

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = [f"{flag}={value}" for flag, value in fast_flags().items()]
CHOSEN = [f"{flag}=false" if flag == ONEDNN_FLAG else f"{flag}=" for flag in fast_flags()]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], OURS),
        (["--xla_cpu_enable_fast_math=false"], ["--xla_cpu_enable_fast_math=false", *OURS]),
        (CHOSEN, CHOSEN),
    ],
)
def test_importing_the_package_sets_flags_that_jax_then_accepts_unless_the_user_has(before, after):
    code = "import tiledseg_utils, jax, os; jax.numpy.zeros(1); print(os.environ['XLA_FLAGS'])"
    environment = {**os.environ, "XLA_FLAGS": " ".join(before)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == after


def test_every_folder_of_code_is_installed():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tiledseg_utils").rglob("*.py")}
    found = {".".join(folder.parts) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"tiledseg_utils.notebooks"}


def test_every_file_of_the_notebooks_is_installed():
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {"tiledseg_utils.notebooks": "notebooks"}
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["tiledseg_utils.notebooks"]
    folder = ROOT / "notebooks"
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    files = {path for path in folder.rglob("*") if path.is_file() and ".ipynb_checkpoints" not in path.parts}
    assert installed - {path for path in installed if path.is_dir()} == files


def test_every_page_of_the_course_is_installed():
    folder = ROOT / "tiledseg_utils" / "course"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["tiledseg_utils.course"]
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert installed == {path for path in folder.rglob("*") if path.suffix in (".html", ".css", ".js")} != set()


def test_the_models_in_the_box_are_installed():
    folder = ROOT / "tiledseg_utils" / "models"
    (pattern,) = PROJECT["tool"]["setuptools"]["package-data"]["tiledseg_utils.models"]
    assert {path.name for path in folder.glob(pattern)} == {"smears.keras", "smears.md"}


COPIED = """
from tiledseg_utils.base.paths import NOTEBOOK_FOLDER, PACKAGE
from tiledseg_utils.settings.presets import read_preset
print(PACKAGE.parent, NOTEBOOK_FOLDER.relative_to(PACKAGE.parent).as_posix(), sorted(read_preset("mine")))
"""


@pytest.mark.parametrize(
    ("installed", "found"), [(True, "tiledseg_utils/notebooks ['seed']"), (False, "notebooks ['threshold']")]
)
def test_an_installed_package_reads_its_own_presets_and_a_clone_those_beside_it(tmp_path, installed, found):
    shutil.copytree(ROOT / "tiledseg_utils", tmp_path / "tiledseg_utils", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks" / "presets").mkdir(parents=True)
    (tmp_path / "notebooks" / "presets" / "mine.yaml").write_text("threshold: 0.4")
    if installed:
        (tmp_path / "tiledseg_utils" / "notebooks" / "presets").mkdir(parents=True)
        (tmp_path / "tiledseg_utils" / "notebooks" / "presets" / "mine.yaml").write_text("seed: 1")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COPIED], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == f"{tmp_path} {found}", done.stderr


def test_what_the_package_imports_is_installed_with_it():
    declared = {re.match(r"[\w-]+", name)[0] for name in PROJECT["project"]["dependencies"]}
    declared |= {"ipython", "jupyter-client", "jupyter-core", "nbformat"}  # These come with ipykernel and nbconvert.
    declared |= {"numcodecs"}  # This comes with zarr.
    for extra in ("cluster", "export"):
        declared |= {re.match(r"[\w-]+", name)[0] for name in PROJECT["project"]["optional-dependencies"][extra]}
    imported = set()
    for path in (ROOT / "tiledseg_utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {name.split(".")[0] for name in names}
    distributions = importlib.metadata.packages_distributions()
    own = {"tiledseg_utils", *sys.stdlib_module_names}
    needed = {name: {found.lower().replace("_", "-") for found in distributions[name]} for name in imported - own}
    assert not {name for name, found in needed.items() if not found & declared}


def test_benchmarks_have_an_environment_of_their_own():
    command = ["make", "--always-make", "-n", "bench"]
    recipe = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert ".venv-bench/bin/python -m tests.benchmarks" in recipe.stdout
    assert ".venv/" not in recipe.stdout and "tensorflow" not in (ROOT / "requirements.lock").read_text()


def test_the_container_installs_the_pinned_versions():
    lines = (ROOT / ".ci" / "Dockerfile").read_text().splitlines()
    steps = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    pips = [rest for word, rest in steps if word == "RUN"]
    assert pips[0].endswith("--requirement requirements.lock") and "--no-deps" in pips[1]
    module = json.loads(dict(steps)["CMD"])[2]
    assert importlib.util.find_spec(module) and "--file .ci/Dockerfile" in (ROOT / "README.md").read_text()
