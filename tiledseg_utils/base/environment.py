"""The user's environment may not change the numbers. It is settled before Keras and JAX are imported.

`KERAS_BACKEND`, `JAX_PLATFORMS` and `XLA_FLAGS` stay as the user has them: they choose the machine, not the experiment.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import warnings
from pathlib import Path

from .files import UserError
from .text import printable

JAX_KEPT = ("JAX_PLATFORM", "JAX_CUDA", "JAX_ROCM", "JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE")
JAX_KEPT += ("JAX_PERSISTENT_CACHE", "JAX_LOGGING", "JAX_TRACEBACK")
"""How those variables of JAX begin that choose a device, a cache or messages; all others may change numbers."""

DROPPED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED", "NVIDIA_TF32_OVERRIDE")

YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
ONEDNN_FLAG = "--xla_cpu_experimental_onednn_custom_call"

PACKAGES = ("numpy", "cv2", "scipy", "skimage", "tifffile", "keras", "jax", "jaxlib", "matplotlib")
"""What numbers and pictures depend on, by import names."""


def settle() -> None:
    """Set and remove environment variables, so that Keras and JAX compute the same for everyone."""
    for name in list(os.environ):
        if name in DROPPED or (name.startswith("JAX_") and not name.startswith(JAX_KEPT)):
            del os.environ[name]
    # Read once, when Keras is first imported. An empty one would leave the choice to keras.json.
    if not os.environ.get("KERAS_BACKEND"):
        os.environ["KERAS_BACKEND"] = "jax"
    given = os.environ.get("XLA_FLAGS", "")
    missing = [f"{flag}={value}" for flag, value in fast_flags().items() if flag not in given]
    if missing:
        os.environ["XLA_FLAGS"] = " ".join([*given.split(), *missing])


def fast_flags() -> dict[str, str]:
    """Flags of XLA that make convolutions fast on CPUs, for the installed JAX. XLA reads them once, when JAX starts.

    The results are the same, up to the rounding of float32. Releases of JAX that were not measured get none, since XLA
    stops at a flag that it does not know.
    """
    version, flags = importlib.metadata.version("jaxlib"), {}
    # JAX hands convolutions to YNN, which in 0.10 takes two to five times as long as XLA's own (Eigen) with several
    # tiles in a batch, longest for the gradient of the weights: a training step took 1.5 s with it and takes 1 s
    # without. In 0.12 it takes convolutions away from oneDNN, which is faster.
    if version.startswith(("0.10.", "0.12.")):
        flags[YNN_FLAG] = "dot,individual_dot"
    # oneDNN takes about two thirds of the time of Eigen, see `models.cpu.Convolution`. 0.10 does not have it. Its ReLU
    # makes 0 of nan, so outputs do not tell of a weight that is nan: `model_files` and `callbacks` look at weights.
    if version.startswith("0.12.") and sys.platform == "linux" and platform.machine() == "x86_64":
        flags[ONEDNN_FLAG] = "true"
    return flags


def convolves_with_onednn() -> bool:
    """Whether XLA hands convolutions on the CPU to oneDNN, by our flag or the user's."""
    return f"{ONEDNN_FLAG}=true" in os.environ.get("XLA_FLAGS", "").split()


def settle_command() -> None:
    """Set what a command needs beyond `settle`, but a notebook or a script may want to choose."""
    # No command opens a window, and Matplotlib would fail at a name that it does not know.
    os.environ["MPLBACKEND"] = "agg"
    if os.environ.pop("PYTHONWARNINGS", ""):  # With "error", a command would fail at any warning.
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)  # As Python does by default.


START = """
import sys
try:
    from tiledseg_utils.models.backend import keras
    keras.ops.convert_to_numpy(keras.ops.zeros(1))
except Exception as error:
    sys.exit(" ".join(str(error).split()))
"""
"""A program that fails, and says why, if Keras and JAX do not start."""


def chosen_by_user() -> dict[str, str]:
    """Variables of the user that can keep Keras or JAX from starting, and their values."""
    ours = [f"{flag}={value}" for flag, value in fast_flags().items()]
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in ours]
    values = {
        "KERAS_BACKEND": os.environ["KERAS_BACKEND"].replace("jax", ""),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "").replace("cpu", ""),
        "XLA_FLAGS": " ".join(flags),
    }
    return {name: value for name, value in values.items() if value}


def check_start() -> None:
    """Make sure that Keras and JAX start with the variables that the user has set, if there are any.

    XLA ends the whole process at a flag that it does not know, so another process tries.

    Raises:
        UserError: they do not start; says with which variables.
    """
    chosen = chosen_by_user()
    if not chosen:
        return
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    tried = subprocess.run(
        [sys.executable, "-c", START],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if tried.returncode:
        flag = re.search(r"Unknown flags? .*", tried.stderr)
        said = [line for line in tried.stderr.splitlines() if line.strip()] or ["it says nothing"]
        reason = flag.group() if flag else said[-1]
        variables = ", ".join(f"{name}={value}" for name, value in chosen.items())
        raise UserError(variables, f"Keras does not start with this ({reason})", "Correct or unset the variable")
    if "XLA_FLAGS" in chosen:
        print(f"note: XLA_FLAGS holds {chosen['XLA_FLAGS']}, which may change scores", file=sys.stderr)


def warn_of_foreign_packages() -> None:
    """Say on stderr which packages do not belong to the environment of this Python, if there are any."""
    by_place = {}
    for name, place in foreign_packages().items():
        by_place.setdefault(place, []).append(name)
    for place, names in by_place.items():
        origin = f"from {printable(place)}, not from the environment of this Python"
        print(
            f"note: {', '.join(names)} {origin}; scores may differ (see PYTHONPATH, PYTHONNOUSERSITE)", file=sys.stderr
        )


def foreign_packages() -> dict[str, str]:
    """Packages that do not belong to the environment of this Python, and where they come from.

    A user site or PYTHONPATH may hold a version of NumPy or OpenCV that was never tested with the others.
    """
    homes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    found = {}
    for name in PACKAGES:
        specification = importlib.util.find_spec(name)
        place = Path(specification.origin).resolve() if specification and specification.origin else None
        if place and not any(place.is_relative_to(home) for home in homes):
            found[name] = str(place.parent.parent)
    return found
