"""Arrays of any library as NumPy sees them, and results as the library that they came from.

NumPy is the only library that is imported here; the others are recognised by what
they bring. Nothing is copied, except where a docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from corekit import _checks, _core
from corekit.errors import ArgumentTypeError, InvalidArgumentError, OutOfMemoryError

Array: TypeAlias = npt.NDArray[Any]
Wrap: TypeAlias = Callable[[Array, str], Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NUMBERS = FLOATS + INTEGERS

# What elements are stored as, in the machine's byte order, and the names of what NumPy has.
_STORED: Final = {name: np.dtype(name.replace("bfloat16", "uint16")) for name in NUMBERS}
_NAMES: Final = {stored: name for name, stored in _STORED.items() if name != "bfloat16"}


class Dense(NamedTuple):
    """An array in memory, which the core takes as it is.

    `values` is an ndarray; where `dtype` is "bfloat16" its elements are uint16. `wrap`
    makes of a result what the caller's library has for it.
    """

    values: Array
    dtype: str
    wrap: Wrap

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis."""
        shape: tuple[int, ...] = self.values.shape
        return shape


def array(
    name: str, given: Any, *, needed: str = "an array", dtypes: Sequence[str] = NUMBERS
) -> Dense:
    """Return the array `given`, without a copy unless it is no array at all.

    Taken are NumPy arrays (memory maps included), torch's CPU tensors, arrays with
    ``__dlpack__`` on the CPU, and whatever `numpy.asarray` makes an array of.
    """
    if type(given) is np.ndarray:
        named = _NAMES.get(given.dtype)
        if named is not None and named in dtypes:
            return Dense(given, named, as_numpy)
    if isinstance(given, np.ndarray):
        return _of_numpy(name, given, as_numpy, dtypes)
    if type(given).__module__.partition(".")[0] == "torch":
        return _of_torch(name, given, dtypes)
    if hasattr(given, "__dlpack__") and hasattr(given, "__dlpack_device__"):
        return _of_dlpack(name, given, dtypes)
    if isinstance(given, (str, bytes, dict, set)) or given is None:
        raise _checks.wrong_type(name, needed, given)
    try:
        made = np.asarray(given)
    except (TypeError, ValueError):
        raise _checks.wrong_type(name, needed, given) from None
    if made.dtype == object and made.ndim == 0:
        raise _checks.wrong_type(name, needed, given)
    return _of_numpy(name, made, as_numpy, dtypes)


def output(
    name: str, given: Any, shape: tuple[int, ...], dtype: str, wrap: Wrap
) -> tuple[Dense, Any]:
    """Return where a result of `shape` and `dtype` goes, and what to return for it.

    That is a new array when `given` is None, else `given`, which must fit and be
    writable, with no element at two places.
    """
    if given is None:
        return new(shape, dtype, wrap), None
    if not isinstance(given, np.ndarray) and not hasattr(given, "__dlpack__"):
        # What `asarray` would make of it is a copy, which the caller never sees.
        raise _checks.wrong_type(name, "an array", given)
    found = array(name, given)
    if found.shape != shape:
        raise InvalidArgumentError(f"{name} must have shape {shape}, got {found.shape}")
    if found.dtype != dtype:
        raise ArgumentTypeError(f"{name} must have dtype {dtype}, got {found.dtype}")
    refuse_unwritable(name, found)
    return found, given


def refuse_unwritable(name: str, given: Dense) -> None:
    """Refuse an array that cannot be written, or that has two elements at one place."""
    flags = given.values.flags
    if not flags.writeable:
        raise InvalidArgumentError(f"{name} must be writable, got a read-only array")
    if not flags.c_contiguous and _meets_itself(given.values):
        raise InvalidArgumentError(
            f"{name} must have every element at its own place, got strides "
            f"{given.values.strides} for shape {given.shape}"
        )


# Of NumPy's exact search for an element of both; what takes longer counts as found. Its type in
# the stubs has the two special values alone.
_MOST_WORK: Any = 10_000


def refuse_overlap(name: str, out: Dense, read: Mapping[str, Array]) -> None:
    """Refuse an output that shares memory with what is read: arrays by their names."""
    if not _core.may_overlap(out.values, *read.values()):
        return
    for source, part in read.items():
        try:
            shared = np.shares_memory(out.values, part, max_work=_MOST_WORK)
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            raise InvalidArgumentError(
                f"{name} must not share memory with {source}, got both in one"
            )


def dtype_name(name: str, given: Any, *allowed: str) -> str:
    """Return the name of the dtype given, which must be one of these."""
    try:
        wanted: str = np.dtype(given).name
    except TypeError:
        raise _checks.wrong_type(name, _listed(allowed), given) from None
    if wanted not in allowed:
        raise InvalidArgumentError(f"{name} must be {_listed(allowed)}, got {wanted}")
    return wanted


def new(shape: tuple[int, ...], dtype: str, wrap: Wrap) -> Dense:
    """Return a new array for a result."""
    return Dense(empty(shape, _STORED[dtype]), dtype, wrap)


# Bytes of a large page: of x86-64, and of most aarch64 kernels.
_LARGE_PAGE = 1 << 21


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return a new array, or the error of a system that has no memory for it."""
    of = np.dtype(dtype)
    size = math.prod(shape) * of.itemsize
    try:
        if size < _LARGE_PAGE:
            return np.empty(shape, of)
        # NumPy asks the system for large pages, which come several times as fast; it gets them
        # where whole ones fit in.
        memory = np.empty(size + _LARGE_PAGE, np.uint8)
        start = -memory.__array_interface__["data"][0] % _LARGE_PAGE
        return memory[start : start + size].view(of).reshape(shape)
    except (MemoryError, ValueError):
        raise OutOfMemoryError(
            f"cannot allocate {size} bytes for an array of {tuple(shape)}"
        ) from None


def _meets_itself(array: Array) -> bool:
    """Whether two elements of an array with gaps or turned axes may lie at the same place."""
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


def _of_numpy(name: str, array: Array, wrap: Wrap, dtypes: Sequence[str]) -> Dense:
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentTypeError(f"{name} must have no mask, got a masked array: fill it first")
    dtype = array.dtype
    named = _name(dtype)
    plain = array if type(array) is np.ndarray else array.view(np.ndarray)
    if named not in dtypes:
        raise ArgumentTypeError(f"{name} must have a dtype of {_listed(dtypes)}, got {dtype}")
    if not dtype.isnative:
        raise ArgumentTypeError(
            f"{name} must have the machine's byte order, got dtype {dtype.str!r}"
        )
    if named == "bfloat16":
        return Dense(plain.view(np.uint16), "bfloat16", wrap)
    return Dense(plain, named, wrap)


def _put_together(dtype: np.dtype[Any]) -> str:
    return dtype.name


# A dtype's name, which NumPy puts together for every question.
_name = lru_cache(64)(_put_together)


def _listed(dtypes: Sequence[str]) -> str:
    if dtypes is NUMBERS:
        return f"{', '.join(FLOATS)}, bool or integers of up to 64 bits"
    *most, last = dtypes
    return f"{', '.join(most)} or {last}" if most else last


def as_numpy(array: Array, dtype: str) -> Array:
    """Return a result as NumPy has it."""
    if dtype != "bfloat16":
        return array
    # NumPy has the type only if somebody brought it: the caller did, for the input.
    return array.view(np.dtype("bfloat16"))


def _of_torch(name: str, tensor: Any, dtypes: Sequence[str]) -> Dense:
    if tensor.device.type != "cpu":
        raise InvalidArgumentError(f"{name} must be on the CPU, got device {tensor.device}")
    if tensor.layout != _torch().strided:
        raise ArgumentTypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")
    tensor = tensor.detach()
    if tensor.dtype == _torch().bfloat16:
        if "bfloat16" not in dtypes:
            raise ArgumentTypeError(f"{name} must have a dtype of {_listed(dtypes)}, got bfloat16")
        return Dense(tensor.view(_torch().int16).numpy().view(np.uint16), "bfloat16", _as_torch)
    try:
        array = tensor.numpy()
    except TypeError:
        raise ArgumentTypeError(
            f"{name} must have real numbers, got dtype {tensor.dtype}"
        ) from None
    return _of_numpy(name, array, _as_torch, dtypes)


def _as_torch(array: Array, dtype: str) -> Any:
    if dtype == "bfloat16":
        return _torch().from_numpy(array.view(np.int16)).view(_torch().bfloat16)
    return _torch().from_numpy(array)


def _torch() -> Any:
    import sys

    return sys.modules["torch"]


# DLPack's numbers of devices whose memory the CPU reads: itself, and pinned memory of CUDA.
_CPU_DEVICES = (1, 3)


def _of_dlpack(name: str, given: Any, dtypes: Sequence[str]) -> Dense:
    device = given.__dlpack_device__()
    if device[0] not in _CPU_DEVICES:
        raise InvalidArgumentError(f"{name} must be on the CPU, got DLPack device {tuple(device)}")

    def wrap(array: Array, dtype: str) -> Any:
        plain = as_numpy(array, dtype)
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
        # It may be a copy, so that what is written to it could be lost.
        array = np.asarray(given).view()
        array.flags.writeable = False
    return _of_numpy(name, array, wrap, dtypes)
