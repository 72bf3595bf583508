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
    """Return a call that keeps a machine busy for many seconds, on two threads."""
    long = tokens(2_000_000, 8, 128)
    options: dict[str, Any] = {"threads": 2, "out": out}
    match situation:
        case "linear":
            return lambda: linear_attention(long, long, tokens(2_000_000, 8, 32), **options)
        case "linear of one head":
            x = tokens(20_000_000, 1, 128)
            return lambda: linear_attention(x, x, tokens(20_000_000, 1, 8), **options)
        case "linear without causality":
            return lambda: linear_attention(
                long, long, tokens(2_000_000, 8, 32), causal=False, **options
            )
        case "vector decay":
            decay = np.broadcast_to(np.float32(-0.1), long.shape)
            return lambda: linear_attention(
                long, long, tokens(2_000_000, 8, 32), decay=decay, **options
            )
        case "favor":
            favor = Favor(512, seed=1)
            return lambda: linear_attention(
                long, long, tokens(2_000_000, 8, 32), feature_map=favor, **options
            )
        case "pairs":
            x = tokens(100_000, 2, 64)
            limit = ExponentialLimit(64)
            return lambda: linear_attention(x, x, x, feature_map=limit, **options)
        case "softmax":
            x = tokens(200_000, 2, 64)
            return lambda: softmax_attention(x, x, x, **options)
        case "gradients":
            x, v = tokens(400_000, 8, 128), tokens(400_000, 8, 32)
            return lambda: linear_attention_vjp(x, x, v, v, threads=2)
        case "gradients with decay":
            x, v = tokens(200_000, 8, 128), tokens(200_000, 8, 32)
            decay = np.broadcast_to(np.float32(-0.1), (1, 200_000, 8))
            return lambda: linear_attention_vjp(x, x, v, v, decay=decay, normalize=True, threads=2)
        case "features":
            favor = Favor(256, seed=1)
            x = np.broadcast_to(np.float32(0.01), (1_000_000, 1024))
            return lambda: features(x, favor, threads=2)
    raise ValueError(situation)


def output(situation: str) -> Any:
    """Where the call writes to, poisoned; None where it makes its own."""
    shapes = {
        "linear": (1, 2_000_000, 8, 32),
        "linear of one head": (1, 20_000_000, 1, 8),
        "linear without causality": (1, 2_000_000, 8, 32),
        "vector decay": (1, 2_000_000, 8, 32),
        "favor": (1, 2_000_000, 8, 32),
        "pairs": (1, 100_000, 2, 64),
        "softmax": (1, 200_000, 2, 64),
    }
    shape = shapes.get(situation)
    return None if shape is None else np.full(shape, POISON, np.float32)


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
