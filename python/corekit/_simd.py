"""Which instruction set the kernels use."""

from __future__ import annotations

import os

from corekit import _core
from corekit.errors import InvalidArgumentError

VARIABLE = "COREKIT_SIMD"


def level() -> str | None:
    """Return the environment's COREKIT_SIMD, or None for the highest level of the machine.

    The core refuses a name that is no level of this machine. The results do not
    depend on it, but for the rounding of attention.
    """
    return os.environ.get(VARIABLE, "").strip() or None


def in_use() -> str:
    """Return the level that a run would use."""
    build = _core.build_info()
    found = level() or build["simd_level"]
    if found not in build["simd_levels"]:
        levels = ", ".join(build["simd_levels"])
        raise InvalidArgumentError(
            f"{VARIABLE} must be a level that this machine has ({levels}), got {found!r}"
        )
    return found
