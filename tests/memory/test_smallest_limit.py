"""A limit that is too small is answered with the smallest that would do.

The number in the message works, and a mebibyte less is refused again. Limits larger
than any memory work too, and take no more than what the input needs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from corekit.errors import MemoryLimitError
from corekit.shuffle import plan, shuffle_files
from memory.peak import MIB, measure
from memory.test_limit import poured
from reference import reference_shuffle

LINES = b"".join(b"%07d\n" % number for number in range(200_000))


@pytest.fixture
def source(disk: Path) -> Path:
    path = disk / "numbers"
    path.write_bytes(LINES)
    return path


def needed(inputs: list[Path], out: Path, limit: int, **options: Any) -> int:
    """Return the number in the message that refuses a limit."""
    with pytest.raises(MemoryLimitError) as caught:
        shuffle_files(inputs, out, memory_limit=limit, **options)
    found = re.fullmatch(
        r"memory_limit must be at least (\d+) bytes \((\d+) MiB\) for this job, got (\d+)",
        str(caught.value),
    )
    assert found is not None, str(caught.value)
    assert int(found[2]) * MIB == int(found[1])
    assert int(found[3]) == limit
    assert not out.exists()
    return int(found[1])


@pytest.mark.parametrize("limit", [1, 3 * MIB + 1])
@pytest.mark.parametrize(
    ("copies", "options"),
    [
        (1, {"threads": 1}),
        (1, {"threads": 16}),
        (1, {"scratch": "none"}),
        (1, {"sample": 1000}),
        (1, {"delimiter": b"0" * 1024}),
        (8, {}),
    ],
    ids=["one thread", "16 threads", "no scratch", "a sample", "a long delimiter", "8 inputs"],
)
def test_the_number_works(
    source: Path, tmp_path: Path, copies: int, options: dict[str, Any], limit: int
) -> None:
    inputs, out = [source] * copies, tmp_path / "out"
    enough = needed(inputs, out, limit, **options)
    assert needed(inputs, out, enough - MIB, **options) == enough
    with pytest.raises(MemoryLimitError, match=f"at least {enough} bytes"):
        plan(inputs, out, memory_limit=limit, **options)
    assert plan(inputs, out, memory_limit=enough, **options).memory_limit == enough
    report = shuffle_files(inputs, out, memory_limit=enough, **options)
    assert out.stat().st_size == report.bytes


def test_the_number_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    inputs, out = [source] * 6, tmp_path / "out"
    enough = needed(inputs, out, MIB)
    report = shuffle_files(inputs, out, memory_limit=enough, seed=1)
    assert report.plan.strategy != "memory"
    assert out.read_bytes() == reference_shuffle([LINES] * 6, 1)


@pytest.mark.parametrize("exponent", [33, 62])
def test_a_limit_beyond_all_memory(source: Path, tmp_path: Path, exponent: int) -> None:
    arguments = {
        "inputs": str(source),
        "output": str(tmp_path / "out"),
        "memory_limit": 1 << exponent,
        "threads": 2,
    }
    outcome = measure("shuffle", arguments)
    assert outcome.error is None
    assert outcome.added < 32 * MIB


@pytest.mark.parametrize("exponent", [33, 40, 62])
@pytest.mark.parametrize("scratch", [True, False], ids=["scratch", "no scratch"])
def test_a_limit_beyond_all_memory_for_a_pipe(
    source: Path, disk: Path, exponent: int, scratch: bool
) -> None:
    arguments = {
        "inputs": "/dev/stdin",
        "output": str(disk / "out"),
        "memory_limit": 1 << exponent,
        "threads": 2,
        "scratch": str(disk) if scratch else "none",
    }
    with poured(source) as pipe:
        outcome = measure("shuffle", arguments, stdin=pipe)
    assert outcome.error is None
    assert outcome.added < 128 * MIB
