"""Projections of every kind, inputs for them, and what must come out."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from corekit.projection import SparseProjection
from projection import formula
from projection.formula import KINDS

Array: TypeAlias = npt.NDArray[Any]

SEEDS = st.sampled_from([0, 1, 2**64, 2**128 - 1]) | st.integers(0, 2**128 - 1)
DENSITIES = st.sampled_from([1 / 3, 1.0, 0.5, 0.01, 2.0**-31]) | st.floats(1e-3, 1)


def make(kind: str, d: int, k: int, *, seed: int = 7, **options: Any) -> SparseProjection:
    """Return a projection; k is cut to what an SRHT of d features has."""
    if kind == "srht":
        k = min(k, 1 << (d - 1).bit_length())
    given: dict[str, Any] = {"kind": kind, "seed": seed, **options}
    return SparseProjection(d, k, **given)


@st.composite
def projections(
    draw: st.DrawFn,
    kinds: list[str] = KINDS,
    *,
    features: st.SearchStrategy[int] | None = None,
    components: st.SearchStrategy[int] | None = None,
) -> SparseProjection:
    """Any projection of a few features and outputs."""
    kind = draw(st.sampled_from(kinds))
    d = draw(st.integers(1, 70) if features is None else features)
    k = draw(
        st.integers(1, 40) | st.sampled_from([64, 100, 129]) if components is None else components
    )
    options: dict[str, Any] = {}
    if kind in ("block-stack", "stack"):
        options["column_nnz"] = draw(st.none() | st.integers(1, min(k, 20)))
    if kind == "iid":
        options["density"] = draw(st.none() | DENSITIES)
    return make(kind, d, k, seed=draw(SEEDS), **options)


def data(n: int, d: int, dtype: npt.DTypeLike = np.float32, *, seed: int = 1) -> Array:
    """Return n rows of values of many magnitudes, some zero; integers use all their bits."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, (n, d)).astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, (n, d), dtype=dtype, endpoint=True)
    values = random.standard_normal((n, d)) * 2.0 ** random.integers(-4, 5, (n, d))
    values[random.random((n, d)) < 0.2] = 0
    return values.astype(dtype)


def types(dtype: npt.DTypeLike) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the type of the sums and that of the output for an input of this type."""
    dtype = np.dtype(dtype)
    if dtype.name in ("float32", "float16", "bfloat16"):
        return np.dtype(np.float32), dtype
    return np.dtype(np.float64), np.dtype(np.float64)


dense = formula.dense


def same(one: Array, other: Array) -> bool:
    """Whether two arrays have one type, one shape and the same values.

    A NaN equals a NaN, and zeros are equal whatever their signs.
    """
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.array_equal(one.astype(np.float64), other.astype(np.float64), equal_nan=True)
    )


def check(projection: SparseProjection, X: Array, Y: Array) -> None:
    """Hold what `project` gave for X to the formula, to the bit.

    Fused operations of float64 are slow in Python: large products of the Gaussian law are held to
    the bound of their errors.
    """
    sums, out = types(X.dtype)
    assert (Y.dtype, Y.shape) == (out, (len(X), projection.n_components))
    close(Y, X.astype(np.float64), dense(projection).T, sums)
    is_slow = projection.kind == "gaussian" and sums == np.float64
    if not is_slow or Y.size * X.shape[1] < 20_000:
        with np.errstate(over="ignore"):
            assert same(Y, formula.project(projection, X, sums).astype(out))


def close(Y: Array, left: Array, right: Array, sums: np.dtype[Any]) -> None:
    """Hold a product to what sums of `sums` in any order must give.

    With n terms the error is below n eps Σ|terms| (Higham, Accuracy and Stability of Numerical
    Algorithms, 2002, 3.1), some more steps included for scales; an output narrower than the sums
    is rounded once.
    """
    steps = (left.shape[1] + 16) * float(np.finfo(sums).eps)
    exact = left @ right
    bound = steps * (np.abs(left) @ np.abs(right))
    if Y.dtype != sums:
        # Half a unit in the last place, and the smallest number there is.
        bound += np.abs(exact) * (2.0**-8 if Y.dtype.name == "bfloat16" else 2.0**-11) + 2.0**-24
    assert Y.shape == exact.shape
    assert (np.abs(Y.astype(np.float64) - exact) <= bound).all()
