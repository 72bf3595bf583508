"""The way back: the least-squares solution of least norm, without a pseudo-inverse.

For a k x d matrix A with k <= d it is x = Aᵀ (A Aᵀ)⁺ y, and for k > d it is
x = (Aᵀ A)⁺ Aᵀ y: what must be factored is the Gram matrix of the smaller side. A itself
is never there as a whole: the Gram matrix is made a few rows at a time, as A applied to
rows of A, and all else is projecting and its adjoint.

1. A need not have full rank: components that no feature reached are rows of zeros, and
   with few features some columns are equal. So the Gram matrix G is factored by Cholesky's
   method with pivoting, which stops at the rank r: P G Pᵀ = L Lᵀ with L of k x r. Where
   r < k, G⁺ = Pᵀ L (Lᵀ L)⁻² Lᵀ P (Courrieu 2005, "Fast computation of Moore-Penrose
   inverse matrices"). An eigendecomposition finds the same in ten times the time
   for k = 2000.
2. G has the square of A's condition number, and so one solve loses twice the digits. Two
   steps of refinement, x += A⁺ (y - A x) with A itself in the residual, bring them back.

What remains of squaring is the rank: singular values of A below √(k ε) of the largest,
about 10⁻⁶ for k = 5000, count as zero, where a pseudo-inverse draws that line at k ε. Full
rank comes near only where k is about d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse

from corekit.projection import SparseProjection

_Floats: TypeAlias = npt.NDArray[np.float64]

# Rows are worked on in blocks of at least so many bytes, and of as many as the Gram matrix
# has: drawing the matrix anew for each block is then the smaller part.
_BLOCK_BYTES = 64 << 20
_REFINEMENTS = 2


class MinimumNorm:
    """The pseudo-inverse of a projection's matrix, as a factor of a Gram matrix."""

    def __init__(self, projection: SparseProjection, *, threads: int | None) -> None:
        self._projection = projection
        n_components, n_features = projection.shape
        self._wide = n_components <= n_features
        self._side = min(n_components, n_features)
        self._gram = _Gram(self._gram_matrix(threads))

    def solve(self, Y: Any, *, threads: int | None) -> npt.NDArray[Any]:
        """Return the solutions for the rows of `Y`, an array or in CSR or CSC form."""
        Y = Y.tocsr() if scipy.sparse.issparse(Y) else Y
        n_features = self._projection.n_features
        solved = np.empty((Y.shape[0], n_features), dtype=Y.dtype)
        step = self._rows_at_a_time(max(self._projection.shape))
        for first in range(0, Y.shape[0], step):
            rows = slice(first, first + step)
            block = Y[rows].toarray() if scipy.sparse.issparse(Y) else Y[rows]
            solved[rows] = self._refined(block.astype(np.float64, copy=False), threads)
        return solved

    def inverse(self, *, threads: int | None) -> _Floats:
        """Return the pseudo-inverse itself, n_features x n_components."""
        rows: _Floats = self.solve(np.eye(self._projection.n_components), threads=threads)
        return rows.T

    def _refined(self, y: _Floats, threads: int | None) -> _Floats:
        x = self._once(y, threads)
        for _ in range(_REFINEMENTS):
            x += self._once(y - self._projection.project(x, threads=threads), threads)
        return x

    def _once(self, y: _Floats, threads: int | None) -> _Floats:
        adjoint: Callable[..., _Floats] = self._projection.adjoint
        if self._wide:
            return adjoint(self._gram.solve(y), threads=threads)
        return self._gram.solve(adjoint(y, threads=threads))

    def _gram_matrix(self, threads: int | None) -> _Floats:
        """Return A Aᵀ, or Aᵀ A if that is smaller."""
        there: Callable[..., _Floats] = self._projection.adjoint
        back: Callable[..., _Floats] = self._projection.project
        if not self._wide:
            there, back = back, there
        gram = np.empty((self._side, self._side))
        step = self._rows_at_a_time(max(self._projection.shape))
        for first in range(0, self._side, step):
            rows = slice(first, first + step)
            units = np.eye(len(gram[rows]), self._side, k=first)
            gram[rows] = back(there(units, threads=threads), threads=threads)
        return gram

    def _rows_at_a_time(self, columns: int) -> int:
        return max(1, max(_BLOCK_BYTES // 8, self._side**2) // columns)


class _Gram:
    """A positive semidefinite matrix, factored: what its pseudo-inverse is applied by."""

    def __init__(self, gram: _Floats) -> None:
        size = len(gram)
        tolerance = max(size, 32) * np.finfo(np.float64).eps * gram.diagonal().max()
        # LAPACK wants Fortran's order, which a symmetric matrix has if turned around.
        factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
            gram.T, tol=tolerance, lower=1, overwrite_a=1
        )
        self.rank = int(rank)
        self._order = pivots - 1
        self._factor = factor if rank == size else np.tril(factor[:, :rank])
        self._inner = None
        if 0 < rank < size:
            self._inner = scipy.linalg.cho_factor(self._factor.T @ self._factor, lower=True)

    def solve(self, rows: _Floats) -> _Floats:
        """Return the pseudo-inverse applied to every row."""
        if self.rank == 0:
            return np.zeros_like(rows)
        right = rows[:, self._order].T
        if self._inner is None:
            left = scipy.linalg.cho_solve((self._factor, True), right, overwrite_b=True)
        else:
            inner = self._factor.T @ right
            for _ in range(2):
                inner = scipy.linalg.cho_solve(self._inner, inner, overwrite_b=True)
            left = self._factor @ inner
        solved = np.empty_like(rows)
        solved[:, self._order] = left.T
        return solved
