"""A process that measures what one call adds to its resident memory.

Usage: ``resident.py CASE``, a JSON object: kind, n, d, k, dtype, order, form ("dense", "csr",
"csc"), call, out, threads. The input is made and touched first, a small call brings in code and
threads' stacks, and the system's high-water mark is set back. Then what is new is the
call's own. One line on standard output is a JSON object.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from corekit.projection import SparseProjection
from projection.operators import Array

MIB = 1 << 20


def status(name: str) -> int:
    """Return a size that the kernel knows of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def filled(shape: tuple[int, int], dtype: Any, order: Any) -> Array:
    """Return an array all pages of which are there."""
    array = np.empty(shape, dtype, order=order)
    array.fill(1)
    return array


def sparse(n: int, d: int, dtype: Any, form: str) -> Any:
    library = importlib.import_module("scipy.sparse")
    random = np.random.default_rng(1)
    row = np.sort(random.integers(0, d, (n, 50), dtype=np.int32), axis=1)
    parts = (np.ones(row.size, dtype), row.ravel(), np.arange(0, row.size + 1, 50, dtype=np.int32))
    X = library.csr_array(parts, shape=(n, d))
    X.sum_duplicates()
    return X if form == "csr" else X.tocsc()


def main(case: dict[str, Any]) -> None:
    n, d, k = case["n"], case["d"], case["k"]
    dtype, order, threads = case["dtype"], case["order"], case["threads"]
    small = SparseProjection(64, 32, kind=case["kind"], seed=1)
    for name in ("project", "adjoint", "left"):
        getattr(small, name)(np.ones((64, 64 if name != "adjoint" else 32), dtype), threads=threads)
    projection = SparseProjection(d, k, kind=case["kind"], seed=1)
    shapes = {"project": ((n, d), (n, k)), "adjoint": ((n, k), (n, d)), "left": ((d, n), (k, n))}
    shape, shape_out = shapes[case["call"]]
    X = (
        filled(shape, dtype, order)
        if case["form"] == "dense"
        else sparse(n, d, dtype, case["form"])
    )
    out = filled(shape_out, dtype, "C") if case["out"] else None
    call = getattr(projection, case["call"])
    try:
        Path("/proc/self/clear_refs").write_text("5")
        exact = True
    except OSError:
        exact = False
    before = status("VmRSS")
    Y = call(X, out=out, threads=threads)
    added = status("VmHWM") - before
    print(json.dumps({"added": added, "exact": exact, "output": 0 if case["out"] else Y.nbytes}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
