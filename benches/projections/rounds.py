"""Run a case: rounds interleaved over its tools, each in a process of its own.

All tools take their turn in each round, and each round starts one tool later than the one before,
so that a noisy minute does not always hit the same tool. In the first rounds every tool starts
anew, with another seed: these give the first call, the memory and the distortion. A tool that
fails once is not run again: its row is red and has no time.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projections.cases import THREADS, Case, Entry

BENCHES = Path(__file__).resolve().parent.parent
FRESH_ROUNDS = 3
TIMEOUT_SECONDS = 600.0
PACKET = 1 << 16
# Libraries for threads keep spinning for some hundredth of a second after their work is done, at
# the expense of whoever comes next.
SETTLE_SECONDS = 0.1


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


class FailedError(Exception):
    """A tool did not do its job."""


class MissingError(Exception):
    """A tool cannot be had on this machine."""


class Worker:
    """The process of one tool."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._requests.settimeout(TIMEOUT_SECONDS)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, unless it is empty, and return the answer."""
        if request:
            self._requests.send(json.dumps(request).encode())
        try:
            received = self._requests.recv(PACKET)
        except TimeoutError as error:
            raise FailedError(f"not done after {TIMEOUT_SECONDS:.0f} s") from error
        except ConnectionError as error:
            raise FailedError("it ended without an answer") from error
        if not received:
            raise FailedError("it ended without an answer")
        answer: dict[str, Any] = json.loads(received)
        if "failed" in answer:
            raise FailedError(answer["failed"])
        if "absent" in answer:
            raise MissingError(answer["absent"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._requests.close()


@dataclass(frozen=True)
class Nursery:
    """The process that has the inputs of a case and forks the workers."""

    facts: Mapping[str, Any]
    _control: socket.socket

    def start(self, case: Case, entry: Entry, import_from: Sequence[Path]) -> Worker:
        """Return a new worker; what it is comes as its first answer."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {
            "tool": entry.tool,
            "role": entry.role,
            "layout": entry.layout,
            "environment": dict(entry.environment),
            "import_from": [str(path) for path in import_from],
            "n_components": case.n_components,
            "threads": THREADS,
        }
        with theirs:
            socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
        return Worker(ours)


@contextlib.contextmanager
def nursery(python: Path, path: Path, entries: Sequence[Entry]) -> Iterator[Nursery]:
    """Read the inputs of these entries in a process of the peers' environment."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    threads = str(THREADS)
    env = {key: os.environ[key] for key in os.environ if key in _KEPT} | {
        "PYTHONPATH": str(BENCHES),
        "PYTHONWARNINGS": "ignore",
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    argv = [str(python), "-m", "projections.worker", str(theirs.fileno())]
    process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=env)
    theirs.close()
    try:
        layouts = sorted({entry.layout for entry in entries})
        ours.send(json.dumps({"path": str(path), "layouts": layouts}).encode())
        received = ours.recv(PACKET)
        if not received:
            raise SystemExit("the inputs could not be read")
        yield Nursery(json.loads(received), ours)
    finally:
        ours.close()
        process.wait()


_KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "COREKIT_BENCH_RANDBLAS")


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
        with nursery(self.python, path, case.entries) as home, contextlib.ExitStack() as stack:
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
                        row.status, row.reason = "failed", _scrubbed(str(error))
                    except MissingError as error:
                        row.status, row.reason = "absent", _scrubbed(str(error))
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
            worker = workers[entry.name] = home.start(case, entry, self._folders(entry))
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

    def _folders(self, entry: Entry) -> list[Path]:
        own = entry.tool.startswith("corekit") and self.corekit is not None
        return [self.corekit] if own and self.corekit is not None else []


def _close(workers: Mapping[str, Worker]) -> None:
    for worker in workers.values():
        worker.close()


def _scrubbed(text: str) -> str:
    """Return the first line, without this machine's paths."""
    line = text.splitlines()[0] if text else "no reason"
    for path, word in ((BENCHES.parent, "REPOSITORY"), (Path.home(), "~")):
        line = line.replace(str(path), word)
    return line[:300]


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
