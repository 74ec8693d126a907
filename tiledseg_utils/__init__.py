"""Tiled image segmentation with Keras 3 on JAX: the small package behind the notebooks.

The way of the data: `data` -> `tiles` -> `training` (`models`) -> `prediction` -> `scoring` -> `course`.
`base` and `settings` are used everywhere. Imports only go down, and Keras begins at `models`.
"""

import importlib.abc
import importlib.machinery
import sys

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


class ShortNameFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the module of a short name in its room, when it is imported and no sooner."""

    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.rpartition(".")
        is_short = package == __name__ and name in SHORT_NAMES
        return importlib.machinery.ModuleSpec(fullname, self) if is_short else None

    def create_module(self, spec):
        name = spec.name.rpartition(".")[2]
        return importlib.import_module(f"{__name__}.{SHORT_NAMES[name]}.{name}")

    def exec_module(self, module):
        """Nothing is left to do: the module has run under its own name."""


sys.meta_path.append(ShortNameFinder())
