"""The promise: token by token gives what the whole sequence gives, within rounding, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from attention import maps
from attention.calls import (
    DECAYS,
    DTYPES,
    MAPS,
    Call,
    Case,
    cancels,
    cases,
    check,
    draw,
    each,
    same,
)
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import State, linear_attention, linear_attention_step


def empty_state(case: Case) -> State:
    return State.zeros(
        case.B,
        case.H,
        case.D,
        case.value_dim,
        feature_map=case.feature_map,
        normalize=case.normalize,
        dtype=case.sums,
    )


def copied(state: State) -> State:
    return State(*(None if x is None else x.copy() for x in state))


def decay_of(call: Call, t: int) -> Array | None:
    if call.decay is None or call.decay.ndim == 1:
        return call.decay
    return call.decay[:, t]


def steps(
    call: Call, *, state: State | None = None, first: int = 0, **how: Any
) -> tuple[Array, State]:
    """Take the tokens from `first` on, one after another: the outputs, and the state."""
    case = call.case
    if state is None:
        state = empty_state(case) if call.initial is None else copied(call.initial)
    held = list(state)
    outs = []
    for t in range(first, case.T):
        got = linear_attention_step(
            state,
            call.q[:, t],
            call.k[:, t],
            call.v[:, t],
            feature_map=case.feature_map,
            normalize=case.normalize,
            eps=case.eps,
            scale=case.scale,
            decay=decay_of(call, t),
            **how,
        )
        outs.append(np.array(got))
    assert all(x is y for x, y in zip(state, held, strict=True))
    shape = (case.B, 0, case.H * case.G, case.value_dim)
    return np.stack(outs, axis=1) if outs else np.empty(shape, DTYPES[case.dtype]), state


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", list(MAPS))
def test_maps_and_decays(name: str, normalize: bool, dtype: str) -> None:
    D = 5 if "taylor" in name or "limit" in name else 24
    case = Case(T=40, D=D, V=10, B=2, map=name, normalize=normalize, dtype=dtype, initial=True)
    for decay in DECAYS if name in maps.ELEMENTWISE else DECAYS[:3]:
        call = draw(case.but(decay=decay))
        for level in LEVELS:
            with at(level):
                check(call, *steps(call), promise=not cancels(case))


@pytest.mark.parametrize(
    ("D", "V"), [(1, 1), (2, 33), (7, 2), (33, 80), (64, 64), (80, 33), (128, 1), (64, 128), (0, 3)]
)
@pytest.mark.parametrize("G", [1, 3])
def test_head_sizes(D: int, V: int, G: int) -> None:
    for options in each(
        {},
        {"decay": "vector"},
        {"map": "elu1", "normalize": True, "dtype": "float64"},
    ):
        call = draw(Case(T=12, D=D, V=V, B=2, H=3, G=G).but(**options))
        for level in LEVELS:
            with at(level):
                check(call, *steps(call))


@given(case=cases(causal=True, mask=False, cu_seqlens=None, layout="bthd"))
def test_any_call(case: Case) -> None:
    call = draw(case)
    check(call, *steps(call), promise=not cancels(case))


@pytest.mark.parametrize("name", list(MAPS))
def test_after_a_sequence_and_before_one(name: str) -> None:
    D = 5 if "taylor" in name or "limit" in name else 24
    call = draw(Case(T=90, D=D, V=10, map=name, normalize=True, decay="token", initial=True))
    case = call.case
    for cut in (0, 1, 63, 64, 89):
        head = call.part(slice(cut), call.initial)
        first, state = head.run()
        rest, state = steps(call, state=state, first=cut)
        out = np.concatenate([first, rest], axis=1)
        check(call, out, state, promise=not cancels(case))
        before, state = steps(head)
        after, state = call.part(slice(cut, None), state).run()
        check(call, np.concatenate([before, after], axis=1), state, promise=not cancels(case))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", maps.ELEMENTWISE)
def test_the_short_way_gives_the_same_bits(name: str, dtype: str) -> None:
    # Plain arrays and names, with `out`, skip the checks in Python.
    for options in each({}, {"normalize": True}, {"G": 2, "D": 33, "V": 20}, {"scale": 0.5}):
        call = draw(Case(T=10, B=2, map=name, dtype=dtype, initial=True).but(**options))
        case = call.case
        out = np.full((2, case.H * case.G, case.value_dim), np.nan, DTYPES[dtype])
        for level in LEVELS:
            with at(level):
                plain, plain_state = steps(call)
                got, state = steps(call, out=out)
                assert same(got, plain)
                assert same(state, plain_state)
                turned, state = steps(strided(call), out=out)
                assert same(turned, plain)
                assert same(state, plain_state)


def strided(call: Call) -> Call:
    q, k, v = (
        np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
        for x in (call.q, call.k, call.v)
    )
    return call.but(q=q, k=k, v=v)


def test_decays_of_a_step() -> None:
    for decay in DECAYS[1:]:
        call = draw(Case(T=30, B=2, H=3, D=8, decay=decay, initial=True))
        out = np.full((2, 3, 8), np.nan, np.float32)
        assert same(steps(call, out=out)[0], steps(call)[0])
        check(call, *steps(call))


def test_outputs_of_any_stride() -> None:
    call = draw(Case(T=10, B=2, H=3, D=8, V=9, initial=True))
    expected, expected_state = steps(call)
    whole = np.full((9, 2, 2, 3), np.nan, np.float32)
    got, state = steps(call, out=whole[:, 1].transpose(1, 2, 0))
    assert same(got, expected)
    assert same(state, expected_state)
    assert np.isnan(whole[:, 0]).all()


@pytest.mark.parametrize("B", [0, 1])
@pytest.mark.parametrize("H", [0, 1])
def test_nothing_to_do(B: int, H: int) -> None:
    state = State.zeros(B, H, 4, 3)
    q, v = np.ones((B, H, 4), np.float32), np.ones((B, H, 3), np.float32)
    assert linear_attention_step(state, q, q, v).shape == (B, H, 3)


def test_an_empty_past_normalised() -> None:
    state = State.zeros(1, 1, 3, 2, feature_map="relu", normalize=True)
    q = np.ones((1, 1, 3), np.float32)
    got = linear_attention_step(
        state, q, -q, np.ones((1, 1, 2), np.float32), feature_map="relu", normalize=True
    )
    assert (got == 0).all()


def test_no_other_array_is_written() -> None:
    call = draw(Case(T=1, B=2, decay="token", initial=True))
    before = [x.copy() for x in (call.q, call.k, call.v, call.decay) if x is not None]
    steps(call)
    after = [x for x in (call.q, call.k, call.v, call.decay) if x is not None]
    assert all(map(same, before, after))


def test_steps_of_a_large_state() -> None:
    # So large that threads share it.
    call = draw(Case(T=3, B=2, H=4, D=256, V=200, decay="vector", initial=True))
    for threads in (1, 2, 5):
        check(call, *steps(call, threads=threads))


def test_a_whole_sequence_of_one_token_is_a_step() -> None:
    call = draw(Case(T=1, B=3, map="elu1", normalize=True, initial=True))
    check(call, *steps(call))
    check(call, *call.run())
    assert same(linear_attention(call.q, call.k, call.v, return_state=True)[1].z, None)
