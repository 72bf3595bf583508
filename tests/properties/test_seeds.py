"""The promise: all 128 bits of the seed count, each input has a stream of its own.

Whichever bit of the seed is flipped, another order comes out, and it is the formula's. Inputs
of equal length under one seed are shuffled by unrelated keys; a file shuffled
alone under the same seed always comes out the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from corekit.errors import InvalidArgumentError
from corekit.shuffle import permutation, shuffle_files
from properties.engine import check, lines, shuffled
from properties.inputs import SEEDS
from reference import reference_shuffle

TEXT = lines(64, lambda number: 5)


def test_each_bit_of_the_seed_counts() -> None:
    base = 0x0123456789ABCDEF_FEDCBA9876543210
    outputs = set()
    for seed in [base, *(base ^ 1 << bit for bit in range(128))]:
        written, report = shuffled([TEXT], seed, threads=1, to="pipe")
        assert written == reference_shuffle([TEXT], seed)
        assert report.seed == seed
        outputs.add(written)
    assert len(outputs) == 129


@given(seed=SEEDS)
def test_any_seed(seed: int) -> None:
    check([TEXT, TEXT], seed, threads=1, to="pipe")


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, 2**64, 2**127, 2**128 - 1])
def test_the_edges_of_the_seed(seed: int) -> None:
    check([TEXT], seed)


@pytest.mark.parametrize("seed", [-1, 2**128, 2**200])
def test_seeds_beyond_are_refused(seed: int) -> None:
    with pytest.raises(InvalidArgumentError):
        permutation(3, seed=seed)


def test_a_seed_that_was_drawn_is_reported_and_repeats_the_order(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_bytes(TEXT)
    seeds = {shuffle_files(source, out).seed for _ in range(3)}
    assert len(seeds) == 3
    last = shuffle_files(source, out).seed
    assert out.read_bytes() == reference_shuffle([TEXT], last)


def test_aligned_files_stay_aligned() -> None:
    left = lines(500, lambda number: number % 20)
    right = b"".join(b"%d\n" % number for number in range(500))
    one, two = (shuffled([text], 9)[0].split(b"\n")[:-1] for text in (left, right))
    assert [left.split(b"\n")[int(number)] for number in two] == one
