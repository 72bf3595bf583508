"""The promise: `project` gives what the formula gives, to the bit, for every input.

At every edge of the kernels' blocks, in every type and layout, into any output. How sums are taken
is a part of the formula, so there is no tolerance; beside the bits, all values are held to the
bound that sums in any order keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.projection import SparseProjection
from projection.formula import KINDS
from projection.layouts import LAYOUTS, WRITABLE
from projection.operators import Array, check, data, make, projections, same, types

# Around the widths of registers, blocks and panels.
FEATURES = [
    *[1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129],
    *[255, 256, 257, 511, 512, 513, 1023, 1024, 1025],
]
ROWS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65]
COMPONENTS = [1, 7, 33, 128, 300]

INTEGERS = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64", "float16"]


def bfloat16() -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return dtype


@pytest.mark.parametrize("d", FEATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_edge(kind: str, d: int) -> None:
    for k in COMPONENTS:
        projection = make(kind, d, k)
        for dtype in (np.float32, np.float64):
            X = data(max(ROWS), d, dtype)
            whole = projection.project(X)
            check(projection, X, whole)
            for n in ROWS:
                assert same(projection.project(X[:n]), whole[:n]), (k, dtype, n)


@pytest.mark.parametrize(("n", "d", "k"), [(3, 4097, 512), (2, 20_011, 64), (1, 9000, 1000)])
@pytest.mark.parametrize("kind", KINDS)
def test_long_rows(kind: str, n: int, d: int, k: int) -> None:
    projection = make(kind, d, k)
    X = data(n, d)
    check(projection, X, projection.project(X))


@pytest.mark.parametrize("n", [127, 128, 129, 255, 256, 257, 511, 513, 1000, 4099])
@pytest.mark.parametrize("kind", KINDS)
def test_many_rows(kind: str, n: int) -> None:
    for d, k in [(20, 16), (77, 50)]:
        projection = make(kind, d, k)
        X = data(n, d)
        check(projection, X, projection.project(X))


@given(projection=projections(), n=st.integers(0, 20), seed=st.integers(0, 99), wide=st.booleans())
def test_any_projection(projection: SparseProjection, n: int, seed: int, wide: bool) -> None:
    X = data(n, projection.n_features, np.float64 if wide else np.float32, seed=seed)
    check(projection, X, projection.project(X))


@pytest.mark.parametrize("k", [*range(1, 40), 100, 192])
@pytest.mark.parametrize("kind", ["block-stack", "stack"])
def test_all_counts_of_entries(kind: str, k: int) -> None:
    X = data(9, 41)
    for s in {1, 2, 3, 5, 8, 16, 17, k // 2, k}:
        if 1 <= s <= k:
            projection = make(kind, 41, k, column_nnz=s)
            check(projection, X, projection.project(X))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("kind", KINDS)
def test_every_type(kind: str, dtype: str) -> None:
    for n, d, k in [(1, 1, 1), (5, 40, 12), (70, 130, 100)]:
        projection = make(kind, d, k)
        X = data(n, d, dtype)
        check(projection, X, projection.project(X))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind: str) -> None:
    for n, d, k in [(1, 1, 1), (5, 40, 12), (70, 130, 100)]:
        projection = make(kind, d, k)
        X = data(n, d, bfloat16())
        check(projection, X, projection.project(X))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrow_floats_are_read_exactly(name: str) -> None:
    # Every number there is: one feature and one output make the projection ±1 times it.
    dtype = bfloat16() if name == "bfloat16" else np.dtype(name)
    X = np.arange(1 << 16, dtype=np.uint16).view(dtype)[:, None]
    projection = SparseProjection(1, 1, kind="countsketch", seed=3)
    sign = projection.to_dense().item()
    got = projection.project(X)
    assert got.dtype == dtype
    with np.errstate(invalid="ignore"):  # of NaNs that signal
        expected = (X.astype(np.float32) * np.float32(sign)).astype(dtype)
    assert same(got, expected)


def test_narrow_floats_are_rounded_once() -> None:
    # Sums of float16 that float16 cannot hold on the way: 2048 + 1 + 1 - 2048 and so on.
    projection = SparseProjection(64, 1, kind="countsketch", seed=3)
    sign = projection.to_dense()[0]
    x = np.ones(64)
    x[0], x[-1] = 2048, -2048
    X = (x * sign).astype(np.float16)[None]
    assert projection.project(X).item() == 62


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint16", "int64"])
def test_every_layout(layout: Callable[[Array], Array], dtype: str) -> None:
    for kind in KINDS:
        for n, d, k in [(1, 40, 12), (37, 1, 5), (9, 67, 100), (70, 33, 33)]:
            projection = make(kind, d, k)
            X = data(n, d, dtype)
            assert same(projection.project(layout(X)), projection.project(X)), (kind, n, d)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_of_bfloat16(layout: Callable[[Array], Array]) -> None:
    if layout.__name__ == "memory_map":
        pytest.skip("files of NumPy know no bfloat16")
    projection = make("block-stack", 67, 100)
    X = data(37, 67, bfloat16())
    assert same(projection.project(layout(X)), projection.project(X))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
def test_strides_of_zero(kind: str, dtype: str) -> None:
    projection = make(kind, 67, 40)
    row, column = data(1, 67, dtype), data(20, 1, dtype)
    for X in [np.broadcast_to(row, (20, 67)), np.broadcast_to(column, (20, 67))]:
        assert 0 in X.strides
        assert same(projection.project(X), projection.project(X.copy()))
    everything = np.broadcast_to(row[:1, :1], (20, 67))
    assert same(projection.project(everything), projection.project(everything.copy()))


@given(
    projection=projections(),
    n=st.integers(1, 9),
    steps=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    is_turned=st.booleans(),
)
def test_any_strides(
    projection: SparseProjection, n: int, steps: tuple[int, int], is_turned: bool
) -> None:
    d = projection.n_features
    shape = (n * max(abs(steps[0]), 1), d * max(abs(steps[1]), 1))
    whole = data(*shape)
    if is_turned:
        whole = np.asfortranarray(whole)
    sizes = whole.itemsize
    X = whole
    for axis, (step, length) in enumerate(zip(steps, (n, d), strict=True)):
        if step:
            X = X.swapaxes(0, axis)[::step][:length].swapaxes(0, axis)
        else:
            X = np.repeat(X.swapaxes(0, axis)[:1], length, axis=0).swapaxes(0, axis)
            strides = [0 if i == axis else stride for i, stride in enumerate(X.strides)]
            X = np.lib.stride_tricks.as_strided(X, strides=strides)
    assert (X.shape, X.itemsize) == ((n, d), sizes)
    check(projection, X, projection.project(X))


@pytest.mark.parametrize("layout", WRITABLE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_every_output(layout: Callable[[Array], Array], dtype: str) -> None:
    for kind in KINDS:
        for n, d, k in [(1, 9, 5), (37, 40, 16), (70, 33, 33)]:
            projection = make(kind, d, k)
            X = data(n, d, dtype)
            # NaN everywhere: what is not written stays one.
            out = layout(np.full((n, projection.n_components), np.nan, dtype))
            given_back = projection.project(X, out=out)
            assert given_back is out
            assert same(out, projection.project(X)), (kind, n)


@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_beside_the_output_is_written(order: Any) -> None:
    for kind in KINDS:
        projection = make(kind, 40, 33)
        X = data(50, 40)
        whole = np.full((104, 104), 7, np.float32, order=order)
        out = whole[1:101:2, 2:101:3]
        projection.project(X, out=out)
        assert same(out, projection.project(X)), kind
        out[...] = 7
        assert (whole == 7).all(), kind


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
def test_outputs_are_new_arrays_in_c_order(dtype: str) -> None:
    for kind in KINDS:
        Y = make(kind, 40, 12).project(np.asfortranarray(data(5, 40, dtype)))
        assert type(Y) is np.ndarray
        assert Y.flags.c_contiguous
        assert Y.flags.writeable
        assert Y.dtype == types(dtype)[1]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
def test_no_rows(dtype: npt.DTypeLike) -> None:
    for kind in KINDS:
        projection = make(kind, 9, 5)
        assert projection.project(np.zeros((0, 9), dtype)).shape == (0, 5)
        assert projection.adjoint(np.zeros((0, 5), dtype)).shape == (0, 9)
        assert projection.left(np.zeros((9, 0), dtype)).shape == (5, 0)


def test_inputs_stay_as_they_are() -> None:
    for kind in KINDS:
        projection = make(kind, 67, 33)
        X = data(20, 67)
        before = X.tobytes()
        projection.project(X)
        projection.left(X.T)
        assert X.tobytes() == before


def test_lists_are_arrays() -> None:
    projection = make("block-stack", 3, 2)
    assert same(projection.project([[1, 2, 3]]), projection.project(np.array([[1, 2, 3]])))
