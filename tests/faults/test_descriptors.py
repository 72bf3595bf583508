"""A run needs few descriptors and threads, and gives all of them back.

Hundreds of inputs are shuffled under a limit of 32 open files. After many runs, good
and failed, the process has as many descriptors and threads, and the memory, as before.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corekit.errors import CorekitError, MissingFileError
from faults.runs import LINES, RESCANNING, SMALL, SPILLING, Forked, Job, shuffled
from reference import reference_shuffle


def few_files(number: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


@pytest.mark.parametrize(
    "tuning", [SPILLING, RESCANNING, {**SPILLING, "workers": 8}, {}], ids=lambda t: str(len(t))
)
@pytest.mark.parametrize("long", [False, True], ids=["", "long lines"])
def test_many_inputs_and_few_descriptors(
    disk: Path, out: Path, tuning: dict[str, int], long: bool
) -> None:
    folder = disk / "inputs"
    folder.mkdir()
    parts = [b"%d " % n * (n % 700) + b"\n" + LINES[: 50 * (n % 50)] for n in range(300)]
    if long:
        parts[7::10] = [b"long " * 2000] * len(parts[7::10])
    paths = [folder / str(n) for n in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    job = Job(paths, out, {"threads": 8}, {**tuning, "blocks": 60} if tuning else {})
    ended = Forked(job, before=few_files(32)).wait()
    assert ended.error is None, ended
    assert ended.report is not None
    assert out.read_bytes() == reference_shuffle(parts, 1)


def test_too_few_descriptors_are_an_error(source: Path, out: Path) -> None:
    ended = Forked(Job(source, out), before=few_files(5)).wait()
    assert ended.error is not None
    assert issubclass(ended.error_class, CorekitError)
    assert os.listdir(out.parent) == ["out"]


def in_use() -> tuple[int, int]:
    """Return how many descriptors and threads this process has."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def settled(expected: tuple[int, int]) -> tuple[int, int]:
    """Return what is in use once it is as expected, or after a while.

    A thread that has ended stays in the list until the system has taken it down.
    """
    until = time.monotonic() + 5
    while in_use() != expected and time.monotonic() < until:
        time.sleep(0.001)
    return in_use()


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Stop(Exception):
    pass


def stop(*_: object) -> None:
    raise Stop


@pytest.mark.parametrize("tuning", [SPILLING, RESCANNING, SMALL, {}, {**SPILLING, "no_tmpfile": 1}])
def test_nothing_leaks(disk: Path, source: Path, out: Path, tuning: dict[str, int]) -> None:
    long = disk / "long"
    long.write_bytes(b"x" * 100_000)
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    missing = disk / "none"
    jobs: list[tuple[Job, type[BaseException] | None]] = [
        (Job([source, long], out, tuning=tuning), None),
        (Job([source, missing], out, tuning=tuning), MissingFileError),
        (Job(source, disk, tuning=tuning), CorekitError),
        (Job([source, fifo], out, {"progress": stop}, tuning), Stop),
        (Job(source, "/dev/full", {"scratch": disk}, tuning), CorekitError),
        (Job(source, out, {"memory_limit": 1}, {**tuning, "blocks": 1}), CorekitError),
    ]

    def all_of_them() -> None:
        for job, error in jobs:
            if error is None:
                job.run()
            else:
                with pytest.raises(error):
                    job.run()

    unused = in_use()
    all_of_them()
    before, memory = settled(unused), resident()
    for _ in range(9):
        all_of_them()
    assert settled(before) == before
    # One run's pool is of 8 MiB; the allocator keeps some of what threads gave back.
    assert resident() - memory < 32 << 20
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 16}])
def test_fifty_runs(source: Path, out: Path, options: dict[str, Any]) -> None:
    job = Job(source, out, options)
    unused = in_use()
    job.run()
    before, memory = settled(unused), resident()
    for _ in range(50):
        job.run()
    assert settled(before) == before
    assert resident() - memory < 32 << 20
    assert out.read_bytes() == shuffled()


@pytest.mark.parametrize("switches", [{}, {"no_direct": 1}])
def test_many_workers_and_few_blocks(source: Path, out: Path, switches: dict[str, int]) -> None:
    # So few that workers wait for each other's blocks all the time, and always go on.
    tuning = {**SPILLING, "workers": 8, **switches}
    for seed in range(5):
        assert Forked(Job([source] * 10, out, {"seed": seed}, tuning)).wait().error is None
        assert out.read_bytes() == shuffled(seed, copies=10)
