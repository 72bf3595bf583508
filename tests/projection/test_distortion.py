"""The report on distances is what plain loops find, on any kind of array."""

from __future__ import annotations

import json
import math
import pickle
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corekit.errors import ArgumentTypeError, CorekitError, FileError, InvalidArgumentError
from corekit.projection import (
    DistortionReport,
    SparseProjection,
    _neighbours,
    _rows,
    distortion,
    failure_for,
)
from corekit.projection import _distortion as module

Floats = npt.NDArray[np.float64]


def data(n: int, d: int, *, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d))


# Plain loops.


def sample(seed: int, stream: int, population: int, count: int) -> list[int]:
    """Return the numbers that the formula of the module's head draws."""
    if count >= population:
        return list(range(population))
    words = np.random.Philox(key=seed, counter=[0, 0, stream, 2**32 + 1])
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[int(words.random_raw()) * population >> 64] = None
    return sorted(drawn)


def pairs_of(n: int) -> list[tuple[int, int]]:
    """Return all pairs in the order of their numbers."""
    return [(i, j) for j in range(n) for i in range(j)]


def squared(rows: Floats, i: int, j: int) -> float:
    return math.fsum(float(a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True))


def errors_of(x: Floats, y: Floats, pairs: list[tuple[int, int]]) -> list[float]:
    return [squared(y, i, j) / squared(x, i, j) - 1 for i, j in pairs if squared(x, i, j) > 0]


def recall_of(x: Floats, y: Floats, queries: list[int]) -> float:
    count = min(10, len(x) - 1)
    hits = 0
    for query in queries:
        others = [row for row in range(len(x)) if row != query]
        reached = sorted(squared(x, query, row) for row in others)[count - 1]
        found = sorted(others, key=lambda row: (squared(y, query, row), row))[:count]
        hits += sum(squared(x, query, row) <= reached * (1 + 1e-9) for row in found)
    return hits / (count * len(queries))


# The sample.


@pytest.mark.parametrize(("n", "count"), [(2, 1), (5, 10), (5, 9), (40, 779), (3000, 100)])
@pytest.mark.parametrize("seed", [0, 2**128 - 1])
def test_the_pairs_are_those_of_the_formula(n: int, count: int, seed: int) -> None:
    x = data(n, 2)
    report = distortion(x, x, n_pairs=count, n_queries=0, seed=seed)
    numbers = sample(seed, 0, n * (n - 1) // 2, count)
    every = pairs_of(n)
    assert [tuple(pair) for pair in report.pairs.tolist()] == [every[at] for at in numbers]


def test_the_queries_are_those_of_the_formula() -> None:
    assert module._sample(9, 1, 1000, 50).tolist() == sample(9, 1, 1000, 50)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 2**63 - 1))
def test_words_are_scaled_exactly(words: list[int], population: int) -> None:
    scaled = module._scaled(np.array(words, dtype=np.uint64), population)
    assert scaled.tolist() == [word * population >> 64 for word in words]


@given(st.integers(2, 2**31 - 1), st.integers(0, 2**128 - 1))
def test_pairs_are_numbered_exactly(n: int, seed: int) -> None:
    pairs = module._pairs(seed, n, 20).tolist()
    population = n * (n - 1) // 2
    assert [j * (j - 1) // 2 + i for i, j in pairs] == sample(seed, 0, population, 20)
    assert all(0 <= i < j < n for i, j in pairs)


def test_pairs_at_the_edges_are_numbered_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    j = np.array([1, 2, 3, 2**20, 2**26 + 1, 2**31 - 1], dtype=np.int64)
    first = j * (j - 1) // 2
    numbers = np.concatenate((first, first + j - 1))
    monkeypatch.setattr(module, "_sample", lambda *_: numbers)
    expected = [*((0, row) for row in j.tolist()), *((row - 1, row) for row in j.tolist())]
    assert [tuple(pair) for pair in module._pairs(0, 2**31 - 1, 1).tolist()] == expected


# What is measured.

values = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e3, 1e3, width=32))
sizes = st.tuples(st.integers(2, 25), st.integers(1, 6), st.integers(1, 6))


@given(
    sizes.flatmap(
        lambda s: st.tuples(
            hnp.arrays(np.float64, s[:2], elements=values),
            hnp.arrays(np.float64, s[::2], elements=values),
        )
    )
)
def test_the_errors_are_those_of_plain_loops(arrays: tuple[Floats, Floats]) -> None:
    x, y = arrays
    wanted = errors_of(x, y, pairs_of(len(x)))
    if not wanted:
        with pytest.raises(InvalidArgumentError, match="rows that differ"):
            distortion(x, y, seed=1)
        return
    report = distortion(x, y, eps=0.25, seed=1)
    np.testing.assert_allclose(report.errors, wanted, rtol=1e-12, atol=1e-12)
    assert report.n_pairs + report.zero_pairs == len(x) * (len(x) - 1) // 2
    assert report.n_pairs == len(wanted)
    assert report.bias == pytest.approx(np.mean(wanted), rel=1e-9, abs=1e-9)
    assert report.rms == pytest.approx(math.sqrt(np.mean(np.square(wanted))), abs=1e-9)
    assert report.max_error == pytest.approx(max(map(abs, wanted)), abs=1e-9)
    assert report.outside == np.mean(np.abs(report.errors) > 0.25)
    for level, quantile in report.quantiles.items():
        assert quantile == pytest.approx(np.quantile(wanted, level), rel=1e-9, abs=1e-9)
    magnitudes = [abs(pair.error) for pair in report.worst]
    assert magnitudes == sorted(np.abs(report.errors).tolist(), reverse=True)[:5]
    at = {
        tuple(pair): error
        for pair, error in zip(report.pairs.tolist(), report.errors.tolist(), strict=True)
    }
    assert all(at[pair.i, pair.j] == pair.error for pair in report.worst)


@given(
    st.tuples(st.integers(2, 40), st.integers(1, 4), st.integers(1, 4)).flatmap(
        lambda s: st.tuples(
            hnp.arrays(np.int64, s[:2], elements=st.integers(-2, 2)),
            hnp.arrays(np.int64, s[::2], elements=st.integers(-2, 2)),
        )
    )
)
def test_the_recall_is_that_of_plain_loops(arrays: tuple[Any, Any]) -> None:
    x, y = arrays
    if (x == x[0]).all():
        return
    report = distortion(x, y, n_queries=len(x), seed=1)
    wanted = recall_of(x.astype(float), y.astype(float), list(range(len(x))))
    assert report.recall == pytest.approx(wanted)
    assert report.n_neighbours == min(10, len(x) - 1)


def test_the_recall_of_sampled_queries_is_that_of_plain_loops() -> None:
    x = data(300, 6)
    y = x[:, :4]
    report = distortion(x, y, n_queries=20, seed=5)
    assert report.n_queries == 20
    assert report.recall == pytest.approx(recall_of(x, y, sample(5, 1, 300, 20)))
    assert 0 < recall_of(x, y, sample(5, 1, 300, 20)) < 1


def test_exact_values() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 10.0]])
    y = np.array([[0.0], [5.0], [0.0], [20.0]])
    report = distortion(x, y, eps=0.5, seed=1)
    # (1, 2) is at distance zero; (0, 1) keeps 25; (0, 2) loses 25; (0, 3) makes 400 of 100;
    # (1, 3) makes 225 of 45; (2, 3) makes 400 of 45.
    assert report.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 3]]
    np.testing.assert_allclose(report.errors, [0, -1, 3, 4, 400 / 45 - 1], rtol=1e-14)
    assert (report.n_pairs, report.zero_pairs) == (5, 1)
    assert report.outside == 0.8
    assert [(pair.i, pair.j) for pair in report.worst] == [(2, 3), (1, 3), (0, 3), (0, 2), (0, 1)]
    assert report.expected_rms == math.sqrt(2)
    assert report.expected_outside == failure_for(2, 1, 0.5, pairs=1)
    assert report.recall == 1.0


def test_an_isometry_has_no_error() -> None:
    x = data(300, 20)
    turn = np.linalg.qr(data(20, 20, seed=1))[0]
    report = distortion(x, x @ turn, seed=2)
    assert report.max_error < 1e-12
    assert (report.outside, report.recall) == (0.0, 1.0)


def test_a_projection_does_what_is_expected() -> None:
    # 20 standard deviations of the mean square, were pairs independent; there are 100 rows,
    # so they are not, by far.
    x = data(100, 400)
    report = distortion(x, SparseProjection(400, 100, seed=11), seed=11)
    assert report.n_components == 100
    assert report.rms == pytest.approx(report.expected_rms, rel=0.2)
    assert report.outside == pytest.approx(report.expected_outside, rel=0.2)


# Edges of floating point.


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e150, 1e300])
def test_any_scale_is_measured(scale: float) -> None:
    x = data(20, 5)
    plain = distortion(x, x[:, :2], n_queries=0, seed=1)
    scaled = distortion(x * scale, x[:, :2] * scale, n_queries=0, seed=1)
    np.testing.assert_allclose(scaled.errors, plain.errors, rtol=1e-9)
    assert scaled.zero_pairs == 0


def test_distances_beyond_float64_are_refused() -> None:
    x = np.array([[1e308], [-1e308], [0.0]])
    with pytest.raises(InvalidArgumentError, match="X must have differences"):
        distortion(x, x, n_queries=0, seed=1)
    x = data(20, 3) * 1e200
    with pytest.raises(InvalidArgumentError, match="X must have squared distances"):
        distortion(x, x / 1e200, seed=1)
    with pytest.raises(InvalidArgumentError, match="Y must have distances of the scale"):
        distortion(x * 1e-250, x, n_queries=0, seed=1)


def test_neighbours_survive_cancellation() -> None:
    # The products of these rows have no digit left for their distances.
    x = data(200, 3)
    far = np.round(x * 2**10) / 2**10 + 2.0**40 * np.repeat([0, 1], 100)[:, np.newaxis]
    assert distortion(far, far, n_queries=200, seed=1).recall == 1.0
    wanted = recall_of(far, far[:, :2], sample(1, 1, 200, 30))
    assert distortion(far, far[:, :2], n_queries=30, seed=1).recall == pytest.approx(wanted)


def test_rows_at_one_distance_are_as_good_as_each_other() -> None:
    # All distances are equal before, so whatever is found afterwards is right.
    assert distortion(np.eye(500), data(500, 3), seed=1).recall == 1.0


def test_of_rows_at_one_distance_the_first_are_found() -> None:
    n = 300
    x = np.arange(n, dtype=np.float64)[:, np.newaxis]
    y = np.eye(n)
    wanted = recall_of(x, y, sample(1, 1, n, 50))
    assert distortion(x, y, n_queries=50, seed=1).recall == pytest.approx(wanted)


# Determinism.


def test_a_seed_gives_one_report() -> None:
    x, y = data(500, 8), data(500, 4, seed=1)
    first, again, other = (distortion(x, y, n_pairs=50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert hash(first) == hash(again)
    assert first.errors.tolist() == again.errors.tolist()
    assert first != other


def test_no_seed_draws_one_and_reports_it() -> None:
    x, y = data(500, 8), data(500, 4, seed=1)
    drawn = distortion(x, y, n_pairs=50, seed=None)
    assert distortion(x, y, n_pairs=50, seed=drawn.seed) == drawn
    assert distortion(x, y, n_pairs=50, seed=None).seed != drawn.seed


@pytest.mark.parametrize("cells", [1, 100, 5000])
def test_blocks_are_not_seen(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(60, 8), data(60, 4, seed=1)
    whole = distortion(x, y, seed=3)
    monkeypatch.setattr(_rows, "CELLS", cells)
    monkeypatch.setattr(_neighbours, "_QUERY_CELLS", 8 * cells)
    assert distortion(x, y, seed=3) == whole


# Kinds of arrays.


class OnlyDLPack:
    """An array of a library that NumPy has never heard of."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_layouts_are_not_seen(tmp_path: Path) -> None:
    x, y = data(60, 8), data(60, 4, seed=1)
    wanted = distortion(x, y, seed=3)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((120, 24))
    wide[::-2, ::3] = x
    for same in (
        np.asfortranarray(x),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        wide[::-2, ::3],
        x.tolist(),
        OnlyDLPack(x),
    ):
        assert distortion(same, y, seed=3) == wanted


@pytest.mark.parametrize("dtype", ["f4", "f2", "i1", "u2", "i4", "u8", "?"])
def test_types_are_measured_in_float64(dtype: str) -> None:
    x = np.trunc(np.abs(data(60, 8)) * 3).astype(dtype)
    y = np.trunc(np.abs(data(60, 4, seed=1)) * 3).astype(dtype)
    wanted = distortion(x.astype(np.float64), y.astype(np.float64), seed=3)
    assert distortion(x, y, seed=3) == wanted


def test_bfloat16_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x, y = data(60, 8).astype(ml_dtypes.bfloat16), data(60, 4, seed=1)
    assert distortion(x, y, seed=3) == distortion(x.astype(np.float64), y, seed=3)


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16", "int16"])
def test_tensors_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(data(60, 8) * 3).to(getattr(torch, name))
    y = data(60, 4, seed=1)
    wanted = distortion(x.double().numpy(), y, seed=3)
    assert distortion(x, y, seed=3) == wanted
    assert distortion(x.t().contiguous().t(), y, seed=3) == wanted
    if x.is_floating_point():
        assert distortion(x.requires_grad_(), torch.from_numpy(y), seed=3) == wanted


def alike(first: DistortionReport, second: DistortionReport) -> None:
    """Compare reports whose sums were taken in another order."""
    np.testing.assert_allclose(first.errors, second.errors, rtol=1e-12, atol=1e-12)
    assert first.pairs.tolist() == second.pairs.tolist()
    assert first.recall == second.recall


def test_sparse_data_are_measured_like_dense_ones() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = data(80, 30) * (data(80, 30, seed=1) > 1)
    x[7] = x[9] = 0
    y = data(80, 5, seed=2)
    wanted = distortion(x, y, seed=3)
    assert wanted.zero_pairs == 1
    for kind in (sparse.csr_array, sparse.csc_array, sparse.csr_matrix, sparse.coo_matrix):
        alike(distortion(kind(x), y, seed=3), wanted)
        alike(
            distortion(kind(x.astype(np.float32)), y, seed=3),
            distortion(x.astype(np.float32), y, seed=3),
        )
    alike(distortion(x, sparse.csr_array(x[:, :9]), seed=3), distortion(x, x[:, :9], seed=3))
    wide = sparse.csr_array(
        (
            x[x != 0],
            np.nonzero(x)[1].astype(np.int64),
            np.concatenate(([0], np.cumsum((x != 0).sum(axis=1)))),
        ),
        shape=(80, 2**40),
    )
    assert distortion(wide, y, n_queries=0, seed=3).n_features == 2**40


def test_unsorted_rows_and_duplicates_are_read_and_left_alone() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    parts = (
        np.array([1.0, 2.0, 4.0, -3.0, 3.0]),
        np.array([2, 0, 2, 1, 1]),
        np.array([0, 3, 3, 5]),
    )
    x = sparse.csr_array(tuple(part.copy() for part in parts), shape=(3, 4))
    dense = np.array([[2.0, 0, 5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    y = data(3, 2)
    alike(distortion(x, y, seed=1), distortion(dense, y, seed=1))
    for kept, part in zip((x.data, x.indices, x.indptr), parts, strict=True):
        assert kept.tolist() == part.tolist()


@pytest.mark.parametrize("cells", [1, 40])
def test_sparse_blocks_are_not_seen(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.csr_array(data(50, 30) * (data(50, 30, seed=1) > 1))
    y = data(50, 5, seed=2)
    whole = distortion(x, y, seed=3)
    monkeypatch.setattr(_rows, "CELLS", cells)
    assert distortion(x, y, seed=3) == whole


# Projections.


class First:
    """A projection onto the first columns, which notes what it was given."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.given: list[Any] = []

    def project(self, rows: Any) -> Any:
        self.given.append(rows)
        return rows[:, : self.k]


def test_a_projection_is_measured_like_what_it_makes() -> None:
    x = data(60, 8).astype(np.float32)
    projection = First(3)
    assert distortion(x, projection, seed=3) == distortion(x, x[:, :3], seed=3)
    assert {rows.dtype for rows in projection.given} == {np.dtype(np.float32)}


def test_a_projection_of_sparse_rows_and_tensors() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = data(60, 8) * (data(60, 8, seed=1) > 0)
    projection = First(3)
    alike(distortion(sparse.csc_array(x), projection, seed=3), distortion(x, x[:, :3], seed=3))
    assert all(sparse.issparse(rows) for rows in projection.given)


def test_only_the_rows_of_pairs_are_projected_without_queries() -> None:
    x = data(10_000, 2)
    projection = First(1)
    distortion(x, projection, n_pairs=7, n_queries=0, seed=3)
    assert sum(len(rows) for rows in projection.given) <= 1 + 2 * 7


def test_rows_are_projected_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "CELLS", 1000)
    projection = First(3)
    distortion(data(500, 10), projection, n_queries=20, seed=3)
    assert max(len(rows) for rows in projection.given) <= 100


def test_a_projection_that_makes_other_rows_is_refused() -> None:
    class Short:
        def project(self, rows: Any) -> Any:
            return rows[:1]

    with pytest.raises(InvalidArgumentError, match="number of rows of X"):
        distortion(np.zeros((0, 4)), Short(), seed=1)
    with pytest.raises(InvalidArgumentError, match="the projection of X must have a row of 4"):
        distortion(data(9, 4), Short(), seed=1)


# Memory.


def test_memory_does_not_follow_the_size_of_a_memory_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, d = 8192, 1024
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, 1024):
        x[start : start + 1024] = data(1024, d, seed=start)
    y = np.array(x[:, :4])
    monkeypatch.setattr(_rows, "CELLS", 1 << 16)
    monkeypatch.setattr(_neighbours, "_QUERY_CELLS", 1 << 17)
    distortion(x[:100], y[:100], seed=1)  # what is loaded by a first call
    tracemalloc.start()
    try:
        distortion(x, y, n_queries=100, n_pairs=2000, seed=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 32 MiB in the file; a block has half of one in float64, the queries one.
    assert peak < 8 << 20


# The report.


def test_as_json() -> None:
    report = distortion(data(50, 8), data(50, 4, seed=1), seed=2**127 + 1)
    told = json.loads(report.to_json())
    assert told == report.to_dict()
    assert told["seed"] == str(2**127 + 1)
    assert told["quantiles"]["0.5"] == report.quantiles[0.5]
    assert told["worst"][0] == {
        "i": report.worst[0].i,
        "j": report.worst[0].j,
        "error": report.worst[0].error,
    }
    assert "errors" not in told
    assert (
        json.loads(distortion(data(5, 3), data(5, 2), n_queries=0, seed=1).to_json())["recall"]
        is None
    )


def test_as_text() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 10.0]])
    report = distortion(x, x[:, :1], eps=0.5, seed=7)
    assert str(report).splitlines() == [
        "data            4 rows, 2 features, 1 components",
        "pairs           5 of 6; 1 of equal rows left out",
        "error           |y_i - y_j|^2 / |x_i - x_j|^2 - 1",
        "                 measured  expected",
        "bias              -0.7760         0",
        "RMS                0.7873    1.4142",
        f"outside ±0.5      100.00%{report.expected_outside:>10.2%}",
        "largest            1.0000",
        "quantiles              1%       5%      25%      50%      75%      95%      99%",
        "                  -0.9920  -0.9600  -0.8000  -0.8000  -0.6400  -0.6400  -0.6400",
        "worst pairs       -1.0000  rows 0 and 3",
        "                  -0.8000  rows 1 and 3",
        "                  -0.8000  rows 2 and 3",
        "                  -0.6400  rows 0 and 1",
        "                  -0.6400  rows 0 and 2",
        "recall at 3        100.0%  of 4 queries",
        "seed            7",
    ]
    assert "recall at 3     0 queries" in str(distortion(x, x[:, :1], n_queries=0, seed=7))


def test_as_text_an_eps_is_short() -> None:
    report = distortion(data(5, 3), data(5, 2), eps=0.2045230001, n_queries=0, seed=1)
    assert re.search(r"^outside ±0\.205 +[0-9.]+%", str(report), re.MULTILINE)


def test_a_report_is_a_value() -> None:
    report = distortion(data(50, 8), data(50, 4, seed=1), seed=1)
    assert pickle.loads(pickle.dumps(report)) == report
    with pytest.raises(AttributeError):
        report.bias = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        report.errors[0] = 0.0


@pytest.mark.parametrize("k", [1, 2, 3, 50, 10_000])
def test_the_density_drawn_is_that_of_the_law(k: int) -> None:
    errors = np.array([-0.9, -0.1, 0.0, 0.02, 0.5, 3.0])
    density = module._density(errors, k)
    step = 1e-4
    for error, value in zip(errors.tolist(), density.tolist(), strict=True):
        # The slope of the logarithm: (k/2 - 1)/(1 + e) - k/2.
        ends = module._density(np.array([error - step, error + step]), k)
        if ends.min() > 1e-200:
            slope = (math.log(ends[1]) - math.log(ends[0])) / (2 * step)
            assert slope == pytest.approx((k / 2 - 1) / (1 + error) - k / 2, rel=1e-3, abs=1e-3)
        assert value >= 0
    # The whole is 1; below -1 + 1e-12 k = 1 has a share of 1e-6.
    reach = 40 * math.sqrt(2 / k)
    root = np.linspace(1e-6, math.sqrt(1 + reach), 400_001)
    total = np.trapezoid(module._density(root**2 - 1, k) * 2 * root, root)
    assert total == pytest.approx(1, abs=1e-5)


def test_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = distortion(data(50, 8), data(50, 4, seed=1), seed=1)
    (axes,) = report.plot().axes
    heights = np.array([bar.get_height() for bar in axes.patches])
    widths = np.array([bar.get_width() for bar in axes.patches])
    assert (heights * widths).sum() == pytest.approx(1)
    edges = sorted(line.get_xdata()[0] for line in axes.lines[1:])
    assert edges == [-0.1, 0.1]
    for name, magic in (("a.png", b"\x89PNG"), ("b.SVG", b"<?xml"), ("c.pdf", b"%PDF")):
        (tmp_path / name).write_bytes(b"old")
        report.plot(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(InvalidArgumentError, match="path must end in"):
        report.plot(tmp_path / "d.npy")
    with pytest.raises(FileError):
        report.plot(tmp_path / "none" / "a.png")


@pytest.mark.parametrize("n", [2, 3])
def test_a_plot_of_few_errors(n: int) -> None:
    pytest.importorskip("matplotlib")
    x = np.arange(n, dtype=np.float64)[:, np.newaxis]
    assert distortion(x, x, seed=1).plot().axes


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = distortion(data(50, 8), data(50, 4, seed=1), seed=1)
    with pytest.raises(ImportError, match="pip install matplotlib") as caught:
        report.plot()
    assert isinstance(caught.value, CorekitError)


# What is refused.


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(4), np.zeros((4, 1)), r"X must be a matrix, of two dimensions, .*shape \(4,\)"),
        (np.zeros((4, 1)), np.zeros((4, 1, 1)), "Y must be a matrix"),
        (data(1, 3), data(1, 2), "number of rows of X must be at least 2 .*got 1"),
        (np.zeros((0, 3)), np.zeros((0, 2)), "number of rows of X must be at least 2 .*got 0"),
        (np.zeros((4, 0)), data(4, 2), "X must have at least 1 column, got 0"),
        (data(4, 2), np.zeros((4, 0)), "Y must have at least 1 column, got 0"),
        (data(7, 3), data(5, 2), "Y must have as many rows as X, 7, got 5"),
        (np.ones((4, 3)), data(4, 2), "X must have rows that differ, got 6 pairs"),
    ],
)
def test_bad_shapes_are_refused(x: Floats, y: Floats, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        distortion(x, y, seed=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("queries", [0, 5])
def test_values_that_are_not_finite_are_named(value: float, queries: int) -> None:
    x, y = data(30, 6), data(30, 4)
    x[17, 3] = value
    message = f"{{}} must be finite, got {value} in row 17, column 3"
    with pytest.raises(InvalidArgumentError, match=message.format("X")):
        distortion(x, y, n_queries=queries, seed=1)
    with pytest.raises(InvalidArgumentError, match=message.format("Y")):
        distortion(y, x, n_queries=queries, seed=1)
    with pytest.raises(InvalidArgumentError, match="column 3"):
        distortion(x, First(4), n_queries=queries, seed=1)


def test_sparse_values_that_are_not_finite_are_named() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = data(30, 6) * (data(30, 6, seed=1) > 0)
    x[17, 3] = np.nan
    with pytest.raises(InvalidArgumentError, match="X must be finite, got nan in row 17, column 3"):
        distortion(sparse.csr_array(x), data(30, 4), seed=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eps", 0),
        ("eps", 1),
        ("eps", -0.1),
        ("eps", np.nan),
        ("eps", np.inf),
        ("n_pairs", 0),
        ("n_pairs", -1),
        ("n_queries", -1),
        ("seed", -1),
        ("seed", 2**128),
    ],
)
def test_options_out_of_range_are_named(name: str, value: object) -> None:
    options: dict[str, Any] = {"seed": 1, name: value}
    with pytest.raises(InvalidArgumentError, match=name):
        distortion(data(5, 3), data(5, 2), **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eps", "0.1"),
        ("eps", None),
        ("eps", True),
        ("n_pairs", 10.0),
        ("n_pairs", True),
        ("n_queries", None),
        ("seed", 1.0),
        ("seed", "1"),
    ],
)
def test_options_of_other_types_are_named(name: str, value: object) -> None:
    options: dict[str, Any] = {"seed": 1, name: value}
    with pytest.raises(ArgumentTypeError, match=name):
        distortion(data(5, 3), data(5, 2), **options)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        np.zeros((4, 2), dtype=complex),
        np.zeros((4, 2), dtype=object),
        np.zeros((4, 2), dtype=">f8"),
        np.zeros((4, 2), dtype="M8[s]"),
        np.zeros((4, 2), dtype="V2"),
        np.ma.zeros((4, 2)),
    ],
    ids=repr,
)
def test_what_is_no_array_of_real_numbers_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^X must"):
        distortion(value, data(4, 2), seed=1)
    with pytest.raises(ArgumentTypeError, match=r"^Y must"):
        distortion(data(4, 2), value, seed=1)


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize(
    ("part", "at", "value"),
    [
        ("indptr", 0, 1),
        ("indptr", 2, 99),
        ("indptr", -1, 99),
        ("indices", 1, 40),
        ("indices", 1, -1),
    ],
)
def test_damaged_sparse_arrays_are_refused(format: str, part: str, at: int, value: int) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.csr_array(data(4, 4) * (data(4, 4, seed=1) > 0)).asformat(format)
    getattr(x, part)[at] = value
    with pytest.raises(InvalidArgumentError, match=f"X.{part} must"):
        distortion(x, data(4, 2), seed=1)
