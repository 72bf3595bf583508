"""The exceptions of corekit.

Every error is a `CorekitError` and also the builtin that a caller would
expect, so that ``except ValueError`` and ``except FileNotFoundError`` work as
they do everywhere else. The classes differ by what the caller can do about
them. They live in Python because a class made in Rust can have one base only;
the core imports them once and raises them by name.

All of them survive pickling, so they cross process pools unharmed.
"""

from __future__ import annotations

import errno as _errno
import os

__all__ = [
    "ArgumentTypeError",
    "ClosedPipeError",
    "CorekitError",
    "ExistingFileError",
    "FileError",
    "InputChangedError",
    "InputFormatError",
    "IntegrityError",
    "InternalError",
    "InvalidArgumentError",
    "IsDirectoryError",
    "MemoryLimitError",
    "MissingFileError",
    "MissingPackageError",
    "NotDirectoryError",
    "OutOfMemoryError",
    "PermissionDeniedError",
    "file_error",
]


class CorekitError(Exception):
    """Base of every error that corekit raises on purpose."""


class InvalidArgumentError(CorekitError, ValueError):
    """An argument has a good type and a value that cannot be used."""


class ArgumentTypeError(CorekitError, TypeError):
    """An argument has a type that is not accepted."""


class MemoryLimitError(CorekitError, ValueError):
    """The memory limit is too small; the message says the smallest that works, if known."""


class OutOfMemoryError(CorekitError, MemoryError):
    """The system refused memory or a thread; or a state of attention is too large to keep."""


class IntegrityError(CorekitError, RuntimeError):
    """What was written is not what was read; nothing was published."""


class InternalError(CorekitError, RuntimeError):
    """A bug in corekit; please report it."""


class MissingPackageError(CorekitError, ImportError):
    """An optional package is not installed, or too old; the message says how to get it."""


class FileError(CorekitError, OSError):
    """The system refused an operation on a file: `errno`, `strerror`, `filename`."""


class InputChangedError(FileError):
    """An input changed while it was being read."""


class InputFormatError(FileError, ValueError):
    """An input is not what its format demands: corrupt, truncated, of another kind."""


class MissingFileError(FileError, FileNotFoundError):
    """A file or a directory does not exist."""


class ExistingFileError(FileError, FileExistsError):
    """A file is where none may be."""


class PermissionDeniedError(FileError, PermissionError):
    """The system does not permit the operation."""


class IsDirectoryError(FileError, IsADirectoryError):
    """A directory is where a file is needed."""


class NotDirectoryError(FileError, NotADirectoryError):
    """A file is where a directory is needed."""


class ClosedPipeError(FileError, BrokenPipeError):
    """Nobody reads the other end of the pipe any more."""


_BY_ERRNO: dict[int, type[FileError]] = {
    _errno.EEXIST: ExistingFileError,
    _errno.ENOENT: MissingFileError,
    _errno.EACCES: PermissionDeniedError,
    _errno.EPERM: PermissionDeniedError,
    _errno.EISDIR: IsDirectoryError,
    _errno.ENOTDIR: NotDirectoryError,
    _errno.EPIPE: ClosedPipeError,
}


def file_error(errno: int, strerror: str, filename: str | bytes | None = None) -> FileError:
    """Make the `FileError` for an errno, of the class that also is the matching builtin.

    Parameters
    ----------
    errno
        The system's error number.
    strerror
        What went wrong, without the number and the name.
    filename
        The file concerned. Bytes are decoded as `os.fsdecode` does, so that no
        name is lost.

    Returns
    -------
    FileError
        The error, to be raised by the caller.
    """
    name = os.fsdecode(filename) if filename is not None else None
    return _BY_ERRNO.get(errno, FileError)(errno, strerror, name)
