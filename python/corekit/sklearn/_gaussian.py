"""`GaussianRandomProjection`."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from corekit.projection import SparseProjection
from corekit.sklearn._estimator import RandomProjection


class GaussianRandomProjection(RandomProjection):
    """Project with a matrix whose entries are N(0, 1 / n_components), and are not stored.

    A drop-in for ``sklearn.random_projection.GaussianRandomProjection``. The entries are
    drawn again, a few columns at a time, whenever data is projected.

    Parameters
    ----------
    n_components
        How many, at least one; or "auto" for `johnson_lindenstrauss_min_dim` of the number
        of samples and `eps`.
    eps
        The distortion that "auto" aims at, ``0 < eps < 1``.
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
    components_ : numpy.ndarray
        The matrix, n_components x n_features, in the dtype that was fitted. Made on first
        access and kept; not in pickles.
    inverse_components_ : numpy.ndarray
        The pseudo-inverse, n_features x n_components, if `compute_inverse_components`.
    projection_ : corekit.projection.SparseProjection
        The projection itself; not in scikit-learn.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : numpy.ndarray
        Their names, if the data that was fitted has names that are all strings.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((25, 3000))
    >>> GaussianRandomProjection(random_state=0).fit_transform(X).shape
    (25, 2759)
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        eps: float = 0.1,
        compute_inverse_components: bool = False,
        random_state: Any = None,
        threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.threads = threads

    def _draw(self, n_features: int, n_components: int, seed: int) -> SparseProjection:
        return SparseProjection(n_features, n_components, kind="gaussian", seed=seed)

    def _matrix(self) -> npt.NDArray[Any]:
        return self.projection_.to_dense(dtype=self._dtype)
