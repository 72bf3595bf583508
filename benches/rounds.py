"""Run a case: rounds interleaved over its tools, every output verified before its time counts.

All tools take their turn in each round, and each round starts one tool later than the one before,
so that a noisy minute or a predecessor that fills the memory does not always hit the same tool. A
tool that fails once is not run again: its row is red and has no time.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import page_cache
import verify
from cases import Cache, Case, Entry
from corpora import CorpusFile
from environment import AbsentError
from measure import Command, Outcome, isolated, run
from peers import Job, Tool, scrub

TIMEOUT_SECONDS = 600.0
# What a run's report may say in the results; the rest could name files of this machine.
REPORT_KEYS = (
    "records",
    "bytes",
    "digest",
    "plan",
    "seconds",
    "peak_memory",
    "scratch_bytes",
    "algorithm",
)


@dataclass
class Row:
    """One entry of a case with all its rounds, as the results file holds it."""

    tool: str
    role: str
    limit_bytes: int | None
    status: str = "ok"  # or "failed", "absent"
    reason: str | None = None
    command: str | None = None
    idle_memory_bytes: int = 0  # of the tool loaded but not at work
    rounds: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None  # corekit's own, of the last round


class FailedError(Exception):
    """A run did not do its job."""


@dataclass(frozen=True)
class Bench:
    """Where a case runs and with what."""

    directory: Path
    tools: Mapping[str, Tool | AbsentError]
    threads: int
    say: Callable[[str], None]

    def run_case(self, case: Case, corpus: CorpusFile, rounds: int) -> list[Row]:
        """Run all entries of a case for their number of rounds and return their rows."""
        rows = [Row(entry.tool, entry.role, entry.limit_bytes) for entry in case.entries]
        turns = list(zip(case.entries, rows, strict=True))
        orders: dict[str, str] = {}  # corekit's outputs must all be one and the same
        for number in range(rounds):
            start = number % len(turns)
            for entry, row in turns[start:] + turns[:start]:
                if number >= entry.rounds(rounds) or row.status != "ok":
                    continue
                tool = self.tools[entry.tool]
                if isinstance(tool, AbsentError):
                    row.status, row.reason = "absent", str(tool)
                else:
                    self._turn(tool, entry, row, corpus, case.cache, orders)
                self.say(_line(case, number, row))
        return rows

    def _turn(
        self,
        tool: Tool,
        entry: Entry,
        row: Row,
        corpus: CorpusFile,
        cache: Cache,
        orders: dict[str, str],
    ) -> None:
        place = self.directory / "run"
        shutil.rmtree(place, ignore_errors=True)
        job = Job(corpus.path, place / "output", place / "scratch", entry.limit_bytes, self.threads)
        job.scratch.mkdir(parents=True)
        row.command = tool.shown(job)
        if tool.idle is not None and not row.rounds:
            row.idle_memory_bytes = self._run(Command(tool.idle), job).cost.peak_memory_bytes
        try:
            measured, found, stderr = self._once(tool.command(job), job, corpus, cache)
            if entry.tool == "corekit":
                if orders.setdefault(entry.tool, found.order) != found.order:
                    raise FailedError("the output differs from that of an earlier run")
                row.report = _report(stderr)
            row.rounds.append(measured)
        except FailedError as error:
            row.status, row.reason = "failed", scrub(str(error), job)
            row.rounds.clear()
        finally:
            shutil.rmtree(place)

    def _once(
        self, command: Command, job: Job, corpus: CorpusFile, cache: Cache
    ) -> tuple[dict[str, Any], verify.Fingerprint, str]:
        """Bring the machine into the case's state, run the command, sync and check its output."""
        os.sync()  # else the run before is written back at the expense of this one
        (page_cache.warm if cache == "warm" else page_cache.drop)(corpus.path)
        cached = page_cache.cached_fraction(corpus.path)
        outcome = self._run(command, job)
        if outcome.timed_out:
            raise FailedError(f"not done after {TIMEOUT_SECONDS:.0f} s")
        if outcome.exit_code != 0:
            raise FailedError(f"exit code {outcome.exit_code}: {_complaint(outcome.stderr)}")
        fsync_seconds = _fsync(job.target)
        try:
            number = corpus.corpus.shape.number
            found = isolated(verify.fingerprint, job.target, number, self.threads)
        except verify.MalformedError as error:
            raise FailedError(f"wrong output: {error}") from error
        fault = verify.fault(corpus.fingerprint, found)
        if fault is not None:
            raise FailedError(f"wrong output: {fault}")
        measured = {
            **{key: round(value, 4) for key, value in asdict(outcome.cost).items()},
            "fsync_seconds": round(fsync_seconds, 4),
            "input_cached": round(cached, 4),
        }
        return measured, found, outcome.stderr

    def _run(self, command: Command, job: Job) -> Outcome:
        """Run a command in the plain environment that all get; LC_ALL=C makes sort quick."""
        env = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        env |= {"LC_ALL": "C", "TMPDIR": str(job.scratch), **command.env}
        return run(
            replace(command, env=env),
            watch=job.target.parent,
            output=job.target,
            timeout=TIMEOUT_SECONDS,
        )


def _fsync(path: Path) -> float:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise FailedError("wrong output: there is none") from error
    try:
        started = time.perf_counter()
        os.fsync(descriptor)
        return time.perf_counter() - started
    finally:
        os.close(descriptor)


def _report(stderr: str) -> dict[str, Any]:
    try:
        report = json.loads(stderr.splitlines()[-1])
        return {key: report[key] for key in REPORT_KEYS if key in report}
    except (IndexError, json.JSONDecodeError, TypeError) as error:
        raise FailedError("the last line of stderr is not the report") from error


def _complaint(stderr: str) -> str:
    """Return the line that says most: the first with the word error in it, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["no reason"]
    return telling[0][:200]


def _line(case: Case, number: int, row: Row) -> str:
    limit = f" @ {row.limit_bytes >> 20} MiB" if row.limit_bytes else ""
    head = f"{case.name} round {number + 1}: {row.tool}{limit}"
    if row.status != "ok":
        return f"{head}: {row.status}: {row.reason}"
    last = row.rounds[-1]
    return (
        f"{head}: {last['wall_seconds']:.2f} s + fsync {last['fsync_seconds']:.2f} s, "
        f"{last['peak_memory_bytes'] / 1e6:.0f} MB"
    )
