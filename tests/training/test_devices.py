"""Several devices, and several processes, learn what one device learns."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tiledseg_utils.base.files import UserError
from tiledseg_utils.training import devices

LEARN = """
import json, sys
import tiledseg_utils
from tiledseg_utils.models.backend import keras
out, count, address, process = sys.argv[1:]
if address:
    keras.distribution.initialize(address, 2, int(process))
import numpy as np
from pathlib import Path
from tiledseg_utils.models import build_model, losses
from tiledseg_utils.settings.parameters import TrainingSetting
from tiledseg_utils.tiles.augmentation import Augmentation
from tiledseg_utils.training.batches import TrainingBatches, TrainingTiles, ValidationBatches
from tiledseg_utils.training.fit import Task, fit

images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
masks = images[..., 0] > 128
setting = TrainingSetting(
    epochs=5, steps_per_epoch=1, validation_steps=1, batch_size=8, learning_rate=0.003, patience=0, devices=int(count)
)
network = {"base_filters": 4, "levels": 2, "normalization": "batch", "seed": 1}
task = Task(
    build=lambda precision: build_model("unet", network, None, precision),
    batches=TrainingBatches(
        TrainingTiles(images, masks, np.ones(24), np.zeros(24, bool)), setting, 3, Augmentation(hflip=0.5)
    ),
    validation=ValidationBatches(images[:8], masks[:8], setting),
    loss=losses.LOSSES["bce_dice"],
    metrics=losses.METRICS,
    request={},
    learnt_from=None,
)
folder = Path(out)
folder.mkdir(exist_ok=True)
result = fit(task, setting, folder / "state", folder / "model.keras")
print(json.dumps([[row["loss"], row["val_loss"]] for row in result["history"]]))
"""


def start(out, count, there, address="", process=0):
    """Start a training on `count` devices, where each process has `there`."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={there}"}
    command = [sys.executable, "-c", LEARN, str(out), str(count), address, str(process)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def losses_of(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return np.array(json.loads(said.splitlines()[-1]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return losses_of(start(tmp_path_factory.mktemp("alone"), 1, 1))


def test_eight_devices_learn_what_one_learns(alone, tmp_path):
    shared = losses_of(start(tmp_path, 0, 8))
    np.testing.assert_allclose(shared[:, 0], alone[:, 0], atol=1e-5)
    np.testing.assert_allclose(shared[:, 1], alone[:, 1], atol=1e-3)  # Batch statistics differ by more.
    assert (tmp_path / "model.keras").is_file()


def test_two_processes_learn_what_one_learns(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    both = [start(tmp_path, 0, 1, address, process) for process in (0, 1)]
    for shared in map(losses_of, both):
        np.testing.assert_allclose(shared[:, 0], alone[:, 0], atol=1e-5)
    assert (tmp_path / "model.keras").is_file()


def test_more_devices_than_there_are_and_uneven_batches_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"devices: 3 are asked for, and there are 1: cpu:0"), devices.on_devices(3, 6):
        pass
    monkeypatch.setattr(devices.keras.distribution, "list_devices", lambda: ["cpu:0", "cpu:1", "cpu:2"])
    with pytest.raises(UserError, match="8 tiles cannot be shared evenly by 3 devices"), devices.on_devices(0, 8):
        pass
