"""The results file: what it holds, how it is written, and the figures that follow from it.

A case holds everything needed to read it: date, commit, versions, every round of every row, and
their medians and spread. Cases may be run again one by one.
"""

from __future__ import annotations

import statistics

from results import Record
from timings import median, ratios, row, spreads, steady

STEPS = ("first", "new", "out")


def summarised(row: Record) -> Record:
    """Return the medians and the spread of a row's rounds."""
    rounds, summary = row["rounds"], spreads(row, STEPS)
    firsts = [each["first"] for each in rounds if "first" in each]
    if firsts:
        for name in ("growth_bytes", "extra_bytes", "error"):
            summary["first"][name] = max(first[name] for first in firsts)
    tails = [each["tail"] for each in rounds if "tail" in each]
    if tails:
        summary["tail"] = {
            who: {
                point: statistics.median(tail[who][point] for tail in tails)
                for point in tails[0][who]
            }
            for who in ("one", "all")
        }
    return summary


def rate(row: Record) -> float:
    """Return the operations a second of a row."""
    return float(row["flops"] / median(row, steady(row)))


def peak(case: Record, each: Record) -> Record | None:
    """Return the row that says what the machine can do of a row's kind."""
    if each["layout"] == "float64":
        return row(case, "fma-float64")
    if each["environment"]:
        return row(case, "fma-avx2")
    return row(case, "fma" if each["threads"] > 1 else "fma-one-thread")


def share(case: Record, each: Record) -> list[float]:
    """Return the share of the peak that a row reaches, in every round."""
    if not each["flops"]:
        return []
    # The seconds of a peak are those of one operation.
    return [each["flops"] * ratio for ratio in ratios(peak(case, each), each, "new", steady(each))]


def bandwidth(case: Record) -> float | None:
    """Return the bytes a second that all threads read or copy, whichever is more."""
    read, copy = row(case, "read"), row(case, "copy")
    if read is None or copy is None:
        return None
    shape = case["shape"]
    array = 4.0 * shape["heads"] * shape["length"] * shape["dim"]
    return float(max(3 * array / median(read, "new"), 2 * array / median(copy, "out")))


def bound(case: Record, each: Record) -> float | None:
    """Return the seconds below which the machine cannot be: work at the peak, or moving bytes."""
    least, moved = peak(case, each), bandwidth(case)
    if least is None or moved is None:
        return None
    return float(max(each["flops"] * median(least, "new"), each["bytes"] / moved))
