"""The promise: `project`, `adjoint` and `left` are one linear map, its transpose, and itself.

⟨Ax, y⟩ = ⟨x, Aᵀy⟩; sums and multiples go through; the identity gives the matrix; `left` of a
matrix is `project` of its transpose, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.projection import SparseProjection
from projection.formula import KINDS, SIGNED
from projection.layouts import LAYOUTS
from projection.operators import Array, close, data, dense, make, projections, same, types

TYPES = ["float32", "float64", "float16", "int32", "uint8"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_adjoint_is_the_transpose(kind: str, dtype: str) -> None:
    for n, d, k in [(1, 1, 1), (3, 7, 33), (9, 65, 12), (66, 130, 100), (2, 1025, 300)]:
        projection = make(kind, d, k)
        Y = data(n, projection.n_components, dtype)
        X = projection.adjoint(Y)
        sums, out = types(dtype)
        assert (X.dtype, X.shape) == (out, (n, d))
        close(X, Y.astype(np.float64), dense(projection), sums)


@given(projection=projections(), n=st.integers(0, 9), seed=st.integers(0, 99))
def test_adjoint_of_any_projection(projection: SparseProjection, n: int, seed: int) -> None:
    Y = data(n, projection.n_components, np.float64, seed=seed)
    close(projection.adjoint(Y), Y, dense(projection), np.dtype(np.float64))


@given(projection=projections(), seed=st.integers(0, 99))
def test_inner_products_agree(projection: SparseProjection, seed: int) -> None:
    d, k = projection.n_features, projection.n_components
    X, Y = data(5, d, np.float64, seed=seed), data(5, k, np.float64, seed=seed + 1)
    left = (projection.project(X) * Y).sum(axis=1)
    right = (X * projection.adjoint(Y)).sum(axis=1)
    size = (np.abs(X) @ np.abs(dense(projection)).T * np.abs(Y)).sum(axis=1)
    assert (np.abs(left - right) <= 2 * (d + k + 32) * np.finfo(np.float64).eps * size).all()


@given(projection=projections(), seed=st.integers(0, 99), power=st.integers(-20, 20))
def test_multiples_go_through_exactly(projection: SparseProjection, seed: int, power: int) -> None:
    X = data(5, projection.n_features, seed=seed)
    Y = projection.project(X)
    assert same(projection.project(-X), -Y)
    factor = np.float32(2.0**power)
    assert same(projection.project(X * factor), Y * factor)


@given(projection=projections(), seed=st.integers(0, 99))
def test_sums_go_through(projection: SparseProjection, seed: int) -> None:
    one, other = (data(5, projection.n_features, np.float64, seed=seed + i) for i in range(2))
    both = projection.project(3 * one - other)
    apart = 3 * projection.project(one) - projection.project(other)
    size = (3 * np.abs(one) + np.abs(other)) @ np.abs(dense(projection)).T
    steps = 2 * (projection.n_features + 32) * np.finfo(np.float64).eps
    assert (np.abs(both - apart) <= steps * size).all()


@given(projection=projections(SIGNED))
def test_the_identity_gives_the_matrix(projection: SparseProjection) -> None:
    for dtype in (np.float32, np.float64):
        A = projection.to_dense(dtype=dtype)
        assert same(projection.project(np.eye(projection.n_features, dtype=dtype)), A.T)
        assert same(projection.left(np.eye(projection.n_features, dtype=dtype)), A)
        assert same(projection.adjoint(np.eye(projection.n_components, dtype=dtype)), A)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_left_is_project_of_the_transpose(kind: str, dtype: str) -> None:
    for n, d, k in [(1, 1, 1), (3, 7, 33), (9, 65, 12), (130, 67, 100), (1025, 40, 33)]:
        projection = make(kind, d, k)
        X = data(n, d, dtype)
        expected = projection.project(X).T
        for turned in (X.T, np.ascontiguousarray(X.T)):
            assert same(projection.left(turned), expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout(kind: str, layout: Callable[[Array], Array]) -> None:
    projection = make(kind, 67, 33)
    k = projection.n_components
    Y, Z = data(40, k), data(67, 40)
    assert same(projection.adjoint(layout(Y)), projection.adjoint(Y))
    assert same(projection.left(layout(Z)), projection.left(Z))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs(kind: str, order: Any) -> None:
    projection = make(kind, 40, 33)
    k = projection.n_components
    for call, X, shape in [
        (projection.adjoint, data(50, k), (50, 40)),
        (projection.left, data(40, 50), (k, 50)),
    ]:
        whole = np.full((2 * shape[0] + 2, 3 * shape[1] + 3), 7, np.float32, order=order)
        out = whole[1:-1:2, 2:-1:3]
        assert call(X, out=out) is out
        assert same(out, call(X))
        out[...] = 7
        assert (whole == 7).all()
