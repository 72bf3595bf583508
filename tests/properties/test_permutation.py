"""The promise: `permutation` is one line of NumPy, for every n, seed, stream and thread count.

``np.argsort(np.random.Philox(key=seed, counter=[0, 0, stream, 0]).random_raw(n), kind="stable")``:
checked around the sizes at which its ranges double, and wherever hypothesis looks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.shuffle import permutation
from properties.engine import lines, shuffled
from properties.inputs import SEEDS

RANGE = 1 << 15  # records that are sorted at a time
STEP = 1 << 16  # keys that are computed at a time


def formula(n: int, seed: int, stream: int = 0) -> npt.NDArray[np.int64]:
    counter = np.array([0, 0, stream, 0], dtype=np.uint64)
    words = np.random.Philox(key=seed, counter=counter).random_raw(n)
    return np.argsort(words, kind="stable")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    "n",
    [
        *(0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 255, 256, 257),
        *(edge + step for edge in (RANGE, STEP, 3 * STEP, 8 * RANGE) for step in (-1, 0, 1)),
    ],
)
def test_edges(n: int, threads: int) -> None:
    order = permutation(n, seed=n, stream=3, threads=threads)
    assert order.dtype == np.uint64
    assert order.shape == (n,)
    assert np.array_equal(order, formula(n, n, 3))


@given(
    n=st.integers(0, 3 * RANGE),
    seed=SEEDS,
    stream=st.integers(0, 2**32 - 1),
    threads=st.integers(1, 5),
)
def test_any(n: int, seed: int, stream: int, threads: int) -> None:
    order = permutation(n, seed=seed, stream=stream, threads=threads)
    assert np.array_equal(order, formula(n, seed, stream))


@pytest.mark.parametrize("stream", [0, 1, 2**31, 2**32 - 1])
def test_the_edges_of_the_stream(stream: int) -> None:
    assert np.array_equal(permutation(1000, seed=7, stream=stream), formula(1000, 7, stream))


def test_millions() -> None:
    n = 2_000_003
    order = permutation(n, seed=2**100 + 1)
    assert np.array_equal(order, formula(n, 2**100 + 1))


def test_it_is_the_order_of_a_file() -> None:
    text = lines(3000, lambda number: number % 40)
    records = text.split(b"\n")[:-1]
    expected = b"".join(records[i] + b"\n" for i in permutation(3000, seed=11))
    assert shuffled([text], 11)[0] == expected
