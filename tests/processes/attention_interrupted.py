"""A process that presses Ctrl-C on itself in the middle of a call of attention.

Usage: ``attention_interrupted.py SITUATION``. It says in one line on standard output how long the
call went on; a check that fails is a traceback and exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from corekit.attention import (
    ExponentialLimit,
    Favor,
    features,
    linear_attention,
    linear_attention_vjp,
    softmax_attention,
)

A_MOMENT = 0.2
POISON = 7


def tokens(T: int, H: int, D: int) -> Any:
    """Very many tokens that take the memory of one."""
    return np.broadcast_to(np.float32(0.01), (1, T, H, D))


def call(situation: str, out: Any = None) -> Callable[[], object]:
    """Return a call that keeps a machine busy for many seconds, on two threads.

    Wide heads of q and k and narrow ones of v: little of the work is output.
    """
    T, H, D, V = SHAPES.get(situation, (0, 0, 0, 0))
    q, v = tokens(T, H, D), tokens(T, H, V)
    options: dict[str, Any] = {"threads": 2, "out": out}
    match situation:
        case "linear" | "linear of one head":
            return lambda: linear_attention(q, q, v, **options)
        case "linear without causality":
            return lambda: linear_attention(q, q, v, causal=False, **options)
        case "vector decay":
            decay = np.broadcast_to(np.float32(-0.1), q.shape)
            return lambda: linear_attention(q, q, v, decay=decay, **options)
        case "favor":
            favor = Favor(1024, seed=1)
            return lambda: linear_attention(q, q, v, feature_map=favor, **options)
        case "pairs":
            limit = ExponentialLimit(64)
            return lambda: linear_attention(q, q, v, feature_map=limit, **options)
        case "softmax":
            return lambda: softmax_attention(q, q, v, **options)
        case "gradients":
            x = tokens(20_000, 2, 1024)
            return lambda: linear_attention_vjp(x, x, x, x, threads=2)
        case "gradients with decay":
            x = tokens(20_000, 2, 1024)
            decay = np.broadcast_to(np.float32(-0.1), (1, 20_000, 2))
            return lambda: linear_attention_vjp(x, x, x, x, decay=decay, normalize=True, threads=2)
        case "features":
            favor = Favor(256, seed=1)
            rows = np.broadcast_to(np.float32(0.01), (200_000, 8192))
            return lambda: features(rows, favor, threads=2)
        case "matrix":
            return lambda: Favor(2048, seed=1).projection(2048)
    raise ValueError(situation)


# T, H, D, V of what has an output to write to.
SHAPES = {
    "linear": (2_000_000, 4, 1024, 4),
    "linear of one head": (8_000_000, 1, 1024, 4),
    "linear without causality": (8_000_000, 4, 1024, 4),
    "vector decay": (200_000, 4, 1024, 4),
    "favor": (500_000, 4, 128, 4),
    "pairs": (100_000, 2, 64, 64),
    "softmax": (200_000, 2, 64, 64),
}


def output(situation: str) -> Any:
    """Where the call writes to, poisoned; None where it makes its own."""
    if situation not in SHAPES:
        return None
    T, H, _, V = SHAPES[situation]
    return np.full((1, T, H, V), POISON, np.float32)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def main(situation: str) -> None:
    # Ctrl-C may be off in what the tests were started from.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = output(situation)
    long = call(situation, out)
    # Some threads stay for the next call.
    x = np.random.default_rng(1).standard_normal((1, 5000, 8, 32))
    expected = linear_attention(x, x, x, threads=2)
    before = threads()
    sent_at = 0.0

    def press() -> None:
        nonlocal sent_at
        time.sleep(A_MOMENT)
        sent_at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    key = threading.Thread(target=press)
    key.start()
    try:
        long()
    except KeyboardInterrupt:
        waited = time.monotonic() - sent_at
    else:
        raise SystemExit("it ran to its end")
    key.join()
    assert out is None or (out == POISON).any(), "it was done"
    # A joined thread stays in the list until the system has taken it down.
    until = time.monotonic() + 5
    while threads() > before and time.monotonic() < until:
        time.sleep(0.001)
    assert threads() <= before, "a thread was left"
    # And those that stay do nothing.
    used = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - used < 0.1, "a thread was left running"
    assert np.array_equal(linear_attention(x, x, x, threads=2), expected)
    print(f"KeyboardInterrupt after {waited:.3f} s, and then all was well")


if __name__ == "__main__":
    main(sys.argv[1])
