"""The promise: sequences in pieces, or packed one after another, give what they give alone.

Fed in pieces, each from the state of the one before: to the bit where pieces end at multiples of
the chunk size, within rounding elsewhere. Packed: to the bit, wherever they lie.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.calls import MAPS, POSITIVE, Call, Case, cancels, cases, check, draw, each, same
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import State, softmax_attention


def in_pieces(call: Call, edges: list[int]) -> tuple[Array, State]:
    outs, state = [], call.initial
    for first, last in pairwise(edges):
        out, state = call.part(slice(first, last), state).run()
        outs.append(out)
    assert state is not None
    return np.concatenate(outs, axis=1), state


OPTIONS: list[dict[str, Any]] = [
    {},
    {"map": "elu1", "normalize": True},
    {"decay": "head", "map": "relu"},
    {"decay": "token", "normalize": True, "map": "exp"},
    {"decay": "vector"},
    {"map": "favor", "normalize": True},
    {"map": "favor", "decay": "token"},
    {"map": "taylor 2", "D": 5, "normalize": True},
    {"mask": True, "G": 2, "dtype": "bfloat16"},
    {"layout": "bhtd", "dtype": "float64"},
]


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("chunk_size", [16, 32, 50, 64, 128])
def test_at_multiples_of_the_chunk_size(
    chunk_size: int, options: dict[str, Any], initial: bool
) -> None:
    C = chunk_size
    case = Case(T=4 * C + 3, D=17, V=23, B=2, chunk_size=C, initial=initial).but(**options)
    call = draw(case)
    for level in LEVELS:
        with at(level):
            whole = call.run()
            for edges in ([C], [2 * C], [C, C, 3 * C], [C, 2 * C, 3 * C, 4 * C]):
                assert same_run(in_pieces(call, [0, *edges, case.T]), whole), (level, edges)


def same_run(one: tuple[Array, State], other: tuple[Array, State]) -> bool:
    return same(one[0], other[0]) and same(one[1], other[1])


def test_many_chunks_in_pieces() -> None:
    # Long enough for sums of sums, if the kernels have them.
    call = draw(Case(T=5000, D=16, V=16, H=1, chunk_size=32, map="elu1", normalize=True))
    whole = call.run()
    for step in (32, 320, 2048):
        assert same_run(in_pieces(call, [*range(0, 5000, step), 5000]), whole), step


@given(case=cases(causal=True, cu_seqlens=None), cuts=st.lists(st.integers(0, 150), max_size=4))
def test_anywhere(case: Case, cuts: list[int]) -> None:
    call = draw(case)
    edges = sorted({0, case.T, *(cut for cut in cuts if cut < case.T)})
    if len(edges) > 1:
        check(call, *in_pieces(call, edges), promise=not cancels(case))


@pytest.mark.parametrize("name", POSITIVE)
def test_token_by_token(name: str) -> None:
    call = draw(Case(T=70, D=5, V=6, map=name, normalize=True, decay="token", initial=True))
    check(call, *in_pieces(call, list(range(71))))


def sequences(call: Call) -> list[Call]:
    """Return the packed sequences of a call, each by itself."""
    assert call.case.cu_seqlens is not None
    alone = []
    for n, (first, last) in enumerate(pairwise(call.case.cu_seqlens)):
        initial = call.initial
        if initial is not None:
            initial = State(*(None if x is None else x[n : n + 1].copy() for x in initial))
        alone.append(call.part(slice(first, last), initial, cu_seqlens=None))
    return alone


def is_as_separate(call: Call) -> bool:
    out, state = call.run()
    apart = [one.run() for one in sequences(call)]
    if not same(np.concatenate([one for one, _ in apart], axis=1), out):
        return False
    return all(
        same(State(*(None if x is None else x[n : n + 1] for x in state)), one)
        for n, (_, one) in enumerate(apart)
    )


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", list(MAPS))
def test_packed(name: str, causal: bool) -> None:
    D = 4 if "taylor" in name or "limit" in name else 19
    cuts = (0, 5, 5, 70, 71, 135, 264, 300)
    case = Case(T=300, D=D, V=9, map=name, causal=causal, cu_seqlens=cuts)
    for level in LEVELS:
        with at(level):
            for options in each(
                {},
                {"normalize": True, "initial": True, "mask": True},
                {"G": 2, "layout": "bhtd", "dtype": "bfloat16", "chunk_size": 32},
                *([{"decay": "token", "initial": True}] if causal else []),
            ):
                assert is_as_separate(draw(case.but(**options))), (level, options)


@given(case=cases())
def test_any_packed(case: Case) -> None:
    if case.cu_seqlens is not None:
        assert is_as_separate(draw(case))


@pytest.mark.parametrize("causal", [True, False])
def test_packed_softmax(causal: bool) -> None:
    cuts = (0, 5, 5, 70, 71, 135, 264, 300)
    call = draw(Case(T=300, D=19, V=9, G=2, cu_seqlens=cuts))
    for level in LEVELS:
        with at(level):
            got = softmax_attention(
                call.q, call.k, call.v, causal=causal, cu_seqlens=np.array(cuts, np.int32)
            )
            apart = [
                softmax_attention(one.q, one.k, one.v, causal=causal) for one in sequences(call)
            ]
            assert same(np.concatenate(apart, axis=1), got)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_both_types_of_offsets(dtype: Any) -> None:
    call = draw(Case(T=100, cu_seqlens=(0, 30, 100)))
    got, _ = call.run(cu_seqlens=np.array([0, 30, 100], dtype))
    assert same(got, call.run()[0])
    strided = np.array([0, 7, 30, 7, 100, 7], dtype)[::2]
    assert same(call.run(cu_seqlens=strided)[0], got)
