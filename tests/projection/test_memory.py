"""The promise: beyond its output a call takes less than 16 MiB a thread, whatever the input.

With srht, a thread holds a padded row, if that is more.

Nothing in proportion to the data, nothing in proportion to the matrix: the inputs here are some
hundred MiB, and the matrices would be. What CSR and CSC keep is a table of a few bytes a feature.
Measured as resident memory in a process of its own.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from children import run
from projection import resident
from projection.formula import KINDS
from projection.resident import MIB

PER_THREAD = 16 * MIB
# The pages of code that the call is the first to run, and what the allocator rounds up to.
CODE = 2 * MIB

BASE: dict[str, Any] = {
    "kind": "block-stack",
    "n": 20_000,
    "d": 2048,
    "k": 256,
    "dtype": "float32",
    "order": "C",
    "form": "dense",
    "call": "project",
    "out": True,
    "threads": 2,
}


def added(**changes: Any) -> int:
    """Return what a call has added to resident memory beyond its output."""
    said = json.loads(run(resident.__file__, json.dumps({**BASE, **changes})))
    if not said["exact"]:
        pytest.skip("the system does not let a process set its high-water mark back")
    return int(said["added"]) - int(said["output"])


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("out", [True, False])
def test_project(threads: int, out: bool) -> None:
    assert added(threads=threads, out=out) < threads * PER_THREAD + CODE


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
def test_types_and_orders(dtype: str, order: str) -> None:
    out = dtype != "int8"  # whose output is of another type
    assert added(dtype=dtype, order=order, out=out) < 2 * PER_THREAD + CODE


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    n = 2000 if kind in ("iid", "gaussian") else BASE["n"]
    assert added(kind=kind, n=n) < 2 * PER_THREAD + CODE
    # A matrix that would take 256 MiB and more, on a few rows.
    wide = {"kind": kind, "n": 4, "d": 262_144, "k": 512}
    assert added(**wide) < 2 * PER_THREAD + CODE


@pytest.mark.parametrize("call", ["project", "adjoint"])
@pytest.mark.parametrize("k", [12_000, 131_072])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "srht"])
def test_many_outputs(kind: str, dtype: str, order: str, k: int, call: str) -> None:
    d = 100 if kind == "iid" else 600
    case = {"kind": kind, "dtype": dtype, "order": order, "k": k, "call": call, "n": 70, "d": d}
    assert added(**case, threads=1) < PER_THREAD + CODE


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("kind", ["block-stack", "countsketch", "iid"])
def test_many_outputs_of_sparse_input(kind: str, form: str) -> None:
    pytest.importorskip("scipy.sparse")
    case = {"kind": kind, "form": form, "k": (1 << 20) + 1, "n": 5, "d": 300}
    assert added(**case, dtype="float64", threads=1) < PER_THREAD + CODE


@pytest.mark.parametrize("call", ["project", "adjoint"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_that_are_padded(dtype: str, call: str) -> None:
    case = {"kind": "srht", "dtype": dtype, "call": call, "n": 4, "d": (1 << 22) - 5}
    row = (1 << 22) * np.dtype(dtype).itemsize
    assert added(**case) < 2 * (max(PER_THREAD, row) + CODE)
    # Drawing a matrix takes 36 bytes for each output.
    assert added(**case, k=1 << 18) < 2 * (max(PER_THREAD, row) + CODE) + (36 << 18)


@pytest.mark.parametrize("call", ["adjoint", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_calls(kind: str, call: str) -> None:
    n = 2000 if kind in ("iid", "gaussian") else BASE["n"]
    assert added(kind=kind, call=call, n=n) < 2 * PER_THREAD + CODE


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_input(kind: str, form: str) -> None:
    pytest.importorskip("scipy.sparse")
    n, d = (2000, 20_000) if kind in ("iid", "gaussian", "srht") else (60_000, 200_000)
    table = 2 * 8 * d  # of k below 32768 and 8 entries a column
    assert added(kind=kind, form=form, n=n, d=d) < table + 2 * PER_THREAD + CODE
