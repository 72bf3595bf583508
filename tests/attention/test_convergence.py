"""The promise: maps that approximate softmax attention come near it, at the stated rates.

With x = scale q . k, the error of a weight is at most |x|^(p+1)/(p+1)! e^|x| for Taylor of order
p, about x^2/2n of the weight for the limit of power n, and falls as 1/sqrt(m) for Favor.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from attention.calls import Case, draw
from attention.reference import Array
from corekit.attention import (
    ExponentialLimit,
    Favor,
    Taylor,
    features,
    linear_attention,
    softmax_attention,
)

SCALE = 0.3


def vectors(D: int = 3) -> tuple[Array, Array, Array]:
    """Vectors, and all of their products, from about -2.5 to 2.5."""
    x, y = np.random.default_rng(1).standard_normal((2, 40, D))
    return x, y, SCALE * x @ y.T


def weights(feature_map: Any) -> Array:
    x, y, _ = vectors()
    phi = [features(z, feature_map, scale=SCALE) for z in (x, y)]
    return np.asarray(phi[0] @ phi[1].T)


@pytest.mark.parametrize("order", range(1, 11))
def test_weights_of_taylor(order: int) -> None:
    _, _, x = vectors()
    off = abs(weights(Taylor(order)) - np.exp(x))
    bound = abs(x) ** (order + 1) / math.factorial(order + 1) * np.exp(abs(x))
    assert (off <= bound + 1e-13).all()
    # And no better: above 0 the next term is left out, and all after it.
    least = np.where(x > 0, x, 0) ** (order + 1) / math.factorial(order + 1)
    assert (off >= least - 1e-13).all()


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 32])
def test_weights_of_the_limit(n: int) -> None:
    _, _, x = vectors()
    off = abs(weights(ExponentialLimit(n)) - np.exp(x))
    # From n ln(1 + x/n) = x - x^2/2n + ..., where |x| < n.
    near = abs(x) < n / 2
    relative = (off / np.exp(x))[near]
    first = (x**2 / (2 * n))[near]
    assert (relative <= first * (1 + 2 * abs(x[near]) / n) + 1e-13).all()
    assert (off <= x**2 / (2 * n) * np.exp(abs(x)) + 1e-13).all()
    large = first > 0.3 * first.max()
    assert (relative[large] > 0.3 * first[large]).all()


def attention_error(feature_map: Any, dtype: str = "float64") -> tuple[float, float, float]:
    """Return the largest error of outputs, the largest |x|, and the largest |v|."""
    call = draw(Case(T=60, D=3, V=4, dtype=dtype, size=0.35))
    exact = softmax_attention(call.q, call.k, call.v, scale=SCALE)
    got = linear_attention(
        call.q, call.k, call.v, feature_map=feature_map, normalize=True, scale=SCALE
    )
    products = SCALE * np.einsum("bthd,bshd->bhts", call.q, call.k)
    return float(abs(got - exact).max()), float(abs(products).max()), float(abs(call.v).max())


@pytest.mark.parametrize("order", range(1, 11))
def test_attention_of_taylor(order: int) -> None:
    off, x, v = attention_error(Taylor(order))
    # Weights that are off by a share of at most r move a mean by at most 2 r / (1 - r) of |v|.
    r = x ** (order + 1) / math.factorial(order + 1) * math.exp(2 * x)
    if r < 1:
        assert off <= 2 * r / (1 - r) * v + 1e-13
    assert off > 0


@pytest.mark.parametrize("n", [2, 8, 32, 1000])
def test_attention_of_the_limit(n: int) -> None:
    # With the largest n there is no state, and pairs are taken one by one.
    off, x, v = attention_error(ExponentialLimit(n))
    r = x**2 / (2 * n) * (1 + 2 * x / n)
    assert off <= 2 * r / (1 - r) * v + 1e-13
    before, _, _ = attention_error(ExponentialLimit(n // 2))
    # A rate of 1/n, and no faster one.
    assert 0.3 < off / before < 0.75


def test_high_orders_are_softmax_to_rounding() -> None:
    for dtype, limit in [("float64", 1e-13), ("float32", 1e-5)]:
        off, _, _ = attention_error(Taylor(20), dtype)
        assert off < limit


@pytest.mark.parametrize("orthogonal", [True, False])
def test_attention_of_favor(orthogonal: bool) -> None:
    """Squares of errors fall as 1/m.

    Means over 40 seeds at m = 32 and 512, of 60 tokens of two heads: the quotient of two such
    means is 16 but for chance and for terms of order 1/m. Its logarithm is judged by the normal
    law, with the variance that the 40 draws of each show: a false alarm has a chance of 1e-6.
    """
    call = draw(Case(T=60, D=8, V=4, dtype="float64", size=0.35))
    exact = softmax_attention(call.q, call.k, call.v, scale=SCALE)
    found = {}
    for m in (32, 512):
        squares = []
        for seed in range(40):
            got = linear_attention(
                call.q,
                call.k,
                call.v,
                feature_map=Favor(m, orthogonal=orthogonal, seed=seed),
                normalize=True,
                scale=SCALE,
            )
            squares.append(float(((got - exact) ** 2).mean()))
        found[m] = np.array(squares)
    ratio = found[32].mean() / found[512].mean()
    spread = math.sqrt(sum(x.var(ddof=1) / len(x) / x.mean() ** 2 for x in found.values()))
    sigmas = NormalDist().inv_cdf(1 - 1e-6 / 2)
    # Terms of higher order make the errors of few features a little smaller or larger.
    assert abs(math.log(ratio / 16)) < sigmas * spread + 0.15, (ratio, spread)
    # Without the root they would fall as 1/m^2, or not at all.
    assert sigmas * spread + 0.15 < math.log(4)
