"""The reference is held to itself: another form of the same sums, and differences of values.

What the other tests compare with is slow and plain, and could be wrong all the same.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from attention import adjoint, maps, reference
from attention.calls import DECAYS, MAPS, Case, draw
from attention.maps import features
from attention.reference import Array, Inputs


def every_case() -> list[Case]:
    small = Case(T=9, D=3, V=2, B=2, H=2, G=2, dtype="float64", seed=3)
    cases = [
        small.but(map=name, normalize=normalize, causal=causal, initial=True, mask=True)
        for name in MAPS
        for normalize in (False, True)
        for causal in (False, True)
    ]
    cases += [
        small.but(map=name, normalize=normalize, decay=decay, initial=True, mask=True)
        for name in maps.ELEMENTWISE
        for normalize in (False, True)
        for decay in DECAYS[1:]
    ]
    packed = small.but(B=1, T=12, cu_seqlens=(0, 3, 3, 4, 12), initial=True, decay="token")
    return [*cases, packed, packed.but(causal=False, decay="none", map="favor", normalize=True)]


def pairwise(given: Inputs) -> Array:
    """The output by its weights of all pairs: phi(q_t) . phi(k_s) e^{G_t - G_s}, and no state."""
    fq, fk, v, g = given.terms()
    batch, time, heads, groups, _ = fq.shape
    out = np.zeros((batch, time, heads, groups, v.shape[-1]), v.dtype)
    for n, (b, first, last) in enumerate(given.where):
        for t in range(first, last):
            seen = range(first, t + 1 if given.causal else last)
            passed = g[b, first : t + 1].sum(axis=0)
            kept = fq[b, t] * np.exp(passed)[:, None]
            values = kept @ given.s[n]
            weights = (kept @ given.z[n][..., None])[..., 0]
            for s in seen:
                between = g[b, s + 1 : t + 1].sum(axis=0)
                weight = ((fq[b, t] * np.exp(between)[:, None]) @ fk[b, s][..., None])[..., 0]
                values += weight[..., None] * v[b, s][:, None]
                weights += weight
            if given.normalize:
                sign = np.where(weights < 0, -1, 1)
                out[b, t] = values / (sign * np.maximum(abs(weights), given.eps))[..., None]
            else:
                out[b, t] = values * given.out_scale
    return out.reshape(*given.q.shape[:3], -1)


@pytest.mark.parametrize("case", every_case(), ids=str)
def test_states_and_pairs(case: Case) -> None:
    call = draw(case)
    given, got = call.inputs, call.expected
    # Where the normaliser is nothing but roundings its sign is, too.
    assert not call.sizes.unsure.any()
    size = np.where(call.sizes.out == 0, 1, call.sizes.out)
    assert (abs(pairwise(given) - got.out) / size).max() < 1e-16


@pytest.mark.parametrize("case", every_case(), ids=str)
def test_gradients_are_differences(case: Case) -> None:
    call = draw(case.but(eps=0.05))
    given = call.inputs
    random = np.random.default_rng(1)
    dout = random.standard_normal(call.expected.out.shape)
    ds = random.standard_normal(given.s.shape)
    dz = random.standard_normal(given.z.shape) * case.normalize
    got = adjoint.linear_attention(given, dout, ds, dz)

    def value(at: Inputs) -> np.longdouble:
        answer = reference.linear_attention(at)
        total = (answer.out * dout).sum() + (answer.s * ds).sum() + (answer.z * dz).sum()
        return np.longdouble(total)

    for name in ("q", "k", "v", "g", "s", "z"):
        x = getattr(given, name)
        direction = random.standard_normal(x.shape)
        step = np.longdouble(1e-6)
        with np.errstate(invalid="ignore"):
            change = value(replace(given, **{name: x + step * direction}))
            change -= value(replace(given, **{name: x - step * direction}))
        gradient = getattr(got, name)
        size = abs(gradient * direction).sum() + 1e-6
        assert abs(change / (2 * step) - (gradient * direction).sum()) < 1e-7 * size, name


@pytest.mark.parametrize("feature_map", ["taylor 1", "taylor 2", "taylor 3", "limit 1", "limit 3"])
def test_polynomials_are_those_of_products(feature_map: str) -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 20, 5)).astype(np.longdouble)
    where = MAPS[feature_map]
    product = 0.3 * (x * y).sum(axis=-1)
    if maps.kind(where) == "Taylor":
        expected = sum(product**j / math.factorial(j) for j in range(where.order + 1))
    else:
        expected = (1 + product / where.n) ** where.n
    got = (features(x, where, 0.3) * features(y, where, 0.3)).sum(axis=-1)
    assert abs(got - expected).max() < 1e-17 * 100
    assert features(x, where, 0.3).shape[-1] == maps.size(where, 5)


def test_softmax_of_all_scores_is_that_of_a_loop() -> None:
    call = draw(Case(T=11, D=3, V=2, B=2, H=2, G=2, mask=True, dtype="float64"))
    given = call.inputs
    for causal in (False, True):
        got = reference.softmax_attention(
            given.q, given.k, given.v, causal=causal, scale=0.7, where=given.where, mask=given.mask
        )
        for b, t, h in np.ndindex(*given.q.shape[:3]):
            seen = [s for s in range(t + 1 if causal else 11) if given.mask[b, s]]
            weights = [math.exp(0.7 * given.q[b, t, h] @ given.k[b, s, h // 2]) for s in seen]
            terms = [w * given.v[b, s, h // 2] for w, s in zip(weights, seen, strict=True)]
            expected = np.sum(terms, axis=0) / math.fsum(weights) if seen else np.zeros(2)
            np.testing.assert_allclose(
                got[b, t, h].astype(float), expected.astype(float), rtol=1e-13
            )
