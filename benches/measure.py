"""Run one command and say what it cost: time, memory, scratch, disk traffic.

Time and CPU seconds come from ``wait4``, which covers the command and every child it waited for.
Peak memory is the kernel's own high-water mark for a command that is one process; a pipeline has
no such mark, so there the resident sizes of the tree are added up at every sample. Scratch is
sampled too: the blocks allocated to files in the watched directory, those that have lost their
name (seen through ``/proc/PID/fd``) included, the output excluded.

A child's high-water mark starts at that of the process that spawned it, so this process must stay
small: `isolated` runs anything that touches much memory in an interpreter of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

SAMPLE_SECONDS = 0.05
BLOCK_BYTES = 512  # the unit of st_blocks and of ru_inblock, whatever the file system
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Command:
    """A program, its arguments, and where its standard streams lead."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: Path | None = None
    stdout: Path | None = None


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_memory_bytes: int
    scratch_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and its cost."""

    exit_code: int
    timed_out: bool
    stderr: str
    cost: Cost


def run(command: Command, *, watch: Path, output: Path, timeout: float) -> Outcome:
    """Run `command` to its end and measure it.

    Parameters
    ----------
    command
        What to run. It gets a session of its own, so that it can be ended whole.
    watch
        The directory that holds its scratch files.
    output
        The file it writes, or the directory of files; their blocks are not scratch.
    timeout
        Seconds after which the command and its children are killed.
    """
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context(tempfile.TemporaryFile())
        stdin = stack.enter_context(open(command.stdin or os.devnull, "rb"))
        stdout = stack.enter_context(open(command.stdout or os.devnull, "wb"))
        started = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=dict(command.env),
            start_new_session=True,
        )
        sampler = _Sampler(process.pid, watch, started + timeout)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        except BaseException:
            _kill_group(process.pid)
            process.wait()
            raise
        finally:
            sampler.finish()
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        text = stderr.read().decode(errors="replace")
    return Outcome(
        exit_code=process.returncode,
        timed_out=sampler.timed_out,
        stderr=text,
        cost=Cost(
            wall_seconds=wall,
            user_seconds=usage.ru_utime,
            system_seconds=usage.ru_stime,
            peak_memory_bytes=sampler.peak_memory(usage),
            scratch_bytes=sampler.peak_scratch(output),
            disk_read_bytes=usage.ru_inblock * BLOCK_BYTES,
            disk_written_bytes=usage.ru_oublock * BLOCK_BYTES,
        ),
    )


def isolated(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a module-level function in a fresh interpreter, and return what it returns."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
        return pool.submit(function, *args, **kwargs).result()


class _Sampler(threading.Thread):
    """Looks at a process tree twenty times a second until told to finish."""

    def __init__(self, pid: int, watch: Path, deadline: float) -> None:
        super().__init__(daemon=True)
        self.timed_out = False
        self._pid = pid
        self._watch = watch
        self._deadline = deadline
        self._done = threading.Event()
        self._tree_bytes = 0
        self._tree_size = 0
        # Allocated bytes by inode, one dict a sample: which inode is the output is known only at
        # the end, since an unnamed output gets its name last.
        self._allocated: list[dict[int, int]] = []

    def run(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            if time.perf_counter() > self._deadline and not self.timed_out:
                self.timed_out = True
                _kill_group(self._pid)
            tree = list(_tree(self._pid))
            self._tree_size = max(self._tree_size, len(tree))
            self._tree_bytes = max(self._tree_bytes, sum(map(_resident_bytes, tree)))
            files = dict(_named_files(self._watch))
            for pid in tree:
                files.update(_open_files(pid, self._watch))
            self._allocated.append(files)

    def finish(self) -> None:
        self._done.set()
        self.join()

    def peak_memory(self, usage: resource.struct_rusage) -> int:
        high_water = usage.ru_maxrss * 1024
        return max(high_water, self._tree_bytes) if self._tree_size > 1 else high_water

    def peak_scratch(self, output: Path) -> int:
        own = {path.stat().st_ino for path in [output, *output.rglob("*")] if path.exists()}
        totals = (
            sum(size for inode, size in sample.items() if inode not in own)
            for sample in self._allocated
        )
        return max(totals, default=0)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


# Everything below reads what may vanish between two looks: a process or file that has gone is
# simply not counted any more.


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as children:
                for child in children.read().split():
                    yield from _tree(int(child))


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _named_files(directory: Path) -> Iterator[tuple[int, int]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(folder, name))
                yield found.st_ino, found.st_blocks * BLOCK_BYTES


def _open_files(pid: int, directory: Path) -> Iterator[tuple[int, int]]:
    inside = f"{directory}{os.sep}"
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{descriptor}"
            with contextlib.suppress(OSError):
                if os.readlink(link).startswith(inside):
                    found = os.stat(link)
                    if stat.S_ISREG(found.st_mode):
                        yield found.st_ino, found.st_blocks * BLOCK_BYTES
