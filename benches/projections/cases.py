"""What is run: which tools project which input, in which layout, with which settings.

A case is one input and one number of components. All its entries are timed in the same interleaved
rounds, so any two of them may be compared; entries of two cases may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

THREADS = 2
COLUMN_NNZ = 8  # of corekit's stacks and of RandBLAS
ROUNDS = 7  # fewer are no result

Kind = Literal["normal", "zipf", "text"]
# "row" is the first row alone. The first of each kind is what the peers get.
Layout = Literal["c", "fortran", "bfloat16", "float64", "row", "csr", "csc"]
# "own" is corekit as it comes; "variant" is corekit with another layout, law or setting; "floor" is
# what no tool can be quicker than; "beside" is a peer that is only compared with a variant.
Role = Literal["own", "variant", "peer", "beside", "floor"]


@dataclass(frozen=True)
class Input:
    """A matrix to be projected. Those of text have the columns that their words give."""

    kind: Kind
    rows: int
    columns: int = 0

    @property
    def name(self) -> str:
        """The name of its file, without the ending."""
        return "-".join((self.kind, "x".join(str(n) for n in (self.rows, self.columns) if n)))

    @property
    def sparse(self) -> bool:
        """Whether it is kept as CSR."""
        return self.kind != "normal"


@dataclass(frozen=True)
class Entry:
    """A row of a case: a tool of the registry with its input's layout and its environment."""

    name: str
    tool: str
    role: Role
    layout: Layout
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Entries that are timed together."""

    name: str
    input: Input
    n_components: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Suite:
    """A named list of cases and how many rounds each gets."""

    name: str
    rounds: int
    cases: tuple[Case, ...]


_AVX2 = {"COREKIT_SIMD": "avx2"}
_DENSE = (
    Entry("corekit", "corekit", "own", "c"),
    Entry("corekit-fortran", "corekit", "variant", "fortran"),
    Entry("corekit-bfloat16", "corekit", "variant", "bfloat16"),
    Entry("corekit-float64", "corekit", "variant", "float64"),
    Entry("corekit-avx2", "corekit", "variant", "c", _AVX2),
    Entry("corekit-gaussian", "corekit-gaussian", "variant", "c"),
    Entry("corekit-srht", "corekit-srht", "variant", "c"),
    Entry("corekit-sklearn", "corekit-sklearn", "variant", "c"),
    Entry("corekit-one-row", "corekit", "variant", "row"),
    Entry("sklearn-sparse", "sklearn-sparse", "peer", "c"),
    Entry("sklearn-gaussian", "sklearn-gaussian", "peer", "c"),
    Entry("numpy-matmul", "numpy-matmul", "peer", "c"),
    Entry("jax-matmul", "jax-matmul", "peer", "c"),
    Entry("scipy-cwt", "scipy-cwt", "peer", "c"),
    Entry("faiss-rotation", "faiss-rotation", "peer", "c"),
    Entry("randblas", "randblas", "peer", "c"),
    Entry("sklearn-one-row", "sklearn-sparse", "beside", "row"),
    Entry("numpy-one-row", "numpy-matmul", "beside", "row"),
    Entry("read-x", "read-x", "floor", "c"),
    Entry("write-y", "write-y", "floor", "c"),
)
_SPARSE = (
    Entry("corekit", "corekit", "own", "csr"),
    Entry("corekit-fresh", "corekit-fresh", "variant", "csr"),
    Entry("corekit-csc", "corekit", "variant", "csc"),
    Entry("corekit-avx2", "corekit", "variant", "csr", _AVX2),
    Entry("corekit-sklearn", "corekit-sklearn", "variant", "csr"),
    Entry("sklearn-sparse", "sklearn-sparse", "peer", "csr"),
    Entry("scipy-cwt", "scipy-cwt", "peer", "csr"),
    Entry("read-x", "read-x", "floor", "csr"),
    Entry("write-y", "write-y", "floor", "csr"),
)


def _case(source: Input, n_components: int) -> Case:
    size = f"{source.columns}" if source.kind == "normal" else source.kind
    entries = _SPARSE if source.sparse else _DENSE
    return Case(f"{size}-to-{n_components}", source, n_components, entries)


_CASES = (
    _case(Input("normal", 10_000, 10_000), 1000),
    _case(Input("normal", 100_000, 768), 128),
    _case(Input("normal", 100_000, 4096), 512),
    _case(Input("zipf", 20_000, 1_000_000), 1000),
    _case(Input("text", 5000), 1000),
)
# Every tool and every path of the bench on next to nothing; its times mean little.
_SMOKE_CASES = (
    _case(Input("normal", 600, 1000), 100),
    _case(Input("zipf", 500, 20_000), 200),
    _case(Input("text", 300), 200),
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite("full", ROUNDS, _CASES),
        Suite("short", 3, tuple(case for case in _CASES if case.input.columns != 4096)),
        Suite("smoke", 2, _SMOKE_CASES),
    )
}
