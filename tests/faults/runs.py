"""Runs in processes of their own, which may be starved, stopped and killed.

A run is a fork of the test's own process: it starts in a millisecond, keeps no
descriptor that it was not told to keep, and sends what came of it through a pipe.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from corekit import errors
from corekit.shuffle import ShuffleReport, _call
from reference import reference_shuffle

# Nobody waits longer than this for anything: a run that takes so long hangs.
PATIENCE = 20.0  # seconds

# How a process is asked to end.
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

OLD = b"what the destination held before\n"

# Some hundred kilobytes, and a pool and blocks so small that most of it is evicted.
LINES = b"".join(b"%d:" % n + b"x" * (n * 7919 % 61) + b"\n" for n in range(15_000))
SMALL = {
    "chunk": 16 << 10,
    "block": 8 << 10,
    "blocks": 40,
    "bits": 4,
    "slab": 1 << 10,
    "frame": 8 << 10,
    "entries": 512,
    "inline_max": 1 << 10,
    "workers": 2,
}
SPILLING = {**SMALL, "spill": 1}
RESCANNING = {**SMALL, "spill": 0}


@cache
def shuffled(seed: int = 1, copies: int = 1) -> bytes:
    """Return what a shuffle of so many inputs that hold `LINES` must write."""
    return reference_shuffle([LINES] * copies, seed)


@dataclass(frozen=True)
class Job:
    """The arguments of one shuffle."""

    inputs: Path | Sequence[Path]
    output: Path | str
    options: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, int] = field(default_factory=lambda: SPILLING)

    def run(self) -> ShuffleReport:
        """Run it here."""
        options = {"seed": 1, "memory_limit": "64MiB", **self.options}
        return _call.run(self.inputs, self.output, tuning=self.tuning, **options)


@dataclass(frozen=True)
class Ended:
    """What came of a run: its wait status, and its report or its error."""

    status: int
    report: dict[str, Any] | None = None
    error: str | None = None
    errno: int | None = None
    filename: str | None = None
    message: str | None = None

    @property
    def error_class(self) -> type[BaseException]:
        """The class of the error; only documented ones are found."""
        assert self.error is not None, self
        assert self.error in errors.__all__, self
        found: type[BaseException] = getattr(errors, self.error)
        return found


class Forked:
    """A shuffle in a process of its own."""

    def __init__(
        self, job: Job, *, before: Callable[[], object] | None = None, keep: Collection[int] = ()
    ) -> None:
        self._result, result = os.pipe()
        # Room for the report of a thousand files: nobody reads before the end.
        fcntl.fcntl(result, fcntl.F_SETPIPE_SZ, 1 << 20)
        # A signal that comes at once must find the child's handlers, not those of the test.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
        self.pid = os.fork()
        if self.pid == 0:
            self._child(job, before, result, {result, *keep}, mask)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(result)
        self._ended: Ended | None = None

    def _child(
        self,
        job: Job,
        before: Callable[[], object] | None,
        result: int,
        keep: set[int],
        mask: set[int | signal.Signals],
    ) -> NoReturn:
        outcome: dict[str, Any] = {}
        try:
            try:
                for number in ASKED:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                for name in os.listdir("/proc/self/fd"):
                    if int(name) > 2 and int(name) not in keep:
                        _close(int(name))
                if before is not None:
                    before()
                outcome["report"] = job.run().to_dict()
            except BaseException as error:  # noqa: BLE001 -- all of them are what came of it
                outcome["error"] = type(error).__name__
                outcome["message"] = str(error)
                if isinstance(error, OSError):
                    outcome["errno"], outcome["filename"] = error.errno, error.filename
            # A signal may come when all is over. It must not reach what follows, or the copy of
            # the test's process would go on with the test. A mask is not enough: another thread
            # would take the signal, and Python's handler would run in this one.
            for number in ASKED:
                signal.signal(number, signal.SIG_IGN)
        except KeyboardInterrupt:
            pass  # between the run and that: the outcome is known already
        finally:
            # The test's own process is copied here: nothing of it may run on.
            # Not by `write`, which may be what the test makes fail.
            os.writev(result, [json.dumps(outcome).encode()])
            os._exit(0)

    def wait(self) -> Ended:
        """Wait for the end; a hang is an error."""
        hung = False
        if self._ended is None:
            deadline = time.monotonic() + PATIENCE
            while (done := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                    done = os.waitpid(self.pid, 0)
                    hung = True
                    break
                time.sleep(0.002)
            with os.fdopen(self._result, "rb") as file:
                text = file.read()
            outcome = json.loads(text) if text else {}
            self._ended = Ended(os.waitstatus_to_exitcode(done[1]), **outcome)
        assert not hung, f"the run hung for {PATIENCE} seconds"
        return self._ended

    def kill(self, number: int = signal.SIGKILL) -> Ended:
        """Send a signal, wait for the end."""
        if self._ended is None:
            os.kill(self.pid, number)
        return self.wait()


def _close(descriptor: int) -> None:
    with suppress(OSError):  # the one that listed them is closed already
        os.close(descriptor)


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def siblings(output: Path) -> list[str]:
    """Return the names of the files that runs to a destination keep beside it."""
    return [name for name in os.listdir(output.parent) if name.startswith(f".{output.name}.")]
