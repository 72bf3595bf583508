"""A process that presses Ctrl-C on itself, in the situation that its argument names.

Usage: ``interrupted.py SITUATION FOLDER``. The folder holds ``in``, a file, and ``out``, the old
output. The process says what happened in one line on standard output; a check
that fails is a traceback and exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corekit._paths import Descriptor, Input
from corekit.shuffle import _call, permutation
from reference import reference_shuffle

OLD = b"old\n"
SMALL = b"a\nb\nc\nd\n"

# Enough to be in the middle of waiting, not so much that a run could end meanwhile.
A_MOMENT = 0.02


@dataclass
class Situation:
    """A shuffle, and the phase in which Ctrl-C comes."""

    inputs: Sequence[Input]
    output: Path | Descriptor
    phase: str
    steps: int = 1  # calls of progress in that phase before Ctrl-C
    tuning: Mapping[str, int] | None = None
    scratch: str | None = None
    memory_limit: str = "64MiB"
    kept_open: list[int] = field(default_factory=list)


def situation(name: str, folder: Path) -> Situation:
    source, out = folder / "in", folder / "out"
    # Sizes so small that a phase lasts for seconds.
    slow = {"chunk": 8, "workers": 1}
    match name:
        case "scatter":
            return Situation([source], out, "scatter", tuning=slow)
        case "scatter by several workers":
            return Situation([source], out, "scatter", tuning={"chunk": 8, "workers": 5})
        case "scatter to scratch":
            tuning = {**slow, "spill": 1, "block": 4096, "bits": 2, "blocks": 20, "inline_max": 64}
            return Situation([source], out, "scatter", steps=4, tuning=tuning)
        case "reading again":
            tuning = {"block": 4096, "bits": 6, "blocks": 2000, "inline_max": 64}
            return Situation([source], out, "gather", tuning=tuning, scratch="none")
        case "gather":
            return Situation([source], out, "gather")
        case "gather of one large bucket in many slices":
            tuning = {"bits": 0, "entries": 2000, "workers": 1}
            return Situation([source], out, "gather", 10, tuning=tuning, memory_limit="256MiB")
        case "gather from scratch":
            tuning = {"spill": 1, "block": 4096, "bits": 8, "blocks": 500, "frame": 4096}
            return Situation([source], out, "gather", tuning={**tuning, "inline_max": 64})
        case "an idle pipe":
            reading, writing = os.pipe()
            return Situation([Descriptor(reading)], out, "scatter", 3, kept_open=[writing])
        case "an idle pipe after some bytes":
            reading, writing = os.pipe()
            os.write(writing, b"some\nbytes")
            return Situation([source, Descriptor(reading)], out, "scatter", 6, kept_open=[writing])
        case "a full pipe":
            reading, writing = os.pipe()
            return Situation([source], Descriptor(writing), "gather", 3, kept_open=[reading])
        case "a FIFO that nobody writes to":
            os.mkfifo(folder / "fifo")
            return Situation([folder / "fifo"], out, "scatter", 3)
        case "a FIFO that nobody reads":
            os.mkfifo(folder / "fifo")
            return Situation([source], folder / "fifo", "scatter", 3)
        case "a long record of an idle pipe":
            reading, writing = os.pipe()
            os.write(writing, b"x" * 60_000)
            tuning = {"chunk": 1000, "inline_max": 500}
            return Situation(
                [Descriptor(reading)], out, "scatter", 3, tuning=tuning, kept_open=[writing]
            )
    raise ValueError(name)


class CtrlC:
    """Sends SIGINT to this process, a moment after it was told to."""

    def __init__(self) -> None:
        self.sent_at = 0.0
        self._thread: threading.Thread | None = None

    def press(self) -> None:
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        # Not at once: the caller has to be back in the core, where no Python code runs
        # that would notice the signal by itself.
        time.sleep(A_MOMENT)
        self.sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def join(self) -> None:
        if self._thread:
            self._thread.join()


def interrupted_shuffle(now: Situation) -> float:
    """Run the situation's shuffle; return the seconds from Ctrl-C to KeyboardInterrupt."""
    key = CtrlC()
    steps = 0

    def progress(done: int, total: int | None, phase: str) -> None:
        nonlocal steps
        if phase == now.phase:
            steps += 1
            if steps == now.steps:
                key.press()

    try:
        _call.run(
            now.inputs,
            now.output,
            seed=1,
            threads=2,
            memory_limit=now.memory_limit,
            scratch=now.scratch,
            tuning=now.tuning,
            progress=progress,
        )
    except KeyboardInterrupt:
        waited = time.monotonic() - key.sent_at
    else:
        raise SystemExit("it ran to its end")
    key.join()
    return waited


def interrupted_permutation() -> float:
    key = CtrlC()
    key.press()
    try:
        permutation(20_000_000, seed=1, threads=2)
    except KeyboardInterrupt:
        waited = time.monotonic() - key.sent_at
    else:
        raise SystemExit("it ran to its end")
    key.join()
    return waited


def entries(directory: str) -> int:
    return len(os.listdir(directory))


def main(name: str, folder: Path) -> None:
    # Ctrl-C may be off in what the tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    now = None if name == "permutation" else situation(name, folder)
    files = sorted(os.listdir(folder))
    threads, descriptors = entries("/proc/self/task"), entries("/proc/self/fd")

    waited = interrupted_shuffle(now) if now else interrupted_permutation()

    assert (folder / "out").read_bytes() == OLD, "the output was touched"
    assert sorted(os.listdir(folder)) == files, "something was left behind"
    assert entries("/proc/self/fd") == descriptors, "a descriptor was left open"
    # A joined thread stays in the list until the system has taken it down.
    until = time.monotonic() + 5
    while entries("/proc/self/task") != threads and time.monotonic() < until:
        time.sleep(0.001)
    assert entries("/proc/self/task") == threads, "a thread was left running"

    (folder / "small").write_bytes(SMALL)
    _call.run(folder / "small", folder / "again", seed=5)
    assert (folder / "again").read_bytes() == reference_shuffle([SMALL], 5)
    print(f"KeyboardInterrupt after {waited:.3f} s, and then all was well")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
