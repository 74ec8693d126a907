"""Which Python `make` takes, with stand-ins for interpreters on a PATH of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_package import PROJECT

ROOT = Path(__file__).parents[1]
NAMES = ("python3.14", "python3.13", "python3.12", "python3.11", "python3")
WORKS = f'exec {sys.executable} "$@"'
SHIM = 'echo "pyenv: $0: command not found" >&2; exit 127'  # Of a version that is installed, but not chosen.
OLD = "exit 1"  # What a Python below 3.11, or one without venv, answers.


def planned(folder: Path, scripts: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    """What `make` would do to set up an environment where the names in `scripts` do that, and all others fail."""
    for name in NAMES:
        (folder / name).write_text(f"#!/bin/sh\n{scripts.get(name, SHIM)}\n")
        (folder / name).chmod(0o755)
    place = folder / "environment"
    # `make test PYTHON=...` hands its choice down by these.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}
    environment["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    command = ["make", "--dry-run", f"VENV={place}", *arguments, f"{place}/installed"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("scripts", "taken"),
    [
        ({"python3.13": WORKS, "python3.12": WORKS, "python3": WORKS}, "python3.13"),
        ({"python3.12": WORKS, "python3.11": WORKS}, "python3.12"),
        ({"python3.13": SHIM, "python3.12": SHIM, "python3.11": WORKS, "python3": WORKS}, "python3.11"),
        ({"python3.12": OLD, "python3": WORKS}, "python3"),
    ],
)
def test_make_takes_the_newest_python_that_runs(tmp_path, scripts, taken):
    done = planned(tmp_path, scripts)
    assert f"{taken} -m venv {tmp_path}" in done.stdout, done.stderr


def test_the_python_that_is_named_is_taken(tmp_path):
    done = planned(tmp_path, {"python3.13": WORKS, "python3.11": WORKS}, "PYTHON=python3.11")
    assert f"|| python3.11 -m venv {tmp_path}" in done.stdout, done.stderr


def test_no_python_at_all_is_told(tmp_path):
    assert "Python 3.11 or newer is needed, and none is found" in planned(tmp_path, {"python3": OLD}).stdout


def test_every_file_names_a_python_that_make_takes():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"for python in {' '.join(NAMES)}; do" in makefile
    supported = {line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"]}
    assert supported == {name.removeprefix("python") for name in NAMES} - {"3"}
    assert "FROM python:3.12-slim" in (ROOT / ".ci" / "Dockerfile").read_text(encoding="utf-8")
    assert "- python=3.12 #" in (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_only_jax_differs_between_versions_of_python():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in lock if "==" in line and not line.startswith("#")]
    assert sorted({name for name in names if names.count(name) > 1}) == ["jax", "jaxlib"]
