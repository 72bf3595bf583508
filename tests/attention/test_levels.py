"""The promise: every SIMD level of the machine is there, is chosen by COREKIT_SIMD, and ran.

That each gives the right values is said by the other tests, which go through all of them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from attention.calls import Case, draw
from attention.levels import LEVELS, at
from corekit import _core
from corekit.attention import (
    Favor,
    State,
    features,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)
from corekit.errors import InvalidArgumentError


def calls() -> dict[str, Callable[[], Any]]:
    call = draw(Case(T=20))
    q, k, v = call.q, call.k, call.v
    state = State.zeros(1, 2, 16, 16)
    token = [x[:, 0] for x in (q, k, v)]
    return {
        "linear_attention": lambda: linear_attention(q, k, v),
        "linear_attention_step": lambda: linear_attention_step(state, *token),
        "linear_attention_step with out": lambda: linear_attention_step(
            state, *token, out=np.empty_like(token[0])
        ),
        "linear_attention_vjp": lambda: linear_attention_vjp(q, k, v, v),
        "softmax_attention": lambda: softmax_attention(q, k, v),
        "features": lambda: features(q, Favor(8, seed=1)),
    }


def test_no_level_of_this_machine_is_missed() -> None:
    assert _core.build_info()["simd_level"] == LEVELS[-1]
    if platform.machine() in ("x86_64", "aarch64"):
        assert len(LEVELS) > 1


@pytest.mark.parametrize("name", list(calls()))
def test_the_variable_says_what_runs(name: str) -> None:
    call = calls()[name]
    for level in LEVELS:
        with at(level):
            call()
    # What is not there is refused, so what was not refused is what ran.
    for missing in ("avx9", {"x86_64": "neon"}.get(platform.machine(), "avx2")):
        with (
            at(missing),
            pytest.raises(InvalidArgumentError, match=r"^COREKIT_SIMD must be .*got"),
        ):
            call()


def test_levels_do_not_share_a_kernel() -> None:
    # Sums of many terms, each level in an order of its own: some bit differs.
    call = draw(Case(T=300, D=64, H=4))
    bits = set()
    for level in LEVELS:
        with at(level):
            bits.add(call.run()[0].tobytes())
    assert len(bits) > 1 or len(LEVELS) == 1
