"""The promise: `johnson_lindenstrauss_min_dim` is scikit-learn's, to the number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.random_projection import johnson_lindenstrauss_min_dim as theirs

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.sklearn import johnson_lindenstrauss_min_dim as ours


@pytest.mark.parametrize(
    ("n_samples", "eps"),
    [
        (1, 0.5),
        (2, 0.999),
        (1000, 0.1),
        (1e6, 0.5),
        (100, 1e-5),
        (1e6, [0.5, 0.1, 0.01]),
        ([1e4, 1e5, 1e6], 0.1),
        ([[10, 20], [30, 40]], [0.1, 0.2]),
        (np.arange(1, 500), 0.3),
        (np.float32(1000), np.float32(0.1)),
    ],
)
def test_the_number_is_theirs(n_samples: Any, eps: Any) -> None:
    our, their = ours(n_samples, eps=eps), theirs(n_samples, eps=eps)
    assert np.array_equal(our, their)
    assert type(our) is type(their)
    assert our.dtype == their.dtype
    assert ours(n_samples).shape == np.shape(n_samples)


@pytest.mark.parametrize(
    ("n_samples", "eps", "error"),
    [
        (0, 0.1, InvalidArgumentError),
        (-5, 0.1, InvalidArgumentError),
        (math.nan, 0.1, InvalidArgumentError),
        (math.inf, 0.1, InvalidArgumentError),
        ([50, -40], [0.1, 0.2], InvalidArgumentError),
        (10, 0.0, InvalidArgumentError),
        (10, 1, InvalidArgumentError),
        (10, math.nan, InvalidArgumentError),
        (10, 1e-10, InvalidArgumentError),
        ([100] * 3, [0.9] * 2, InvalidArgumentError),
        ("ten", 0.1, ArgumentTypeError),
        ([[1, 2], [3]], 0.1, ArgumentTypeError),
        (10, None, ArgumentTypeError),
        (10, 0.5j, ArgumentTypeError),
    ],
)
def test_what_is_refused(n_samples: Any, eps: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ours(n_samples, eps=eps)
