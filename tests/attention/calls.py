"""Calls of every kind: their options, their inputs, what the core gives, and what it must give.

A case is drawn in the layout "bthd" in the dtype of the call. The reference gets the very
numbers that the core gets, in a wider type: float64 for float32 and narrower ones, long double
for float64.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from attention import maps, reference
from attention.favor_formula import matrix
from attention.reference import Answer, Array, Inputs, Sizes, wide
from corekit.attention import (
    ExponentialLimit,
    Favor,
    State,
    Taylor,
    linear_attention,
    linear_attention_vjp,
)

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
# Relative root mean squares of errors, as promised; an output of 16 bits is rounded to 8 or 11.
PROMISED = {"float32": 1e-6, "float64": 1e-14, "float16": 5e-4, "bfloat16": 5e-3}
PROMISED_GRADIENTS = {"float32": 1e-5, "float64": 1e-10, "float16": 1e-3, "bfloat16": 5e-3}

# One of every kind; the names are those of the test cases.
MAPS: dict[str, Any] = {
    **{name: name for name in maps.ELEMENTWISE},
    "favor": Favor(24, seed=5),
    "favor iid": Favor(17, orthogonal=False, seed=2**100),
    "taylor 1": Taylor(1),
    "taylor 2": Taylor(2),
    "taylor 3": Taylor(3),
    "limit 1": ExponentialLimit(1),
    "limit 3": ExponentialLimit(3),
}
POSITIVE = ["elu1", "exp", "softmax", "favor", "taylor 2"]
"""Maps whose scores are positive: the normaliser is no sum of terms that cancel."""

DECAYS = ["none", "head", "token", "vector"]


@dataclass(frozen=True)
class Case:
    """The options of a call, and what its inputs are drawn from."""

    T: int = 100
    D: int = 16
    V: int | None = None  # None: as D
    B: int = 1
    H: int = 2
    G: int = 1
    map: str = "identity"
    causal: bool = True
    normalize: bool = False
    decay: str = "none"
    initial: bool = False
    mask: bool = False
    cu_seqlens: tuple[int, ...] | None = None
    chunk_size: int | None = None
    layout: str = "bthd"
    dtype: str = "float32"
    scale: float | None = None
    eps: float = 1e-6
    size: float = 1.0  # the spread of queries and keys
    strong: bool = True  # decays reach from 0 over -30 to -inf
    seed: int = 1

    @property
    def sums(self) -> str:
        """The type of sums and states."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def wide(self) -> type[np.floating[Any]]:
        """The type of the reference."""
        return np.longdouble if self.dtype == "float64" else np.float64

    @property
    def feature_map(self) -> Any:
        return MAPS[self.map]

    @property
    def value_dim(self) -> int:
        return self.D if self.V is None else self.V

    @property
    def sequences(self) -> int:
        return self.B if self.cu_seqlens is None else len(self.cu_seqlens) - 1

    @property
    def m(self) -> int:
        return maps.size(self.feature_map, self.D)

    def but(self, **changes: Any) -> Case:
        return replace(self, **changes)

    def __str__(self) -> str:
        """Only what is not as usual."""
        return " ".join(
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )


@dataclass
class Call:
    """The arrays of a call, in the layout "bthd"; the state is not to be written to."""

    case: Case
    q: Array
    k: Array
    v: Array
    decay: Array | None
    mask: Array | None
    initial: State | None

    def options(self) -> dict[str, Any]:
        """The options that all calls of this case share."""
        case = self.case
        return {
            "feature_map": case.feature_map,
            "causal": case.causal,
            "normalize": case.normalize,
            "eps": case.eps,
            "scale": case.scale,
            "decay": _in_layout(case.layout, self.decay),
            "initial_state": self.initial,
            "cu_seqlens": None if case.cu_seqlens is None else np.array(case.cu_seqlens),
            "key_mask": self.mask,
            "chunk_size": case.chunk_size,
            "layout": case.layout,
        }

    def run(self, **options: Any) -> tuple[Array, State]:
        """Return what the core gives, in the layout "bthd": the output, poisoned before, and state.

        The form that keeps no state gives None for it.
        """
        case = self.case
        shape = (*self.q.shape[:3], case.value_dim)
        out = poisoned(shape, case.dtype)
        given = {**self.options(), "return_state": True, **options}
        arrays = [_in_layout(case.layout, x) for x in (self.q, self.k, self.v)]
        target = _in_layout(case.layout, out)
        got = linear_attention(*arrays, out=target, **given)
        if given["return_state"]:
            assert got[0] is target
            return out, got[1]
        assert got is target
        return out, State(None, None, None)

    def vjp(self, dout: Array, dstate: State | None = None, **options: Any) -> Any:
        """Return what the core gives as gradients, in the layout "bthd"."""
        case = self.case
        arrays = [_in_layout(case.layout, x) for x in (self.q, self.k, self.v, dout)]
        got = linear_attention_vjp(*arrays, dstate=dstate, **{**self.options(), **options})
        decay = got.decay
        if decay is not None and decay.ndim > 1:
            decay = _in_layout(case.layout, decay)
        return got._replace(
            q=_in_layout(case.layout, got.q),
            k=_in_layout(case.layout, got.k),
            v=_in_layout(case.layout, got.v),
            decay=decay,
        )

    def but(self, **changes: Any) -> Call:
        return replace(self, **changes)

    def part(self, tokens: slice | Array, initial: State | None, **changes: Any) -> Call:
        """Return the call on some of the tokens, from a state."""

        def cut(x: Array | None) -> Any:
            return x if x is None or x.ndim == 1 else x[:, tokens]

        return Call(
            self.case.but(T=self.q[:, tokens].shape[1], **changes),
            cut(self.q),
            cut(self.k),
            cut(self.v),
            decay=cut(self.decay),
            mask=cut(self.mask),
            initial=initial,
        )

    @cached_property
    def inputs(self) -> Inputs:
        """What the reference gets."""
        return inputs(self)

    @cached_property
    def expected(self) -> Answer:
        return reference.linear_attention(self.inputs)

    @cached_property
    def sizes(self) -> Sizes:
        return reference.sizes(self.inputs, self.expected)


def each(*options: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return options of calls, to go through."""
    return options


def poisoned(shape: tuple[int, ...], dtype: str) -> Array:
    """An array of NaN: what is not written shows."""
    return np.full(shape, np.nan, DTYPES[dtype])


def _in_layout(layout: str, x: Array | None) -> Any:
    """Exchange time and heads of an array for the layout "bhtd", as a copy in C order."""
    if x is None or layout == "bthd" or x.ndim < 3:
        return x
    return x.swapaxes(1, 2)


def draw(case: Case) -> Call:
    """Draw the arrays of a case from its seed."""
    random = np.random.default_rng(case.seed)
    B, T, H, D, V = case.B, case.T, case.H, case.D, case.value_dim
    dtype = DTYPES[case.dtype]
    q = (case.size * random.standard_normal((B, T, H * case.G, D))).astype(dtype)
    k = (case.size * random.standard_normal((B, T, H, D))).astype(dtype)
    v = random.standard_normal((B, T, H, V)).astype(dtype)
    if case.layout == "bhtd":
        q, k, v = (np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v))
    shape: tuple[int, ...] | None = {
        "none": None,
        "head": (H,),
        "token": (B, T, H),
        "vector": (B, T, H, D),
    }[case.decay]
    decay = None if shape is None else decays(random, shape, strong=case.strong).astype(case.sums)
    mask = None
    if case.mask:
        mask = random.random((B, T)) < 0.7
        for x in (k, v):
            x[~mask] = np.nan
        if decay is not None and decay.ndim > 1:
            decay[~mask] = np.nan
    initial = draw_state(case, random) if case.initial else None
    return Call(case, q, k, v, decay, mask, initial)


def decays(random: np.random.Generator, shape: tuple[int, ...], *, strong: bool) -> Array:
    """Mild ones with some that are strong among them: sums of all would drown the mild ones."""
    mild = -np.exp(random.standard_normal(shape) - 2)
    mild[random.random(shape) < 0.1] = 0
    if strong:
        pick = random.random(shape)
        mild = np.where(pick < 0.05, -30 * random.random(shape), mild)
        mild = np.where(pick < 0.01, -1000, mild)
        mild = np.where((pick > 0.99) & (len(shape) > 1), -np.inf, mild)
    return np.asarray(mild)


def draw_state(case: Case, random: np.random.Generator) -> State:
    """A state of some size; the second head of a stabilised one is empty."""
    N, H, m, V = case.sequences, case.H, case.m, case.value_dim
    s = random.standard_normal((N, H, m, V)).astype(case.sums)
    z = (0.1 + random.random((N, H, m))).astype(case.sums) if case.normalize else None
    if maps.kind(case.feature_map) != "Favor":
        return State(s, z, None)
    log_scale = random.standard_normal((N, H)).astype(case.sums)
    log_scale[:, 1:2] = -np.inf
    s[:, 1:2] = 0
    if z is not None:
        z[:, 1:2] = 0
    return State(s, z, log_scale)


def true_state(state: State, dtype: Any) -> tuple[Array, Array | None]:
    """Return S and z without the stabiliser of a state."""
    s = wide(state.s, dtype)
    z = None if state.z is None else wide(state.z, dtype)
    if state.log_scale is not None:
        factor = np.exp(wide(state.log_scale, dtype))
        s = s * factor[..., None, None]
        z = None if z is None else z * factor[..., None]
    return s, z


def inputs(call: Call) -> Inputs:
    """Fill in all that the reference asks for."""
    case, dtype = call.case, call.case.wide
    B, T, H = case.B, case.T, case.H
    g = np.zeros((B, T, H, 1), dtype)
    if call.decay is not None:
        given = wide(call.decay, dtype)
        g = given if given.ndim == 4 else g + given[..., None]
    N, m, V = case.sequences, case.m, case.value_dim
    s, z = np.zeros((N, H, m, V), dtype), np.zeros((N, H, m), dtype)
    if call.initial is not None:
        s, given_z = true_state(call.initial, dtype)
        z = z if given_z is None else given_z
    return Inputs(
        wide(call.q, dtype),
        wide(call.k, dtype),
        wide(call.v, dtype),
        g=g,
        mask=np.ones((B, T), bool) if call.mask is None else call.mask,
        s=s,
        z=z,
        where=reference.segments(B, T, case.cu_seqlens),
        feature_map=case.feature_map,
        causal=case.causal,
        normalize=case.normalize,
        eps=case.eps,
        scale=float(case.D**-0.5 if case.D else 1.0) if case.scale is None else case.scale,
    )


def roundings(call: Call) -> float:
    """How many roundings of its size an output may be off.

    The sums are blocks of blocks, so few are enough for them. An exponential has an error of its
    argument's size.
    """
    case = call.case
    steps = 32.0
    if case.T == 0:
        return steps
    if call.decay is not None and case.strong:
        # What is left after e^-60 is not always drowned by something larger.
        steps += 64
    if maps.kind(case.feature_map) == "Favor":
        w = abs(matrix(case.feature_map, case.D))
        for x in (call.inputs.q, call.inputs.k):
            y = np.where(np.isfinite(x), x, 0).astype(np.float64) * call.inputs.scale**0.5
            steps += 4 * float((abs(y) @ w.T + (y * y).sum(axis=-1, keepdims=True) / 2).max())
    if case.map == "exp":
        both = np.concatenate([call.inputs.q.ravel(), call.inputs.k.ravel()])
        steps += 8 * float(abs(both[np.isfinite(both)]).max(initial=0))
    return steps


def error(got: Array, expected: Array) -> float:
    """The root mean square of the errors, relative to that of the values."""
    expected = np.asarray(expected)
    difference = wide(got, expected.dtype) - expected
    least = np.finfo(np.float64).tiny
    return float(np.sqrt((difference**2).sum() / max((expected**2).sum(), least)))


def check(call: Call, out: Array, state: State | None = None, *, promise: bool = True) -> None:
    """Hold an output, and a final state, to the reference.

    Every value has to be as near as roundings allow, whatever cancels in it; and the whole as near
    as is promised of sums that do not cancel (`promise`).
    """
    case, expected = call.case, call.expected
    assert (out.dtype, out.shape) == (DTYPES[case.dtype], expected.out.shape)
    unit = float(np.finfo(case.sums).eps) / 2
    near = unit * roundings(call)
    bound = near * call.sizes.out + np.finfo(case.sums).tiny
    if case.dtype != case.sums:
        bound += abs(expected.out) * (2.0**-8 if case.dtype == "bfloat16" else 2.0**-11) + 2.0**-24
    off = abs(wide(out, case.wide) - expected.out)
    # A normaliser that is zero but for roundings has either sign.
    off[call.sizes.unsure] = 0
    assert (off <= bound).all(), _worst(case, off, bound)
    if promise and out.size:
        # Exponents of random features are sums, whose errors grow with their size.
        limit = PROMISED[case.dtype] * max(1.0, roundings(call) / 64)
        assert error(out, expected.out) <= limit, str(case)
    if state is not None and state.s is not None:
        check_state(call, state, near)


def check_state(call: Call, state: State, near: float) -> None:
    """Hold a state to the reference: kinds of arrays, shapes, types, values."""
    case, expected = call.case, call.expected
    N, H, m = case.sequences, case.H, case.m
    is_favor = maps.kind(case.feature_map) == "Favor"
    assert (state.s.shape, state.s.dtype) == ((N, H, m, case.value_dim), np.dtype(case.sums))
    assert state.s.flags.c_contiguous
    assert (state.z is not None) == case.normalize
    assert (state.log_scale is not None) == is_favor
    s, z = true_state(state, case.wide)
    pairs = [(s, expected.s, call.sizes.s)]
    if z is not None:
        assert state.z is not None
        assert (state.z.shape, state.z.dtype) == ((N, H, m), np.dtype(case.sums))
        pairs.append((z[..., None], expected.z[..., None], call.sizes.z[..., None]))
    if state.log_scale is not None:
        assert (state.log_scale.shape, state.log_scale.dtype) == ((N, H), np.dtype(case.sums))
        empty = np.isneginf(state.log_scale)
        assert (state.s[empty] == 0).all()
        assert (empty == (call.sizes.z.max(axis=-1, initial=0) == 0)).all() or not case.normalize
    for got, wanted, size in pairs:
        # What is far below the largest feature may underflow.
        bound = near * (size + 1e-30 * size.max(axis=(2, 3), initial=0, keepdims=True))
        bound += np.finfo(case.sums).tiny
        off = abs(got - wanted)
        assert (off <= bound).all(), _worst(case, off, bound)


def _worst(case: Case, off: Array, bound: Array) -> str:
    """Say where a value is off by how much, for the message of a failure."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(np.isnan(off), np.inf, off / bound)
    place = np.unravel_index(int(ratio.argmax()), ratio.shape)
    count = int((~(off <= bound)).sum())
    where = tuple(map(int, place))
    return f"{case}: {count} of {off.size} too far, most at {where}: {off[place]} > {bound[place]}"


def same(one: Any, other: Any) -> bool:
    """Whether two arrays, or states, are equal to the bit; a NaN equals a NaN."""
    if isinstance(one, State):
        return all(map(same, one, other))
    if one is None or other is None:
        return one is other
    one, other = np.asarray(one), np.asarray(other)
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.array_equal(one.astype(np.float64), other.astype(np.float64), equal_nan=True)
    )


HEADS = st.sampled_from([1, 2, 7, 16, 33])
LENGTHS = st.sampled_from([0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100]) | st.integers(0, 150)


@st.composite
def cases(draw: st.DrawFn, /, **fixed: Any) -> Case:
    """Any case of a few tokens; options that are fixed are those given."""
    name = draw(st.sampled_from(list(MAPS)))
    causal = draw(st.booleans())
    forms = DECAYS if name in maps.ELEMENTWISE else DECAYS[:3]
    packed = draw(st.booleans())
    T = draw(LENGTHS)
    cuts = sorted(draw(st.lists(st.integers(0, T), max_size=4))) if packed else []
    case = Case(
        T=T,
        D=draw(st.sampled_from([1, 2, 3, 7]))
        if "taylor" in name or "limit" in name
        else draw(HEADS),
        V=draw(HEADS),
        B=1 if packed else draw(st.sampled_from([1, 2])),
        H=draw(st.sampled_from([1, 2, 3])),
        G=draw(st.sampled_from([1, 2])),
        map=name,
        causal=causal,
        normalize=draw(st.booleans()),
        decay=draw(st.sampled_from(forms)) if causal else "none",
        initial=draw(st.booleans()),
        mask=draw(st.booleans()),
        cu_seqlens=(0, *cuts, T) if packed else None,
        chunk_size=draw(st.sampled_from([None, None, 16, 32, 64])),
        layout=draw(st.sampled_from(["bthd", "bhtd"])),
        dtype=draw(st.sampled_from(["float32", "float32", "float64", "bfloat16", "float16"])),
        scale=draw(st.sampled_from([None, 1.0, 0.25])),
        seed=draw(st.integers(0, 2**32)),
    )
    return case.but(**fixed)


def cancels(case: Case) -> bool:
    """Whether the normaliser is a sum of terms of both signs, or may be near nothing."""
    # Scores of a polynomial with keys are positive, and with a drawn state they need not be.
    is_signed = case.map not in POSITIVE or (case.map == "taylor 2" and case.initial)
    return case.normalize and is_signed
