"""What linear attention carries from one token to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from corekit import _arrays as arrays
from corekit import _checks
from corekit.attention import _maps
from corekit.errors import ArgumentTypeError, InvalidArgumentError


class State(NamedTuple):
    """What linear attention carries from one token to the next.

    N is the batch, or with `cu_seqlens` the number of sequences; H_kv the heads of k and v;
    m the features of the map; V the size of a head of v. The dtype is float64 for float64
    input and float32 for all other, and the arrays are of the library of q.

    Attributes
    ----------
    s : array of shape (N, H_kv, m, V)
        The sum of phi(k_t) v_tᵀ, decayed.
    z : array of shape (N, H_kv, m), or None
        The sum of phi(k_t), decayed; only with ``normalize=True``.
    log_scale : array of shape (N, H_kv), or None
        Only with `Favor`: s and z are held multiplied by exp(-log_scale), and -inf is an
        empty state.

    Examples
    --------
    >>> from corekit.attention import State
    >>> state = State.zeros(1, 8, 64, 64, normalize=True)
    >>> state.s.shape, state.z.shape, state.log_scale
    ((1, 8, 64, 64), (1, 8, 64), None)
    """

    s: Any
    z: Any = None
    log_scale: Any = None

    @classmethod
    def zeros(
        cls,
        batch: int,
        heads: int,
        key_dim: int,
        value_dim: int,
        *,
        feature_map: _maps.FeatureMap = None,
        normalize: bool = False,
        dtype: npt.DTypeLike = "float32",
    ) -> State:
        """Make the state before the first token, to decode from.

        Parameters
        ----------
        batch
            N, sequences.
        heads
            H_kv, heads of k and v.
        key_dim, value_dim
            D and V, the sizes of their heads.
        feature_map, normalize
            As they will be in `linear_attention_step`.
        dtype
            float32, or float64 for q, k and v of float64.

        Returns
        -------
        State
            Of NumPy arrays, which go with any library's q, k and v.

        Raises
        ------
        InvalidArgumentError
            A size below 0, or a dtype that no state has.
        ArgumentTypeError
            An argument of a type that is not taken.
        OutOfMemoryError
            The map has no state of this size, or the system has no memory for it.
        """
        n = _checks.integer("batch", batch, low=0)
        h = _checks.integer("heads", heads, low=0)
        d = _checks.integer("key_dim", key_dim, low=0)
        v = _checks.integer("value_dim", value_dim, low=0)
        applied = _maps.check(feature_map)
        _checks.switch("normalize", normalize)
        of = arrays.dtype_name("dtype", dtype, "float32", "float64")
        _maps.refuse_large_state(applied, d, v, of, "State.zeros")
        made = new(
            Shape(n, h, _maps.n_features(applied, d), v),
            of,
            arrays.as_numpy,
            normalize,
            _maps.keeps_log_scale(applied),
        )
        for part in (made.s, made.z):
            if part is not None:
                part.values.fill(0)
        if made.log_scale is not None:
            made.log_scale.values.fill(-np.inf)
        return made.wrapped()


class Shape(NamedTuple):
    """Sequences, heads of k and v, features, and the size of a head of v."""

    sequences: int
    heads: int
    features: int
    value_dim: int


class Held(NamedTuple):
    """A state as NumPy sees it, and as the core takes it."""

    s: arrays.Dense
    z: arrays.Dense | None = None
    log_scale: arrays.Dense | None = None

    def parts(self) -> Iterator[tuple[str, arrays.Dense]]:
        """Give the arrays that there are, with their names."""
        for name in ("s", "z", "log_scale"):
            part = getattr(self, name)
            if part is not None:
                yield name, part

    def named(self, name: str) -> dict[str, arrays.Array]:
        """Return the arrays by their names in a state of that name."""
        return {f"{name}.{field}": part.values for field, part in self.parts()}

    def wrapped(self) -> State:
        """Return it as the caller's library has it."""
        return State(**{name: part.wrap(part.values, part.dtype) for name, part in self.parts()})


def new(shape: Shape, dtype: str, wrap: arrays.Wrap, with_z: bool, with_log_scale: bool) -> Held:
    """Return a state that is to be filled."""
    return Held(
        arrays.new(shape, dtype, wrap),
        arrays.new(shape[:3], dtype, wrap) if with_z else None,
        arrays.new(shape[:2], dtype, wrap) if with_log_scale else None,
    )


def read(
    name: str,
    given: object,
    shape: Shape,
    dtype: str,
    *,
    with_z: bool,
    with_log_scale: bool,
    is_gradient: bool = False,
) -> Held:
    """Return the state given, which must fit; strides are left as they are."""
    if not isinstance(given, State):
        raise _checks.wrong_type(name, "a State", given)
    return Held(
        _part(f"{name}.s", given.s, shape, dtype),
        _optional(
            f"{name}.z",
            given.z,
            shape[:3],
            dtype,
            with_z,
            "normalize=True",
            "without normalize=True",
        ),
        _optional(
            f"{name}.log_scale",
            given.log_scale,
            shape[:2],
            dtype,
            with_log_scale,
            "a Favor map",
            "in a gradient" if is_gradient else "without a Favor map",
        ),
    )


def contiguous(held: Held) -> Held:
    """Return the state in C order, copied where it is not."""
    return Held(
        **{
            name: arrays.Dense(np.ascontiguousarray(part.values), part.dtype, part.wrap)
            for name, part in held.parts()
        }
    )


def refuse_unwritable(name: str, held: Held) -> None:
    """Refuse a state that cannot be changed where it is."""
    seen: dict[str, arrays.Array] = {}
    for field, part in held.parts():
        if not part.values.flags.c_contiguous:
            raise InvalidArgumentError(
                f"{name}.{field} must be contiguous in C order, got strides "
                f"{part.values.strides} for shape {part.shape}"
            )
        if not part.values.flags.aligned:
            raise InvalidArgumentError(
                f"{name}.{field} must be aligned to its elements, for it is changed in place, got "
                f"one that begins {part.values.ctypes.data % part.values.itemsize} bytes after"
            )
        arrays.refuse_unwritable(f"{name}.{field}", part)
        arrays.refuse_overlap(f"{name}.{field}", part, seen)
        seen[f"{name}.{field}"] = part.values


def _optional(
    name: str,
    given: Any,
    shape: tuple[int, ...],
    dtype: str,
    wanted: bool,
    with_what: str,
    otherwise: str,
) -> arrays.Dense | None:
    if (given is not None) != wanted:
        need = f"be given with {with_what}" if wanted else f"be None {otherwise}"
        found = "None" if given is None else f"an array of type {type(given).__name__}"
        raise InvalidArgumentError(f"{name} must {need}, got {found}")
    return _part(name, given, shape, dtype) if wanted else None


def _part(name: str, given: Any, shape: tuple[int, ...], dtype: str) -> arrays.Dense:
    if not isinstance(given, np.ndarray) and not hasattr(given, "__dlpack__"):
        raise _checks.wrong_type(name, "an array", given)
    found = arrays.array(name, given, dtypes=arrays.FLOATS)
    if found.shape != tuple(shape):
        raise InvalidArgumentError(f"{name} must have shape {tuple(shape)}, got {found.shape}")
    if found.dtype != dtype:
        raise ArgumentTypeError(f"{name} must have dtype {dtype}, got {found.dtype}")
    return found
