"""What a file system lacks changes how a run writes, never what.

Without direct I/O, without unnamed files, without reserved space, and without any of
them, the same bytes come out, and nothing is left over.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.runs import LINES, RESCANNING, SPILLING, Job, shuffled

SWITCHES = ["no_direct", "no_tmpfile", "no_fallocate"]
TOGETHER = [
    chosen for n in range(len(SWITCHES) + 1) for chosen in itertools.combinations(SWITCHES, n)
]


@pytest.mark.parametrize("switches", TOGETHER, ids=lambda chosen: " ".join(chosen) or "all there")
@pytest.mark.parametrize(
    "tuning",
    [{}, SPILLING, RESCANNING, {**SPILLING, "bits": 1, "blocks": 24}],
    ids=["as planned", "scratch", "rescan", "recursion"],
)
def test_the_same_bytes(
    source: Path, out: Path, tuning: dict[str, int], switches: tuple[str, ...]
) -> None:
    report = Job(source, out, tuning={**tuning, **dict.fromkeys(switches, 1)}).run()
    assert out.read_bytes() == shuffled()
    assert report.digest == report.input_digest
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("switches", TOGETHER, ids=lambda chosen: " ".join(chosen) or "all there")
def test_more_than_one_flush(source: Path, out: Path, switches: tuple[str, ...]) -> None:
    # Buffered bytes are flushed every 32 MiB.
    source.write_bytes(LINES * 80)
    tuning = {"spill": 1, "frame": 256 << 10, **dict.fromkeys(switches, 1)}
    report = Job(source, out, {"memory_limit": "32MiB"}, tuning).run()
    assert report.scratch_bytes > 32 << 20
    assert out.stat().st_size == 80 * len(LINES)


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 3 * 8192])
def test_sizes_around_those_of_direct_writes(source: Path, out: Path, size: int) -> None:
    source.write_bytes(b"x" * (size - 1) + b"\n" if size else b"")
    for switches in TOGETHER:
        Job(source, out, tuning={**SPILLING, **dict.fromkeys(switches, 1)}).run()
        assert out.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("tuning", [{}, RESCANNING], ids=["as planned", "rescan"])
def test_in_memory(source: Path, mount: Callable[..., Path], tuning: dict[str, int]) -> None:
    # The real thing: tmpfs has had neither direct I/O nor, for long, unnamed files.
    out = mount("-t", "tmpfs", "-o", "size=4m", "none") / "out"
    Job(source, out, tuning=tuning).run()
    assert out.read_bytes() == shuffled()
    assert os.listdir(out.parent) == ["out"]
