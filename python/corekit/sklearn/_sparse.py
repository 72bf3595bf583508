"""`SparseRandomProjection`."""

from __future__ import annotations

import math
from typing import Any

import scipy.sparse
import sklearn
from sklearn.utils.validation import check_is_fitted, validate_data

from corekit import _checks
from corekit.errors import InvalidArgumentError
from corekit.projection import SparseProjection
from corekit.sklearn._estimator import _DTYPES, _FORMATS, RandomProjection, real, warn

# How much of a sparse result is dense at a time.
_BLOCK_BYTES = 16 << 20


class SparseRandomProjection(RandomProjection):
    """Project with a sparse matrix that has the same number of non-zeros for every feature.

    A drop-in for ``sklearn.random_projection.SparseRandomProjection``, whose matrix has a
    random number of non-zeros for every feature, and none for some. Here each feature has
    exactly s of them, of size about 1/√s. So no feature is lost, and the variance of a
    squared length is that of a Gaussian matrix or less, however sparse the data is.

    Parameters
    ----------
    n_components
        How many, at least one; or "auto" for `johnson_lindenstrauss_min_dim` of the number
        of samples and `eps`.
    density
        The share of non-zeros, ``0 < density <= 1``, which gives each feature
        s = round(density n_components) of them. With "auto" it is 1/√n_features as in
        scikit-learn, but for at least four non-zeros:
        s = min(n_components, max(4, round(n_components / √n_features))). A density below
        1/n_components cannot give every feature a non-zero: then the entries are
        independent, as they are in scikit-learn, and a warning says what is lost.
    eps
        The distortion that an n_components of "auto" aims at, ``0 < eps < 1``.
    dense_output
        Whether sparse data gives a dense result too. Projections are mostly dense, so this
        takes less time and memory unless the samples have very few non-zeros.
    compute_inverse_components
        Whether `fit` computes the pseudo-inverse, which is dense: n_features x
        n_components. `inverse_transform` does not need it.
    random_state
        What ``sklearn.utils.check_random_state`` takes. 128 bits from it are the seed of
        `projection_`.
    threads
        As in `corekit.projection.SparseProjection.project`; not in scikit-learn.

    Attributes
    ----------
    n_components_ : int
        The number of components.
    density_ : float
        The share of entries of the matrix that are non-zero: s / n_components exactly. If
        the entries are independent, the density that was asked for.
    components_ : sparse matrix
        The matrix in CSR form, n_components x n_features, in the dtype that was fitted.
        Made on first access and kept; not in pickles.
    inverse_components_ : numpy.ndarray
        The pseudo-inverse, n_features x n_components, if `compute_inverse_components`.
    projection_ : corekit.projection.SparseProjection
        The projection itself, with s as its `column_nnz`; not in scikit-learn.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : numpy.ndarray
        Their names, if the data that was fitted has names that are all strings.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((25, 3000))
    >>> transformer = SparseRandomProjection(random_state=0).fit(X)
    >>> transformer.transform(X).shape
    (25, 2759)
    >>> transformer.projection_.column_nnz
    50
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        density: float | str = "auto",
        eps: float = 0.1,
        dense_output: bool = False,
        compute_inverse_components: bool = False,
        random_state: Any = None,
        threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.density = density
        self.eps = eps
        self.dense_output = dense_output
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.threads = threads

    def transform(self, X: Any) -> Any:
        """Project the data.

        Parameters
        ----------
        X
            Array or sparse matrix, n_samples x n_features, float32 or float64 (anything
            else is converted to float64).

        Returns
        -------
        numpy.ndarray or sparse matrix
            n_samples x n_components, of the dtype of `X`: in CSR form if `X` is sparse and
            `dense_output` is false.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=_FORMATS, dtype=_DTYPES, reset=False)
        if self.dense_output or not scipy.sparse.issparse(X):
            return self.projection_.project(X, threads=self.threads)
        # Very sparse samples have projections that fit in memory only as sparse ones.
        X = X.tocsr()
        rows = max(1, _BLOCK_BYTES // (self.n_components_ * X.dtype.itemsize))
        return _container(
            scipy.sparse.vstack(
                [
                    scipy.sparse.csr_array(
                        self.projection_.project(X[first : first + rows], threads=self.threads)
                    )
                    for first in range(0, X.shape[0], rows)
                ],
                format="csr",
            )
        )

    def _check_parameters(self) -> None:
        super()._check_parameters()
        _checks.switch("dense_output", self.dense_output)
        if isinstance(self.density, str):
            if self.density != "auto":
                raise InvalidArgumentError(
                    f'density must be a number or "auto", got {self.density!r}'
                )
        elif not 0 < real("density", self.density) <= 1:
            raise InvalidArgumentError(
                f"density must be above 0 and at most 1, got {self.density!r}"
            )

    def _draw(self, n_features: int, n_components: int, seed: int) -> SparseProjection:
        if isinstance(self.density, str):
            column_nnz = min(n_components, max(4, round(n_components / math.sqrt(n_features))))
        else:
            density = float(self.density)
            # Not `density * n_components < 1`, which rounding makes true of 1 / 49 and 49.
            if density < 1 / n_components:
                _warn_of_lost_features(density, n_components)
                self.density_ = density
                return SparseProjection(
                    n_features, n_components, kind="iid", density=density, seed=seed
                )
            column_nnz = max(1, round(density * n_components))
        self.density_ = column_nnz / n_components
        return SparseProjection(n_features, n_components, column_nnz=column_nnz, seed=seed)

    def _matrix(self) -> Any:
        return _container(self.projection_.to_csr(dtype=self._dtype))


def _container(csr: Any) -> Any:
    """Return the kind of sparse container that scikit-learn is set to return.

    Until 1.9, which has a setting for it, that was always a matrix.
    """
    if sklearn.get_config().get("sparse_interface", "spmatrix") == "sparray":
        return csr
    return scipy.sparse.csr_matrix(csr)


def _warn_of_lost_features(density: float, n_components: int) -> None:
    lost = (1 - density) ** n_components
    warn(
        f"density={density:g} gives each feature {density * n_components:.2g} of the "
        f"{n_components} components on average, so that {lost:.0%} of the features are lost "
        "altogether and distances between sparse samples are distorted; a density of at "
        f'least {1 / n_components:g}, or "auto", keeps every feature',
        UserWarning,
    )
