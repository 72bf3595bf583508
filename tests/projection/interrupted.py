"""A process that presses Ctrl-C on itself in the middle of a call.

Usage: ``interrupted.py KIND CALL``. It says in one line on standard output how long the call went
on; a check that fails is a traceback and exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np

from corekit.projection import SparseProjection
from projection.children import threads_beside_pool
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


def main(kind: str, call: str) -> None:
    # Ctrl-C may be off in what the tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    projection, X, shape = work(kind, call)
    out = np.full(shape, POISON, np.float32)
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
        getattr(projection, call)(X, out=out, threads=2)
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
    again = make(kind, 50, 20)
    few = data(500, 50)
    assert same(again.project(few), make(kind, 50, 20).project(few.copy()))
    print(f"KeyboardInterrupt after {waited:.3f} s, and then all was well")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
