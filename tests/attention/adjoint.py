"""The gradients of the reference, by the recurrence that runs backwards.

Independent of how the core does it: all states are kept, and the state's gradient goes from
the last token to the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attention import maps
from attention.reference import Array, Inputs, divisor, over_time


@dataclass
class Gradients:
    """Of the sum of ``out * dout`` and of the final state times its own, in every argument."""

    q: Array
    k: Array
    v: Array
    g: Array  # [B, T, Hkv, 1 or D]
    s: Array
    z: Array
    # Those of q and k without the normaliser's part, from which it may take away nearly all.
    q_size: Array
    k_size: Array
    # [B, T, Hkv] and [N, Hkv]: what features and states weigh in the output. A decay's gradient is
    # a difference of sums of these.
    token_weight: Array
    state_weight: Array


def linear_attention(given: Inputs, dout: Array, ds: Array, dz: Array) -> Gradients:
    """The gradients; `ds` and `dz` are those of the true final state."""
    fq, fk, v, g = given.terms()
    keep = np.exp(g)
    batch, time, heads, groups, _ = fq.shape
    dout = dout.reshape(batch, time, heads, groups, v.shape[-1])
    dfq_size, dfk_size = np.zeros_like(fq), np.zeros_like(fk)
    dfq, dfk, dv, dg = (
        np.zeros_like(fq),
        np.zeros_like(fk),
        np.zeros_like(v),
        np.zeros_like(given.g),
    )
    ds, dz = ds.copy(), dz.copy()
    state_weight = np.zeros(dz.shape[:2], dz.dtype)
    for n, (b, first, last) in enumerate(given.where):
        # The state before each token; without causality all see the last.
        before = []
        s, z = given.s[n], given.z[n]
        if not given.causal:
            s = s + over_time(fk[b, first:last], v[b, first:last])
            z = z + fk[b, first:last].sum(axis=0)
        for t in range(first, last):
            before.append((s, z))
            if given.causal:
                s = keep[b, t][..., None] * s + fk[b, t, :, :, None] * v[b, t, :, None, :]
                z = keep[b, t] * z + fk[b, t]
        state_weight[n] = abs(ds[n] * s).sum(axis=(1, 2)) + abs(dz[n] * z).sum(axis=1)
        for t in reversed(range(first, last)):
            dvalues, dweights = _output(given, fq[b, t], s, z, dout[b, t])
            dfq_size[b, t] = dvalues @ s.swapaxes(1, 2)
            dfq[b, t] = dfq_size[b, t] + dweights[..., None] * z[:, None]
            ds[n] += fq[b, t].swapaxes(1, 2) @ dvalues
            dz[n] += (fq[b, t].swapaxes(1, 2) @ dweights[..., None])[..., 0]
            if given.causal:
                s, z = before[t - first]
                dfk_size[b, t] = (ds[n] @ v[b, t][..., None])[..., 0]
                dfk[b, t] = dfk_size[b, t] + dz[n]
                dv[b, t] = (fk[b, t][:, None] @ ds[n])[:, 0]
                along = keep[b, t] * ((ds[n] * s).sum(axis=-1) + dz[n] * z)
                dg[b, t] = along if given.g.shape[-1] > 1 else along.sum(axis=-1, keepdims=True)
                ds[n], dz[n] = keep[b, t][..., None] * ds[n], keep[b, t] * dz[n]
        if not given.causal:
            own_k, own_v = fk[b, first:last].swapaxes(0, 1), v[b, first:last].swapaxes(0, 1)
            dfk_size[b, first:last] = (own_v @ ds[n].swapaxes(1, 2)).swapaxes(0, 1)
            dfk[b, first:last] = dfk_size[b, first:last] + dz[n]
            dv[b, first:last] = (own_k @ ds[n]).swapaxes(0, 1)
    seen = given.mask[..., None, None]
    token_weight = abs(fq * dfq_size).sum(axis=(3, 4)) + abs(fk * dfk_size).sum(axis=3)

    def through_map(x: Array, dphi: Array) -> Array:
        wide = x.reshape(*dphi.shape[:-1], x.shape[-1])
        return maps.adjoint(wide, given.feature_map, given.scale, dphi).reshape(x.shape)

    return Gradients(
        through_map(given.q, dfq),
        np.where(seen, through_map(given.k, np.where(seen, dfk, 0)), 0),
        np.where(seen, dv, 0),
        np.where(seen, dg, 0),
        ds,
        dz,
        through_map(given.q, dfq_size),
        np.where(seen, through_map(given.k, np.where(seen, dfk_size, 0)), 0),
        token_weight,
        state_weight,
    )


def _output(given: Inputs, fq: Array, s: Array, z: Array, dout: Array) -> tuple[Array, Array]:
    """Return the gradients in phi(q) S, [Hkv, G, V], and in phi(q) . z, [Hkv, G]."""
    if not given.normalize:
        return given.out_scale * dout, np.zeros_like(dout[..., 0])
    d = (fq @ z[..., None])[..., 0]
    below = divisor(d, given.eps)
    dvalues = dout / below[..., None]
    along = -(dvalues * (fq @ s)).sum(axis=-1) / below
    return dvalues, np.where(abs(d) > given.eps, along, 0)
