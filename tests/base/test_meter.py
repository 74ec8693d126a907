import subprocess
import sys
import time

import numpy as np
import pytest

from tiledseg_utils.base.meter import Meter


def test_meter_sees_time_and_memory():
    with Meter() as meter:
        block = np.ones(50 * 2**17)  # 50 MiB
        time.sleep(0.1)
    assert block.nbytes == 50 * 2**20
    assert 0.1 < meter.seconds < 5
    assert 40 < meter.added_mib < 200
    assert meter.peak_mib > meter.added_mib


@pytest.mark.parametrize("children", [False, True])
def test_meter_counts_children_only_if_asked(children):
    with Meter(children) as meter:
        subprocess.run([sys.executable, "-c", "import time; block = bytearray(10**8); time.sleep(0.7)"], check=True)
    assert (meter.added_mib > 90) == children
