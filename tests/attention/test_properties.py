"""What follows from the recurrence whatever the numbers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.calls import MAPS, Call, Case, cancels, cases, check, draw, same
from attention.levels import LEVELS, at
from attention.reference import wide
from corekit.attention import State


@given(case=cases(dtype="float32"), power=st.integers(-20, 20))
def test_powers_of_two_in_v_go_through(case: Case, power: int) -> None:
    # To the bit: nothing but sums and products has v in it.
    call = draw(case.but(initial=False))
    out, state = call.run()
    factor = np.float32(2.0**power)
    call.v = call.v * factor
    got, got_state = call.run()
    assert same(got, out * factor)
    assert same(got_state, state._replace(s=state.s * factor))


@given(case=cases(dtype="float64"))
def test_sums_in_v_go_through(case: Case) -> None:
    call = draw(case.but(initial=False))
    other = np.random.default_rng(4).standard_normal(call.v.shape)
    if call.mask is not None:
        other[~call.mask] = np.nan
    second = call.but(v=other)
    both = call.but(v=call.v + other)
    together = call.run()[0] + second.run()[0]
    size = call.sizes.out + second.sizes.out + both.sizes.out
    off = abs(both.run()[0] - together)
    off[both.sizes.unsure] = 0
    assert (off <= 1e-13 * size).all()


@pytest.mark.parametrize("name", list(MAPS))
def test_order_does_not_matter_without_causality(name: str) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    case = Case(T=140, D=D, V=9, map=name, normalize=True, causal=False, G=2, mask=True)
    call = draw(case)
    assert call.mask is not None
    random = np.random.default_rng(1)
    for level in LEVELS:
        with at(level):
            out, state = call.run()
            check(call, out, state, promise=not cancels(case))
            order = random.permutation(140)
            turned = call.part(order, None)
            got, got_state = turned.run()
            back = np.empty_like(got)
            back[:, order] = got
            check(call, back, got_state, promise=not cancels(case))


def test_only_the_state_is_left_of_the_past() -> None:
    # Two pasts with one state have one future.
    call = draw(Case(T=50, map="elu1", normalize=True, initial=True))
    out, state = call.run()
    assert call.initial is not None
    copied = State(*(None if x is None else x.copy() for x in call.initial))
    again = call.but(initial=copied)
    assert all(map(same, again.run(), (out, state)))
    # And the one given is as it was.
    assert same(copied, call.initial)


@pytest.mark.parametrize("name", ["elu1", "exp", "favor", "softmax"])
def test_normalised_outputs_are_means(name: str) -> None:
    case = Case(T=120, D=16, V=3, map=name, normalize=True, dtype="float64", eps=1e-30)
    call = draw(case)
    call.v[...] = 2.5
    got, _ = call.run()
    np.testing.assert_allclose(got, 2.5, rtol=1e-13)


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.125, 3.0, 1e10])
def test_scales(scale: float) -> None:
    call = draw(Case(T=60, scale=scale))
    check(call, *call.run())
    positive = draw(Case(T=60, map="elu1", normalize=True, scale=scale))
    plain = draw(Case(T=60, map="elu1", normalize=True))
    # It cancels, and is ignored.
    assert same(positive.run()[0], plain.run()[0])


@pytest.mark.parametrize("eps", [1e-30, 1e-6, 1.0, 30.0, 1e30])
@pytest.mark.parametrize("sign", [1, -1])
def test_small_normalisers(eps: float, sign: int) -> None:
    case = Case(T=60, D=4, H=1, V=3, normalize=True, eps=eps)
    call = draw(case)
    # Keys of one direction: normalisers of one sign, small and large.
    call.k[...] = abs(call.k)
    call.q[...] = sign * abs(call.q)
    check(call, *call.run())
    zero = call.but(q=0 * call.q)
    assert (zero.run()[0] == 0).all()


def test_a_normaliser_of_zero_counts_as_positive() -> None:
    case = Case(T=1, D=2, H=1, V=1, normalize=True, eps=0.5)
    ones: Any = np.ones((1, 1, 1, 1), np.float32)
    for sign in (1.0, -1.0):
        k = np.array([[[[sign, -sign]]]], np.float32)
        call = Call(case, np.array([[[[1.0, 1.0]]]], np.float32), k, ones, None, None, None)
        state = State(np.ones((1, 1, 2, 1), np.float32), np.zeros((1, 1, 2), np.float32), None)
        call.initial = state
        # d is 1 - 1 = 0, and phi(q) S is 2.
        assert call.run()[0].item() == 2 / 0.5


def test_values_that_are_exact_stay_exact() -> None:
    # Whole numbers, so small that no sum is rounded: any order, any chunk gives the same bits.
    random = np.random.default_rng(1)
    case = Case(T=300, D=16, V=12, H=3, scale=1.0)
    q, k, v = (random.integers(-3, 4, (1, 300, 3, n)).astype(np.float32) for n in (16, 16, 12))
    call = draw(case).but(q=q, k=k, v=v)
    expected = call.expected
    for level in LEVELS:
        with at(level):
            for chunk_size in (None, 1, 7, 16, 64, 100, 1000):
                out, state = call.run(chunk_size=chunk_size)
                assert (wide(out, np.float64) == expected.out).all()
                assert (wide(state.s, np.float64) == expected.s).all()
