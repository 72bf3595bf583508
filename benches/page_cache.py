"""Put a file into the page cache, take it out, and see how much of it is there.

Only the kernel's cache of this machine is meant: below a virtual machine its host may hold the
same bytes, and then "cold" is what such a machine gives after a reboot, not what a disk gives.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

_CHUNK_BYTES = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def warm(path: Path) -> None:
    """Read the whole file once."""
    buffer = bytearray(_CHUNK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def drop(path: Path) -> None:
    """Drop the file's pages, after writing back those that are dirty: only clean ones can go."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def cached_fraction(path: Path) -> float:
    """Return the share of the file's pages that are in the page cache.

    ``mincore`` looks without touching. A probing read would not do: even one that must not wait
    starts the read-ahead.
    """
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) as mapped,
    ):
        view = np.frombuffer(mapped, dtype=np.uint8)
        pages = np.empty(-(-view.size // mmap.PAGESIZE), dtype=np.uint8)
        code = _libc.mincore(view.ctypes.data, view.size, pages.ctypes.data)
        del view  # the mapping cannot be closed while an array looks into it
        if code != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    return float(np.mean(pages & 1))
