"""Tiled image segmentation with Keras 3 on JAX: the small package behind the notebooks.

The way of the data: `images` -> `tiling` -> `batches` (`augmentation`) -> `training` (`models`, `losses`)
-> `inference` (-> `instances` -> `matching`) -> `evaluation` -> `plots` -> `report`. Imports only go down these floors.
"""

from . import environment
from .memory import keep_freed_memory

environment.settle()
keep_freed_memory()

__version__ = "0.1.0"
