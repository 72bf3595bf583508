"""The promise: gradients are exact, of every input, through every map, normaliser and decay.

Compared with a recurrence that runs backwards, and with differences of the reference's values
along directions. Memory, threads and NaN have their places: `tests/memory`, `test_invariance.py`,
`test_nonfinite.py`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from attention import adjoint, maps, reference
from attention.adjoint import Gradients
from attention.calls import (
    DECAYS,
    DTYPES,
    MAPS,
    PROMISED_GRADIENTS,
    Call,
    Case,
    cases,
    draw,
    each,
    error,
    same,
)
from attention.levels import LEVELS, at
from attention.reference import Array, Inputs, wide
from corekit.attention import Grads, State


def draw_gradient(call: Call, *, of_state: bool = True) -> tuple[Array, State | None]:
    """Draw the gradient of the output, and that of the state."""
    case = call.case
    random = np.random.default_rng(case.seed + 1)
    shape = (*call.q.shape[:3], case.value_dim)
    dout = random.standard_normal(shape).astype(DTYPES[case.dtype])
    if not of_state:
        return dout, None
    N, H, m, V = case.sequences, case.H, case.m, case.value_dim
    ds = random.standard_normal((N, H, m, V)).astype(case.sums)
    dz = random.standard_normal((N, H, m)).astype(case.sums) if case.normalize else None
    return dout, State(ds, dz, None)


def expected_gradients(call: Call, dout: Array, dstate: State | None) -> Gradients:
    """The gradients by the reference, of the state as it is kept."""
    case, given = call.case, call.inputs
    ds, dz = np.zeros_like(given.s), np.zeros_like(given.z)
    if dstate is not None:
        ds = wide(dstate.s, case.wide)
        dz = dz if dstate.z is None else wide(dstate.z, case.wide)
    # A stabilised state stands for s exp(log_scale); one that is and stays empty, for itself.
    before = after = np.ones((case.sequences, case.H), case.wide)
    if maps.kind(case.feature_map) == "Favor":
        _, state = call.run()
        empty = np.isneginf(state.log_scale)
        after = np.exp(np.where(empty, 0, -wide(state.log_scale, case.wide)))
        if call.initial is not None:
            before = np.exp(np.where(empty, 0, wide(call.initial.log_scale, case.wide)))
    got = adjoint.linear_attention(
        given, wide(dout, case.wide), ds * after[..., None, None], dz * after[..., None]
    )
    return replace(got, s=got.s * before[..., None, None], z=got.z * before[..., None])


def hold(call: Call, *, of_state: bool = True, factor: float = 1.0) -> None:
    """Hold the gradients of all levels to the reference."""
    case = call.case
    dout, dstate = draw_gradient(call, of_state=of_state)
    expected = expected_gradients(call, dout, dstate)
    for level in LEVELS:
        with at(level):
            got = call.vjp(dout, dstate)
            compare(call, got, expected, factor * PROMISED_GRADIENTS[case.dtype])


def compare(call: Call, got: Any, expected: Gradients, limit: float) -> None:
    case = call.case
    pairs = [
        ("q", got.q, expected.q, DTYPES[case.dtype], norm(expected.q_size)),
        ("k", got.k, expected.k, DTYPES[case.dtype], norm(expected.k_size)),
        ("v", got.v, expected.v, DTYPES[case.dtype], 0.0),
    ]
    assert (got.decay is None) == (call.decay is None)
    if call.decay is not None:
        g, terms = expected.g, norm(expected.token_weight) + norm(expected.state_weight)
        if call.decay.ndim == 1:
            # One number for all tokens, whose gradients have both signs.
            terms = terms * case.T**0.5 + norm(abs(g).sum(axis=(0, 1, 3))) / 0.1
            g = g.sum(axis=(0, 1, 3))
        elif call.decay.ndim == 3:
            g = g[..., 0]
        pairs.append(("decay", got.decay, g, call.decay.dtype, terms))
    assert (got.initial_state is None) == (call.initial is None)
    if call.initial is not None:
        state = got.initial_state
        assert isinstance(state, State)
        assert state.log_scale is None
        assert (state.z is None) == (not case.normalize)
        pairs.append(("s", state.s, expected.s, np.dtype(case.sums), 0.0))
        if state.z is not None:
            pairs.append(("z", state.z, expected.z, np.dtype(case.sums), 0.0))
    for name, one, other, dtype, terms in pairs:
        assert (one.shape, one.dtype) == (other.shape, dtype), name
        assert np.isfinite(one.astype(np.float64)).all(), (name, str(case))
        # What cancels is compared with a tenth of what cancelled.
        size = max(norm(other), 0.1 * terms)
        off = norm(wide(one, case.wide) - other)
        assert off <= limit * size, f"{name} of {case}: {off} > {limit} {size}"


def norm(x: Array) -> float:
    return float(np.sqrt((x * x).sum()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", list(MAPS))
def test_maps(name: str, normalize: bool, dtype: str) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    # Normalisers of signed sums are clamped at a size that some of them have.
    eps = 1.0 if name not in ("elu1", "exp", "softmax", "favor", "favor iid") else 1e-6
    case = Case(T=75, D=D, V=10, map=name, normalize=normalize, dtype=dtype, eps=eps, initial=True)
    hold(draw(case))
    hold(draw(case.but(causal=False, mask=True)))
    hold(draw(case.but(scale=0.6, G=3, B=2, T=20)))
    for decay in DECAYS[1:] if name in maps.ELEMENTWISE else DECAYS[1:3]:
        hold(draw(case.but(decay=decay, layout="bhtd", mask=True)))


@pytest.mark.parametrize(
    "T", [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 257]
)
@pytest.mark.parametrize("decay", ["none", "token", "vector"])
def test_lengths(T: int, decay: str) -> None:
    case = Case(T=T, D=12, V=20, decay=decay)
    hold(draw(case))
    hold(draw(case.but(map="elu1", normalize=True, initial=True)), of_state=False)
    if decay == "none":
        hold(draw(case.but(map="favor", normalize=True)))
        hold(draw(case.but(causal=False, map="exp")))


def test_long() -> None:
    hold(draw(Case(T=1000, D=16, V=16, map="elu1", normalize=True, decay="token")))
    hold(draw(Case(T=1000, D=16, V=16, decay="head")))
    hold(draw(Case(T=1000, D=8, V=8, dtype="float64", decay="vector")))


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 50, 64, 128])
def test_chunks(chunk_size: int) -> None:
    case = Case(T=130, D=12, V=20, H=1, chunk_size=chunk_size, initial=True)
    for options in each(
        {},
        {"decay": "vector"},
        {"map": "favor", "normalize": True},
        {"decay": "head"},
    ):
        hold(draw(case.but(**options)))


@pytest.mark.parametrize(
    ("D", "V"), [(1, 1), (1, 7), (2, 33), (7, 2), (33, 80), (64, 64), (80, 33), (128, 1), (0, 3)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_head_sizes(D: int, V: int, dtype: str) -> None:
    case = Case(T=50, D=D, V=V, H=1, G=2, dtype=dtype, initial=True)
    hold(draw(case))
    hold(draw(case.but(decay="vector")))
    hold(draw(case.but(map="elu1", normalize=True)))
    hold(draw(case.but(causal=False)))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_packing(mask: bool, causal: bool) -> None:
    for cuts in [(0, 0), (0, 150), (0, 0, 1, 70, 70, 134, 150)]:
        case = Case(T=cuts[-1], D=12, V=9, G=2, cu_seqlens=cuts, mask=mask, causal=causal)
        for options in each(
            {},
            {"map": "elu1", "normalize": True, "initial": True},
            {"map": "favor", "initial": True},
            *(each({"decay": "token", "initial": True}, {"decay": "head"}) if causal else ()),
        ):
            hold(draw(case.but(**options)))


@settings(max_examples=80)
@given(case=cases(eps=0.5))
def test_any_call(case: Case) -> None:
    hold(draw(case), factor=3)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("g", [-1e-3, -1.0, -30.0, -1000.0, -np.inf])
@pytest.mark.parametrize("decay", DECAYS[1:])
def test_strong_decays(decay: str, g: float, normalize: bool) -> None:
    case = Case(T=100, D=9, V=8, decay=decay, map="elu1", normalize=normalize, initial=True)
    call = draw(case)
    assert call.decay is not None
    call.decay[...] = g
    # What a decay of -30 leaves of a gradient is next to nothing, and not promised to be right.
    dout, dstate = draw_gradient(call)
    expected = expected_gradients(call, dout, dstate)
    for level in LEVELS:
        with at(level):
            got = call.vjp(dout, dstate)
            compare(call, got, expected, 1e-5)


@pytest.mark.parametrize("decay", ["token", "vector"])
def test_mild_decays_after_strong_ones(decay: str) -> None:
    call = draw(Case(T=150, D=9, V=8, decay=decay, strong=False, initial=True))
    assert call.decay is not None
    for strong in (-30.0, -1000.0, -np.inf):
        call.decay[:, ::7] = strong
        hold(call.but())


def test_clamped_normalisers_are_constants() -> None:
    case = Case(T=60, D=6, V=5, normalize=True, eps=1e6, initial=True)
    hold(draw(case))
    hold(draw(case.but(map="elu1", causal=False)))
    call = draw(case)
    dout, _ = draw_gradient(call)
    got = call.vjp(dout)
    assert not got.initial_state.z.any()


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("layout", ["bthd", "bhtd"])
def test_written_where_asked(decay: str, layout: str) -> None:
    """Into arrays of any strides, every element, and again when given back."""
    case = Case(T=70, G=2, map="elu1", decay=decay, layout=layout, initial=True)
    for changes in each({}, {"D": 5, "V": 7}, {"dtype": "bfloat16"}, {"mask": True}):
        call = draw(case.but(**changes))
        dout, dstate = draw_gradient(call)
        wanted = call.vjp(dout, dstate)
        parts = [wanted.q, wanted.k, wanted.v]
        axes = (0, 1, 2, 3) if layout == "bthd" else (0, 2, 1, 3)
        rooms = [np.full((*x.transpose(axes).shape, 2), np.nan, x.dtype) for x in parts]
        q, k, v = (room[..., 0] for room in rooms)
        out = Grads(q, k, v)
        for _ in range(2):
            got = call.vjp(dout, dstate, out=out)
            for mine, room, part in zip((got.q, got.k, got.v), rooms, parts, strict=True):
                assert np.shares_memory(mine, room)
                assert same(mine, part)
                assert np.isnan(room[..., 1]).all()
            assert got.decay is None or same(got.decay, wanted.decay)
            assert same(got.initial_state.s, wanted.initial_state.s)
            out = Grads(q, k, v, got.decay, got.initial_state)


@pytest.mark.parametrize("name", ["identity", "elu1", "softmax", "favor", "taylor 2"])
@pytest.mark.parametrize("normalize", [False, True])
def test_along_directions(name: str, normalize: bool) -> None:
    """The values of the reference change as the gradients say, argument by argument."""
    decay = "vector" if name in maps.ELEMENTWISE else "token"
    case = Case(T=40, D=4, V=5, G=2, map=name, normalize=normalize, decay=decay, dtype="float64")
    call = draw(case.but(initial=True, eps=0.1, strong=False))
    dout, dstate = draw_gradient(call, of_state=False)
    got = call.vjp(dout, dstate)
    given_inputs = call.inputs
    random = np.random.default_rng(5)
    found = {
        "q": got.q,
        "k": got.k,
        "v": got.v,
        "g": got.decay if decay == "vector" else got.decay[..., None],
    }
    if name != "favor":
        found["s"] = got.initial_state.s

    def value(at: Inputs) -> np.longdouble:
        return np.longdouble((reference.linear_attention(at).out * dout).sum())

    for argument, gradient in found.items():
        x = getattr(given_inputs, argument)
        step = np.longdouble(1e-6) * random.standard_normal(x.shape)
        change = value(replace(given_inputs, **{argument: x + step}))
        change -= value(replace(given_inputs, **{argument: x - step}))
        size = float(abs(gradient * step).sum())
        assert abs(change / 2 - (gradient * step).sum()) < 1e-8 * size, argument


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"map": "elu1", "normalize": True},
        {"map": "favor", "normalize": True},
        {"decay": "token"},
        {"decay": "vector", "dtype": "float64"},
    ],
    ids=str,
)
def test_pieces_pass_gradients_on(options: dict[str, Any]) -> None:
    # The gradient of a piece's first state is that of the state of the piece before.
    call = draw(Case(T=150, D=9, V=8, initial=True).but(**options))
    case = call.case
    dout, dstate = draw_gradient(call)
    whole = call.vjp(dout, dstate)
    edges = [0, 40, 64, 101, 150]
    states, calls = call.initial, []
    for first, last in pairwise(edges):
        one = call.part(slice(first, last), states)
        calls.append(one)
        _, states = one.run()
    parts: list[Any] = []
    for one, (first, last) in reversed(list(zip(calls, pairwise(edges), strict=True))):
        got = one.vjp(dout[:, first:last], dstate)
        dstate = got.initial_state
        parts.insert(0, got)
    limit = PROMISED_GRADIENTS[case.dtype]
    for name in ("q", "k", "v", "decay"):
        if getattr(whole, name) is not None:
            joined = np.concatenate([getattr(one, name) for one in parts], axis=1)
            assert error(joined, getattr(whole, name).astype(np.float64)) < limit
    assert dstate is not None
    assert error(dstate.s, whole.initial_state.s.astype(np.float64)) < limit


@pytest.mark.parametrize("causal", [True, False])
def test_packed_is_separate(causal: bool) -> None:
    cuts = (0, 5, 5, 70, 71, 135, 200)
    for options in each(
        {},
        {"map": "elu1", "normalize": True},
        {"map": "favor"},
        *([{"decay": "token"}] if causal else []),
    ):
        call = draw(Case(T=200, D=9, V=8, cu_seqlens=cuts, causal=causal).but(**options))
        dout, _ = draw_gradient(call)
        whole = call.vjp(dout)
        for first, last in pairwise(cuts):
            one = call.part(slice(first, last), None, cu_seqlens=None)
            got = one.vjp(dout[:, first:last])
            for name in ("q", "k", "v", "decay"):
                if getattr(whole, name) is not None:
                    assert same(getattr(whole, name)[:, first:last], getattr(got, name)), name


def test_masked_tokens_have_none() -> None:
    for options in each(
        {}, {"causal": False}, {"decay": "token", "map": "favor", "normalize": True}
    ):
        call = draw(Case(T=120, B=2, mask=True).but(**options))
        assert call.mask is not None
        dout, _ = draw_gradient(call)
        got = call.vjp(dout)
        for x in (got.k, got.v, got.decay):
            assert x is None or (x[~call.mask] == 0).all()
        assert np.isfinite(got.q).all()


def test_no_gradient_gives_none() -> None:
    call = draw(Case(T=90, map="elu1", normalize=True, decay="token", initial=True))
    got = call.vjp(np.zeros(call.v.shape, np.float32))
    assert not any(x.any() for x in (got.q, got.k, got.v, got.decay))
    assert not any(x.any() for x in got.initial_state if x is not None)


def test_later_outputs_do_not_change_earlier_gradients_of_queries() -> None:
    call = draw(Case(T=90, map="elu1", normalize=True, decay="token"))
    dout, _ = draw_gradient(call)
    first = call.vjp(dout)
    other = dout.copy()
    other[:, 50:] = 7
    second = call.vjp(other)
    assert same(first.q[:, :50], second.q[:, :50])
    # And earlier ones do not change those of later keys and values.
    other = dout.copy()
    other[:, :50] = 7
    third = call.vjp(other)
    assert same(first.k[:, 50:], third.k[:, 50:])
    assert same(first.v[:, 50:], third.v[:, 50:])
