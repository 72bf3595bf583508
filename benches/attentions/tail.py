"""How late single calls may be: with one thread and with two, in turns, beside a busy process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from attentions.cases import THREADS

PERCENTILES = (50.0, 99.0, 99.9)
# A turn is this many times as long as one of other cases: a thousandth of the calls must be many.
LONGER = 10


class Stepping(Protocol):
    """A tool whose calls can be given a number of threads."""

    def start(self) -> None: ...

    def with_threads(self, threads: int) -> Callable[[], Any]: ...


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keep one process running that never waits."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measured(tool: Stepping, seconds: float) -> dict[str, Any]:
    """Return percentiles of the seconds of calls with one thread and with all of them."""
    tool.start()
    calls = [tool.with_threads(1), tool.with_threads(THREADS)]
    taken: list[list[float]] = [[], []]
    with busy():
        deadline, order = time.perf_counter() + seconds, (0, 1)
        while time.perf_counter() < deadline:
            for number in order:
                started = time.perf_counter()
                calls[number]()
                taken[number].append(time.perf_counter() - started)
            order = order[::-1]
    answer: dict[str, Any] = {"calls": len(taken[0])}
    for name, found in zip(("one", "all"), taken, strict=True):
        points = np.percentile(found[1:], PERCENTILES)
        answer[name] = dict(zip(map(str, PERCENTILES), map(float, points), strict=True))
        answer[name]["max"] = max(found[1:])
    return answer
