"""A process that says which SIMD level the machine has, and what came out.

The environment's COREKIT_SIMD chooses the level of the kernels; one that the machine lacks is
refused. One line on standard output is a JSON object: ``machine``, the highest level, and
``sha256``, the hashes of the outputs of every kind of call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from corekit import _core
from projection.formula import KINDS
from projection.operators import Array, data, make


def expected_levels() -> list[str]:
    """Return the levels that this machine has, by what the system says of its processor."""
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    levels = ["scalar"]
    if "asimd" in flags:
        levels.append("neon")
    if {"avx2", "fma"} <= flags:
        levels.append("avx2")
        if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags:
            levels.append("avx512")
    return levels


def outputs() -> Iterator[tuple[str, Array]]:
    """Give the outputs of calls that take every way through the kernels."""
    for kind in KINDS:
        for n, d, k in [(1, 5, 3), (67, 131, 40), (9, 1025, 300), (300, 40, 512), (33, 64, 128)]:
            projection = make(kind, d, k)
            k = projection.n_components
            for dtype in ("float32", "float64", "float16", "int16"):
                X, Y = data(n, d, dtype), data(n, k, dtype)
                where = f"{kind} {n} {d} {k} {dtype}"
                yield f"project {where}", projection.project(X)
                yield f"project in Fortran order {where}", projection.project(np.asfortranarray(X))
                yield f"project backwards {where}", projection.project(X[::-1, ::-1])
                yield f"adjoint {where}", projection.adjoint(Y)
                yield f"left {where}", projection.left(np.ascontiguousarray(X.T))
            yield f"matrix {kind} {d} {k}", projection.to_dense()


def main() -> None:
    print(
        json.dumps(
            {
                "machine": _core.build_info()["simd_level"],
                "sha256": {
                    name: hashlib.sha256(np.ascontiguousarray(out).tobytes()).hexdigest()
                    for name, out in outputs()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
