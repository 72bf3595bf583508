"""What both estimators are: a shape, a seed and a distribution, fitted in no time.

None of scikit-learn's projection classes is an ancestor. Theirs store the matrix; here
`projection_` represents it, and ``components_`` is made when it is first read.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from functools import cached_property
from numbers import Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from corekit import _checks, _seed, _threads
from corekit.errors import InvalidArgumentError
from corekit.projection import SparseProjection
from corekit.sklearn._bound import johnson_lindenstrauss_min_dim
from corekit.sklearn._inverse import MinimumNorm

_DTYPES = [np.float64, np.float32]
_FORMATS = ["csr", "csc"]

# Whose lines lie between a caller's and a warning; pipelines call by joblib.
_INNER = ("corekit", "sklearn", "joblib")

# Made on demand from what was fitted, and made again after unpickling.
_DERIVED = ("components_", "_minimum_norm")


class RandomProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """What the two have in common, all but the distribution of the matrix."""

    n_components: int | str
    eps: float
    compute_inverse_components: bool
    random_state: Any
    threads: int | None

    n_components_: int
    n_features_in_: int
    projection_: SparseProjection
    inverse_components_: npt.NDArray[Any]

    @abstractmethod
    def _draw(self, n_features: int, n_components: int, seed: int) -> SparseProjection:
        """Return the matrix of this estimator, and set the attributes that describe it."""

    @abstractmethod
    def _matrix(self) -> Any:
        """Return the matrix itself, in the dtype that was fitted."""

    def fit(self, X: Any, y: object = None) -> Self:
        """Draw a matrix for data of this shape and dtype.

        Parameters
        ----------
        X
            Array or sparse matrix, n_samples x n_features. Its values are checked to be
            finite and not used further.
        y
            Not used: there for scikit-learn's conventions.

        Returns
        -------
        object
            The estimator itself.
        """
        self._check_parameters()
        X = validate_data(self, X, accept_sparse=_FORMATS, dtype=_DTYPES)
        n_samples, n_features = X.shape
        n_components = self._number_of_components(n_samples, n_features)
        # As many bits as a key has, from the generator that the user gave.
        seed = int.from_bytes(
            check_random_state(self.random_state).bytes(_seed.BITS // 8), "little"
        )

        projection = self._draw(n_features, n_components, seed)
        self._forget()
        self._dtype = X.dtype
        self.n_components_ = n_components
        self.projection_ = projection
        if self.compute_inverse_components:
            self.inverse_components_ = self._minimum_norm.inverse(threads=self.threads).astype(
                self._dtype, copy=False
            )
        return self

    def transform(self, X: Any) -> Any:
        """Project the data.

        Parameters
        ----------
        X
            Array or sparse matrix, n_samples x n_features, float32 or float64 (anything
            else is converted to float64).

        Returns
        -------
        numpy.ndarray
            n_samples x n_components, of the dtype of `X`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=_FORMATS, dtype=_DTYPES, reset=False)
        return self.projection_.project(X, threads=self.threads)

    def inverse_transform(self, X: Any) -> npt.NDArray[Any]:
        """Return the smallest samples whose projections are nearest to the given ones.

        That is the pseudo-inverse of ``components_`` applied to every row, and what
        scikit-learn returns. The pseudo-inverse is only computed if
        `compute_inverse_components` was set. Otherwise a factor of the Gram matrix of the
        smaller side is, once: n_components x n_components, or n_features x n_features if
        there are fewer features. It stays with the estimator, but not in its pickles.

        Parameters
        ----------
        X
            Array or sparse matrix, n_samples x n_components.

        Returns
        -------
        numpy.ndarray
            n_samples x n_features, dense, of the dtype of `X`.
        """
        check_is_fitted(self)
        X = check_array(X, accept_sparse=_FORMATS, dtype=_DTYPES)
        if X.shape[1] != self.n_components_:
            raise InvalidArgumentError(
                f"X must have {self.n_components_} columns, one for each component, "
                f"got {X.shape[1]}"
            )
        if self.compute_inverse_components:
            original: npt.NDArray[Any] = X @ self.inverse_components_.T
            return original.astype(X.dtype, copy=False)
        return self._minimum_norm.solve(X, threads=self.threads)

    @cached_property
    def components_(self) -> Any:
        """The matrix, n_components x n_features: made on first access, not in pickles."""
        check_is_fitted(self)
        return self._matrix()

    @cached_property
    def _minimum_norm(self) -> MinimumNorm:
        return MinimumNorm(self.projection_, threads=self.threads)

    @property
    def _n_features_out(self) -> int:
        """What ClassNamePrefixFeaturesOutMixin counts the names by."""
        return self.n_components_

    def _check_parameters(self) -> None:
        if not (isinstance(self.n_components, str) and self.n_components == "auto"):
            if isinstance(self.n_components, str):
                raise InvalidArgumentError(
                    f'n_components must be an int or "auto", got {self.n_components!r}'
                )
            _checks.integer("n_components", self.n_components, low=1)
        # Not `<= 0`, which NaN is not.
        if not real("eps", self.eps) > 0:
            raise InvalidArgumentError(f"eps must be above 0, got {self.eps!r}")
        _checks.switch("compute_inverse_components", self.compute_inverse_components)
        _threads.count(self.threads)

    def _number_of_components(self, n_samples: int, n_features: int) -> int:
        if self.n_components != "auto":
            number = int(self.n_components)
            if number > n_features:
                warn(
                    "The number of components is higher than the number of features: "
                    f"n_features < n_components ({n_features} < {number}). "
                    "The dimensionality of the problem will not be reduced.",
                    DataDimensionalityWarning,
                )
            return number
        number = int(johnson_lindenstrauss_min_dim(n_samples, eps=self.eps))
        # These are scikit-learn's words, for those who look for them.
        target = (
            f"eps={self.eps:f} and n_samples={n_samples} lead to a target dimension of {number}"
        )
        if number <= 0:
            raise InvalidArgumentError(f"{target} which is invalid")
        if number > n_features:
            raise InvalidArgumentError(
                f"{target} which is larger than the original space with n_features={n_features}"
            )
        return number

    def _forget(self) -> None:
        """Drop what belongs to an earlier fit."""
        for name in (*_DERIVED, "inverse_components_"):
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _DERIVED}

    def __dir__(self) -> list[str]:
        # scikit-learn asks of every name whether it can be had, which would make the matrix
        # to list it, and its display in a notebook reads all that is listed.
        return [
            name
            for name in object.__dir__(self)
            if name in self.__dict__ or (name not in _DERIVED and hasattr(self, name))
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags


def warn(message: str, category: type[Warning]) -> None:
    """Warn about the caller's line, through whichever of scikit-learn's methods it came."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def real(name: str, value: object) -> float:
    """Return `value`, which must be a real number and no bool, as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _checks.wrong_type(name, "a number", value)
    return float(value)
