"""The promise: where the state of a polynomial would pass 64 MiB, pairs of tokens are taken.

The same outputs, no state; and asking for a state, a step or a gradient is an error that names the
size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from attention import maps
from attention.calls import DTYPES, PROMISED, Call, Case, draw, each, error, same
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import (
    ExponentialLimit,
    State,
    Taylor,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
)
from corekit.errors import OutOfMemoryError

MOST = 64 << 20
LARGE: list[tuple[Any, int]] = [
    (Taylor(3), 128),
    (Taylor(7), 24),
    (Taylor(12), 16),
    (ExponentialLimit(2), 1024),
    (ExponentialLimit(50), 20),
]


def by_pairs(call: Call, where: Any) -> Array:
    """The output by the polynomial of every product, and the scores that came before."""
    given, case = call.inputs, call.case
    B, T, H, D = given.k.shape
    q = given.q.reshape(B, T, H, case.G, D)
    out = np.zeros((*q.shape[:4], given.v.shape[-1]), given.v.dtype)
    seen = given.mask[..., None, None]
    k, v = np.where(seen, given.k, 0), np.where(seen, given.v, 0)
    g = np.where(seen, given.g, 0)[..., 0]
    for b, first, last in given.where:
        x = given.scale * np.einsum("thgd,shd->hgts", q[b, first:last], k[b, first:last])
        if isinstance(where, Taylor):
            scores, term = np.ones_like(x), np.ones_like(x)
            for j in range(1, where.order + 1):
                term = term * x / j
                scores = scores + term
        else:
            scores = (1 + x / where.n) ** where.n
        scores = scores * given.mask[b, first:last]
        if case.causal:
            for t in range(last - first):
                # From the token after s to t: token t's own decay is applied before it is added.
                passed = np.cumsum(g[b, first + 1 : first + t + 1][::-1], axis=0)[::-1]
                scores[:, :, t, :t] *= np.exp(passed).T[:, None]
            scores *= np.tri(last - first)
        values = np.einsum("hgts,shv->thgv", scores, v[b, first:last])
        if case.normalize:
            d = scores.sum(axis=-1).transpose(2, 0, 1)[..., None]
            values = values / (np.where(d < 0, -1, 1) * np.maximum(abs(d), case.eps))
        out[b, first:last] = values
    return out.reshape(*given.q.shape[:3], v.shape[-1])


@pytest.mark.parametrize(("where", "D"), LARGE, ids=str)
def test_pairs(where: Any, D: int) -> None:
    assert maps.size(where, D) * 65 * 4 > MOST
    # Even orders have positive weights; of the others the sums are not divided by.
    positive = (where.order if isinstance(where, Taylor) else where.n) % 2 == 0
    for options in each(
        {},
        {"causal": False},
        {"T": 0},
        {"T": 1},
        {"decay": "token", "G": 2, "layout": "bhtd"},
        {"decay": "head", "mask": True},
        {"cu_seqlens": (0, 0, 3, 70, 150), "mask": True},
        {"dtype": "bfloat16"},
    ):
        case = Case(T=150, D=D, V=64, strong=False, normalize=positive, size=0.8).but(**options)
        call = draw(case)
        expected = by_pairs(call, where)
        for level in LEVELS:
            with at(level):
                got, _ = call.run(feature_map=where, return_state=False)
                assert np.isfinite(got.astype(np.float64)).all()
                if got.size:
                    assert error(got, expected) <= PROMISED[case.dtype], (options, level)


def test_threads() -> None:
    call = draw(Case(T=300, D=128, V=64, H=3, G=2))
    bits = {
        call.run(feature_map=Taylor(3), return_state=False, threads=threads)[0].tobytes()
        for threads in (1, 2, 5)
    }
    assert len(bits) == 1


def test_both_sides_of_the_limit() -> None:
    # 33153 features; the state of 505 values a feature fits, that of 506 does not.
    where, D = Taylor(2), 256
    assert maps.size(where, D) == 33153
    assert 33153 * 506 * 4 <= MOST < 33153 * 507 * 4
    random = np.random.default_rng(1)
    q, k = random.standard_normal((2, 1, 40, 1, D)).astype(np.float32)
    v = random.standard_normal((1, 40, 1, 506)).astype(np.float32)
    fits, state = linear_attention(q, k, v[..., :505], feature_map=where, return_state=True)
    assert state.s.shape == (1, 1, 33153, 505)
    by_pair = linear_attention(q, k, v, feature_map=where)
    assert error(fits, by_pair[..., :505].astype(np.float64)) < 1e-6
    with pytest.raises(OutOfMemoryError, match=str(33153 * 507 * 4)):
        linear_attention(q, k, v, feature_map=where, return_state=True)


def calls() -> dict[str, Callable[[], object]]:
    q = np.ones((1, 5, 1, 128), np.float32)
    where = Taylor(3)
    m = maps.size(where, 128)
    # Of no memory: it is refused before it is looked at.
    s = np.broadcast_to(np.float32(0), (1, 1, m, 128))
    state = State(s, None, None)
    return {
        "return_state": lambda: linear_attention(q, q, q, feature_map=where, return_state=True),
        "initial_state": lambda: linear_attention(q, q, q, feature_map=where, initial_state=state),
        "linear_attention_step": lambda: linear_attention_step(
            state, q[:, 0], q[:, 0], q[:, 0], feature_map=where
        ),
        "linear_attention_vjp": lambda: linear_attention_vjp(q, q, q, q, feature_map=where),
    }


@pytest.mark.parametrize("name", list(calls()))
def test_what_needs_a_state_is_refused(name: str) -> None:
    size = maps.size(Taylor(3), 128) * 129 * 4
    with pytest.raises(
        OutOfMemoryError, match=rf"^{name} must .*{MOST}.*got {size} bytes"
    ) as caught:
        calls()[name]()
    assert isinstance(caught.value, MemoryError)


def test_types_count() -> None:
    # The same map and sizes fit in float32 and not in float64.
    q = np.ones((1, 3, 1, 256))
    v = np.ones((1, 3, 1, 300))
    for dtype in ("float32", "float16", "bfloat16"):
        one, other = q.astype(DTYPES[dtype]), v.astype(DTYPES[dtype])
        _, state = linear_attention(one, one, other, feature_map=Taylor(2), return_state=True)
        assert state.s.dtype == np.float32
    with pytest.raises(OutOfMemoryError):
        linear_attention(q, q, v, feature_map=Taylor(2), return_state=True)


def test_orders_beyond_all_states() -> None:
    call = draw(Case(T=60, D=64, V=5, dtype="float64", normalize=True, size=0.5))
    for where in (Taylor(1024), ExponentialLimit(1024)):
        got, _ = call.run(feature_map=where, return_state=False)
        assert error(got, by_pairs(call, where)) < 1e-13
        again, _ = call.run(feature_map=where, return_state=False)
        assert same(got, again)
