"""The promise: the order of a large file is uniform, near and far, however the run went.

The engine in memory, through scratch, by several passes, and the command line from a file and
from a pipe each shuffle 120,000 numbered lines. Of each order four things are judged, two-sided,
at the folder's share of false alarms (see `judge`): the 720 orders of each six
lines that stood together (719 degrees of freedom, 28 groups an order), the spread of 50 parts
of the input over 50 parts of the output (2401), how many neighbours in the output come from
one chunk of 600 lines, and how many go up (both normal). The seeds are fixed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from command import run
from corekit.shuffle import _call, permutation
from properties.engine import TINY, disk
from statistical.judge import is_random, table
from statistical.statistics_of_orders import (
    chunks_mix,
    goes_up_as_often_as_down,
    neighbours_part,
    orders_are_unrelated,
    records_go_everywhere,
)

N = 120_000  # whole groups of six, whole chunks
CHUNK = 600
LINES = b"".join(b"%d\n" % number for number in range(N))

SMALL = {**TINY, "chunk": 4000, "entries": 4000, "bits": 4, "slab": 1000}
TUNINGS: dict[str, dict[str, int] | None] = {
    "in memory": None,
    "through scratch": {**SMALL, "spill": 1},
    "in several passes": {**SMALL, "spill": 0},
}
COMMANDS = ["command line from a file", "command line from a pipe"]


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=disk()) as name:
        path = Path(name) / "in"
        path.write_bytes(LINES)
        yield path


def order_of(written: bytes) -> npt.NDArray[np.int64]:
    """Read the numbers of the lines."""
    return np.array(written.split(), dtype=np.int64)


def by_engine(source: Path, seed: int, tuning: dict[str, int] | None) -> npt.NDArray[np.int64]:
    out = source.with_name("out")
    report = _call.run(source, out, seed=seed, tuning=tuning, memory_limit="64MiB", threads=2)
    assert report.records == N
    if tuning is not None and "spill" in tuning:
        assert report.scratch_bytes > 0 if tuning["spill"] else report.passes > 1
    return order_of(out.read_bytes())


def by_command(source: Path, seed: int, way: str) -> npt.NDArray[np.int64]:
    if way == "command line from a file":
        done = run("shuffle", f"--seed={seed}", "--memory-limit=32MiB", source)
    else:
        done = run("shuffle", f"--seed={seed}", "--memory-limit=32MiB", stdin=LINES)
    assert (done.returncode, done.stderr) == (0, b"")
    return order_of(done.stdout)


@pytest.mark.parametrize("way", [*TUNINGS, *COMMANDS])
def test_the_order_is_uniform(source: Path, way: str) -> None:
    seed = 1000 + [*TUNINGS, *COMMANDS].index(way)
    if way in TUNINGS:
        order = by_engine(source, seed, TUNINGS[way])
    else:
        order = by_command(source, seed, way)
    assert np.array_equal(np.sort(order), np.arange(N))
    assert neighbours_part(f"{way}: six", order)
    assert records_go_everywhere(f"{way}: everywhere", order)
    assert chunks_mix(f"{way}: chunks", order, CHUNK)
    assert goes_up_as_often_as_down(f"{way}: ascents", order)


@pytest.mark.parametrize("flip", [1, 1 << 63, 1 << 64, 1 << 127])
def test_seeds_that_differ_in_one_bit_are_unrelated(flip: int) -> None:
    seed = 0x5DEECE66D
    one, other = (permutation(N, seed=s).astype(np.int64) for s in (seed, seed ^ flip))
    assert orders_are_unrelated(f"bit {flip}", one, other)


def test_streams_are_unrelated() -> None:
    one, other = (permutation(N, seed=8, stream=s).astype(np.int64) for s in (0, 1))
    assert orders_are_unrelated("streams 0 and 1", one, other)


def test_inputs_mix(source: Path) -> None:
    """Lines of two inputs, numbered on: both are everywhere in the output."""
    first, second = source.with_name("first"), source.with_name("second")
    middle = LINES.index(b"\n40000\n") + 1
    first.write_bytes(LINES[:middle])
    second.write_bytes(LINES[middle:])
    out = source.with_name("out")
    _call.run([first, second], out, seed=21, memory_limit="64MiB")
    order = order_of(out.read_bytes())
    assert neighbours_part("inputs: six", order)
    assert records_go_everywhere("inputs: everywhere", order)
    assert goes_up_as_often_as_down("inputs: ascents", order)


@pytest.mark.parametrize("way", ["engine", "command line"])
def test_a_sample_is_from_everywhere(source: Path, way: str) -> None:
    n = 20_000
    if way == "engine":
        out = source.with_name("out")
        _call.run(
            source, out, seed=31, sample=n, memory_limit="64MiB", tuning={**SMALL, "spill": 1}
        )
        order = order_of(out.read_bytes())
    else:
        order = order_of(run("shuffle", "--seed=32", f"-n{n}", source).stdout)
    assert len(order) == len(set(order.tolist())) == n
    # In which of 50 parts of the input the chosen stand: drawn without replacement, so the
    # counts vary by (N-n)/(N-1) less than those of independent draws.
    counts = np.bincount(order * 50 // N, minlength=50)
    expected = n / 50
    statistic = float(((counts - expected) ** 2 / expected).sum()) * (N - 1) / (N - n)
    assert is_random(f"{way}: sample", statistic, 49)


def test_each_place_of_each_record() -> None:
    """Fifty records, each in each of fifty places, over many seeds."""
    n, draws = 50, 4000
    orders = np.array([permutation(n, seed=s << 32, threads=1) for s in range(draws)])
    places = np.tile(np.arange(n), (draws, 1))
    # `table` corrects for one draw of n * draws things; here each draw has margins of its own.
    statistic = table(orders, places, n, n) * (n * draws) / (n * draws - 1) * (n - 1) / n
    assert is_random("places", statistic, (n - 1) ** 2)
