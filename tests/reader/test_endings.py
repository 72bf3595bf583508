"""The promise: however reading ends, nothing is left of it, and no error is taken for the end.

Scratch, descriptors, threads and memory are given back by closing, by dropping, by an error and
by being killed. Ctrl-C is heeded within a second, and what it interrupted can go on. An
error comes with the next batch, and again for who asks again. The memory limit holds.
"""

from __future__ import annotations

import errno
import gc
import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import promptness
from children import run
from corekit.errors import CorekitError, FileError, InputFormatError, MissingFileError
from corekit.shuffle import ShuffledReader
from reader import child
from reader.runs import (
    PLANS,
    TEXT,
    descriptors,
    exit_code,
    fork,
    open_reader,
    text_order,
    threads,
    until,
)

MIB = 1 << 20
PATIENCE = 60


def run_child(what: str, **arguments: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run(child.__file__, what, json.dumps(arguments)))
    return said


@pytest.fixture
def nothing_left(scratch: Path) -> Iterator[None]:
    """Fail when a descriptor, a thread or a file is left behind."""
    gc.collect()
    open_before, threads_before = descriptors(), threads()
    yield
    assert descriptors() == open_before
    until(lambda: threads() == threads_before)
    assert os.listdir(scratch) == []


def _close(reader: ShuffledReader) -> None:
    reader.close()
    reader.close()  # once more is nothing


def _with(reader: ShuffledReader) -> None:
    with reader:
        next(iter(reader))


def _exception(reader: ShuffledReader) -> None:
    def consume() -> None:
        with reader:
            for _ in reader.iter_batches(10):
                raise RuntimeError("in the consumer")

    with pytest.raises(RuntimeError):
        consume()


ENDINGS: dict[str, Callable[[ShuffledReader], object]] = {
    "close": _close,
    "with": _with,
    "an exception of the consumer": _exception,
    "another epoch": lambda reader: reader.set_epoch(1),
    "another state": lambda reader: reader.load_state_dict(reader.state_dict()),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.usefixtures("nothing_left")
def test_all_is_given_back(source: Path, scratch: Path, plan: str, ending: str) -> None:
    reader = open_reader(source, PLANS[plan], scratch=scratch)
    before = threads()
    next(reader.iter_batches(100))
    assert threads() > before
    assert os.listdir(scratch) == []  # it has no name even while it is there
    ENDINGS[ending](reader)


@pytest.mark.parametrize("way", ["dropped", "in a cycle", "with its iterator", "at the end"])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.usefixtures("nothing_left")
def test_a_reader_that_is_dropped(source: Path, scratch: Path, plan: str, way: str) -> None:
    reader = open_reader(source, PLANS[plan], scratch=scratch)
    iterator = iter(reader)
    next(iterator)
    if way == "in a cycle":
        reader.itself = reader  # type: ignore[attr-defined]
    if way == "at the end":
        assert len(list(reader)) == 2999
    if way == "with its iterator":
        del reader
        assert next(iterator) == text_order()[1]  # the iterator keeps it
        del iterator
    else:
        del reader, iterator
    gc.collect()


def test_a_reader_that_waits_is_dropped_at_once(disk: Path) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    before = descriptors()
    reader = open_reader(fifo)
    reader._running()
    del reader
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("tuning", [{}, {"no_tmpfile": 1}])
def test_a_killed_process_leaves_no_scratch(
    source: Path, scratch: Path, tuning: dict[str, int]
) -> None:
    options = {"seed": 1, "scratch": str(scratch), "memory_limit": "64MiB", "threads": 2}
    arguments = {"source": str(source), "tuning": tuning, "options": options}
    with subprocess.Popen(
        [sys.executable, child.__file__, "killed", json.dumps(arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.kill()
    assert os.listdir(scratch) == []


@pytest.mark.parametrize(
    "situation",
    [
        "a FIFO that nobody writes to",
        "a FIFO that delivers nothing",
        "a FIFO that delivers some bytes",
        "between batches",
        "in a large batch",
        "behind fetched records",
    ],
)
def test_ctrl_c(disk: Path, situation: str) -> None:
    def attempt(number: int) -> float:
        folder = disk / str(number)
        folder.mkdir()
        took: float = run_child("interrupted", folder=str(folder), situation=situation)["took"]
        return took

    promptness.ends_promptly(attempt)


def fails(reader: ShuffledReader, kind: type[CorekitError]) -> CorekitError:
    """Check that it fails, by the error and not by an end, however often it is asked."""
    with pytest.raises(kind) as caught:
        for _ in reader.iter_batches(10):
            pass
    for again in (lambda: next(reader.iter_batches(10)), lambda: next(iter(reader))):
        with pytest.raises(CorekitError):  # and no StopIteration
            again()
    found: CorekitError = caught.value
    return found


@pytest.mark.usefixtures("nothing_left")
def test_a_missing_input(source: Path) -> None:
    reader = open_reader([source, source.parent / "missing"])
    assert isinstance(fails(reader, MissingFileError), FileNotFoundError)
    # When it is there, reading begins.
    (source.parent / "missing").write_bytes(b"one more")
    reader.close()
    assert len(list(reader)) == 3001
    reader.close()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.usefixtures("nothing_left")
def test_a_damaged_input(disk: Path, scratch: Path, plan: str) -> None:
    data = bytearray(gzip.compress(np.random.default_rng(1).bytes(100_000), 1))
    data[len(data) // 2] ^= 0x55
    path = disk / "damaged.gz"
    path.write_bytes(data)
    reader = open_reader(path, PLANS[plan], scratch=scratch)
    assert str(path) in str(fails(reader, InputFormatError))
    assert reader.position == 0
    reader.close()


@pytest.mark.usefixtures("nothing_left")
def test_an_input_that_changes_while_it_is_read(source: Path) -> None:
    # Not all of it is kept, and what is read again has become shorter.
    reader = open_reader(source, {**PLANS["rescan"], "page": 64}, scratch="none")
    order = text_order()
    found = next(reader.iter_batches(10)).tolist()
    source.write_bytes(TEXT[: len(TEXT) // 2])
    with pytest.raises(CorekitError):
        found.extend(record for batch in reader.iter_batches(10) for record in batch)
    # What was handed out before is right, and counted; and there is no end.
    assert found == order[: len(found)]
    assert reader.position == len(found) < len(order)
    source.write_bytes(TEXT)
    reader.close()
    assert found + list(reader) == order
    reader.close()


@pytest.mark.parametrize("largest", [0, 4096, 16384])
def test_a_full_disk(source: Path, scratch: Path, largest: int) -> None:
    def body() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        reader = open_reader(source, PLANS["scratch"], scratch=scratch)
        error = fails(reader, FileError)
        assert isinstance(error, FileError)
        assert (error.errno, error.filename) == (errno.EFBIG, str(scratch))
        assert reader.position == 0
        # There is room again.
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        reader.close()
        assert list(reader) == text_order()

    assert exit_code(fork(body)) == 0
    assert os.listdir(scratch) == []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Files of 64 MB, of records of a size, which are written when first asked for."""
    folder = tmp_path_factory.mktemp("corpus")

    def write(size: int) -> Path:
        path = folder / f"of-{size}"
        if not path.exists():
            unit = np.random.default_rng(1).integers(97, 122, 64 * size, np.uint8)
            unit[size - 1 :: size] = ord("\n")
            data = unit.tobytes()
            with path.open("wb") as file:
                for _ in range(64_000_000 // len(data)):
                    file.write(data)
        return path

    return write


RANK_1_OF_4 = {"rank": 1, "world_size": 4}
SPILL = {"spill": 1}


@pytest.mark.parametrize(
    ("size", "way", "limit", "tuning", "options"),
    [
        (400, "batches", 32, SPILL, {}),
        (400, "batches", 32, None, {"scratch": "none"}),
        (400, "batches", 48, SPILL, {"threads": 8}),
        (400, "batches", 128, None, {}),
        (400, "batches", 32, SPILL, RANK_1_OF_4),
        (400, "batches", 32, None, {"scratch": "none", **RANK_1_OF_4}),
        (400, "iter", 32, SPILL, {}),
        (64_000, "batches", 32, SPILL, {}),
        (64_000, "iter", 32, SPILL, {}),
    ],
    ids=str,
)
def test_the_memory_limit_holds(
    corpus: Callable[[int], Path],
    scratch: Path,
    size: int,
    way: str,
    limit: int,
    tuning: dict[str, int] | None,
    options: dict[str, Any],
) -> None:
    source = corpus(size)
    given = {"seed": 1, "threads": 2, "scratch": str(scratch), "memory_limit": limit * MIB}
    said = run_child(
        "memory",
        source=str(source),
        way=way,
        size=max(1, 100_000 // size),
        pause=0.005,
        tuning=tuning,
        options={**given, **options},
    )
    world = options.get("world_size", 1)
    assert abs(said["records"] * world - source.stat().st_size // size) < world
    assert said["bytes"] == said["records"] * (size - 1)
    # A batch is the caller's, and so is the one before it until it is dropped.
    assert said["added"] <= limit * MIB + 3 * 100_000 + MIB, f"{said['added'] / MIB:.1f} MiB"
    # What was needed for the first time stays: code, and the allocator's.
    assert said["after"] <= 8 * MIB, "memory was not given back"


def test_a_rank_needs_its_share_of_scratch(corpus: Callable[[int], Path], scratch: Path) -> None:
    options = {"seed": 1, "memory_limit": "32MiB", "threads": 2, "scratch": str(scratch)}
    arguments = {"way": "batches", "size": 1000, "pause": 0, "tuning": SPILL}
    used = [
        run_child("memory", source=str(corpus(400)), **arguments, options={**options, **share})[
            "scratch"
        ]
        for share in ({}, {"rank": 1, "world_size": 2}, {"rank": 3, "world_size": 4})
    ]
    whole, half, quarter = used
    if not whole:
        pytest.skip("the system does not count what is written here")
    assert whole > 60e6
    assert half < 0.65 * whole
    assert quarter < 0.38 * whole
    assert os.listdir(scratch) == []
