"""Projecting a file that is larger than memory into another."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from corekit import _checks, _memory, _npy, _paths, _progress, _replace, _size
from corekit.errors import (
    ArgumentTypeError,
    FileError,
    InputChangedError,
    InputFormatError,
    InvalidArgumentError,
    MemoryLimitError,
    OutOfMemoryError,
    file_error,
)
from corekit.projection import _arrays

if TYPE_CHECKING:
    from corekit.projection import SparseProjection

# What a run takes beside its blocks of rows and what the kernels take: the pages of code and of
# the interpreter that it is the first to use.
_BASE_BYTES = 8 << 20

# A block that stays in the caches is projected fastest, but every block draws the matrix
# anew. Where columns lie one after another, more rows are longer pieces to read.
_BLOCK_BYTES = 4 << 20
_BLOCK_BYTES_BY_COLUMNS = 256 << 20
_BLOCK_ROWS = 128

# Bytes of one system call: in it nothing is cancelled.
_AT_ONCE = 8 << 20

# Few dirty bytes at any time: the last flush, and so Ctrl-C, is quick.
_UNSYNCED_BYTES = 32 << 20

# Seconds between two calls of a progress function.
_PAUSE = 0.05

# How long the rate is measured, and on how many bytes of rows and results at a time.
_TRIAL_SECONDS = 0.3
_TRIAL_BYTES = 256 << 20

# What numpy.save writes for bfloat16: two bytes without a name.
_BFLOAT16 = "<V2"


@dataclass(frozen=True)
class Source:
    """A file that holds a matrix: where its elements begin, and how they lie."""

    path: str
    shape: tuple[int, int]
    dtype: str
    start: int
    by_columns: bool
    is_npy: bool
    stamp: tuple[int, ...]

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
    threads: int
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


def plan(
    source: Source, projection: SparseProjection, memory_limit: object, threads: int
) -> FilePlan:
    """Divide the rows so that two blocks of input and one of output fit the limit.

    Where memory is short, threads are given up before rows.
    """
    limit = _memory.limit(memory_limit)
    n_components = projection.n_components
    out_bytes = n_components * _stored(_arrays.result_dtype(source.dtype)).itemsize
    a_row = 2 * source.row_bytes + out_bytes
    once, each = projection._kernel_bytes(source.dtype)
    base = _BASE_BYTES + once
    least = base + each + a_row
    if limit < least:
        raise MemoryLimitError(
            f"memory_limit must be at least {_size.human(least)} ({least} bytes) for rows of "
            f"{source.row_bytes} bytes, {out_bytes} when projected, got {limit}"
        )
    wanted = max(a_row, min(_BLOCK_ROWS * a_row, (limit - base) // 2))
    threads = min(threads, max(1, (limit - base - wanted) // each))
    fixed = base + threads * each
    rows = (limit - fixed) // a_row
    block = _BLOCK_BYTES_BY_COLUMNS if source.by_columns else _BLOCK_BYTES
    rows = min(rows, max(_BLOCK_ROWS, block // max(source.row_bytes, out_bytes)))
    rows = max(1, min(rows, source.shape[0]))
    # Whole tiles of rows, where there is room for them.
    rows = rows // 32 * 32 or rows
    return FilePlan(source, n_components, rows, threads, fixed + rows * a_row)


def open_source(
    path: str | os.PathLike[str], shape: Sequence[int] | None, dtype: npt.DTypeLike | str | None
) -> Source:
    """Read what the file says of itself, or take what the caller says of a raw one."""
    raw = _paths.encoded("src", path)
    name = os.fsdecode(raw)
    if shape is None and dtype is not None and _raw_dtype(dtype) != "bfloat16":
        raise InvalidArgumentError(
            f"dtype must be given with shape, for a raw file, got {dtype!r} without"
        )
    try:
        status = os.stat(raw)
    except OSError as error:
        raise _file_error(error, name) from None
    # Before opening it: to open a FIFO is to wait for its writer.
    if stat.S_ISDIR(status.st_mode):
        raise file_error(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(status.st_mode):
        raise InputFormatError(errno.EBADMSG, "must be a regular file, got a stream", name)
    stamp = _stamp(status)
    if shape is None:
        source = _npy_source(raw, stamp, is_bfloat16=dtype is not None)
    else:
        source = Source(
            name,
            _raw_shape(shape),
            _raw_dtype(dtype),
            0,
            by_columns=False,
            is_npy=False,
            stamp=stamp,
        )
    if source.shape[1] == 0:
        raise InvalidArgumentError(f"{name} must have columns, got none (shape {source.shape})")
    needed = source.start + source.shape[0] * source.row_bytes
    if status.st_size < needed or (status.st_size != needed and not source.is_npy):
        raise InputFormatError(
            errno.EBADMSG,
            f"must have {needed} bytes for {source.dtype} of shape {source.shape}, "
            f"got {status.st_size}",
            name,
        )
    return source


def _npy_source(path: bytes, stamp: tuple[int, ...], *, is_bfloat16: bool) -> Source:
    version, data, _ = _npy.read(path)
    shape, by_columns, dtype = _npy.parsed(path, version, data)
    name = os.fsdecode(path)
    if len(shape) != 2:
        raise InvalidArgumentError(
            f"{name} must hold a matrix, of two dimensions, got {len(shape)} (shape {shape})"
        )
    if min(shape) < 0:
        raise InputFormatError(errno.EBADMSG, f"has an impossible shape, {shape}", name)
    if is_bfloat16:
        # NumPy forgets the byte order of two bytes without a name.
        if dtype.str != "|V2" or b">V2" in data:
            found = ">V2" if dtype.str == "|V2" else dtype.str
            raise ArgumentTypeError(
                f"{name} must hold bfloat16 as numpy.save writes it, {_BFLOAT16!r}, got {found!r}"
            )
        held = "bfloat16"
    elif dtype.name in _arrays.FLOATS + _arrays.INTEGERS and dtype.isnative:
        held = dtype.name
    else:
        raise ArgumentTypeError(
            f"{name} must hold floats or integers in the machine's byte order, or bfloat16 with "
            f"dtype 'bfloat16', got {dtype.str!r}"
        )
    start = len(np.lib.format.magic(1, 0)) + len(data)
    return Source(name, shape, held, start, by_columns=by_columns, is_npy=True, stamp=stamp)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells whether a file is still the same."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _raw_shape(shape: object) -> tuple[int, int]:
    if not isinstance(shape, Sequence) or isinstance(shape, (str, bytes)):
        raise _checks.wrong_type("shape", "two ints, rows and columns", shape)
    if len(shape) != 2:
        raise InvalidArgumentError(f"shape must be two ints, rows and columns, got {shape!r}")
    rows, columns = (_checks.integer("shape", length, low=0, high=1 << 48) for length in shape)
    return rows, columns


def _raw_dtype(dtype: Any) -> str:
    if dtype is None:
        raise InvalidArgumentError("dtype must be given with shape, got None")
    if isinstance(dtype, str) and dtype == "bfloat16":
        return "bfloat16"
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise _checks.wrong_type("dtype", "a dtype", dtype) from None
    if found.name not in _arrays.FLOATS + _arrays.INTEGERS or not found.isnative:
        raise ArgumentTypeError(
            f"dtype must be of floats or integers in the machine's byte order, got {found.str!r}"
        )
    return str(found.name)


def _stored(dtype: str) -> np.dtype[Any]:
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _npy_header(shape: tuple[int, int], dtype: str) -> bytes:
    import io

    text = io.BytesIO()
    descr = _BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype).str
    described = {"descr": descr, "fortran_order": False, "shape": shape}
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
    total = source.shape[0] * source.row_bytes
    unsynced = 0
    told_at = -_PAUSE
    with (
        _progress.reporting(progress) as tell,
        _replace.replacing(destination, work.output_bytes) as to,
        closing(_blocks(source, work.block_rows)) as blocks,
    ):
        out = _room((work.block_rows, work.n_components), work.result_dtype)
        _replace.write(to, destination, work.header())
        for first, block in blocks:
            part = out[: len(block)]
            apply(_dense(block, source.dtype), _dense(part, work.result_dtype))
            _replace.write(to, destination, part.data)
            unsynced += part.nbytes
            if unsynced >= _UNSYNCED_BYTES:
                _replace.flush(to, destination)
                unsynced = 0
            done = (first + len(block)) * source.row_bytes
            now = time.monotonic()
            if tell is not None and (now - told_at >= _PAUSE or done == total):
                told_at = now
                tell(done, total, "project")


def seconds(work: FilePlan, apply: Callable[[_arrays.Dense, _arrays.Dense], None]) -> float:
    """Estimate the time of a run by reading and projecting for a moment, from the first row on."""
    source = work.source
    row_bytes = source.row_bytes + work.n_components * _stored(work.result_dtype).itemsize
    rows = max(1, min(work.block_rows, _TRIAL_BYTES // row_bytes))
    out = _room((rows, work.n_components), work.result_dtype)
    began = time.perf_counter()
    with closing(_blocks(source, rows)) as blocks:
        for first, block in blocks:
            apply(_dense(block, source.dtype), _dense(out[: len(block)], work.result_dtype))
            spent = time.perf_counter() - began
            if spent >= _TRIAL_SECONDS:
                return spent * source.shape[0] / (first + len(block))
    return time.perf_counter() - began


def _dense(array: npt.NDArray[Any], dtype: str) -> _arrays.Dense:
    return _arrays.Dense(array, dtype, lambda array, _: array)


def _room(shape: tuple[int, int], dtype: str, order: Literal["C", "F"] = "C") -> npt.NDArray[Any]:
    stored = _stored(dtype)
    try:
        return np.empty(shape, stored, order=order)
    except MemoryError:
        size = _size.human(shape[0] * shape[1] * stored.itemsize)
        raise OutOfMemoryError(f"the system refused {size} for a block of rows") from None


def _blocks(source: Source, block_rows: int) -> Generator[tuple[int, npt.NDArray[Any]], None, None]:
    """Yield the first row and the values of each block, reading one ahead."""
    rows, columns = source.shape
    starts = range(0, rows, block_rows)
    order: Literal["C", "F"] = "F" if source.by_columns else "C"
    rooms = [_room((block_rows, columns), source.dtype, order) for _ in starts[:2]]
    with _Reading(source) as file, ThreadPoolExecutor(1, "corekit-read") as reader:

        def read_ahead(number: int) -> Future[npt.NDArray[Any]]:
            first = starts[number]
            block = rooms[number % 2][: min(block_rows, rows - first)]
            try:
                return reader.submit(file.read, first, block)
            except RuntimeError:
                raise OutOfMemoryError("the system refused a thread that reads") from None

        try:
            file.check()
            ahead = [read_ahead(number) for number in range(len(starts[:1]))]
            for number, first in enumerate(starts):
                block = ahead.pop().result()
                if number + 1 < len(starts):
                    ahead.append(read_ahead(number + 1))
                yield first, block
            file.check()
        finally:
            file.is_stopped = True


class _Reading:
    """An open source, which must stay what it was when its header was read."""

    def __init__(self, source: Source) -> None:
        self.is_stopped = False
        self._source = source
        with self._errors_named():
            self._file = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def check(self) -> None:
        """Refuse a file that has changed."""
        if _stamp(os.fstat(self._file)) != self._source.stamp:
            raise InputChangedError(
                errno.ESTALE, "changed while it was being read", self._source.path
            )

    def read(self, first: int, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Read the rows from `first` on into `block`, unless stopped, and return it."""
        source = self._source
        if not source.by_columns:
            self._read(block, source.start + first * source.row_bytes)
        else:
            for column in range(source.shape[1]):
                at = (column * source.shape[0] + first) * source.itemsize
                self._read(block[:, column], source.start + at)
        return block

    def _read(self, values: npt.NDArray[Any], at: int) -> None:
        left = values.data.cast("B")
        while left and not self.is_stopped:
            with self._errors_named():
                got = os.preadv(self._file, [left[:_AT_ONCE]], at)
            if got == 0:
                raise InputChangedError(
                    errno.ESTALE, "became shorter while it was being read", self._source.path
                )
            left, at = left[got:], at + got

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _file_error(error, self._source.path) from None


def _file_error(error: OSError, path: str) -> FileError:
    return file_error(error.errno or 0, error.strerror or "", path)


def destination_of(dst: str | os.PathLike[str]) -> str:
    """Return the destination as a str."""
    return os.fsdecode(_paths.encoded("dst", dst))
