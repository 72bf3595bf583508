"""Making calls at every SIMD level that the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from attention.calls import Call, check
from projection.levels import expected_levels

LEVELS = expected_levels()


@contextmanager
def at(level: str) -> Iterator[None]:
    """Have the calls within use this level: the core refuses one that it does not find."""
    before = os.environ.get("COREKIT_SIMD")
    os.environ["COREKIT_SIMD"] = level
    try:
        yield
    finally:
        del os.environ["COREKIT_SIMD"]
        if before is not None:
            os.environ["COREKIT_SIMD"] = before


def hold(call: Call, *, promise: bool = True) -> None:
    """Hold the outputs and the states of all levels to the reference."""
    for level in LEVELS:
        with at(level):
            check(call, *call.run(), promise=promise)
