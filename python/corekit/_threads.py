"""How many threads a call uses."""

from __future__ import annotations

from corekit import _checks, _core

VARIABLE = "COREKIT_NUM_THREADS"


def count(threads: object) -> int:
    """Return the argument, else the environment's COREKIT_NUM_THREADS, else the usable CPUs.

    The usable CPUs are those of the process's affinity mask and cgroup.
    """
    asked = given(threads)
    return _core.default_threads() if asked is None else asked


def given(threads: object) -> int | None:
    """Return the argument: for None the core looks for itself, if it needs to know."""
    if threads is None:
        return None
    return _checks.integer("threads", threads, low=1, high=_core.MOST_THREADS + 1)
