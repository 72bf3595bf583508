"""The promise: the error that is expected of a law is that of its variance, as it is proved."""

from __future__ import annotations

import numpy as np
import pytest

from corekit.projection import SparseProjection
from corekit.projection._variance import variances
from projection.formula import KINDS, variance
from projection.operators import make

D = 640


@pytest.mark.parametrize("k", [1, 5, 10, 64, 100, 192, 300, 517])
@pytest.mark.parametrize("kind", KINDS)
def test_of_vectors_over_many_features(kind: str, k: int) -> None:
    projection = make(kind, D, k)
    many, _ = variances(projection)
    # One feature of each block of 16: what they have in common with the limit is known.
    m = D // 16
    x = np.zeros(D)
    x[::16] = m**-0.5
    fourth = 1 / m
    expected = many * (1 - (fourth if kind != "gaussian" else 0))
    if kind == "iid":
        expected += 2 / k * fourth  # density 1/3: (1 - p) / p is 2
    assert variance(projection, x) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("density", [1, 0.5, 1 / 3, 0.1, 0.001])
def test_the_most_of_an_iid_law(density: float) -> None:
    projection = SparseProjection(D, 50, kind="iid", density=density, seed=1)
    many, most = variances(projection)
    one = variance(projection, np.eye(D)[0])
    assert many == 2 / 50
    assert most == pytest.approx(max(many, one))


def test_an_orthogonal_matrix_errs_not() -> None:
    for d, k in [(1, 1), (128, 128), (100, 128)]:
        assert variances(SparseProjection(d, k, kind="srht", seed=1)) == (0, 0)
