"""Which records are written, and how often: a sample, a fraction, splits, epochs."""

from __future__ import annotations

from dataclasses import dataclass

from corekit import _checks
from corekit.shuffle import _fractions

# A sample larger than any input could ever be is simply everything.
_EVERYTHING = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The options about the choice of records, checked one by one and against each other."""

    sample: int | None
    fraction: int | None
    splits: list[tuple[str, int]] | None
    epochs: int | None


def check(*, sample: object, fraction: object, splits: object, epochs: object) -> Selection:
    """Check what is to be written of all records; fractions become cuts in key space."""
    selection = Selection(
        sample=None if sample is None else _sample(sample),
        fraction=None if fraction is None else _fractions.cut("fraction", fraction),
        splits=None if splits is None else _fractions.splits(splits),
        epochs=None if epochs is None else rounds(epochs),
    )
    _checks.exclusive(sample=sample, fraction=fraction, splits=splits)
    return selection


def rounds(epochs: object) -> int:
    """Check the number of epochs; their numbers have 32 bits of the generator's counter."""
    return _checks.integer("epochs", epochs, low=1, high=1 << 32)


def _sample(sample: object) -> int:
    return min(_checks.integer("sample", sample, low=0), _EVERYTHING)
