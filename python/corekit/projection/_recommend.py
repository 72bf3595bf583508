"""How many entries a feature needs, so that no row is at the mercy of two features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corekit import _checks
from corekit.projection import _rows

MOST = 16


def recommend_column_nnz(X: Any, n_components: int, *, eps: float) -> int:
    """Return the smallest `column_nnz` with which no two features can spoil a row of X.

    Where two features share an output, with one of the s entries of each, the squared norm
    of a row x is off by ``2 * |x_a * x_b| / s``. The largest such error, relative to the
    squared norm, is that of the two largest magnitudes of the row. The smallest s of
    1, 2, 4, 8 and 16 is returned with which it is at most eps in every row.

    This bounds the worst of single collisions. It does not bound the sum of many small
    ones, which `min_components` is for and which s does not change. Distances are norms of
    differences of rows, so where these matter give a sample of differences.

    Parameters
    ----------
    X
        The rows, as `distortion` takes them. They are read once, a block at a time.
    n_components
        Outputs; no more entries than these are recommended.
    eps
        The error that is accepted, above 0 and below 1.

    Returns
    -------
    int
        1, 2, 4, 8 or 16, at most `n_components`. Where none of them suffices it is the
        largest, though a single collision can do more than eps then. For eps of 1/16 and
        above, and 16 components or more, one always suffices, since the worst row, of two
        equal features, is off by 1/s.

    Raises
    ------
    InvalidArgumentError
        X is not two-dimensional, has no rows or columns, or a value that is not finite;
        `n_components` is below 1 or eps out of its range.
    ArgumentTypeError
        An argument is of a type that is not taken.

    Notes
    -----
    Rows of zeros say nothing and are skipped.

    X is read once: O(n d) time, O(nnz log nnz) sparse, and some blocks of 8 MiB.

    Examples
    --------
    >>> import numpy as np
    >>> even = np.ones((1, 1000))
    >>> recommend_column_nnz(even, 256, eps=0.1)
    1
    >>> two = np.eye(1000)[:1] + np.eye(1000)[1:2]
    >>> recommend_column_nnz(two, 256, eps=0.1)
    16
    >>> recommend_column_nnz(two, 256, eps=0.3)
    4
    """
    rows = _rows.rows_of("X", X)
    k = _checks.integer("n_components", n_components, low=1)
    limit = _checks.fraction("eps", eps)
    rows.check_length(1)
    worst = max(
        float(_shares(rows.take(slice(start, stop))).max())
        for start, stop in rows.spans(rows.n_rows)
    )
    s = 1
    while s < MOST and 2 * s <= k and worst > s * limit:
        s *= 2
    return s


def _shares(block: Any) -> NDArray[np.float64]:
    """Return ``2 |x_a x_b| / |x|**2`` of the two largest magnitudes of each row; of zeros 0."""
    second, first = _largest_two(block)
    squares, power = _rows.squared_norms("X", block)
    # Numbers and powers of 2 apart: right at any scale, and where it is eps to the last bit.
    (a, a_power), (b, b_power) = np.frexp(first), np.frexp(second)
    quotient = np.divide(2 * a * b, squares, out=np.zeros(len(squares)), where=squares > 0)
    shares: NDArray[np.float64] = np.ldexp(quotient, a_power + b_power - power)
    return shares


def _largest_two(block: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the second largest and the largest magnitude of each row; 0 where there is none."""
    if isinstance(block, np.ndarray):
        # A column of zeros changes no norm, and makes two of one.
        magnitudes = np.abs(np.pad(block, ((0, 0), (0, 1))) if block.shape[1] == 1 else block)
        magnitudes.partition(magnitudes.shape[1] - 2, axis=1)
        return magnitudes[:, -2], magnitudes[:, -1]
    lengths = np.diff(block.indptr)
    magnitudes = np.abs(block.data)
    order = np.lexsort((magnitudes, np.repeat(np.arange(len(lengths)), lengths)))
    # Two zeros in front, for rows that have none or one.
    ascending = np.concatenate(([0.0, 0.0], magnitudes[order]))
    ends = block.indptr[1:] + 1
    return (
        np.where(lengths > 1, ascending[ends - 1], 0.0),
        np.where(lengths > 0, ascending[ends], 0.0),
    )
