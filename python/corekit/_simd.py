"""Which instruction set the kernels use."""

from __future__ import annotations

import os

VARIABLE = "COREKIT_SIMD"


def level() -> str | None:
    """Return the environment's COREKIT_SIMD, or None for the highest level of the machine.

    The core refuses a name that is no level of this machine. The results do not
    depend on it, but for the rounding of attention.
    """
    return os.environ.get(VARIABLE, "").strip() or None
