"""Paths and descriptors as the core takes them: bytes for a path, an int for a descriptor."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import TypeAlias

from corekit import _checks
from corekit.errors import InvalidArgumentError, file_error

Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# More symbolic links than the kernel itself follows.
_MOST_LINKS = 40


class Descriptor(int):
    """An open file descriptor, where a path is expected.

    The command line needs it for standard input and output. A type of its own,
    so that a plain int among the paths of a public call stays an error.
    """

    __slots__ = ()


Input: TypeAlias = Path | Descriptor


def encoded(name: str, value: object) -> bytes:
    """Return a path as the bytes that the system knows it by."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise _checks.wrong_type(name, "a path (str, bytes or os.PathLike)", value)
    try:
        raw = os.fsencode(value)
    except UnicodeEncodeError:
        problem = "must be a path that the file system's encoding can write"
        raise InvalidArgumentError(f"{name} {problem}, {_checks.given(value)}") from None
    if not raw:
        raise InvalidArgumentError(f"{name} must be a path, got an empty one")
    if b"\0" in raw:
        raise InvalidArgumentError(f"{name} must be a path without NUL bytes, got {raw!r}")
    return raw


def inputs(value: object) -> list[bytes | int]:
    """Return the inputs of a call, in the order given: input j is the j-th of them."""
    if isinstance(value, (str, bytes, os.PathLike, Descriptor)):
        return [_input("inputs", value)]
    # Not every iterable: sets and directory walks have no order to rely on, and
    # iterating over an open file would take its lines for paths.
    if not isinstance(value, Sequence):
        raise _checks.wrong_type("inputs", "a path or a sequence of paths", value)
    items = [_input(f"inputs[{index}]", item) for index, item in enumerate(value)]
    if not items:
        raise InvalidArgumentError("inputs must hold at least one path, got none")
    return items


def _input(name: str, value: object) -> bytes | int:
    return int(value) if isinstance(value, Descriptor) else encoded(name, value)


def pairs(
    inputs_value: object, outputs_value: object
) -> tuple[list[bytes | int], list[bytes | int]]:
    """Return the inputs of an aligned shuffle and, for each of them, its output."""
    sources = inputs(_sequence("inputs", inputs_value))
    destinations = [
        output(f"outputs[{number}]", item)
        for number, item in enumerate(_sequence("outputs", outputs_value))
    ]
    if len(destinations) != len(sources):
        needed = f"as many as inputs, {len(sources)}"
        raise InvalidArgumentError(f"outputs must be {needed}, got {len(destinations)}")
    seen: dict[bytes | int, int] = {}
    for number, destination in enumerate(destinations):
        if isinstance(destination, bytes):
            if is_stream(destination):
                continue  # /dev/null takes everybody's
            destination = os.path.realpath(destination)
        earlier = seen.setdefault(destination, number)
        if earlier != number:
            needed = f"another file than outputs[{earlier}]"
            raise InvalidArgumentError(f"outputs[{number}] must be {needed}, got the same")
    return sources, destinations


def _sequence(name: str, value: object) -> Sequence[object]:
    # A lone path is a sequence too, of characters.
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _checks.wrong_type(name, "a sequence of paths", value)
    return value


def output(name: str, value: object) -> bytes | int:
    """Return the destination: a descriptor to be streamed to, or an absolute path."""
    if isinstance(value, Descriptor):
        return int(value)
    raw = encoded(name, value)
    if raw.endswith(b"/"):
        raise file_error(errno.EISDIR, os.strerror(errno.EISDIR), raw)
    path = absolute(raw)
    number = _descriptor(path)
    return path if number is None else number


def is_stream(path: bytes) -> bool:
    """Whether a destination exists and is a device, a FIFO or a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def absolute(path: bytes) -> bytes:
    """Make a path absolute and leave the rest of it alone.

    `os.path.abspath` would also drop ``..`` by its text, which names another
    file when the part before it is a symbolic link.
    """
    return path if path.startswith(b"/") else os.path.join(os.getcwdb(), path)


def _descriptor(path: bytes) -> int | None:
    """Return N if the path is a name of this process's descriptor N.

    ``/dev/stdout``, ``/dev/fd/1``, ``/proc/self/fd/1`` and links to them are
    streamed to through the descriptor: opening such a name again would start at
    offset 0 and overwrite what the shell's ``>>`` or an earlier command wrote.
    """
    own = b"/proc/%d/fd" % os.getpid()
    for _ in range(_MOST_LINKS):
        parent, name = os.path.split(path)
        parent = os.path.realpath(parent)
        if parent == own and name.isdigit():
            return int(name)
        path = os.path.join(parent, name)
        try:
            target = os.readlink(path)
        except OSError:
            return None
        path = os.path.join(parent, target)
    return None
