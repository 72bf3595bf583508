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

import machine
from ratios import paired
from roofline import Rates, Stage, Traffic, bound

RESULTS = Path(__file__).parent / "results"

# A row, case or result as JSON gives it.
Record = dict[str, Any]


def read(path: Path, job: str = "shuffle") -> Record:
    """Return the results in a file; those of a file that is not there are empty."""
    try:
        found: Record = json.loads(path.read_text())
    except FileNotFoundError:
        return {"job": job, "machine": {}, "cases": []}
    return found


def refuse_changed(path: Path, commit: str) -> None:
    """Stop where a results file of the repository would get figures of sources not committed."""
    if path.resolve().parent == RESULTS.resolve():
        machine.refuse_changed(commit, ", or name another file by --output")


def add(path: Path, facts: Record, case: Record, job: str = "shuffle") -> None:
    """Put a case into a job's results file, in place of the one it had under that name."""
    refuse_changed(path, case["commit"])
    found = read(path, job)
    if found["machine"] not in ({}, facts):
        raise SystemExit(f"{path.name} holds results of another machine: {found['machine']}")
    found["machine"] = facts
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


def ratios(other: Record, own: Record) -> list[float]:
    """Return how many times as long another row took, in each round that both have."""
    return paired(values(other, "wall_seconds"), values(own, "wall_seconds"))


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


def own_task(case: Record) -> Record | None:
    """Return corekit's row at the case's task, if the case has one."""
    return next((row for row in timed(case, role="task") if "corekit" in row["tool"]), None)


def floor(case: Record) -> Record | None:
    """Return the row that says how quick the case's task can be done at all, if it has one."""
    return quickest(timed(case, role="floor"))


def stages(row: Record, case: Record) -> tuple[Stage, Stage] | None:
    """Return the physical bound of a row of corekit's, from its report and the case's rates.

    Scratch is what the run used; when records went through it more than once, what the plan says.
    The plan's bytes read and written include scratch, each way. None for a row without a report,
    and where the case measures its floor instead.
    """
    report, task = row.get("report"), case.get("task", {})
    if report is None or floor(case) is not None:
        return None
    plan, size = report["plan"], int(case["input_bytes"])
    stored = int(case.get("stored_bytes", size))
    passes = int(report.get("passes") or plan["passes"] or 1)
    again = plan["strategy"] == "scratch" and (plan["passes"] or 1) > 1
    scratch = int(plan["bytes_written"]) - size if again else int(report["scratch_bytes"])
    packed, zstd = task.get("storage", "plain"), task.get("product") == "zstd"
    traffic = Traffic(
        input_bytes=size,
        read_bytes=stored * passes if plan["strategy"] == "rescan" else stored,
        scratch_bytes=scratch,
        output_bytes=int(report["output_size"]) if zstd else size,
        cold=case["cache"] == "cold",
        stored_bytes=stored,
        decode="" if packed == "plain" else f"{packed}_decode",
        encode="zstd_encode" if zstd else "",
    )
    return bound(traffic, Rates(**case["rates"]))
