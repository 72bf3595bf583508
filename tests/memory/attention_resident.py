"""A process that measures what one call of attention adds to its resident memory.

Usage: ``attention_resident.py CASE``, a JSON object: call ("forward", "vjp", "softmax", "step"), T,
H, D, V, dtype, threads, and the options of the call. Inputs and output are made and touched first,
a small call brings in code and threads' stacks, and the system's high-water mark is set back. Then
what is new is the call's own. One line on standard output is a JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from corekit.attention import (
    ExponentialLimit,
    Favor,
    State,
    Taylor,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)
from memory.peak import _status

MAPS: dict[str, Any] = {
    "favor": Favor(128, seed=1),
    "taylor": Taylor(2),
    "pairs": ExponentialLimit(64),
}


def prepare(case: dict[str, Any], T: int) -> Callable[[], list[Any]]:
    """Return the call on T tokens; it returns the arrays that it has made."""
    H, D, V, dtype, threads = (case[name] for name in ("H", "D", "V", "dtype", "threads"))
    random = np.random.default_rng(1)
    q, k = (random.standard_normal((1, T, H, D), np.float32).astype(dtype) for _ in range(2))
    v = random.standard_normal((1, T, H, V), np.float32).astype(dtype)
    if case.get("bhtd"):
        q, k, v = (np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v))
    out = np.ones_like(v)
    options: dict[str, Any] = dict(case["options"])
    shape = {"token": (1, T, H), "vector": (1, T, H, D)}.get(options.pop("decay", ""))
    if shape is not None:
        options["decay"] = np.full(shape, -0.1, np.float32)
    if options.get("feature_map") in MAPS:
        options["feature_map"] = MAPS[options["feature_map"]]
    options["threads"] = threads
    match case["call"]:
        case "forward":
            return lambda: [linear_attention(q, k, v, out=out, **options)][:0]
        case "softmax":
            return lambda: [softmax_attention(q, k, v, out=out, **options)][:0]
        case "vjp":
            # A decay's gradient is an output as well.
            return lambda: [
                x for x in linear_attention_vjp(q, k, v, out, **options)[:4] if x is not None
            ]
        case "step":
            state = State.zeros(1, H, D, V)
            state.s.fill(1)
            return lambda: [
                linear_attention_step(state, q[:, 0], k[:, 0], v[:, 0], out=out[:, 0], **options)
            ][:0]
    raise ValueError(case)


def main(case: dict[str, Any]) -> None:
    prepare(case, 300)()
    call = prepare(case, case["T"])
    try:
        Path("/proc/self/clear_refs").write_text("5")
        exact = True
    except OSError:
        exact = False
    before = _status("VmRSS")
    made = call()
    added = _status("VmHWM") - before
    print(json.dumps({"added": added, "exact": exact, "output": sum(x.nbytes for x in made)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
