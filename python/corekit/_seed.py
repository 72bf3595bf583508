"""Seeds: 128 bits, the key of the Philox generator."""

from __future__ import annotations

from corekit import _checks

BITS = 128


def draw() -> int:
    """Draw a seed from the system's entropy."""
    import secrets  # slow to import, and most calls that matter have a seed

    return secrets.randbits(BITS)


def resolve(seed: object) -> int:
    """Return the seed given, checked, or one that was drawn when it is None."""
    return draw() if seed is None else _checks.integer("seed", seed, low=0, high=1 << BITS)
