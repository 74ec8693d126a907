import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLAG = "--xla_cpu_experimental_ynn_fusion_type"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{FLAG}=dot,individual_dot"),
        ("--xla_cpu_enable_fast_math=false", f"--xla_cpu_enable_fast_math=false {FLAG}=dot,individual_dot"),
        (f"{FLAG}=", f"{FLAG}="),  # what the user has chosen stays
    ],
)
def test_importing_the_package_sets_the_flag_that_jax_then_accepts(before, after):
    code = "import tiledseg_utils, jax, os; jax.numpy.zeros(1); print(os.environ['XLA_FLAGS'])"
    environment = {**os.environ, "XLA_FLAGS": before}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after


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
