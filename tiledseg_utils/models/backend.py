"""Keras as the whole package uses it: `from .backend import keras`, so that no keras.json changes a result.

Old tutorials tell users to write channels_first or float16 into `~/.keras/keras.json`, and it stays there for years.
"""

import os
from pathlib import Path

from ..base.files import UserError

try:
    import keras
    from keras import layers, ops
except ImportError:  # Keras or its backend is not installed; Python's message says which.
    raise
except Exception as error:
    home = Path(os.environ.get("KERAS_HOME", "~/.keras"))
    remedy = f"Mend or delete {home / 'keras.json'}, and unset the environment variables that begin with KERAS_"
    raise UserError("Keras", f"does not start ({error})", remedy) from error

keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_dtype_policy("float32")

__all__ = ["keras", "layers", "ops"]
