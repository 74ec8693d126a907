"""Tiled image segmentation with Keras 3 on JAX: the small package behind the notebooks.

The way of the data: `data` -> `tiles` -> `training` (`models`) -> `prediction` -> `scoring` -> `course`.
`base` and `settings` are used everywhere. Imports only go down, and Keras begins at `models`.
"""

import importlib

from .base import environment
from .base.memory import keep_freed_memory
from .base.version import VERSION as __version__  # noqa: F401 - for scripts

environment.settle()
keep_freed_memory()

SHORT_NAMES = {
    "images": "data",
    "synthetic": "data",
    "tiling": "tiles",
    "inference": "prediction",
    "instances": "prediction",
    "report": "course",
}
"""Modules that scripts may import without their room: `from tiledseg_utils import images, inference`."""


def __getattr__(name: str):
    if name in SHORT_NAMES:
        return importlib.import_module(f".{SHORT_NAMES[name]}.{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
