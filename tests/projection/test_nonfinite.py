"""The promise: a NaN or an infinity reaches exactly the outputs that its feature touches.

All other outputs are what they would be without it. With ``check_finite=True`` such input is
refused before anything is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import InvalidArgumentError
from corekit.projection import SparseProjection
from projection.formula import KINDS, SIGNED
from projection.operators import Array, data, dense, make, projections, same

VALUES = [np.nan, np.inf, -np.inf]
TYPES = ["float32", "float64", "float16"]


def reaches(projection: SparseProjection, X: Array, row: int, feature: int, value: float) -> None:
    clean = projection.project(X)
    spoilt = X.copy()
    spoilt[row, feature] = value
    got = projection.project(spoilt)
    column = dense(projection)[:, feature]
    touched = column != 0
    assert (~np.isfinite(got[row]) == touched).all()
    if np.isinf(value):
        assert same(got[row, touched], (np.sign(column[touched]) * value).astype(got.dtype))
    assert same(got[row, ~touched], clean[row, ~touched])
    others = np.arange(len(X)) != row
    assert same(got[others], clean[others])


@given(projection=projections(), picks=st.data(), value=st.sampled_from(VALUES))
def test_it_reaches_what_its_feature_touches(
    projection: SparseProjection, picks: st.DataObject, value: float
) -> None:
    n = picks.draw(st.integers(1, 20))
    row = picks.draw(st.integers(0, n - 1))
    feature = picks.draw(st.integers(0, projection.n_features - 1))
    X = data(n, projection.n_features, picks.draw(st.sampled_from(["f4", "f8"])))
    reaches(projection, X, row, feature, value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_in_every_feature(kind: str, dtype: str) -> None:
    projection = make(kind, 67, 40)
    for order in ("C", "F"):
        X = np.array(data(70, 67, dtype), order=order)
        for feature in range(67):
            reaches(projection, X, feature % 70, feature, np.nan)


@pytest.mark.parametrize("kind", SIGNED)
def test_infinities_that_meet(kind: str) -> None:
    projection = make(kind, 64, 8, **({"column_nnz": 1} if kind == "block-stack" else {}))
    A = projection.to_dense()
    X = np.zeros((1, 64), np.float32)
    X[0, :] = np.inf
    got = projection.project(X)[0]
    for output, row in enumerate(A):
        signs = set(np.sign(row[row != 0]))
        expected = {0: 0.0, 1: np.inf * max(signs, default=0)}.get(len(signs), np.nan)
        assert np.array_equal(got[output], expected, equal_nan=True)


@pytest.mark.parametrize("form", ["csr_array", "csc_array"])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_input(kind: str, form: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    projection = make(kind, 67, 40)
    X = data(20, 67)
    X[np.random.default_rng(1).random(X.shape) < 0.8] = 0
    X[3, 5] = np.nan
    given = getattr(sparse, form)(X)
    assert same(projection.project(given), projection.project(X))
    out = np.full((20, projection.n_components), 7, np.float32)
    with pytest.raises(InvalidArgumentError, match=r"^X must .*finite"):
        projection.project(given, out=out, check_finite=True)
    assert (out == 7).all()
    given.data[np.isnan(given.data)] = 1
    finite = projection.project(given, check_finite=True)
    assert same(finite, projection.project(given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", VALUES)
def test_it_is_refused_on_demand(kind: str, dtype: str, value: float) -> None:
    projection = make(kind, 67, 40)
    k = projection.n_components
    for name, call, X in [
        ("X", projection.project, data(300, 67, dtype)),
        ("Y", projection.adjoint, data(300, k, dtype)),
        ("X", projection.left, data(67, 300, dtype)),
    ]:
        expected = call(X)
        assert same(call(X, check_finite=True), expected)
        for row, column in [(0, 0), (len(X) - 1, X.shape[1] - 1), (len(X) // 2, 3)]:
            spoilt = X.copy()
            spoilt[row, column] = value
            out = np.full_like(expected, 7)
            refused: dict[str, Any] = {"check_finite": True, "out": out}
            with pytest.raises(InvalidArgumentError, match=rf"^{name} must .*finite.*got"):
                call(spoilt, **refused)
            assert (out == 7).all()


def test_integers_are_finite() -> None:
    projection = make("block-stack", 67, 40)
    X = data(5, 67, np.int64)
    assert same(projection.project(X, check_finite=True), projection.project(X))


def test_large_finite_values_are_no_fault() -> None:
    projection = make("block-stack", 67, 40)
    X = np.full((5, 67), np.finfo(np.float32).max)
    # Sums may overflow, which is the caller's matter: the input was finite.
    assert projection.project(X, check_finite=True).shape == (5, 40)
