"""What the children of the tests do: importable, so that every way to start a process finds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from corekit.shuffle import ShufflePlan, ShuffleReport, permutation, plan, shuffle_files
from reference import reference_shuffle

TEXT = b"".join(b"line %d\n" % number for number in range(20_000))


def shuffle(source: Path, out: Path, seed: int) -> ShuffleReport:
    """Shuffle `TEXT`, which is in `source`, by several threads; check the output."""
    report = shuffle_files(source, out, seed=seed, threads=3, memory_limit="64MiB")
    assert out.read_bytes() == reference_shuffle([TEXT], seed), "not the formula's order"
    return report


def order(seed: int, n: int = 100_000) -> None:
    """Compute a permutation that is large enough for several threads; check it."""
    expected = np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable")
    assert np.array_equal(permutation(n, seed=seed, threads=3), expected)


def everything(folder: Path, name: str, seed: int) -> ShuffleReport:
    """Use each function once."""
    forecast(folder / "in", folder / name)
    order(seed)
    return shuffle(folder / "in", folder / name, seed)


def forecast(source: Path, out: Path) -> ShufflePlan:
    return plan(source, out, memory_limit="64MiB", threads=1)


def impossible(source: Path, out: Path) -> None:
    shuffle_files(source, out, seed=1, memory_limit=1)


def nonsense(source: Path, out: Path) -> None:
    shuffle_files(source, out, seed=-1)


def wrong_type(source: Path, out: Path) -> None:
    shuffle_files(source, out, delimiter="\n")  # type: ignore[arg-type]


def missing(source: Path, out: Path) -> None:
    shuffle_files(source.with_name("missing"), out, seed=1)
