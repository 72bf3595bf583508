"""Projections straight from the published formulas, in NumPy; no code of corekit's is used.

Only what a few rows need is drawn: the columns of the matrix at which they are not zero.
"""

from __future__ import annotations

from itertools import pairwise
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

DOMAIN = 2**32  # the last word of the projection's counters

Floats = npt.NDArray[np.float64]


def block_stack(rows: Any, n_components: int, column_nnz: int, seed: int) -> Floats:
    """Project the rows of a dense or CSR matrix by the law "block-stack"."""
    rows = rows.tocsc() if hasattr(rows, "tocsc") else np.asarray(rows, dtype=np.float64)
    occupied = np.diff(rows.indptr) > 0 if hasattr(rows, "indptr") else np.any(rows != 0, axis=0)
    features = np.flatnonzero(occupied)
    columns = _stack_columns(features, n_components, column_nnz, seed)
    part = rows[:, features]
    dense = part.toarray() if hasattr(part, "toarray") else part
    return np.asarray(dense, dtype=np.float64) @ columns.T


def srht(rows: npt.ArrayLike, n_components: int, seed: int) -> Floats:
    """Project the rows of a dense matrix by a randomised Hadamard transform."""
    x = np.asarray(rows, dtype=np.float64)
    size = 1 << (x.shape[1] - 1).bit_length()
    bits = _words(seed, 0, -(-size // 64)).astype("<u8").view(np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(bits, bitorder="little")[: x.shape[1]]
    mixed = np.zeros((len(x), size))
    mixed[:, : x.shape[1]] = x * signs
    half = 1
    while half < size:
        pairs = mixed.reshape(len(x), -1, 2, half)
        mixed = np.stack(
            (pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), axis=2
        ).reshape(len(x), size)
        half *= 2
    kept = np.argsort(_words(seed, 1, size), kind="stable")[:n_components]
    return np.asarray(mixed[:, kept] / np.sqrt(n_components), dtype=np.float64)


def _words(seed: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    drawn: npt.NDArray[np.uint64] = np.random.Philox(
        key=seed, counter=[0, 0, stream, DOMAIN]
    ).random_raw(count)
    return drawn


def _stack_columns(features: npt.NDArray[np.intp], k: int, s: int, seed: int) -> Floats:
    """Return the columns of these features, side by side."""
    width = min(16, 1 << ((k // s).bit_length() - 1))
    groups = -(-k // width)
    first = [groups * r // s for r in range(s + 1)]
    weights = _weights(k, width, first)
    place = {int(feature): number for number, feature in enumerate(features)}
    columns = np.zeros((k, len(features)))
    for block in sorted({feature // width for feature in place}):
        drawn = _words(seed, block, s if width == 1 else 2 * s).reshape(s, -1)
        for r in range(s):
            word = int(drawn[r, 0])
            group = first[r] + (word * (first[r + 1] - first[r]) >> 64)
            start = min(group * width, k - width)
            lanes = [0] if width == 1 else _lanes(word, int(drawn[r, 1]), width)
            for lane, offset in enumerate(lanes):
                number = place.get(block * width + offset)
                if number is not None:
                    columns[start + lane, number] = (-weights[r], weights[r])[~word >> lane & 1]
    return columns


def _lanes(word: int, index: int, width: int) -> list[int]:
    """Return which feature of its block each lane takes."""
    if width < 16:
        return _permutation(index * factorial(width) >> 64, width)
    swap = word >> 16 & 1
    upper, lower = divmod(index * factorial(8) ** 2 >> 64, factorial(8))
    left = [8 * swap + place for place in _permutation(upper, 8)]
    return left + [8 * (1 - swap) + place for place in _permutation(lower, 8)]


def _permutation(index: int, size: int) -> list[int]:
    places = list(range(size))
    for last in range(size - 1, 0, -1):
        index, other = divmod(index, last + 1)
        places[last], places[other] = places[other], places[last]
    return places


def _weights(k: int, width: int, first: list[int]) -> list[float]:
    sizes = [(after - before) * width for before, after in pairwise(first)]
    # The last group shares `over` outputs with its neighbour, where a feature falls twice as often.
    over = first[-1] * width - k
    overlaps = [0] * (len(sizes) - 1) + [over]
    inverse = [n * n / (n + 2 * twice) for n, twice in zip(sizes, overlaps, strict=True)]
    total = sum(inverse)
    return [float(np.sqrt(part / total)) for part in inverse]
