"""The promise: `inverse_transform` is the pseudo-inverse, and no pseudo-inverse is made.

Accuracy is held against NumPy's; cost is held by what is factored and by the memory used.
"""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest

from peers.samples import BOTH, dense, normal

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import scipy.linalg
import scipy.sparse

from corekit.errors import InvalidArgumentError
from corekit.sklearn import (
    GaussianRandomProjection,
    SparseRandomProjection,
    _inverse,
)

# Wide, tall and square; with few features many sparse matrices lack full rank.
SHAPES = [
    (1, 1),
    (1, 9),
    (7, 1),
    (7, 2),
    (10, 9),
    (10, 10),
    (10, 11),
    (10, 1000),
    (33, 40),
    (64, 64),
    (100, 30),
    (100, 101),
]
DENSITIES: list[float | str] = ["auto", 1.0, 1 / 3, "one", "half"]


def sparse_one(shape: tuple[int, int], density: float | str, seed: int) -> Any:
    """Return a fitted projection; "one" and "half" are how many non-zeros a feature has."""
    n_components, n_features = shape
    share = {"one": 1.0, "half": 0.5}.get(str(density))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SparseRandomProjection(
            n_components,
            density=density if share is None else share / n_components,
            random_state=seed,
        ).fit(np.zeros((2, n_features)))


def compared(fitted: Any, shape: tuple[int, int]) -> None:
    """Hold to NumPy's pseudo-inverse, for projected samples and for any others."""
    n_components, n_features = shape
    matrix = dense(fitted.components_)
    inverse = np.linalg.pinv(matrix)
    there = fitted.transform(normal(5, n_features))
    anything = normal(6, n_components)
    for Y in (there, anything):
        expected = Y @ inverse.T
        size = np.abs(expected).max()
        np.testing.assert_allclose(fitted.inverse_transform(Y), expected, rtol=0, atol=1e-11 * size)
    back = fitted.transform(fitted.inverse_transform(there))
    np.testing.assert_allclose(back, there, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("density", DENSITIES, ids=str)
def test_the_rank_is_found(shape: tuple[int, int], density: float | str) -> None:
    for seed in range(5):
        fitted = sparse_one(shape, density, seed)
        compared(fitted, shape)
        rank = np.linalg.matrix_rank(dense(fitted.components_))
        assert fitted._minimum_norm._gram.rank == rank


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.filterwarnings("ignore:The number of components is higher")
def test_gaussian_matrices(shape: tuple[int, int]) -> None:
    for seed in range(5):
        fitted = GaussianRandomProjection(shape[0], random_state=seed)
        compared(fitted.fit(np.zeros((2, shape[1]))), shape)


def test_a_matrix_of_zeros_leads_nowhere() -> None:
    fitted = next(
        fitted
        for fitted in (sparse_one((2, 1), "half", seed) for seed in range(100))
        if fitted.components_.nnz == 0
    )
    assert np.array_equal(fitted.inverse_transform(normal(3, 2)), np.zeros((3, 1)))


@BOTH
@pytest.mark.parametrize("shape", [(10, 30), (30, 10)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:The number of components is higher")
def test_inverse_components(kind: Any, shape: tuple[int, int], dtype: Any) -> None:
    n_components, n_features = shape
    fitted = kind(n_components, compute_inverse_components=True, random_state=0)
    fitted.fit(np.zeros((2, n_features), dtype=dtype))
    assert fitted.inverse_components_.shape == (n_features, n_components)
    assert fitted.inverse_components_.dtype == dtype
    expected = np.linalg.pinv(dense(fitted.projection_.to_dense()))
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(fitted.inverse_components_, expected, rtol=0, atol=1e3 * eps)

    Y = normal(4, n_components, dtype)
    back = fitted.inverse_transform(Y)
    assert back.dtype == dtype
    without = kind(n_components, random_state=0).fit(np.zeros((2, n_features), dtype=dtype))
    np.testing.assert_allclose(without.inverse_transform(Y), back, rtol=0, atol=1e4 * eps)


@BOTH
def test_the_output_has_the_inputs_dtype_and_is_dense(kind: Any) -> None:
    for compute in (False, True):
        fitted = kind(5, compute_inverse_components=compute, random_state=0).fit(normal(3, 20))
        for dtype in (np.float32, np.float64):
            Y = normal(4, 5, dtype)
            whole = fitted.inverse_transform(Y)
            assert isinstance(whole, np.ndarray)
            assert whole.dtype == dtype
            for form in (scipy.sparse.csr_array, scipy.sparse.csc_matrix):
                back = fitted.inverse_transform(form(Y))
                assert isinstance(back, np.ndarray)
                np.testing.assert_allclose(back, whole, rtol=1e-5, atol=1e-6)


@BOTH
def test_the_number_of_columns_is_checked(kind: Any) -> None:
    fitted = kind(5).fit(normal(3, 20))
    with pytest.raises(InvalidArgumentError, match=r"X must have 5 columns, .* got 4"):
        fitted.inverse_transform(normal(3, 4))


@BOTH
@pytest.mark.parametrize("shape", [(20, 90), (90, 20)], ids=str)
@pytest.mark.filterwarnings("ignore:The number of components is higher")
def test_blocks_are_not_seen(
    kind: Any, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_components, n_features = shape
    Y = normal(50, n_components)
    whole = kind(n_components, random_state=0).fit(np.zeros((2, n_features)))
    expected = whole.inverse_transform(Y)
    monkeypatch.setattr(_inverse, "_BLOCK_BYTES", 0)
    pieces = kind(n_components, random_state=0).fit(np.zeros((2, n_features)))
    np.testing.assert_allclose(pieces.inverse_transform(Y), expected, rtol=1e-12, atol=1e-12)


@pytest.fixture
def factored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that are factored; everything that costs more is refused."""
    shapes: list[tuple[int, ...]] = []
    cholesky = scipy.linalg.lapack.dpstrf

    def noted(matrix: Any, **options: Any) -> Any:
        shapes.append(matrix.shape)
        return cholesky(matrix, **options)

    def refused(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a decomposition of the matrix itself")

    monkeypatch.setattr(scipy.linalg.lapack, "dpstrf", noted)
    for module in (np.linalg, scipy.linalg):
        for name in ("pinv", "svd", "lstsq", "eigh", "qr", "inv"):
            monkeypatch.setattr(module, name, refused)
    return shapes


@BOTH
@pytest.mark.parametrize("compute", [False, True])
@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (12, 12)], ids=str)
@pytest.mark.filterwarnings("ignore:The number of components is higher")
def test_the_smaller_side_is_factored_once(
    kind: Any, compute: bool, shape: tuple[int, int], factored: list[tuple[int, ...]]
) -> None:
    n_components, n_features = shape
    fitted = kind(n_components, compute_inverse_components=compute)
    fitted.fit(np.zeros((2, n_features)))
    assert len(factored) == compute
    for _ in range(3):
        fitted.inverse_transform(normal(2, n_components))
    assert factored == [(12, 12)]
    fitted.fit(np.zeros((2, n_features))).inverse_transform(normal(2, n_components))
    assert len(factored) == 2


@BOTH
def test_memory(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix would have 64 MB here, as a pseudo-inverse, and n_features² 12.8 GB."""
    monkeypatch.setattr(_inverse, "_BLOCK_BYTES", 1 << 20)
    n_components, n_features, n_samples = 200, 40_000, 8
    fitted = kind(n_components, random_state=0).fit(np.zeros((2, n_features)))
    Y = normal(n_samples, n_components)
    fitted.transform(np.zeros((1, n_features)))
    tracemalloc.start()
    try:
        fitted.inverse_transform(Y)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    output, gram, block = 8 * n_samples * n_features, 8 * n_components**2, 1 << 20
    assert peak < output + 2 * gram + 6 * block + (1 << 20)
