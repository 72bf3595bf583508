"""The promise: decays of any strength are right, and nothing is ever scaled up to undo one.

Strong ones (-30 a token), resets (-inf) and mild ones among them; long sequences; and a decay of 0
is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attention.calls import DTYPES, Call, Case, cancels, check, draw, each, same
from attention.levels import LEVELS, at, hold
from attention.reference import Array

FORMS = ["head", "token", "vector"]


def with_decay(case: Case, decay: Array) -> Call:
    """Return the call of a case with this decay."""
    call = draw(case)
    assert call.decay is not None
    call.decay[...] = decay
    return call


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("g", [-1e-6, -0.01, -1.0, -30.0, -100.0, -1e4, -1e38, -np.inf])
def test_one_decay_for_all(g: float, form: str, dtype: str) -> None:
    case = Case(T=200, D=18, V=13, decay=form, initial=True, dtype=dtype)
    hold(with_decay(case, np.array(g)))
    hold(with_decay(case.but(map="elu1", normalize=True), np.array(g)))
    if form != "vector":
        hold(with_decay(case.but(map="favor", normalize=True), np.array(g)))


@pytest.mark.parametrize("form", ["token", "vector"])
@pytest.mark.parametrize("strong", [-30.0, -1000.0, -1e30, -np.inf])
def test_mild_ones_after_strong_ones(strong: float, form: str) -> None:
    # Differences of cumulative sums would have lost the mild ones: after -1000 a float32 has
    # four decimals left.
    case = Case(T=200, D=18, V=13, decay=form)
    call = draw(case.but(strong=False))
    assert call.decay is not None
    call.decay[:, ::7] = strong
    hold(call)
    hold(call.but(case=case.but(map="elu1", normalize=True)))
    if form == "token":
        hold(call.but(case=case.but(map="favor")))


def test_coordinates_that_decay_differently() -> None:
    case = Case(T=200, D=18, V=13, decay="vector", initial=True)
    rates = np.concatenate([[0, -np.inf, -1e-3, -700], -np.geomspace(1e-4, 100, 14)])
    hold(with_decay(case, np.broadcast_to(rates, (1, 200, 2, 18))))
    random = np.random.default_rng(3)
    hold(with_decay(case, random.permuted(np.broadcast_to(rates, (1, 200, 2, 18)), axis=-1)))


@pytest.mark.parametrize("form", ["token", "vector"])
@pytest.mark.parametrize("t", [0, 1, 15, 16, 40, 63, 64, 99])
def test_a_reset_forgets_all(t: int, form: str) -> None:
    for name in ("identity", "elu1", *(["favor"] if form == "token" else [])):
        case = Case(T=100, D=11, V=8, decay=form, map=name, initial=True, strong=False)
        call = draw(case)
        assert call.decay is not None
        call.decay[:, t] = -np.inf
        rest = call.part(slice(t, None), None)
        for level in LEVELS:
            with at(level):
                out, state = call.run()
                check(call, out, state)
                check(rest, out[:, t:], state)


@pytest.mark.parametrize("form", FORMS)
def test_no_decay(form: str) -> None:
    for options in each(
        {},
        {"map": "elu1", "normalize": True},
        {"initial": True, "G": 2, "chunk_size": 16},
        {"mask": True, "cu_seqlens": (0, 40, 150)},
    ):
        case = Case(T=150, D=18, V=13, decay=form).but(**options)
        call = with_decay(case, np.array(0.0))
        plain = call.but(case=case.but(decay="none"), decay=None)
        for level in LEVELS:
            with at(level):
                check(plain, *call.run(), promise=not cancels(case))


@pytest.mark.parametrize("given", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_decays_of_any_type(dtype: str, form: str, given: str) -> None:
    call = draw(Case(T=90, D=9, V=8, decay=form, dtype=dtype, strong=False))
    assert call.decay is not None
    call.decay = call.decay.astype(DTYPES[given])
    hold(call)


@pytest.mark.parametrize("form", ["token", "vector"])
def test_decays_of_any_stride(form: str) -> None:
    call = draw(Case(T=90, D=9, V=8, B=2, decay=form))
    expected = call.run()
    assert call.decay is not None
    for layout in STRIDES:
        assert all(map(same, call.run(decay=layout(call.decay)), expected))


def _backwards(x: Array) -> Array:
    return np.ascontiguousarray(x[:, ::-1])[:, ::-1]


def _every_other(x: Array) -> Array:
    whole = np.full((*x.shape[:-1], 2 * x.shape[-1]), 5, x.dtype)
    whole[..., ::2] = x
    return whole[..., ::2]


STRIDES: list[Any] = [np.asfortranarray, _backwards, _every_other]


def test_retention_by_lists() -> None:
    call = draw(Case(T=90, decay="head"))
    assert call.decay is not None
    assert all(map(same, call.run(decay=[float(g) for g in call.decay]), call.run()))


@pytest.mark.parametrize("form", FORMS)
def test_long_sequences(form: str) -> None:
    # Cumulative decays reach -1e5 and more.
    call = draw(Case(T=8000, D=8, V=8, H=1, decay=form))
    hold(call)
