"""Attention in plain NumPy: what the kernels are held to.

One recurrence, token after token, in the precision of what comes in. Shapes are those of the
layout "bthd": queries [B, T, Hq, D], keys [B, T, Hkv, D], values [B, T, Hkv, V].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from attention.maps import Map, features, is_softmax

Array = npt.NDArray[Any]
Segment = tuple[int, int, int]  # row of the batch, first token, the token after the last


def wide(x: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """Return the values exactly, in a type that has room for them."""
    return np.asarray(x).astype(dtype)


def segments(batch: int, time: int, cu_seqlens: Sequence[int] | None) -> list[Segment]:
    """Return the sequences: whole rows, or the packed ones of the only row."""
    if cu_seqlens is None:
        return [(row, 0, time) for row in range(batch)]
    return [(0, first, last) for first, last in pairwise(cu_seqlens)]


@dataclass
class Sums:
    """What is summed up for each query head, and what is left at the end of each sequence."""

    values: Array  # [B, T, Hkv, G, V]: phi(q_t) S_t
    weights: Array  # [B, T, Hkv, G]: phi(q_t) . z_t
    s: Array  # [N, Hkv, m, V]
    z: Array  # [N, Hkv, m]


def over_time(fk: Array, v: Array) -> Array:
    """Return the sum of phi(k_t) v_t' over all tokens, [Hkv, m, V]."""
    return np.asarray(fk.transpose(1, 2, 0) @ v.swapaxes(0, 1))


def recurrence(
    fq: Array,
    fk: Array,
    v: Array,
    g: Array,
    s: Array,
    z: Array,
    where: Sequence[Segment],
    *,
    causal: bool,
) -> Sums:
    """S_t = e^{g_t} S_{t-1} + phi(k_t) v_t', z_t = e^{g_t} z_{t-1} + phi(k_t)."""
    batch, time, heads, groups, _ = fq.shape
    values = np.zeros((batch, time, heads, groups, v.shape[-1]), v.dtype)
    weights = np.zeros((batch, time, heads, groups), v.dtype)
    s, z = s.copy(), z.copy()
    for n, (b, first, last) in enumerate(where):
        if not causal:
            s[n] += over_time(fk[b, first:last], v[b, first:last])
            z[n] += fk[b, first:last].sum(axis=0)
        for t in range(first, last):
            if causal:
                keep = np.exp(g[b, t])
                s[n] = keep[..., None] * s[n] + fk[b, t, :, :, None] * v[b, t, :, None, :]
                z[n] = keep * z[n] + fk[b, t]
            values[b, t] = fq[b, t] @ s[n]
            weights[b, t] = (fq[b, t] @ z[n][..., None])[..., 0]
    return Sums(values, weights, s, z)


@dataclass
class Inputs:
    """The arguments of a call in high precision, with everything filled in.

    `log_scale` of a state is undone: `s` and `z` are the true ones.
    """

    q: Array
    k: Array
    v: Array
    g: Array  # [B, T, Hkv, 1 or D]
    mask: Array  # [B, T]
    s: Array
    z: Array
    where: list[Segment]
    feature_map: Map
    causal: bool
    normalize: bool
    eps: float
    scale: float

    def terms(self) -> tuple[Array, Array, Array, Array]:
        """Return phi of queries, [B, T, Hkv, G, m], and of keys, values and decays, masked."""
        batch, time, heads, width = self.k.shape
        groups = self.q.shape[2] // heads if heads else 1
        seen = self.mask[..., None, None]
        return (
            features(
                self.q.reshape(batch, time, heads, groups, width), self.feature_map, self.scale
            ),
            np.where(seen, features(self.k, self.feature_map, self.scale), 0),
            np.where(seen, self.v, 0),
            np.where(seen, self.g, 0),
        )

    @property
    def out_scale(self) -> float:
        """What an output that is not normalised is multiplied by."""
        return 1.0 if is_softmax(self.feature_map) else self.scale


@dataclass
class Answer:
    """The output, [B, T, Hq, V], the true final state, and the normaliser, [B, T, Hq, 1]."""

    out: Array
    s: Array
    z: Array
    d: Array


def linear_attention(given: Inputs) -> Answer:
    """The op itself."""
    fq, fk, v, g = given.terms()
    sums = recurrence(fq, fk, v, g, given.s, given.z, given.where, causal=given.causal)
    values = sums.values.reshape(*given.q.shape[:3], v.shape[-1])
    d = sums.weights.reshape(*given.q.shape[:3], 1)
    out = values / divisor(d, given.eps) if given.normalize else given.out_scale * values
    return Answer(out, sums.s, sums.z, d)


def divisor(d: Array, eps: float) -> Array:
    """Return d, away from 0; the sign of 0 is +."""
    return np.asarray(np.where(d < 0, -1, 1) * np.maximum(abs(d), eps))


@dataclass
class Sizes:
    """How large the terms are that outputs and states are sums of: sums of absolute values.

    An error of `x` in every term is at most `x` times the size in the sum, whatever the order.
    """

    out: Array
    s: Array
    z: Array
    unsure: Array  # [B, T, Hq]: the sign of the normaliser is nothing but roundings


def sizes(given: Inputs, answer: Answer) -> Sizes:
    """The op on absolute values."""
    fq, fk, v, g = given.terms()
    sums = recurrence(
        abs(fq),
        abs(fk),
        abs(v),
        g,
        abs(given.s),
        abs(given.z),
        given.where,
        causal=given.causal,
    )
    values, weights = sums.values.reshape(answer.out.shape), sums.weights.reshape(answer.d.shape)
    if not given.normalize:
        unsure = np.zeros(answer.d.shape[:3], bool)
        return Sizes(abs(given.out_scale) * values, sums.s, sums.z, unsure)
    out = (values + abs(answer.out) * weights) / abs(divisor(answer.d, given.eps))
    unsure = (abs(answer.d) <= 1e-5 * weights) & (weights > 0)
    return Sizes(out, sums.s, sums.z, unsure[..., 0])


def softmax_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool,
    scale: float,
    where: Sequence[Segment],
    mask: Array,
) -> Array:
    """Softmax of all scores at once; where there is nothing to attend to the output is 0."""
    batch, time, heads, width = k.shape
    groups = q.shape[2] // heads if heads else 1
    grouped = q.reshape(batch, time, heads, groups, width)
    out = np.zeros((*grouped.shape[:4], v.shape[-1]), v.dtype)
    for b, first, last in where:
        seen = mask[b, first:last]
        keys = np.where(seen[:, None, None], k[b, first:last], 0)
        scores = scale * (
            grouped[b, first:last].transpose(1, 2, 0, 3) @ keys.transpose(1, 2, 0)[:, None]
        )
        allowed = np.broadcast_to(seen, scores.shape[-2:])
        if causal:
            allowed = allowed & np.tri(last - first, dtype=bool)
        scores = np.where(allowed, scores, -np.inf)
        most = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - np.where(np.isneginf(most), 0, most))
        total = weights.sum(axis=-1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total != 0)
        values = np.where(seen[:, None, None], v[b, first:last], 0)
        out[b, first:last] = np.einsum("hgts,shv->thgv", weights, values)
    return out.reshape(batch, time, q.shape[2], v.shape[-1])
