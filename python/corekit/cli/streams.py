"""Standard input, output and error, used with the care a filter needs.

The core writes to descriptor 1 itself. Python's buffered `sys.stdout` is not used
at all: what it cannot flush at exit it reports when it is too late to say so.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from corekit.errors import file_error


def occupy_standard_descriptors() -> None:
    """Make sure that 0, 1 and 2 are open, so that no file gets one of these numbers.

    A process may be started with one of them closed, and then the next file opened
    would become "standard output". As GNU's tools do, each is opened the wrong way
    round: using it still fails, as it should.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number free, which is this one


def write(text: str) -> None:
    """Write text to standard output, all of it, or raise."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or "", "standard output") from None


def say(line: str) -> None:
    """Write a line to standard error, if anybody can see it."""
    if sys.stderr is None:
        return
    # A full device or a closed pipe there must not change what the run does.
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def is_watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def die_of_closed_pipe() -> int:
    """End the way a filter ends whose reader has gone: quietly, by SIGPIPE.

    Python ignores this signal and raises instead; the shell, and whoever looks
    at the exit status, expects the signal.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    return 128 + signal.SIGPIPE  # where the signal is blocked
