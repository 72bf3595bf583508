"""One matrix in memory in every way that NumPy knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from projection.operators import Array


def c_order(X: Array) -> Array:
    return np.ascontiguousarray(X)


def fortran_order(X: Array) -> Array:
    return np.asfortranarray(X)


def every_other_row(X: Array) -> Array:
    whole = np.zeros((2 * X.shape[0] + 1, X.shape[1]), X.dtype)
    whole[1::2] = X
    return whole[1::2]


def every_third_column(X: Array) -> Array:
    whole = np.zeros((X.shape[0], 3 * X.shape[1]), X.dtype)
    whole[:, ::3] = X
    return whole[:, ::3]


def rows_backwards(X: Array) -> Array:
    return np.ascontiguousarray(X[::-1])[::-1]


def columns_backwards(X: Array) -> Array:
    return np.ascontiguousarray(X[:, ::-1])[:, ::-1]


def both_backwards_in_fortran_order(X: Array) -> Array:
    return np.asfortranarray(X[::-1, ::-1])[::-1, ::-1]


def padded_rows(X: Array) -> Array:
    whole = np.zeros((X.shape[0], X.shape[1] + 5), X.dtype)
    whole[:, 2:-3] = X
    return whole[:, 2:-3]


def padded_columns(X: Array) -> Array:
    return padded_rows(X.T).T


def plane_of_a_cube(X: Array) -> Array:
    cube = np.zeros((X.shape[0], 2, X.shape[1], 2), X.dtype)
    cube[:, 1, :, 1] = X
    return cube[:, 1, :, 1]


def unaligned(X: Array) -> Array:
    raw = bytearray(1 + X.nbytes)
    whole = np.frombuffer(raw, dtype=np.uint8)[1:].view(X.dtype).reshape(X.shape)
    whole[...] = X
    return whole


def unaligned_columns(X: Array) -> Array:
    return unaligned(X.T).T


def read_only(X: Array) -> Array:
    X = X.copy()
    X.flags.writeable = False
    return X


def memory_map(X: Array) -> Array:
    if X.size == 0:
        return X
    with TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), X)
        # The pages stay when the name goes.
        mapped: Array = np.load(Path(folder, "x.npy"), mmap_mode="r")
    return mapped


LAYOUTS: list[Callable[[Array], Array]] = [
    c_order,
    fortran_order,
    every_other_row,
    every_third_column,
    rows_backwards,
    columns_backwards,
    both_backwards_in_fortran_order,
    padded_rows,
    padded_columns,
    plane_of_a_cube,
    unaligned,
    unaligned_columns,
    read_only,
    memory_map,
]
WRITABLE = [layout for layout in LAYOUTS if layout not in (read_only, memory_map)]
