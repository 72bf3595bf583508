"""A process that asks for what it has no memory for.

Usage: ``refused.py NAME``. After a first call, which brings in code and threads, the address space
may grow by 400 MiB and no more. It prints "refused" if a call that needs more ends in
`OutOfMemoryError`, or "done" if it found a way; anything else is a traceback, or no end at all.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from corekit.errors import OutOfMemoryError
from corekit.projection import SparseProjection

ROOM = 400 << 20


def job(name: str) -> Callable[[], object]:
    """Return a call; what it is given exists already."""
    if name == "strata":
        return lambda: SparseProjection(10, 2**31 - 1, column_nnz=2**31 - 1, seed=1)
    if name == "fewer strata":
        return lambda: SparseProjection(10, 2**27, column_nnz=2**27, seed=1)
    if name in ("gaussian columns", "srht columns", "block-stack columns"):
        kind = name.split(" ")[0]
        projection = SparseProjection(10**7, 1000, kind=kind, seed=1)  # type: ignore[arg-type]
        columns = np.arange(4_000_000 if kind == "block-stack" else 40_000)
        return lambda: projection.submatrix(columns)
    if name == "a row":
        projection = SparseProjection(4 * 10**7, 4, kind="gaussian", seed=1)
        n = 2 * 10**7
        parts = np.ones(n, np.float32), np.arange(n, dtype=np.int32)[::-1], np.array([0, n])
        X = csr_array(parts, shape=(1, 4 * 10**7))
        return lambda: projection.project(X)
    if name == "a padded row":
        projection = SparseProjection(2**26, 4, kind="srht", seed=1)
        X = csr_array((1, 2**26), dtype=np.float64)
        return lambda: projection.project(X)
    kind, form = name.split(" ")
    projection = SparseProjection(4, 50_000_000, kind=kind, seed=1)  # type: ignore[arg-type]
    row = np.ones((1, 4), np.float16)
    given = row if form == "dense" else csr_array(row.astype(np.float32))
    return lambda: projection.project(given)


def main(name: str) -> None:
    """Do it."""
    small = SparseProjection(100, 32, seed=1)
    small.project(np.zeros((3000, 100)))
    small.submatrix([1])
    call = job(name)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        call()
        print("done")
    except OutOfMemoryError:
        print("refused")


if __name__ == "__main__":
    main(sys.argv[1])
