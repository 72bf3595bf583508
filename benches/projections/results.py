"""The results file: what it holds, how it is written, and the figures that follow from it.

A case holds everything needed to read it: date, commit, versions, every round of every row, and
their medians and spread. Cases may be run again one by one.
"""

from __future__ import annotations

import statistics

from results import Record
from timings import median, row, spreads

STEPS = ("fit", "first", "new", "out")


def summarised(row: Record) -> Record:
    """Return the medians and the spread of a row's rounds."""
    rounds, summary = row["rounds"], spreads(row, STEPS)
    firsts = [each["first"] for each in rounds if "first" in each]
    drawn = [first["distortion"] for first in firsts if "distortion" in first]
    if firsts:
        for name in ("growth_bytes", "extra_bytes"):
            summary["first"][name] = max(first.get(name, 0) for first in firsts)
    for mode in ("new", "out"):
        if mode in summary:
            told = [each[mode] for each in rounds]
            summary[mode]["growth_bytes"] = max(each["growth_bytes"] for each in told)
            summary[mode]["cpu_seconds"] = statistics.median(each["cpu_seconds"] for each in told)
    if drawn:
        summary["distortion"] = {
            "matrices": len(drawn),
            "pairs": drawn[0]["pairs"],
            "bias": statistics.fmean(each["bias"] for each in drawn),
            "rms": statistics.fmean(each["rms"] ** 2 for each in drawn) ** 0.5,
            "max": max(each["max"] for each in drawn),
        }
    return summary


def rates(case: Record) -> tuple[float, float] | None:
    """Return the bytes a second of reading X and of writing Y, by the medians of the rounds."""
    read_x, write_y = row(case, "read-x"), row(case, "write-y")
    if read_x is None or write_y is None:
        return None
    return (
        read_x["input_bytes"] / median(read_x, "new"),
        write_y["output_bytes"] / median(write_y, "new"),
    )


def bound(case: Record, row: Record) -> float | None:
    """Return the seconds that reading a row's input once and writing its output once would take."""
    found = rates(case)
    if found is None:
        return None
    return float(row["input_bytes"] / found[0] + row["output_bytes"] / found[1])
