"""Decays: natural logarithms, one a head, a token and head, or a coordinate as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corekit import _arrays as arrays
from corekit.attention import _maps, _tokens
from corekit.errors import InvalidArgumentError

Mask = npt.NDArray[np.bool_]

# Elements of one look at bfloat16, which NumPy cannot compare.
_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Decay:
    """A decay as it was given, and as the core takes it."""

    given: arrays.Dense
    values: arrays.Array  # [B, T, H, 1 or K], or without T for a step
    per_head: bool
    is_turned: bool

    @property
    def handle(self) -> tuple[arrays.Array, str]:
        """What the core takes."""
        return self.values, self.given.dtype

    def gradient_shape(self) -> tuple[int, ...]:
        """Return the shape of what the core gives for it."""
        shape: tuple[int, ...] = self.values.shape
        return shape

    def gradient(self, full: arrays.Array, wrap: arrays.Wrap) -> Any:
        """Return the gradient in the shape and the dtype of what was given."""
        if self.per_head:
            # In float64: a sum over all tokens.
            summed = full.sum(axis=(0, 1, 3), dtype=np.float64)
        else:
            summed = full if self.given.values.ndim == 4 else full[..., 0]
            if self.is_turned:
                summed = np.swapaxes(summed, 1, 2)
        dtype = self.given.dtype
        if dtype == "bfloat16":
            return wrap(_rounded_to_bfloat16(summed), dtype)
        return wrap(np.ascontiguousarray(summed, dtype), dtype)


def read(
    given: Any, tokens: _tokens.Tokens, feature_map: _maps.Checked, key_mask: Mask | None = None
) -> Decay:
    """Return the decay given, which must fit, and must not be positive where it is read."""
    found = arrays.array("decay", given, dtypes=arrays.FLOATS)
    full = tokens.k.shape  # [B, T, H, D], or [B, H, D]
    is_turned = tokens.layout == "bhtd"
    axes = "B, H_kv, T" if is_turned else "B, T, H_kv" if len(full) == 4 else "B, H_kv"
    seen = _tokens.swapped(full) if is_turned else full
    values = found.values
    if found.shape == (full[-2],):
        shaped = values[:, np.newaxis]
    elif found.shape == seen[:-1]:
        shaped = values[..., np.newaxis]
    elif found.shape == seen:
        if isinstance(feature_map, str):
            shaped = values
        else:
            raise InvalidArgumentError(
                "decay must be one value a head, or a head and token, with feature_map "
                f"{feature_map!r}, whose features are not the coordinates of k, got shape "
                f"{found.shape}"
            )
    else:
        raise InvalidArgumentError(
            f"decay must have shape (H_kv,), ({axes}) or ({axes}, D), that is ({full[-2]},), "
            f"{seen[:-1]} or {seen}, got {found.shape}"
        )
    per_head = values.ndim == 1
    if is_turned and not per_head:
        shaped = np.swapaxes(shaped, 1, 2)
    _refuse_growth(found, shaped, None if per_head else key_mask)
    return Decay(
        found,
        np.broadcast_to(shaped, (*full[:-1], shaped.shape[-1])),
        per_head,
        is_turned and not per_head,
    )


def _refuse_growth(found: arrays.Dense, shaped: arrays.Array, key_mask: Mask | None) -> None:
    """Refuse NaN and what is above 0, but where the mask hides it."""
    if shaped.size == 0:
        return
    mask = None if key_mask is None else key_mask[:, :, np.newaxis, np.newaxis]
    if found.dtype == "bfloat16":
        largest = (_largest(part, seen) for part, seen in _blocks(shaped, mask))
        most = next((value for value in largest if not _is_decay(value)), 0.0)
    else:
        # Nothing is allocated here, and nearly always the mask is not needed.
        with np.errstate(invalid="ignore"):
            most = float(shaped.max())
            if not _is_decay(most) and mask is not None:
                most = float(
                    np.max(shaped, where=np.broadcast_to(mask, shaped.shape), initial=-np.inf)
                )
    if not _is_decay(most):
        raise InvalidArgumentError(
            f"decay must be at most 0 everywhere, being a natural logarithm, got {most:g}"
        )


def _is_decay(most: float) -> bool:
    return most <= 0  # and so no NaN


def _largest(part: arrays.Array, seen: Mask | None) -> float:
    """Return the largest of some bfloat16, NaN if there is one."""
    wide = (part.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if seen is not None:
        wide = wide[np.broadcast_to(seen, wide.shape)]
    return float(wide.max(initial=-np.inf))


def _blocks(shaped: arrays.Array, mask: Mask | None) -> Iterator[tuple[arrays.Array, Mask | None]]:
    """Cut along time, so that not much is looked at together."""
    if shaped.ndim < 4:
        yield shaped, mask
        return
    step = max(1, _AT_ONCE // max(1, shaped.size // shaped.shape[1]))
    for first in range(0, shaped.shape[1], step):
        part = slice(first, first + step)
        yield shaped[:, part], None if mask is None else mask[:, part]


def _rounded_to_bfloat16(values: arrays.Array) -> arrays.Array:
    """Return the bits of the nearest bfloat16, ties to even."""
    rounded = np.empty(values.shape, np.uint16)
    longest = max(range(values.ndim), key=values.shape.__getitem__)
    source, to = (np.moveaxis(x, longest, 0) for x in (values, rounded))
    # In parts: what is made on the way is several times as large as the result.
    step = max(1, _AT_ONCE * len(source) // max(1, values.size))
    for first in range(0, len(source), step):
        part = slice(first, first + step)
        to[part] = _nearest_bfloat16(np.ascontiguousarray(source[part], np.float32))
    return rounded


def _nearest_bfloat16(values: npt.NDArray[np.float32]) -> arrays.Array:
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    quiet = bits >> np.uint32(16) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet, rounded)
