"""Write a file beside its destination and put it there in one step.

A destination holds its old bytes or the complete new ones, never anything else. This is the
way of the core's `destination.rs`, for what is written from Python: the new file has no name
where the system allows that, is flushed, linked under a sibling's name, renamed over the old
one, and the directory is flushed. What a kill can leave is the sibling (`.NAME.corekit-*`). It
is locked while its run lives, so that the next run to the same destination, a shuffle's as
well, can tell and remove it.

Devices, pipes and descriptors are written to, never replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from corekit import _paths
from corekit.errors import FileError, file_error

# Bytes of one system call: in it no Ctrl-C is heard.
_AT_ONCE = 8 << 20

_LONGEST_NAME = 255
_RANDOM_BYTES = 8

# What says that a file system does not offer something.
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


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
    with _errors_named(path):
        target = _paths.output("path", path)
        old = _status(target) if isinstance(target, bytes) else None
    if isinstance(target, int):
        yield target
    elif old is None or stat.S_ISREG(old.st_mode):
        with _beside(path, os.path.realpath(target), size, old) as descriptor:
            yield descriptor
    else:
        with _errors_named(path):
            descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def write(descriptor: int, path: str, values: bytes | memoryview) -> None:
    """Write all of `values` to what `replacing` gave for `path`.

    Raises
    ------
    FileError
        The system refuses it, or nobody reads the pipe.
    """
    left = memoryview(values).cast("B")
    with _errors_named(path):
        while left:
            try:
                left = left[os.write(descriptor, left[:_AT_ONCE]) :]
            except BlockingIOError:
                # The descriptor is somebody else's, who does not want to wait; this run does.
                waiting = select.poll()
                waiting.register(descriptor, select.POLLOUT)
                waiting.poll()


def flush(descriptor: int, path: str) -> None:
    """Send to the disk what was written so far."""
    with _errors_named(path), _offered():
        os.fdatasync(descriptor)


@contextmanager
def _beside(path: str, target: bytes, size: int, old: os.stat_result | None) -> Iterator[int]:
    directory, name = os.path.split(target)
    prefix = b".%b.corekit-" % name[: _LONGEST_NAME - len("..corekit-") - 2 * _RANDOM_BYTES]
    # Chosen before there is such a file, so that there is no moment at which it could be left.
    sibling = os.path.join(directory, prefix + os.urandom(_RANDOM_BYTES).hex().encode())
    descriptor = -1
    try:
        with _errors_named(path):
            # What could not be written to in place is not replaced behind its permissions.
            if old is not None and not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            _sweep(directory, prefix)
            descriptor, is_named = _create(directory, sibling)
            _reserve(descriptor, size)
        yield descriptor
        with _errors_named(path):
            if old is not None:
                os.fchmod(descriptor, _keep_owner(descriptor, old))
            os.fsync(descriptor)
            _publish(descriptor, directory, sibling, target, is_named=is_named)
    finally:
        # Where it was renamed, or had no name, there is none.
        with suppress(OSError):
            os.unlink(sibling)
        if descriptor >= 0:
            os.close(descriptor)


def _status(target: bytes) -> os.stat_result | None:
    try:
        return os.stat(target)
    except FileNotFoundError:
        return None


def _create(directory: bytes, sibling: bytes) -> tuple[int, bool]:
    """Open and lock a new file; say whether it has the sibling's name, or none yet."""
    flags = os.O_RDWR | os.O_CLOEXEC
    is_named = False
    while True:
        try:
            # Without /proc an unnamed file could never be given its name.
            if not os.path.exists("/proc/self/fd"):
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            descriptor = os.open(directory, flags | os.O_TMPFILE, 0o666)
        except OSError as error:
            # A kernel that does not know the flag sees a directory that is to be written.
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
            is_named = True
            descriptor = os.open(sibling, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        _lock(descriptor)
        # Another run may have taken it for a dead one's in the moment before the lock.
        if not is_named or os.fstat(descriptor).st_nlink > 0:
            return descriptor, is_named
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a new file; without locks, on some network file systems, all are as if locked.

    Who holds it takes it for a dead run's, and is about to remove it: that is waited for, lest the
    name be still taken when the file is made anew.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sweep(directory: bytes, prefix: bytes) -> None:
    """Remove what dead runs to this destination left; what cannot be removed stays."""
    with suppress(OSError):
        for name in os.listdir(directory):
            if not re.fullmatch(re.escape(prefix) + rb"[0-9a-fA-F]{16}", name):
                continue
            with suppress(OSError):
                _remove_if_dead(os.path.join(directory, name))


def _remove_if_dead(path: bytes) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, size: int) -> None:
    if size >= 1 << 63:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    if size > 0:
        with _offered():
            os.posix_fallocate(descriptor, 0, size)


def _keep_owner(descriptor: int, old: os.stat_result) -> int:
    """Give the file its predecessor's owner and group as far as that is allowed.

    Return its mode, without rights that would now be somebody else's.
    """
    mode = stat.S_IMODE(old.st_mode)
    with suppress(OSError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
        return mode
    mode &= ~(stat.S_ISUID | stat.S_ISGID)
    with suppress(OSError):
        os.fchown(descriptor, -1, old.st_gid)
        return mode
    return mode & ~stat.S_IRWXG


def _publish(
    descriptor: int, directory: bytes, sibling: bytes, target: bytes, *, is_named: bool
) -> None:
    # Opened now: after the rename there is no way back.
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not is_named:
            # With a descriptor given, which the path does not need, links are followed.
            os.link(f"/proc/self/fd/{descriptor}", sibling, src_dir_fd=parent)
        os.replace(sibling, target)
        with _offered():
            os.fsync(parent)
    finally:
        os.close(parent)


@contextmanager
def _offered() -> Iterator[None]:
    """Pass over what a file system does not offer; a full disk is an error."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


@contextmanager
def _errors_named(path: str) -> Iterator[None]:
    """Let the system's refusals name what the caller named."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or "", path) from None
