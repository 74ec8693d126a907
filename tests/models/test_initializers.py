import keras
import numpy as np
import pytest

from tiledseg_utils.models import cpu

SHAPE = (3, 3, 64, 128)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cpu.HeNormal(1), keras.initializers.HeNormal(1)),
        (cpu.GlorotUniform(1), keras.initializers.GlorotUniform(1)),
        (cpu.SmallNormal(1), keras.initializers.TruncatedNormal(stddev=0.02, seed=1)),
    ],
)
def test_weights_are_distributed_as_those_of_keras(ours, theirs):
    found, expected = (np.asarray(initializer(SHAPE)).ravel() for initializer in (ours, theirs))
    assert found.dtype == np.float32
    np.testing.assert_allclose(*(np.quantile(x, np.linspace(0, 1, 21)) for x in (found, expected)), atol=1e-3)
    again = type(ours).from_config(ours.get_config())
    assert np.array_equal(again(SHAPE), ours(SHAPE))
    assert not np.array_equal(type(ours)(2)(SHAPE), ours(SHAPE))


def test_seeds_tell_keys_apart():
    assert len({cpu.layer_seed(*key) for key in [(1, 0), (0, 1), (1, 1), (2, 1), (1, 1, 1)]}) == 5
