"""The promise: arrays of other libraries come in without a copy, and the same kind goes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from corekit.errors import InvalidArgumentError
from corekit.projection import SparseProjection
from projection.formula import KINDS
from projection.operators import Array, data, make, same

N, D, K = 30, 67, 40


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


def pairs(projection: SparseProjection, dtype: str = "float32") -> list[tuple[Any, Array]]:
    k = projection.n_components
    return [
        (projection.project, data(N, D, dtype)),
        (projection.adjoint, data(N, k, dtype)),
        (projection.left, data(D, N, dtype)),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
@pytest.mark.parametrize("kind", KINDS)
def test_anything_with_dlpack(kind: str, dtype: str) -> None:
    for call, X in pairs(make(kind, D, K), dtype):
        for values in (X, np.asfortranarray(X), X[::-1].copy()[::-1]):
            tensor = Tensor(values)
            Y = call(tensor)
            assert type(Y) is Tensor
            assert tensor.lent == 1
            assert same(Y.values, call(X))


def test_into_an_output_with_dlpack() -> None:
    for call, X in pairs(make("block-stack", D, K)):
        out = Tensor(np.full_like(call(X), 7))
        assert call(Tensor(X), out=out) is out
        assert same(out.values, call(X))


class Copied(Tensor):
    """An array that cannot be lent, only copied: there is nothing to write to."""

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("this type is none of DLPack's")

    def __array__(self, *_: Any, **__: Any) -> Array:
        return self.values.copy()


def test_an_output_that_would_be_a_copy_is_refused() -> None:
    for call, X in pairs(make("block-stack", D, K)):
        assert same(call(Copied(X)).values, call(X))
        out = Copied(np.full_like(call(X), 7))
        with pytest.raises(InvalidArgumentError, match=r"^out must be writable, got"):
            call(X, out=out)
        assert (out.values == 7).all()


def test_an_output_of_numpy_for_another_input() -> None:
    for call, X in pairs(make("block-stack", D, K)):
        out = np.full_like(call(X), 7)
        assert call(Tensor(X), out=out) is out
        assert same(out, call(X))


def test_memory_of_an_accelerator_is_refused() -> None:
    for call, X in pairs(make("block-stack", D, K)):
        with pytest.raises(InvalidArgumentError, match=r"^[XY] must be on the CPU, got"):
            call(Elsewhere(X))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_the_strict_array_api(dtype: str) -> None:
    strict = pytest.importorskip("array_api_strict")
    for call, X in pairs(make("block-stack", D, K), dtype):
        Y = call(strict.asarray(X))
        assert type(Y) is type(strict.asarray(X))
        assert same(np.asarray(Y), call(X))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64"])
def test_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    for call, X in pairs(make("block-stack", D, K), "float32" if dtype == "bfloat16" else dtype):
        tensor = torch.from_numpy(X)
        if dtype == "bfloat16":
            tensor = tensor.bfloat16()
        Y = call(tensor)
        assert type(Y) is torch.Tensor
        assert Y.dtype == (torch.float64 if dtype == "int64" else tensor.dtype)
        assert Y.device.type == "cpu"
        if dtype == "bfloat16":
            assert torch.equal(Y, call(tensor.float()).bfloat16())
        else:
            assert same(Y.numpy(), call(X))
        assert torch.equal(call(tensor.t().contiguous().t()), Y)
        out = torch.full_like(Y, 7)
        assert call(tensor, out=out) is out
        assert torch.equal(out, Y)


def test_a_tensor_that_wants_gradients_is_data() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.zeros((N, D), requires_grad=True)
    assert not make("block-stack", D, K).project(tensor).requires_grad


class Marked(np.ndarray[Any, np.dtype[Any]]):
    """A subclass of NumPy's array."""


def test_subclasses_of_numpys_array_give_plain_arrays() -> None:
    for call, X in pairs(make("block-stack", D, K)):
        Y = call(X.view(Marked))
        assert same(np.asarray(Y), call(X))


def test_masked_arrays_are_refused() -> None:
    # What lies below a mask is not data.
    X = np.ma.masked_array(data(N, D), mask=np.eye(N, D, dtype=bool))
    with pytest.raises(TypeError, match=r"^X must .*mask"):
        make("block-stack", D, K).project(X)
