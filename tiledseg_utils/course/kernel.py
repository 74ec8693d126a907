"""The process that runs a notebook: the very Python that was started, and nothing of what the user's Jupyter is set to.

A kernel named python3 on JUPYTER_PATH may belong to any Python, and files in `~/.ipython` run in every kernel.
"""

import asyncio
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

LEFT_OUT = ("IPYTHON", "JUPYTER", "MPLBACKEND", "MATPLOTLIBRC", "PYTHONSTARTUP", "PYTHONBREAKPOINT", "PYTHONINSPECT")
"""How variables begin that change what a kernel does before its first cell."""

PREFIX = "tiledseg-kernel-"
"""How the temporary folders of kernels are called; the number of the report's process follows."""


def interpreter_flags() -> list[str]:
    """The options of this Python that decide where it looks for modules."""
    flags = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment}
    flags |= {"-s": sys.flags.no_user_site, "-S": sys.flags.no_site, "-P": sys.flags.safe_path}
    return [flag for flag, given in flags.items() if given]


def kernel_environment(folder: Path) -> dict[str, str]:
    """The environment variables of a kernel whose own files go to `folder`; it imports this very package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH", "")]))
    return kept | {"IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder), "PYTHONPATH": path}


def remove_left_behind() -> None:
    """Remove the temporary folders of kernels whose reports were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).split("-")[0]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)  # That of another user stays.


class OwnKernel(AsyncKernelManager):
    """Starts kernels of this Python, in a temporary folder of their own, which goes with the manager."""

    def __init__(self, **options):
        remove_left_behind()
        prefix = f"{PREFIX}{os.getpid()}-"
        self._temporary = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)
        super().__init__(**options, connection_file=str(self._folder / "connection.json"))
        self._kernel_spec = KernelSpec(
            argv=[
                sys.executable,
                *interpreter_flags(),
                "-m",
                "tiledseg_utils.course.kernel",
                "-f",
                "{connection_file}",
            ],
            display_name="Python 3",
            language="python",
            metadata={"kernel_provisioner": {"provisioner_name": "local-provisioner"}},
        )

    def start_kernel(self, **options):
        """Start it with `kernel_environment`."""
        return super().start_kernel(**{**options, "env": kernel_environment(self._folder)})

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """Shut it down, without the complaints of those who still wait for an answer after Ctrl-C."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        waiting = [task for task in others if task.get_coro().__qualname__.startswith("NotebookClient.")]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await super().shutdown_kernel(now=now, restart=restart)

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        await super()._async_cleanup_resources(restart)
        if not restart:
            self._temporary.cleanup()

    cleanup_resources = _async_cleanup_resources


def die_with_parent() -> None:
    """Let Linux end this process when its parent ends, however that happens; elsewhere ipykernel looks each second."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != int(os.environ.get("JPY_PARENT_PID", os.getppid())):
            sys.exit("the report has ended before its kernel began")


if __name__ == "__main__":
    from ipykernel.kernelapp import launch_new_instance

    die_with_parent()
    launch_new_instance()
