"""The promise: outputs and states are those of the recurrence, at every SIMD level.

At lengths around every edge of a block, for heads of any size, for every map, decay, mask,
packing, layout and type: each value as near as roundings allow, and all together as near as is
promised. Outputs are full of NaN before.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from attention import maps
from attention.calls import DECAYS, MAPS, Case, cancels, cases, check, draw, each
from attention.levels import LEVELS, at, hold

LENGTHS = [0, 1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 127, 128, 129, 257, 1000]
SIZES = [
    (1, 1),
    (1, 7),
    (2, 33),
    (7, 2),
    (16, 16),
    (33, 80),
    (64, 64),
    (80, 33),
    (128, 1),
    (64, 128),
    (128, 128),
    (129, 65),
]


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize(
    "options",
    [
        {"map": "elu1", "normalize": True},
        {"map": "identity", "decay": "token", "initial": True},
        {"map": "relu", "decay": "vector"},
        {"map": "favor", "normalize": True, "decay": "head"},
        {"map": "taylor 2", "D": 5, "normalize": True},
        {"map": "elu1", "normalize": True, "causal": False, "initial": True},
    ],
    ids=str,
)
def test_lengths(T: int, options: dict[str, Any]) -> None:
    case = Case(T=T, V=24, B=2 if T < 500 else 1, seed=T).but(**options)
    hold(draw(case))
    hold(draw(case.but(dtype="float64", T=min(T, 300))))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 8, 16, 17, 32, 64, 100, 128, 1024])
def test_chunks(chunk_size: int, causal: bool) -> None:
    for T in {max(0, chunk_size - 1), chunk_size, chunk_size + 1, 2 * chunk_size, 150}:
        case = Case(T=T, D=20, V=17, H=1, chunk_size=chunk_size, causal=causal, map="elu1")
        hold(draw(case))
        hold(draw(case.but(normalize=True, decay="token" if causal else "none", T=min(T, 300))))
        if causal:
            hold(draw(case.but(decay="vector", T=min(T, 300))))


@pytest.mark.parametrize(("D", "V"), SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_head_sizes(D: int, V: int, dtype: str) -> None:
    case = Case(T=70, D=D, V=V, H=3, dtype=dtype, initial=True)
    hold(draw(case))
    hold(draw(case.but(map="elu1", normalize=True)))
    hold(draw(case.but(causal=False)))
    hold(draw(case.but(decay="vector")))
    hold(draw(case.but(map="favor", normalize=True, size=0.5)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", list(MAPS))
def test_maps(name: str, normalize: bool, dtype: str) -> None:
    D = 5 if "taylor" in name or "limit" in name else 24
    case = Case(T=100, D=D, V=10, B=2, map=name, normalize=normalize, dtype=dtype, initial=True)
    promise = not cancels(case)
    hold(draw(case), promise=promise)
    hold(draw(case.but(causal=False)), promise=promise)
    hold(draw(case.but(scale=0.7, mask=True, G=2)), promise=promise)
    for decay in DECAYS[1:] if name in maps.ELEMENTWISE else DECAYS[1:3]:
        hold(draw(case.but(decay=decay, layout="bhtd")), promise=promise)


@pytest.mark.parametrize("G", [1, 2, 3, 8])
@pytest.mark.parametrize("layout", ["bthd", "bhtd"])
def test_groups_of_heads(G: int, layout: str) -> None:
    for options in each(
        {}, {"causal": False}, {"decay": "token"}, {"map": "favor", "normalize": True}
    ):
        hold(draw(Case(T=75, H=2, B=2, G=G, layout=layout, initial=True).but(**options)))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(
    "cu_seqlens",
    [(0, 0), (0, 200), (0, 0, 200), (0, 200, 200), (0, 1, 2, 3, 200), (0, 64, 64, 64, 129, 200)],
    ids=str,
)
def test_packing(cu_seqlens: tuple[int, ...], mask: bool, causal: bool) -> None:
    case = Case(
        T=cu_seqlens[-1], D=20, V=12, H=2, G=2, cu_seqlens=cu_seqlens, mask=mask, causal=causal
    )
    for name in ("identity", "elu1", "favor", "taylor 1"):
        hold(draw(case.but(map=name)))
        normalized = case.but(map=name, normalize=True, initial=True)
        hold(draw(normalized), promise=not cancels(normalized))
    if causal:
        hold(draw(case.but(decay="token")))
        hold(draw(case.but(decay="vector", map="exp", initial=True)))


@pytest.mark.parametrize("B", [0, 1, 3])
@pytest.mark.parametrize("H", [0, 1, 5])
def test_batches_and_heads(B: int, H: int) -> None:
    for options in each({"decay": "vector"}, {"map": "elu1", "normalize": True, "causal": False}):
        hold(draw(Case(T=40, B=B, H=H, initial=True).but(**options)))


@pytest.mark.parametrize("axis", ["D", "V"])
def test_heads_of_no_size(axis: str) -> None:
    for options in each({}, {"normalize": True}, {"causal": False}, {"decay": "token"}):
        hold(draw(Case(T=40, initial=True, V=8).but(**options).but(**{axis: 0})))


@settings(max_examples=120)
@given(case=cases())
def test_any_call(case: Case) -> None:
    call = draw(case)
    for level in LEVELS:
        with at(level):
            check(call, *call.run(), promise=not cancels(case))
