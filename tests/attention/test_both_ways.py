"""The promise: calls with plain arrays, which skip checks, are what all others are.

Each call is made twice: with dense NumPy arrays, and with the same numbers in arrays that are not
dense. Whatever the options and the environment, both give the same bits, or the same error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attention.calls import same
from attention.levels import LEVELS
from attention.reference import Array
from corekit import _core, _threads
from corekit.attention import (
    Grads,
    State,
    Taylor,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
)
from corekit.errors import CorekitError

LEAST = 2.0**-126

# What may be set: text around what is meant, and any bytes without the one that ends them.
VALUES = st.one_of(
    st.none(),
    st.sampled_from(
        [
            *LEVELS,
            *("AVX2", "avx9", " 2 ", "+2", "-2", "2.0", "1_0", "0", "1", "1024", "1025"),
            *("9" * 30, "٣", "²", "", " ", "\t3\n", "\x1c2", "0x2"),
        ]
    ).map(os.fsencode),
    st.text("0123456789+-_ .ex", max_size=4).map(os.fsencode),
    st.binary(max_size=4).map(lambda value: value.replace(b"\0", b"")),
)

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "feature_map": st.sampled_from([None, "identity", "elu1", "exp", "softmax", "Elu1", "", 3]),
        "normalize": st.sampled_from([False, True, 1, None, np.True_]),
        "eps": st.sampled_from(
            [
                *(1e-6, LEAST, math.nextafter(LEAST, 0), math.nextafter(LEAST, 1), 0.0, -1.0),
                *(math.inf, math.nan, 1, True, np.float64(0.5), None, "1"),
            ]
        ),
        "scale": st.sampled_from([None, 0.5, 0.0, -1.0, 2, math.inf, math.nan, True, "1"]),
        "threads": st.sampled_from([None, 0, 1, 2, 1024, 1025, -1, 2**70, True, 2.0, np.int64(2)]),
    },
)


@contextmanager
def environment(**values: bytes | None) -> Iterator[None]:
    """Set variables, or take them away."""
    before = {name: os.environb.get(os.fsencode(name)) for name in values}
    change(values)
    try:
        yield
    finally:
        change(before)


def change(values: dict[str, bytes | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environb.pop(os.fsencode(name), None)
        else:
            os.environb[os.fsencode(name)] = value


def draw(dtype: str, dim: int) -> list[Array]:
    return list(np.random.default_rng(dim).standard_normal((4, 2, 3, 2, dim)).astype(dtype))


def spread(array: Array) -> Array:
    """Return an array of the same numbers that is not dense."""
    wide = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def forward(arrays: list[Array], options: dict[str, Any]) -> list[Array]:
    q, k, v, _ = arrays
    out = np.full_like(q, np.nan)
    assert linear_attention(q, k, v, out=out, **options) is out
    return [out, linear_attention(q, k, v, **options)]


def gradient(arrays: list[Array], options: dict[str, Any]) -> list[Array]:
    grads = linear_attention_vjp(*arrays, **options)
    q, k, v = (np.full_like(x, np.nan) for x in arrays[:3])
    into = Grads(q, k, v)
    again = linear_attention_vjp(*arrays, out=into, **options)
    assert all(x is y for x, y in zip(again[:3], into[:3], strict=True))
    return [*grads[:3], *again[:3]]


def step(arrays: list[Array], options: dict[str, Any]) -> list[Array]:
    q, k, v = (x[:, 0].copy() if x.flags.c_contiguous else x[:, 0] for x in arrays[:3])
    rng = np.random.default_rng(1)
    (B, H, D), V = k.shape, v.shape[-1]
    s, z = rng.standard_normal((B, H, D, V)), rng.standard_normal((B, H, D))
    with_z = options.get("normalize") is True
    state = State(s.astype(q.dtype), z.astype(q.dtype) if with_z else None)
    out = np.full(v.shape, np.nan, v.dtype)
    assert linear_attention_step(state, q, k, v, out=out, **options) is out
    return [out, state.s, *([state.z] if with_z else [])]


WAYS = {"forward": forward, "gradient": gradient, "step": step}


def outcome(call: Callable[[], list[Array]]) -> list[Array] | tuple[type, str]:
    """Return what a call gives, or why not."""
    try:
        return call()
    except CorekitError as error:
        return type(error), str(error)


def hold(name: str, options: dict[str, Any], dtype: str = "float32", dim: int = 4) -> object:
    """Make a call in both ways, which must agree."""
    arrays = draw(dtype, dim)
    plain = outcome(lambda: WAYS[name](arrays, options))
    other = outcome(lambda: WAYS[name]([spread(x) for x in arrays], options))
    if isinstance(plain, tuple):
        assert plain == other
        return plain
    assert isinstance(other, list)
    assert all(same(x, y) for x, y in zip(plain, other, strict=True))
    return plain


@pytest.mark.parametrize("name", list(WAYS))
@given(threads=VALUES, level=VALUES, asked=st.sampled_from([None, 1]))
@example(threads=b"+2", level=None, asked=None)
@example(threads=None, level=b"avx9", asked=None)
def test_the_environment(
    name: str, threads: bytes | None, level: bytes | None, asked: int | None
) -> None:
    with environment(COREKIT_NUM_THREADS=threads, COREKIT_SIMD=level):
        hold(name, {"threads": asked})


@pytest.mark.parametrize("name", list(WAYS))
@given(options=OPTIONS, dtype=st.sampled_from(["float32", "float64"]), dim=st.integers(1, 9))
def test_options(name: str, options: dict[str, Any], dtype: str, dim: int) -> None:
    hold(name, options, dtype, dim)


@pytest.mark.parametrize("dim", [1, 2, 3, 6, 7, 16])
@pytest.mark.parametrize("name", list(WAYS))
def test_the_default_scale(name: str, dim: int) -> None:
    assert isinstance(hold(name, {}, "float64", dim), list)


@pytest.mark.parametrize("name", ["forward", "gradient"])
def test_maps_with_parameters_and_chunks(name: str) -> None:
    taken: list[dict[str, Any]] = [
        {"feature_map": Taylor(2)},
        {"chunk_size": 2},
        {"causal": False},
    ]
    refused: list[dict[str, Any]] = [
        {"chunk_size": 0},
        {"causal": 1},
        {"layout": "thbd"},
        {"layout": None},
    ]
    assert all(isinstance(hold(name, options), list) for options in taken)
    assert all(isinstance(hold(name, options), tuple) for options in refused)


@pytest.mark.parametrize("name", list(WAYS))
@pytest.mark.parametrize("text", ["+2", "2.0", "1025", "many", "٣"])
def test_a_number_of_threads_that_is_none_is_refused(name: str, text: str) -> None:
    with environment(COREKIT_NUM_THREADS=os.fsencode(text)):
        refused = hold(name, {})
        assert isinstance(refused, tuple)
        assert refused[1].startswith("COREKIT_NUM_THREADS must ")
        assert isinstance(hold(name, {"threads": 1}), list)


def test_the_usable_cpus_are_those_of_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    with environment(COREKIT_NUM_THREADS=None):
        count = _threads.count(None)
        try:
            os.sched_setaffinity(0, {min(before)})
            assert _threads.count(None) == 1
        finally:
            os.sched_setaffinity(0, before)
        assert _threads.count(None) == count == _core.build_info()["available_threads"]


def test_what_plain_arrays_are() -> None:
    q, k, v, out = (np.ones((1, 2, 3, 4), np.float32) for _ in range(4))
    assert _core.are_plain((q, k, v), (out,))
    assert _core.are_plain((q, q, q), ())
    read_only = out.copy()
    read_only.flags.writeable = False
    double = np.ones((1, 2, 3, 8), np.float32)
    for written in (q, out[:, :1], out.astype(float), read_only, double[..., ::2], out[0], [1.0]):
        assert not _core.are_plain((q, k, v), (written,))
    assert not _core.are_plain((q, k, v), (out, out))
    for read in (
        out.astype(">f4"),
        out.astype(np.float16),
        out.astype(np.int32),
        np.ma.array(out),
        out[:, :0],
        out.transpose(0, 2, 1, 3),
        None,
    ):
        assert not _core.are_plain((q, read), ())


def test_arrays_that_may_overlap() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert _core.may_overlap(x, x[1])
    assert not _core.may_overlap(x[0], x[1])
    assert not _core.may_overlap(x[::-1][0], x[::-1][1])
    assert _core.may_overlap(x[::-1, ::-1], x[0, 0])
    assert _core.may_overlap(x[..., ::2], x[..., 1::2])  # only their reach is looked at
    assert not _core.may_overlap(x[:0], x)
    assert not _core.may_overlap(x[0], np.ones(3), x[1])
    assert _core.may_overlap(x[0], np.ones(3), x)


@pytest.mark.parametrize("normalize", [False, True])
def test_heads_from_either_end(normalize: bool) -> None:
    # Steps of a thread go to and fro; the state is so small that it goes alone.
    q, k, v, _ = draw("float32", 8)
    options: dict[str, Any] = {"feature_map": "elu1", "normalize": normalize}
    results = []
    for _ in range(2):
        state = State.zeros(2, 2, 8, 8, **options)
        outs = [
            linear_attention_step(state, *(x[:, t] for x in (q, k, v)), **options) for t in range(3)
        ]
        results.append([*outs, state.s])
    assert all(same(x, y) for x, y in zip(*results, strict=True))
