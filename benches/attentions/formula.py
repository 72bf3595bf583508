"""Attention as it is defined, token by token in float64; no code of corekit's is used.

Arrays are ``[T, heads, D]``: some heads are enough to judge an output.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def elu1(x: Floats) -> Floats:
    """Return elu(x) + 1."""
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def linear(q: Floats, k: Floats, v: Floats, decay: Floats | None = None) -> Floats:
    """Return normalised causal linear attention of features; `decay` is a logarithm."""
    outputs, sums = _prefix(q, k, v, decay)
    return outputs / sums


def full(q: Floats, k: Floats, v: Floats) -> Floats:
    """Return normalised linear attention of features, not causal."""
    state, total = np.einsum("thm,thv->hmv", k, v), k.sum(axis=0)
    outputs = np.einsum("thm,hmv->thv", q, state)
    return np.asarray(outputs / np.einsum("thm,hm->th", q, total)[..., None])


def steps(q: Floats, k: Floats, v: Floats, *, normalize: bool, scale: float) -> Floats:
    """Return causal linear attention, normalised or scaled."""
    outputs, sums = _prefix(q, k, v, None)
    return outputs / sums if normalize else outputs * scale


def softmax(q: Floats, k: Floats, v: Floats, rows: npt.NDArray[np.intp]) -> Floats:
    """Return some rows of causal softmax attention."""
    outputs = np.empty((len(rows), *v.shape[1:]))
    for number, row in enumerate(rows):
        scores = np.einsum("hd,thd->ht", q[row], k[: row + 1]) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        outputs[number] = np.einsum("ht,thv->hv", weights, v[: row + 1])
    return outputs


def favor_features(x: Floats, projection: Floats) -> Floats:
    """Return positive random features of x that carry the square root of the scale."""
    x = x * x.shape[-1] ** -0.25
    powers = x @ projection.T - 0.5 * np.sum(x * x, axis=-1, keepdims=True)
    # A factor of a row's own cancels in queries, one for all rows in keys; here nothing overflows.
    return np.asarray(np.exp(powers) / np.sqrt(len(projection)))


def gradients(q: Floats, k: Floats, v: Floats, dout: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the gradients of normalised causal linear attention with elu + 1 at q, k and v."""
    features_q, features_k = elu1(q), elu1(k)
    outputs, sums = _prefix(features_q, features_k, v, None)
    outputs = outputs / sums
    # o = n / d with n = phi(q) S and d = phi(q) z: what reaches n, and beside it what reaches d.
    reaching = np.concatenate((dout, -np.sum(dout * outputs, axis=-1, keepdims=True)), axis=-1)
    reaching = reaching / sums
    values = np.concatenate((v, np.ones_like(v[..., :1])), axis=-1)
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    state = np.zeros((q.shape[1], q.shape[2], values.shape[2]))
    for t in range(len(q)):
        state += features_k[t][:, :, None] * values[t][:, None, :]
        dq[t] = (state @ reaching[t][:, :, None])[..., 0]
    state[:] = 0
    for t in reversed(range(len(q))):
        state += features_q[t][:, :, None] * reaching[t][:, None, :]
        dk[t] = (state @ values[t][:, :, None])[..., 0]
        dv[t] = (features_k[t][:, None, :] @ state)[:, 0, :-1]
    return dq * _slope(q), dk * _slope(k), dv


def _slope(x: Floats) -> Floats:
    return np.where(x > 0, 1.0, np.exp(np.minimum(x, 0)))


def _prefix(q: Floats, k: Floats, v: Floats, decay: Floats | None) -> tuple[Floats, Floats]:
    """Return phi(q_t) S_t, and phi(q_t) z_t as a column: values get a one beside them."""
    values = np.concatenate((v, np.ones_like(v[..., :1])), axis=-1)
    state = np.zeros((q.shape[1], q.shape[2], values.shape[2]))
    both = np.empty(values.shape)
    kept: Any = None if decay is None else np.exp(decay)
    for t in range(len(q)):
        if kept is not None:
            state *= kept[t].reshape(len(state), -1, 1)
        state += k[t][:, :, None] * values[t][:, None, :]
        both[t] = (q[t][:, None, :] @ state)[:, 0]
    return both[..., :-1], both[..., -1:]
