"""Run a case: rounds interleaved over its tools, each in a process of its own.

In the first rounds every tool starts anew: these give the first call and the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attentions.cases import THREADS, Case, Entry
from turns import FRESH_ROUNDS, WorkerRow, interleaved, with_workers
from workers import Worker, nursery


@dataclass(kw_only=True)
class Row(WorkerRow):
    """One entry of a case with all its rounds, as the results file holds it."""

    computes: str
    threads: int
    chunk: int = 0
    flops: float = 0.0
    bytes: int = 0

    def learn(self, facts: Mapping[str, Any]) -> None:
        """Take down what a worker says of itself."""
        super().learn(facts)
        self.chunk, self.flops, self.bytes = facts["chunk"], facts["flops"], facts["bytes"]

    def told(self) -> str:
        """Return the last round in words."""
        tail = self.rounds[-1].get("tail")
        if tail is None:
            return super().told()
        points = [f"{1e6 * tail[who]['99.9']:.1f} us" for who in ("one", "all")]
        return f"p99.9 {' and '.join(points)}"


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
        self.say(f"{case.name}: drawing the arrays")
        pairs = sorted({(entry.computes, entry.layout) for entry in case.entries})
        wanted = {"shape": asdict(case.shape), "pairs": pairs}
        threads = str(THREADS)
        settings = {
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
        }

        def take(row: Row, worker: Worker, number: int) -> dict[str, Any]:
            first = ("first",) if number < FRESH_ROUNDS and row.role != "floor" else ()
            modes = ("tail",) if case.kind == "tail" else row.modes
            return {step: worker.ask(do=step) for step in (*first, *modes)}

        with nursery(self.python, "attentions.worker", wanted, settings) as home:
            with_workers(
                interleaved(
                    case.entries,
                    rows,
                    [min(entry.rounds or rounds, rounds) for entry in case.entries],
                ),
                lambda entry: home.start(self._request(entry)),
                take,
                lambda number, row: self.say(row.line(case.name, number)),
            )
        return rows

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
        name=entry.name,
        tool=entry.tool,
        role=entry.role,
        computes=entry.computes,
        layout=entry.layout,
        threads=entry.threads,
        environment=dict(entry.environment),
    )
