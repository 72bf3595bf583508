"""A run under strace, which makes some of its system calls fail, or ends it in one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from faults.runs import Forked, Job

needs_strace = pytest.mark.skipif(which("strace") is None, reason="strace is not installed")


@contextmanager
def traced(job: Job, injection: str, *, on: Path | None = None) -> Iterator[Forked]:
    """A run whose system calls, or those on one file, strace tampers with from first to last."""
    ready, is_ready = os.pipe()

    def begin() -> None:
        # What the copy of the test's process does to become a run is not to be tampered with.
        os.write(is_ready, b".")
        os.close(is_ready)
        # The run waits for a signal, which makes no difference to any call that is counted.
        signal.sigwait({signal.SIGUSR1})

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    run = Forked(job, before=begin, keep={is_ready})
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(is_ready)
    with os.fdopen(ready, "rb") as file:
        assert file.read(1) == b"."
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-o", os.devnull, "-p", str(run.pid)),
            *("-e", f"trace={injection.partition(':')[0]}", "-e", f"inject={injection}"),
            *(() if on is None else ("-P", os.path.realpath(on))),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            run.kill()
            pytest.skip(f"strace cannot trace here: {said}")
        os.kill(run.pid, signal.SIGUSR1)
        yield run
    finally:
        run.kill()
        tracer.communicate(timeout=20)
