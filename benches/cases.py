"""What is run: which tools shuffle which corpus, under which limit, with which page cache.

A case is one corpus in one state of the page cache. All its entries are timed in the same
interleaved rounds, so any two of them may be compared; entries of two cases may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20
GIB = 1 << 30

Cache = Literal["warm", "cold"]
Storage = Literal["plain", "gzip", "zstd"]
Product = Literal["file", "zstd", "shards", "sample", "batches"]
# Entries of one role are compared with each other. In a case with a task "task" is the task itself
# (peers without a limit take part, for that is how it is done today), "floor" is what corekit's row
# cannot be quicker than, and "beside" only stands beside it.
Role = Literal["bounded", "memory", "cliff", "task", "floor", "beside"]

# These take many times as long as the others: one round tells enough.
SLOW_TOOLS = frozenset({"duckdb", "duckdb-sample", "awk-sort-cut", "polars", "sort-R"})

SHARDS = 64
PARTS = 8  # files that a compressed input consists of
SAMPLE_DIVISOR = 100
BATCH_RECORDS = 10_000


@dataclass(frozen=True)
class Entry:
    """A tool under a limit; `role` says what it is compared with."""

    tool: str
    role: Role
    limit_bytes: int | None = None

    def rounds(self, wanted: int) -> int:
        """Return how often to run it when `wanted` rounds are asked for."""
        return 1 if self.tool in SLOW_TOOLS else wanted


@dataclass(frozen=True)
class Task:
    """What is asked for, other than to shuffle one plain file into another.

    `floor` says in words what the rows of that role are, or else what the bound is made of;
    `target` is how many times the floor corekit's own row may take.
    """

    what: str
    floor: str
    storage: Storage = "plain"
    product: Product = "file"
    target: float | None = None


PLAIN = Task("", "")
GZIP_IN = Task(
    f"{PARTS} gzip files in",
    "inflate by Python's zlib on all CPUs, then writing the output",
    storage="gzip",
)
ZSTD_IN = Task(
    f"{PARTS} zstd files in",
    "decoding by zstd on all CPUs, then writing the output",
    storage="zstd",
)
ZSTD_OUT = Task("zstd out, level 3", "encoding by zstd on all CPUs", product="zstd")
INTO_SHARDS = Task(f"{SHARDS} shards out", "moving the bytes", product="shards")
SAMPLE = Task(
    f"-n {100 // SAMPLE_DIVISOR} %",
    "reading the input once by cat",
    product="sample",
    target=1.3,
)
BATCHES = Task(
    f"batches of {BATCH_RECORDS:,}",
    "the same shuffle written to /dev/null",
    product="batches",
    target=1.2,
)


@dataclass(frozen=True)
class Case:
    """Entries that are timed together."""

    name: str
    corpus: str
    cache: Cache
    entries: tuple[Entry, ...]
    task: Task = PLAIN


@dataclass(frozen=True)
class Suite:
    """A named list of cases and how many rounds each gets."""

    name: str
    rounds: int
    cases: tuple[Case, ...]


def _bounded(limit: int, *, least_for_duckdb: int = 0) -> tuple[Entry, ...]:
    alike = tuple(Entry(tool, "bounded", limit) for tool in ("corekit", "terashuf", "awk-sort-cut"))
    return (*alike, Entry("duckdb", "bounded", max(limit, least_for_duckdb)))


def _in_memory(limit: int) -> tuple[Entry, ...]:
    free = tuple(Entry(tool, "memory") for tool in ("gnu-shuf", "uutils-shuf", "polars"))
    return (Entry("corekit", "memory", limit), Entry("terashuf", "memory", limit), *free)


def _cliff(corpus_bytes: int) -> tuple[Entry, ...]:
    """The same job with a limit a quarter above the input, and as far below it."""
    above, below = corpus_bytes * 5 // 4, corpus_bytes * 4 // 5
    return tuple(Entry("corekit", "cliff", size // MIB * MIB) for size in (below, above))


def _slice(corpus: str) -> Case:
    limit = 512 * MIB
    entries = (
        Entry("corekit", "memory", limit),
        Entry("gnu-shuf", "memory"),
        Entry("uutils-shuf", "memory"),
        Entry("sort-R", "memory", limit),
    )
    return Case(f"{corpus}-warm", corpus, "warm", entries)


def _with_task(
    name: str, corpus: str, task: Task, tools: tuple[str, ...], limit: int, *, duckdb: int = 0
) -> Case:
    """Corekit and the named tools at a task; what has a limit gets it, DuckDB at least its own."""
    limits = {"duckdb": max(limit, duckdb), "duckdb-sample": max(limit, duckdb)}
    free = {"gnu-shuf", "zcat-shuf", "zstdcat-shuf", "shuf-zstd", "shuf-split", "python-buffer"}
    own = "corekit-batches" if task.product == "batches" else "corekit"
    entries = [
        Entry(tool, "task", None if tool in free else limits.get(tool, limit))
        for tool in (own, *tools)
    ]
    if task.product == "sample":
        entries.append(Entry("cat", "floor"))
    if task.product == "batches":
        entries += [Entry("corekit-null", "floor", limit), Entry("corekit", "beside", limit)]
    cache: Cache = "cold" if task.product == "sample" else "warm"
    return Case(f"{corpus}-{name}", corpus, cache, tuple(entries), task)


def _sampling(corpus: str, limit: int, *, duckdb: int = 0) -> Case:
    tools = ("gnu-shuf", "duckdb", "duckdb-sample")
    return _with_task("sample", corpus, SAMPLE, tools, limit, duckdb=duckdb)


def _tasks(corpus: str, limit: int, *, duckdb: int = 0) -> tuple[Case, ...]:
    return (
        *(
            _with_task(name, corpus, task, tools, limit, duckdb=duckdb)
            for name, task, tools in (
                ("gzip-in", GZIP_IN, ("zcat-shuf", "zcat-terashuf", "duckdb")),
                ("zstd-in", ZSTD_IN, ("zstdcat-shuf", "zstdcat-terashuf", "duckdb")),
                ("zstd-out", ZSTD_OUT, ("shuf-zstd", "duckdb")),
                ("shards", INTO_SHARDS, ("shuf-split", "terashuf-split")),
            )
        ),
        _sampling(corpus, limit, duckdb=duckdb),
        _with_task("batches", corpus, BATCHES, ("python-buffer",), limit),
    )


_SHORT_CASES = (
    Case("j1-warm", "j1", "warm", _bounded(512 * MIB) + _in_memory(4 * GIB) + _cliff(10**9)),
    Case("s1-warm", "s1", "warm", _bounded(512 * MIB) + _in_memory(4 * GIB)),
    Case("j1-cold", "j1", "cold", _bounded(512 * MIB)),
    _slice("j100"),
    _slice("s100"),
    *_tasks("j1", 512 * MIB),
)
_LARGE_CASES = (
    Case("j4-warm", "j4", "warm", _bounded(512 * MIB)),
    Case("j4-cold", "j4", "cold", _bounded(512 * MIB)),
    _sampling("j4", 512 * MIB),
)
# Every tool and every path of the bench on a tenth of the data; its times mean little. DuckDB's
# reader and writer do not start with less than about 192 MiB.
_SMOKE_BOUNDED = _bounded(64 * MIB, least_for_duckdb=192 * MIB)
_SMOKE_CASES = (
    Case(
        "j100-smoke",
        "j100",
        "warm",
        _SMOKE_BOUNDED + _in_memory(1 * GIB) + _cliff(10**8) + (Entry("sort-R", "memory", GIB),),
    ),
    Case("s100-smoke", "s100", "cold", _SMOKE_BOUNDED),
    *_tasks("j100", 64 * MIB, duckdb=192 * MIB),
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite("short", 3, _SHORT_CASES),
        Suite("full", 5, _SHORT_CASES + _LARGE_CASES),
        Suite("smoke", 2, _SMOKE_CASES),
    )
}
