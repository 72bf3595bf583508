"""Targets: what is wanted, what was measured, and whether it is met."""

from __future__ import annotations

import operator

from results import Record
from timings import median, seconds

# What was measured, by the medians, and in every round; None where it was not.
Found = tuple[float | None, list[float]]


def ratios(above: Record | None, below: Record | None, step: str, other: str = "") -> Found:
    """Return the ratio of the medians of a step, and that of every round that both have."""
    if above is None or below is None:
        return None, []
    other = other or step
    pairs = zip(seconds(above, step), seconds(below, other), strict=False)
    return median(above, step) / median(below, other), [over / under for over, under in pairs]


def at_least(what: str, needed: float, found: Found) -> Record:
    """Return a target that is met by no less than what is needed."""
    return target(what, ">=", needed, found)


def at_most(what: str, needed: float, found: Found) -> Record:
    """Return a target that is met by no more than what is needed."""
    return target(what, "<=", needed, found)


_COMPARED = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}


def target(what: str, sign: str, needed: float, found: Found) -> Record:
    """Return a target as the results file holds it."""
    value, rounds = found
    return {
        "what": what,
        "needed": f"{sign} {needed:g}",
        "measured": value,
        "range": [min(rounds), max(rounds)] if rounds else None,
        "met": None if value is None else bool(_COMPARED[sign](value, needed)),
    }
