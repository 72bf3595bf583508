"""The subsampled randomised Hadamard transform in NumPy, plainly: the public formula."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PROJECTIONS = 1 << 32
"""The last word of the counter of all streams: the domain of projections."""


def words(seed: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the first words of one Philox stream."""
    return np.random.Philox(key=seed, counter=[0, 0, stream, PROJECTIONS]).random_raw(count)


def padded(d: int) -> int:
    """Return N, the next power of two from `d` on."""
    return 1 << (d - 1).bit_length()


def srht(d: int, k: int, seed: int) -> npt.NDArray[np.float64]:
    """Return the k x d matrix S H D / sqrt(k), for 1 <= k <= N.

    D negates the features whose bit of stream 0 is 1; H[i, f] is (-1)**popcount(i & f), N x N;
    S takes the k outputs whose words of stream 1 are the smallest, in ascending order of these.
    """
    feature = np.arange(d, dtype=np.uint64)
    signs = words(seed, 0, -(-d // 64))[feature // 64] >> feature % 64 & 1
    rows = np.argsort(words(seed, 1, padded(d)), kind="stable")[:k].astype(np.uint64)
    minus = rows[:, None] & feature
    for half in (32, 16, 8, 4, 2, 1):
        minus ^= minus >> half  # the parity of all bits comes to the lowest
    entries: npt.NDArray[np.float64] = np.where((minus ^ signs) & 1, -1.0, 1.0) / np.sqrt(k)
    return entries
