"""How far off a squared length is expected to be, by the law of the matrix."""

from __future__ import annotations

from corekit.projection._operator import SparseProjection


def variances(projection: SparseProjection) -> tuple[float, float]:
    """Return Var ‖Ax‖² of a unit vector spread over many features, and the most of any.

    docs/projection-mathematics.md has the proofs.
    """
    k, d = projection.shape
    plain = 2 / k
    if projection.kind == "iid" and projection.density is not None:
        return plain, max(plain, (1 - projection.density) / (k * projection.density))
    if projection.kind == "block-stack" and projection.column_nnz is not None:
        plain = 2 / _sum_of_inverses(k, projection.column_nnz)
    if projection.kind == "srht":
        n = 1 << (d - 1).bit_length()
        plain *= (n - k) / max(1, n - 1)
    return plain, plain


def _sum_of_inverses(k: int, s: int) -> float:
    """Return Σ 1/c over the strata: k, or less where two groups of outputs overlap."""
    width = 1 << min(16, k // s).bit_length() - 1
    groups = -(-k // width)
    last = (groups - groups * (s - 1) // s) * width
    overlap = groups * width - k
    return groups * width - last + last**2 / (last + 2 * overlap)
