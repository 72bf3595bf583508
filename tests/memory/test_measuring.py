"""The measure that the other tests rest on sees what there is to be seen.

It finds an allocation of known size that was given back before the end, nothing where
nothing was allocated, and what a shuffle reports of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from memory.peak import MIB, measure
from memory.test_limit import poured


@pytest.mark.parametrize("size", [0, 8, 32, 100])
def test_an_allocation_is_seen(size: int) -> None:
    outcome = measure("allocate", {"size": size * MIB})
    if not outcome.exact:
        pytest.skip("the system does not let a process set its high-water mark back")
    assert outcome.error is None
    assert abs(outcome.added - size * MIB) < MIB


@pytest.mark.parametrize(("kind", "limit"), [("a file", 64), ("a pipe", 64), ("a pipe", 8192)])
def test_a_shuffle_is_seen(
    corpus: Callable[[str], list[Path]], disk: Path, kind: str, limit: int
) -> None:
    (path,) = corpus("lines of 400")
    arguments = {
        "inputs": "/dev/stdin" if kind == "a pipe" else str(path),
        "output": str(disk / "out"),
        "memory_limit": limit * MIB,
        "threads": 2,
        "scratch": str(disk),
    }
    with poured(path) as pipe:
        outcome = measure("shuffle", arguments, stdin=pipe)
    assert outcome.error is None
    assert outcome.report is not None
    assert outcome.added > 16 * MIB
    # What the run says about itself is what is measured, give or take code and tables.
    assert abs(outcome.report["peak_memory"] - outcome.added) < 16 * MIB
