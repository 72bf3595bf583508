"""The tests of this folder can fail: shufflers known to be wrong are caught, the right one is not.

Each wrong shuffler stands for a kind of mistake: a buffer that is too small, a biased swap,
batches that are mixed too evenly, chunks that stay together, a rare failure, and the engine
itself with keys that are too short, whose ties keep the input's order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corekit.shuffle import _call
from statistical import careless
from statistical.careless import Shuffler
from statistical.statistics_of_orders import (
    ORDERS_OF_SIX,
    SIX,
    all_orders_are_equally_likely,
    chunks_mix,
    goes_up_as_often_as_down,
    neighbours_part,
    orders_are_unrelated,
    records_go_everywhere,
)

DRAWS = 15 * ORDERS_OF_SIX


def random() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(1))


def test_the_right_one_passes() -> None:
    source = random()
    orders = [careless.uniform(SIX, source) for _ in range(DRAWS)]
    assert all_orders_are_equally_likely("power: uniform", orders)


@pytest.mark.parametrize("wrong", careless.WRONG, ids=lambda wrong: wrong.__name__)
def test_the_orders_of_six_catch(wrong: Shuffler) -> None:
    source = random()
    orders = [wrong(SIX, source) for _ in range(DRAWS)]
    assert not all_orders_are_equally_likely("power: six", orders)


def test_a_buffer_of_three_reaches_few_orders() -> None:
    source = random()
    reached = {tuple(careless.through_a_buffer(SIX, source)) for _ in range(DRAWS)}
    assert len(reached) == 3**3 * 6  # 162: three times one of three, then what is left


def test_a_large_buffer_is_caught_by_places() -> None:
    n = 12_000
    order = careless.through_a_buffer(n, random(), size=n // 4)
    assert not records_go_everywhere("power: buffer, everywhere", order)


def test_rounds_over_batches_are_caught_as_too_even() -> None:
    # Each round takes one record of each batch, so hardly any neighbours are of one batch.
    n, batches = 12_000, 10
    order = careless.one_of_each_batch(n, random(), batches=batches)
    assert not chunks_mix("power: batches", order, n // batches)


def test_chunks_that_stay_together_are_caught() -> None:
    n = 12_000
    order = careless.chunks_then_records(n, random(), chunks=200)
    assert not chunks_mix("power: chunks", order, n // 200)


def test_related_seeds_are_caught() -> None:
    # One order, and the same with a tenth of its records drawn again.
    source = random()
    one = source.permutation(12_000)
    other = one.copy()
    drawn = source.choice(12_000, 10_800, replace=False)
    other[drawn] = source.permutation(other[drawn])
    assert not orders_are_unrelated("power: related", one, other)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_keys_that_are_too_short_are_caught(tmp_path: Path, bits: int) -> None:
    n = 120_000
    (tmp_path / "in").write_bytes(b"".join(b"%d\n" % number for number in range(n)))
    _call.run(
        tmp_path / "in",
        tmp_path / "out",
        seed=41,
        memory_limit="64MiB",
        tuning={"key_mask": (1 << bits) - 1 << (64 - bits)},
    )
    order = np.array((tmp_path / "out").read_bytes().split(), dtype=np.int64)
    assert not goes_up_as_often_as_down("power: ascents", order)
    if bits == 4:
        assert not neighbours_part("power: keys", order)
