"""The promise: `softmax_attention` is softmax attention, whatever the shapes and sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.calls import DTYPES, PROMISED, Call, Case, draw, error, poisoned
from attention.levels import LEVELS, at
from attention.reference import Array
from attention.reference import softmax_attention as by_reference
from corekit.attention import softmax_attention


def run(call: Call) -> Array:
    case = call.case
    out = poisoned((*call.q.shape[:3], case.value_dim), case.dtype)
    arrays = [call.q, call.k, call.v, out]
    if case.layout == "bhtd":
        arrays = [x.swapaxes(1, 2) for x in arrays]
    got = softmax_attention(
        *arrays[:3],
        causal=case.causal,
        scale=case.scale,
        cu_seqlens=None if case.cu_seqlens is None else np.array(case.cu_seqlens),
        key_mask=call.mask,
        layout="bhtd" if case.layout == "bhtd" else "bthd",
        out=arrays[3],
    )
    assert got is arrays[3]
    return out


def hold(call: Call) -> None:
    given_inputs, case = call.inputs, call.case
    expected = by_reference(
        given_inputs.q,
        given_inputs.k,
        given_inputs.v,
        causal=case.causal,
        scale=given_inputs.scale,
        where=given_inputs.where,
        mask=given_inputs.mask,
    )
    # A score's error is that of its terms, and the weight's is relative to it.
    scores = (
        abs(given_inputs.scale)
        * np.where(np.isfinite(call.k), abs(call.k.astype(np.float64)), 0).max(initial=0)
        * abs(call.q.astype(np.float64)).max(initial=0)
        * case.D
    )
    unit = float(np.finfo(case.sums).eps)
    largest = np.where(np.isfinite(call.v), abs(call.v.astype(np.float64)), 0).max(initial=0)
    for level in LEVELS:
        with at(level):
            got = run(call)
            off = abs(got.astype(case.wide) - expected)
            bound = unit * (16 + 4 * scores) * largest
            if case.dtype != case.sums:
                bound += (2.0**-8 if case.dtype == "bfloat16" else 2.0**-11) * largest
            assert (off <= bound).all(), (str(case), level, float(off.max()), float(bound))
            if got.size and case.size == 1.0:
                assert error(got, expected) <= PROMISED[case.dtype], (str(case), level)


@pytest.mark.parametrize(
    "T", [0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 257, 600]
)
@pytest.mark.parametrize("causal", [True, False])
def test_lengths(T: int, causal: bool) -> None:
    case = Case(T=T, D=24, V=20, causal=causal)
    hold(draw(case))
    hold(draw(case.but(dtype="float64", T=min(T, 260))))
    hold(draw(case.but(dtype="bfloat16", G=2, layout="bhtd")))


@pytest.mark.parametrize(
    ("D", "V"),
    [(1, 1), (1, 7), (2, 33), (7, 2), (33, 80), (64, 64), (80, 33), (128, 1), (64, 128), (0, 5)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_head_sizes(D: int, V: int, dtype: str) -> None:
    for causal in (True, False):
        hold(draw(Case(T=90, D=D, V=V, B=2, dtype=dtype, causal=causal)))


@pytest.mark.parametrize("size", [1e-3, 10.0, 100.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes_of_scores(dtype: str, size: float) -> None:
    # Weights from all alike to one alone; no exponential overflows.
    for causal in (True, False):
        hold(draw(Case(T=200, size=size, dtype=dtype, causal=causal)))


def test_scores_beyond_all_exponentials() -> None:
    # One key more like the query than all others: its value alone is left.
    call = draw(Case(T=100, D=8, V=4, H=1))
    call.k[...] = 0
    call.k[0, 3, 0, 0] = 1e4
    call.q[...] = 0
    call.q[..., 0] = 1e4
    got = softmax_attention(call.q, call.k, call.v, scale=1.0)
    np.testing.assert_array_equal(got[0, 3:, 0], np.tile(call.v[0, 3, 0], (97, 1)))
    # And with the largest score last the earlier ones are forgotten as they should be.
    call.k[0, 99, 0, 0] = 3e4
    got = softmax_attention(call.q, call.k, call.v, scale=1.0, causal=False)
    np.testing.assert_array_equal(got[0, :, 0], np.tile(call.v[0, 99, 0], (100, 1)))


@pytest.mark.parametrize("scale", [0.0, -0.5, 0.1, 2.0])
def test_scales(scale: float) -> None:
    hold(draw(Case(T=90, scale=scale)))


@settings(max_examples=80)
@given(pick=st.data())
def test_any_call(pick: st.DataObject) -> None:
    draw_from = pick.draw
    T = draw_from(st.integers(0, 150))
    packed = draw_from(st.booleans())
    cuts = sorted(draw_from(st.lists(st.integers(0, T), max_size=4))) if packed else []
    sizes = st.sampled_from([1, 2, 7, 16, 33])
    hold(
        draw(
            Case(
                T=T,
                D=draw_from(sizes),
                V=draw_from(sizes),
                B=1 if packed else draw_from(st.integers(1, 2)),
                H=draw_from(st.integers(1, 3)),
                G=draw_from(st.integers(1, 2)),
                causal=draw_from(st.booleans()),
                mask=draw_from(st.booleans()),
                cu_seqlens=(0, *cuts, T) if packed else None,
                layout=draw_from(st.sampled_from(["bthd", "bhtd"])),
                dtype=draw_from(st.sampled_from(list(DTYPES))),
                scale=draw_from(st.sampled_from([None, 1.0, 0.25])),
                seed=draw_from(st.integers(0, 2**32)),
            )
        )
    )
