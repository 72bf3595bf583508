"""Run a case: rounds interleaved over its tools, each in a process of its own.

All tools take their turn in each round, and each round starts one tool later than the one before,
so that a noisy minute does not always hit the same tool. In the first rounds every tool starts
anew: these give the first call and the memory. A tool that fails once is not run again: its row is
red and has no time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attentions.cases import THREADS, Case, Entry
from workers import (
    SETTLE_SECONDS,
    FailedError,
    MissingError,
    Nursery,
    Worker,
    nursery,
    scrubbed,
)

FRESH_ROUNDS = 3


@dataclass
class Row:
    """One entry of a case with all its rounds, as the results file holds it."""

    name: str
    tool: str
    role: str
    computes: str
    layout: str
    threads: int
    environment: Mapping[str, str]
    status: str = "ok"  # or "failed", "absent"
    reason: str | None = None
    version: str | None = None
    chunk: int = 0
    flops: float = 0.0
    bytes: int = 0
    modes: tuple[str, ...] = ()
    rounds: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """Where a case runs and with what."""

    python: Path
    corekit: Path | None  # the folder that it is imported from
    folder: Path  # of compiled programs
    turn_seconds: float
    say: Callable[[str], None]

    def run_case(self, case: Case, rounds: int) -> list[Row]:
        """Run all entries for a number of rounds and return their rows."""
        rows = [_row(entry) for entry in case.entries]
        turns = list(zip(case.entries, rows, strict=True))
        workers: dict[str, Worker] = {}
        self.say(f"{case.name}: drawing the arrays")
        pairs = sorted({(entry.computes, entry.layout) for entry in case.entries})
        wanted = {"shape": asdict(case.shape), "pairs": pairs}
        threads = str(THREADS)
        settings = {
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }
        with (
            nursery(self.python, "attentions.worker", wanted, settings) as home,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(_close, workers)
            for number in range(rounds):
                start = number % len(turns)
                for entry, row in turns[start:] + turns[:start]:
                    if row.status != "ok" or number >= (entry.rounds or rounds):
                        continue
                    time.sleep(SETTLE_SECONDS)
                    try:
                        self._turn(case, entry, row, number, home, workers)
                    except FailedError as error:
                        row.status, row.reason = "failed", scrubbed(str(error))
                    except MissingError as error:
                        row.status, row.reason = "absent", scrubbed(str(error))
                    if row.status != "ok":
                        row.rounds.clear()
                        workers.pop(entry.name).close()
                    self.say(_line(case, number, row))
        return rows

    def _turn(
        self,
        case: Case,
        entry: Entry,
        row: Row,
        number: int,
        home: Nursery,
        workers: dict[str, Worker],
    ) -> None:
        fresh = number < FRESH_ROUNDS
        if fresh:
            if entry.name in workers:
                workers.pop(entry.name).close()
            worker = workers[entry.name] = home.start(self._request(entry))
            facts = worker.ask()
            row.version, row.modes = facts["version"], tuple(facts["modes"])
            row.chunk, row.flops, row.bytes = facts["chunk"], facts["flops"], facts["bytes"]
        worker = workers[entry.name]
        taken: dict[str, Any] = {"fresh": fresh}
        if fresh and entry.role != "floor":
            taken["first"] = worker.ask(do="first")
        for mode in ("tail",) if case.kind == "tail" else row.modes:
            taken[mode] = worker.ask(do=mode)
        row.rounds.append(taken)

    def _request(self, entry: Entry) -> dict[str, Any]:
        own = entry.tool.startswith("corekit") and self.corekit is not None
        return {
            "tool": entry.tool,
            "computes": entry.computes,
            "layout": entry.layout,
            "threads": entry.threads,
            "cpus": THREADS,
            "chunk": entry.chunk,
            "environment": dict(entry.environment),
            "import_from": [str(self.corekit)] if own else [],
            "folder": str(self.folder),
            "turn_seconds": self.turn_seconds,
        }


def _row(entry: Entry) -> Row:
    return Row(
        entry.name,
        entry.tool,
        entry.role,
        entry.computes,
        entry.layout,
        entry.threads,
        dict(entry.environment),
    )


def _close(workers: Mapping[str, Worker]) -> None:
    for worker in workers.values():
        worker.close()


def _line(case: Case, number: int, row: Row) -> str:
    head = f"{case.name} round {number + 1}: {row.name}"
    if row.status != "ok":
        return f"{head}: {row.status}: {row.reason}"
    last = row.rounds[-1]
    if "tail" in last:
        points = [f"{1e6 * last['tail'][who]['99.9']:.1f} us" for who in ("one", "all")]
        return f"{head}: p99.9 {' and '.join(points)}"
    parts = [
        f"{step} {1e3 * last[step]['seconds']:.4g} ms"
        for step in ("first", *row.modes)
        if step in last
    ]
    return f"{head}: {', '.join(parts)}"
