"""The promise: how the work is done is never seen in the values, not in one bit.

Not the number of threads (forward, step and gradient, with more and with fewer heads than
threads), not strides and layouts, not where an output goes, not other calls at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.calls import DTYPES, MAPS, Call, Case, cases, draw, each, same
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import (
    State,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)

THREADS = [1, 2, 3, 7]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"map": "elu1", "normalize": True},
    {"map": "elu1", "normalize": True, "causal": False},
    {"decay": "head"},
    {"decay": "vector", "dtype": "bfloat16"},
    {"map": "favor", "normalize": True},
    {"map": "favor", "decay": "token"},
    {"map": "favor", "normalize": True, "causal": False},
    {"map": "softmax", "normalize": True, "decay": "token", "mask": True},
    {"map": "taylor 2", "D": 6, "V": 150},
]


def gradients(call: Call, threads: int) -> list[Array]:
    random = np.random.default_rng(2)
    shape = (*call.q.shape[:3], call.v.shape[-1])
    dout = random.standard_normal(shape).astype(DTYPES[call.case.dtype])
    dstate = None
    if call.initial is not None:
        ds, dz, _ = call.initial
        dstate = State(ds, dz, None)
    got = call.vjp(dout, dstate, threads=threads)
    found = [got.q, got.k, got.v]
    if got.decay is not None:
        found.append(got.decay)
    if got.initial_state is not None:
        found += [x for x in got.initial_state if x is not None]
    return found


@pytest.mark.parametrize(("H", "G", "B"), [(1, 1, 1), (1, 3, 1), (2, 1, 1), (3, 2, 2)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_threads(options: dict[str, Any], H: int, G: int, B: int) -> None:
    case = Case(T=700, D=48, V=100, H=H, G=G, B=B, initial=True).but(**options)
    call = draw(case)
    for level in (LEVELS[0], LEVELS[-1]):
        with at(level):
            out, state = call.run(threads=1)
            grads = gradients(call, 1)
            for threads in THREADS[1:]:
                got, got_state = call.run(threads=threads)
                assert same(got, out), threads
                assert same(got_state, state), threads
                assert all(map(same, gradients(call, threads), grads)), threads


@given(case=cases(), threads=st.integers(2, 8))
def test_threads_of_any_call(case: Case, threads: int) -> None:
    call = draw(case)
    assert all(map(same, call.run(threads=threads), call.run(threads=1)))
    assert all(map(same, gradients(call, threads), gradients(call, 1)))


@pytest.mark.parametrize("causal", [True, False])
def test_threads_of_softmax(causal: bool) -> None:
    for H, G, B in [(1, 1, 1), (1, 4, 1), (3, 1, 2)]:
        call = draw(Case(T=500, D=33, V=70, H=H, G=G, B=B))
        bits = {
            softmax_attention(call.q, call.k, call.v, causal=causal, threads=threads).tobytes()
            for threads in THREADS
        }
        assert len(bits) == 1


@pytest.mark.parametrize("H", [1, 16])
@pytest.mark.parametrize("name", ["identity", "favor"])
def test_threads_of_steps(name: str, H: int) -> None:
    # A state of many megabytes, so that threads have something to do.
    case = Case(T=1, D=256, V=256, H=H, B=4, map=name, normalize=True, initial=True)
    call = draw(case)
    assert call.initial is not None
    found = []
    for threads in THREADS:
        state = State(*(None if x is None else x.copy() for x in call.initial))
        out = linear_attention_step(
            state,
            call.q[:, 0],
            call.k[:, 0],
            call.v[:, 0],
            feature_map=case.feature_map,
            normalize=True,
            threads=threads,
        )
        found.append((out, state))
    assert all(same(one, found[0][0]) and same(state, found[0][1]) for one, state in found)


def _padded(x: Array) -> Array:
    whole = np.full((*x.shape[:-1], x.shape[-1] + 5), np.nan, x.dtype)
    whole[..., 2:-3] = x
    return whole[..., 2:-3]


def _spread(x: Array) -> Array:
    whole = np.full((*x.shape[:-1], 3 * x.shape[-1]), np.nan, x.dtype)
    whole[..., ::3] = x
    return whole[..., ::3]


def _heads_apart(x: Array) -> Array:
    whole = np.full((x.shape[0], x.shape[1], 2 * x.shape[2] + 1, x.shape[3]), np.nan, x.dtype)
    whole[:, :, 1::2] = x
    return whole[:, :, 1::2]


def _backwards(x: Array) -> Array:
    return np.ascontiguousarray(x[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1]


def _time_last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _heads_first(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)


def _unaligned(x: Array) -> Array:
    raw = bytearray(1 + x.nbytes)
    whole = np.frombuffer(raw, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    whole[...] = x
    return whole


STRIDES: list[Callable[[Array], Array]] = [
    _padded,
    _spread,
    _heads_apart,
    _backwards,
    _time_last,
    _heads_first,
    _unaligned,
    np.asfortranarray,
]


@pytest.mark.parametrize("strides", STRIDES, ids=lambda strides: strides.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_strides(dtype: str, strides: Callable[[Array], Array]) -> None:
    for options in each(
        {},
        {"map": "favor", "normalize": True},
        {"causal": False, "map": "elu1"},
        {"decay": "vector"},
    ):
        call = draw(Case(T=90, D=21, V=35, B=2, dtype=dtype).but(**options))
        dout = np.random.default_rng(2).standard_normal(call.v.shape).astype(DTYPES[dtype])
        other = call.but(
            q=strides(call.q),
            k=strides(call.k),
            v=strides(call.v),
            decay=None if call.decay is None else strides(call.decay),
        )
        for level in LEVELS:
            with at(level):
                assert all(map(same, other.run(), call.run()))
                pairs = zip(other.vjp(strides(dout)), call.vjp(dout), strict=True)
                assert all(same(one, plain) for one, plain in pairs)


def test_inputs_that_repeat() -> None:
    # Strides of zero: one head and one token for all.
    call = draw(Case(T=90, D=21, V=35))
    k = np.broadcast_to(call.k[:, :1, :1], call.k.shape)
    v = np.broadcast_to(call.v[:, :1], call.v.shape)
    got = linear_attention(call.q, k, v)
    assert same(got, linear_attention(call.q, k.copy(), v.copy()))
    assert same(softmax_attention(call.q, k, v), softmax_attention(call.q, k.copy(), v.copy()))
    one = linear_attention_vjp(call.q, k, v, v)
    assert all(map(same, one, linear_attention_vjp(call.q, k.copy(), v.copy(), v.copy())))


def content(whole: Any) -> bytes:
    return whole.tobytes() if isinstance(whole, np.ndarray) else bytes(whole)


@pytest.mark.parametrize("strides", STRIDES, ids=lambda strides: strides.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_outputs(dtype: str, strides: Callable[[Array], Array]) -> None:
    call = draw(Case(T=90, D=21, V=35, B=2, dtype=dtype))
    poison = np.full(call.v.shape, 7, DTYPES[dtype])
    for level in LEVELS:
        with at(level):
            for function in (linear_attention, softmax_attention):
                out = strides(poison)
                whole: Any = out if out.base is None else out.base
                before = content(whole)
                expected = function(call.q, call.k, call.v)
                assert function(call.q, call.k, call.v, out=out) is out
                assert same(out, expected)
                # Nothing beside it was written to.
                out[...] = poison
                assert content(whole) == before


def test_layouts() -> None:
    for options in OPTIONS:
        case = Case(T=90, D=21, V=35, B=2, G=2, initial=True).but(**options)
        call = draw(case)
        turned = call.but(case=case.but(layout="bhtd"))
        assert all(map(same, turned.run(), call.run()))
        dout = np.ones((*call.q.shape[:3], case.value_dim), DTYPES[case.dtype])
        one, other = turned.vjp(dout), call.vjp(dout)
        assert all(same(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("name", list(MAPS))
def test_a_call_again(name: str) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    call = draw(Case(T=90, D=D, map=name))
    first = call.run()
    call.run(threads=2, chunk_size=16)
    assert all(map(same, call.run(), first))


def test_calls_at_the_same_time() -> None:
    calls = [
        draw(Case(T=300, D=40, H=3, seed=n).but(**options)) for n, options in enumerate(OPTIONS * 2)
    ]

    def run(call: Call) -> list[Array]:
        out, state = call.run(threads=2)
        return [out, *(x for x in state if x is not None), *gradients(call, 2)]

    expected = [run(call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        for got, wanted in zip(pool.map(run, calls), expected, strict=True):
            assert all(map(same, got, wanted))
