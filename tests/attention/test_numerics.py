"""The promise: errors stay as small as is said, however long the sequence is.

Relative root mean squares against a higher precision: chunked float32 1e-6 up to 131072 tokens,
token by token 1e-5 after as many, float64 1e-14, storage of 16 bits that of its own rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attention.calls import Call, Case, draw, each, error
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import State, linear_attention_step

LONG = 131_072


def long_case(**options: Any) -> Case:
    return Case(T=LONG, D=16, V=16, H=1, strong=False).but(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"map": "elu1", "normalize": True},
        # The longest that is taken by short chunks.
        {"T": 65_536, "map": "elu1", "normalize": True},
        {"T": 50_000},
        {"T": 50_000, "decay": "token", "map": "relu"},
    ],
    ids=str,
)
def test_chunked_float32(options: dict[str, Any]) -> None:
    call = draw(long_case(**options))
    expected = call.expected
    for level in LEVELS:
        with at(level):
            out, state = call.run()
            assert error(out, expected.out) <= 1e-6, level
            # Not only over all: the last tokens have the longest sums.
            assert error(out[:, -1000:], expected.out[:, -1000:]) <= 1e-6, level
            assert error(state.s, expected.s) <= 1e-6, level
            assert state.z is None or error(state.z, expected.z) <= 1e-6, level


@pytest.mark.parametrize("chunk_size", [1, 16, 1024])
def test_chunks_of_other_sizes(chunk_size: int) -> None:
    call = draw(long_case(T=40_000, map="elu1", normalize=True, chunk_size=chunk_size))
    limit = 1e-6 if chunk_size > 1 else 1e-5
    assert error(call.run()[0], call.expected.out) <= limit


def test_without_causality() -> None:
    call = draw(long_case(map="elu1", normalize=True, causal=False))
    for level in LEVELS:
        with at(level):
            out, state = call.run()
            assert error(out, call.expected.out) <= 1e-6
            assert error(state.s, call.expected.s) <= 1e-6


def token_by_token(call: Call) -> tuple[Array, State]:
    case = call.case
    state = State.zeros(
        1, 1, case.D, case.D, feature_map=case.feature_map, normalize=True, dtype=case.sums
    )
    out = np.empty_like(call.v)
    rows = [[x[:, t] for t in range(case.T)] for x in (call.q, call.k, call.v, out)]
    for q, k, v, o in zip(*rows, strict=True):
        linear_attention_step(state, q, k, v, feature_map=case.feature_map, normalize=True, out=o)
    return out, state


def test_token_by_token() -> None:
    call = draw(long_case(map="elu1", normalize=True))
    out, state = token_by_token(call)
    assert error(out[:, -1000:], call.expected.out[:, -1000:]) <= 1e-5
    assert error(state.s, call.expected.s) <= 1e-5
    assert error(state.z, call.expected.z) <= 1e-5


def test_float64() -> None:
    call = draw(long_case(T=20_000, D=8, V=8, map="elu1", normalize=True, dtype="float64"))
    for level in LEVELS:
        with at(level):
            out, state = call.run()
            assert error(out, call.expected.out) <= 1e-14
            assert error(state.s, call.expected.s) <= 1e-14


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 5e-3), ("float16", 5e-4)])
def test_storage_of_16_bits(dtype: str, limit: float) -> None:
    for options in each({"map": "elu1", "normalize": True}, {"decay": "token"}):
        call = draw(long_case(T=20_000, dtype=dtype).but(**options))
        for level in LEVELS:
            with at(level):
                out, state = call.run()
                assert error(out, call.expected.out) <= limit
                # The sums are those of float32: 16 bits are storage.
                assert error(state.s, call.expected.s) <= 1e-6
                assert state.s.dtype == np.float32


def test_levels_agree() -> None:
    call = draw(Case(T=3000, D=64, V=64, map="elu1", normalize=True))
    found = []
    for level in LEVELS:
        with at(level):
            found.append(call.run()[0].astype(np.float64))
    assert all(error(one, found[0]) <= 1e-6 for one in found)
