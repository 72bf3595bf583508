"""The gradients of the reference, by the recurrence that runs backwards.

Independent of how the core does it: all states are kept, and the state's gradient goes from
the last token to the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attention import maps
from attention.reference import Array, Inputs
from attention.maps import is_softmax


@dataclass
class Gradients:
    """Of the sum of ``out * dout`` and of the final state times its own, in every argument."""

    q: Array
    k: Array
    v: Array
    g: Array  # [B, T, Hkv, 1 or D]
    s: Array
    z: Array


def linear_attention(given: Inputs, dout: Array, ds: Array, dz: Array) -> Gradients:
    """The gradients; `ds` and `dz` are those of the true final state."""
    fq, fk = given.mapped()
    v = np.where(given.mask[..., None, None], given.v, 0)
    keep = np.exp(np.where(given.mask[..., None, None], given.g, 0))
    batch, time, heads, groups, _ = fq.shape
    dout = dout.reshape(batch, time, heads, groups, v.shape[-1])
    dfq, dfk, dv, dg = np.zeros_like(fq), np.zeros_like(fk), np.zeros_like(v), np.zeros_like(given.g)
    ds, dz = ds.copy(), dz.copy()
    for n, (b, first, last) in enumerate(given.where):
        # The state before each token; without causality all see the last.
        before = []
        s, z = given.s[n], given.z[n]
        if not given.causal:
            s = s + np.einsum("thm,thv->hmv", fk[b, first:last], v[b, first:last])
            z = z + fk[b, first:last].sum(axis=0)
        for t in range(first, last):
            before.append((s, z))
            if given.causal:
                s = keep[b, t][..., None] * s + fk[b, t, :, :, None] * v[b, t, :, None, :]
                z = keep[b, t] * z + fk[b, t]
        for t in reversed(range(first, last)):
            dvalues, dweights = _output(given, fq[b, t], s, z, dout[b, t])
            dfq[b, t] = dvalues @ s.swapaxes(1, 2) + dweights[..., None] * z[:, None]
            ds[n] += np.einsum("hgm,hgv->hmv", fq[b, t], dvalues)
            dz[n] += np.einsum("hgm,hg->hm", fq[b, t], dweights)
            if given.causal:
                s, z = before[t - first]
                dfk[b, t] = (ds[n] @ v[b, t][..., None])[..., 0] + dz[n]
                dv[b, t] = (fk[b, t][:, None] @ ds[n])[:, 0]
                along = keep[b, t] * ((ds[n] * s).sum(axis=-1) + dz[n] * z)
                dg[b, t] = along if given.g.shape[-1] > 1 else along.sum(axis=-1, keepdims=True)
                ds[n], dz[n] = keep[b, t][..., None] * ds[n], keep[b, t] * dz[n]
        if not given.causal:
            dfk[b, first:last] = np.einsum("hmv,thv->thm", ds[n], v[b, first:last]) + dz[n]
            dv[b, first:last] = np.einsum("hmv,thm->thv", ds[n], fk[b, first:last])
    seen = given.mask[..., None, None]
    dq = maps.adjoint(
        given.q.reshape(*fq.shape[:4], -1), given.feature_map, given.scale, dfq
    ).reshape(given.q.shape)
    dk = maps.adjoint(given.k, given.feature_map, given.scale, np.where(seen, dfk, 0))
    return Gradients(
        dq, np.where(seen, dk, 0), np.where(seen, dv, 0), np.where(seen, dg, 0), ds, dz
    )


def _output(given: Inputs, fq: Array, s: Array, z: Array, dout: Array) -> tuple[Array, Array]:
    """Return the gradients in phi(q) S, [Hkv, G, V], and in phi(q) . z, [Hkv, G]."""
    if not given.normalize:
        factor = 1 if is_softmax(given.feature_map) else given.scale
        return factor * dout, np.zeros_like(dout[..., 0])
    d = (fq @ z[..., None])[..., 0]
    below = np.where(d < 0, -1, 1) * np.maximum(abs(d), given.eps)
    dvalues = dout / below[..., None]
    along = -(dvalues * (fq @ s)).sum(axis=-1) / below
    return dvalues, np.where(abs(d) > given.eps, along, 0)
