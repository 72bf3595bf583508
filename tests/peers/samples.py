"""Data and estimators that the tests of this room share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from corekit.sklearn import GaussianRandomProjection, SparseRandomProjection

BOTH = pytest.mark.parametrize("kind", [SparseRandomProjection, GaussianRandomProjection])


def normal(rows: int, columns: int, dtype: Any = np.float64) -> npt.NDArray[Any]:
    return np.random.default_rng(rows).normal(size=(rows, columns)).astype(dtype)


def scattered(rows: int, columns: int, dtype: Any = np.float64) -> npt.NDArray[Any]:
    """Return an array with one non-zero in fifty."""
    kept = np.random.default_rng(columns).random((rows, columns)) < 0.02
    return normal(rows, columns, dtype) * kept


def dense(matrix: Any) -> npt.NDArray[Any]:
    """Return an array, whether the matrix is sparse or not."""
    array: npt.NDArray[Any] = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return array
