"""The promise: `features` is what the kernels do inside, and is the formula."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from attention import maps
from attention.calls import DTYPES, MAPS, same
from attention.levels import LEVELS, at
from attention.reference import wide
from corekit.attention import ExponentialLimit, Favor, Taylor, features


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", list(MAPS))
def test_formula(name: str, dtype: str) -> None:
    where = MAPS[name]
    exact = np.longdouble if dtype == "float64" else np.float64
    unit = float(np.finfo("float64" if dtype == "float64" else "float32").eps) / 2
    for D in (
        (1, 2, 5, 7) if "taylor" in name or "limit" in name else (1, 2, 7, 16, 33, 64, 80, 128)
    ):
        x = np.random.default_rng(D).standard_normal((2, 9, 3, D)).astype(DTYPES[dtype])
        x[0, 0] = 0
        for scale in (None, 0.7):
            factor = D**-0.5 if scale is None else scale
            expected = maps.features(wide(x, exact), where, factor)
            bound = unit * (8 + 4 * D * float(abs(wide(x, exact)).max())) * abs(expected)
            # Exponents of the random features are sums that cancel.
            bound *= 4 if "favor" in name else 1
            if dtype in ("float16", "bfloat16"):
                bound += abs(expected) * (2.0**-8 if dtype == "bfloat16" else 2.0**-11) + 2.0**-24
            for level in LEVELS:
                with at(level):
                    got = features(x, where, scale=scale)
                    assert got.dtype == x.dtype
                    assert got.shape == (2, 9, 3, maps.size(where, D))
                    assert (abs(wide(got, exact) - expected) <= bound).all(), (D, level)


@pytest.mark.parametrize("name", list(MAPS))
def test_shapes_and_strides(name: str) -> None:
    where = MAPS[name]
    x = np.random.default_rng(1).standard_normal((3, 8, 5)).astype(np.float32)
    expected = features(x, where)
    assert features(x[0, 0], where).shape == expected.shape[2:]
    assert same(features(x[0, 0], where), expected[0, 0])
    assert same(features(np.asfortranarray(x), where), expected)
    assert same(features(x[::-1, ::-1], where), expected[::-1, ::-1])
    assert same(features(x[:, :0], where), expected[:, :0])
    assert same(features(x, where, threads=3), expected)


@pytest.mark.parametrize("name", maps.ELEMENTWISE)
def test_scale_is_left_to_the_output(name: Any) -> None:
    x = np.random.default_rng(1).standard_normal((8, 5))
    assert same(features(x, name, scale=3.0), features(x, name))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype: str, level: str) -> None:
    limits = np.finfo(dtype)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, limits.max, limits.min, limits.tiny], dtype)
    x = np.tile(x, 5)  # every lane
    with at(level), np.errstate(over="ignore", invalid="ignore"):
        for name in ("identity", "elu1", "relu", "squared_relu", "exp"):
            got = features(x, name)
            np.testing.assert_array_equal(got, maps.features(x, name, 1.0), err_msg=name)
        # Softmax has no other meaning with these than NaN.
        assert np.isnan(features(np.array([1, np.nan, 2], dtype), "softmax")).all()
        got = features(np.array([[1, -np.inf, 1]], dtype), "softmax")
        np.testing.assert_array_equal(got, [[0.5, 0, 0.5]])
        large = features(np.array([[1e4, 1e4, -1e4]], dtype), "softmax")
        np.testing.assert_array_equal(large, [[0.5, 0.5, 0]])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponentials_over_their_whole_range(dtype: str, level: str) -> None:
    limits = np.finfo(dtype)
    low, high = math.log(float(limits.tiny)) + 0.1, math.log(float(limits.max)) - 0.1
    x = np.linspace(low, high, 100_001).astype(dtype)
    exact = np.exp(x.astype(np.longdouble))
    with at(level):
        got = features(x, "exp")
        assert (abs(got - exact) <= 2 * limits.eps * exact).all()
        below = np.linspace(-1.0, 0.0, 100_001).astype(dtype)
        near = features(below, "elu1")
        exact = np.exp(below.astype(np.longdouble))
        assert (abs(near - exact) <= 2 * limits.eps * exact).all()
        # And beyond it: to 0, and to infinity.
        assert (
            features(np.linspace(low - 60, low - 40, 99).astype(dtype), "exp") <= limits.tiny
        ).all()
        assert (features(np.linspace(high + 1, 3 * high, 99).astype(dtype), "exp") == np.inf).all()


def test_counts() -> None:
    for D in (0, 1, 2, 16, 64):
        for order in (1, 2, 3):
            assert Taylor(order).n_features_for(D) == math.comb(D + order, order)
            assert ExponentialLimit(order).n_features_for(D) == math.comb(D + order, order)
        assert Favor(7, seed=1).n_features_for(D) == 7


@pytest.mark.parametrize("where", [Taylor(2), ExponentialLimit(3), Favor(5, seed=2)], ids=str)
def test_objects(where: Any) -> None:
    again = pickle.loads(pickle.dumps(where))
    assert again == where
    assert len({where, again}) == 1
    assert where != Taylor(3)
    with pytest.raises(AttributeError):
        where.order = 3
    assert eval(repr(where)) == where
