"""Rows of arrays of all kinds, in float64 a block at a time, and their norms."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from corekit import _checks
from corekit.errors import InvalidArgumentError
from corekit.projection import _arrays

# Numbers in one block: 8 MiB of float64.
CELLS = 1 << 20

Index: TypeAlias = slice | NDArray[np.int64]
# Rows in float64: a C-ordered array, or a scipy.sparse.csr_array in canonical form. Both
# are nobody else's, and finite.
Block: TypeAlias = Any


class Rows(ABC):
    """The rows of a matrix, in float64 a block at a time.

    Attributes
    ----------
    name : str
        What errors call the matrix.
    n_rows, n_columns : int
        Its shape.
    terms : int
        The most numbers that a product of two rows is a sum of.
    """

    __slots__ = ("n_columns", "n_rows", "name", "terms")

    def __init__(self, name: str, shape: Sequence[int], terms: int) -> None:
        self.name = name
        self.n_rows, self.n_columns = map(int, shape)
        self.terms = terms
        if self.n_columns < 1:
            raise InvalidArgumentError(f"{name} must have at least 1 column, got 0")

    def check_length(self, low: int) -> None:
        """Refuse fewer rows than these, and more than pairs are drawn of."""
        _checks.integer(f"the number of rows of {self.name}", self.n_rows, low=low, high=1 << 31)

    @abstractmethod
    def take(self, index: Index) -> Block:
        """Return rows in float64, finite, in memory of their own."""

    def cells(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many numbers each of these rows takes in a block."""
        return np.full(len(index), self.n_columns)

    def spans(self, most: int) -> Iterator[tuple[int, int]]:
        """Cut all rows into blocks that are not too large, of `most` rows at most."""
        step = max(1, min(most, CELLS // self.n_columns))
        for start in range(0, self.n_rows, step):
            yield start, min(start + step, self.n_rows)


class Given(Rows):
    """Rows of an array that is there."""

    __slots__ = ()

    @abstractmethod
    def native(self, index: Index) -> Any:
        """Return rows as they are, as what `project` is to be given."""


class _Dense(Given):
    """An array in memory, or in a memory map."""

    __slots__ = ("_found",)

    def __init__(self, name: str, found: _arrays.Dense) -> None:
        super().__init__(name, found.shape, found.shape[1])
        self._found = found

    def native(self, index: Index) -> Any:
        return self._found.wrap(self._found.values[index], self._found.dtype)

    def take(self, index: Index) -> Block:
        some = self._found.values[index]
        if self._found.dtype == "bfloat16":
            # The upper half of a float32.
            some = (some.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return _finite(self.name, np.array(some, dtype=np.float64, order="C"), index)


class _Sparse(Given):
    """A CSR array or matrix of scipy, which may have unsorted rows and duplicates."""

    __slots__ = ("_csr", "_starts")

    def __init__(self, name: str, csr: Any) -> None:
        self._csr = csr
        self._starts = np.asarray(csr.indptr, dtype=np.int64)
        super().__init__(name, csr.shape, int(np.diff(self._starts).max(initial=0)))

    def native(self, index: Index) -> Any:
        return self._csr[index]

    def take(self, index: Index) -> Block:
        some = self._csr[index]
        # Copied: what is brought into canonical form must not be the caller's.
        data = np.array(some.data, dtype=np.float64)
        parts = (data, some.indices.copy(), some.indptr.copy())
        block = sys.modules["scipy.sparse"].csr_array(parts, shape=some.shape)
        block.sum_duplicates()
        return _finite(self.name, block, index)

    def cells(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths: NDArray[np.int64] = self._starts[index + 1] - self._starts[index]
        return lengths

    def spans(self, most: int) -> Iterator[tuple[int, int]]:
        return _greedy(self._starts, most)


class Projected(Rows):
    """What a projection makes of rows, made when it is needed."""

    __slots__ = ("_projection", "_x")

    def __init__(self, name: str, x: Given, projection: Any) -> None:
        self._x = x
        self._projection = projection
        x.check_length(1)
        first = rows_of(name, projection.project(x.native(slice(0, 1))))
        super().__init__(name, (x.n_rows, first.n_columns), first.n_columns)

    def take(self, index: Index) -> Block:
        rows = self._x.native(index)
        made = rows_of(self.name, self._projection.project(rows))
        if (made.n_rows, made.n_columns) != (rows.shape[0], self.n_columns):
            raise InvalidArgumentError(
                f"{self.name} must have a row of {self.n_columns} for each of {rows.shape[0]}, "
                f"got {made.n_rows} of {made.n_columns}"
            )
        block = made.take(slice(None))
        return block if isinstance(block, np.ndarray) else block.toarray()

    def cells(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._x.cells(index) + self.n_columns

    def spans(self, most: int) -> Iterator[tuple[int, int]]:
        return self._x.spans(max(1, min(most, CELLS // self.n_columns)))


def rows_of(name: str, value: Any) -> Given:
    """Return the rows of an array of any kind that is taken."""
    if not _arrays.is_sparse(value):
        return _Dense(name, _arrays.dense(name, value))
    found = _arrays.compressed(name, value)
    _arrays.refuse_damaged(name, found)
    return _Sparse(name, found.tocsr())


def _finite(name: str, block: Block, index: Index) -> Block:
    """Return a block whose values are all finite; else name the first that is not."""
    values = block if isinstance(block, np.ndarray) else block.data
    if np.isfinite(values).all():
        return block
    at = np.argwhere(~np.isfinite(values))[0]
    if isinstance(block, np.ndarray):
        row, column = at.tolist()
    else:
        row = int(np.searchsorted(block.indptr, at[0], side="right")) - 1
        column = int(block.indices[at[0]])
    row = (index.start or 0) + row if isinstance(index, slice) else int(index[row])
    raise InvalidArgumentError(
        f"{name} must be finite, got {values[tuple(at)]} in row {row}, column {column}"
    )


def parts(cells: NDArray[np.int64]) -> Iterator[slice]:
    """Cut rows or pairs that take so many cells each into parts that are not too large."""
    ends = np.concatenate(([0], np.cumsum(cells)))
    for start, stop in _greedy(ends, len(cells)):
        yield slice(start, stop)


def _greedy(ends: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    start, last = 0, len(ends) - 1
    while start < last:
        stop = int(np.searchsorted(ends, ends[start] + CELLS, side="right")) - 1
        stop = min(max(stop, start + 1), start + most, last)
        yield start, stop
        start = stop


def squared_distances(
    rows: Rows, i: NDArray[np.int64], j: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the squared distances of pairs of rows as numbers and powers of 2."""
    with np.errstate(over="ignore"):
        return squared_norms(rows.name, rows.take(i) - rows.take(j))


def squared_norms(name: str, block: Block) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the squared norms of rows as numbers and powers of 2, at any scale.

    So a norm is zero only if the row is.
    """
    with np.errstate(over="ignore"):
        sums = plain_squared_norms(block)
    powers = np.zeros(len(sums), dtype=np.int64)
    odd = np.flatnonzero(~((sums > 2.0**-900) & (sums < 2.0**900)))
    if len(odd):
        sums[odd], powers[odd] = _scaled_squares(name, block[odd])
    return sums, powers


def _scaled_squares(name: str, block: Block) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values, row = _stored(block)
    peaks = np.zeros(block.shape[0])
    np.maximum.at(peaks, row, np.abs(values))
    if not np.isfinite(peaks).all():
        raise InvalidArgumentError(
            f"{name} must have differences that float64 can hold, got larger ones"
        )
    powers = np.frexp(peaks)[1].astype(np.int64)
    squares = np.square(np.ldexp(values, -powers[row]))
    return _summed(squares, row, len(peaks)), 2 * powers


def _stored(block: Block) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the values of a block and the row of each, but for some zeros."""
    if isinstance(block, np.ndarray):
        row, _ = np.nonzero(block)
        return block[block != 0], row
    return block.data, np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))


def _summed(
    values: NDArray[np.float64], row: NDArray[np.int64], n_rows: int
) -> NDArray[np.float64]:
    # Without any values it counts, in integers.
    return np.bincount(row, weights=values, minlength=n_rows).astype(np.float64)


def plain_squared_norms(block: Block) -> NDArray[np.float64]:
    """Return the squared norms of rows, which may be too large or too small for float64."""
    if isinstance(block, np.ndarray):
        sums: NDArray[np.float64] = np.einsum("ij,ij->i", block, block)
        return sums
    values, row = _stored(block)
    return _summed(np.square(values), row, block.shape[0])
