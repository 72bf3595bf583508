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
Role = Literal["bounded", "memory", "cliff"]

# These take many times as long as the others: one round tells enough.
SLOW_TOOLS = frozenset({"duckdb", "awk-sort-cut", "polars", "sort-R"})


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
class Case:
    """Entries that are timed together."""

    name: str
    corpus: str
    cache: Cache
    entries: tuple[Entry, ...]


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


_SHORT_CASES = (
    Case("j1-warm", "j1", "warm", _bounded(512 * MIB) + _in_memory(4 * GIB) + _cliff(10**9)),
    Case("s1-warm", "s1", "warm", _bounded(512 * MIB) + _in_memory(4 * GIB)),
    Case("j1-cold", "j1", "cold", _bounded(512 * MIB)),
    _slice("j100"),
    _slice("s100"),
)
_LARGE_CASES = (
    Case("j4-warm", "j4", "warm", _bounded(512 * MIB)),
    Case("j4-cold", "j4", "cold", _bounded(512 * MIB)),
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
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite("short", 3, _SHORT_CASES),
        Suite("full", 5, _SHORT_CASES + _LARGE_CASES),
        Suite("smoke", 2, _SMOKE_CASES),
    )
}
