"""The memory limit holds.

Peak resident memory of a call, above what the process had before it, is at most the
limit: from 32 MiB up, for long and short and empty lines, for one line longer than the
limit, on one thread and on more than there are processors, from files and pipes to
files and pipes, with scratch and without, everything counted.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memory.peak import MIB, Outcome, measure

Corpus = Callable[[str], list[Path]]
THREADS = [1, 16]


@contextmanager
def poured(path: Path) -> Iterator[int]:
    """A pipe that the file's bytes come out of."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.fileno()
        process.stdout.close()


@contextmanager
def drained(path: Path) -> Iterator[int]:
    """A pipe whose bytes go to a file."""
    with (
        path.open("wb") as file,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) as process,
    ):
        assert process.stdin is not None
        yield process.stdin.fileno()
        process.stdin.close()


@pytest.fixture
def out(disk: Path) -> Iterator[Path]:
    path = disk / "out"
    yield path
    path.unlink(missing_ok=True)


def held(outcome: Outcome, limit: int) -> dict[str, Any]:
    """Check that the call worked within the limit, and return its report."""
    assert outcome.error is None, outcome.error
    assert outcome.report is not None
    added, plan = outcome.added / MIB, outcome.report["plan"]
    assert outcome.added <= limit, f"{added:.2f} MiB under a limit of {limit / MIB:.0f}: {plan}"
    return outcome.report


@pytest.mark.parametrize(
    ("limit", "threads"), [(32, 1), (32, 16), (48, 16), (64, 1), (64, 16), (256, 16)]
)
@pytest.mark.parametrize("kind", ["lines of 400", "lines of 22", "empty lines"])
def test_a_file(corpus: Corpus, out: Path, kind: str, limit: int, threads: int) -> None:
    (path,) = corpus(kind)
    arguments = {
        "inputs": str(path),
        "output": str(out),
        "memory_limit": limit * MIB,
        "threads": threads,
    }
    report = held(measure("shuffle", arguments), limit * MIB)
    assert report["bytes"] == path.stat().st_size == out.stat().st_size


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    "kind", ["lines of 400", "lines of 22", "a delimiter of 4", "a line of 80 MiB"]
)
def test_without_scratch(corpus: Corpus, out: Path, kind: str, threads: int) -> None:
    (path,) = corpus(kind)
    arguments = {
        "inputs": str(path),
        "output": str(out),
        "memory_limit": 32 * MIB,
        "threads": threads,
        "scratch": "none",
        "delimiter": "<=>\n" if "delimiter" in kind else "\n",
    }
    report = held(measure("shuffle", arguments), 32 * MIB)
    assert report["scratch_bytes"] == 0
    assert report["passes"] > 1 or kind == "a line of 80 MiB"


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("kind", ["a line of 80 MiB", "a delimiter of 4"])
def test_long_lines_and_long_delimiters(corpus: Corpus, out: Path, kind: str, threads: int) -> None:
    (path,) = corpus(kind)
    arguments = {
        "inputs": str(path),
        "output": str(out),
        "memory_limit": 32 * MIB,
        "threads": threads,
        "delimiter": "<=>\n" if "delimiter" in kind else "\n",
    }
    report = held(measure("shuffle", arguments), 32 * MIB)
    assert report["bytes"] == path.stat().st_size


@pytest.mark.parametrize(
    ("kind", "limit", "threads"),
    [
        ("lines of 400", 32, 1),
        ("lines of 400", 32, 16),
        ("lines of 400", 48, 16),
        ("lines of 400", 64, 16),
        ("lines of 400", 256, 16),
        ("lines of 22", 32, 1),
        ("lines of 22", 32, 16),
        ("empty lines", 32, 16),
        ("a line of 80 MiB", 32, 1),
        ("a line of 80 MiB", 32, 16),
    ],
)
def test_a_pipe(corpus: Corpus, disk: Path, out: Path, kind: str, limit: int, threads: int) -> None:
    (path,) = corpus(kind)
    arguments = {
        "inputs": "/dev/stdin",
        "output": str(out),
        "memory_limit": limit * MIB,
        "threads": threads,
        "scratch": str(disk),
    }
    with poured(path) as pipe:
        report = held(measure("shuffle", arguments, stdin=pipe), limit * MIB)
    assert report["bytes"] == path.stat().st_size


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("limit", "fits"), [(32, False), (192, True)])
def test_a_pipe_without_scratch(
    corpus: Corpus, out: Path, limit: int, fits: bool, threads: int
) -> None:
    # Some 100 MB, a line of 80 MiB among them: all of it must be held, or none of it is.
    (path,) = corpus("a line of 80 MiB")
    arguments = {
        "inputs": "/dev/stdin",
        "output": str(out),
        "memory_limit": limit * MIB,
        "threads": threads,
        "scratch": "none",
    }
    with poured(path) as pipe:
        outcome = measure("shuffle", arguments, stdin=pipe)
    if fits:
        assert held(outcome, limit * MIB)["bytes"] == path.stat().st_size
    else:
        assert outcome.error is not None
        assert outcome.error.startswith("MemoryLimitError: ")
        assert outcome.added <= limit * MIB
        assert not out.exists()


@pytest.mark.parametrize("threads", THREADS)
def test_from_a_pipe_to_a_pipe(corpus: Corpus, disk: Path, out: Path, threads: int) -> None:
    (path,) = corpus("lines of 400")
    arguments = {
        "inputs": "/dev/stdin",
        "output": "/dev/stdout",
        "memory_limit": 32 * MIB,
        "threads": threads,
        "scratch": str(disk),
    }
    with poured(path) as source, drained(out) as sink:
        held(measure("shuffle", arguments, stdin=source, stdout=sink), 32 * MIB)
    assert out.stat().st_size == path.stat().st_size


@pytest.mark.parametrize(("scratch", "threads"), [(None, 16), ("none", 1), ("none", 16)])
def test_many_files(corpus: Corpus, out: Path, scratch: str | None, threads: int) -> None:
    paths = corpus("many files")
    arguments = {
        "inputs": [str(path) for path in paths],
        "output": str(out),
        "memory_limit": 32 * MIB,
        "threads": threads,
        "scratch": scratch,
    }
    report = held(measure("shuffle", arguments), 32 * MIB)
    assert report["bytes"] == sum(path.stat().st_size for path in paths)


def test_inputs_with_long_names(disk: Path, out: Path) -> None:
    source = disk / "two lines"
    source.write_bytes(b"a\nb\n")
    name = f"{disk}/{'./' * 130}{source.name}"
    arguments = {
        "inputs": [name] * 10_000,
        "output": str(out),
        "memory_limit": 32 * MIB,
        "threads": 1,
    }
    report = held(measure("shuffle", arguments), 32 * MIB)
    assert report["records"] == 20_000


@pytest.mark.parametrize(("sample", "threads"), [(1_000, 16), (100_000, 1), (2_500_000, 16)])
def test_a_sample(corpus: Corpus, out: Path, sample: int, threads: int) -> None:
    (path,) = corpus("lines of 22")
    arguments = {
        "inputs": str(path),
        "output": str(out),
        "memory_limit": 32 * MIB,
        "threads": threads,
        "sample": sample,
    }
    report = held(measure("shuffle", arguments), 32 * MIB)
    assert (report["records"], report["bytes"]) == (sample, 22 * sample)


def test_a_sample_of_a_pipe(corpus: Corpus, disk: Path, out: Path) -> None:
    (path,) = corpus("lines of 22")
    arguments = {
        "inputs": "/dev/stdin",
        "output": str(out),
        "memory_limit": 32 * MIB,
        "threads": 16,
        "scratch": str(disk),
        "sample": 2_500_000,
    }
    with poured(path) as pipe:
        report = held(measure("shuffle", arguments, stdin=pipe), 32 * MIB)
    assert report["records"] == 2_500_000


def test_a_progress_bar_counts_too(corpus: Corpus, out: Path) -> None:
    (path,) = corpus("lines of 400")
    arguments = {
        "inputs": str(path),
        "output": str(out),
        "memory_limit": 32 * MIB,
        "scratch": "none",
        "progress": True,
    }
    held(measure("shuffle", arguments), 32 * MIB)
