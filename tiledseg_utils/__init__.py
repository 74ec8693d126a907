"""Tiled image segmentation with Keras 3 on JAX: the small package behind the notebooks.

The way of the data: `images` -> `tiling` -> `batches` (`augmentation`) -> `training` (`models`, `losses`)
-> `inference` -> `evaluation` -> `plots` -> `report`. Imports only go down these floors.
"""

import os

from .memory import keep_freed_memory

# Keras reads this once, when it is first imported. A backend that the user has chosen is left alone.
os.environ.setdefault("KERAS_BACKEND", "jax")

keep_freed_memory()

__version__ = "0.1.0"
