"""An input that changes while it is read is never read wrongly.

Appended to, cut, rewritten, replaced: before it is read, between two passes over it, or
before a long line is fetched from it, the run ends with an `InputChangedError` that
names a file, and the old output stays. Other runs hold still meanwhile, on a FIFO that
has no writer yet or no reader any more, so nothing here depends on time. One worker reads
one input after the other; several would read a FIFO and others side by side.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from corekit.errors import InputChangedError, IntegrityError, MissingFileError
from faults.runs import LINES, OLD, RESCANNING, SMALL, SPILLING, Ended, Forked, Job, shuffled, until
from reference import reference_shuffle


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"one more\n")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"#" * (size // 2))


def rewrite_and_set_the_clock_back(path: Path) -> None:
    stat = path.stat()
    rewrite(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    os.replace(other, path)


ONE_WORKER = {**SPILLING, "workers": 1}

CHANGES: list[Callable[[Path], None]] = [append, cut, empty, rewrite, replace]


def named(change: Callable[[Path], None]) -> str:
    return change.__name__.replace("_", " ")


def refused(ended: Ended, *paths: Path) -> None:
    assert ended.error is not None, ended
    assert ended.error_class is InputChangedError
    assert ended.filename in [str(path) for path in paths]
    assert ended.message is not None
    assert re.search("changed|became shorter", ended.message)


@pytest.fixture
def fifo(disk: Path) -> Path:
    path = disk / "fifo"
    os.mkfifo(path)
    return path


def is_read(fifo: Path, pid: int) -> bool:
    """Whether the process has opened the FIFO."""
    folder = f"/proc/{pid}/fd"
    return any(os.path.realpath(f"{folder}/{name}") == str(fifo) for name in os.listdir(folder))


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_before_it_is_read(
    fifo: Path, source: Path, out: Path, change: Callable[[Path], None]
) -> None:
    run = Forked(Job([fifo, source], out, tuning=ONE_WORKER))
    with fifo.open("wb"):
        until(lambda: is_read(fifo, run.pid))
        change(source)
    refused(run.wait(), source)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


def test_removed_before_it_is_read(fifo: Path, source: Path, out: Path) -> None:
    run = Forked(Job([fifo, source], out, tuning=ONE_WORKER))
    with fifo.open("wb"):
        until(lambda: is_read(fifo, run.pid))
        source.unlink()
    ended = run.wait()
    assert ended.error is not None
    assert ended.error_class in (MissingFileError, InputChangedError)
    assert ended.filename == str(source)
    assert out.read_bytes() == OLD


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_when_all_of_it_was_read_before(
    fifo: Path, source: Path, out: Path, change: Callable[[Path], None]
) -> None:
    run = Forked(Job([source, fifo], out, tuning=ONE_WORKER))
    with fifo.open("wb"):
        until(lambda: is_read(fifo, run.pid))
        change(source)
    ended = run.wait()
    # Nothing of it is needed any more; and what was read was all there.
    assert ended.error is None
    assert out.read_bytes() == reference_shuffle([LINES, b""], 1)


@pytest.mark.parametrize("change", [*CHANGES, rewrite_and_set_the_clock_back], ids=named)
def test_before_a_long_line_is_fetched(
    fifo: Path, source: Path, out: Path, change: Callable[[Path], None]
) -> None:
    source.write_bytes(b"x" * 50_000 + b"\n" + LINES + b"y" * 100_000)
    os.utime(source, (1e9, 1e9))
    run = Forked(Job([source, fifo], out, tuning=ONE_WORKER))
    with fifo.open("wb"):
        until(lambda: is_read(fifo, run.pid))
        change(source)
    refused(run.wait(), source)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


def streamed_after(
    change: Callable[[Path], None], source: Path, fifo: Path, job: Job
) -> tuple[Ended, bytes]:
    """Change the input after the first pass over it; return how the run ended, what it wrote."""
    run = Forked(job)
    with fifo.open("rb") as reader:
        # The first bytes are there, so the first pass is over; the last ones are far away.
        first = reader.read(1)
        change(source)
        streamed = first + reader.read()
    return run.wait(), streamed


FEW_BLOCKS = {**RESCANNING, "blocks": 30}


@pytest.mark.parametrize("tuning", [FEW_BLOCKS, {**FEW_BLOCKS, "workers": 1}])
@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_between_two_passes(
    fifo: Path, source: Path, change: Callable[[Path], None], tuning: dict[str, int]
) -> None:
    ended, streamed = streamed_after(change, source, fifo, Job([source] * 4, fifo, {}, tuning))
    refused(ended, source)
    complete = shuffled(copies=4)
    assert len(streamed) < len(complete)
    assert complete.startswith(streamed)


@pytest.mark.parametrize("copies", [1, 4])
def test_between_two_passes_and_the_clock_set_back(fifo: Path, source: Path, copies: int) -> None:
    # Only the digest can tell; which of several files it was, it cannot.
    content = LINES * (4 // copies)
    source.write_bytes(content)
    job = Job([source] * copies, fifo, {}, FEW_BLOCKS)
    ended, streamed = streamed_after(rewrite_and_set_the_clock_back, source, fifo, job)
    if copies == 1:
        refused(ended, source)
    else:
        assert ended.error_class in (InputChangedError, IntegrityError)
        assert ended.message is not None
        assert "changed" in ended.message
    complete = reference_shuffle([content] * copies, 1)
    assert len(streamed) < len(complete)
    assert complete.startswith(streamed)


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_from_within(source: Path, out: Path, change: Callable[[Path], None]) -> None:
    # The progress function runs in the waiting thread: here it is the one that changes the file,
    # once before the first byte is read. What was not looked at yet may change.
    done = threading.Event()

    def progress(*_: object) -> None:
        if not done.is_set():
            done.set()
            change(source)

    Job(source, out, {"progress": progress}).run()
    assert out.read_bytes() == reference_shuffle([source.read_bytes()], 1)


@pytest.mark.parametrize("tuning", [SPILLING, RESCANNING, SMALL])
def test_a_file_that_is_only_looked_at_is_not_changed(
    source: Path, out: Path, tuning: dict[str, int]
) -> None:
    # Another name, other permissions, another time of reading: the content is the same.
    def progress(*_: object) -> None:
        source.chmod(0o600)
        if not (name := source.with_name("link")).exists():
            os.link(source, name)

    Job([source] * 2, out, {"progress": progress}, tuning).run()
    assert out.read_bytes() == shuffled(copies=2)
