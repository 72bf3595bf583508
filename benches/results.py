"""The results file: what it holds, how it is written, and the figures that follow from it.

A case holds everything needed to read it: the date, the commit, the versions and the machine's
rates at that time stand in each, since cases may be run again one by one.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from roofline import Rates, Stage, Traffic, bound

RESULTS = Path(__file__).parent / "results"

# A row, case or result as JSON gives it.
Record = dict[str, Any]


def read(path: Path) -> Record:
    """Return the results in a file; those of a file that is not there are empty."""
    try:
        found: Record = json.loads(path.read_text())
    except FileNotFoundError:
        return {"job": "shuffle", "machine": {}, "cases": []}
    return found


def add(path: Path, machine: Record, case: Record) -> None:
    """Put a case into a results file, in place of the one it had under that name."""
    found = read(path)
    if found["machine"] not in ({}, machine):
        raise SystemExit(f"{path.name} holds results of another machine: {found['machine']}")
    found["machine"] = machine
    names = [known["name"] for known in found["cases"]]
    if case["name"] in names:
        found["cases"][names.index(case["name"])] = case
    else:
        found["cases"].append(case)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(unfinished, path)


def timed(case: Record, **wanted: Any) -> list[Record]:
    """Return the case's rows that have times and the wanted values."""
    return [
        row
        for row in case["rows"]
        if row["status"] == "ok" and all(row[key] == value for key, value in wanted.items())
    ]


def values(row: Record, key: str) -> list[float]:
    """Return one measured quantity of all rounds."""
    return [float(each[key]) for each in row["rounds"]]


def median(row: Record, key: str) -> float:
    """Return the median of one measured quantity."""
    return statistics.median(values(row, key))


def cpu_seconds(row: Record) -> float:
    """Return the median of user and system time together."""
    return statistics.median(
        map(sum, zip(values(row, "user_seconds"), values(row, "system_seconds"), strict=True))
    )


def deviation(row: Record) -> float:
    """Return the median absolute deviation of the wall seconds."""
    middle = median(row, "wall_seconds")
    return statistics.median(abs(wall - middle) for wall in values(row, "wall_seconds"))


def quickest(rows: Iterable[Record]) -> Record | None:
    """Return the row with the least median time."""
    return min(rows, key=lambda row: median(row, "wall_seconds"), default=None)


def stages(row: Record, case: Record) -> tuple[Stage, Stage] | None:
    """Return the physical bound of a row of corekit's, from its report and the case's rates.

    Scratch is what the run used; when records went through it more than once, what the plan says.
    The plan's bytes read and written include scratch, each way.
    """
    report = row.get("report")
    if report is None:
        return None
    plan, size = report["plan"], int(case["input_bytes"])
    again = plan["strategy"] == "scratch" and plan["passes"] > 1
    scratch = int(plan["bytes_written"]) - size if again else int(report["scratch_bytes"])
    rescan = plan["strategy"] == "rescan"
    traffic = Traffic(
        input_bytes=size,
        read_bytes=int(plan["bytes_read"]) if rescan else size,
        scratch_bytes=scratch,
        output_bytes=size,
        cold=case["cache"] == "cold",
    )
    return bound(traffic, Rates(**case["rates"]))
