"""The provenance of a run: which versions, hardware and commit it ran with."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import cv2

from ..base.paths import PACKAGE
from ..base.version import VERSION


def environment(device: str) -> dict:
    """Versions and hardware, for the provenance card."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("keras", "jax", "numpy")},
        "opencv": cv2.__version__,
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "threads": len(affinity(0)) if affinity else os.cpu_count(),
        "device": device,
    }


def git_commit(folder: Path) -> str:
    """The commit of the clone that a folder is in, marked if files have changed since; "unknown" outside a clone.

    A folder of the installed package has its version instead: a clone around it is that of something else.
    """
    if PACKAGE in folder.parents:
        return f"installed package, version {VERSION}"
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
