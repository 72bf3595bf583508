"""For all rooms: running one of their programs in a process of its own, and what a process has."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

TESTS = str(Path(__file__).parent)
# Guards against hangs and measures nothing.
PATIENCE = 100


def run(program: str, *arguments: str, **variables: str | None) -> str:
    """Run a program to its end, which must be a good one, and return what it printed.

    Environment variables that are None are unset.
    """
    path = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    done = subprocess.run(
        [sys.executable, program, *arguments],
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def threads_beside_pool() -> int:
    """Return how many threads this process has, but for those that stay for the next call."""
    names = []
    for comm in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has just ended
            names.append(comm.read_text().strip())
    return sum(name != "corekit-pool" for name in names)
