"""The promise: states are plain arrays of the stated shapes, and zeros are an empty past."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from attention import maps
from attention.calls import MAPS, Case, draw, each, same
from corekit.attention import State


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", list(MAPS))
def test_zeros(name: str, normalize: bool, dtype: str) -> None:
    where = MAPS[name]
    state = State.zeros(3, 2, 5, 4, feature_map=where, normalize=normalize, dtype=dtype)
    m = maps.size(where, 5)
    assert (state.s.shape, state.s.dtype) == ((3, 2, m, 4), np.dtype(dtype))
    assert not state.s.any()
    assert state.s.flags.c_contiguous
    assert (state.z is None) == (not normalize)
    if state.z is not None:
        assert (state.z.shape, state.z.dtype, state.z.any()) == ((3, 2, m), dtype, False)
    if maps.kind(where) == "Favor":
        assert state.log_scale.dtype == dtype
        assert np.array_equal(state.log_scale, np.full((3, 2), -np.inf))
    else:
        assert state.log_scale is None


@pytest.mark.parametrize("name", list(MAPS))
def test_from_zeros_is_from_nothing(name: str) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    for options in each({}, {"normalize": True}, {"decay": "token"}, {"causal": False}):
        case = Case(T=70, D=D, V=6, map=name).but(**options)
        call = draw(case)
        zeros = State.zeros(1, 2, D, 6, feature_map=case.feature_map, normalize=case.normalize)
        got, without = call.run(initial_state=zeros), call.run()
        assert np.array_equal(got[0], without[0])
        assert all(
            x is None or np.array_equal(x, y) for x, y in zip(got[1], without[1], strict=True)
        )


@pytest.mark.parametrize("dtype", [np.float32, "f4", np.dtype("float32")])
def test_types_of_zeros(dtype: Any) -> None:
    assert State.zeros(1, 1, 2, 2, dtype=dtype).s.dtype == np.float32


def test_it_is_a_tuple_of_arrays() -> None:
    _, state = draw(Case(T=9, map="favor", normalize=True)).run()
    s, z, log_scale = state
    assert s is state.s
    assert z is state.z
    assert log_scale is state.log_scale
    again = pickle.loads(pickle.dumps(state))
    assert type(again) is State
    assert same(again, state)


def test_states_that_are_not_contiguous_are_read() -> None:
    call = draw(Case(T=30, B=2, D=5, V=6, initial=True))
    assert call.initial is not None
    expected = call.run()
    turned = State(np.asfortranarray(call.initial.s), None, None)
    assert all(map(same, call.run(initial_state=turned), expected))


def test_final_states_are_new_arrays() -> None:
    call = draw(Case(T=0, initial=True, map="elu1", normalize=True))
    assert call.initial is not None
    _, state = call.run()
    assert same(state, call.initial)
    assert not np.shares_memory(state.s, call.initial.s)
