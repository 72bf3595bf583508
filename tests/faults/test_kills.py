"""A killed run leaves the old bytes or the complete new ones.

However and whenever it dies: no scratch, no half-written destination, and at most one
sibling of it, `.NAME.corekit-*`, which the next run to that destination removes. The
sibling of a run that lives is never removed. Where files cannot be made without a name, one
that dies between making scratch and unlinking it leaves that, empty, for the next such run.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.runs import OLD, SMALL, SPILLING, Forked, Job, shuffled, siblings, until

COPIES = 8
# Large enough to be hit in every phase: some tens of milliseconds.
LARGE = {**SMALL, "blocks": 200, "spill": 1}
NAMED = {"no_tmpfile": 1}
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]


def check(
    out: Path, killed: int | None, contents: set[bytes], tuning: dict[str, int] | None = None
) -> None:
    """Check what is left of a run that was killed: the destination, and perhaps a sibling."""
    assert out.read_bytes() in contents
    left = set(os.listdir(out.parent)) - {out.name}
    if killed is not None and (tuning or {}).get("no_tmpfile"):
        scratch = {name for name in left if re.fullmatch(r"\.corekit-scratch-[0-9a-f]{16}", name)}
        assert [(out.parent / name).stat().st_size for name in scratch] in ([], [0])
        left -= scratch
    assert left == set(siblings(out))
    assert len(left) <= (killed is not None)
    assert all(re.fullmatch(r"\.out\.corekit-[0-9a-f]{16}", name) for name in left)


def check_the_next(source: Path, out: Path, tuning: dict[str, int] | None = None) -> None:
    """Check that a run after a killed one works and sweeps."""
    after = {**SPILLING, **NAMED} if "no_tmpfile" in (tuning or {}) else {}
    Job(source, out, {"seed": 2}, tuning=after).run()
    assert out.read_bytes() == shuffled(2)
    assert os.listdir(out.parent) == [out.name]


@pytest.mark.parametrize(
    ("tuning", "number", "times"),
    [
        (LARGE, signal.SIGKILL, 40),
        ({**LARGE, **NAMED}, signal.SIGKILL, 20),
        ({**LARGE, "spill": 0}, signal.SIGKILL, 20),
        (LARGE, signal.SIGTERM, 10),
        (LARGE, signal.SIGHUP, 10),
        ({**LARGE, **NAMED}, signal.SIGHUP, 10),
    ],
    ids=["scratch", "named scratch", "rescan", "SIGTERM", "SIGHUP", "SIGHUP, named"],
)
def test_at_any_time(
    source: Path, out: Path, tuning: dict[str, int], number: int, times: int
) -> None:
    job = Job([source] * COPIES, out, tuning=tuning)
    start = time.monotonic()
    assert Forked(job).wait().error is None
    lasts = time.monotonic() - start
    complete = shuffled(copies=COPIES)
    assert out.read_bytes() == complete
    rng = random.Random(7)
    finished = 0
    for turn in range(times):
        out.write_bytes(OLD)
        run = Forked(job)
        time.sleep((turn + rng.random()) / times * lasts * 1.1)
        ended = run.kill(number)
        assert ended.status in (0, -number)
        finished += ended.status == 0
        if ended.status:
            check(out, number, {OLD, complete}, tuning)
        else:
            check(out, None, {complete})
        if os.listdir(out.parent) != [out.name]:
            check_the_next(source, out, tuning)
    # It was killed while it worked, most times.
    assert finished < times


def test_scratch_that_was_left_is_removed(source: Path, out: Path) -> None:
    out.write_bytes(OLD)
    (out.parent / ".corekit-scratch-0123456789abcdef").touch()
    check(out, signal.SIGKILL, {OLD}, NAMED)
    check_the_next(source, out, NAMED)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "tuning", [SPILLING, {**SPILLING, **NAMED}, {}], ids=["", "named", "as planned"]
)
def test_while_it_reads(
    disk: Path, source: Path, out: Path, tuning: dict[str, int], number: int
) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(Job([source, fifo], out, tuning=tuning))
    with fifo.open("wb"):  # the first input is read, and evicted to scratch
        assert run.kill(number).status == -number
    check(out, number, {OLD})
    assert len(siblings(out)) == tuning.get("no_tmpfile", 0)
    check_the_next(source, out, tuning)


@pytest.mark.parametrize("number", SIGNALS)
def test_while_it_writes(disk: Path, source: Path, number: int) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(Job([source] * 2, fifo, {"scratch": disk}))
    with fifo.open("rb") as reader:
        first = reader.read(1)
        assert run.kill(number).status == -number
        streamed = first + reader.read()
    assert shuffled(copies=2).startswith(streamed)
    assert sorted(os.listdir(disk)) == ["fifo", "inputs"]


@pytest.mark.parametrize("tuning", [SPILLING, {**SPILLING, **NAMED}], ids=["", "named"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_handler_that_raises_cleans_up(
    disk: Path, source: Path, out: Path, number: int, tuning: dict[str, int]
) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)

    def before() -> None:
        signal.signal(number, lambda *_: sys.exit("told to stop"))

    run = Forked(Job([source, fifo], out, tuning=tuning), before=before)
    with fifo.open("wb"):
        ended = run.kill(number)
    assert (ended.status, ended.error, ended.message) == (0, "SystemExit", "told to stop")
    check(out, None, {OLD})


def test_the_sibling_of_a_run_that_lives_stays(disk: Path, source: Path, out: Path) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    living = Forked(Job([source, fifo], out, tuning={**SPILLING, **NAMED}))
    with fifo.open("wb"):
        until(lambda: siblings(out))
        (sibling,) = siblings(out)
        for switches in ({}, NAMED):
            Job(source, out, {"seed": 2}, {**SPILLING, **switches}).run()
            assert out.read_bytes() == shuffled(2)
            assert siblings(out) == [sibling]
    assert living.wait().error is None
    assert out.read_bytes() == shuffled()
    assert os.listdir(out.parent) == [out.name]


def leave(out: Path, name: str) -> Path:
    path = out.with_name(name)
    path.write_bytes(b"not ours")
    return path


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        (".out.corekit-0123456789abcdef", False),
        (".out.corekit-0123456789abcde", True),
        (".out.corekit-0123456789abcdef0", True),
        (".out.corekit-0123456789abcdeg", True),
        (".output.corekit-0123456789abcdef", True),
        ("out.corekit-0123456789abcdef", True),
        (".corekit-0123456789abcdef", True),
    ],
)
def test_only_siblings_of_this_destination_are_removed(
    source: Path, out: Path, name: str, stays: bool
) -> None:
    path = leave(out, name)
    Job(source, out).run()
    assert path.exists() == stays


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("out"),
        lambda path: os.mkfifo(path),
    ],
    ids=["directory", "link", "FIFO"],
)
def test_what_only_has_such_a_name_harms_nobody(
    source: Path, out: Path, make: Callable[[Path], None]
) -> None:
    make(out.with_name(".out.corekit-0123456789abcdef"))
    Job(source, out).run()
    assert out.read_bytes() == shuffled()


def test_long_names_have_siblings_too(disk: Path, source: Path, out: Path) -> None:
    longest = out.with_name("x" * 255)
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(Job([source, fifo], longest, tuning={**SPILLING, **NAMED}))
    with fifo.open("wb"):
        run.kill()
    assert len(os.listdir(out.parent)) == 2
    Job(source, longest).run()
    assert sorted(os.listdir(out.parent)) == sorted(["out", longest.name])


def test_two_runs_at_once(source: Path, out: Path) -> None:
    results = {shuffled(1), shuffled(2)}
    for switches in ({}, NAMED) * 5:
        out.write_bytes(OLD)
        seen: set[bytes] = set()
        over = threading.Event()

        def look(seen: set[bytes] = seen, over: threading.Event = over) -> None:
            while not over.is_set():
                seen.add(out.read_bytes())

        watcher = threading.Thread(target=look)
        runs = [Forked(Job(source, out, {"seed": s}, {**SPILLING, **switches})) for s in (1, 2)]
        watcher.start()
        assert [run.wait().error for run in runs] == [None, None]
        over.set()
        watcher.join()
        assert out.read_bytes() in results
        assert seen <= {OLD, *results}
        assert os.listdir(out.parent) == ["out"]
