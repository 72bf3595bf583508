"""How many threads a call uses."""

from __future__ import annotations

import os
from functools import lru_cache

from corekit import _checks, _core
from corekit.errors import InvalidArgumentError

VARIABLE = "COREKIT_NUM_THREADS"

# Far above any use, far below what exhausts a process: a typing error such as
# 20000 becomes a message and not a machine that stands still.
MOST = 1024


def count(threads: object) -> int:
    """Return the argument, else the environment's COREKIT_NUM_THREADS, else the usable CPUs.

    The usable CPUs are those of the process's affinity mask and cgroup, as the
    core counts them.
    """
    if threads is not None:
        return _checks.integer("threads", threads, low=1, high=MOST + 1)
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not (text.isascii() and text.isdigit()):
            raise InvalidArgumentError(f"{VARIABLE} must be a number of threads, got {text!r}")
        return _checks.integer(VARIABLE, int(text), low=1, high=MOST + 1)
    return _available(frozenset(os.sched_getaffinity(0)))


def _count(_affinity: frozenset[int]) -> int:
    return min(_core.build_info()["available_threads"], MOST)


# The CPUs that may be used, asked for once for an affinity: cgroups are files.
_available = lru_cache(8)(_count)
