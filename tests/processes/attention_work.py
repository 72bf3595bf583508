"""What the children of the tests of attention do: importable, so that all of them find it."""

from __future__ import annotations

import hashlib

import numpy as np

from corekit.attention import (
    Favor,
    State,
    Taylor,
    features,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)

MAP = Favor(40, seed=9)


def everything(threads: int = 3, seed: int = 1) -> str:
    """Use each function once, at sizes that start threads; return a hash of all that came out."""
    random = np.random.default_rng(seed)
    q, k, v = random.standard_normal((3, 2, 400, 4, 32)).astype(np.float32)
    options = {"feature_map": "elu1", "normalize": True}
    out, state = linear_attention(q, k, v, return_state=True, threads=threads, **options)  # type: ignore[call-overload]
    grads = linear_attention_vjp(q, k, v, out, threads=threads)
    large = State.zeros(4, 8, 256, 256)
    token = random.standard_normal((4, 8, 256)).astype(np.float32)
    found = [
        out,
        state.s,
        *grads[:3],
        linear_attention_step(large, token, token, token, threads=threads),
        large.s,
        softmax_attention(q, k, v, threads=threads),
        linear_attention(q, k, v, feature_map=MAP, threads=threads),
        linear_attention(q, k, v, causal=False, feature_map=Taylor(2), threads=threads),
        features(q, MAP, threads=threads),
    ]
    digest = hashlib.sha256()
    for array in found:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def refused() -> None:
    x = np.ones((1, 5, 1, 128), np.float32)
    linear_attention(x, x, x, feature_map=Taylor(3), return_state=True)
