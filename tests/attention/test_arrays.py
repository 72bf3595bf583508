"""The promise: arrays of other libraries come in without a copy, and the same kind goes out."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attention.calls import DTYPES, Case, draw, same
from attention.reference import Array
from corekit.attention import (
    Favor,
    State,
    features,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)
from corekit.errors import InvalidArgumentError


class Tensor:
    """An array of a library that knows DLPack and the array API's names, and little else.

    It counts how often its memory was asked for, and refuses to copy it.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        self.lent = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return self.values.ndim

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        assert not copy, "a copy was asked for"
        self.lent += 1
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return SimpleNamespace(
            from_dlpack=lambda other, **_: Tensor(np.from_dlpack(other)),
            asarray=lambda other, **_: Tensor(np.asarray(other)),
        )

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise AssertionError("it was copied through __array__")


class Elsewhere(Tensor):
    """An array in the memory of an accelerator."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("it is not in the memory of the processor")


def every_call(
    convert: Callable[[Array], Any], back: Callable[[Any], Array], dtype: str, kind: type
) -> None:
    """Make each call with arrays of another library: what comes out is of it, and as NumPy's."""
    call = draw(Case(T=70, D=12, V=9, G=2, decay="token", dtype=dtype, initial=True, strong=False))
    assert call.initial is not None
    assert call.decay is not None
    q, k, v, decay = (convert(x) for x in (call.q, call.k, call.v, call.decay))
    initial = State(convert(call.initial.s), None, None)

    def is_same(got: Any, expected: Any) -> None:
        if isinstance(expected, tuple):
            for one, other in zip(got, expected, strict=True):
                is_same(one, other)
        elif expected is None:
            assert got is None
        else:
            assert type(got) is kind
            assert same(back(got), expected)

    options: dict[str, Any] = {"decay": call.decay, "initial_state": call.initial}
    converted: dict[str, Any] = {"decay": decay, "initial_state": initial}
    expected = linear_attention(call.q, call.k, call.v, return_state=True, **options)
    is_same(linear_attention(q, k, v, return_state=True, **converted), expected)
    out = convert(np.full_like(expected[0], 7))
    assert linear_attention(q, k, v, out=out, **converted) is out
    is_same(out, expected[0])
    is_same(softmax_attention(q, k, v), softmax_attention(call.q, call.k, call.v))
    is_same(features(q, Favor(7, seed=1)), features(call.q, Favor(7, seed=1)))
    dout = expected[0]
    is_same(
        linear_attention_vjp(q, k, v, convert(dout), **converted),
        linear_attention_vjp(call.q, call.k, call.v, dout, **options),
    )
    # A step changes the memory of the library's own arrays.
    plain = State(call.initial.s.copy(), None, None)
    held = State(convert(call.initial.s.copy()), None, None)
    tokens = [x[:, 0].copy() for x in (call.q, call.k, call.v)]
    wanted = linear_attention_step(plain, *tokens)
    is_same(linear_attention_step(held, *map(convert, tokens)), wanted)
    is_same(held.s, plain.s)
    assert not same(plain.s, call.initial.s)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_anything_with_dlpack(dtype: str) -> None:
    every_call(Tensor, lambda x: np.asarray(x.values), dtype, Tensor)


def test_memory_is_asked_for_once() -> None:
    call = draw(Case(T=20))
    arrays = [Tensor(x) for x in (call.q, call.k, call.v)]
    linear_attention(*arrays)
    assert [x.lent for x in arrays] == [1, 1, 1]


def test_the_strict_array_api() -> None:
    strict = pytest.importorskip("array_api_strict")
    kind = type(strict.asarray(np.ones(1)))
    for dtype in ("float32", "float64"):
        # Copied, for what it converts has to be writable.
        every_call(lambda x: strict.asarray(x, copy=True), np.asarray, dtype, kind)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")

    def convert(x: Array) -> Any:
        if x.dtype == DTYPES["bfloat16"]:
            return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(x)

    def back(x: Any) -> Array:
        assert x.device.type == "cpu"
        if x.dtype == torch.bfloat16:
            return np.asarray(x.view(torch.int16).numpy()).view(DTYPES["bfloat16"])
        return np.asarray(x.numpy())

    every_call(convert, back, dtype, torch.Tensor)


def test_gradients_by_autograd() -> None:
    """The gradients are those of automatic differentiation of the recurrence."""
    torch = pytest.importorskip("torch")
    call = draw(Case(T=30, D=6, V=5, decay="vector", dtype="float64", initial=True, strong=False))
    assert call.initial is not None
    q, k, v, g, s = (
        torch.tensor(x, requires_grad=True)
        for x in (call.q, call.k, call.v, call.decay, call.initial.s)
    )
    phi_q, phi_k = (torch.nn.functional.elu(x) + 1 for x in (q, k))
    state, outs = s, []
    for t in range(30):
        state = torch.exp(g[:, t])[..., None] * state + phi_k[:, t, ..., None] * v[:, t, :, None]
        outs.append(6**-0.5 * (phi_q[:, t, ..., None] * state).sum(-2))
    out = torch.stack(outs, dim=1)
    dout = np.random.default_rng(1).standard_normal(out.shape)
    (out * torch.tensor(dout)).sum().backward()
    got = linear_attention_vjp(
        call.q,
        call.k,
        call.v,
        dout,
        feature_map="elu1",
        decay=call.decay,
        initial_state=call.initial,
    )
    assert got.initial_state is not None
    found = [got.q, got.k, got.v, got.decay, got.initial_state.s]
    for one, tensor in zip(found, (q, k, v, g, s), strict=True):
        np.testing.assert_allclose(one, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_tensors_that_want_gradients_are_data() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones((1, 5, 2, 4), requires_grad=True)
    assert not linear_attention(x, x, x).requires_grad


def test_memory_of_an_accelerator_is_refused() -> None:
    call = draw(Case(T=20))
    arrays = [call.q, call.k, call.v]
    for place, name in enumerate("qkv"):
        given: list[Any] = list(arrays)
        given[place] = Elsewhere(arrays[place])
        for function in (linear_attention, softmax_attention):
            with pytest.raises(InvalidArgumentError, match=rf"^{name} must be on the CPU, got"):
                function(*given)


class Marked(np.ndarray[Any, np.dtype[Any]]):
    """A subclass of NumPy's array."""


def test_subclasses_of_numpys_array_give_plain_arrays() -> None:
    call = draw(Case(T=20))
    got = linear_attention(*(x.view(Marked) for x in (call.q, call.k, call.v)))
    assert type(got) is np.ndarray
    assert same(got, call.run()[0])
    state = State.zeros(1, 2, 16, 16)
    tokens = [x[:, 0].view(Marked) for x in (call.q, call.k, call.v)]
    assert type(linear_attention_step(state, *tokens)) is np.ndarray


def test_memory_maps(tmp_path: Any) -> None:
    call = draw(Case(T=200, D=12, V=9))
    mapped = []
    for name in "qkv":
        np.save(tmp_path / f"{name}.npy", getattr(call, name))
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    out = np.lib.format.open_memmap(
        tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=call.v.shape
    )
    assert linear_attention(*mapped, out=out) is out
    out.flush()
    assert same(np.load(tmp_path / "out.npy"), call.run()[0])
