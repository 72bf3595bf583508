"""Running the command line in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

Word: TypeAlias = str | bytes | os.PathLike[str]

# Long enough for any machine: it guards against hangs and measures nothing.
PATIENCE = 60


def words(*arguments: Word) -> list[Word]:
    """Return the argument list of ``corekit ARGUMENT...``."""
    return [sys.executable, "-m", "corekit", *arguments]


def run(
    *arguments: Word,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: os.PathLike[str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run ``corekit ARGUMENT...`` to its end and return what it said."""
    return subprocess.run(
        words(*arguments),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        check=False,
    )


def start(*arguments: Word, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``corekit ARGUMENT...`` with pipes all around, unless told otherwise."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        words(*arguments),
        # A test run in the background of a shell is deaf to Ctrl-C, and its
        # children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **{**pipes, **options},
    )


def error_lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the lines of standard error."""
    return done.stderr.decode("utf-8", "backslashreplace").splitlines()
