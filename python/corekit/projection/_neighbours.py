"""Nearest neighbours, exactly.

They are found with products of matrices, which are fast and round; what rounding leaves open
is settled with differences of rows:

1. Every squared distance ``|q|^2 + |x|^2 - 2 q.x`` comes with a bound of its error, so it
   is an interval. Rows whose interval begins above the 10th smallest end of one cannot be
   neighbours.
2. The others, seldom more than ten, are compared by the sums of their squared differences.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corekit.errors import InvalidArgumentError
from corekit.projection import _rows
from corekit.projection._rows import (
    Block,
    Rows,
    parts,
    plain_squared_norms,
    squared_distances,
)

# Queries of one pass over the rows: so many numbers, and so many rows at most.
_QUERY_CELLS = 8 * _rows.CELLS
_QUERY_ROWS = 1024
# Neighbours whose squared distances agree to this part are as good as each other.
_EQUAL = 1e-9
# Of rows that agree so, this many are compared any further: the first.
_TIED = 64


def recall_of(x: Rows, y: Rows, queries: NDArray[np.int64], count: int) -> float:
    """Return the share of the neighbours in y that are neighbours in x."""
    found, _ = _nearest(y, queries, count)
    _, distances = _nearest(x, queries, count)
    reached = distances[:, -1:] * (1 + _EQUAL)
    again = _plain_distances(x, np.repeat(queries, count), found.ravel())
    return float((again.reshape(found.shape) <= reached).mean())


def _nearest(
    rows: Rows, queries: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest other rows of each query and their squared distances, ascending."""
    found = np.empty((len(queries), count), dtype=np.int64)
    distances = np.empty((len(queries), count))
    step = max(1, min(_QUERY_ROWS, _QUERY_CELLS // rows.n_columns))
    for start in range(0, len(queries), step):
        group = queries[start : start + step]
        candidates = _candidates(rows, group, count)
        lengths = [len(some) for some in candidates]
        every = np.concatenate(candidates)
        exact = _plain_distances(rows, np.repeat(group, lengths), every)
        ends = np.cumsum(lengths)
        for number, end in enumerate(ends.tolist()):
            some = slice(end - lengths[number], end)
            # Candidates ascend, so that of equal distances the first row comes first.
            order = np.argsort(exact[some], kind="stable")[:count]
            found[start + number] = every[some][order]
            distances[start + number] = exact[some][order]
    return found, distances


def _plain_distances(rows: Rows, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the squared distances of pairs of rows."""
    squared = np.empty(len(i))
    for part in parts(rows.cells(i) + rows.cells(j)):
        squared[part] = np.ldexp(*squared_distances(rows, i[part], j[part]))
    return squared


class _Reach:
    """The rows that may be among the nearest of one query, as intervals of distances."""

    def __init__(self) -> None:
        self.rows = np.empty(0, dtype=np.int64)
        self._low = np.empty(0)
        self._high = np.empty(0)

    def add(
        self,
        rows: NDArray[np.int64],
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        limit: float,
    ) -> None:
        """Take more rows, which come after those there, and drop those beyond the limit."""
        rows = np.concatenate((self.rows, rows))
        low = np.concatenate((self._low, low))
        high = np.concatenate((self._high, high))
        # One-hot rows all have the same distance, and there may be millions.
        tied = (low >= limit * (1 - _EQUAL)) & (high <= limit * (1 + _EQUAL))
        kept = (low <= limit) & ~(tied & (np.cumsum(tied) > _TIED))
        self.rows, self._low, self._high = rows[kept], low[kept], high[kept]


def _candidates(rows: Rows, group: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Return, for each query of a group, rows that its nearest ones are among."""
    search = _Search(rows.take(group), rows.terms)
    reaches = [_Reach() for _ in group]
    nearest = np.full((len(group), count), np.inf)
    own_row = np.arange(len(group))
    for start, stop in rows.spans(max(1, _rows.CELLS // len(group))):
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = search.intervals(rows.take(slice(start, stop)))
        if not np.isfinite(high).all():
            raise InvalidArgumentError(
                f"{rows.name} must have squared distances that float64 can hold, got larger ones"
            )
        inside = (group >= start) & (group < stop)
        low[own_row[inside], group[inside] - start] = np.inf
        high[own_row[inside], group[inside] - start] = np.inf
        ends = np.concatenate((nearest, high), axis=1)
        nearest = np.partition(ends, count - 1, axis=1)[:, :count]
        limits = nearest[:, -1]
        near = low <= limits[:, np.newaxis]
        for number in np.flatnonzero(near.any(axis=1)).tolist():
            at = np.flatnonzero(near[number] & np.isfinite(low[number]))
            reaches[number].add(
                start + at, low[number, at], high[number, at], float(limits[number])
            )
    return [reach.rows for reach in reaches]


class _Search:
    """Squared distances from a few queries to many rows, by matrix products."""

    def __init__(self, queries: Block, terms: int) -> None:
        # A product of n terms is off by n units of rounding of |q| |x|, at most; so are the
        # squares, and there is a factor of 2 to spare for what else is rounded.
        self._unit = 4 * (terms + 8) * 2.0**-53
        self._is_dense = isinstance(queries, np.ndarray)
        # Data far from zero lose digits in the products; the difference does not mind.
        self._centre = queries.mean(axis=0) if self._is_dense else None
        queries = queries - self._centre if self._is_dense else queries
        self._norms = plain_squared_norms(queries)[:, np.newaxis]
        self._queries = queries if self._is_dense else queries.T.tocsr()

    def intervals(self, block: Block) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return bounds of the squared distances, queries by rows."""
        if self._is_dense:
            block -= self._centre
            products = self._queries @ block.T
        else:
            products = (block @ self._queries).toarray().T
        norms = self._norms + plain_squared_norms(block)
        width = self._unit * norms
        norms -= 2 * products
        return norms - width, norms + width
