"""The memory limit holds where something is compressed, cut into files, or large.

Decoders with their windows, encoders with their tables, thousand files, records larger
than the limit: all is within it, or refused; and what a refusal asks for works.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory.conftest import _lines
from memory.frames import frame, long_lines
from memory.peak import MIB, Outcome, measure
from memory.test_limit import Corpus, held, poured

LARGE_RECORD = 50_000_000


@pytest.fixture(scope="session")
def packed(disk: Path) -> Callable[[str], Path]:
    """An input of 16 MiB or more, compressed in one of several ways, written once."""
    text = _lines(4 * MIB, 400, 300)
    member = gzip.compress(text, 1)
    makers: dict[str, Callable[[], bytes]] = {
        "gzip": lambda: member * 4,
        "zstd of 1 MiB": lambda: frame(text) * 4,
        "zstd of 8 MiB": lambda: frame(text * 4, 23),
        "zstd of 32 MiB": lambda: long_lines(320, 25),
        "zstd of 64 MiB": lambda: long_lines(600, 26),
        "zstd of 64 MiB, later": lambda: frame(text) + long_lines(600, 26),
        "zstd of 64 MiB, last": lambda: frame(text) * 4 + long_lines(600, 26) + frame(b"end\n"),
        "gzip with a large record": lambda: b"".join(
            gzip.compress(part, 1) for part in (text, b"x" * LARGE_RECORD + b"\n", text)
        ),
        "zstd with a large record": lambda: b"".join(
            map(frame, (text, b"x" * LARGE_RECORD + b"\n", text))
        ),
        "gzip of one byte": lambda: gzip.compress(bytes(60_000_000), 1),
    }

    def make(kind: str) -> Path:
        path = disk / f"packed {kind}"
        if not path.exists():
            path.write_bytes(makers[kind]())
        return path

    return make


@pytest.fixture
def place(disk: Path, tmp_path: Path) -> Iterator[Path]:
    """A directory for outputs, emptied when the test ends."""
    folder = disk / tmp_path.name
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def run(inputs: Any, output: Path, limit: int, **options: Any) -> Outcome:
    arguments = {"inputs": inputs, "output": str(output), "memory_limit": limit, **options}
    return measure("shuffle", arguments)


@pytest.mark.parametrize(
    ("kind", "copies", "limit", "threads"),
    [
        ("gzip", 4, 32, 1),
        ("gzip", 4, 32, 16),
        ("gzip", 4, 64, 16),
        ("zstd of 1 MiB", 4, 32, 16),
        ("zstd of 8 MiB", 4, 40, 1),
        ("zstd of 8 MiB", 4, 40, 16),
        ("zstd of 8 MiB", 6, 128, 16),
        ("zstd of 32 MiB", 4, 96, 16),
        ("zstd of 32 MiB", 4, 320, 16),
    ],
)
@pytest.mark.parametrize("scratch", [None, "none"])
def test_inputs(
    packed: Callable[[str], Path],
    place: Path,
    kind: str,
    copies: int,
    limit: int,
    threads: int,
    scratch: str | None,
) -> None:
    outcome = run(
        [str(packed(kind))] * copies,
        place / "out",
        limit * MIB,
        threads=threads,
        scratch=scratch,
    )
    report = held(outcome, limit * MIB)
    assert (place / "out").stat().st_size == report["bytes"]


@pytest.mark.parametrize("kind", ["gzip", "zstd of 1 MiB"])
def test_a_pipe(packed: Callable[[str], Path], disk: Path, place: Path, kind: str) -> None:
    arguments = {
        "inputs": "/dev/stdin",
        "output": str(place / "out"),
        "memory_limit": 32 * MIB,
        "threads": 16,
        "scratch": str(disk),
    }
    with poured(packed(kind)) as pipe:
        held(measure("shuffle", arguments, stdin=pipe), 32 * MIB)


@pytest.mark.parametrize(
    ("compress", "limit", "size"),
    [
        ("gzip:9", 32, 16),
        ("gzip:10", 40, 16),
        ("zstd:3", 32, 32),
        ("zstd:3", 128, 80),
        ("zstd:9", 64, 32),
        ("zstd:19", 40, 4),
    ],
)
@pytest.mark.parametrize("threads", [1, 16])
def test_outputs(
    corpus: Corpus, disk: Path, place: Path, compress: str, limit: int, size: int, threads: int
) -> None:
    (path,) = corpus("lines of 400")
    part = disk / f"{size} MiB"
    with path.open("rb") as file:
        part.write_bytes(file.read(size * MIB))
    outcome = run(str(part), place / "out", limit * MIB, threads=threads, compress=compress)
    held(outcome, limit * MIB)


@pytest.mark.parametrize(("ending", "limit"), [("", 32), (".gz", 32), (".zst", 32)])
def test_a_thousand_shards(corpus: Corpus, place: Path, ending: str, limit: int) -> None:
    (path,) = corpus("lines of 400")
    outcome = run(
        str(path), place / ("out-{index}.txt" + ending), limit * MIB, threads=16, shards=1000
    )
    assert len(held(outcome, limit * MIB)["files"]) == 1000


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out", {"epochs": 2}),
        ("out-{epoch}", {"epochs": 2}),
        ("out-{split}", {"splits": {"a": "0.9", "b": "0.1"}}),
        ("out-{split}-{epoch}-{index}", {"splits": {"a": "1/3", "b": "2/3"}, "epochs": 2}),
    ],
    ids=["epochs", "epochs apart", "splits", "all"],
)
@pytest.mark.parametrize("scratch", [None, "none"])
def test_epochs_and_splits(
    corpus: Corpus, place: Path, name: str, options: dict[str, Any], scratch: str | None
) -> None:
    (path,) = corpus("lines of 400")
    if "{index}" in name:
        options = {**options, "shard_bytes": "5M"}
    outcome = run(str(path), place / name, 32 * MIB, threads=16, scratch=scratch, **options)
    report = held(outcome, 32 * MIB)
    assert report["bytes"] == path.stat().st_size * options.get("epochs", 1)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("threads", [1, 16])
def test_a_large_record_goes_to_scratch(
    packed: Callable[[str], Path], place: Path, encoding: str, threads: int
) -> None:
    path = packed(f"{encoding} with a large record")
    outcome = run([str(path)] * 2, place / "out", 32 * MIB, threads=threads)
    assert held(outcome, 32 * MIB)["bytes"] > 2 * LARGE_RECORD


@pytest.mark.parametrize(("limit", "fits"), [(32, False), (192, True)])
def test_a_large_record_without_scratch(
    packed: Callable[[str], Path], place: Path, limit: int, fits: bool
) -> None:
    path = packed("gzip with a large record")
    outcome = run(str(path), place / "out", limit * MIB, threads=16, scratch="none")
    if fits:
        held(outcome, limit * MIB)
    else:
        assert outcome.error is not None
        assert outcome.error.startswith("MemoryLimitError: ")
        assert outcome.added <= limit * MIB
        assert list(place.iterdir()) == []


@pytest.mark.parametrize("record_bytes", [4_000, 1_000_000, 20_000_000])
@pytest.mark.parametrize("kind", ["raw", "gzip"])
@pytest.mark.parametrize("scratch", [None, "none"])
def test_records_of_one_size(
    packed: Callable[[str], Path],
    disk: Path,
    place: Path,
    kind: str,
    record_bytes: int,
    scratch: str | None,
) -> None:
    path = packed("gzip of one byte")
    if kind == "raw":
        path = disk / "zeros"
        path.write_bytes(bytes(60_000_000))
    outcome = run(
        str(path),
        place / "out",
        32 * MIB,
        threads=16,
        scratch=scratch,
        record_bytes=record_bytes,
    )
    if outcome.error is not None:
        # Only where each record has to be held.
        assert (kind, scratch) == ("gzip", "none")
        assert outcome.error.startswith("MemoryLimitError: ")
        assert outcome.added <= 32 * MIB
    else:
        assert held(outcome, 32 * MIB)["bytes"] == 60_000_000


def asked_for(outcome: Outcome, limit: int) -> int:
    """Return the limit that a refusal names."""
    assert outcome.error is not None
    assert outcome.added <= limit
    found = re.match(r"MemoryLimitError: memory_limit must be at least (\d+) bytes", outcome.error)
    assert found is not None, outcome.error
    return int(found[1])


@pytest.mark.parametrize(
    "kind", ["zstd of 64 MiB", "zstd of 64 MiB, later", "zstd of 64 MiB, last"]
)
@pytest.mark.parametrize(("way", "threads"), [("a file", 1), ("a pipe", 16), ("three files", 16)])
def test_a_window_too_large(
    packed: Callable[[str], Path], disk: Path, place: Path, kind: str, way: str, threads: int
) -> None:
    path = packed(kind)

    def shuffle(limit: int) -> Outcome:
        arguments = {
            "inputs": "/dev/stdin" if way == "a pipe" else [str(path)] * (1 + 2 * (way[0] == "t")),
            "output": str(place / "out"),
            "memory_limit": limit,
            "threads": threads,
            "scratch": str(disk),
        }
        with poured(path) as pipe:
            return measure("shuffle", arguments, stdin=pipe)

    enough = asked_for(shuffle(40 * MIB), 40 * MIB)
    assert list(place.iterdir()) == []
    held(shuffle(enough), enough)
    asked_for(shuffle(enough - MIB), enough - MIB)


@pytest.mark.parametrize("compress", ["gzip:6", "gzip:10", "zstd:3", "zstd:19"])
@pytest.mark.parametrize("threads", [1, 16])
@pytest.mark.parametrize("shards", [None, 10])
def test_the_smallest_limit_of_compressed_outputs(
    disk: Path, place: Path, compress: str, threads: int, shards: int | None
) -> None:
    source = disk / "some lines"
    source.write_bytes((b"y" * 99 + b"\n") * (4 * MIB // 100))
    out = place / ("out-{index}" if shards else "out")

    def shuffle(limit: int) -> Outcome:
        return run(str(source), out, limit, threads=threads, compress=compress, shards=shards)

    enough = asked_for(shuffle(MIB), 40 * MIB)
    held(shuffle(enough), enough)
