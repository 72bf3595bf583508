"""The promise: how the work is done is never seen in the values, not in one bit.

Not the number of threads, not the rows of one call or of many, not a memory map, not the
instruction set, not other calls at the same time, not a fork.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from children import PATIENCE, run
from corekit.errors import InvalidArgumentError
from corekit.projection import SparseProjection
from projection import levels
from projection.formula import KINDS
from projection.operators import Array, data, make, projections

THREADS = [1, 2, 3, 7]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("kind", KINDS)
def test_threads(kind: str, dtype: str) -> None:
    for n, d, k in [(1, 700, 200), (5, 67, 40), (1000, 130, 64), (67, 1025, 300)]:
        projection = make(kind, d, k)
        k = projection.n_components
        X, Y, Z = data(n, d, dtype), data(n, k, dtype), data(d, n, dtype)
        calls = [(projection.project, X), (projection.adjoint, Y), (projection.left, Z)]
        calls += [(projection.project, np.asfortranarray(X))]
        for call, argument in calls:
            bits = {call(argument, threads=threads).tobytes() for threads in THREADS}
            assert len(bits) == 1, (call, n)


@pytest.mark.parametrize("form", ["csr_array", "csc_array"])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_on_sparse_input(kind: str, form: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for n, d, k in [(1, 700, 200), (1000, 130, 64), (67, 1025, 300)]:
        X = data(n, d)
        X[np.random.default_rng(1).random(X.shape) < 0.9] = 0
        projection, given = make(kind, d, k), getattr(sparse, form)(X)
        assert len({projection.project(given, threads=t).tobytes() for t in THREADS}) == 1


@given(projection=projections(), n=st.integers(1, 60), cuts=st.lists(st.integers(0, 60)))
def test_rows_in_pieces(projection: SparseProjection, n: int, cuts: list[int]) -> None:
    X = data(n, projection.n_features)
    whole = projection.project(X)
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    parts = [projection.project(X[a:b]) for a, b in pairwise(edges)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    Y = data(n, projection.n_components)
    parts = [projection.adjoint(Y[a:b]) for a, b in pairwise(edges)]
    assert np.concatenate(parts).tobytes() == projection.adjoint(Y).tobytes()
    parts = [projection.left(X.T[:, a:b]) for a, b in pairwise(edges)]
    assert np.concatenate(parts, axis=1).tobytes() == projection.left(X.T).tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_memory_maps(tmp_path: Path, kind: str, order: Any) -> None:
    X = np.array(data(300, 67), order=order)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.flags.c_contiguous == (order == "C")
    projection = make(kind, 67, 40)
    expected = projection.project(X)
    assert projection.project(mapped).tobytes() == expected.tobytes()
    out = np.lib.format.open_memmap(
        tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=expected.shape
    )
    assert projection.project(mapped, out=out) is out
    out.flush()
    assert np.load(tmp_path / "y.npy").tobytes() == expected.tobytes()


@cache
def child(level: str | None) -> tuple[str, dict[str, str]]:
    """Return the machine's level, by a process that runs at this one, and hashes of outputs."""
    said = json.loads(run(levels.__file__, COREKIT_SIMD=level))
    return said["machine"], said["sha256"]


@pytest.mark.parametrize("level", levels.expected_levels())
def test_every_level_of_this_machine_gives_the_same_bits(level: str) -> None:
    # A level that the core does not find is refused, so the child would have failed.
    machine, bits = child(level)
    assert machine == levels.expected_levels()[-1], "the core misses a level that there is"
    _, expected = child(None)
    differing = [name for name in expected if bits[name] != expected[name]]
    assert not differing
    assert len(bits) == len(expected) > 100


def test_levels_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # So the variable is read, and what it says is what runs.
    projection, X = make("block-stack", 67, 40), data(5, 67)
    for missing in ("avx9", {"x86_64": "neon"}.get(platform.machine(), "avx2")):
        monkeypatch.setenv("COREKIT_SIMD", missing)
        with pytest.raises(InvalidArgumentError, match=r"^COREKIT_SIMD must be .*got"):
            projection.project(X)


def test_this_machine_has_more_than_the_least_level() -> None:
    # Where this fails, the test above has compared nothing with nothing.
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("no other level is written for this architecture")
    assert len(levels.expected_levels()) > 1


def test_calls_at_the_same_time() -> None:
    projections = [make(kind, 130, 64) for kind in KINDS for _ in range(3)]
    X = data(500, 130)

    def bits(projection: SparseProjection) -> bytes:
        Y: Array = projection.project(X, threads=2)
        return Y.tobytes()

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(bits, projections))
    assert together == [bits(projection) for projection in projections]


def _project(kind: str) -> bytes:
    Y: Array = make(kind, 130, 64).project(data(3000, 130), threads=2)
    return Y.tobytes()


# Python warns of forks where there are threads: ours are parked, and children start their own.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_fork(kind: str) -> None:
    expected = _project(kind)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_project, [kind] * 4).get(PATIENCE) == [expected] * 4
