"""The promise: what comes later is never seen, not in one bit, not even NaN and infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.calls import MAPS, Call, Case, cases, draw, each, same
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import softmax_attention

FILLS = ["other", np.nan, np.inf, -np.inf]


def changed(call: Call, t: int, fill: Any) -> Call:
    """Return the call with all that comes in at tokens from t on changed."""
    random = np.random.default_rng(9)

    def change(x: Array | None, low: Any) -> Array | None:
        if x is None or x.ndim < 3:
            return x
        x = x.copy()
        part = x[:, t:]
        other = 3 * random.standard_normal(part.shape) if fill == "other" else fill
        # A decay is at most 0.
        part[...] = other if low is None else (low if fill != "other" else -abs(np.array(other)))
        return x

    return call.but(
        q=change(call.q, None),
        k=change(call.k, None),
        v=change(call.v, None),
        decay=change(call.decay, -np.inf),
    )


@pytest.mark.parametrize("fill", FILLS, ids=str)
@pytest.mark.parametrize("name", list(MAPS))
def test_linear(name: str, fill: Any) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    case = Case(T=150, D=D, V=21, H=2, map=name, initial=True)
    for options in each(
        {},
        {"normalize": True},
        {"decay": "token", "normalize": True, "G": 2},
        {"chunk_size": 32, "dtype": "bfloat16"},
        *([{"decay": "vector"}] if name in ("identity", "elu1") else []),
    ):
        call = draw(case.but(**options))
        for level in LEVELS:
            with at(level):
                clean, _ = call.run()
                for t in (0, 1, 15, 16, 31, 32, 63, 64, 65, 100, 149):
                    got, _ = changed(call, t, fill).run()
                    assert same(got[:, :t], clean[:, :t]), (level, t)


@given(case=cases(causal=True), picks=st.data(), fill=st.sampled_from(FILLS))
def test_any_call(case: Case, picks: st.DataObject, fill: Any) -> None:
    call = draw(case)
    t = picks.draw(st.integers(0, case.T))
    clean, _ = call.run()
    got, _ = changed(call, t, fill).run()
    assert same(got[:, :t], clean[:, :t])


@pytest.mark.parametrize("fill", FILLS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_softmax(dtype: str, fill: Any) -> None:
    call = draw(Case(T=150, D=19, V=21, G=2, dtype=dtype))
    for level in LEVELS:
        with at(level):
            clean = softmax_attention(call.q, call.k, call.v)
            for t in (0, 1, 15, 16, 31, 32, 63, 64, 65, 100, 149):
                other = changed(call, t, fill)
                got = softmax_attention(other.q, other.k, other.v)
                assert same(got[:, :t], clean[:, :t]), (level, t)


def test_it_would_be_seen_without_causality() -> None:
    call = draw(Case(T=50, causal=False))
    got, _ = changed(call, 49, "other").run()
    assert not same(got[:, :49], call.run()[0][:, :49])
