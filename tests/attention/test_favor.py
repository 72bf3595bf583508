"""The promise: Favor's matrix is the published formula, and its features estimate exp(x . y).

Without bias, with the variance that theory gives. The statistical tests take draws of fixed
seeds; over the choice of seeds all of them together raise a false alarm with probability below
1e-6, by the normal law of means of so many draws (`SIGMAS`, for the statistics of this file).
"""

from __future__ import annotations

import math
import pickle
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention import favor_formula, maps
from attention.calls import Case, check, draw
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import Favor, State, features, linear_attention

STATISTICS = 30  # those of this file are fewer
FALSE_ALARM = 1e-6
SIGMAS = NormalDist().inv_cdf(1 - FALSE_ALARM / STATISTICS / 2)

SEEDS = [0, 1, 2**64, 2**128 - 1]


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize(
    ("m", "D"), [(1, 1), (5, 1), (1, 7), (7, 7), (24, 16), (33, 16), (130, 64)]
)
def test_matrix(m: int, D: int, orthogonal: bool) -> None:
    for seed in SEEDS:
        favor = Favor(m, orthogonal=orthogonal, seed=seed)
        got = favor.projection(D)
        assert (got.dtype, got.shape) == (np.dtype(np.float64), (m, D))
        np.testing.assert_array_equal(got, favor_formula.matrix(favor, D))


@given(m=st.integers(1, 40), D=st.integers(1, 20), seed=st.integers(0, 2**128 - 1))
def test_any_matrix(m: int, D: int, seed: int) -> None:
    for orthogonal in (True, False):
        favor = Favor(m, orthogonal=orthogonal, seed=seed)
        np.testing.assert_array_equal(favor.projection(D), favor_formula.matrix(favor, D))


@pytest.mark.parametrize(("m", "D"), [(16, 16), (40, 16), (64, 64)])
def test_rows_of_a_block_are_orthogonal(m: int, D: int) -> None:
    w = Favor(m, seed=3).projection(D)
    plain = Favor(m, orthogonal=False, seed=3).projection(D)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), np.linalg.norm(plain, axis=1), rtol=1e-14)
    np.testing.assert_array_equal(w[0], w[0])
    for first in range(0, m, D):
        block = w[first : first + D]
        unit = block / np.linalg.norm(block, axis=1, keepdims=True)
        assert abs(unit @ unit.T - np.eye(len(unit))).max() < 1e-14


def test_the_rows_of_fewer_features_are_the_first() -> None:
    for orthogonal in (True, False):
        many = Favor(50, orthogonal=orthogonal, seed=9).projection(12)
        few = Favor(31, orthogonal=orthogonal, seed=9).projection(12)
        np.testing.assert_array_equal(few, many[:31])


def pair(distance: float, D: int = 4) -> tuple[Array, Array]:
    random = np.random.default_rng(6)
    x, y = random.standard_normal((2, D))
    factor = distance / np.linalg.norm(x + y)
    return x * factor, y * factor


def estimates(x: Array, y: Array, n: int, *, orthogonal: bool, seed: int) -> Array:
    """Return phi_j(x) phi_j(y) m of n rows: estimates of exp(x . y), one a row."""
    phi = features(np.stack([x, y]), Favor(n, orthogonal=orthogonal, seed=seed), scale=1.0)
    return np.asarray(phi[0] * phi[1] * n)


@pytest.mark.parametrize("distance", [0.3, 0.7, 1.0])
def test_estimates_of_independent_rows(distance: float) -> None:
    # Choromanski et al., lemma 2: the variance of one is exp(|x + y|^2) exp(2 x.y) less the square
    # of the mean.
    x, y = pair(distance)
    n = 200_000
    got = estimates(x, y, n, orthogonal=False, seed=21)
    mean = math.exp(x @ y)
    variance = mean**2 * (math.exp(distance**2) - 1)
    assert abs(got.mean() - mean) < SIGMAS * math.sqrt(variance / n)
    squares = (got - mean) ** 2
    assert abs(squares.mean() - variance) < SIGMAS * squares.std() / math.sqrt(n)


@pytest.mark.parametrize("distance", [0.3, 0.7, 1.0])
def test_estimates_of_orthogonal_rows(distance: float) -> None:
    # Blocks are independent, rows of one are not: the mean of a block varies less.
    x, y = pair(distance)
    blocks, D = 50_000, 4
    got = estimates(x, y, blocks * D, orthogonal=True, seed=22).reshape(blocks, D).mean(axis=1)
    mean = math.exp(x @ y)
    assert abs(got.mean() - mean) < SIGMAS * got.std() / math.sqrt(blocks)
    independent = mean**2 * (math.exp(distance**2) - 1) / D
    squares = (got - mean) ** 2
    below = independent - squares.mean()
    assert below > -SIGMAS * squares.std() / math.sqrt(blocks)
    assert below > 0


def test_careless_matrices_are_caught() -> None:
    # Rows of one length, as some implementations have them, are biased by little.
    x, y = pair(1.0)
    blocks, D = 50_000, 4
    w = Favor(blocks * D, seed=22).projection(D)
    w *= math.sqrt(D) / np.linalg.norm(w, axis=1, keepdims=True)
    got = np.exp(w @ (x + y) - (x @ x + y @ y) / 2).reshape(blocks, D).mean(axis=1)
    assert abs(got.mean() - math.exp(x @ y)) > SIGMAS * got.std() / math.sqrt(blocks)


def test_large_keys_and_queries() -> None:
    # Plain features would be 0 or infinite in float32: exponents are in the hundreds.
    for dtype in ("float32", "float64"):
        for size in (5.0, 8.0):
            case = Case(T=90, D=16, V=5, map="favor", size=size, dtype=dtype, eps=1e-37)
            call = draw(case.but(normalize=True))
            # Queries are like keys: the normaliser is no sum of next to nothing.
            call.q = call.k.copy()
            for level in LEVELS:
                with at(level):
                    check(call, *call.run(), promise=False)


def test_growing_keys() -> None:
    # Each larger than all before, so that the stabiliser goes up all the way, and then down.
    case = Case(T=120, D=16, V=5, map="favor", normalize=True, decay="token", eps=1e-37)
    call = draw(case.but(strong=False))
    sizes = np.concatenate([np.linspace(0.1, 6, 60), np.linspace(6, 0.1, 60)]).astype(np.float32)
    call.k = call.k * sizes[None, :, None, None]
    call.q = call.k.copy()
    for level in LEVELS:
        with at(level):
            check(call, *call.run(), promise=False)


def test_states_of_any_scale() -> None:
    # A state may be far above or below what comes: the smaller of the two vanishes.
    case = Case(T=30, D=8, V=4, map="favor", normalize=True, initial=True)
    for exponent in (-200.0, -50.0, 0.0, 50.0, 80.0):
        call = draw(case)
        assert call.initial is not None
        call.initial.log_scale[...] = exponent
        fresh = call.but()
        for level in LEVELS:
            with at(level):
                out, state = fresh.run()
                assert np.isfinite(out).all()
                check(fresh, out, state, promise=False)


def test_an_empty_state_is_none() -> None:
    case = Case(T=50, D=8, V=4, map="favor", normalize=True)
    call = draw(case)
    empty = State.zeros(1, 2, 8, 4, feature_map=case.feature_map, normalize=True)
    assert np.isneginf(empty.log_scale).all()
    with_it = call.run(initial_state=empty)
    without = call.run()
    np.testing.assert_array_equal(with_it[0], without[0])
    np.testing.assert_array_equal(with_it[1].s, without[1].s)
    np.testing.assert_array_equal(with_it[1].log_scale, without[1].log_scale)


def test_seeds() -> None:
    drawn = {Favor(4, seed=None).seed for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 <= seed < 2**128 for seed in drawn)
    kept = Favor(4, seed=None)
    np.testing.assert_array_equal(kept.projection(3), Favor(4, seed=kept.seed).projection(3))
    assert not np.array_equal(Favor(4, seed=1).projection(3), Favor(4, seed=2).projection(3))


def test_objects() -> None:
    favor = Favor(4, seed=1)
    assert favor == Favor(4, orthogonal=True, seed=1)
    assert favor != Favor(4, orthogonal=False, seed=1)
    assert len({favor, Favor(4, seed=1), Favor(5, seed=1)}) == 2
    again: Any = pickle.loads(pickle.dumps(favor))
    assert again == favor
    assert hash(again) == hash(favor)
    call = draw(Case(T=20))
    np.testing.assert_array_equal(
        linear_attention(call.q, call.k, call.v, feature_map=again),
        linear_attention(call.q, call.k, call.v, feature_map=favor),
    )
    with pytest.raises(AttributeError):
        favor.seed = 2  # type: ignore[misc]
    assert maps.size(favor, 9) == favor.n_features_for(9) == 4
