"""Projecting a file that is larger than memory into another."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corekit import _checks, _memory, _progress, _replace, _size
from corekit.errors import (
    ArgumentTypeError,
    InputChangedError,
    InputFormatError,
    InvalidArgumentError,
    MemoryLimitError,
    file_error,
)
from corekit.projection import _arrays

# What a run takes beside its blocks of rows: the interpreter's own, and the kernels' tables
# and sums for each thread.
_BASE_BYTES = 16 << 20
_THREAD_BYTES = 8 << 20

# More rows at once make nothing faster, and cancelling slower.
_MOST_BLOCK_BYTES = 64 << 20

# What is projected to measure the rate.
_TRIAL_BYTES = 16 << 20

_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class Source:
    """A file that holds a matrix: where its elements begin, and how they lie."""

    path: str
    shape: tuple[int, int]
    dtype: str
    start: int
    by_columns: bool
    is_npy: bool

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return _stored(self.dtype).itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.shape[1] * self.itemsize


@dataclass(frozen=True)
class FilePlan:
    """How a file is projected: what is read and written, and in which blocks."""

    source: Source
    n_components: int
    block_rows: int
    memory_bytes: int

    @property
    def result_dtype(self) -> str:
        """The dtype of the output."""
        return _arrays.result_dtype(self.source.dtype)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output, its header included."""
        rows = self.source.shape[0]
        size = rows * self.n_components * _stored(self.result_dtype).itemsize
        return len(self.header()) + size

    def header(self) -> bytes:
        """Return what the output begins with."""
        if not self.source.is_npy:
            return b""
        return _npy_header((self.source.shape[0], self.n_components), self.result_dtype)


def plan(source: Source, n_components: int, memory_limit: object, threads: int) -> FilePlan:
    """Divide the rows so that two blocks of input and one of output fit the limit."""
    limit = _memory.limit(memory_limit)
    out_bytes = n_components * _stored(_arrays.result_dtype(source.dtype)).itemsize
    a_row = 2 * source.row_bytes + out_bytes
    fixed = _BASE_BYTES + threads * _THREAD_BYTES
    rows = (limit - fixed) // a_row
    if rows < 1:
        raise MemoryLimitError(
            f"memory_limit must be at least {_size.human(fixed + a_row)} "
            f"({fixed + a_row} bytes) for rows of {source.row_bytes} bytes and {threads} threads, "
            f"got {limit}"
        )
    rows = min(rows, max(1, _MOST_BLOCK_BYTES // max(source.row_bytes, out_bytes)))
    rows = max(1, min(rows, source.shape[0]))
    # Whole tiles of rows, where there is room for them.
    rows = rows // 32 * 32 or rows
    return FilePlan(source, n_components, rows, fixed + rows * a_row)


def open_source(
    path: str | os.PathLike[str], shape: Sequence[int] | None, dtype: npt.DTypeLike | str | None
) -> Source:
    """Read what the file says of itself, or take what the caller says of a raw one."""
    name = os.fspath(path)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str):
        raise _checks.wrong_type("src", "a path", path)
    try:
        status = os.stat(name)
        with open(name, "rb") as file:
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgumentError(f"src must be a regular file, got {name!r}")
            if shape is None:
                return _npy_source(name, file, dtype)
    except OSError as error:
        raise _file_error(error, name) from None
    source = Source(name, _raw_shape(shape), _raw_dtype(dtype), 0, by_columns=False, is_npy=False)
    _check_size(source, status.st_size)
    return source


def _npy_source(name: str, file: Any, dtype: object) -> Source:
    if dtype is not None:
        raise InvalidArgumentError(
            f"dtype must be given with shape, for a raw file, got {dtype!r} without"
        )
    if file.read(len(_MAGIC)) != _MAGIC:
        raise InputFormatError(_EBADMSG, "is no .npy file; a raw one needs shape and dtype", name)
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, by_columns, found = read(file)
    except ValueError as error:
        raise InputFormatError(_EBADMSG, f"has a damaged header: {error}", name) from None
    if len(shape) != 2:
        raise InvalidArgumentError(
            f"src must hold a matrix, of two dimensions, got {len(shape)} (shape {shape})"
        )
    if found.name not in _arrays.FLOATS + _arrays.INTEGERS or not found.isnative:
        raise ArgumentTypeError(
            f"src must hold floats or integers in the machine's byte order, got {found.str!r}"
        )
    source = Source(name, shape, found.name, file.tell(), by_columns=by_columns, is_npy=True)
    _check_size(source, os.fstat(file.fileno()).st_size)
    return source


# "Bad message": not what the format demands.
_EBADMSG = 74
# "Stale file handle": what one has is not what is there any more.
_ESTALE = 116


def _check_size(source: Source, size: int) -> None:
    needed = source.start + source.shape[0] * source.row_bytes
    if size < needed or (size != needed and not source.is_npy):
        raise InputFormatError(
            _EBADMSG, f"must have {needed} bytes for shape {source.shape}, got {size}", source.path
        )


def _raw_shape(shape: Sequence[int]) -> tuple[int, int]:
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 2:
        raise _checks.wrong_type("shape", "two ints, rows and columns", shape)
    rows, columns = (_checks.integer("shape", length, low=0, high=1 << 48) for length in shape)
    return rows, columns


def _raw_dtype(dtype: Any) -> str:
    if dtype is None:
        raise InvalidArgumentError("dtype must be given with shape, got None")
    if dtype == "bfloat16":
        return "bfloat16"
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise _checks.wrong_type("dtype", "a dtype", dtype) from None
    if found.name not in _arrays.FLOATS + _arrays.INTEGERS or not found.isnative:
        raise ArgumentTypeError(
            f"dtype must be of floats or integers in the machine's byte order, got {found.str!r}"
        )
    return found.name


def _stored(dtype: str) -> np.dtype[Any]:
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _npy_header(shape: tuple[int, int], dtype: str) -> bytes:
    import io

    text = io.BytesIO()
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(text, described)
    return text.getvalue()


def run(
    work: FilePlan,
    apply: Callable[[_arrays.Dense, _arrays.Dense], None],
    destination: str,
    progress: _progress.Progress,
) -> None:
    """Project block after block; the next is read meanwhile."""
    source = work.source
    rows = source.shape[0]
    total = rows * source.row_bytes
    out = np.empty((work.block_rows, work.n_components), _stored(work.result_dtype))
    header = work.header()
    with (
        _progress.reporting(progress) as tell,
        _replace.replacing(destination, work.output_bytes) as to,
    ):
        _write_all(to, header)
        for first, block in _blocks(source, work.block_rows):
            part = out[: len(block)]
            apply(
                _arrays.Dense(block, source.dtype, _as_is),
                _arrays.Dense(part, work.result_dtype, _as_is),
            )
            _write_all(to, part)
            if tell is not None:
                tell((first + len(block)) * source.row_bytes, total, "project")


def seconds(work: FilePlan, apply: Callable[[_arrays.Dense, _arrays.Dense], None]) -> float:
    """Estimate the time of a run from its first rows, read and projected once they are warm."""
    source = work.source
    rows = min(source.shape[0], max(1, _TRIAL_BYTES // source.row_bytes), work.block_rows)
    if rows == 0:
        return 0.0
    out = np.empty((rows, work.n_components), _stored(work.result_dtype))
    spent = 0.0
    for _ in range(2):
        began = time.perf_counter()
        _, block = next(_blocks(source, rows))
        into = _arrays.Dense(out, work.result_dtype, _as_is)
        apply(_arrays.Dense(block, source.dtype, _as_is), into)
        spent = time.perf_counter() - began
    return spent * source.shape[0] / rows


def _as_is(array: npt.NDArray[Any], _: str) -> npt.NDArray[Any]:
    return array


def _blocks(source: Source, block_rows: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield the first row and the values of each block, reading one ahead."""
    rows, columns = source.shape
    order = "F" if source.by_columns else "C"
    room = [np.empty((block_rows, columns), _stored(source.dtype), order=order) for _ in range(2)]
    try:
        file = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _file_error(error, source.path) from None
    try:
        before = os.fstat(file)
        with ThreadPoolExecutor(1, "corekit-read") as reader:
            starts = range(0, rows, block_rows)

            def read(number: int) -> npt.NDArray[Any]:
                first = starts[number]
                block = room[number % 2][: min(block_rows, rows - first)]
                _read_block(file, source, first, block)
                return block

            ahead = [reader.submit(read, 0)] if starts else []
            for number, first in enumerate(starts):
                block = ahead.pop().result()
                if number + 1 < len(starts):
                    ahead.append(reader.submit(read, number + 1))
                yield first, block
        after = os.fstat(file)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise InputChangedError(_ESTALE, "changed while it was being read", source.path)
    finally:
        os.close(file)


def _read_block(file: int, source: Source, first: int, block: npt.NDArray[Any]) -> None:
    """Read the rows from `first` on."""
    if not source.by_columns:
        _read_all(file, source, block, source.start + first * source.row_bytes)
        return
    for column in range(source.shape[1]):
        at = (column * source.shape[0] + first) * source.itemsize
        _read_all(file, source, block[:, column], source.start + at)


def _read_all(file: int, source: Source, values: npt.NDArray[Any], at: int) -> None:
    left = memoryview(values).cast("B")
    while left:
        try:
            got = os.preadv(file, [left], at)
        except OSError as error:
            raise _file_error(error, source.path) from None
        if got == 0:
            raise InputChangedError(_ESTALE, "became shorter while it was being read", source.path)
        left, at = left[got:], at + got


def _write_all(to: int, values: bytes | npt.NDArray[Any]) -> None:
    left = memoryview(values).cast("B") if len(values) else memoryview(b"")
    while left:
        left = left[os.write(to, left) :]


def _file_error(error: OSError, path: str) -> OSError:
    if type(error).__module__.startswith("corekit"):
        return error
    return file_error(error.errno or 0, error.strerror or "", path)


def destination_of(dst: str | os.PathLike[str]) -> str:
    """Return the destination as a str."""
    try:
        name = os.fspath(dst)
    except TypeError:
        raise _checks.wrong_type("dst", "a path", dst) from None
    return os.fsdecode(name)
