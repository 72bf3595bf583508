"""Arrays in ``.npy`` files, of which a row is a record.

The headers are read here, where NumPy is. The core gets the sizes, and the text around
the number of rows, with which it writes a header of its own on top of every output.
"""

from __future__ import annotations

import errno
import io
import math
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corekit._records import NEWLINE, Records
from corekit.errors import FileError, InputFormatError, InvalidArgumentError, file_error

# Half of the command's start would be spent on NumPy, which few inputs need.
if TYPE_CHECKING:
    import numpy as np

_MAGIC = b"\x93NUMPY"

# NumPy itself takes 10,000 characters unasked: what is longer may be slow to parse.
_LONGEST = 64 << 10


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
            return os.pread(value, len(_MAGIC), here) == _MAGIC
        with open(value, "rb", buffering=0) as file:
            return file.read(len(_MAGIC)) == _MAGIC
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
    version, data, size = _read(path)
    shape, is_fortran, dtype = _parsed(path, version, data)
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
    start = len(_MAGIC) + 2 + len(data)
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


def _read(path: bytes) -> tuple[int, bytes, int]:
    """Return a file's version, its header with the length in front, and its size."""
    try:
        # Before opening it: to open a FIFO is to wait for its writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _wrong(path, "is not a regular file, as a .npy input must be")
        with open(path, "rb") as file:
            magic = file.read(len(_MAGIC))
            version = tuple(file.read(2))
            if magic != _MAGIC:
                raise _wrong(path, "is not a .npy file: it does not begin as one")
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise _wrong(path, f"is of an unknown version of .npy files, {version}")
            layout = "<H" if version[0] == 1 else "<I"
            field = file.read(struct.calcsize(layout))
            if len(field) < struct.calcsize(layout):
                raise _wrong(path, "ends within its header")
            (length,) = struct.unpack(layout, field)
            if length > _LONGEST:
                raise _wrong(path, f"has a header of more than {_LONGEST} bytes")
            text = file.read(length)
            if len(text) < length:
                raise _wrong(path, "ends within its header")
            return version[0], field + text, os.fstat(file.fileno()).st_size
    except InputFormatError:
        raise
    except OSError as error:
        raise file_error(error.errno or 0, error.strerror or "", path) from None


def _parsed(path: bytes, version: int, data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the order is Fortran's, and the type."""
    from numpy.lib import format as npy

    try:
        if version == 1:
            return npy.read_array_header_1_0(io.BytesIO(data), max_header_size=_LONGEST)
        if version == 3:
            # NumPy has no public function for it. It is version 2 in UTF-8, and whatever
            # is not ASCII stands in a name, where an escape means the same.
            text = data[4:].decode("utf-8").encode("ascii", "backslashreplace")
            data = struct.pack("<I", len(text)) + text
        return npy.read_array_header_2_0(io.BytesIO(data), max_header_size=10 * _LONGEST)
    except Exception as error:  # noqa: BLE001 -- a damaged text makes NumPy raise nearly anything
        raise _wrong(path, f"has a header that NumPy cannot read: {error}") from None


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
    return InputFormatError(errno.EBADMSG, how, _name(value))
