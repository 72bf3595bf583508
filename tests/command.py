"""Running the command line in a process of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
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


def on_a_terminal(*arguments: Word, cwd: os.PathLike[str] | None = None) -> tuple[int, bytes]:
    """Run it with a terminal for standard error; return the status and what was shown there."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))  # bars need a width
    with subprocess.Popen(words(*arguments), stderr=terminal, cwd=cwd) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:  # Linux reports a terminal that nobody holds as EIO
                break
            if not part:
                break
            shown += part
        status = process.wait(PATIENCE)
    os.close(controller)
    return status, shown


def error_lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the lines of standard error."""
    return done.stderr.decode("utf-8", "backslashreplace").splitlines()
