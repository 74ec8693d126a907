"""What several test files share: a tiny data folder and a tiny tile set."""

import os
import tempfile

import hypothesis
import numpy as np
import pytest

from tiledseg_utils.base.environment import ONEDNN_FLAG, fast_flags
from tiledseg_utils.data import images, synthetic
from tiledseg_utils.tiles import tiling

# Tests say what is right, not how fast it is: a machine with other work would fail them.
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")


def pytest_configure(config):
    """Let JAX keep what it compiles until the session ends: many tests train one small network in several processes."""
    config.compiled = tempfile.TemporaryDirectory(prefix="tiledseg-compiled-")
    if ONEDNN_FLAG in fast_flags():
        return  # JAX cannot write convolutions of oneDNN.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = config.compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


def pytest_unconfigure(config):
    config.compiled.cleanup()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """Only a power cut would show it; tests that look at the order of writing put calls of their own in place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "sync", lambda: None, raising=False)
        yield


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """Five generated images of 280 px with split.csv: 2 train, 1 valid, 2 test. Shared: do not write into it."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_dataset(folder, seed=5, images={"train": 2, "valid": 1, "test": 2}, size=280)
    return folder


@pytest.fixture(scope="session")
def splits(data_folder):
    return images.split_pairs(images.find_pairs(data_folder), data_folder, seed=0)


@pytest.fixture(scope="session")
def tile_set(splits, tmp_path_factory):
    """Folder and manifest of the 64 px tiles of `data_folder`. Shared: do not write into it."""
    folder = tmp_path_factory.mktemp("tiles")
    return folder, tiling.write_tile_set(splits, folder, tiling.TileSetting(tile_size=64))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
