"""Each system call of a run may fail, and the process may be killed in it.

strace makes the n-th call of each thread fail, or ends the process there. A call that
was merely interrupted, or that a run can do without, changes nothing. All else is an
error of a documented class with its errno and a file's name; then the destination holds
what it held, nothing is left over, and no run ever hangs.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corekit.errors import CorekitError, FileError, OutOfMemoryError
from faults.runs import LINES, OLD, RESCANNING, SPILLING, Ended, Job, siblings
from faults.test_kills import check as check_killed
from faults.test_kills import check_the_next
from faults.tracing import needs_strace, traced
from reference import reference_shuffle

pytestmark = needs_strace

FEW = LINES[: LINES.index(b"\n", 150_000) + 1]
SHUFFLED = reference_shuffle([FEW], 1)
NAMED = {**SPILLING, "no_tmpfile": 1}
BUFFERED = {**SPILLING, "no_direct": 1}

# Both names of a call that has had two: strace passes over those that it does not know.
RENAME = "?rename,?renameat,?renameat2"
LINK = "?link,?linkat"
POLL = "?poll,?ppoll"
CLONE = "?clone,?clone3"
CHMOD = "?fchmod"


@dataclass(frozen=True)
class Fault:
    """A system call, and what it is to return."""

    calls: str
    error: str
    harmless: bool = False
    times: int = 6
    tuning: Mapping[str, int] | None = None

    @property
    def name(self) -> str:
        kind = [
            name
            for name, tuning in [("named", NAMED), ("buffered", BUFFERED), ("rescan", RESCANNING)]
            if tuning is self.tuning
        ]
        return " ".join([self.calls.split(",")[-1].strip("?"), self.error, *kind])


def interrupted(calls: str, times: int = 6) -> Fault:
    return Fault(calls, "EINTR", harmless=True, times=times)


FAULTS = [
    Fault("pwrite64", "EIO"),
    Fault("pwrite64", "ENOSPC"),
    Fault("pwrite64", "EIO", tuning=BUFFERED),
    Fault("pwritev", "EIO"),
    Fault("pwritev", "ENOSPC"),
    Fault("pread64", "EIO"),
    Fault("pread64", "EIO", tuning=RESCANNING),
    Fault("fsync", "EIO", times=3),
    Fault("fsync", "ENOSPC", times=1),
    Fault("ftruncate", "EIO", times=1),
    Fault("fallocate", "EIO", times=2),
    Fault("fallocate", "ENOSPC", times=2),
    Fault(LINK, "EIO", times=1),
    Fault(LINK, "ENOSPC", times=1),
    Fault(RENAME, "EIO", times=1),
    Fault(RENAME, "ENOSPC", times=1),
    Fault(RENAME, "EIO", times=1, tuning=NAMED),
    Fault("?openat", "EMFILE", times=10),
    Fault("?openat", "EIO", times=10, tuning=NAMED),
    Fault(CHMOD, "EIO", times=1),
    Fault("?statfs", "EIO", times=4),
    Fault("flock", "EIO", times=1),
    Fault("mmap", "ENOMEM", times=10),
    Fault(CLONE, "EAGAIN", times=18),
    # What needs no success:
    interrupted("pwrite64"),
    interrupted("pwritev"),
    interrupted("pread64"),
    interrupted("fsync", 2),
    interrupted("ftruncate", 1),
    interrupted("fallocate", 2),
    interrupted("flock", 1),
    interrupted("?openat", 10),
    interrupted(LINK, 1),
    interrupted(RENAME, 1),
    Fault("fallocate", "EOPNOTSUPP", harmless=True, times=2),
    Fault("fallocate", "ENOSYS", harmless=True, times=2),
    Fault("fallocate", "EINVAL", harmless=True, times=2),
    Fault("flock", "ENOLCK", harmless=True, times=1),
    Fault("flock", "ENOLCK", harmless=True, times=1, tuning=NAMED),
    Fault("fchown", "EPERM", harmless=True, times=1),
    Fault(LINK, "EEXIST", harmless=True, times=1),
    Fault("madvise", "EINVAL", harmless=True, times=2),
    Fault("?fadvise64", "EINVAL", harmless=True, times=2),
    Fault("?getdents64", "EIO", harmless=True, times=2),
]

CASES = [
    pytest.param(fault, n, id=f"{fault.name}-{n}")
    for fault in FAULTS
    for n in range(1, fault.times + 1)
]


def check(fault: Fault, ended: Ended, source: Path, out: Path) -> None:
    assert ended.status == 0
    assert os.listdir(out.parent) == [out.name]
    if ended.error is None or fault.harmless:
        assert ended.error is None, ended
        assert out.read_bytes() == SHUFFLED
        return
    contents = {OLD}
    if fault.calls == "fsync":
        contents.add(SHUFFLED)  # the directory's comes last
    assert out.read_bytes() in contents
    if ended.error == "MemoryError":  # the interpreter's own
        assert fault.calls == "mmap"
        return
    assert issubclass(ended.error_class, CorekitError)
    if issubclass(ended.error_class, OutOfMemoryError):
        assert fault.calls in ("mmap", CLONE)
        return
    assert issubclass(ended.error_class, FileError), ended
    number = getattr(errno, fault.error)
    assert ended.errno == (errno.EAGAIN if fault.calls == "mmap" else number), ended
    assert ended.filename is not None
    if fault.calls not in ("mmap", CLONE):
        assert ended.filename in [str(path) for path in (source, out, out.parent)]


@pytest.mark.parametrize(("fault", "n"), CASES)
def test_a_call_that_fails(source: Path, out: Path, fault: Fault, n: int) -> None:
    source.write_bytes(FEW)
    job = Job(source, out, tuning=fault.tuning or SPILLING)
    with traced(job, f"{fault.calls}:error={fault.error}:when={n}") as run:
        ended = run.wait()
    check(fault, ended, source, out)


# How many blocks go to scratch in one call depends on timing; that there is a call does not.
@pytest.mark.parametrize(("calls", "first"), [("pwrite64", 2), ("pwritev", 1), ("pread64", 2)])
def test_every_call_that_fails(source: Path, out: Path, calls: str, first: int) -> None:
    source.write_bytes(FEW)
    with traced(Job(source, out), f"{calls}:error=EIO:when={first}+") as run:
        ended = run.wait()
    check(Fault(calls, "EIO"), ended, source, out)
    assert ended.error is not None


STREAM_FAULTS = [
    Fault("read", "EIO", times=2),
    Fault("write", "EIO", times=2),
    Fault("write", "ENOSPC", times=1),
    Fault(POLL, "ENOMEM", times=2),
    interrupted("read", 2),
    interrupted("write", 2),
    interrupted(POLL, 2),
    Fault("read", "EAGAIN", harmless=True, times=2),
    Fault("write", "EAGAIN", harmless=True, times=2),
]


@pytest.mark.parametrize(
    ("fault", "n"),
    [
        pytest.param(fault, n, id=f"{fault.name}-{n}")
        for fault in STREAM_FAULTS
        for n in range(1, fault.times + 1)
    ],
)
def test_a_call_on_a_pipe_that_fails(disk: Path, fault: Fault, n: int) -> None:
    source, sink = disk / "source", disk / "sink"
    for fifo in (source, sink):
        os.mkfifo(fifo)
    with (
        subprocess.Popen(["cat", sink], stdout=subprocess.PIPE) as reader,
        subprocess.Popen(["dd", f"of={source}", "status=none"], stdin=subprocess.PIPE) as writer,
    ):
        assert writer.stdin is not None
        assert reader.stdout is not None
        job = Job(source, sink, {"scratch": disk})
        try:
            with traced(job, f"{fault.calls}:error={fault.error}:when={n}") as run:
                writer.communicate(FEW)
                streamed = reader.stdout.read()
                ended = run.wait()
        finally:
            reader.kill()
            writer.kill()
    assert SHUFFLED.startswith(streamed)
    assert sorted(os.listdir(disk)) == ["sink", "source"]
    if ended.error is None or fault.harmless:
        assert ended.error is None, ended
        assert streamed == SHUFFLED
    else:
        assert issubclass(ended.error_class, FileError)
        assert ended.errno == getattr(errno, fault.error)
        assert ended.filename in [str(source), str(sink)]


KILLS: list[tuple[str, int, dict[str, Any]]] = [
    ("pwritev", 1, {}),
    *[("pread64", n, {}) for n in (1, 4)],
    *[("pwrite64", n, {}) for n in (1, 4)],
    ("fallocate", 1, {}),
    ("ftruncate", 1, {}),
    (CHMOD, 1, {}),
    ("fsync", 1, {}),
    (LINK, 1, {}),
    (RENAME, 1, {}),
    (RENAME, 1, {"no_tmpfile": 1}),
]


@pytest.mark.parametrize(
    ("calls", "n", "switches"),
    KILLS,
    ids=lambda value: value.split(",")[-1].strip("?") if isinstance(value, str) else str(value),
)
def test_a_call_in_which_it_is_killed(
    source: Path, out: Path, calls: str, n: int, switches: dict[str, int]
) -> None:
    source.write_bytes(FEW)
    job = Job(source, out, tuning={**SPILLING, **switches})
    with traced(job, f"{calls}:signal=SIGKILL:when={n}") as run:
        ended = run.wait()
    assert ended.status == -signal.SIGKILL
    check_killed(out, signal.SIGKILL, {OLD})
    if calls == RENAME:
        assert len(siblings(out)) == 1
    source.write_bytes(LINES)
    check_the_next(source, out)


@pytest.mark.parametrize("switches", [{}, {"no_tmpfile": 1}])
def test_killed_when_all_is_renamed(source: Path, out: Path, switches: dict[str, int]) -> None:
    source.write_bytes(FEW)
    job = Job(source, out, tuning={**SPILLING, **switches})
    with traced(job, "fsync:signal=SIGKILL:when=1", on=out.parent) as run:
        ended = run.wait()
    assert ended.status == -signal.SIGKILL
    check_killed(out, signal.SIGKILL, {SHUFFLED})
    source.write_bytes(LINES)
    check_the_next(source, out)
