"""Errors are the builtins one expects, carry what one needs, and travel between processes."""

from __future__ import annotations

import copy
import errno
import os
import pickle

import pytest

from corekit import errors


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.InvalidArgumentError, ValueError),
        (errors.ArgumentTypeError, TypeError),
        (errors.MemoryLimitError, ValueError),
        (errors.OutOfMemoryError, MemoryError),
        (errors.IntegrityError, RuntimeError),
        (errors.InternalError, RuntimeError),
        (errors.MissingPackageError, ImportError),
        (errors.FileError, OSError),
        (errors.InputChangedError, OSError),
        (errors.InputFormatError, OSError),
        (errors.InputFormatError, ValueError),
    ],
)
def test_each_is_a_builtin_and_a_corekit_error(
    kind: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(kind, builtin)
    assert issubclass(kind, errors.CorekitError)
    error = kind("subject must be this, got that")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert str(other) == str(error)


@pytest.mark.parametrize(
    ("number", "builtin"),
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EACCES, PermissionError),
        (errno.EPERM, PermissionError),
        (errno.EISDIR, IsADirectoryError),
        (errno.ENOTDIR, NotADirectoryError),
        (errno.EPIPE, BrokenPipeError),
        (errno.ENOSPC, OSError),
    ],
)
def test_file_errors_have_number_reason_and_name(number: int, builtin: type[OSError]) -> None:
    error = errors.file_error(number, os.strerror(number), "some/file")
    assert isinstance(error, builtin)
    assert isinstance(error, errors.FileError)
    for other in (error, pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert other.errno == number
        assert other.strerror == os.strerror(number)
        assert other.filename == "some/file"
        assert str(other) == f"[Errno {number}] {os.strerror(number)}: 'some/file'"


def test_names_that_are_not_text_survive() -> None:
    error = errors.file_error(errno.ENOENT, "gone", b"\xff\xfe")
    assert os.fsencode(pickle.loads(pickle.dumps(error)).filename) == b"\xff\xfe"


def test_a_file_error_may_have_no_name() -> None:
    assert errors.file_error(errno.EIO, "I/O error").filename is None


@pytest.mark.parametrize(
    ("kind", "number", "how"),
    [
        (errors.InputChangedError, errno.ESTALE, "changed while it was read"),
        (errors.InputFormatError, errno.EBADMSG, "ends within its header"),
    ],
)
def test_what_is_wrong_with_an_input_is_a_file_error_with_a_name(
    kind: type[errors.FileError], number: int, how: str
) -> None:
    error = kind(number, how, "file")
    for other in (error, pickle.loads(pickle.dumps(error))):
        assert type(other) is kind
        assert (other.errno, other.strerror, other.filename) == (number, how, "file")
