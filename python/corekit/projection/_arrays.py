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
    "compressed",
    "dense",
    "empty",
    "is_sparse",
    "matrix",
    "output",
    "refuse_damaged",
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
    if is_sparse(given):
        raise ArgumentTypeError(f"{name} must be a dense array, got {type(given).__name__}")
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
    integers that are unsorted or have duplicates are copied and sorted.
    """
    if not is_sparse(given):
        return dense(name, given)
    stored = compressed(name, given)
    if stored.dtype.kind in "biu":
        # The core checks the parts of all others, on all threads.
        refuse_damaged(name, stored)
        if not stored.has_canonical_format:
            # Integers that are there more than once add up as integers, overflow and all.
            stored = stored.copy()
            stored.sum_duplicates()
    values = _arrays.array(name, np.asarray(stored.data))
    indptr, indices = stored.indptr, stored.indices
    if len(indptr) > 0 and 0 <= indptr[-1] < min(len(indices), len(values.values)):
        # SciPy leaves room behind the last row, which is none of the matrix.
        indices = indices[: indptr[-1]]
        values = Dense(values.values[: indptr[-1]], values.dtype, values.wrap)
    wide = np.result_type(indptr, indices)
    return Sparse(
        np.ascontiguousarray(indptr, wide),
        np.ascontiguousarray(indices, wide),
        Dense(values.values[np.newaxis, :], values.dtype, as_numpy),
        tuple(stored.shape),
        stored.format == "csc",
    )


def compressed(name: str, given: Any) -> Any:
    """Return a matrix of SciPy's in CSR or CSC, whose parts have types that are taken.

    Only where it had to be converted is it known to be undamaged.
    """
    if given.ndim != 2:
        raise InvalidArgumentError(
            f"{name} must be a matrix, of two dimensions, got {given.ndim} (shape {given.shape})"
        )
    stored = given if given.format in ("csr", "csc") else _converted(name, given)
    values = _arrays.array(name, np.asarray(stored.data))
    if values.values.ndim != 1:
        raise InvalidArgumentError(f"{name}.data must have one dimension, got {values.values.ndim}")
    _check_index_types(name, stored)
    return stored


def refuse_damaged(name: str, given: Any) -> None:
    """Refuse a matrix in CSR, CSC or BSR with pointers or indices that point elsewhere.

    SciPy follows them wherever that is, out of its memory too.
    """
    rows, columns = given.blocksize if given.format == "bsr" else (1, 1)
    rows, columns = given.shape[0] // rows, given.shape[1] // columns
    major, minor = (columns, rows) if given.format == "csc" else (rows, columns)
    starts, indices = given.indptr, given.indices
    if len(starts) != major + 1:
        raise InvalidArgumentError(
            f"{name}.indptr must have {major} + 1 elements, got {len(starts)}"
        )
    if starts[0] != 0:
        raise InvalidArgumentError(f"{name}.indptr must start at 0, got {starts[0]}")
    # Compared, not subtracted: a difference may overflow.
    falls = np.flatnonzero(starts[1:] < starts[:-1])
    if len(falls) > 0:
        at = int(falls[0]) + 1
        raise InvalidArgumentError(
            f"{name}.indptr must not fall, got {starts[at]} after {starts[at - 1]} at {at}"
        )
    count = min(len(indices), len(given.data))
    if starts[-1] > count:
        raise InvalidArgumentError(f"{name}.indptr must end at {count} or before, got {starts[-1]}")
    _refuse_outside(f"{name}.indices", indices[: starts[-1]], minor)


def _converted(name: str, given: Any) -> Any:
    """Return a matrix of any other format in CSR."""
    if given.format == "bsr":
        _check_index_types(name, given)
        refuse_damaged(name, given)
    elif given.format == "coo":
        for part, length in zip(("row", "col"), given.shape, strict=True):
            _refuse_outside(f"{name}.{part}", getattr(given, part), length)
    elif given.format == "dia" and len(given.offsets) != len(given.data):
        raise InvalidArgumentError(
            f"{name}.offsets must have {len(given.data)} elements, one for each diagonal, got "
            f"{len(given.offsets)}"
        )
    try:
        return given.tocsr()
    except (TypeError, ValueError, IndexError) as error:
        raise InvalidArgumentError(
            f"{name} must be a matrix that SciPy converts to CSR, got {given.format}: {error}"
        ) from None


def _check_index_types(name: str, given: Any) -> None:
    for part in (given.indptr, given.indices):
        if part.dtype not in (np.int32, np.int64) or not part.dtype.isnative or part.ndim != 1:
            raise ArgumentTypeError(
                f"{name} must have indices of int32 or int64 in one dimension, got "
                f"{part.dtype.str} of shape {part.shape}"
            )


def _refuse_outside(name: str, indices: Array, length: int) -> None:
    if len(indices) > 0 and not 0 <= indices.min() <= indices.max() < length:
        raise InvalidArgumentError(
            f"{name} must be at least 0 and below {length}, got {indices.min()} to {indices.max()}"
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
