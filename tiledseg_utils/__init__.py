"""Tiled image segmentation with Keras 3 on JAX: the small package behind the notebooks.

The way of the data: `images` -> `tiling` -> `batches` (`augmentation`) -> `training` (`models`, `losses`)
-> `inference` (-> `instances` -> `matching`) -> `evaluation` -> `plots` -> `report`. Imports only go down these floors.
"""

import importlib.metadata
import os

from .memory import keep_freed_memory

# Keras reads this once, when it is first imported. A backend that the user has chosen is left alone.
os.environ.setdefault("KERAS_BACKEND", "jax")

# On CPUs, JAX 0.10 hands convolutions to YNN, which with several tiles in a batch takes two to five times as long as
# XLA's own (Eigen), longest for the gradient of the weights: a training step took 1.5 s with it and takes 1 s without.
# The results are the same, up to the rounding of float32. Read once, when JAX starts; other releases are left alone,
# since XLA stops at a flag that it does not know.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _flag = "--xla_cpu_experimental_ynn_fusion_type"
    if _flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}=dot,individual_dot".strip()

keep_freed_memory()

__version__ = "0.1.0"
