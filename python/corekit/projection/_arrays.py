"""Arrays of any library as NumPy sees them, and results as the library that they came from.

NumPy is the only library that is imported here; the others are recognised by what
they bring. Nothing is copied, except where a docstring says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from corekit import _checks
from corekit.errors import (
    ArgumentTypeError,
    InvalidArgumentError,
    MissingPackageError,
    OutOfMemoryError,
)

Array: TypeAlias = npt.NDArray[Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Dense:
    """A matrix in memory.

    `values` is an ndarray of two dimensions; where `dtype` is "bfloat16" its elements
    are uint16. `wrap` makes of a result what the caller's library has for it.
    """

    values: Array
    dtype: str
    wrap: Callable[[Array, str], Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.values.shape
        return rows, columns

    @property
    def handle(self) -> tuple[Array, str]:
        """What the core takes."""
        return self.values, self.dtype


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
    """Return the matrix `given`, without a copy unless it is no array at all.

    Taken are NumPy arrays (memory maps included), torch's CPU tensors, arrays with
    ``__dlpack__`` on the CPU, and whatever `numpy.asarray` makes a matrix of.
    """
    found = _array(name, given)
    if found.values.ndim != 2:
        raise InvalidArgumentError(
            f"{name} must be a matrix, of two dimensions, got {found.values.ndim} "
            f"(shape {found.values.shape})"
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
    values = _of_numpy(name, np.asarray(stored.data), _as_numpy)
    for part in (stored.indptr, stored.indices):
        if part.dtype not in (np.int32, np.int64) or not part.dtype.isnative:
            raise ArgumentTypeError(
                f"{name} must have indices of int32 or int64, got {part.dtype.str}"
            )
    wide = np.result_type(stored.indptr, stored.indices)
    return Sparse(
        np.ascontiguousarray(stored.indptr, wide),
        np.ascontiguousarray(stored.indices, wide),
        Dense(values.values[np.newaxis, :], values.dtype, values.wrap),
        tuple(stored.shape),
        stored.format == "csc",
    )


def is_sparse(given: Any) -> bool:
    """Whether it is one of SciPy's sparse matrices or arrays."""
    return type(given).__module__.startswith("scipy.sparse") and hasattr(given, "tocsr")


def output(
    name: str, given: Any, shape: tuple[int, int], dtype: str, wrap: Callable[[Array, str], Any]
) -> tuple[Dense, Any]:
    """Return where a result of `shape` and `dtype` goes, and what to return for it.

    That is a new array when `given` is None, else `given`, which must fit and be
    writable, with no element at two places.
    """
    if given is None:
        made = _empty(shape, dtype)
        return made, None
    if not isinstance(given, np.ndarray) and not hasattr(given, "__dlpack__"):
        # What `asarray` would make of it is a copy, which the caller never sees.
        raise _checks.wrong_type(name, "an array", given)
    found = dense(name, given)
    if found.values.shape != shape:
        raise InvalidArgumentError(f"{name} must have shape {shape}, got {found.values.shape}")
    if found.dtype != dtype:
        raise ArgumentTypeError(f"{name} must have dtype {dtype}, got {found.dtype}")
    if not found.values.flags.writeable:
        raise InvalidArgumentError(f"{name} must be writable, got a read-only array")
    if _meets_itself(found.values):
        raise InvalidArgumentError(
            f"{name} must have every element at its own place, got strides "
            f"{found.values.strides} for shape {found.values.shape}"
        )
    return found, given


# Of NumPy's exact search for an element of both; what takes longer counts as found. Its type in
# the stubs has the two special values alone.
_MOST_WORK: Any = 10_000


def refuse_overlap(name: str, out: Dense, source: str, given: Dense | Sparse) -> None:
    """Refuse an output that shares memory with an input."""
    parts = (
        [given.values]
        if isinstance(given, Dense)
        else [given.indptr, given.indices, given.values.values]
    )
    for part in parts:
        try:
            shared = np.shares_memory(out.values, part, max_work=_MOST_WORK)
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            raise InvalidArgumentError(
                f"{name} must not share memory with {source}, got both in one"
            )


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


def _empty(shape: tuple[int, int], dtype: str) -> Dense:
    stored = "uint16" if dtype == "bfloat16" else dtype
    return Dense(empty(shape, stored), dtype, _as_numpy)


def empty(shape: tuple[int, int], dtype: npt.DTypeLike) -> Array:
    """Return a new array, or the error of a system that has no memory for it."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        raise OutOfMemoryError(f"cannot allocate {size} bytes for an array of {shape}") from None


def _meets_itself(array: Array) -> bool:
    """Whether two elements of a matrix may lie at the same place."""
    places = sorted(
        (abs(stride), size)
        for stride, size in zip(array.strides, array.shape, strict=True)
        if size > 1
    )
    reach = array.itemsize
    for stride, size in places:
        if stride < reach:
            return array.size > 0
        reach += stride * (size - 1)
    return False


def _array(name: str, given: Any) -> Dense:
    if isinstance(given, np.ndarray):
        return _of_numpy(name, given, _as_numpy)
    if type(given).__module__.partition(".")[0] == "torch":
        return _of_torch(name, given)
    if hasattr(given, "__dlpack__") and hasattr(given, "__dlpack_device__"):
        return _of_dlpack(name, given)
    if isinstance(given, (str, bytes, dict, set)) or given is None:
        raise _checks.wrong_type(name, "a matrix", given)
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):
        raise _checks.wrong_type(name, "a matrix", given) from None
    return _of_numpy(name, array, _as_numpy)


def _of_numpy(name: str, array: Array, wrap: Callable[[Array, str], Any]) -> Dense:
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentTypeError(f"{name} must have no mask, got a masked array: fill it first")
    dtype = array.dtype
    plain = array.view(np.ndarray)
    if dtype.name == "bfloat16":
        return Dense(plain.view(np.uint16), "bfloat16", wrap)
    if dtype.name not in FLOATS + INTEGERS:
        raise ArgumentTypeError(
            f"{name} must have a dtype of {', '.join(FLOATS)}, bool or integers of up to 64 bits, "
            f"got {dtype}"
        )
    if not dtype.isnative:
        raise ArgumentTypeError(
            f"{name} must have the machine's byte order, got dtype {dtype.str!r}"
        )
    return Dense(plain, dtype.name, wrap)


def _as_numpy(array: Array, dtype: str) -> Array:
    if dtype != "bfloat16":
        return array
    # NumPy has the type only if somebody brought it: the caller did, for the input.
    return array.view(np.dtype("bfloat16"))


def _of_torch(name: str, tensor: Any) -> Dense:
    if tensor.device.type != "cpu":
        raise InvalidArgumentError(f"{name} must be on the CPU, got device {tensor.device}")
    if tensor.layout != _torch().strided:
        raise ArgumentTypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")
    tensor = tensor.detach()
    if tensor.dtype == _torch().bfloat16:
        return Dense(tensor.view(_torch().int16).numpy().view(np.uint16), "bfloat16", _as_torch)
    try:
        array = tensor.numpy()
    except TypeError:
        raise ArgumentTypeError(
            f"{name} must have real numbers, got dtype {tensor.dtype}"
        ) from None
    return _of_numpy(name, array, _as_torch)


def _as_torch(array: Array, dtype: str) -> Any:
    if dtype == "bfloat16":
        return _torch().from_numpy(array.view(np.int16)).view(_torch().bfloat16)
    return _torch().from_numpy(array)


def _torch() -> Any:
    import sys

    return sys.modules["torch"]


# DLPack's numbers of devices whose memory the CPU reads: itself, and pinned memory of CUDA.
_CPU_DEVICES = (1, 3)


def _of_dlpack(name: str, given: Any) -> Dense:
    device = given.__dlpack_device__()
    if device[0] not in _CPU_DEVICES:
        raise InvalidArgumentError(f"{name} must be on the CPU, got DLPack device {tuple(device)}")

    def wrap(array: Array, dtype: str) -> Any:
        plain = _as_numpy(array, dtype)
        if not hasattr(given, "__array_namespace__"):
            return plain
        library = given.__array_namespace__()
        try:
            return library.from_dlpack(plain)
        except (TypeError, ValueError, RuntimeError, BufferError):
            # DLPack of NumPy has no bfloat16; `asarray` has.
            return library.asarray(plain)

    try:
        array = np.from_dlpack(given)
    except (TypeError, ValueError, RuntimeError, BufferError):
        array = np.asarray(given)
    return _of_numpy(name, array, wrap)


def scipy_sparse() -> Any:
    """Return `scipy.sparse`."""
    try:
        import scipy.sparse
    except ImportError:
        raise MissingPackageError(
            "scipy must be installed for sparse matrices: pip install scipy"
        ) from None
    return scipy.sparse
