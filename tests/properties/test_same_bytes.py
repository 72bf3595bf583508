"""The promise: threads, memory limit and scratch change the time a run takes, never its bytes.

Here no size is tuned: an input of several tens of megabytes is shuffled by the public
function under limits below and above its size, by one, two and five threads, with scratch and
without, from a file and from a pipe, and one hash comes out.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from corekit._paths import Descriptor
from corekit.shuffle import _call, permutation, shuffle_files
from properties.engine import disk

RECORDS, WIDTH = 400_000, 120
SEED = 2**127 + 12345


@dataclass(frozen=True)
class Large:
    """A file larger than the smallest limits, and what the formula makes of it."""

    source: Path
    out: Path
    expected: str

    def out_hash(self) -> str:
        with self.out.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def large() -> Iterator[Large]:
    # Records of one width are rows of an array, which NumPy can order by itself.
    random = np.random.Generator(np.random.PCG64(1))
    rows = random.integers(32, 127, size=(RECORDS, WIDTH), dtype=np.uint8)
    rows[:, -1] = ord("\n")
    order = np.argsort(np.random.Philox(key=SEED).random_raw(RECORDS), kind="stable")
    expected = hashlib.sha256(rows[order].tobytes()).hexdigest()
    with tempfile.TemporaryDirectory(dir=disk()) as name:
        folder = Path(name)
        rows.tofile(folder / "in")
        yield Large(folder / "in", folder / "out", expected)


@pytest.mark.parametrize(
    ("memory_limit", "threads", "scratch"),
    [
        ("32MiB", 1, None),
        ("32MiB", 5, None),
        ("32MiB", 2, "none"),
        ("40MiB", 2, None),
        ("64MiB", 5, None),
        ("64MiB", 1, "none"),
        ("1GiB", 1, None),
        ("1GiB", 5, None),
    ],
)
def test_any_limit_and_threads(
    large: Large, memory_limit: str, threads: int, scratch: str | None
) -> None:
    report = shuffle_files(
        large.source,
        large.out,
        seed=SEED,
        memory_limit=memory_limit,
        threads=threads,
        scratch=scratch,
    )
    assert large.out_hash() == large.expected
    assert report.records == RECORDS
    assert report.digest == report.input_digest
    # What fits may be held; what does not fit cannot be. Where both work the cost model chooses.
    if memory_limit == "32MiB":
        assert report.passes > 1 or (scratch is None and report.scratch_bytes > 0)


@pytest.mark.parametrize("threads", [1, 5])
def test_a_pipe(large: Large, threads: int) -> None:
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(large.source.read_bytes())

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    report = _call.run(
        Descriptor(reading), large.out, seed=SEED, memory_limit="32MiB", threads=threads
    )
    os.close(reading)
    feeder.join()
    assert large.out_hash() == large.expected
    assert report.scratch_bytes > 0


def test_the_order_is_that_of_permutation(large: Large) -> None:
    order = np.argsort(np.random.Philox(key=SEED).random_raw(RECORDS), kind="stable")
    for threads in (1, 2, 5):
        assert np.array_equal(permutation(RECORDS, seed=SEED, threads=threads), order)
