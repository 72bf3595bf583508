"""A process that presses Ctrl-C on itself in the middle of a call.

Usage: ``interrupted.py KIND CALL``, or ``interrupted.py few NAME`` for a call on a small array that
has much to do all the same. It says in one line on standard output how long the call went on; a
check that fails is a traceback and exit code 1.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from children import threads_beside_pool
from corekit.projection import SparseProjection
from projection.operators import Array, data, make, same

A_MOMENT = 0.2
POISON = 7


def rows(n: int, width: int) -> Array:
    """Return very many rows that take the memory of one."""
    row = np.ones((1, width), np.float32)
    return np.broadcast_to(row, (n, width))


def work(kind: str, call: str) -> tuple[SparseProjection, Array, tuple[int, int]]:
    """Return what keeps a machine busy for many seconds, and the shape of its output.

    Long rows, so that little of the work is output.
    """
    k = 64
    d = 1 << 17 if kind in ("iid", "gaussian", "srht") else 1 << 20
    n = 100_000
    projection = make(kind, d, k)
    if call == "adjoint":
        # As many outputs as features: fewer rows of more work each.
        projection = make(kind, 200, 1 << 13)
        n = 300_000
        return projection, rows(n, projection.n_components), (n, 200)
    if call == "left":
        return projection, rows(n, d).T, (k, n)
    return projection, rows(n, d), (n, k)


def few(name: str) -> tuple[Callable[[], object], Array]:
    """Return a call that is long because the matrix is large, and its output if it takes one."""
    if name == "submatrix":
        # Many draws, and hardly an entry.
        projection = SparseProjection(10**6, 10**6, kind="iid", density=1e-6, seed=1)
        return lambda: projection.submatrix(np.arange(50_000)), np.full(1, POISON)
    cases: dict[str, tuple[int, int, int, dict[str, Any]]] = {
        "gaussian": (2000, 400_000, 100, {"kind": "gaussian"}),
        "iid": (300, 20_000_000, 1, {"kind": "iid"}),
        "adjoint": (300, 4_000_000, 1, {"kind": "iid"}),
        "entries": (2000, 1_000_000, 1, {"kind": "stack", "column_nnz": 100_000}),
        "sparse": (2000, 500_000, 1, {"kind": "stack", "column_nnz": 100_000}),
    }
    d, k, n, options = cases[name]
    projection = SparseProjection(d, k, seed=1, **options)
    X: Any = np.ones((n, k if name == "adjoint" else d), np.float16)
    out = np.full((n, d if name == "adjoint" else k), POISON, np.float16)
    if name == "sparse":
        rows = np.ones((n, d), np.float32)
        X = importlib.import_module("scipy.sparse").csr_array(rows)
        out = np.full((n, k), POISON, np.float32)
    call = projection.adjoint if name == "adjoint" else projection.project
    return lambda: call(X, out=out, threads=2), out


def many(kind: str, call: str) -> tuple[Callable[[], object], Array]:
    """Return a call on very many rows, and its output."""
    projection, X, shape = work(kind, call)
    out = np.full(shape, POISON, np.float32)
    return lambda: getattr(projection, call)(X, out=out, threads=2), out


def main(kind: str, call: str) -> None:
    # Ctrl-C may be off in what the tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work_long, out = few(call) if kind == "few" else many(kind, call)
    before = threads_beside_pool()
    sent_at = 0.0

    def press() -> None:
        nonlocal sent_at
        time.sleep(A_MOMENT)
        sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    key = threading.Thread(target=press)
    key.start()
    try:
        work_long()
    except KeyboardInterrupt:
        waited = time.monotonic() - sent_at
    else:
        raise SystemExit("it ran to its end")
    key.join()
    assert (out == POISON).any(), "it was done"
    # A joined thread stays in the list until the system has taken it down.
    until = time.monotonic() + 5
    while threads_beside_pool() != before and time.monotonic() < until:
        time.sleep(0.001)
    assert threads_beside_pool() == before, "a thread was left running"
    kind = "block-stack" if kind == "few" else kind
    again = make(kind, 50, 20)
    rest = data(500, 50)
    assert same(again.project(rest), make(kind, 50, 20).project(rest.copy()))
    print(f"KeyboardInterrupt after {waited:.3f} s, and then all was well")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
