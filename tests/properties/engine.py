"""Running the engine on given bytes, and holding what it wrote to the formula.

Sizes are private tuning: with `TINY`, a few kilobytes cross every boundary that
gigabytes cross otherwise. Inputs come as files, pipes or FIFOs, and so does the output.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from corekit._paths import Descriptor, Input
from corekit.shuffle import ShuffleReport, _call, _scratch
from reference import ALL_BITS, reference_digest, reference_shuffle, split_records

Way: TypeAlias = Literal["file", "pipe", "fifo"]

TINY: Mapping[str, int] = {
    "chunk": 100,
    "block": 4096,
    "slab": 200,
    "blocks": 40,
    "bits": 2,
    "inline_max": 64,
    "frame": 4096,
    "entries": 300,
}

# Odd, so that what arrives is never what was asked for.
PIECE = 777

PATIENCE = 30  # seconds; guards against hangs and measures nothing


def disk() -> str:
    """Return a directory on a real disk: scratch in memory would not be used as scratch."""
    found = _scratch.directory(None, 1)
    if found is None or _scratch._file_system(os.fsdecode(found)) in {"tmpfs", "ramfs"}:
        pytest.skip("there is no temporary directory on a disk")
    return os.fsdecode(found)


def check(
    inputs: Sequence[bytes],
    seed: int,
    *,
    delimiter: bytes = b"\n",
    sample: int | None = None,
    scratch: bool = True,
    tuning: Mapping[str, int] | None = None,
    threads: int = 2,
    memory_limit: int | str = "64MiB",
    ways: Sequence[Way] | None = None,
    to: Way = "file",
) -> ShuffleReport:
    """Shuffle the inputs; fail unless output, report and directory are what was promised."""
    mask = (tuning or {}).get("key_mask", ALL_BITS)
    expected = reference_shuffle(inputs, seed, delimiter=delimiter, sample=sample, key_mask=mask)
    written, report = shuffled(
        inputs,
        seed,
        delimiter=delimiter,
        sample=sample,
        scratch=scratch,
        tuning=tuning,
        threads=threads,
        memory_limit=memory_limit,
        ways=ways,
        to=to,
    )
    # Not `written == expected` alone: a diff of megabytes takes pytest minutes to draw.
    assert len(written) == len(expected)
    assert written == expected, "the order is not the formula's"

    records = [record for data in inputs for record in split_records(data, delimiter)]
    chosen = len(records) if sample is None else min(sample, len(records))
    assert report.input_records == len(records)
    assert report.records == chosen
    assert report.bytes == len(expected)
    assert report.input_bytes == sum(map(len, inputs))
    assert report.seed == seed
    assert report.input_digest == reference_digest(records)
    if chosen == len(records):
        assert report.digest == report.input_digest
    else:
        assert report.digest == reference_digest(split_records(expected, delimiter))
    return report


def shuffled(
    inputs: Sequence[bytes],
    seed: int,
    *,
    delimiter: bytes = b"\n",
    sample: int | None = None,
    scratch: bool = True,
    tuning: Mapping[str, int] | None = None,
    threads: int = 2,
    memory_limit: int | str = "64MiB",
    ways: Sequence[Way] | None = None,
    to: Way = "file",
) -> tuple[bytes, ShuffleReport]:
    """Shuffle the inputs, given and taken in the ways asked for; nothing else may be left."""
    ways = ways or ["file"] * len(inputs)
    with tempfile.TemporaryDirectory(dir=disk()) as name, ExitStack() as stack:
        folder = Path(name)
        given = [
            stack.enter_context(_source(folder / f"in{number}", data, way))
            for number, (data, way) in enumerate(zip(inputs, ways, strict=True))
        ]
        output, collect = stack.enter_context(_sink(folder / "out", to))
        before = set(os.listdir(folder))
        report = _call.run(
            given,
            output,
            seed=seed,
            memory_limit=memory_limit,
            threads=threads,
            scratch=folder if scratch else "none",
            delimiter=delimiter,
            sample=sample,
            tuning=tuning,
        )
        written = collect()
        assert set(os.listdir(folder)) == before | ({"out"} if to == "file" else set())
    return written, report


@contextmanager
def _source(path: Path, data: bytes, way: Way) -> Iterator[Input]:
    """Give the bytes as a file, or by a thread that writes them piece by piece."""
    if way == "file":
        path.write_bytes(data)
        yield path
        return
    if way == "fifo":
        os.mkfifo(path)
        writer = _start(lambda: _feed(os.open(path, os.O_WRONLY), data))
        try:
            yield path
        finally:
            # A writer that still waits for a reader has one for a moment.
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            writer.join(PATIENCE)
        return
    reading, writing = os.pipe()
    writer = _start(lambda: _feed(writing, data))
    try:
        yield Descriptor(reading)
    finally:
        os.close(reading)
        writer.join(PATIENCE)


def _feed(descriptor: int, data: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb", buffering=0) as pipe:
        for at in range(0, len(data), PIECE):
            pipe.write(data[at : at + PIECE])


@contextmanager
def _sink(path: Path, way: Way) -> Iterator[tuple[Path | Descriptor, Callable[[], bytes]]]:
    """Give a destination, and the function that returns what went there."""
    if way == "file":
        yield path, path.read_bytes
        return
    got: list[bytes] = []

    def drain(descriptor: int) -> None:
        with os.fdopen(descriptor, "rb", buffering=0) as pipe:
            got.extend(iter(lambda: pipe.read(PIECE), b""))

    def collect() -> bytes:
        release()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        return b"".join(got)

    if way == "fifo":
        os.mkfifo(path)
        reader = _start(lambda: drain(os.open(path, os.O_RDONLY)))

        def release() -> None:
            # A reader that still waits for a writer has one for a moment.
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

        destination: Path | Descriptor = path
    else:
        reading, writing = os.pipe()
        reader = _start(lambda: drain(reading))
        ends = [writing]

        def release() -> None:
            while ends:
                os.close(ends.pop())

        destination = Descriptor(writing)
    try:
        yield destination, collect
    finally:
        release()
        reader.join(PATIENCE)


def _start(body: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    return thread


def lines(
    n: int, length: Callable[[int], int], delimiter: bytes = b"\n", *, start: int = 0
) -> bytes:
    """Return n records that name their own number over and over, up to their length."""

    def line(number: int) -> bytes:
        word = b"%d-" % number
        wanted = length(number)
        return (word * (wanted // len(word) + 1))[:wanted] + delimiter

    return b"".join(map(line, range(start, start + n)))
