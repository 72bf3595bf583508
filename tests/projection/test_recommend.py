"""The recommended number of entries is the smallest that no collision of two features breaks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.projection import _rows, recommend_column_nnz


def naive(x: Any, k: int, eps: float) -> int:
    """Decide with exact fractions."""
    worst = Fraction(0)
    for row in x.tolist():
        values = sorted((abs(Fraction(value)) for value in row), reverse=True)
        if any(values):
            two = [*values, Fraction(0)][:2]
            worst = max(worst, 2 * two[0] * two[1] / sum(value * value for value in values))
    allowed = [s for s in (1, 2, 4, 8, 16) if s <= k]
    return next((s for s in allowed if worst / s <= Fraction(eps)), allowed[-1])


@pytest.mark.parametrize(
    ("row", "eps", "wanted"),
    [
        ([1.0, 0.0, 0.0], 0.01, 1),
        ([1.0, 1.0, 0.0], 0.5, 2),
        ([1.0, -1.0, 0.0], 0.25, 4),
        ([-1.0, 1.0, 0.0], 0.2499, 8),
        ([1.0, 1.0, 0.0], 0.0625, 16),
        ([1.0, 1.0, 0.0], 0.01, 16),
        ([1.0, 1.0, 1.0], 0.7, 1),
        ([2.0, 1.0, 0.0], 0.4, 2),
        ([0.0, 0.0, 0.0], 0.1, 1),
    ],
)
def test_exact_values(row: list[float], eps: float, wanted: int) -> None:
    assert recommend_column_nnz(np.array([row]), 64, eps=eps) == wanted


@pytest.mark.parametrize(
    ("k", "wanted"), [(1, 1), (2, 2), (3, 2), (7, 4), (8, 8), (15, 8), (16, 16)]
)
def test_there_are_no_more_entries_than_outputs(k: int, wanted: int) -> None:
    assert recommend_column_nnz(np.ones((1, 2)), k, eps=0.01) == wanted


matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-6e4, 6e4, width=16)),
)
limits = st.sampled_from([0.03, 0.0625, 0.1, 0.125, 0.25, 0.3, 0.5, 0.9])


@given(matrices, st.integers(1, 40), limits)
def test_it_is_that_of_exact_fractions(x: Any, k: int, eps: float) -> None:
    assert recommend_column_nnz(x, k, eps=eps) == naive(x, k, eps)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix"])
@given(matrices, limits)
def test_it_is_that_of_exact_fractions_for_sparse_data(kind: str, x: Any, eps: float) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    assert recommend_column_nnz(getattr(sparse, kind)(x), 40, eps=eps) == naive(x, 40, eps)


def test_the_worst_row_decides_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "CELLS", 64)
    for at in range(50):
        x = np.ones((50, 32))
        x[at, 2:] = 0
        assert recommend_column_nnz(x, 64, eps=0.25) == 4


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1e308])
def test_the_scale_is_not_seen(scale: float) -> None:
    assert recommend_column_nnz(np.array([[1.0, 1.0, 0.0]]) * scale, 64, eps=0.25) == 4


def test_duplicates_are_summed() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.csr_array(
        (np.array([1.0, 3.0, -3.0, 1.0]), np.array([0, 1, 1, 1]), np.array([0, 4])), shape=(1, 3)
    )
    assert recommend_column_nnz(x, 64, eps=0.25) == 4


def test_a_wide_sparse_array_is_not_made_dense() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.csr_array(
        (np.ones(3), np.array([0, 2**40, 5]), np.array([0, 2, 3])), shape=(2, 2**41)
    )
    assert recommend_column_nnz(x, 64, eps=0.25) == 4


@pytest.mark.parametrize(
    ("x", "k", "eps", "error", "message"),
    [
        (np.ones(3), 8, 0.1, InvalidArgumentError, "X must be a matrix"),
        (np.ones((0, 3)), 8, 0.1, InvalidArgumentError, "rows of X must be at least 1"),
        (np.ones((3, 0)), 8, 0.1, InvalidArgumentError, "at least 1 column"),
        (np.array([[np.nan]]), 8, 0.1, InvalidArgumentError, "got nan in row 0, column 0"),
        (np.ones((3, 3)), 0, 0.1, InvalidArgumentError, "n_components"),
        (np.ones((3, 3)), 8.0, 0.1, ArgumentTypeError, "n_components"),
        (np.ones((3, 3)), 8, 0.0, InvalidArgumentError, "eps"),
        (np.ones((3, 3)), 8, 1.0, InvalidArgumentError, "eps"),
        (np.ones((3, 3)), 8, "0.1", ArgumentTypeError, "eps"),
        ("x", 8, 0.1, ArgumentTypeError, "X must be a matrix"),
        (np.ones((3, 3), dtype=complex), 8, 0.1, ArgumentTypeError, "X must have a dtype"),
    ],
)
def test_bad_arguments_are_refused(
    x: Any, k: Any, eps: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        recommend_column_nnz(x, k, eps=eps)
