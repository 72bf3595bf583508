"""A compressed input that is damaged, changes, or ends too early is never read wrongly.

The run ends with an error of the documented class that names the file, the old output
stays, and nothing is left over; what is compressed well comes through, however slowly.
"""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corekit.errors import (
    FileError,
    InputChangedError,
    InputFormatError,
    IntegrityError,
    MissingFileError,
    PermissionDeniedError,
)
from faults.runs import LINES, OLD, RESCANNING, SPILLING, Ended, Forked, Job, shuffled, siblings
from faults.runs import until as wait_until
from faults.test_changed_input import (
    CHANGES,
    FEW_BLOCKS,
    ONE_WORKER,
    is_read,
    named,
    refused,
    rewrite_and_set_the_clock_back,
    streamed_after,
)
from faults.test_file_errors import nobody
from faults.test_file_errors import refused as refused_by_system
from faults.tracing import needs_strace, traced
from memory.frames import frame
from reference import reference_shuffle

STORED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": frame,
}
LONG = b"long " * 40_000  # longer than a record that is kept in blocks


@pytest.fixture(params=STORED)
def stored(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    """Either way to compress."""
    return STORED[request.param]


@pytest.fixture
def packed(source: Path, stored: Callable[[bytes], bytes]) -> Path:
    """The lines, compressed, written some time ago."""
    source.write_bytes(stored(LINES))
    os.utime(source, (1e9, 1e9))
    return source


@pytest.fixture
def fifo(disk: Path) -> Path:
    path = disk / "fifo"
    os.mkfifo(path)
    return path


def damaged(ended: Ended, path: Path, out: Path) -> None:
    assert ended.error is not None, ended
    assert ended.error_class is InputFormatError
    assert ended.filename == str(path)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("tuning", [SPILLING, RESCANNING, {}], ids=["scratch", "rescan", "memory"])
def test_all_is_well(packed: Path, out: Path, tuning: dict[str, int]) -> None:
    Job([packed] * 3, out, tuning=tuning).run()
    assert out.read_bytes() == shuffled(copies=3)


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_changed_before_it_is_read(
    fifo: Path, packed: Path, out: Path, change: Callable[[Path], None]
) -> None:
    run = Forked(Job([fifo, packed], out, tuning=ONE_WORKER))
    with fifo.open("wb"):
        wait_until(lambda: is_read(fifo, run.pid))
        change(packed)
    refused(run.wait(), packed)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


def test_removed_before_it_is_read(fifo: Path, packed: Path, out: Path) -> None:
    run = Forked(Job([fifo, packed], out, tuning=ONE_WORKER))
    with fifo.open("wb"):
        wait_until(lambda: is_read(fifo, run.pid))
        packed.unlink()
    ended = run.wait()
    assert ended.error_class in (MissingFileError, InputChangedError)
    assert ended.filename == str(packed)
    assert out.read_bytes() == OLD


@pytest.mark.parametrize("change", [*CHANGES, rewrite_and_set_the_clock_back], ids=named)
def test_changed_between_two_passes(
    fifo: Path, packed: Path, change: Callable[[Path], None]
) -> None:
    job = Job([packed] * 4, fifo, {}, FEW_BLOCKS)
    ended, streamed = streamed_after(change, packed, fifo, job)
    assert ended.error_class in (InputChangedError, InputFormatError, IntegrityError)
    complete = shuffled(copies=4)
    assert len(streamed) < len(complete)
    assert complete.startswith(streamed)


@pytest.mark.parametrize("change", [*CHANGES, rewrite_and_set_the_clock_back], ids=named)
def test_changed_at_any_time(
    source: Path, out: Path, stored: Callable[[bytes], bytes], change: Callable[[Path], None]
) -> None:
    # Whatever it finds, it is an error, or the old bytes in the right order.
    content = stored(LINES * 8)
    complete = reference_shuffle([LINES * 8], 1)
    job = Job(source, out, tuning=SPILLING)
    source.write_bytes(content)
    start = time.monotonic()
    assert Forked(job).wait().error is None
    lasts = time.monotonic() - start
    for turn in range(5):
        source.write_bytes(content)
        os.utime(source, (1e9, 1e9))
        out.write_bytes(OLD)
        run = Forked(job)
        time.sleep((turn + 0.5) / 5 * lasts)
        change(source)
        ended = run.wait()
        if ended.error is None:
            # All of it was read before; or it was looked at when it was not compressed any more.
            assert out.read_bytes() in (complete, reference_shuffle([source.read_bytes()], 1))
            continue
        assert ended.error_class in (InputChangedError, InputFormatError)
        assert ended.filename == str(source)
        assert out.read_bytes() == OLD
        assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("left", [3, 10, 17, 18, 200, 0.5, -9, -5, -1])
@pytest.mark.parametrize("tuning", [SPILLING, RESCANNING, {}], ids=["scratch", "rescan", "memory"])
def test_cut_short(packed: Path, out: Path, left: float, tuning: dict[str, int]) -> None:
    content = packed.read_bytes()
    size = int(left * len(content)) if 0 < left < 1 else int(left)
    packed.write_bytes(content[:size])
    told = {"input_format": "gzip" if content.startswith(b"\x1f\x8b") else "zstd"}
    damaged(Forked(Job(packed, out, told, tuning)).wait(), packed, out)


@pytest.mark.parametrize("turn", range(8))
def test_a_flipped_bit_in_gzip(source: Path, out: Path, turn: int) -> None:
    content = bytearray(gzip.compress(LINES, 1))
    rng = random.Random(turn)
    content[rng.randrange(10, len(content))] ^= 1 << rng.randrange(8)
    source.write_bytes(content)
    damaged(Forked(Job(source, out)).wait(), source, out)


def test_followed_by_something_else(packed: Path, out: Path) -> None:
    packed.write_bytes(packed.read_bytes() + b"not compressed")
    damaged(Forked(Job(packed, out)).wait(), packed, out)


def test_one_of_many(disk: Path, packed: Path, out: Path) -> None:
    bad = disk / "bad"
    content = packed.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    for workers in (1, 8):
        tuning = {**SPILLING, "workers": workers, "blocks": 200}
        damaged(Forked(Job([packed] * 5 + [bad] + [packed] * 5, out, {}, tuning)).wait(), bad, out)


def test_without_permission(packed: Path, out: Path) -> None:
    packed.chmod(0)
    out.parent.chmod(0o777)
    out.chmod(0o666)
    ended = Forked(Job(packed, out), before=nobody).wait()
    refused_by_system(ended, PermissionDeniedError, errno.EACCES, packed)
    assert out.read_bytes() == OLD


@needs_strace
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_that_cannot_be_read(packed: Path, out: Path, n: int) -> None:
    with traced(Job(packed, out), f"pread64:error=EIO:when={n}", on=packed) as run:
        ended = run.wait()
    if ended.error is None:
        assert n > 1
        assert out.read_bytes() == shuffled()
    else:
        refused_by_system(ended, FileError, errno.EIO, packed)
        assert out.read_bytes() == OLD


@pytest.mark.parametrize("others", [0, 2])
def test_a_slow_fifo(
    fifo: Path, source: Path, out: Path, stored: Callable[[bytes], bytes], others: int
) -> None:
    run = Forked(Job([fifo] + [source] * others, out))
    content = stored(LINES)
    with fifo.open("wb", buffering=0) as writer:
        for at in range(40):
            writer.write(content[at : at + 1])
            time.sleep(0.001)
        for at in range(40, len(content), 50_000):
            writer.write(content[at : at + 50_000])
            time.sleep(0.001)
    assert run.wait().error is None
    assert out.read_bytes() == shuffled(copies=1 + others)


@pytest.mark.parametrize("part", [0.0001, 0.3, 0.9999])
@pytest.mark.parametrize("others", [0, 2])
def test_a_fifo_that_dies(
    fifo: Path, source: Path, out: Path, stored: Callable[[bytes], bytes], part: float, others: int
) -> None:
    content = stored(LINES)
    run = Forked(Job([fifo] + [source] * others, out))
    with fifo.open("wb", buffering=0) as writer:
        writer.write(content[: max(8, int(part * len(content)))])
    damaged(run.wait(), fifo, out)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("switches", [{}, {"no_tmpfile": 1}], ids=["unnamed", "named"])
def test_killed_with_long_records_in_scratch(
    disk: Path,
    fifo: Path,
    source: Path,
    out: Path,
    stored: Callable[[bytes], bytes],
    number: int,
    switches: dict[str, int],
) -> None:
    source.write_bytes(stored(b"\n".join([LONG, LINES, LONG + b"!"] * 3)))
    scratch = disk / "scratch"
    scratch.mkdir()
    options: dict[str, Any] = {"scratch": scratch}
    run = Forked(Job([source, fifo], out, options, {**ONE_WORKER, **switches}))
    with fifo.open("wb"):
        wait_until(lambda: is_read(fifo, run.pid))
        assert run.kill(number).status == -number
    assert os.listdir(scratch) == []
    assert out.read_bytes() == OLD
    assert set(os.listdir(out.parent)) == {"out", *siblings(out)}
    Job([source], out, options, {**ONE_WORKER, **switches}).run()
    assert os.listdir(scratch) == []
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_time(disk: Path, packed: Path, out: Path, moment: int) -> None:
    scratch = disk / "scratch"
    scratch.mkdir()
    run = Forked(Job([packed] * 6, out, {"scratch": scratch}))
    time.sleep(moment * 0.01)
    ended = run.kill()
    assert os.listdir(scratch) == []
    assert out.read_bytes() in (OLD, shuffled(copies=6))
    assert ended.status in (0, -signal.SIGKILL)
    assert set(os.listdir(out.parent)) <= {"out", *siblings(out)}
