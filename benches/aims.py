"""Targets: what is wanted, what was measured, and whether it is met."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Iterable, Iterator, Sequence

from results import Record

MEANING = {True: "met", False: "missed", None: "not measured"}
_COMPARED = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}


def at_least(what: str, needed: float, found: Sequence[float]) -> Record:
    """Return a target that is met by no less than what is needed."""
    return target(what, ">=", needed, found)


def at_most(what: str, needed: float, found: Sequence[float]) -> Record:
    """Return a target that is met by no more than what is needed."""
    return target(what, "<=", needed, found)


def target(what: str, sign: str, needed: float, found: Sequence[float]) -> Record:
    """Return a target, judged by the median of what was found in each round, if anything was."""
    value = statistics.median(found) if found else None
    return {
        "what": what,
        "needed": f"{sign} {needed:g}",
        "measured": value,
        "range": [min(found), max(found)] if len(found) > 1 else None,
        "met": None if value is None else bool(_COMPARED[sign](value, needed)),
    }


def verdicts(judged: Iterable[tuple[str, Sequence[Record]]], what: str) -> Iterator[list[str]]:
    """Yield the table of targets: those of every case, each under the case's name."""
    yield [what, "target", "measured (rounds)", "met"]
    for name, targets in judged:
        for each in targets:
            value, ends = each["measured"], each["range"]
            shown = "" if value is None else f"{value:.2f}"
            shown += f" ({ends[0]:.2f}-{ends[1]:.2f})" if ends else ""
            yield [name, f"{each['needed']} {each['what']}", shown, MEANING[each["met"]]]
