"""The promise: sparse input gives what the same data gives as a dense array, bit for bit.

CSR and CSC, arrays and matrices, indices of either width, rows in any order, duplicates (which
add up, as in `toarray`), explicit zeros, empty rows. Only the sign of a zero may differ.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ArgumentTypeError
from corekit.projection import SparseProjection, distortion
from projection.formula import KINDS
from projection.operators import Array, check, data, make, projections, same

sparse = pytest.importorskip("scipy.sparse")

FORMATS = ["csr_array", "csr_matrix", "csc_array", "csc_matrix"]
TYPES = ["float32", "float64", "int8", "int32", "int64", "uint16", "bool"]


def thin(n: int, d: int, dtype: Any = np.float32, *, density: float = 0.2, seed: int = 1) -> Array:
    """Return a dense array that is mostly zeros, some of its rows and columns entirely."""
    random = np.random.default_rng(seed)
    X = data(n, d, dtype, seed=seed)
    X[random.random((n, d)) >= density] = 0
    X[random.random(n) < 0.2] = 0
    X[:, random.random(d) < 0.2] = 0
    return X


def scrambled(X: Any, *, seed: int = 1) -> Any:
    """Return the same matrix with the entries of each row (or column) in another order."""
    X = X.copy()
    random = np.random.default_rng(seed)
    for start, end in pairwise(X.indptr):
        order = start + random.permutation(end - start)
        X.indices[start:end] = X.indices[order]
        X.data[start:end] = X.data[order]
    X.has_sorted_indices = False
    return X


def with_duplicates(X: Any, *, seed: int = 1) -> Any:
    """Return a matrix with every entry twice, the second at random places of its row."""
    other = scrambled(X, seed=seed)
    counts = 2 * np.diff(X.indptr)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(X.indptr.dtype)
    both: dict[str, list[Array]] = {"data": [], "indices": []}
    for start, end in pairwise(X.indptr):
        for name, parts in both.items():
            parts += [getattr(X, name)[start:end], getattr(other, name)[start:end]]
    values, indices = (
        np.concatenate([*both[name], getattr(X, name)[:0]]).astype(getattr(X, name).dtype)
        for name in ("data", "indices")
    )
    return type(X)((values, indices, indptr), shape=X.shape)


def wide(X: Any) -> Any:
    """Return the same matrix with indices of 64 bits."""
    X = X.copy()
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def agree(projection: SparseProjection, X: Any) -> None:
    assert same(projection.project(X), projection.project(X.toarray()))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_and_type(form: str, dtype: str) -> None:
    for kind in KINDS:
        for n, d, k in [(1, 1, 1), (7, 50, 12), (70, 130, 100), (3, 2000, 300)]:
            projection = make(kind, d, k)
            X = thin(n, d, dtype)
            plain = getattr(sparse, form)(X)
            check(projection, X, projection.project(plain))
            for other in [wide(plain), scrambled(plain), scrambled(wide(plain))]:
                assert same(projection.project(other), projection.project(X)), (kind, n)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8"])
def test_duplicates_add_up(form: str, dtype: str) -> None:
    for kind in KINDS:
        for n, d, k in [(7, 50, 12), (70, 130, 100)]:
            X = with_duplicates(getattr(sparse, form)(thin(n, d, dtype)))
            assert not X.has_canonical_format
            agree(make(kind, d, k), X)
            agree(make(kind, d, k), wide(X))


@pytest.mark.parametrize("form", FORMATS)
def test_sums_of_duplicates_are_rounded_in_their_own_type(form: str) -> None:
    # 2**24 + 1 is no float32, so the order in which duplicates meet is seen.
    values = np.array([1, 2**24, 1, -(2**24), 3], np.float32)
    indices = np.array([2, 2, 2, 2, 0], np.int32)
    X = getattr(sparse, form)((values, indices, [0, 5, 5, 5]), shape=(3, 3))
    agree(make("stack", 3, 8), X)
    agree(make("block-stack", 3, 64), X)


@pytest.mark.parametrize("form", FORMATS)
def test_explicit_zeros_and_empty_rows(form: str) -> None:
    for kind in KINDS:
        projection = make(kind, 20, 9)
        X = getattr(sparse, form)(thin(12, 20, density=0.5))
        X.data[::2] = 0
        agree(projection, X)
        nothing = getattr(sparse, form)((12, 20), dtype=np.float32)
        assert same(projection.project(nothing), np.zeros((12, projection.n_components), "f4"))


@given(
    projection=projections(),
    n=st.integers(0, 20),
    density=st.sampled_from([0.02, 0.3, 1.0]),
    form=st.sampled_from(FORMATS),
    seed=st.integers(0, 99),
    is_unsorted=st.booleans(),
    is_wide=st.booleans(),
    is_double=st.booleans(),
)
def test_any_matrix(
    projection: SparseProjection,
    n: int,
    density: float,
    form: str,
    seed: int,
    is_unsorted: bool,
    is_wide: bool,
    is_double: bool,
) -> None:
    dtype = np.float64 if seed % 2 else np.float32
    X = getattr(sparse, form)(thin(n, projection.n_features, dtype, density=density, seed=seed))
    if is_double:
        X = with_duplicates(X, seed=seed)
    if is_unsorted:
        X = scrambled(X, seed=seed)
    agree(projection, wide(X) if is_wide else X)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_into_an_output(form: str, order: Any) -> None:
    for kind in KINDS:
        projection = make(kind, 50, 33)
        X = getattr(sparse, form)(thin(40, 50))
        whole = np.full((80, 99), np.nan, np.float32, order=order)
        out = whole[::2, ::3]
        assert projection.project(X, out=out) is out
        assert same(out, projection.project(X)), kind


@pytest.mark.parametrize("form", FORMATS)
def test_from_the_left(form: str) -> None:
    for kind in KINDS:
        projection = make(kind, 50, 33)
        X = thin(50, 40)
        plain = getattr(sparse, form)(X)
        for other in [plain, scrambled(wide(plain))]:
            assert same(projection.left(other), projection.left(X)), kind


@pytest.mark.parametrize("form", ["coo", "lil", "dok", "bsr"])
def test_other_formats_are_converted(form: str) -> None:
    projection = make("block-stack", 50, 33)
    X = thin(40, 50)
    assert same(projection.project(getattr(sparse, f"{form}_array")(X)), projection.project(X))


def test_adjoint_takes_no_sparse_input() -> None:
    projection = make("block-stack", 50, 33)
    with pytest.raises(ArgumentTypeError, match=r"^Y must .*, got"):
        projection.adjoint(sparse.csr_array(thin(40, 33)))


def test_a_million_features() -> None:
    d, k = 1_000_000, 200
    random = np.random.default_rng(1)
    columns = np.unique(random.integers(0, d, 300))
    X = sparse.csr_array(
        (random.standard_normal(len(columns)), columns, [0, len(columns)]), shape=(1, d)
    )
    for kind in ("block-stack", "stack", "iid", "countsketch", "gaussian"):
        projection = make(kind, d, k)
        part = projection.submatrix(columns).toarray()
        np.testing.assert_allclose(projection.project(X)[0], part @ X.data, rtol=0, atol=1e-12)


def test_inputs_stay_as_they_are() -> None:
    projection = make("block-stack", 50, 33)
    for form in FORMATS:
        X = with_duplicates(getattr(sparse, form)(thin(40, 50)))
        before = [part.copy() for part in (X.data, X.indices, X.indptr)]
        projection.project(X)
        for part, was in zip((X.data, X.indices, X.indptr), before, strict=True):
            assert part.dtype == was.dtype
            assert np.array_equal(part, was)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_room_behind_the_last_row_is_none_of_the_matrix(dtype: Any) -> None:
    # As scipy has it: `nnz` is what the pointers say.
    projection = make("block-stack", 50, 33)
    for form in FORMATS:
        X = getattr(sparse, form)(thin(40, 50).astype(dtype))
        Y = projection.project(X)
        X.data = np.concatenate([X.data, np.ones(3, dtype)])
        X.indices = np.concatenate([X.indices, np.full(3, 10**6, X.indices.dtype)])
        assert same(projection.project(X), Y)
        assert distortion(X, projection, seed=1) == distortion(X, Y, seed=1)
