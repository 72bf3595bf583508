"""Figures that follow from the rounds of a row whose steps have seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ratios import paired
from results import Record


def spread(seconds: Sequence[float]) -> Record:
    """Return median, ends, median absolute deviation and number."""
    middle = statistics.median(seconds)
    return {
        "median": middle,
        "min": min(seconds),
        "max": max(seconds),
        "mad": statistics.median(abs(each - middle) for each in seconds),
        "rounds": len(seconds),
    }


def spreads(row: Record, steps: Sequence[str]) -> Record:
    """Return the same for each of these steps that a row has."""
    found = {step: seconds(row, step) for step in steps}
    return {step: spread(each) for step, each in found.items() if each}


def row(case: Record, name: str) -> Record | None:
    """Return the row of this name if it has times."""
    found = (each for each in case["rows"] if each["name"] == name and each["status"] == "ok")
    return next(found, None)


def seconds(row: Record, step: str) -> list[float]:
    """Return the seconds of a step in all rounds that have it."""
    return [each[step]["seconds"] for each in row["rounds"] if step in each]


def ratios(
    above: Record | None, below: Record | None, step: str, other: str | None = None
) -> list[float]:
    """Return the ratios of a row's step to another row's, which may be another step."""
    if above is None or below is None:
        return []
    return paired(_by_round(above, step), _by_round(below, other or step))


def _by_round(row: Record, step: str) -> list[float | None]:
    return [each[step]["seconds"] if step in each else None for each in row["rounds"]]


def median(row: Record, step: str) -> float:
    """Return the median of the seconds of a step."""
    return statistics.median(seconds(row, step))


def steady(row: Record) -> str:
    """Return the step that says how fast a row can be: `out` where it takes one."""
    return "out" if "out" in row["summary"] else "new"


def quickest(case: Record, names: Sequence[str], step: str) -> Record | None:
    """Return which of these rows has the least median."""
    rows = [each for name in names if (each := row(case, name)) and step in each["summary"]]
    return min(rows, key=lambda each: median(each, step), default=None)


def milliseconds(value: float) -> str:
    """Return seconds as milliseconds, with about three figures."""
    scaled = 1e3 * value
    digits = next((n for n, least in enumerate((100, 10, 0.1)) if scaled >= least), 4)
    return f"{scaled:.{digits}f}"


def notes(case: Record) -> list[str]:
    """Return why rows of a case have no time."""
    return [
        f"{each['name']}: {each['status']}: {each['reason']}"
        for each in case["rows"]
        if each["status"] != "ok"
    ]


def provenance(case: Record) -> str:
    """Return when, from what and with what a case was run."""
    versions = "; ".join(dict.fromkeys(each["version"] for each in case["rows"] if each["version"]))
    load = f"load {case['load']} before"
    return f"{case['date']}, commit {case['commit']}, {case['rounds']} rounds, {load}: {versions}"
