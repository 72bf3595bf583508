"""The promise: every memory limit from 32 MiB up is enough for any job, and the plan keeps it.

Plans are asked for, which costs nothing: inputs are sparse files of up to many terabytes, with one
record or one a byte, for any number of threads. A few jobs whose plan is unusual are run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.shuffle import plan
from properties.engine import Way, check, disk, lines

MIB = 1 << 20
TEXT = lines(1000, lambda number: number % 30)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=disk()) as name:
        yield Path(name)


@given(
    size=st.integers(0, 44).flatmap(lambda bits: st.integers(0, 1 << bits)),
    # In a file of zeros the first makes a record of each byte, the last one record of all.
    delimiter=st.sampled_from([b"\0", b"\0\0\0\0", b"\0" * 1024, b"\n"]),
    memory_limit=st.integers(25, 38).flatmap(lambda bits: st.integers(1 << 25, 1 << bits)),
    threads=st.integers(1, 48),
    sample=st.none() | st.integers(0, 1 << 34),
    scratch=st.sampled_from([None, "none"]),
    n_inputs=st.integers(1, 5),
)
def test_any_job_has_a_plan_that_keeps_its_limit(
    folder: Path,
    size: int,
    delimiter: bytes,
    memory_limit: int,
    threads: int,
    sample: int | None,
    scratch: str | None,
    n_inputs: int,
) -> None:
    source = folder / "in"
    with source.open("wb") as file:
        file.truncate(size)
    found = plan(
        [source] * n_inputs,
        folder / "out",
        memory_limit=memory_limit,
        threads=threads,
        delimiter=delimiter,
        sample=sample,
        scratch=scratch,
    )
    assert found.input_bytes == size * n_inputs
    assert found.memory_bytes is not None
    assert found.memory_bytes <= memory_limit
    assert 1 <= found.workers <= threads
    if scratch == "none":
        assert found.strategy != "scratch"
        assert not found.scratch_bytes


@pytest.mark.parametrize("threads", [1, 63, 64, 65, 128, 1024])
@pytest.mark.parametrize("memory_limit", ["32MiB", "2GiB", "32GiB"])
def test_more_threads_than_a_small_input_needs(
    folder: Path, threads: int, memory_limit: str
) -> None:
    """A machine with many CPUs, all of which are used unless something else is said."""
    (folder / "in").write_bytes(TEXT)
    found = plan(folder / "in", folder / "out", memory_limit=memory_limit, threads=threads)
    assert 1 <= found.workers <= threads


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize("memory_limit", [32 * MIB, 1 << 40])
def test_a_hundred_threads_at_work(way: Way, memory_limit: int) -> None:
    check([TEXT], 1, threads=100, memory_limit=memory_limit, ways=[way])
