import os
import subprocess
import sys

import numpy as np
import psutil
import pytest

from tiledseg_utils.base import memory
from tiledseg_utils.base.meter import Meter

PAGES = """
import tiledseg_utils, numpy, resource
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(2**25)  # 256 MiB, freed at once.
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("switch", ["0", "1"])
def test_freed_memory_is_used_again_unless_switched_off(switch):
    process = [sys.executable, "-c", PAGES]
    environment = os.environ | {memory.SWITCH: switch}
    pages = int(subprocess.run(process, env=environment, capture_output=True, check=True, text=True).stdout)
    assert (pages < 50) == (switch == "1" and memory._glibc() is not None)


def test_released_memory_is_not_counted_as_used():
    np.ones(2**24)
    memory.release_freed_memory()
    before = psutil.Process().memory_info().rss
    with Meter() as meter:
        kept = np.ones(2**24)  # 128 MiB
    assert meter.added_mib == pytest.approx(kept.nbytes / 2**20, rel=0.2)
    del kept
    memory.release_freed_memory()
    assert psutil.Process().memory_info().rss - before < 20 * 2**20


def test_little_memory_is_given_back_at_once():
    """In a process of its own: a hole in the heap, which an earlier test may leave, would be filled and kept."""
    code = (
        "import numpy as np, psutil; from tiledseg_utils.base import memory\n"
        "before = psutil.Process().memory_info().rss\n"
        "with memory.little_memory():\n"
        "    np.ones(2**24)  # 128 MiB\n"
        "    assert psutil.Process().memory_info().rss - before < 20 * 2**20\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_glibc_nothing_changes(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
    with memory.little_memory():
        memory.release_freed_memory()
