"""Run a case: rounds interleaved over its tools, each in a process of its own.

All tools take their turn in each round, and each round starts one tool later than the one before,
so that a noisy minute does not always hit the same tool. In the first rounds every tool starts
anew, with another seed: these give the first call, the memory and the distortion. A tool that
fails once is not run again: its row is red and has no time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projections.cases import THREADS, Case, Entry
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
    layout: str
    environment: Mapping[str, str]
    status: str = "ok"  # or "failed", "absent"
    reason: str | None = None
    version: str | None = None
    input_bytes: int = 0
    output_bytes: int = 0
    modes: tuple[str, ...] = ()
    rounds: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """Where a case runs and with what."""

    python: Path
    corekit: Path | None  # the folder that it is imported from
    say: Callable[[str], None]

    def run_case(self, case: Case, path: Path, rounds: int) -> tuple[list[Row], Mapping[str, Any]]:
        """Run all entries for a number of rounds; return their rows, and what the input is."""
        rows = [
            Row(entry.name, entry.tool, entry.role, entry.layout, dict(entry.environment))
            for entry in case.entries
        ]
        turns = list(zip(case.entries, rows, strict=True))
        workers: dict[str, Worker] = {}
        self.say(f"{case.name}: reading the input")
        layouts = sorted({entry.layout for entry in case.entries})
        wanted = {"path": str(path), "layouts": layouts}
        settings = {"OPENBLAS_NUM_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
        with (
            nursery(self.python, "projections.worker", wanted, settings) as home,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(_close, workers)
            for number in range(rounds):
                start = number % len(turns)
                for entry, row in turns[start:] + turns[:start]:
                    if row.status != "ok":
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
            return rows, home.facts

    def _turn(
        self,
        case: Case,
        entry: Entry,
        row: Row,
        number: int,
        home: Nursery,
        workers: dict[str, Worker],
    ) -> None:
        """Have a tool draw its matrix and project."""
        fresh = number < FRESH_ROUNDS
        if fresh:
            if entry.name in workers:
                workers.pop(entry.name).close()
            worker = workers[entry.name] = home.start(self._request(case, entry))
            facts = worker.ask()
            row.version = facts["version"]
            row.input_bytes, row.output_bytes = facts["input_bytes"], facts["output_bytes"]
            row.modes = tuple(facts["modes"])
        worker = workers[entry.name]
        taken: dict[str, Any] = {"fresh": fresh}
        taken["fit"] = worker.ask(do="fit", seed=min(number, FRESH_ROUNDS - 1) + 1)
        if fresh:
            taken["first"] = worker.ask(do="first")
        for mode in row.modes:
            taken[mode] = worker.ask(do=mode)
        row.rounds.append(taken)

    def _request(self, case: Case, entry: Entry) -> dict[str, Any]:
        own = entry.tool.startswith("corekit") and self.corekit is not None
        return {
            "tool": entry.tool,
            "role": entry.role,
            "layout": entry.layout,
            "environment": dict(entry.environment),
            "import_from": [str(self.corekit)] if own else [],
            "n_components": case.n_components,
            "threads": THREADS,
        }


def _close(workers: Mapping[str, Worker]) -> None:
    for worker in workers.values():
        worker.close()


def _line(case: Case, number: int, row: Row) -> str:
    head = f"{case.name} round {number + 1}: {row.name}"
    if row.status != "ok":
        return f"{head}: {row.status}: {row.reason}"
    last = row.rounds[-1]
    parts = [
        f"{step} {1e3 * last[step]['seconds']:.4g} ms"
        for step in ("fit", "first", *row.modes)
        if step in last
    ]
    return f"{head}: {', '.join(parts)}"
