"""Sizes at the ends: states larger than any cache, and arrays that hold nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from attention.reference import Array
from corekit.attention import (
    Favor,
    State,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)

random = np.random.default_rng(5)


@pytest.mark.parametrize(("size", "dtype"), [(4200, np.float32), (2950, np.float64)])
def test_states_of_more_than_64_mib(size: int, dtype: Any) -> None:
    # Only maps whose states grow with a power of the head's size have a limit.
    q, k, v = random.random((3, 1, 3, 1, size)).astype(dtype)
    seen = np.tril(q[0, :, 0] @ k[0, :, 0].T)
    out, state = linear_attention(q, k, v, return_state=True, scale=1.0)
    np.testing.assert_allclose(out[0, :, 0], seen @ v[0, :, 0], rtol=1e-5)
    np.testing.assert_allclose(state.s[0, 0, :5], k[0, :, 0, :5].T @ v[0, :, 0], rtol=1e-5)
    assert np.array_equal(linear_attention(q, k, v, scale=1.0), out)
    gradients = linear_attention_vjp(q, k, v, out, scale=1.0)
    by_scores = np.tril(out[0, :, 0] @ v[0, :, 0].T)
    np.testing.assert_allclose(gradients.q[0, :, 0], by_scores @ k[0, :, 0], rtol=1e-5)


def test_many_random_features() -> None:
    q, k, v = random.random((3, 1, 2, 1, 2)).astype(np.float32)
    v = np.repeat(v, 40, axis=-1)
    favor = Favor(1 << 18, orthogonal=False, seed=1)
    options: dict[str, Any] = {"feature_map": favor, "normalize": True}
    near = softmax_attention(q, k, v)
    np.testing.assert_allclose(linear_attention(q, k, v, **options), near, atol=0.02)
    assert np.isfinite(linear_attention_vjp(q, k, v, v, **options).k).all()


@pytest.mark.parametrize(
    "shape", [(1 << 40, 0, 1, 4), (1, 0, 1 << 40, 4), (1 << 40, 1, 0, 4), (0, 1 << 40, 1, 4)]
)
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    # However many rows of no numbers there are, none is looked at.
    x = np.empty(shape, np.float32)
    for out in (linear_attention(x, x, x), softmax_attention(x, x, x)):
        assert out.shape == shape
    assert linear_attention(x, x, x, feature_map="elu1", normalize=True, causal=False).size == 0
    assert linear_attention_vjp(x, x, x, x).k.shape == shape


def test_a_step_of_nothing() -> None:
    state = State(np.empty((1 << 40, 0, 4, 4), np.float32), None, None)
    x = np.empty((1 << 40, 0, 4), np.float32)
    assert linear_attention_step(state, x, x, x).shape == x.shape


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"feature_map": "elu1", "normalize": True},
        {"feature_map": Favor(6, seed=1), "normalize": True},
        {"decay": np.full((1, 2), -0.5, np.float32)},
    ],
    ids=["plain", "normalised", "stabilised", "decay"],
)
def test_a_step_without_query_heads(options: dict[str, Any]) -> None:
    k, v = random.random((1, 2, 4)).astype(np.float32), random.random((1, 2, 3)).astype(np.float32)
    of_state = {key: options[key] for key in ("feature_map", "normalize") if key in options}

    def after(heads: int) -> tuple[Array, list[Array]]:
        state = State.zeros(1, 2, 4, 3, **of_state)
        q = np.ones((1, heads, 4), np.float32)
        for _ in range(2):
            out = linear_attention_step(state, q, k, v, **options)
        return out, [part for part in state if part is not None]

    out, states = after(0)
    assert out.shape == (1, 0, 3)
    assert all(map(np.array_equal, states, after(2)[1]))


def test_a_long_sequence_changes_no_other_of_its_pack() -> None:
    # Sequences of more than 65,536 tokens have other chunks; those beside them keep theirs.
    long = 65_537
    q, k, v = random.random((3, 1, 300 + long, 1, 4)).astype(np.float32)
    cu_seqlens = [0, 100, 100 + long, 300 + long]
    decay = -random.random((1, 300 + long, 1)).astype(np.float32)
    both: list[dict[str, Any]] = [{}, {"decay": decay}]
    for options in both:
        out = linear_attention(q, k, v, cu_seqlens=cu_seqlens, **options)
        gradients = linear_attention_vjp(q, k, v, v, cu_seqlens=cu_seqlens, **options)
        for first, last in pairwise(cu_seqlens):
            part = slice(first, last)
            own = q[:, part], k[:, part], v[:, part]
            by: dict[str, Any] = {key: x[:, part] for key, x in options.items()}
            assert np.array_equal(out[:, part], linear_attention(*own, **by))
            separate = linear_attention_vjp(*own, own[2], **by)
            assert np.array_equal(gradients.k[:, part], separate.k)
            assert np.array_equal(gradients.q[:, part], separate.q)
            if gradients.decay is not None:
                assert np.array_equal(gradients.decay[:, part], separate.decay)
