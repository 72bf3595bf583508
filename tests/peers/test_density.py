"""The promise: every feature has the same number of non-zeros, and a density says how many."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest

from peers.samples import normal

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.sklearn import SparseRandomProjection


def fitted(n_components: int, n_features: int, **parameters: Any) -> Any:
    X = normal(2, n_features)
    return SparseRandomProjection(n_components, random_state=0, **parameters).fit(X)


def counts(projection: Any) -> set[int]:
    """Return the numbers of non-zeros that features have."""
    return set(np.diff(projection.components_.tocsc().indptr).tolist())


@pytest.mark.parametrize(
    ("n_components", "n_features", "nnz"),
    [
        (100, 100, 10),
        (100, 1000, 4),  # 1/√1000 would be 3.2 non-zeros
        (110, 1000, 4),
        (500, 1000, 16),
        (64, 5000, 4),
        (3, 1000, 3),
        (1, 7, 1),
        (10, 1, 10),
    ],
)
def test_auto(n_components: int, n_features: int, nnz: int) -> None:
    assert nnz == min(n_components, max(4, round(n_components / math.sqrt(n_features))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of components is higher")
        projection = fitted(n_components, n_features)
    assert projection.projection_.kind == "block-stack"
    assert projection.projection_.column_nnz == nnz
    assert projection.density_ == nnz / n_components
    assert counts(projection) == {nnz}


@pytest.mark.parametrize(
    ("n_components", "density", "nnz"),
    [
        (100, 1 / 3, 33),
        (100, 1.0, 100),
        (100, 1, 100),
        (100, 0.01, 1),
        (100, 0.014, 1),
        (100, 0.016, 2),
        (49, 1 / 49, 1),
        (10, 0.1, 1),
        (10, np.float32(0.5), 5),
        (10, np.float64(0.3), 3),
    ],
)
def test_a_density_is_rounded_to_non_zeros(n_components: int, density: Any, nnz: int) -> None:
    projection = fitted(n_components, 300, density=density)
    assert projection.projection_.column_nnz == nnz
    assert projection.density_ == nnz / n_components
    assert counts(projection) == {nnz}
    assert np.mean(projection.components_.toarray() != 0) == pytest.approx(projection.density_)


def test_every_density_that_is_one_over_the_components_gives_one_non_zero() -> None:
    for n_components in range(1, 300):
        projection = fitted(n_components, 300, density=1 / n_components)
        assert projection.projection_.column_nnz == 1


def test_too_low_a_density_is_independent_and_warns_of_what_is_lost() -> None:
    message = (
        "density=0.005 gives each feature 0.5 of the 100 components on average, so that 61% of "
        "the features are lost altogether and distances between sparse samples are distorted; "
        'a density of at least 0.01, or "auto", keeps every feature'
    )
    with pytest.warns(UserWarning, match=re.escape(message)) as caught:
        projection = fitted(100, 4000, density=0.005)
    assert [warning.filename for warning in caught] == [__file__]
    assert projection.projection_.kind == "iid"
    assert projection.density_ == 0.005
    # 400 000 entries: the count's deviation is 45, and chance exceeds 5 of them once in 10⁶.
    assert abs(projection.components_.nnz - 2000) < 5 * 45
    # 4000 features: 61 % of them, with a deviation of 31.
    lost = np.mean(np.diff(projection.components_.tocsc().indptr) == 0)
    assert abs(lost - 0.995**100) < 5 * 31 / 4000


@pytest.mark.parametrize(
    ("density", "error"),
    [
        (0, InvalidArgumentError),
        (-0.5, InvalidArgumentError),
        (1.01, InvalidArgumentError),
        (float("nan"), InvalidArgumentError),
        ("few", InvalidArgumentError),
        (None, ArgumentTypeError),
        (True, ArgumentTypeError),
        ([0.5], ArgumentTypeError),
    ],
)
def test_densities_that_are_none(density: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="density must be"):
        fitted(10, 30, density=density)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_switch_is_a_bool(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="dense_output must be a bool"):
        fitted(10, 30, dense_output=value)


def test_single_features_keep_their_length() -> None:
    """What independent entries cannot do: scikit-learn's lengths vary by tens of per cent."""
    unit = np.eye(2000)[:50]
    projection = fitted(200, 2000)
    lengths = np.sum(projection.transform(unit) ** 2, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-12)
