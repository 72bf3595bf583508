"""The laws of the projection in NumPy, plainly: what every entry and every value must be.

Nothing here is quick or shared with the core, which is held to it by all others of this folder,
as it is to the same formulas on `docs/projection-mathematics.md`. Matrices are k x d: k outputs,
d features.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import factorial, isfinite
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from projection.gaussian_formula import gaussian
from projection.srht_formula import padded, srht

Matrix = npt.NDArray[np.float64]

KINDS = ["block-stack", "stack", "iid", "countsketch", "gaussian", "srht"]
STACKS = ["block-stack", "stack", "countsketch"]
# Of these every entry is 0 or one magnitude with a sign.
SIGNED = [*STACKS, "iid"]

PROJECTIONS = 1 << 32
"""The last word of the counter of all streams: the domain of projections."""


class Law(Protocol):
    """What is asked of a projection: its parameters."""

    @property
    def n_features(self) -> int: ...
    @property
    def n_components(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def column_nnz(self) -> int | None: ...
    @property
    def density(self) -> float | None: ...
    @property
    def seed(self) -> int: ...
    def __hash__(self) -> int: ...


def words(seed: int, stream: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the first words of one Philox stream."""
    return np.random.Philox(key=seed, counter=[0, 0, stream, PROJECTIONS]).random_raw(count)


def below(word: int, n: int) -> int:
    """Return floor(word * n / 2**64), which is uniform below `n`, but for n/2**64."""
    return int(word) * n >> 64


def permutation(index: int, n: int) -> list[int]:
    """Return one of the n! orders: Fisher and Yates, with the digits of `index`."""
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        index, j = divmod(index, i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def order_of_sixteen(word: int, swap: int) -> list[int]:
    """Return an order of 16: which half goes first, and an order of each half."""
    first, second = divmod(below(word, factorial(8) ** 2), factorial(8))
    return [8 * swap + i for i in permutation(first, 8)] + [
        8 * (1 - swap) + i for i in permutation(second, 8)
    ]


def width(k: int, s: int, kind: str = "block-stack") -> int:
    """Return how many features a block has, which is how many outputs a group has."""
    most = min(16, k // s) if kind == "block-stack" else 1
    return 1 << most.bit_length() - 1


def strata(k: int, s: int, w: int) -> list[int]:
    """Return the first group of each of the s strata, and the number of groups."""
    groups = -(-k // w)
    return [groups * r // s for r in range(s + 1)]


def weights(k: int, s: int, w: int) -> Matrix:
    """Return the magnitude of the entries of each stratum."""
    inverse = np.array([float(i) for i in _inverses(k, s, w)])
    total = np.cumsum(inverse)[-1]  # one after another; Python's sum corrects itself since 3.12
    return np.asarray(np.sqrt(inverse / total))


def _inverses(k: int, s: int, w: int) -> list[Fraction]:
    """Return 1/c of each stratum; c is the chance that two features share an output there."""
    first = strata(k, s, w)
    sizes = [(after - before) * w for before, after in pairwise(first)]
    twice = [0] * (s - 1) + [first[s] * w - k]  # outputs that lie in two groups
    return [Fraction(n * n, n + 2 * more) for n, more in zip(sizes, twice, strict=True)]


def stack_signs(d: int, k: int, s: int, w: int, seed: int) -> npt.NDArray[np.int8]:
    """Return the signs of a stack: s entries in each column, one in each stratum."""
    signs = np.zeros((k, d), dtype=np.int8)
    first = strata(k, s, w)
    for block in range(-(-d // w)):
        drawn = words(seed, block, s if w == 1 else 2 * s).reshape(s, -1)
        for r in range(s):
            word = int(drawn[r, 0])
            group = first[r] + below(word, first[r + 1] - first[r])
            start = min(group * w, k - w)
            if w == 1:
                order = [0]
            elif w == 16:
                order = order_of_sixteen(int(drawn[r, 1]), swap=word >> 16 & 1)
            else:
                order = permutation(below(int(drawn[r, 1]), factorial(w)), w)
            for lane in range(w):
                feature = block * w + order[lane]
                if feature < d:
                    signs[start + lane, feature] = -1 if word >> lane & 1 else 1
    return signs


def threshold(density: float) -> int:
    """Return the density in units of 2**-31."""
    return round(density * 2**31)


def iid_signs(d: int, k: int, density: float, seed: int) -> npt.NDArray[np.int8]:
    """Return the signs of an iid law: each entry by itself is 0, +1 or -1."""
    signs = np.zeros((k, d), dtype=np.int8)
    for feature in range(d):
        halves = words(seed, feature, -(-k // 2)).astype("<u8").view("<u4")[:k]
        sign = np.where(halves & 1, -1, 1)
        signs[:, feature] = np.where(halves >> 1 < threshold(density), sign, 0)
    return signs


def nnz_of(law: Law) -> int:
    """Return s of a stack."""
    return 1 if law.kind == "countsketch" else law.column_nnz or 0


@lru_cache(64)
def signs(law: Law) -> npt.NDArray[np.int8]:
    """Return the signs of a law whose entries have one magnitude for each output."""
    d, k = law.n_features, law.n_components
    if law.kind == "iid":
        assert law.density is not None
        return iid_signs(d, k, law.density, law.seed)
    s = nnz_of(law)
    return stack_signs(d, k, s, width(k, s, law.kind), law.seed)


def scales(law: Law) -> Matrix:
    """Return the magnitude of the entries of each output."""
    k = law.n_components
    if law.kind == "iid":
        assert law.density is not None
        return np.full(k, 1 / np.sqrt(k * (threshold(law.density) / 2**31)))
    s = nnz_of(law)
    w = width(k, s, law.kind)
    ends = [min(group * w, k) for group in strata(k, s, w)]
    return np.repeat(weights(k, s, w), np.diff(ends))


@lru_cache(64)
def dense(law: Law) -> Matrix:
    """Return the whole matrix."""
    if law.kind == "gaussian":
        return gaussian(law.n_features, law.n_components, law.seed)
    if law.kind == "srht":
        return srht(law.n_features, law.n_components, law.seed)
    return signs(law) * scales(law)[:, None] + 0.0  # no negative zeros


def project(law: Law, X: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return X Aᵀ as it must be to the bit, with sums of `dtype`."""
    X = np.asarray(X).astype(dtype)
    with np.errstate(all="ignore"):
        if law.kind == "gaussian":
            return fused(X, dense(law).astype(dtype))
        if law.kind == "srht":
            return transformed(X, law.n_components, law.seed)
        return added(X, signs(law), scales(law).astype(dtype))


def added(
    X: npt.NDArray[Any], signs: npt.NDArray[np.int8], scales: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Add features in ascending order to one sum for each output; multiply once, at the end."""
    sums = np.zeros((len(X), len(signs)), dtype=X.dtype)
    for feature in range(X.shape[1]):
        for sign in (1, -1):
            outputs = np.flatnonzero(signs[:, feature] == sign)
            sums[:, outputs] += (X[:, feature] * X.dtype.type(sign))[:, None]
    return np.asarray(sums * scales)


def fused(X: npt.NDArray[Any], A: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Add x times entry in ascending order of features, with one rounding for each step."""
    sums = np.zeros((len(X), len(A)), dtype=X.dtype)
    step = fused_narrow if X.dtype == np.float32 else fused_wide
    for feature in range(X.shape[1]):
        sums = step(X[:, feature, None], A[None, :, feature], sums)
    return sums


def fused_narrow(a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a b + c of float32, rounded once.

    The product is exact in float64. The sum is rounded to odd there, by its exact error (Knuth's
    two-sum), and then to float32, which is as if it had been rounded once (Boldo and Melquiond,
    Emulation of FMA and correctly rounded sums, 2008).
    """
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    is_even = total.view(np.uint64) & 1 == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    is_inexact = np.isfinite(total) & (error != 0)
    return np.asarray(np.where(is_inexact & is_even, odd, total), dtype=np.float32)


def fused_wide(a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a b + c of float64, rounded once: by whole numbers, and slowly."""
    one: Any = np.frompyfunc(_fused, 3, 1)
    return np.asarray(one(a, b, c).astype(np.float64))


def _fused(a: float, b: float, c: float) -> float:
    if not (isfinite(a) and isfinite(b) and isfinite(c)):
        return a * b + c
    return float(Fraction(a) * Fraction(b) + Fraction(c))


def transformed(X: npt.NDArray[Any], k: int, seed: int) -> npt.NDArray[Any]:
    """Take signed features through the stages of the Hadamard transform; multiply once."""
    n, d = X.shape
    size = padded(d)
    feature = np.arange(d, dtype=np.uint64)
    negative = words(seed, 0, -(-d // 64))[feature // 64] >> feature % 64 & 1
    values = np.zeros((n, size), X.dtype)
    values[:, :d] = np.where(negative == 1, -X, X)
    stride = 1
    while stride < size:
        pairs = values.reshape(n, -1, 2, stride)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        values = np.stack([low + high, low - high], axis=2).reshape(n, size)
        stride *= 2
    rows = np.argsort(words(seed, 1, size), kind="stable")[:k]
    return np.asarray(values[:, rows] * X.dtype.type(1 / np.sqrt(k)))


def variance(law: Law, x: npt.ArrayLike) -> float:
    """Return Var ‖Ax‖² over the seeds."""
    k, d = law.n_components, law.n_features
    squares = np.asarray(x, dtype=np.float64) ** 2
    norm = squares.sum() ** 2
    fourth = (squares**2).sum()
    match law.kind:
        case "gaussian":
            result = 2 / k * norm
        case "srht":
            n = 1 << (d - 1).bit_length()
            result = 0.0 if n == 1 else 2 / k * (n - k) / (n - 1) * (norm - fourth)
        case "iid":
            assert law.density is not None
            p = threshold(law.density) / 2**31
            result = 2 / k * (norm - fourth) + (1 - p) / (k * p) * fourth
        case _:
            s = nnz_of(law)
            w = width(k, s, law.kind)
            padded = np.append(squares, np.zeros(-d % w)).reshape(-1, w)
            apart = norm - (padded.sum(axis=1) ** 2).sum()
            result = float(2 / sum(_inverses(k, s, w))) * apart
    return float(result)
