"""Random initial weights, drawn with NumPy: JAX compiles a program for each shape, which takes a network many seconds.

They are those of Keras by the same names, and independent of backend and version.
"""

import math

import numpy as np

from .backend import keras


def layer_seed(*key: int) -> int:
    """A 32-bit seed for one layer, from non-negative numbers that tell it from all others, such as (seed, level).

    Zeros at the end do not count.
    """
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def dropout_seed(*key: int) -> int:
    """A `layer_seed` of 31 bits, since PyTorch has no room for more there."""
    return layer_seed(*key) >> 1


class _Drawn(keras.initializers.Initializer):
    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(self.draw(np.random.default_rng(self.seed), tuple(shape)), dtype)

    def get_config(self):
        return {"seed": self.seed}


def _truncated_normal(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """Standard normal numbers, of which those beyond 2 are drawn again."""
    values = rng.standard_normal(shape, np.float32)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(int(beyond.sum()), np.float32)
    return values


@keras.saving.register_keras_serializable("tiledseg")
class HeNormal(_Drawn):
    """For layers before a ReLU (He et al., ICCV 2015, arXiv:1502.01852)."""

    def draw(self, rng, shape):
        # Truncation takes 12 % off the standard deviation, which is given back here.
        return _truncated_normal(rng, shape) * (math.sqrt(2 / math.prod(shape[:-1])) / 0.87962566)


@keras.saving.register_keras_serializable("tiledseg")
class GlorotUniform(_Drawn):
    """For layers before a sigmoid or none (Glorot and Bengio, AISTATS 2010)."""

    def draw(self, rng, shape):
        limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape)


@keras.saving.register_keras_serializable("tiledseg")
class SmallNormal(_Drawn):
    """For transformers: standard deviation 0.02 (Liu et al., ICCV 2021, arXiv:2103.14030)."""

    def draw(self, rng, shape):
        return 0.02 * _truncated_normal(rng, shape)
