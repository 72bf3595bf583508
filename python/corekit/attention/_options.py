"""The other arguments of the functions: packing, masks, and numbers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from corekit import _arrays as arrays
from corekit import _checks, _core
from corekit._how import Array
from corekit.attention._tokens import Tokens
from corekit.errors import InvalidArgumentError

MOST_CHUNK: Final = 1024


def offsets(given: Any, tokens: Tokens) -> npt.NDArray[np.int64]:
    """Return `cu_seqlens`, where sequences start and the last ends, as a copy that was checked."""
    found = arrays.array("cu_seqlens", given, dtypes=("int32", "int64"))
    if found.values.ndim != 1 or found.values.size == 0:
        raise InvalidArgumentError(
            f"cu_seqlens must have one axis and at least one entry, got shape {found.shape}"
        )
    if tokens.batch != 1:
        raise InvalidArgumentError(
            f"q must have batch size 1 with cu_seqlens, got {tokens.batch} (shape {tokens.q.shape})"
        )
    copy: npt.NDArray[np.int64] = np.array(found.values, dtype=np.int64)
    if copy[0] != 0:
        raise InvalidArgumentError(f"cu_seqlens must start with 0, got {copy[0]}")
    if copy[-1] != tokens.time:
        raise InvalidArgumentError(
            f"cu_seqlens must end with the length of q, {tokens.time}, got {copy[-1]}"
        )
    falls = np.flatnonzero(copy[1:] < copy[:-1])
    if falls.size > 0:
        at = int(falls[0])
        raise InvalidArgumentError(
            f"cu_seqlens must not fall, got {copy[at + 1]} after {copy[at]} at {at + 1}"
        )
    return copy


def mask(given: Any, tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Return `key_mask`, which says what is attended to."""
    found = arrays.array("key_mask", given, dtypes=("bool",))
    wanted = (tokens.batch, tokens.time)
    if found.shape != wanted:
        raise InvalidArgumentError(
            f"key_mask must have shape (B, T), that is {wanted}, got {found.shape}"
        )
    return found.values


def mask_handle(mask: npt.NDArray[np.bool_] | None) -> Array | None:
    """Return what the core takes for a mask."""
    return None if mask is None else (mask, "bool")


def eps(given: object) -> float:
    """Return `eps`, the least magnitude of a normaliser."""
    number = _checks.real("eps", given)
    if number < _core.LEAST_EPS:
        raise InvalidArgumentError(f"eps must be at least 2**-126, got {number}")
    return number


def chunk(given: object) -> int | None:
    """Return `chunk_size`, or None for the core's choice."""
    if given is None:
        return None
    return _checks.integer("chunk_size", given, low=1, high=MOST_CHUNK + 1)
