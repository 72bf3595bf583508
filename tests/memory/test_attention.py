"""The promise: attention takes next to no memory beyond what it returns.

The forward pass takes less than a mebibyte a thread beyond outputs and saved states for up to 128
features, whatever the length; softmax never has a matrix of all pairs; gradients take at most the
bytes of q, k and v once more. Measured as resident memory in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory import attention_resident
from memory.peak import MIB, PATIENCE

# Pages of code that a call is the first to run, stacks, and what the allocator rounds up to.
CODE = 2 * MIB
FEW = 4 * MIB

BASE: dict[str, Any] = {
    "call": "forward",
    "T": 30_000,
    "H": 4,
    "D": 64,
    "V": 64,
    "dtype": "float32",
    "threads": 2,
    "options": {},
}


def added(**changes: Any) -> int:
    """Return what a call has added to resident memory beyond what it returned."""
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, attention_resident.__file__, json.dumps({**BASE, **changes})],
        env={**os.environ, "PYTHONPATH": tests},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    said = json.loads(done.stdout)
    if not said["exact"]:
        pytest.skip("the system does not let a process set its high-water mark back")
    return int(said["added"]) - int(said["output"])


def inputs(**changes: Any) -> int:
    """The bytes of q, k and v."""
    case = {**BASE, **changes}
    elements = int(case["T"] * case["H"] * (2 * case["D"] + case["V"]))
    return elements * int(np.dtype(case["dtype"]).itemsize)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"feature_map": "elu1", "normalize": True},
        {"causal": False},
        {"decay": "token"},
        {"decay": "vector"},
        {"feature_map": "favor", "normalize": True},
    ],
    ids=str,
)
def test_forward(options: dict[str, Any], threads: int) -> None:
    assert added(options=options, threads=threads) < threads * MIB + CODE


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("bhtd", [False, True])
def test_types_and_layouts(dtype: str, bhtd: bool) -> None:
    for H, D in [(1, 128), (8, 32)]:
        assert added(dtype=dtype, bhtd=bhtd, H=H, D=D, V=D) < 2 * MIB + CODE


def test_pairs_and_softmax() -> None:
    # A matrix of all pairs would take 256 MiB.
    short = {"T": 8000, "H": 1, "V": 64}
    assert added(**short, call="softmax") < 2 * MIB + CODE
    options = {"feature_map": "pairs"}
    assert added(**{**short, "T": 3000}, options=options) < 2 * MIB + CODE


def test_steps() -> None:
    assert added(call="step", T=2, H=64, D=256, V=256) < CODE


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"feature_map": "elu1", "normalize": True},
        {"causal": False},
        {"decay": "token"},
        {"decay": "vector"},
        {"feature_map": "favor", "normalize": True},
    ],
    ids=str,
)
def test_gradients(options: dict[str, Any], threads: int) -> None:
    got = added(call="vjp", options=options, threads=threads)
    assert got < inputs() + threads * MIB + FEW


@pytest.mark.parametrize(("H", "D", "V"), [(1, 128, 128), (8, 32, 32), (4, 128, 32), (4, 32, 128)])
def test_gradients_of_other_shapes(H: int, D: int, V: int) -> None:
    for dtype in ("float32", "float64"):
        shape: dict[str, Any] = {"H": H, "D": D, "V": V, "dtype": dtype}
        assert added(call="vjp", **shape) < inputs(**shape) + 2 * MIB + FEW


def test_twice_the_length_is_twice_the_memory() -> None:
    # Linear in T: no tensor of a state a token.
    one = added(call="vjp", T=20_000, options={"decay": "token"})
    two = added(call="vjp", T=40_000, options={"decay": "token"})
    assert two < 2 * one + FEW
