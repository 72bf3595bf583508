"""Matrices, dense and sparse, as the projection takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from corekit import _arrays
from corekit._arrays import FLOATS, INTEGERS, Array, Dense, as_numpy, empty, output
from corekit.errors import ArgumentTypeError, InvalidArgumentError, MissingPackageError

__all__ = [
    "FLOATS",
    "INTEGERS",
    "Array",
    "Dense",
    "Sparse",
    "dense",
    "empty",
    "is_sparse",
    "matrix",
    "output",
    "refuse_nonfinite",
    "refuse_overlap",
    "result_dtype",
    "scipy_sparse",
]


@dataclass(frozen=True)
class Sparse:
    """A matrix in compressed rows, or, where `by_columns`, in compressed columns."""

    indptr: Array
    indices: Array
    values: Dense
    shape: tuple[int, int]
    by_columns: bool


def result_dtype(dtype: str) -> str:
    """Return the dtype of a result: floats stay what they are, integers become float64."""
    return dtype if dtype in FLOATS else "float64"


def dense(name: str, given: Any) -> Dense:
    """Return the matrix `given`, without a copy unless it is no array at all."""
    found = _arrays.array(name, given, needed="a matrix")
    if found.values.ndim != 2:
        raise InvalidArgumentError(
            f"{name} must be a matrix, of two dimensions, got {found.values.ndim} "
            f"(shape {found.shape})"
        )
    return found


def matrix(name: str, given: Any) -> Dense | Sparse:
    """Return the matrix `given`, dense or sparse.

    SciPy's CSR and CSC are taken as they are; its other formats are converted to CSR, and
    integers with duplicates are copied.
    """
    if not is_sparse(given):
        return dense(name, given)
    if given.ndim != 2:
        raise InvalidArgumentError(
            f"{name} must be a matrix, of two dimensions, got {given.ndim} (shape {given.shape})"
        )
    stored = given if given.format in ("csr", "csc") else given.tocsr()
    if stored.dtype.kind in "biu" and not stored.has_canonical_format:
        # Integers that are there more than once add up as integers, overflow and all.
        stored = stored.copy()
        stored.sum_duplicates()
    values = _arrays.array(name, np.asarray(stored.data))
    for part in (stored.indptr, stored.indices):
        if part.dtype not in (np.int32, np.int64) or not part.dtype.isnative:
            raise ArgumentTypeError(
                f"{name} must have indices of int32 or int64, got {part.dtype.str}"
            )
    wide = np.result_type(stored.indptr, stored.indices)
    return Sparse(
        np.ascontiguousarray(stored.indptr, wide),
        np.ascontiguousarray(stored.indices, wide),
        Dense(values.values[np.newaxis, :], values.dtype, as_numpy),
        tuple(stored.shape),
        stored.format == "csc",
    )


def is_sparse(given: Any) -> bool:
    """Whether it is one of SciPy's sparse matrices or arrays."""
    return type(given).__module__.startswith("scipy.sparse") and hasattr(given, "tocsr")


def refuse_overlap(name: str, out: Dense, source: str, given: Dense | Sparse) -> None:
    """Refuse an output that shares memory with an input."""
    if isinstance(given, Dense):
        _arrays.refuse_overlap(name, out, {source: given.values})
        return
    for part in (given.indptr, given.indices, given.values.values):
        _arrays.refuse_overlap(name, out, {source: part})


def refuse_nonfinite(name: str, given: Dense | Sparse) -> None:
    """Refuse NaN and infinity, looked for in blocks of rows."""
    values = given if isinstance(given, Dense) else given.values
    if values.dtype not in FLOATS:
        return
    array = values.values
    across = 1 if array.shape[0] <= 1 else 0
    count = array.shape[across]
    other = max(1, array.shape[1 - across])
    step = max(1, (1 << 18) // other)
    for first in range(0, count, step):
        part = array[first : first + step] if across == 0 else array[:, first : first + step]
        if not _all_finite(part, values.dtype):
            raise InvalidArgumentError(f"{name} must be finite, got NaN or infinity")


def _all_finite(part: Array, dtype: str) -> bool:
    if dtype == "bfloat16":
        # All bits of the exponent set: infinity or NaN.
        return not bool(((part & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(part).all())


def scipy_sparse() -> Any:
    """Return `scipy.sparse`."""
    try:
        import scipy.sparse
    except ImportError:
        raise MissingPackageError(
            "scipy must be installed for sparse matrices: pip install scipy"
        ) from None
    return scipy.sparse
