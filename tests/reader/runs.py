"""Readers of small inputs, in every plan, and what they must give."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from corekit.shuffle import ShuffledReader
from properties.engine import TINY, lines
from reference import reference_parts, split_records

PATIENCE = 20  # seconds; guards against hangs and measures nothing

# Where the records wait: in memory, in scratch, in the input. Pages that are read many
# times, and that records reach across.
PLANS: Mapping[str, Mapping[str, int]] = {
    "memory": {**TINY, "blocks": 200, "page": 256},
    "scratch": {**TINY, "blocks": 16, "spill": 1, "page": 192},
    "rescan": {**TINY, "blocks": 16, "spill": 0, "page": 128},
}

# More than the smaller pools hold.
TEXT = lines(3000, lambda number: number * 7919 % 80)


def expected(records: Sequence[Sequence[bytes]], seed: int, epoch: int = 0) -> list[bytes]:
    """Return the records in the formula's order."""
    (order,) = reference_parts(records, seed, epoch=epoch)
    return order


@cache
def _text_order(seed: int, epoch: int) -> tuple[bytes, ...]:
    return tuple(expected([split_records(TEXT)], seed, epoch))


def text_order(seed: int = 1, epoch: int = 0) -> list[bytes]:
    """Return the records of `TEXT` in the order of an epoch."""
    return list(_text_order(seed, epoch))


def share(records: Sequence[bytes], number: int, of: int) -> list[bytes]:
    """Return one of so many parts, as equal as they can be."""
    n = len(records)
    return list(records[number * n // of : (number + 1) * n // of])


def open_reader(
    inputs: Path | Sequence[Path], tuning: Mapping[str, int] | None = None, **options: Any
) -> ShuffledReader:
    """Make a reader with sizes so small that little data crosses every boundary."""
    reader = ShuffledReader(inputs, **{"seed": 1, "memory_limit": "64MiB", "threads": 2, **options})
    reader._tuning = None if tuning is None else dict(tuning)
    return reader


def joined(batches: Iterable[Iterable[bytes]]) -> list[bytes]:
    return [record for batch in batches for record in batch]


def descriptors() -> list[str]:
    """Return the targets of this process's open descriptors."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the one that listed them
            continue
    return sorted(found)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


def fork(body: Callable[[], object], *, leave: Callable[[int], object] = os._exit) -> int:
    """Run `body` in a forked child; return the child's process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:  # noqa: BLE001 -- a child must never get back into pytest
            traceback.print_exc()
        finally:
            leave(code)
            os._exit(code)
    return child


def exit_code(child: int, patience: float = PATIENCE) -> int | None:
    """Wait for a child; one that hangs is killed, and is None."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
