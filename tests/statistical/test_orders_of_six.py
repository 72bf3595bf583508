"""The promise: all 720 orders of six records are equally likely.

Pearson's chi-square with 719 degrees of freedom, over successive seeds, successive streams of
one seed, and whole runs of the engine on a file of six lines; two-sided, at the
folder's share of false alarms (see `judge`). Power: with 15 draws an order the bound
lies 235 above the statistic's mean. Orders of which one in twenty is twice as likely as the
others add 460 to it, and to leave the input as it is in one draw of a hundred
adds 770, with standard deviations of 58 and 67; `test_power` shows such shufflers caught.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corekit._paths import Descriptor
from corekit.shuffle import _call, permutation
from statistical.judge import chi_square, is_random
from statistical.statistics_of_orders import ORDERS_OF_SIX, SIX, all_orders_are_equally_likely

DRAWS = 15 * ORDERS_OF_SIX


def test_of_successive_seeds() -> None:
    orders = [permutation(SIX, seed=seed, threads=1) for seed in range(DRAWS)]
    assert all_orders_are_equally_likely("seeds", orders)


def test_of_successive_streams() -> None:
    seed = 3 << 100
    orders = [permutation(SIX, seed=seed, stream=stream, threads=1) for stream in range(DRAWS)]
    assert all_orders_are_equally_likely("streams", orders)


def test_of_whole_runs(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"0\n1\n2\n3\n4\n5\n")
    seeds = [(seed << 64) + 1 for seed in range(5 * ORDERS_OF_SIX)]
    assert all_orders_are_equally_likely("runs", orders_of_runs([source], seeds))


def test_of_six_inputs(tmp_path: Path) -> None:
    """One record in each of six inputs: only the streams tell the records apart."""
    sources = [tmp_path / str(number) for number in range(SIX)]
    for number, source in enumerate(sources):
        source.write_bytes(b"%d" % number)
    orders = orders_of_runs(sources, range(1000))
    # So few draws do for six places of six records, not for 720 orders.
    places = np.bincount((np.arange(SIX) * SIX + orders).ravel(), minlength=SIX * SIX)
    statistic = chi_square(places, len(orders) / SIX) * (SIX - 1) / SIX
    assert is_random("six inputs", statistic, (SIX - 1) ** 2)


def orders_of_runs(sources: list[Path], seeds: Sequence[int]) -> npt.NDArray[np.int64]:
    """Shuffle six records once for each seed, by the engine; each row is an order."""
    memory = os.memfd_create("out")
    try:
        for seed in seeds:
            _call.run(sources, Descriptor(memory), seed=seed, memory_limit="32MiB", threads=1)
        written = os.pread(memory, 2 * SIX * len(seeds) + 1, 0)
    finally:
        os.close(memory)
    return np.array(written.split(), dtype=np.int64).reshape(len(seeds), SIX)
