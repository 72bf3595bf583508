"""The promise: NaN and infinity stay in the (batch, head) where they entered, and show there.

All other heads are what they would be without, to the bit, though they share threads and buffers;
causally, so are earlier tokens of the same head (`test_causality.py`).
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.calls import MAPS, Call, Case, cases, draw, each, same
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import State, linear_attention_vjp, softmax_attention

VALUES = [np.nan, np.inf, -np.inf]


def spoilt(call: Call, name: str, b: int, t: int, h: int, value: float) -> Call:
    """Return the call with one coordinate of one token of one head spoilt."""
    arrays = {one: getattr(call, one).copy() for one in ("q", "k", "v")}
    arrays[name][b, t, h, arrays[name].shape[-1] // 2] = value
    return call.but(**arrays)


def heads(call: Call, name: str, h: int) -> Array:
    """Return which query heads see a head of q, or of k and v."""
    G = call.case.G
    own = np.arange(call.case.H * G)
    return np.asarray(own == h if name == "q" else own // G == h)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("feature_map", list(MAPS))
def test_other_heads(feature_map: str, name: str) -> None:
    D = 4 if "taylor" in feature_map or "limit" in feature_map else 19
    # Tails of chunks and of panels, so that there is room that is computed and not read.
    case = Case(T=77, D=D, V=9, B=3, H=3, G=2, map=feature_map, initial=True)
    for options in each({}, {"normalize": True}, {"causal": False}, {"decay": "token"}):
        call = draw(case.but(**options))
        for level in LEVELS:
            with at(level):
                clean, clean_state = call.run(threads=1)
                for value in VALUES:
                    got, state = spoilt(call, name, 1, 40, 1, value).run(threads=1)
                    touched = np.zeros(got.shape[:3], bool)
                    touched[1, :, heads(call, name, 1)] = True
                    assert same(got[~touched], clean[~touched])
                    others = np.ones((3, 3), bool)
                    others[1, 1] = name == "q"
                    assert state_rows_equal(state, clean_state, others)
                    if np.isnan(value):
                        seen = got[1, 40:, heads(call, name, 1)]
                        assert np.isnan(seen[:, 0]).any(axis=-1).all()
                        assert name == "q" or np.isnan(seen).any(axis=-1).all()


def state_rows_equal(one: State, other: State, where: Array) -> bool:
    pairs = zip(one, other, strict=True)
    return all(x is None or same(x[where], y[where]) for x, y in pairs)


@given(case=cases(), picks=st.data(), value=st.sampled_from(VALUES))
def test_any_call(case: Case, picks: st.DataObject, value: float) -> None:
    if case.T * case.B * case.H == 0:
        return
    call = draw(case)
    name = picks.draw(st.sampled_from(["q", "k", "v"]))
    b = picks.draw(st.integers(0, case.B - 1))
    t = picks.draw(st.integers(0, case.T - 1))
    h = picks.draw(st.integers(0, getattr(call, name).shape[2] - 1))
    got, _ = spoilt(call, name, b, t, h, value).run()
    clean, _ = call.run()
    touched = np.zeros(got.shape[:3], bool)
    touched[b, t if case.causal else 0 :, heads(call, name, h)] = True
    assert same(got[~touched], clean[~touched])


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("causal", [True, False])
def test_softmax(causal: bool, name: str) -> None:
    call = draw(Case(T=77, D=19, V=9, B=3, H=3, G=2))
    for level in LEVELS:
        with at(level):
            clean = softmax_attention(call.q, call.k, call.v, causal=causal)
            for value in VALUES:
                bad = spoilt(call, name, 1, 40, 1, value)
                got = softmax_attention(bad.q, bad.k, bad.v, causal=causal)
                touched = np.zeros(got.shape[:3], bool)
                touched[1, 40 if causal else 0 :, heads(call, name, 1)] = True
                assert same(got[~touched], clean[~touched])
                if np.isnan(value):
                    assert np.isnan(got[1, 40, heads(call, name, 1)]).any(axis=-1).all()


@pytest.mark.parametrize("name", ["q", "k", "v", "dout"])
@pytest.mark.parametrize("feature_map", ["identity", "elu1", "softmax", "favor"])
def test_gradients_of_other_heads(feature_map: str, name: str) -> None:
    call = draw(Case(T=77, D=19, V=9, B=3, H=3, map=feature_map, normalize=True))
    dout = np.random.default_rng(2).standard_normal(call.v.shape).astype(np.float32)
    options = {**call.options(), "threads": 1}
    for level in LEVELS:
        with at(level):
            clean = linear_attention_vjp(call.q, call.k, call.v, dout, **options)
            for value in VALUES:
                bad, bad_dout = call, dout.copy()
                if name == "dout":
                    bad_dout[1, 40, 1, 3] = value
                else:
                    bad = spoilt(call, name, 1, 40, 1, value)
                got = linear_attention_vjp(bad.q, bad.k, bad.v, bad_dout, **options)
                for one, other in zip(got[:3], clean[:3], strict=True):
                    others = np.ones((3, 77, 3), bool)
                    others[1, :, 1] = False
                    assert same(one[others], other[others])


@pytest.mark.parametrize("value", VALUES)
def test_states(value: float) -> None:
    call = draw(Case(T=77, D=19, V=9, B=3, H=3, initial=True))
    assert call.initial is not None
    clean, clean_state = call.run(threads=1)
    call.initial.s[1, 1, 3, 4] = value
    got, state = call.run(threads=1)
    others = np.ones((3, 3), bool)
    others[1, 1] = False
    assert state_rows_equal(state, clean_state, others)
    assert not np.isfinite(got[1, :, 1, 4]).any()
    got[1, :, 1] = clean[1, :, 1]
    assert same(got, clean)


def test_overflow_is_infinite_or_not_a_number() -> None:
    call = draw(Case(T=77, D=19, V=9))
    q, k, v = (np.full_like(x, 1e30) for x in (call.q, call.k, call.v))
    got, _ = call.but(q=q, k=k, v=v).run()
    assert not np.isfinite(got).any()
