"""Where scratch goes: beside the output, and never unasked into memory."""

from __future__ import annotations

import errno
import os
import stat

from corekit import _paths
from corekit.errors import file_error
from corekit.shuffle import _sets

_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
_SECOND_CHOICE = "/var/tmp"  # noqa: S108 -- a place to look at, no name is made in it here


def directory(scratch: object, output: bytes | int, *, pattern: bool = False) -> bytes | None:
    """Return the scratch directory of a call; None means that no scratch may be written.

    Beside the output is where the space for the output is needed anyway. A
    stream has no such place, and scratch for it goes to the temporary directory.
    When the output is a pattern, its files may lie in many directories, and scratch
    is put into the one that holds them all.
    """
    if isinstance(scratch, str) and scratch == "none":
        return None
    if scratch is not None:
        return _existing(_paths.encoded("scratch", scratch))
    if isinstance(output, int):
        return _temporary()
    if pattern:
        return os.path.realpath(_sets.folder(output))
    if _paths.is_stream(output):
        return _temporary()
    return os.path.dirname(os.path.realpath(output))


def _existing(path: bytes) -> bytes:
    """Return the absolute path of a directory that was asked for.

    Whether it is needed is known only later; that it is missing is an error now.
    """
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or "", path) from None
    if not is_directory:
        raise file_error(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return _paths.absolute(path)


def _temporary() -> bytes | None:
    """Return the temporary directory, or /var/tmp when the former is kept in memory.

    None when the system has neither; the run then does without scratch, or says
    that it cannot.
    """
    import tempfile  # only streams need it, and it is slow to import

    try:
        first = tempfile.gettempdir()
    except FileNotFoundError:
        return None
    if (
        _file_system(first) in _MEMORY_FILE_SYSTEMS
        and os.access(_SECOND_CHOICE, os.W_OK | os.X_OK)
        and _file_system(_SECOND_CHOICE) not in _MEMORY_FILE_SYSTEMS
    ):
        return os.fsencode(_SECOND_CHOICE)
    return os.fsencode(os.path.abspath(first))


def _file_system(path: str, mountinfo: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of the file system that holds `path`, None when not known.

    Python has no `statfs`, so the device number is looked up among the mounts.
    """
    try:
        device = os.stat(path).st_dev
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as mounts:
            lines = mounts.read().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        # id parent major:minor root mount-point options [tags...] - type source options
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return rest.split(" ")[0]
    return None
