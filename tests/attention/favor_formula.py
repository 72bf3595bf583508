"""The matrix of the random features as a formula: IEEE + - x / sqrt and whole numbers alone.

Row j starts as the normal quantiles of the words of stream j of its seed, in the domain of
attention. With ``orthogonal`` the rows go in blocks of as many as a row has entries: those of a
block are made orthogonal, one after another, and each then gets the norm that it had.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from projection.gaussian_formula import normal

Matrix = npt.NDArray[np.float64]

ATTENTION = 2 << 32
"""The last word of the counter of all streams: the domain of attention."""


def matrix(favor: Any, key_dim: int) -> Matrix:
    """Return the m x D matrix of a map."""
    return _matrix(favor.n_features, favor.orthogonal, favor.seed, key_dim)


@lru_cache(64)
def _matrix(n_features: int, orthogonal: bool, seed: int, key_dim: int) -> Matrix:
    w = gaussian(n_features, key_dim, seed)
    if orthogonal:
        for first in range(0, n_features, key_dim):
            w[first : first + key_dim] = orthogonalised(w[first : first + key_dim])
    w.flags.writeable = False
    return w


def gaussian(n_features: int, key_dim: int, seed: int) -> Matrix:
    """Return independent rows."""
    rows = [
        np.random.Philox(key=seed, counter=[0, 0, j, ATTENTION]).random_raw(key_dim)
        for j in range(n_features)
    ]
    words = np.array(rows, dtype=np.uint64).reshape(n_features * key_dim)
    return normal(words).reshape(n_features, key_dim)


def dot(a: list[float], b: list[float]) -> float:
    """Add up products from left to right, each rounded."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total += x * y
    return total


def orthogonalised(block: Matrix) -> Matrix:
    """Modified Gram and Schmidt, each row twice, with the norms of the rows that came in."""
    given: list[list[float]] = block.tolist()
    unit: list[list[float]] = []
    for start in given:
        row = start
        for _ in range(2):
            for other in unit:
                along = dot(other, row)
                row = [x - along * y for x, y in zip(row, other, strict=True)]
        norm = float(np.sqrt(dot(row, row)))
        unit.append([x / norm for x in row])
    norms = [float(np.sqrt(dot(row, row))) for row in given]
    return np.array([[norm * x for x in row] for norm, row in zip(norms, unit, strict=True)])
