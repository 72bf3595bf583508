"""The promise: the matrix of a projection is the published formula, entry for entry, to the bit.

Whatever the kind, the shape and the seed; whether it is asked for whole, as CSR, or column by
column; and columns do not change when features are added (but for the SRHT, which says so).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from corekit.projection import SparseProjection
from projection import formula
from projection.formula import KINDS, STACKS
from projection.operators import dense, make, projections, same

RAGGED = [10, 100, 192, 300, 1000]


@given(projection=projections())
@example(projection=make("block-stack", 1, 1))
@example(projection=make("srht", 1, 1))
@example(projection=make("iid", 3, 1, density=1.0))
def test_any_matrix(projection: SparseProjection) -> None:
    assert same(projection.to_dense(), dense(projection))
    narrow = dense(projection).astype(np.float32)
    assert same(projection.to_dense(dtype=np.float32), narrow)


@pytest.mark.parametrize("k", RAGGED)
@pytest.mark.parametrize("kind", KINDS)
def test_ragged_components(kind: str, k: int) -> None:
    projection = make(kind, 50, k, seed=2**127 + k)
    assert same(projection.to_dense(), dense(projection))


@pytest.mark.parametrize("k", [*range(1, 20), *RAGGED])
@pytest.mark.parametrize("kind", ["block-stack", "stack"])
def test_all_counts_of_entries(kind: str, k: int) -> None:
    for s in {1, 2, 3, 5, 8, 9, 16, k // 2, k - 1, k}:
        if 1 <= s <= k:
            projection = make(kind, 37, k, column_nnz=s)
            assert same(projection.to_dense(), dense(projection)), s


@given(projection=projections(STACKS))
def test_every_column_has_its_entries(projection: SparseProjection) -> None:
    entries = projection.to_dense() != 0
    s = formula.nnz_of(projection)
    assert (entries.sum(axis=0) == s).all()
    w = formula.width(projection.n_components, s, projection.kind)
    ends = [min(group * w, projection.n_components) for group in formula.strata(len(entries), s, w)]
    for start, end in pairwise(ends):
        assert (entries[start:end].sum(axis=0) == 1).all()


@given(projection=projections(STACKS))
def test_every_column_has_length_one(projection: SparseProjection) -> None:
    lengths = (projection.to_dense() ** 2).sum(axis=0)
    np.testing.assert_allclose(lengths, 1, rtol=1e-14)


@given(projection=projections([kind for kind in KINDS if kind != "srht"]), more=st.integers(1, 40))
def test_features_can_be_added(projection: SparseProjection, more: int) -> None:
    options: dict[str, Any] = {"kind": projection.kind, "seed": projection.seed}
    if projection.kind in ("block-stack", "stack"):
        options["column_nnz"] = projection.column_nnz
    if projection.kind == "iid":
        options["density"] = projection.density
    d = projection.n_features
    grown = SparseProjection(d + more, projection.n_components, **options)
    assert same(grown.to_dense()[:, :d], projection.to_dense())


def test_an_srht_grows_to_the_next_power_of_two() -> None:
    small, large = make("srht", 17, 10), make("srht", 32, 10)
    assert same(large.to_dense()[:, :17], small.to_dense())
    assert not same(make("srht", 33, 10).to_dense()[:, :17], small.to_dense())


@given(projection=projections(), picks=st.data())
def test_any_columns(projection: SparseProjection, picks: st.DataObject) -> None:
    pytest.importorskip("scipy.sparse")
    d = projection.n_features
    columns = picks.draw(st.lists(st.integers(0, d - 1), max_size=20))
    got = projection.submatrix(np.array(columns, dtype=np.int64))
    assert got.format == "csr"
    assert got.shape == (projection.n_components, len(columns))
    assert same(got.toarray(), dense(projection)[:, columns])
    start, end = sorted(picks.draw(st.tuples(st.integers(0, d), st.integers(0, d))))
    assume(start < end)
    narrow = projection.submatrix(range(start, end), dtype=np.float32)
    assert same(narrow.toarray(), dense(projection)[:, start:end].astype(np.float32))


@given(projection=projections())
def test_as_csr(projection: SparseProjection) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    got = projection.to_csr()
    assert isinstance(got, sparse.csr_array)
    assert got.has_canonical_format
    assert got.nnz == np.count_nonzero(dense(projection))
    assert same(got.toarray(), dense(projection))
    assert same(
        projection.to_csr(dtype=np.float32).toarray(), projection.to_dense(dtype=np.float32)
    )


@given(k=st.integers(1, 2000), s=st.integers(1, 40))
def test_strata_are_disjoint_and_even(k: int, s: int) -> None:
    # The formula itself: outputs are divided among strata, none twice and none left out.
    assume(s <= k)
    w = formula.width(k, s)
    first = formula.strata(k, s, w)
    counts = np.diff(first)
    assert counts.max() - counts.min() <= 1
    assert (counts >= 1).all()
    assert (w & (w - 1), w * s <= k, w <= 16) == (0, True, True)
    # Only the last group may overlap its neighbour, which must be of its stratum.
    assert first[s] * w - k < w
    assert first[s] * w == k or counts[-1] > 1
    np.testing.assert_allclose((formula.weights(k, s, w) ** 2).sum(), 1, rtol=1e-14)


def test_orders_of_lanes_are_even() -> None:
    # All 24 orders of 4, each from one index; halves of 16 stay together and swap.
    assert len({tuple(formula.permutation(i, 4)) for i in range(24)}) == 24
    assert sorted(formula.order_of_sixteen(2**64 - 1, 0)) == list(range(16))
    assert max(formula.order_of_sixteen(12345 << 40, 0)[:8]) == 7
    assert min(formula.order_of_sixteen(12345 << 40, 1)[:8]) == 8
