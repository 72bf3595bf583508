"""The promise: what a seed gives today it gives for ever, under one version of the formulas.

`golden.toml` pins the SHA-256 of matrices and of what they make of fixed inputs. The other tests
compare two implementations, which could change together (a new release of NumPy, say);
these hashes cannot. Run as a program, this module writes the file, by the plain formula and not
by the core::

    PYTHONPATH=tests python tests/projection/test_golden.py
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from corekit.projection import SparseProjection
from projection import formula
from projection.formula import KINDS
from projection.operators import Array

PATH = Path(__file__).with_name("golden.toml")

HEAD = """\
# Pinned matrices and products. To change one of these hashes is to change what a seed means for
# everybody who has used it: it takes a new version of the formulas (VERSION in
# python/corekit/projection/_operator.py, and `version` here) and a heading in CHANGELOG.md. Cases
# may be added.
#
# `matrix` is the SHA-256 of the matrix in float64; `float32` and `float64` are those of its product
# with the input of `recipe` in test_golden.py. All are little-endian, in C order, with positive
# zeros. Seeds are hexadecimal.
"""

SHAPES = [(1, 1), (40, 10), (37, 100), (100, 192), (33, 300), (1025, 1000)]
SEEDS = [0, 7, 2**64, 2**128 - 1]


def cases() -> list[dict[str, Any]]:
    """Return the parameters of all cases."""
    every: list[dict[str, Any]] = []
    for number, (d, k) in enumerate(SHAPES):
        for kind in KINDS:
            most = min(k, 1 << (d - 1).bit_length()) if kind == "srht" else k
            every.append(
                {"kind": kind, "n_features": d, "n_components": most, "seed": SEEDS[number % 4]}
            )
    base = {"n_features": 70, "seed": 7}
    every += [
        {**base, "kind": kind, "n_components": k, "column_nnz": s}
        for k, s in [(10, 3), (64, 1), (64, 64), (129, 16), (1000, 3)]
        for kind in ("block-stack", "stack")
    ]
    iid = {**base, "kind": "iid", "n_components": 33}
    return every + [{**iid, "density": density} for density in (1.0, 0.01, 2.0**-20)]


def recipe(n: int, d: int, dtype: npt.DTypeLike) -> Array:
    """Return rows of whole multiples of 2**-12 in [-8, 8): exact in either type."""
    numbers = np.arange(n * d, dtype=np.uint64).reshape(n, d)
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(48)).astype(np.float64) / 4096 - 8).astype(dtype)


def digest(array: Array) -> str:
    little = (array + array.dtype.type(0)).astype(array.dtype.newbyteorder("<"))
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


def by_the_core(projection: SparseProjection) -> dict[str, str]:
    d = projection.n_features
    return {
        "matrix": digest(projection.to_dense()),
        "float32": digest(projection.project(recipe(5, d, np.float32))),
        "float64": digest(projection.project(recipe(5, d, np.float64))),
    }


def by_the_formula(projection: SparseProjection) -> dict[str, str]:
    d = projection.n_features
    return {
        "matrix": digest(formula.dense(projection)),
        "float32": digest(formula.project(projection, recipe(5, d, np.float32), np.float32)),
        "float64": digest(formula.project(projection, recipe(5, d, np.float64), np.float64)),
    }


GOLDEN: dict[str, Any] = tomllib.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
PINNED: list[dict[str, Any]] = GOLDEN.get("projection", [])


def parameters(pinned: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a pinned case."""
    case = {name: pinned[name] for name in pinned if name not in ("matrix", "float32", "float64")}
    return {**case, "seed": int(case["seed"], 16)}


def name(case: dict[str, Any]) -> str:
    return " ".join(str(value) for value in case.values())


@pytest.mark.parametrize("pinned", PINNED, ids=lambda pinned: name(parameters(pinned)))
def test_projection(pinned: dict[str, Any]) -> None:
    case = parameters(pinned)
    projection = SparseProjection(**case)
    assert projection.version == GOLDEN["version"]
    expected = {name: pinned[name] for name in ("matrix", "float32", "float64")}
    assert by_the_core(projection) == expected


@pytest.mark.parametrize("pinned", PINNED, ids=lambda pinned: name(parameters(pinned)))
def test_formula(pinned: dict[str, Any]) -> None:
    # The plain formula is pinned too, beside the core.
    matrix = formula.dense(SparseProjection(**parameters(pinned)))
    assert digest(matrix) == pinned["matrix"]


def test_all_cases_are_pinned() -> None:
    assert [parameters(pinned) for pinned in PINNED] == cases()


def stratified(pinned: dict[str, Any]) -> tuple[int, int]:
    """Return k and s of a stack."""
    return pinned["n_components"], pinned.get("column_nnz", min(8, pinned["n_components"]))


def test_all_cases_differ() -> None:
    # But for blocks of one feature, which make a stack, and for matrices of one entry.
    large = [
        pinned
        for pinned in PINNED
        if pinned["n_features"] > 1
        and not (pinned["kind"] == "block-stack" and formula.width(*stratified(pinned)) == 1)
    ]
    assert len({pinned["matrix"] for pinned in large}) == len(large)
    assert len({pinned["float32"] for pinned in large}) == len(large)


def main() -> None:
    """Write the file."""
    version = SparseProjection(1, 1, seed=0).version
    lines = [HEAD, f'version = "{version}"']
    for case in cases():
        lines.append("\n[[projection]]")
        hashes = by_the_formula(SparseProjection(**case))
        for key, value in {**case, "seed": hex(case["seed"]), **hashes}.items():
            lines.append(f"{key} = " + (f'"{value}"' if isinstance(value, str) else repr(value)))
    PATH.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
