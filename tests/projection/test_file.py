"""The promise: `project_file` writes what `project` gives, in little memory, or says why not.

Whatever the type, the order, the size of the blocks and the number of threads. It reports how far
it is, and ends when it is told to.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.lib import format as npy

import promptness
from children import run, threads_beside_pool
from corekit.errors import (
    ArgumentTypeError,
    CorekitError,
    FileError,
    InputFormatError,
    InvalidArgumentError,
    IsDirectoryError,
    MemoryLimitError,
    MissingFileError,
)
from corekit.projection import SparseProjection, _file
from projection.formula import KINDS
from projection.operators import Array, data, make, same

MIB = 1 << 20
OLD = b"what the destination held before\n"

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
ORDERS = [np.ascontiguousarray, np.asfortranarray]


def saved(folder: Path, X: Array) -> Path:
    path = folder / "x.npy"
    np.save(path, X)
    return path


def limit_of(rows: int, X: Array, k: int, threads: int = 1) -> int:
    """Return the least limit under which so many rows make a block, but for srht."""
    out = X.itemsize if X.dtype.kind == "f" else 8
    return _file._BASE_BYTES + threads * 16 * MIB + rows * (2 * X[:1].nbytes + k * out)


def named(order: Any) -> str:
    return "C" if order is np.ascontiguousarray else "Fortran"


@pytest.mark.parametrize("order", ORDERS, ids=named)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_every_type_in_both_orders(tmp_path: Path, dtype: str, order: Any) -> None:
    X = data(203, 37, dtype)
    projection = make("block-stack", 37, 20)
    source, out = saved(tmp_path, order(X)), tmp_path / "y.npy"
    expected = projection.project(X)
    for rows in (1, 7, 33, 64, 203, 1000):
        projection.project_file(source, out, memory_limit=limit_of(rows, X, 20))
        found = np.load(out)
        assert found.flags.c_contiguous
        assert same(found, expected), rows


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(tmp_path: Path, kind: str) -> None:
    X = data(203, 37)
    projection = make(kind, 37, 20)
    projection.project_file(
        saved(tmp_path, X), tmp_path / "y.npy", memory_limit=limit_of(50, X, 20)
    )
    assert same(np.load(tmp_path / "y.npy"), projection.project(X))


@pytest.mark.parametrize("n", [0, 1, 2, 31, 32, 33, 64, 65, 96, 97])
@pytest.mark.parametrize("order", ORDERS, ids=named)
def test_rows_that_do_not_divide_the_block(tmp_path: Path, order: Any, n: int) -> None:
    X = data(n, 50)
    projection = make("stack", 50, 9)
    source, out = saved(tmp_path, order(X)), tmp_path / "y.npy"
    for rows in (1, 2, 32, 40):
        work = _file.plan(
            _file.open_source(source, None, None), projection, limit_of(rows, data(1, 50), 9), 1
        )
        assert work.block_rows == max(1, min(rows, n) // 32 * 32 or min(rows, n))
        projection.project_file(source, out, memory_limit=work.memory_bytes)
        assert same(np.load(out), projection.project(X))


@pytest.mark.parametrize("order", ORDERS, ids=named)
def test_blocks_of_many_bytes(tmp_path: Path, order: Any) -> None:
    # More than one of the largest blocks, and more than one piece of what is read at once.
    X = order(data(3000, 1100))
    projection = make("block-stack", 1100, 64)
    source, out = saved(tmp_path, X), tmp_path / "y.npy"
    expected = projection.project(X)
    for limit, threads in [("32MiB", 1), ("64MiB", 2), ("1GiB", 2)]:
        projection.project_file(source, out, memory_limit=limit, threads=threads)
        assert same(np.load(out), expected)


def test_bytes_are_those_of_save(tmp_path: Path) -> None:
    X = data(11, 20)
    projection = make("block-stack", 20, 8)
    projection.project_file(saved(tmp_path, X), tmp_path / "y.npy")
    saved_by_numpy = io.BytesIO()
    np.save(saved_by_numpy, projection.project(X))
    assert (tmp_path / "y.npy").read_bytes() == saved_by_numpy.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header(tmp_path: Path, version: tuple[int, int]) -> None:
    X = data(11, 20)
    source = tmp_path / "x.npy"
    with source.open("wb") as file:
        npy.write_array(file, X, version=version)
        file.write(b"what else numpy.save wrote to the file")
    projection = make("block-stack", 20, 8)
    projection.project_file(source, tmp_path / "y.npy")
    assert same(np.load(tmp_path / "y.npy"), projection.project(X))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_raw_files(tmp_path: Path, dtype: str) -> None:
    X = data(101, 37, dtype)
    source, out = tmp_path / "x", tmp_path / "y"
    X.tofile(source)
    projection = make("block-stack", 37, 20)
    expected = projection.project(X)
    for given in (dtype, np.dtype(dtype), np.dtype(dtype).type):
        projection.project_file(
            source, out, shape=X.shape, dtype=given, memory_limit=limit_of(32, X, 20)
        )
        assert out.read_bytes() == expected.tobytes()


def test_raw_files_of_bfloat16(tmp_path: Path) -> None:
    # The upper halves of float32, and so must the results be, rounded once to even.
    X = data(101, 37)
    halves = (X.view(np.uint32) >> 16).astype(np.uint16)
    halves.tofile(tmp_path / "x")
    projection = make("block-stack", 37, 20)
    projection.project_file(tmp_path / "x", tmp_path / "y", shape=[101, 37], dtype="bfloat16")
    wide = projection.project((halves.astype(np.uint32) << 16).view(np.float32)).view(np.uint32)
    rounded = (wide + 0x7FFF + (wide >> 16 & 1)) >> 16
    found = np.fromfile(tmp_path / "y", np.uint16).reshape(101, 20)
    # Zeros may differ in sign.
    assert ((found == rounded) | ((found | rounded) & 0x7FFF == 0)).all()


@pytest.mark.parametrize("order", ["C", "F"])
def test_bfloat16_of_numpys_files(tmp_path: Path, order: Any) -> None:
    # NumPy has no name for it and stores two bytes, which only the caller can tell.
    X = np.asarray(data(101, 37).astype(ml_dtypes.bfloat16), order=order)
    source, out = saved(tmp_path, X), tmp_path / "y.npy"
    projection = make("block-stack", 37, 20)
    for given in ("bfloat16", ml_dtypes.bfloat16):
        projection.project_file(source, out, dtype=given)
        np.save(tmp_path / "expected.npy", projection.project(X))
        assert out.read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_what_is_no_bfloat16_of_numpys_files(tmp_path: Path, out: Path) -> None:
    swapped = np.dtype(ml_dtypes.bfloat16).newbyteorder(">")
    for X in (data(9, 20), data(9, 20, "float16"), data(9, 20).astype(swapped)):
        source = saved(tmp_path, X)
        says = f"{source} must hold bfloat16 as numpy.save writes it, '<V2', got"
        refused(ArgumentTypeError, says, source, out, dtype="bfloat16")
    source = saved(tmp_path, data(9, 20).astype(ml_dtypes.bfloat16))
    refused(ArgumentTypeError, f"{source} must hold floats or integers", source, out)


def test_raw_files_of_no_rows(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    make("block-stack", 37, 20).project_file(
        tmp_path / "x", tmp_path / "y", shape=(0, 37), dtype="float32"
    )
    assert (tmp_path / "y").read_bytes() == b""


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_paths_of_every_form(tmp_path: Path, form: Callable[[Path], Any]) -> None:
    X = data(9, 20)
    projection = make("block-stack", 20, 8)
    projection.project_file(form(saved(tmp_path, X)), form(tmp_path / "y.npy"))
    assert same(np.load(tmp_path / "y.npy"), projection.project(X))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    X = data(9, 20)
    source: Any = os.fsencode(saved(tmp_path, X))
    os.rename(source, source + b"\xff")
    projection = make("block-stack", 20, 8)
    projection.project_file(source + b"\xff", source + b"\xfe")
    with open(source + b"\xfe", "rb") as file:
        assert same(np.load(file), projection.project(X))


def test_progress(tmp_path: Path) -> None:
    X = data(4000, 300)
    projection = make("block-stack", 300, 64)
    told: list[tuple[int, int | None, str]] = []
    threads: set[int] = set()

    def tell(done: int, total: int | None, phase: str) -> None:
        told.append((done, total, phase))
        threads.add(threading.get_ident())
        time.sleep(0.06)

    source, out = saved(tmp_path, X), tmp_path / "y.npy"
    projection.project_file(source, out, memory_limit=limit_of(500, X, 64), progress=tell)
    assert same(np.load(out), projection.project(X))
    assert threads == {threading.get_ident()}
    assert len(told) > 4
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    assert {(total, phase) for _, total, phase in told} == {(X.nbytes, "project")}
    assert told[-1][0] == X.nbytes


def test_progress_is_told_some_times_a_second(tmp_path: Path) -> None:
    X = data(4000, 30)
    told: list[int] = []
    began = time.monotonic()
    make("block-stack", 30, 8).project_file(
        saved(tmp_path, X),
        tmp_path / "y.npy",
        memory_limit=limit_of(2, X, 8),
        progress=lambda done, *_: told.append(done),
    )
    assert len(told) <= 2 + (time.monotonic() - began) / 0.05
    assert told[-1] == X.nbytes


def test_a_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    X = data(4000, 30)
    source = saved(tmp_path, X)
    make("block-stack", 30, 8).project_file(source, tmp_path / "y.npy", progress=True)
    assert "project" in capfd.readouterr().err
    make("block-stack", 30, 8).project_file(source, tmp_path / "y.npy", progress=False)
    assert capfd.readouterr().err == ""


class OwnError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        OwnError("enough"),
        KeyboardInterrupt(),
        ConnectionResetError("gone"),
        OSError(5, "not of the destination"),
        GeneratorExit(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("at", [1, 3, 8])
def test_cancelled_by_progress(tmp_path: Path, error: BaseException, at: int) -> None:
    X = data(4000, 300)
    source, out = saved(tmp_path, X), tmp_path / "y.npy"
    out.write_bytes(OLD)
    before = in_use()
    calls = 0

    def tell(*_: object) -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.06)
        if calls == at:
            raise error

    with pytest.raises(type(error)) as caught:
        make("block-stack", 300, 64).project_file(
            source, out, memory_limit=limit_of(500, X, 64), progress=tell
        )
    # The caller's own, not one about a file of ours.
    assert caught.value is error
    assert calls == at
    assert out.read_bytes() == OLD
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "y.npy"]
    assert settled(before) == before


def in_use() -> tuple[int, int]:
    """Return how many descriptors and threads this process has."""
    return len(os.listdir("/proc/self/fd")), threads_beside_pool()


def settled(expected: tuple[int, int]) -> tuple[int, int]:
    """Return what is in use once it is as expected, or after a while.

    A thread that has ended stays in the list until the system has taken it down.
    """
    until = time.monotonic() + 5
    while in_use() != expected and time.monotonic() < until:
        time.sleep(0.001)
    return in_use()


def test_nothing_leaks(tmp_path: Path) -> None:
    X = data(300, 50)
    source, out = saved(tmp_path, X), tmp_path / "y.npy"
    projection = make("block-stack", 50, 20)
    before = in_use()
    for _ in range(20):
        projection.project_file(source, out, memory_limit=limit_of(32, X, 20))
        projection.project_file(source, "/dev/null")
        for wrong in (tmp_path, tmp_path / "none" / "y", "/dev/full"):
            with pytest.raises(FileError):
                projection.project_file(source, wrong)
    assert settled(before) == before
    assert sorted(os.listdir(tmp_path)) == ["x.npy", "y.npy"]


def refused(error: type[Exception], begins: str, source: Any, out: Any, **options: Any) -> None:
    """Make the call, which must end in this error, before anything is written."""
    Path(os.fsdecode(out) if isinstance(out, (Path, str)) else "out").write_bytes(OLD)
    with pytest.raises(CorekitError) as caught:
        make("block-stack", 20, 8).project_file(source, out, **options)
    assert isinstance(caught.value, error), caught.value
    message = str(caught.value)
    assert message.startswith(begins), message
    if not isinstance(caught.value, FileError):
        assert ", got " in message
    assert Path(out).read_bytes() == OLD
    assert [name for name in os.listdir(Path(out).parent) if "corekit" in name] == []


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "y.npy"


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (np.zeros(20, np.float32), InvalidArgumentError, "must hold a matrix, of two dimensions"),
        (np.zeros((1, 2, 20), np.float32), InvalidArgumentError, "must hold a matrix"),
        (np.float32(1), InvalidArgumentError, "must hold a matrix"),
        (np.zeros((9, 0), np.float32), InvalidArgumentError, "must have columns"),
        (np.zeros((9, 20), np.complex64), ArgumentTypeError, "must hold floats or integers"),
        (np.zeros((9, 20), ">f4"), ArgumentTypeError, "must hold .* byte order"),
        (np.zeros((9, 20), "S4"), ArgumentTypeError, "must hold floats"),
        (np.zeros((9, 20), "M8[s]"), ArgumentTypeError, "must hold floats"),
        (np.zeros((9, 20), [("a", "f4")]), ArgumentTypeError, "must hold floats"),
        (np.zeros((9, 20), np.longdouble), ArgumentTypeError, "must hold floats"),
    ],
    ids=lambda value: f"{value.dtype} {value.shape}" if hasattr(value, "dtype") else "",
)
def test_arrays_that_cannot_be_projected(
    tmp_path: Path, out: Path, wrong: Any, error: type[Exception], says: str
) -> None:
    source = saved(tmp_path, wrong)
    with pytest.raises(error, match=f"^{source} {says}.*, got"):
        make("block-stack", 20, 8).project_file(source, out)
    assert not out.exists()


@pytest.mark.parametrize("columns", [1, 19, 21, 40])
def test_another_number_of_columns(tmp_path: Path, out: Path, columns: int) -> None:
    refused(
        InvalidArgumentError, "src must have 20 columns", saved(tmp_path, data(9, columns)), out
    )


def test_objects_are_not_loaded(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, np.full((9, 20), None), allow_pickle=True)
    refused(ArgumentTypeError, f"{source} must hold floats", source, out)


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


DAMAGED = {
    "empty": b"",
    "text": b"1,2,3\n4,5,6\n",
    "magic alone": b"\x93NUMPY",
    "version alone": b"\x93NUMPY\x01\x00",
    "an unknown version": b"\x93NUMPY\x09\x00" + bytes(100),
    "a header that ends": header("{'descr': '<f4', 'fortran_order': False, 'shape'")[:40],
    "no dict": header("[1, 2]"),
    "no Python": header("{'descr': '<f4', 'fortran_order': (((("),
    "a name": header("{'descr': f4, 'fortran_order': False, 'shape': (9, 20)}"),
    "a missing key": header("{'descr': '<f4', 'shape': (9, 20)}"),
    "another key": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 20), 'a': 1}"),
    "no type": header("{'descr': 'nothing', 'fortran_order': False, 'shape': (9, 20)}"),
    "no order": header("{'descr': '<f4', 'fortran_order': 2, 'shape': (9, 20)}"),
    "no shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': 'many'}"),
    "a shape of fractions": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9., 20)}"),
    "a shape below zero": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-9, 20)}"),
    "two lengths below zero": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-9, -2)}"),
    "a huge header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(1000),
    "deep nesting": header("(" * 5000 + ")" * 5000),
    "no values": header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 20)}"),
    "more rows than memory": header(
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, 20)}}"
    ),
    "more rows than numbers": header(
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**200}, 20)}}"
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(tmp_path: Path, out: Path, name: str) -> None:
    source = tmp_path / "x.npy"
    source.write_bytes(DAMAGED[name])
    refused(InputFormatError, "[Errno", source, out)
    with pytest.raises(ValueError) as caught:
        make("block-stack", 20, 8).project_file(source, out)
    assert isinstance(caught.value, InputFormatError)
    assert caught.value.filename == str(source)


def test_files_that_end_anywhere(tmp_path: Path, out: Path) -> None:
    source = saved(tmp_path, data(9, 20))
    whole = source.read_bytes()
    for length in [*range(0, 140, 7), len(whole) - 1]:
        source.write_bytes(whole[:length])
        refused(InputFormatError, "[Errno", source, out)


@pytest.mark.parametrize("at", range(128))
def test_headers_with_a_changed_byte(tmp_path: Path, out: Path, at: int) -> None:
    X = data(9, 20)
    source = saved(tmp_path, X)
    whole = bytearray(source.read_bytes())
    projection = make("block-stack", 20, 8)
    for change in (0x01, 0x20, 0x80, 0xFF):
        whole[at] ^= change
        source.write_bytes(whole)
        # Refused, or what NumPy reads: never anything else.
        try:
            projection.project_file(source, out)
        except CorekitError:
            pass
        else:
            assert same(np.load(out), projection.project(np.load(source)))
        whole[at] ^= change


@pytest.mark.parametrize("difference", [-100, -1, 1, 100])
def test_raw_files_of_another_size(tmp_path: Path, out: Path, difference: int) -> None:
    source = tmp_path / "x"
    source.write_bytes(bytes(9 * 20 * 4 + difference))
    refused(InputFormatError, "[Errno", source, out, shape=(9, 20), dtype="f4")
    refused(InputFormatError, "[Errno", source, out, shape=(2**47, 20), dtype="f4")


@pytest.mark.parametrize(
    ("options", "error", "begins"),
    [
        ({"shape": (9, 20)}, InvalidArgumentError, "dtype must be given with shape"),
        ({"dtype": "f4"}, InvalidArgumentError, "dtype must be given with shape"),
        ({"shape": (180,), "dtype": "f4"}, InvalidArgumentError, "shape must be two ints"),
        ({"shape": (9, 4, 5), "dtype": "f4"}, InvalidArgumentError, "shape must be two ints"),
        ({"shape": 180, "dtype": "f4"}, ArgumentTypeError, "shape must be two ints"),
        ({"shape": "92", "dtype": "f4"}, ArgumentTypeError, "shape must be two ints"),
        ({"shape": (9.0, 20), "dtype": "f4"}, ArgumentTypeError, "shape must be an int"),
        ({"shape": (-9, 20), "dtype": "f4"}, InvalidArgumentError, "shape must be at least 0"),
        ({"shape": (2**60, 20), "dtype": "f4"}, InvalidArgumentError, "shape must be"),
        ({"shape": (9, 20), "dtype": "c8"}, ArgumentTypeError, "dtype must be of floats"),
        ({"shape": (9, 20), "dtype": ">f4"}, ArgumentTypeError, "dtype must be .* byte order"),
        ({"shape": (9, 20), "dtype": "O"}, ArgumentTypeError, "dtype must be of floats"),
        ({"shape": (9, 20), "dtype": "float"}, InputFormatError, ""),
        ({"shape": (9, 20), "dtype": "bfloat"}, ArgumentTypeError, "dtype must be a dtype"),
        ({"shape": (9, 20), "dtype": 4}, ArgumentTypeError, "dtype must be a dtype"),
        ({"shape": (9, 20), "dtype": {"a": 1}}, ArgumentTypeError, "dtype must be a dtype"),
        ({"shape": (9, 21), "dtype": "f4"}, InputFormatError, ""),
        ({"shape": (18, 10), "dtype": "f4"}, InvalidArgumentError, "src must have 20 columns"),
        ({"shape": (0, 0), "dtype": "f4"}, InvalidArgumentError, ""),
        ({"memory_limit": 0}, InvalidArgumentError, "memory_limit must be"),
        ({"memory_limit": "lots"}, InvalidArgumentError, "memory_limit must be"),
        ({"memory_limit": 1.5}, ArgumentTypeError, "memory_limit must be"),
        ({"memory_limit": 1000}, MemoryLimitError, "memory_limit must be at least"),
        ({"threads": 0}, InvalidArgumentError, "threads must be"),
        ({"threads": "2"}, ArgumentTypeError, "threads must be"),
        ({"progress": 1}, ArgumentTypeError, "progress must be"),
    ],
    ids=str,
)
def test_options(
    tmp_path: Path, out: Path, options: dict[str, Any], error: type[Exception], begins: str
) -> None:
    if "shape" in options:
        source = tmp_path / "x"
        data(9, 20).tofile(source)
    else:
        source = saved(tmp_path, data(9, 20))
    out.write_bytes(OLD)
    with pytest.raises(error, match=f"^{begins}"):
        make("block-stack", 20, 8).project_file(source, out, **options)
    assert out.read_bytes() == OLD


@pytest.mark.parametrize("wrong", [None, 1, 1.5, ["x"], object(), True])
@pytest.mark.parametrize("name", ["src", "dst"])
def test_paths_of_a_wrong_type(tmp_path: Path, name: str, wrong: Any) -> None:
    given = {"src": saved(tmp_path, data(9, 20)), "dst": tmp_path / "y", name: wrong}
    with pytest.raises(ArgumentTypeError, match=f"^{name} must be a path.*, got"):
        make("block-stack", 20, 8).project_file(**given)
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("wrong", ["", b"", "a\0b"])
@pytest.mark.parametrize("name", ["src", "dst"])
def test_names_that_no_file_has(tmp_path: Path, name: str, wrong: Any) -> None:
    given = {"src": saved(tmp_path, data(9, 20)), "dst": tmp_path / "y", name: wrong}
    with pytest.raises(InvalidArgumentError, match=f"^{name} must be a path.*, got"):
        make("block-stack", 20, 8).project_file(**given)


def test_sources_that_are_no_files(tmp_path: Path, out: Path) -> None:
    refused(MissingFileError, "[Errno 2] No such file", tmp_path / "none", out)
    refused(IsDirectoryError, "[Errno 21] Is a directory", tmp_path, out)
    os.mkfifo(tmp_path / "fifo")
    for stream in (tmp_path / "fifo", Path("/dev/null")):
        refused(InputFormatError, "[Errno", stream, out)
        refused(InputFormatError, "[Errno", stream, out, shape=(0, 20), dtype="f4")
    (tmp_path / "loop").symlink_to("loop")
    refused(FileError, "[Errno 40]", tmp_path / "loop", out)


def test_the_limit_that_is_said_to_be_enough_is(tmp_path: Path, out: Path) -> None:
    X = data(9, 20)
    source = saved(tmp_path, X)
    projection = make("block-stack", 20, 8)
    with pytest.raises(MemoryLimitError) as caught:
        projection.project_file(source, out, memory_limit=1, threads=4)
    enough = int(str(caught.value).split("(")[1].split(" bytes")[0])
    with pytest.raises(MemoryLimitError):
        projection.project_file(source, out, memory_limit=enough - 1, threads=4)
    projection.project_file(source, out, memory_limit=enough, threads=4)
    assert same(np.load(out), projection.project(X))


@pytest.mark.parametrize("limit", ["25MiB", "32MiB", "48MiB", "64MiB", "200MiB", "4GiB"])
@pytest.mark.parametrize("threads", [1, 2, 16, 1000])
@pytest.mark.parametrize("columns", [1, 1000, 100_000])
@pytest.mark.parametrize("k", [1, 1000, 50_000])
def test_plans_are_within_their_limits(limit: str, threads: int, columns: int, k: int) -> None:
    source = _file.Source("x", (10**6, columns), "float32", 128, False, True, ())
    work = _file.plan(source, SparseProjection(columns, k, seed=1), limit, threads)
    assert 1 <= work.threads <= threads
    assert work.block_rows >= 1
    bound = int(limit[:-3]) << (30 if limit.endswith("GiB") else 20)
    assert work.memory_bytes <= bound
    if limit == "4GiB" and threads <= 16:
        assert work.threads == threads
        assert work.block_rows >= 128


CASES: list[dict[str, Any]] = [
    {"limit": 32, "threads": 1},
    {"limit": 48, "threads": 2},
    {"limit": 64, "threads": 2, "order": "F"},
    {"limit": 64, "threads": 2, "dtype": "float64"},
    {"limit": 64, "threads": 2, "dtype": "int8", "n": 250_000},
    {"limit": 96, "threads": 4, "k": 20_000},
    {"limit": 64, "threads": 2, "d": 200_000, "n": 300},
    {"limit": 64, "threads": 2, "kind": "srht"},
    {"limit": 64, "threads": 2, "kind": "iid", "n": 60_000},
    {"limit": 64, "threads": 2, "kind": "gaussian", "n": 60_000},
    {"limit": 64, "threads": 2, "kind": "stack"},
    # Many outputs, and rows that are padded to a power of two.
    {"limit": 32, "threads": 1, "kind": "stack", "k": 131_072, "dtype": "float64", "n": 15_000},
    {"limit": 32, "threads": 1, "order": "F", "k": 131_072, "n": 30_000},
    {"limit": 300, "threads": 1, "kind": "srht", "d": (1 << 24) - 5, "n": 16},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_memory(tmp_path: Path, case: dict[str, Any]) -> None:
    arguments = {
        "folder": str(tmp_path),
        "kind": "block-stack",
        "k": 64,
        "d": 1024,
        "n": 100_000,
        "dtype": "float32",
        "order": "C",
        **case,
    }
    said = json.loads(run(__file__, "memory", json.dumps(arguments)))
    if not said["exact"]:
        pytest.skip("the system does not let a process set its high-water mark back")
    limit = case["limit"] * MIB
    assert said["size"] > 3 * limit
    assert said["added"] <= limit, f"{said['added'] / MIB:.1f} MiB"


def memory(case: dict[str, Any]) -> dict[str, Any]:
    """Project a file with a hole, and measure what that adds to resident memory."""
    source = Path(case["folder"], "x.npy")
    dtype, shape = np.dtype(case["dtype"]), (case["n"], case["d"])
    with source.open("wb") as file:
        described = {"descr": dtype.str, "fortran_order": case["order"] == "F", "shape": shape}
        npy.write_array_header_1_0(file, described)
        file.truncate(file.tell() + dtype.itemsize * shape[0] * shape[1])
    projection = make(case["kind"], case["d"], case["k"])
    try:
        Path("/proc/self/clear_refs").write_text("5")
        exact = True
    except OSError:
        exact = False
    before = status("VmRSS")
    projection.project_file(
        source, "/dev/null", memory_limit=case["limit"] * MIB, threads=case["threads"]
    )
    added = status("VmHWM") - before
    return {"added": added, "exact": exact, "size": source.stat().st_size}


def status(name: str) -> int:
    """Return a size that the kernel knows of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize(
    "situation", ["rows", "columns", "wide rows", "much output", "a full pipe", "a lonely FIFO"]
)
def test_ctrl_c(tmp_path: Path, situation: str) -> None:
    def attempt(number: int) -> float:
        folder = tmp_path / str(number)
        folder.mkdir()
        said = run(__file__, "interrupted", json.dumps([situation, str(folder)]))
        return promptness.seconds(said)

    promptness.ends_promptly(attempt)


def interrupted(situation: str, folder: Path) -> str:
    """Press Ctrl-C in a run that would take very long; return how long it went on."""
    # Ctrl-C may be off in what the tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    source, out = folder / "x.npy", folder / "y.npy"
    n, d, k = 20_000_000, 1000, 8
    if situation == "wide rows":
        n, d = 40_000, 1_000_000
    if situation == "much output":
        n, d, k = 4_000_000, 100, 2000
    with source.open("wb") as file:
        described = {"descr": "<f4", "fortran_order": situation == "columns", "shape": (n, d)}
        npy.write_array_header_1_0(file, described)
        file.truncate(file.tell() + 4 * n * d)
    out.write_bytes(OLD)
    to: Path | str = out
    if situation == "a full pipe":
        to = f"/dev/fd/{os.pipe()[1]}"
    if situation == "a lonely FIFO":
        to = folder / "fifo"
        os.mkfifo(to)
    if situation == "much output":
        to = folder / "full"
        to.symlink_to("/dev/null")
    files, before = sorted(os.listdir(folder)), in_use()
    sent_at = 0.0

    def press() -> None:
        nonlocal sent_at
        time.sleep(0.4)
        sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    key = threading.Thread(target=press)
    key.start()
    try:
        make("block-stack", d, k).project_file(source, to, memory_limit="512MiB", threads=2)
    except KeyboardInterrupt:
        waited = time.monotonic() - sent_at
    else:
        raise SystemExit("it ran to its end")
    key.join()
    assert out.read_bytes() == OLD, "the output was touched"
    assert sorted(os.listdir(folder)) == files, "something was left behind"
    assert settled(before) == before, "a descriptor or a thread was left"
    X = data(50, 20)
    np.save(source, X)
    projection = make("block-stack", 20, 8)
    projection.project_file(source, out)
    assert same(np.load(out), projection.project(X))
    return f"KeyboardInterrupt after {waited:.3f} s, and then all was well"


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    if sys.argv[1] == "memory":
        print(json.dumps(memory(given)))
    else:
        print(interrupted(given[0], Path(given[1])))
