"""Arrays in ``.npy`` files, of which a row is a record.

The headers are read here, where NumPy is. The core gets the sizes, and the text around
the number of rows, with which it writes a header of its own on top of every output.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corekit import _npy
from corekit.errors import FileError, InputFormatError, InvalidArgumentError, file_error
from corekit.shuffle._records import NEWLINE, Records

# Half of the command's start would be spent on NumPy, which few inputs need.
if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the inputs have in common, and where the rows of each begin."""

    record_bytes: int
    starts: list[int]
    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """One file's header: the kind of its rows, and where they begin."""

    kind: str
    record_bytes: int
    start: int
    before: bytes
    after: bytes


def rows(inputs: Sequence[bytes | int], records: Records) -> Rows | None:
    """Return the rows of the inputs when these are arrays, else None."""
    if records.input_format == "auto":
        if not _are_arrays(inputs):
            return None
    elif records.input_format != "npy":
        return None
    _check_options(records)
    paths = [_named(number, value) for number, value in enumerate(inputs)]
    headers = [_header(path) for path in paths]
    first = headers[0]
    for path, header in zip(paths, headers, strict=True):
        # The text is what every output begins with, so it is what must fit all of them.
        if (header.before, header.after) != (first.before, first.after):
            other = os.fsdecode(paths[0])
            raise _wrong(path, f"has rows of {header.kind}, but {other} has rows of {first.kind}")
    return Rows(
        record_bytes=first.record_bytes,
        starts=[header.start for header in headers],
        before=first.before,
        after=first.after,
    )


def _are_arrays(inputs: Sequence[bytes | int]) -> bool:
    """Whether the inputs tell that they are arrays; some of them alone may not be."""
    arrays: list[bytes | int] = []
    others: list[bytes | int] = []
    failures: list[FileError] = []
    for value in inputs:
        try:
            (arrays if _begins_like_one(value) else others).append(value)
        except FileError as error:
            failures.append(error)
    if not arrays:
        return False  # and what cannot be read is reported by the core
    if failures:
        raise failures[0]
    if others:
        raise _wrong(others[0], f"is no .npy file, but {_name(arrays[0])} is one: mixed kinds")
    for value in arrays:
        if isinstance(value, int):
            how = "is a .npy file: give its name, or the input format raw"
            raise _wrong(value, how)
    return True


def _begins_like_one(value: bytes | int) -> bool:
    """Whether a regular file begins as a ``.npy`` file; of others nothing is consumed."""
    try:
        if not stat.S_ISREG(os.stat(value).st_mode):
            return False
        if isinstance(value, int):
            here = os.lseek(value, 0, os.SEEK_CUR)
            return os.pread(value, len(_npy.MAGIC), here) == _npy.MAGIC
        with open(value, "rb", buffering=0) as file:
            return file.read(len(_npy.MAGIC)) == _npy.MAGIC
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or "", _name(value)) from None


def _check_options(records: Records) -> None:
    """Refuse what says otherwise where records end."""
    for name, is_given in (
        ("header", records.header > 0),
        ("record_bytes", records.record_bytes is not None),
        ("delimiter", records.delimiter != NEWLINE),
    ):
        if is_given:
            raise InvalidArgumentError(
                f"{name} must not be given for .npy files, whose records are rows, got it "
                f"with input_format={records.input_format!r}"
            )


def _named(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise InvalidArgumentError(
            f"inputs[{number}] must be the path of a regular file when input_format is 'npy', "
            "got a stream"
        )
    return value


def _header(path: bytes) -> _Header:
    """Read and check one file's header."""
    version, data, size = _npy.read(path)
    shape, is_fortran, dtype = _npy.parsed(path, version, data)
    if dtype.hasobject:
        raise _wrong(path, "holds Python objects, which only a pickle can")
    if dtype.subdtype is not None:
        raise _wrong(path, f"has elements that are arrays themselves, {dtype}")
    if not shape:
        raise _wrong(path, "holds a single value, which has no rows")
    if any(length < 0 for length in shape):
        raise _wrong(path, f"has an impossible shape, {shape}")
    if is_fortran and len(shape) > 1:
        raise _wrong(path, "is in Fortran order: its rows do not lie one after another")
    record_bytes = dtype.itemsize * math.prod(shape[1:])
    if record_bytes == 0:
        raise _wrong(path, f"has rows of zero bytes, {_kind(dtype, shape)}")
    start = len(_npy.MAGIC) + 2 + len(data)
    if size - start != shape[0] * record_bytes:
        raise _wrong(
            path,
            f"has {size - start} bytes of data, but its header says {shape[0]} rows "
            f"of {record_bytes} bytes",
        )
    before, after = _text(dtype, shape)
    return _Header(
        kind=_kind(dtype, shape),
        record_bytes=record_bytes,
        start=start,
        before=before,
        after=after,
    )


def _text(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Return the header's text before the number of rows, and behind it, as NumPy writes it."""
    from numpy.lib import format as npy

    # Escapes keep a name that is not Latin-1 within the versions that all readers know.
    descr = ascii(npy.dtype_to_descr(dtype))
    rest = ", ".join(map(str, shape[1:]))
    return (
        f"{{'descr': {descr}, 'fortran_order': False, 'shape': (".encode("ascii"),
        f",{' ' * bool(rest)}{rest}), }}".encode("ascii"),
    )


def _kind(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{dtype}, shape {shape[1:]}"


def _name(value: bytes | int) -> str:
    """Return an input's name as the core would say it."""
    if isinstance(value, int):
        return "standard input" if value == 0 else f"/dev/fd/{value}"
    return os.fsdecode(value)


def _wrong(value: bytes | int, how: str) -> InputFormatError:
    return _npy.wrong(_name(value), how)
