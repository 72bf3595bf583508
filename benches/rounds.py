"""Run a case: rounds interleaved over its tools, every output verified before its time counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import page_cache
import turns
import verify
from cases import SHARDS, Case, Entry
from corpora import CorpusFile
from environment import AbsentError
from measure import Command, Outcome, isolated, run
from peers import Job, Tool, scrub

TIMEOUT_SECONDS = 600.0
MANIFEST = "part.manifest.json"  # corekit's, beside the shards
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
    "passes",
    "output_size",
)


@dataclass(kw_only=True)
class Row(turns.Row):
    """One entry of a case with all its rounds, as the results file holds it."""

    limit_bytes: int | None
    command: str | None = None
    idle_memory_bytes: int = 0  # of the tool loaded but not at work
    report: dict[str, Any] | None = None  # corekit's own, of the last round
    remark: str | None = None  # what a reader of its time must know

    def called(self) -> str:
        """Return which row of its case this is."""
        return f"{self.tool} @ {self.limit_bytes >> 20} MiB" if self.limit_bytes else self.tool

    def told(self) -> str:
        """Return the last round in words."""
        last = self.rounds[-1]
        return (
            f"{last['wall_seconds']:.2f} s + fsync {last['fsync_seconds']:.2f} s, "
            f"{last['peak_memory_bytes'] / 1e6:.0f} MB"
        )


class FailedError(Exception):
    """A run did not do its job."""


@dataclass(frozen=True)
class _Setting:
    """What all runs of a case have in common."""

    case: Case
    corpus: CorpusFile
    sources: tuple[Path, ...]


@dataclass(frozen=True)
class Bench:
    """Where a case runs and with what."""

    directory: Path
    tools: Mapping[str, Tool | AbsentError]
    zstd: tuple[str, ...]
    threads: int
    say: Callable[[str], None]
    # What all of corekit's outputs of one corpus must have in common, whatever the case: their
    # order, and the digest that its reports give.
    _known: dict[str, str] = field(default_factory=dict)

    def run_case(
        self, case: Case, corpus: CorpusFile, sources: tuple[Path, ...], rounds: int
    ) -> list[Row]:
        """Run all entries of a case for their number of rounds and return their rows."""
        rows = [
            Row(tool=entry.tool, role=entry.role, limit_bytes=entry.limit_bytes)
            for entry in case.entries
        ]
        setting = _Setting(case, corpus, sources)
        each = [entry.rounds(rounds) for entry in case.entries]
        for number, entry, row in turns.interleaved(case.entries, rows, each):
            tool = self.tools[entry.tool]
            if isinstance(tool, AbsentError):
                row.give_up("absent", str(tool))
            else:
                self._turn(tool, entry, row, setting)
            self.say(row.line(case.name, number))
        return rows

    def _turn(self, tool: Tool, entry: Entry, row: Row, setting: _Setting) -> None:
        place = self.directory / "run"
        shutil.rmtree(place, ignore_errors=True)
        task = setting.case.task
        job = Job(
            setting.sources,
            place / "output",
            place / "scratch",
            entry.limit_bytes,
            self.threads,
            task,
            setting.corpus.fingerprint.records,
        )
        job.scratch.mkdir(parents=True)
        if task.product == "shards":
            job.target.mkdir()
        row.command = tool.shown(job)
        if tool.idle is not None and not row.rounds:
            row.idle_memory_bytes = self._run(Command(tool.idle), job).cost.peak_memory_bytes
        try:
            if tool.proof is not None and not row.rounds:
                self._completed(tool.proof(job), job)
                self._judge(tool, row, job, setting.corpus)
                job.target.unlink()
            row.rounds.append(self._once(tool, row, job, setting))
        except FailedError as error:
            row.give_up("failed", scrub(str(error), job))
        finally:
            shutil.rmtree(place)

    def _once(self, tool: Tool, row: Row, job: Job, setting: _Setting) -> dict[str, Any]:
        """Bring the machine into the case's state, run the command, sync and check its output."""
        os.sync()  # else the run before is written back at the expense of this one
        for source in job.sources:
            (page_cache.warm if setting.case.cache == "warm" else page_cache.drop)(source)
        cached = _cached_fraction(job.sources)
        command = tool.command(job)
        outcome = self._completed(command, job)
        fsync_seconds = 0.0
        if tool.proof is not None:
            assert command.stdout is not None
            _check_counts(command.stdout, setting.corpus)
        elif row.role != "floor":
            fsync_seconds = sum(map(_fsync, _files(job.target)))
            self._judge(tool, row, job, setting.corpus)
        if row.tool in ("corekit", "corekit-null"):
            row.report = _report(outcome.stderr)
            if job.task.product != "sample":
                self._same(f"digest of {setting.corpus.corpus.name}", row.report["digest"])
        return {
            **{key: round(value, 4) for key, value in asdict(outcome.cost).items()},
            "fsync_seconds": round(fsync_seconds, 4),
            "input_cached": round(cached, 4),
        }

    def _judge(self, tool: Tool, row: Row, job: Job, corpus: CorpusFile) -> None:
        """Check an output; say in the row's remark what is not wrong, but has to be known."""
        number, task = corpus.corpus.shape.number, job.task
        plain = self._plain(job)
        try:
            found = isolated(verify.fingerprint, plain, number, self.threads)
            if task.product == "sample":
                first = corpus.corpus.shape.first_number
                fault = verify.sample_fault(corpus.fingerprint, found, job.sample, first)
                fault = fault or isolated(verify.foreign, plain, corpus.path, number, self.threads)
                if fault is None and tool.uniform and verify.correlated(found):
                    fault = "places in output and input correlate"
            else:
                fault = verify.fault(corpus.fingerprint, found, uniform=tool.uniform)
        except verify.MalformedError as error:
            raise FailedError(f"wrong output: {error}") from error
        if fault is not None:
            raise FailedError(f"wrong output: {fault}")
        if verify.correlated(found):
            row.remark = (
                f"not uniform: places in output and input correlate by {found.correlation:.2f}"
            )
        if row.tool.startswith("corekit"):
            of = f" -n {job.sample}" if task.product == "sample" else ""
            # A record's key depends on its place in its own input, so several are another order.
            self._same(f"order of {len(job.sources)} {corpus.corpus.name}{of}", found.order)

    def _plain(self, job: Job) -> Path:
        """Return one plain file with what a run has written, by means of others than corekit's."""
        files = _files(job.target)
        if job.task.product not in ("zstd", "shards"):
            return job.target
        if job.task.product == "shards":
            files = sorted(
                (path for path in files if path.name != MANIFEST),
                key=lambda path: (len(path.name), path.name),  # part-9 comes before part-10
            )
            sizes = [path.stat().st_size for path in files]
            if len(sizes) != SHARDS:
                raise FailedError(f"wrong output: {len(sizes)} files, {SHARDS} were asked for")
            if max(sizes) > 1.25 * min(sizes):
                raise FailedError(f"wrong output: files of {min(sizes)} to {max(sizes)} bytes")
        plain = job.target.with_name("plain")
        decode = [*self.zstd, "-dcq"] if job.task.product == "zstd" else ["cat"]
        with open(plain, "wb") as output:
            done = subprocess.run([*decode, *map(str, files)], stdout=output)
        if done.returncode != 0:
            raise FailedError("wrong output: it cannot be decoded")
        return plain

    def _same(self, what: str, value: str) -> None:
        if self._known.setdefault(what, value) != value:
            raise FailedError(f"the output differs from that of an earlier run: {what}")

    def _completed(self, command: Command, job: Job) -> Outcome:
        outcome = self._run(command, job)
        if outcome.timed_out:
            raise FailedError(f"not done after {TIMEOUT_SECONDS:.0f} s")
        if outcome.exit_code != 0:
            raise FailedError(f"exit code {outcome.exit_code}: {_complaint(outcome.stderr)}")
        return outcome

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


def _files(target: Path) -> list[Path]:
    """Return the files of an output."""
    return list(target.iterdir()) if target.is_dir() else [target]


def _cached_fraction(paths: Sequence[Path]) -> float:
    sizes = [path.stat().st_size for path in paths]
    shares = [page_cache.cached_fraction(path) for path in paths]
    return sum(size * share for size, share in zip(sizes, shares, strict=True)) / sum(sizes)


def _check_counts(path: Path, corpus: CorpusFile) -> None:
    """Check what a program that gives records to nobody says of their number."""
    try:
        counts = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise FailedError("it does not say how many records there were") from error
    if counts != {"records": corpus.fingerprint.records, "bytes": corpus.fingerprint.bytes}:
        raise FailedError(f"wrong output: {counts['records']} records, {counts['bytes']} bytes")


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
