"""What glibc, the C library of most Linux systems, does with freed memory. On other systems, nothing changes.

XLA asks for the memory of all activations anew at every call. By default glibc hands it back to the kernel after each,
and getting it again, page by page, takes a fifth of a prediction's time and a seventh of a training step's. From its
import on, the package therefore keeps it, unless the environment variable TILEDSEG_KEEP_MEMORY is 0; but not while an
image is streamed, when the gaps between what is in use would grow with the image.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator

SWITCH = "TILEDSEG_KEEP_MEMORY"

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # From malloc.h.


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.mallopt, library.malloc_trim, library.gnu_get_libc_version  # noqa: B018 - AttributeError elsewhere.
        return library
    except (AttributeError, OSError, TypeError):
        return None


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation. Must be called before other threads allocate, as on import."""
    if os.environ.get(SWITCH) != "0" and (library := _glibc()):
        library.mallopt(_M_ARENA_MAX, 1)  # Other arenas than the first are given back all the same.
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Hand freed memory back at once in a `with` block, as glibc does by default."""
    if library := _glibc():
        library.mallopt(_M_MMAP_MAX, 65536)
        library.mallopt(_M_TRIM_THRESHOLD, 128 * 1024)
    release_freed_memory()
    try:
        yield
    finally:
        keep_freed_memory()


def release_freed_memory() -> None:
    """Hand what is free back to the kernel now."""
    if library := _glibc():
        library.malloc_trim(0)
