"""The promise: what a call gives today it gives for ever, under one version of the formulas.

`golden.toml` pins outputs and states of small calls, and the SHA-256 of random features' matrices.
The other tests compare two implementations, which could change together; these numbers cannot.
Run as a program, this module writes the file, by the plain reference and not by the core::

    PYTHONPATH=tests python tests/attention/test_golden.py
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from attention import favor_formula, maps
from attention.calls import DTYPES, MAPS, Call, Case, true_state
from attention.levels import LEVELS, at
from attention.reference import Array
from corekit.attention import Favor, State

PATH = Path(__file__).with_name("golden.toml")

HEAD = """\
# Pinned results of attention. To change one of these numbers is to change what a call means for
# everybody who has made it: it takes a new version of the formulas (`version` here) and a heading
# in CHANGELOG.md. Cases may be added.
#
# `out`, `s` and `z` are outputs and final states (without the stabiliser of random features) of the
# inputs of `recipe` in test_golden.py, as float64 in C order, from a reference of more precision.
# Results agree with them within rounding. `sha256` is that of a matrix of random features,
# little-endian in C order, and agrees to the bit. Seeds are hexadecimal.
"""
VERSION = "1"

MATRICES = [
    {"n_features": m, "key_dim": D, "orthogonal": orthogonal, "seed": seed}
    for m, D, seed in [(1, 1, 0), (9, 4, 7), (70, 64, 2**64), (33, 16, 2**128 - 1)]
    for orthogonal in (True, False)
]


def cases() -> dict[str, Case]:
    """Return all cases, by what the file calls them."""
    small = Case(T=7, D=3, V=2, H=1, G=2, dtype="float64")
    found = {}
    for name in MAPS:
        found[f"{name}"] = small.but(map=name)
        found[f"{name}, normalised"] = small.but(map=name, normalize=True)
    for decay in ("head", "token", "vector"):
        found[f"elu1, normalised, decay of a {decay}"] = small.but(
            map="elu1", normalize=True, decay=decay
        )
    found["favor, decay of a token"] = small.but(map="favor", decay="token")
    found["identity, not causal"] = small.but(causal=False)
    found["exp, normalised, not causal"] = small.but(map="exp", normalize=True, causal=False)
    found["identity, packed"] = small.but(cu_seqlens=(0, 3, 3, 7))
    found["identity, scale 2"] = small.but(scale=2.0)
    found["identity, normalised, eps 10"] = small.but(normalize=True, eps=10.0)
    found["elu1, masked"] = small.but(map="elu1", mask=True)
    found["elu1, normalised, from a state"] = small.but(map="elu1", normalize=True, initial=True)
    return found


def recipe(*shape: int, seed: int, dtype: npt.DTypeLike) -> Array:
    """Return whole multiples of 2**-6 in [-2, 2): exact in float32, and in float16."""
    numbers = np.arange(np.prod(shape, dtype=int), dtype=np.uint64) + np.uint64(1000 * seed + 1)
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(56)).astype(np.float64) / 64 - 2).astype(dtype).reshape(shape)


def make(case: Case) -> Call:
    B, T, H, D, V = case.B, case.T, case.H, case.D, case.value_dim
    dtype = DTYPES[case.dtype]
    shape = {"head": (H,), "token": (B, T, H), "vector": (B, T, H, D)}.get(case.decay)
    mask = np.arange(T)[np.newaxis] % 3 != 1 if case.mask else None
    initial = None
    if case.initial:
        s = recipe(case.sequences, H, case.m, V, seed=5, dtype=dtype)
        initial = State(s, abs(recipe(case.sequences, H, case.m, seed=6, dtype=dtype)), None)
    return Call(
        case,
        recipe(B, T, H * case.G, D, seed=1, dtype=dtype),
        recipe(B, T, H, D, seed=2, dtype=dtype),
        recipe(B, T, H, V, seed=3, dtype=dtype),
        None if shape is None else -abs(recipe(*shape, seed=4, dtype=dtype)),
        mask,
        initial,
    )


def by_the_reference(case: Case) -> dict[str, list[float]]:
    answer = make(case).expected
    found = {"out": answer.out, "s": answer.s}
    if case.normalize:
        found["z"] = answer.z
    return {name: x.astype(np.float64).ravel().tolist() for name, x in found.items()}


def by_the_core(case: Case) -> dict[str, Array]:
    out, state = make(case).run()
    s, z = true_state(state, np.float64)
    found = {"out": out.astype(np.float64), "s": s}
    if z is not None:
        found["z"] = z
    return {name: x.ravel() for name, x in found.items()}


def digest(matrix: Array) -> str:
    little = (matrix + 0.0).astype("<f8")
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


GOLDEN: dict[str, Any] = tomllib.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
PINNED: dict[str, dict[str, list[float]]] = GOLDEN.get("call", {})


def sizes(case: Case) -> dict[str, float]:
    """How large the terms are that each number is a sum of, at most."""
    found = make(case).sizes
    return {"out": float(found.out.max()), "s": float(found.s.max()), "z": float(found.z.max())}


@pytest.mark.parametrize("name", list(PINNED))
def test_calls(name: str) -> None:
    case = cases()[name]
    for dtype, limit in [("float64", 1e-14), ("float32", 5e-6)]:
        of_type = case.but(dtype=dtype)
        size = sizes(of_type)
        for level in LEVELS:
            with at(level):
                got = by_the_core(of_type)
                assert set(got) == set(PINNED[name])
                for part, values in PINNED[name].items():
                    off = abs(got[part] - np.array(values))
                    assert (off <= limit * size[part]).all(), (part, dtype, level)


@pytest.mark.parametrize("name", list(PINNED))
def test_reference(name: str) -> None:
    # The plain formula is pinned too, beside the core.
    got, size = by_the_reference(cases()[name]), sizes(cases()[name])
    for part, values in PINNED[name].items():
        assert abs(np.array(got[part]) - np.array(values)).max() <= 1e-15 * size[part]


@pytest.mark.parametrize("pinned", GOLDEN.get("matrix", []), ids=str)
def test_matrices(pinned: dict[str, Any]) -> None:
    favor = Favor(
        pinned["n_features"], orthogonal=pinned["orthogonal"], seed=int(pinned["seed"], 16)
    )
    assert digest(favor.projection(pinned["key_dim"])) == pinned["sha256"]
    assert digest(favor_formula.matrix(favor, pinned["key_dim"])) == pinned["sha256"]


def test_all_cases_are_pinned() -> None:
    assert GOLDEN["version"] == VERSION
    assert list(PINNED) == list(cases())
    pinned = [
        {**{name: one[name] for name in one if name != "sha256"}, "seed": int(one["seed"], 16)}
        for one in GOLDEN["matrix"]
    ]
    assert pinned == MATRICES


def test_all_cases_differ() -> None:
    # But for the limit of power 1, which is Taylor's polynomial of order 1.
    outs = [tuple(one["out"]) for name, one in PINNED.items() if not name.startswith("limit 1")]
    assert len(set(outs)) == len(outs)
    # But for the one row of one entry, which nothing is orthogonal to.
    assert len({one["sha256"] for one in GOLDEN["matrix"]}) == len(MATRICES) - 1


def lines() -> Iterator[str]:
    yield HEAD
    yield f'version = "{VERSION}"'
    for matrix in MATRICES:
        favor = Favor(
            matrix["n_features"], orthogonal=bool(matrix["orthogonal"]), seed=matrix["seed"]
        )
        yield "\n[[matrix]]"
        yield f"n_features = {matrix['n_features']}"
        yield f"key_dim = {matrix['key_dim']}"
        yield f"orthogonal = {str(matrix['orthogonal']).lower()}"
        yield f'seed = "{matrix["seed"]:#x}"'
        yield f'sha256 = "{digest(favor_formula.matrix(favor, matrix["key_dim"]))}"'
    for name, case in cases().items():
        assert maps.size(case.feature_map, case.D) == case.m
        yield f'\n[call."{name}"]'
        for part, values in by_the_reference(case).items():
            yield f"{part} = {values}"


def main() -> None:
    """Write the file."""
    PATH.write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
