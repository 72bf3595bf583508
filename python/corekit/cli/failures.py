"""From an exception to the one line ``corekit: SUBJECT: reason``."""

from __future__ import annotations

import os

from corekit.errors import (
    CorekitError,
    IntegrityError,
    InternalError,
    MemoryLimitError,
    OutOfMemoryError,
)

# What a run may end with. Anything else is a bug and shows its traceback.
EXPECTED: tuple[type[Exception], ...] = (CorekitError, OSError, MemoryError)

_SUBJECTS: dict[type[Exception], str] = {
    MemoryLimitError: "memory limit",
    OutOfMemoryError: "memory",
    MemoryError: "memory",
    IntegrityError: "integrity",
    InternalError: "internal error",
}


def line(error: Exception) -> str:
    """Return the line for an error; always one, whatever a file name holds."""
    if isinstance(error, OSError) and error.strerror:
        subject = "system" if error.filename is None else os.fsdecode(error.filename)
        reason = error.strerror
    else:
        subject = next((name for kind, name in _SUBJECTS.items() if isinstance(error, kind)), "")
        subject = subject or "arguments"
        reason = str(error) or type(error).__name__
    return f"corekit: {visible(subject)}: {visible(reason)}"


def visible(text: str) -> str:
    r"""Write what cannot be shown on a line as escapes: ``\n``, ``\xff``."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
