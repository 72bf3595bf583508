"""Write a file beside its destination and put it there in one step.

A destination holds its old bytes or the complete new ones, never anything else. The
unfinished file has no name where the system allows that, so that even a kill leaves
nothing behind. Devices and pipes are written to, never replaced.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from corekit.errors import file_error

_UNNAMED_UNKNOWN = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)


@contextmanager
def replacing(path: str, size: int) -> Iterator[int]:
    """Give a descriptor to write `size` bytes to; what was written is published in the end.

    Nothing is when the block raises.

    Parameters
    ----------
    path
        The destination; a symbolic link is followed.
    size
        Bytes that will be written: the room for them is asked for at once.

    Raises
    ------
    FileError
        The system refuses the file, or has no room for it.
    """
    target = os.path.realpath(path)
    try:
        found = os.stat(target)
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise _named(error, path) from None
    with _errors_named(path):
        if found is not None and not stat.S_ISREG(found.st_mode):
            descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
            return
        with _beside(target, size, found) as descriptor:
            yield descriptor


@contextmanager
def _beside(target: str, size: int, found: os.stat_result | None) -> Iterator[int]:
    directory = os.path.dirname(target)
    temporary = os.path.join(directory, f".{os.path.basename(target)[:200]}.{os.getpid()}.part")
    descriptor, is_named = _create(directory, temporary)
    try:
        if size > 0:
            with suppress_unsupported():
                os.posix_fallocate(descriptor, 0, size)
        yield descriptor
        if found is not None:
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
        os.fsync(descriptor)
        if not is_named:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            # With a directory given, though the path needs none, links are followed.
            os.link(f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=descriptor)
            is_named = True
        os.replace(temporary, target)
        is_named = False
        _sync_directory(directory)
    finally:
        if is_named:
            with suppress(OSError):
                os.unlink(temporary)
        os.close(descriptor)


def _create(directory: str, temporary: str) -> tuple[int, bool]:
    """Open a new file without a name, or else one with a name that nobody else has."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(directory, flags | os.O_TMPFILE, 0o666), False
    except OSError as error:
        if error.errno not in _UNNAMED_UNKNOWN or not os.path.isdir(directory):
            raise
    return os.open(temporary, flags | os.O_CREAT | os.O_TRUNC, 0o666), True


@contextmanager
def suppress_unsupported() -> Iterator[None]:
    """Pass over what a file system does not offer; a full disk is an error."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress_unsupported():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors_named(path: str) -> Iterator[None]:
    """Let the system's refusals of the destination name what the caller named."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Exception) and type(error).__module__.startswith("corekit"):
            raise
        raise _named(error, path) from None


def _named(error: OSError, path: str) -> OSError:
    return file_error(error.errno or 0, error.strerror or "", path)
