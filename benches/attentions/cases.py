"""What is run: which tools compute which attention, on which arrays, with which settings.

A case is one shape. All its entries are timed in the same interleaved rounds, so any two of them
may be compared; entries of two cases may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

THREADS = 2
ROUNDS = 7  # fewer are no result
LONG = 32768
FAVOR_FEATURES = 256
TOKENS = 32  # that are stepped through before the output is judged
# Below this the cases are for the comparison with softmax attention only.
SHORT = 512

# What comes out. All but "softmax" and "favor" map by elu + 1, and are normalised.
Computed = Literal[
    "linear", "scalar-decay", "vector-decay", "favor", "full", "gradient", "softmax", "none"
]
# What one token does to a state: elu + 1 with a normaliser, or nothing but the products.
Stepped = Literal["step", "plain-step"]
# How q, k and v lie: "fused" are slices of one array, as a single projection leaves them.
Layout = Literal["bthd", "bhtd", "fused", "bfloat16", "float64", "tokens"]
# "own" is corekit as it comes; "variant" is corekit otherwise; "floor" is what the machine can do.
Role = Literal["own", "variant", "peer", "floor"]
Kind = Literal["sequence", "step", "tail"]


@dataclass(frozen=True)
class Shape:
    """Heads, their size (of keys and values), and the number of tokens."""

    heads: int
    dim: int
    length: int

    @property
    def name(self) -> str:
        """What its case is called."""
        return f"{self.heads}x{self.dim}-{self.length}"


@dataclass(frozen=True)
class Entry:
    """A row of a case: a tool of the registry, what it shall compute, and its settings."""

    name: str
    tool: str
    role: Role
    computes: Computed | Stepped
    layout: Layout = "bthd"
    threads: int = THREADS
    chunk: int = 0  # 0: the tool's own
    environment: Mapping[str, str] = field(default_factory=dict)
    rounds: int | None = None  # at most


@dataclass(frozen=True)
class Case:
    """Entries that are timed together."""

    name: str
    kind: Kind
    shape: Shape
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Suite:
    """A named list of cases, how many rounds each gets, and how long a turn is."""

    name: str
    rounds: int
    cases: tuple[Case, ...]
    turn_seconds: float = 0.3


_AVX2 = {"COREKIT_SIMD": "avx2"}


def _sequence(shape: Shape) -> Case:
    return Case(shape.name, "sequence", shape, tuple(_entries(shape)))


def _entries(shape: Shape) -> list[Entry]:
    """Return the rows of a shape; those that take a minute a call get few rounds."""
    slow = None
    if shape.length >= LONG:
        slow = 1 if shape.dim > 64 else 3
    softmax = [
        Entry("corekit-softmax", "corekit", "variant", "softmax", rounds=slow),
        Entry("torch-sdpa", "torch-sdpa", "peer", "softmax", "bhtd", rounds=slow),
    ]
    own = Entry("corekit", "corekit", "own", "linear")
    floors = [
        Entry("fma", "fma", "floor", "none"),
        Entry("read", "read", "floor", "none"),
        Entry("copy", "copy", "floor", "none"),
    ]
    if shape.length < SHORT:
        return [own, *softmax, *_chunked("torch-chunk"), *_chunked("torch-loop"), *floors]
    return [
        own,
        Entry("corekit-scalar-decay", "corekit", "variant", "scalar-decay"),
        Entry("corekit-vector-decay", "corekit", "variant", "vector-decay"),
        Entry("corekit-bfloat16", "corekit", "variant", "linear", "bfloat16"),
        Entry("corekit-bhtd", "corekit", "variant", "linear", "bhtd"),
        Entry("corekit-strided", "corekit", "variant", "linear", "fused"),
        Entry("corekit-float64", "corekit", "variant", "linear", "float64"),
        Entry("corekit-avx2", "corekit", "variant", "linear", environment=_AVX2),
        Entry("corekit-one-thread", "corekit", "variant", "linear", threads=1),
        Entry("corekit-favor", "corekit", "variant", "favor"),
        Entry("corekit-full", "corekit", "variant", "full"),
        Entry("corekit-gradient", "corekit-gradient", "variant", "gradient"),
        *softmax,
        *_chunked("torch-chunk"),
        *_chunked("torch-loop"),
        Entry("torch-einsum", "torch-einsum", "peer", "full", "bhtd"),
        *_chunked("torch-chunk", "torch-gradient"),
        *_chunked("torch-loop", "torch-loop-gradient"),
        *_chunked("jax-scan"),
        *_chunked("jax-scan", "jax-gradient"),
        Entry("fast-transformers", "fast-transformers", "peer", "linear", "bhtd"),
        *floors,
        Entry("fma-one-thread", "fma", "floor", "none", threads=1),
        Entry("fma-float64", "fma", "floor", "none", "float64"),
        Entry("fma-avx2", "fma", "floor", "none", environment=_AVX2),
    ]


def _chunked(tool: str, name: str = "") -> list[Entry]:
    """Return the rows of a tool at both chunk sizes; with another name, of its gradient."""
    computes: Computed = "gradient" if name else "linear"
    tool = f"{tool}-gradient" if name else tool
    return [
        Entry(f"{name or tool}-{chunk}", tool, "peer", computes, "bhtd", chunk=chunk)
        for chunk in (64, 128)
    ]


def _decode(name: str, heads: int, dim: int, *, threads: tuple[int, ...]) -> Case:
    """Return a case of one token after the other: all forms of each tool."""
    forms: tuple[tuple[Stepped, str], ...] = (("plain-step", ""), ("step", "-elu1"))
    entries = [
        Entry(
            f"{tool}{ending}{'' if number == 1 else f'-{number}-threads'}",
            f"{tool}-step",
            "peer" if tool != "corekit" else "variant" if ending or number > 1 else "own",
            computes,
            "tokens",
            threads=number,
        )
        for tool in ("corekit", "torch", "jax")
        for computes, ending in forms
        # JAX takes as many threads as it likes.
        for number in (threads if tool != "jax" else (THREADS,))
    ]
    return Case(name, "step", Shape(heads, dim, TOKENS), tuple(entries))


def _tail(name: str, heads: int, dim: int) -> Case:
    entries = (
        Entry("corekit", "corekit-tail", "own", "plain-step", "tokens"),
        Entry("torch", "torch-tail", "peer", "plain-step", "tokens"),
    )
    return Case(name, "tail", Shape(heads, dim, TOKENS), entries)


_HEADS = ((8, 64), (16, 128))
_STEPS = (
    _decode("decode", 16, 128, threads=(1, THREADS)),
    _decode("overhead", 1, 16, threads=(1,)),
    _tail("tail", 16, 128),
)
_CASES = tuple(
    _sequence(Shape(heads, dim, length))
    for heads, dim in _HEADS
    for length in (128, 256, 512, 2048, 8192, LONG)
)
# Every tool and every path of the bench on next to nothing; its times mean little.
_SMOKE_CASES = (
    _sequence(Shape(2, 16, 128)),
    _sequence(Shape(2, 16, 512)),
    _decode("decode", 2, 16, threads=(1, THREADS)),
    _tail("tail", 2, 16),
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite("full", ROUNDS, (*_CASES, *_STEPS)),
        Suite("short", 3, (*(case for case in _CASES if case.shape.length < LONG), *_STEPS)),
        Suite("smoke", 2, _SMOKE_CASES, turn_seconds=0.02),
    )
}
