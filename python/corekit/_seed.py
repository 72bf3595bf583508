"""Seeds: 128 bits, the key of the Philox generator."""

from __future__ import annotations

import os

from corekit import _checks

BITS = 128


def draw() -> int:
    """Draw a seed from the system's entropy."""
    # What `secrets` does; importing that takes memory that the limit would have to cover.
    return int.from_bytes(os.urandom(BITS // 8), "little")


def resolve(seed: object) -> int:
    """Return the seed given, checked, or one that was drawn when it is None."""
    return draw() if seed is None else _checks.integer("seed", seed, low=0, high=1 << BITS)
