"""What a projection does to squared distances: the same rows and the same pairs for every tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS = 400
# Squared distances below this share of the squared lengths are rounding errors of the Gram matrix.
SAME = 1e-9

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Some rows of an input and the squared distances of all pairs of them."""

    rows: npt.NDArray[np.intp]
    distances: Floats
    apart: npt.NDArray[np.bool_]  # the pairs whose distance is not zero

    def measured(self, projected: Floats) -> dict[str, float]:
        """Return bias, RMS and greatest relative error of the squared distances after projecting.

        `projected` are the sampled rows only.
        """
        gram = projected @ projected.T
        errors = _distances(gram)[self.apart] / self.distances[self.apart] - 1
        return {
            "bias": float(errors.mean()),
            "rms": float(np.sqrt(np.mean(errors**2))),
            "max": float(np.abs(errors).max()),
            "pairs": int(self.apart.sum()),
        }


def sample(x: Any) -> Sample:
    """Choose rows of a dense or CSR matrix, and take their distances."""
    count = x.shape[0]
    rows = np.sort(np.random.default_rng(1).choice(count, min(ROWS, count), replace=False))
    part = x[rows].astype(np.float64)
    gram = part @ part.T
    gram = gram.toarray() if hasattr(gram, "toarray") else gram
    distances, lengths = _distances(gram), np.diagonal(gram)
    first, second = np.triu_indices(len(rows), 1)
    return Sample(rows, distances, distances > SAME * (lengths[first] + lengths[second]))


def _distances(gram: Floats) -> Floats:
    lengths = np.diagonal(gram)
    squares = lengths[:, None] + lengths[None, :] - 2 * gram
    return np.asarray(squares[np.triu_indices(len(gram), 1)], dtype=np.float64)
