"""The promise: a masked token is as if it were not there, but for its own output.

It adds nothing after the map, does not decay the state, and its k, v and decay are never read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attention.calls import (
    DECAYS,
    DTYPES,
    MAPS,
    Call,
    Case,
    cancels,
    check,
    draw,
    each,
    error,
    same,
)
from attention.levels import LEVELS, at, hold
from attention.maps import ELEMENTWISE
from attention.reference import Array
from attention.reference import softmax_attention as by_reference
from corekit.attention import softmax_attention


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", list(MAPS))
def test_padding_may_be_anything(name: str, causal: bool) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    case = Case(T=100, D=D, V=9, B=3, map=name, causal=causal, mask=True)
    forms = (DECAYS if name in ELEMENTWISE else DECAYS[:3]) if causal else ["none"]
    for decay in forms:
        call = draw(case.but(decay=decay, normalize=decay == "none"))
        assert call.mask is not None
        for level in LEVELS:
            with at(level):
                clean = call.run()
                check(call, *clean, promise=not cancels(call.case))
                for fill in (0.0, 1e30, np.inf, -np.inf):
                    for x in (call.k, call.v):
                        x[~call.mask] = fill
                    if call.decay is not None and call.decay.ndim > 1:
                        call.decay[~call.mask] = abs(fill)
                    got = call.run()
                    assert all(map(same, got, clean)), (level, fill)


@pytest.mark.parametrize("name", ["identity", "elu1", "exp", "favor", "taylor 1"])
def test_masked_tokens_take_no_part(name: str) -> None:
    # The others give what they give where the masked ones are left out.
    case = Case(T=130, D=12, V=9, map=name, mask=True, decay="token", normalize=True)
    call = draw(case)
    assert call.mask is not None
    seen = np.flatnonzero(call.mask[0])
    rest = call.part(seen, None).but(mask=None)
    for level in LEVELS:
        with at(level):
            out, state = call.run()
            check(rest, out[:, seen], state, promise=not cancels(case))


def test_all_masked_is_nothing() -> None:
    case = Case(T=40, normalize=True, map="elu1", decay="token", initial=True, mask=True)
    call = draw(case)
    assert call.initial is not None
    assert call.mask is not None
    call.mask[...] = False
    for x in (call.k, call.v, call.decay):
        assert x is not None
        x[...] = np.nan
    _, state = call.run()
    # The state is not touched, and every token reads it as it was.
    assert same(state, call.initial)
    hold(call)
    assert (call.but(initial=None).run()[0] == 0).all()


def test_a_mask_of_nothing_is_none() -> None:
    for options in each({}, {"causal": False}, {"decay": "token", "map": "favor"}):
        call = draw(Case(T=90, B=2).but(**options))
        everything = np.ones((2, 90), bool)
        assert all(map(same, call.run(key_mask=everything), call.run()))


@pytest.mark.parametrize("stride", [1, 2, -1])
def test_masks_of_any_stride(stride: int) -> None:
    call = draw(Case(T=90, B=2, mask=True))
    assert call.mask is not None
    spread = np.zeros((2, 90 * abs(stride)), bool)[:, ::stride]
    spread[...] = call.mask
    assert all(map(same, call.run(key_mask=spread), call.run()))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_softmax(dtype: str, causal: bool) -> None:
    call = draw(Case(T=100, D=19, V=9, B=3, G=2, mask=True, dtype=dtype))
    assert call.mask is not None
    call.mask[1] = False
    call.mask[2, :20] = False
    given = call.inputs
    expected = by_reference(
        given.q,
        given.k,
        given.v,
        causal=causal,
        scale=given.scale,
        where=given.where,
        mask=given.mask,
    )
    for level in LEVELS:
        with at(level):
            got = _softmax(call, causal)
            limit = {"float32": 1e-6, "float64": 1e-14, "bfloat16": 5e-3}[dtype]
            assert error(got, expected) < limit
            # A token that attends to nothing gets 0.
            assert (got[1] == 0).all()
            assert not causal or (got[2, :20] == 0).all()
            for fill in (0.0, 1e30, np.inf):
                for x in (call.k, call.v):
                    x[~call.mask] = fill
                assert same(_softmax(call, causal), got)


def _softmax(call: Call, causal: bool) -> Array:
    out = np.full((*call.q.shape[:3], call.v.shape[-1]), np.nan, DTYPES[call.case.dtype])
    got: Any = softmax_attention(call.q, call.k, call.v, causal=causal, key_mask=call.mask, out=out)
    assert got is out
    return np.asarray(out)
