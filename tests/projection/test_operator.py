"""The promise: a projection is its parameters: immutable, hashable, picklable, and nothing else.

It stores no matrix; equal parameters are equal projections, wherever and whenever they were made;
an argument that has no meaning for a kind is refused.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.projection import SparseProjection
from projection.formula import KINDS
from projection.operators import data, make, projections, same

ATTRIBUTES = ["n_features", "n_components", "kind", "column_nnz", "density", "seed"]


def arguments(projection: SparseProjection) -> dict[str, Any]:
    """Return what to make the same projection with."""
    given = {name: getattr(projection, name) for name in ATTRIBUTES}
    if projection.kind not in ("block-stack", "stack"):
        del given["column_nnz"]
    return {name: value for name, value in given.items() if value is not None}


def test_the_defaults() -> None:
    projection = SparseProjection(1000, 100, seed=5)
    assert (projection.n_features, projection.n_components, projection.seed) == (1000, 100, 5)
    assert (projection.kind, projection.column_nnz, projection.density) == ("block-stack", 8, None)
    assert projection.shape == (100, 1000)
    assert isinstance(projection.version, str)


@pytest.mark.parametrize("k", [1, 2, 7, 8, 9])
def test_entries_by_default(k: int) -> None:
    assert SparseProjection(10, k, seed=1).column_nnz == min(8, k)
    assert SparseProjection(10, k, kind="stack", seed=1).column_nnz == min(8, k)


def test_what_each_kind_has() -> None:
    has = {kind: (make(kind, 10, 9).column_nnz, make(kind, 10, 9).density) for kind in KINDS}
    assert (has["block-stack"], has["stack"]) == ((8, None), (8, None))
    # The density is that of the draws, a multiple of 2**-31.
    assert has["iid"] == (None, round(2**31 / 3) / 2**31)
    assert has["countsketch"] == (1, None)
    assert has["gaussian"] == has["srht"] == (None, None)


def test_countsketch_is_a_stack_of_one() -> None:
    stack = make("stack", 50, 12, column_nnz=1)
    assert same(make("countsketch", 50, 12).to_dense(), stack.to_dense())


@given(projection=projections())
def test_it_is_its_parameters(projection: SparseProjection) -> None:
    twin = SparseProjection(**arguments(projection))
    assert twin == projection
    assert not twin != projection  # noqa: SIM202 - the operator is what is asked for
    assert hash(twin) == hash(projection)
    assert len({twin, projection}) == 1
    assert same(twin.to_dense(), projection.to_dense())


@given(projection=projections())
def test_repr_makes_it_again(projection: SparseProjection) -> None:
    assert eval(repr(projection), {"SparseProjection": SparseProjection}) == projection


@given(projection=projections())
def test_copies_and_pickles(projection: SparseProjection) -> None:
    # What is drawn lazily is in none of them.
    projection.project(data(3, projection.n_features))
    copies = [copy.copy(projection), copy.deepcopy(projection)]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        pickled = pickle.dumps(projection, protocol)
        assert len(pickled) < 400
        copies.append(pickle.loads(pickled))
    for twin in copies:
        assert twin == projection
        assert hash(twin) == hash(projection)
        assert repr(twin) == repr(projection)
        assert {name: getattr(twin, name) for name in ATTRIBUTES} == {
            name: getattr(projection, name) for name in ATTRIBUTES
        }
    assert same(copies[-1].to_dense(), projection.to_dense())


def test_a_pickle_stays_small_after_use() -> None:
    for kind in KINDS:
        projection = make(kind, 100_000 if kind != "gaussian" else 1000, 200)
        before = pickle.dumps(projection)
        projection.project(data(2, projection.n_features))
        assert pickle.dumps(projection) == before
        assert len(before) < 400


def test_another_process_reads_a_pickle() -> None:
    projection = make("block-stack", 50, 33)
    X = np.arange(50, dtype=np.float32)[None]
    program = (
        "import pickle, sys, numpy\n"
        "projection = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.buffer.write(projection.project(numpy.arange(50, dtype='f4')[None]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(projection),
        capture_output=True,
        check=True,
    )
    assert done.stdout == projection.project(X).tobytes()


DIFFERENT: list[dict[str, Any]] = [
    {"n_features": 101},
    {"n_components": 49},
    {"kind": "stack"},
    {"column_nnz": 4},
    {"seed": 8},
    {"seed": 7 + 2**64},
    {"kind": "iid", "column_nnz": None},
    {"kind": "iid", "column_nnz": None, "density": 0.1},
    {"kind": "countsketch", "column_nnz": None},
    {"kind": "gaussian", "column_nnz": None},
    {"kind": "srht", "column_nnz": None},
]


def test_other_parameters_are_another_projection() -> None:
    base: dict[str, Any] = {"n_features": 100, "n_components": 50, "column_nnz": 8, "seed": 7}
    every = [
        SparseProjection(**base),
        *(SparseProjection(**{**base, **more}) for more in DIFFERENT),
    ]
    assert len(set(every)) == len(every)
    assert len({projection.to_dense().tobytes() for projection in every}) == len(every)
    assert all(one != other for one in every for other in every if one is not other)
    assert every[0] != "block-stack"
    assert every[0] != None  # noqa: E711 - the operator is what is asked for


@pytest.mark.parametrize("name", [*ATTRIBUTES, "version", "shape", "other"])
def test_it_cannot_be_changed(name: str) -> None:
    projection = make("block-stack", 10, 9)
    with pytest.raises((AttributeError, TypeError)):
        setattr(projection, name, 1)
    with pytest.raises((AttributeError, TypeError)):
        delattr(projection, name)
    assert projection == make("block-stack", 10, 9)


def test_it_is_made_once() -> None:
    projection = make("block-stack", 10, 9)
    with pytest.raises(AttributeError):
        SparseProjection.__init__(projection, 11, 8, seed=2)
    assert projection == make("block-stack", 10, 9)


class Halved(SparseProjection):
    """A class with a constructor of its own."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, n_features // 2, kind="iid", density=0.25, seed=3)


def test_copies_of_a_derived_class_are_of_it() -> None:
    projection = Halved(20)
    for twin in (copy.copy(projection), pickle.loads(pickle.dumps(projection))):
        assert type(twin) is Halved
        assert twin == projection


@pytest.mark.parametrize("kind", ["iid", "countsketch", "gaussian", "srht"])
def test_column_nnz_has_no_meaning(kind: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^column_nnz must .*got") as caught:
        make(kind, 10, 9, column_nnz=1)
    assert kind in str(caught.value)


@pytest.mark.parametrize("kind", ["block-stack", "stack", "countsketch", "gaussian", "srht"])
def test_density_has_no_meaning(kind: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^density must .*got") as caught:
        make(kind, 10, 9, density=0.5)
    assert kind in str(caught.value)


def test_seeds() -> None:
    numbers: list[Any] = [0, 2**64 - 1, 2**64, 2**128 - 1, np.uint64(2**63), np.int8(5)]
    for seed in numbers:
        projection = SparseProjection(10, 9, seed=seed)
        assert projection.seed == int(seed)
        assert type(projection.seed) is int
    for seed in (-1, 2**128):
        with pytest.raises(InvalidArgumentError, match=r"^seed must .*got"):
            SparseProjection(10, 9, seed=seed)
    for wrong in (1.0, "1", True, b"1", np.zeros(2, int)):
        with pytest.raises(ArgumentTypeError, match=r"^seed must .*got"):
            SparseProjection(10, 9, seed=wrong)  # type: ignore[arg-type]


def test_no_seed_draws_one_and_says_it() -> None:
    drawn = [SparseProjection(10, 9, seed=None) for _ in range(3)]
    assert len({projection.seed for projection in drawn}) == 3
    # The chance that all three are smaller is 2**-192.
    assert max(projection.seed for projection in drawn) >= 1 << 64
    for projection in drawn:
        assert SparseProjection(10, 9, seed=projection.seed) == projection


def test_a_seed_must_be_given() -> None:
    with pytest.raises(TypeError, match="seed"):
        SparseProjection(10, 9)  # type: ignore[call-arg]


def test_numpys_numbers_are_numbers() -> None:
    shape: Any = np.int64(10), np.int32(9)
    given: dict[str, Any] = {"column_nnz": np.uint8(3), "seed": np.int16(7)}
    projection = SparseProjection(*shape, **given)
    assert projection == SparseProjection(10, 9, column_nnz=3, seed=7)
    assert {type(getattr(projection, name)) for name in ATTRIBUTES if name != "kind"} == {
        int,
        type(None),
    }
    half: Any = np.float32(0.5)
    assert make("iid", 10, 9, density=half) == make("iid", 10, 9, density=0.5)
    third: Any = Fraction(1, 3)
    assert make("iid", 10, 9, density=third) == make("iid", 10, 9)


def test_large_shapes_cost_nothing() -> None:
    for kind in ("block-stack", "stack", "iid", "countsketch", "gaussian"):
        projection = SparseProjection(2**40, 1 << 20, kind=kind, seed=1)
        assert projection.shape == (1 << 20, 2**40)
