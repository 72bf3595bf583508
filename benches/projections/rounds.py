"""Run a case: rounds interleaved over its tools, each in a process of its own.

In the first rounds every tool starts anew, with another seed: these give the first call, the memory
and the distortion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from projections.cases import THREADS, Case, Entry
from turns import FRESH_ROUNDS, WorkerRow, interleaved, with_workers
from workers import Worker, nursery


@dataclass(kw_only=True)
class Row(WorkerRow):
    """One entry of a case with all its rounds, as the results file holds it."""

    input_bytes: int = 0
    output_bytes: int = 0

    def learn(self, facts: Mapping[str, Any]) -> None:
        """Take down what a worker says of itself."""
        super().learn(facts)
        self.input_bytes, self.output_bytes = facts["input_bytes"], facts["output_bytes"]


@dataclass(frozen=True)
class Bench:
    """Where a case runs and with what."""

    python: Path
    corekit: Path | None  # the folder that it is imported from
    say: Callable[[str], None]

    def run_case(self, case: Case, path: Path, rounds: int) -> tuple[list[Row], Mapping[str, Any]]:
        """Run all entries for a number of rounds; return their rows, and what the input is."""
        rows = [
            Row(
                name=entry.name,
                tool=entry.tool,
                role=entry.role,
                layout=entry.layout,
                environment=dict(entry.environment),
            )
            for entry in case.entries
        ]
        self.say(f"{case.name}: reading the input")
        layouts = sorted({entry.layout for entry in case.entries})
        wanted = {"path": str(path), "layouts": layouts}
        settings = {"OPENBLAS_NUM_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
        with nursery(self.python, "projections.worker", wanted, settings) as home:
            with_workers(
                interleaved(case.entries, rows, [rounds] * len(rows)),
                lambda entry: home.start(self._request(case, entry)),
                _turn,
                lambda number, row: self.say(row.line(case.name, number)),
            )
            return rows, home.facts

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


def _turn(row: Row, worker: Worker, number: int) -> dict[str, Any]:
    """Have a tool draw its matrix and project."""
    taken = {"fit": worker.ask(do="fit", seed=min(number, FRESH_ROUNDS - 1) + 1)}
    steps = ("first", *row.modes) if number < FRESH_ROUNDS else row.modes
    return taken | {step: worker.ask(do=step) for step in steps}
