"""Attention in plain NumPy: what the kernels are held to.

One recurrence, token after token, in the precision of what comes in. Shapes are those of the
layout "bthd": queries [B, T, Hq, D], keys [B, T, Hkv, D], values [B, T, Hkv, V].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    return [
        (0, first, last) for first, last in zip(cu_seqlens[:-1], cu_seqlens[1:], strict=True)
    ]


@dataclass
class Sums:
    """What is summed up for each query head, and what is left at the end of each sequence."""

    values: Array  # [B, T, Hkv, G, V]: phi(q_t) S_t
    weights: Array  # [B, T, Hkv, G]: phi(q_t) . z_t
    s: Array  # [N, Hkv, m, V]
    z: Array  # [N, Hkv, m]


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
            s[n] += np.einsum("thm,thv->hmv", fk[b, first:last], v[b, first:last])
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

    Of masked tokens keys and values are zero after the map, and the decay is 0. `log_scale`
    of a state is undone: `s` and `z` are the true ones.
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

    def mapped(self) -> tuple[Array, Array]:
        """Return phi of the queries, [B, T, Hkv, G, m], and of the keys."""
        batch, time, heads, width = self.k.shape
        groups = self.q.shape[2] // heads if heads else 1
        fq = features(
            self.q.reshape(batch, time, heads, groups, width), self.feature_map, self.scale
        )
        fk = features(self.k, self.feature_map, self.scale)
        return fq, np.where(self.mask[..., None, None], fk, 0)


@dataclass
class Answer:
    """The output, the true final state, and how large the terms were that they are sums of."""

    out: Array  # [B, T, Hq, V]
    s: Array
    z: Array
    out_size: Array
    s_size: Array
    z_size: Array
    unsure: Array  # [B, T, Hq]: the sign of the normaliser is within rounding of a change


def linear_attention(given: Inputs) -> Answer:
    """The op itself.

    The size of a sum is that of the absolute values of its terms: an error of `x` in every
    term is at most `x` times this in the sum, whatever the order.
    """
    fq, fk = given.mapped()
    v = np.where(given.mask[..., None, None], given.v, 0)
    g = np.where(given.mask[..., None, None], given.g, 0)
    sums = recurrence(fq, fk, v, g, given.s, given.z, given.where, causal=given.causal)
    sizes = recurrence(
        *map(abs, (fq, fk, v)), g, abs(given.s), abs(given.z), given.where, causal=given.causal
    )
    d = sums.weights[..., None]
    unsure = (abs(d) <= 1e-5 * sizes.weights[..., None]) & (sizes.weights[..., None] > 0)
    if given.normalize:
        below = np.where(d < 0, -1, 1) * np.maximum(abs(d), given.eps)
        out = sums.values / below
        out_size = (sizes.values + abs(out) * sizes.weights[..., None]) / abs(below)
    else:
        factor = 1 if is_softmax(given.feature_map) else given.scale
        out, out_size = factor * sums.values, abs(factor) * sizes.values
    shape = (*given.q.shape[:3], v.shape[-1])
    return Answer(
        out.reshape(shape),
        sums.s,
        sums.z,
        out_size.reshape(shape),
        sizes.s,
        sizes.z,
        (unsure & given.normalize).reshape(shape[:3]),
    )


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
    grouped = q.reshape(batch, time, heads, -1, width)
    out = np.zeros((*grouped.shape[:4], v.shape[-1]), v.dtype)
    for b, first, last in where:
        seen = mask[b, first:last]
        scores = scale * np.einsum(
            "thgd,shd->hgts", grouped[b, first:last], np.where(seen[:, None, None], k[b, first:last], 0)
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
