"""q, k and v: one dtype, shapes that fit, and views of them as the core takes them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from corekit import _arrays as arrays
from corekit import _checks
from corekit.errors import ArgumentTypeError, InvalidArgumentError

Layout: TypeAlias = Literal["bthd", "bhtd"]

_AXES = {"bthd": "(B, T, H, D)", "bhtd": "(B, H, T, D)", "bhd": "(B, H, D)"}


class Tokens(NamedTuple):
    """Queries, keys and values, with time before heads: [B, T, H, D], or [B, H, D] for a step."""

    q: arrays.Dense
    k: arrays.Dense
    v: arrays.Dense
    layout: str

    @property
    def batch(self) -> int:
        """B."""
        return self.q.shape[0]

    @property
    def time(self) -> int:
        """T."""
        return self.q.shape[1]

    @property
    def heads(self) -> int:
        """H_kv, the heads of k and v."""
        return self.k.shape[-2]

    @property
    def key_dim(self) -> int:
        """D, the size of a head of q and k."""
        return self.q.shape[-1]

    @property
    def value_dim(self) -> int:
        """V, the size of a head of v."""
        return self.v.shape[-1]

    @property
    def state_dtype(self) -> str:
        """The dtype of sums and states."""
        return "float64" if self.q.dtype == "float64" else "float32"

    def out_shape(self) -> tuple[int, ...]:
        """Return the shape of the result, in the caller's layout."""
        shape = (*self.q.values.shape[:-1], self.v.values.shape[-1])
        return swapped(shape) if self.layout == "bhtd" else shape

    def turned(self, found: arrays.Dense) -> arrays.Dense:
        """Return an array in the caller's layout with time before heads, or back."""
        return _turned(found) if self.layout == "bhtd" else found

    def named(self) -> dict[str, arrays.Array]:
        """Return the arrays by their names."""
        return {"q": self.q.values, "k": self.k.values, "v": self.v.values}


def read(q: Any, k: Any, v: Any, layout: object) -> Tokens:
    """Return q, k and v of many tokens, which must fit one another."""
    if not isinstance(layout, str):
        raise _checks.wrong_type("layout", "a str", layout)
    if layout not in ("bthd", "bhtd"):
        raise InvalidArgumentError(f"layout must be 'bthd' or 'bhtd', got {layout!r}")
    return _read(q, k, v, layout)


def read_step(q: Any, k: Any, v: Any) -> Tokens:
    """Return q, k and v of one token of each sequence."""
    return _read(q, k, v, "bhd")


def read_like(name: str, given: Any, like: Tokens) -> arrays.Dense:
    """Return an array of the shape of the result and the dtype of q."""
    found = arrays.array(name, given, dtypes=arrays.FLOATS)
    if found.shape != like.out_shape():
        raise InvalidArgumentError(
            f"{name} must have the shape of the result, {like.out_shape()}, got {found.shape}"
        )
    _same_dtype(name, found, like.q)
    return like.turned(found)


def _read(q: Any, k: Any, v: Any, layout: str) -> Tokens:
    found_q = arrays.array("q", q, dtypes=arrays.FLOATS)
    found_k = arrays.array("k", k, dtypes=arrays.FLOATS)
    found_v = arrays.array("v", v, dtypes=arrays.FLOATS)
    shape = found_q.values.shape
    # Arrays of one shape fit one another, as nearly all do.
    if (
        len(shape) != len(layout)
        or not (found_k.values.shape == shape == found_v.values.shape)
        or not (found_k.dtype == found_q.dtype == found_v.dtype)
    ):
        _refuse_misfits(found_q, found_k, found_v, layout)
    if layout == "bhtd":
        return Tokens(_turned(found_q), _turned(found_k), _turned(found_v), layout)
    return Tokens(found_q, found_k, found_v, layout)


def _refuse_misfits(
    found_q: arrays.Dense, found_k: arrays.Dense, found_v: arrays.Dense, layout: str
) -> None:
    for name, part in (("q", found_q), ("k", found_k), ("v", found_v)):
        if part.values.ndim != len(layout):
            raise InvalidArgumentError(
                f"{name} must have {len(layout)} axes, {_AXES[layout]}, got {part.values.ndim} "
                f"(shape {part.shape})"
            )
    _same_dtype("k", found_k, found_q)
    _same_dtype("v", found_v, found_q)
    heads = layout.index("h")
    _same_axis("k", found_k, "q", found_q, 0, "batch size")
    _same_axis("v", found_v, "k", found_k, 0, "batch size")
    if "t" in layout:
        time = layout.index("t")
        _same_axis("k", found_k, "q", found_q, time, "length")
        _same_axis("v", found_v, "k", found_k, time, "length")
    _same_axis("v", found_v, "k", found_k, heads, "number of heads")
    _same_axis("k", found_k, "q", found_q, -1, "head size")
    few, many = found_k.shape[heads], found_q.shape[heads]
    if many != few * (many // max(1, few)):
        raise InvalidArgumentError(
            f"q must have a multiple of the heads of k, {few} (shape {found_k.shape}), got {many} "
            f"(shape {found_q.shape})"
        )


def _same_dtype(name: str, found: arrays.Dense, q: arrays.Dense) -> None:
    if found.dtype != q.dtype:
        raise ArgumentTypeError(f"{name} must have the dtype of q, {q.dtype}, got {found.dtype}")


def _same_axis(
    name: str, found: arrays.Dense, other: str, wanted: arrays.Dense, axis: int, what: str
) -> None:
    have, need = found.shape[axis], wanted.shape[axis]
    if have != need:
        raise InvalidArgumentError(
            f"{name} must have the {what} of {other}, {need} (shape {wanted.shape}), got {have} "
            f"(shape {found.shape})"
        )


def _turned(found: arrays.Dense) -> arrays.Dense:
    return arrays.Dense(np.swapaxes(found.values, 1, 2), found.dtype, found.wrap)


def swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape with its axes 1 and 2, time and heads, in the other order."""
    first, second, third, *rest = shape
    return (first, third, second, *rest)
