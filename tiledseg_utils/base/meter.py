"""What a block of code takes: seconds, and the memory of this process."""

import threading
import time

import psutil

from .memory import release_freed_memory


class Meter(threading.Thread):
    """Measures a `with` block: `seconds`, and the memory of this process, sampled 50 times a second.

    `peak_mib` is the largest resident memory in MiB, `added_mib` what of it the block added to what was there before.

    Args:
        children: add the memory of child processes, and sample only 5 times a second: finding them takes so long that
            50 times would slow the block down by a tenth.
    """

    def __init__(self, children: bool = False):
        super().__init__(daemon=True)
        self.children = children
        self.seconds, self.peak_mib, self._stopped_event = 0.0, 0.0, threading.Event()

    def _sample(self) -> float:
        process, total = psutil.Process(), 0
        for member in [process, *(process.children(recursive=True) if self.children else ())]:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # It ended since the processes were listed.
        self.peak_mib = max(self.peak_mib, total / 2**20)
        return total / 2**20

    def run(self):
        while not self._stopped_event.wait(0.2 if self.children else 0.02):
            self._sample()

    def __enter__(self):
        release_freed_memory()  # Otherwise the block would reuse what is left over, and seem to need nothing.
        self.before_mib = self._sample()
        self.start()
        self._started_at = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._started_at
        self._stopped_event.set()
        self.join()
        self._sample()

    @property
    def added_mib(self) -> float:
        return self.peak_mib - self.before_mib
