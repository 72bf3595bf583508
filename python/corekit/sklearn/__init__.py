"""scikit-learn's random projections, by corekit's kernels: change one import.

``from sklearn.random_projection import SparseRandomProjection`` becomes
``from corekit.sklearn import SparseRandomProjection``. Signatures, attributes, warnings
and errors are those of scikit-learn; docs/scikit-learn.md says what differs and why.

This package needs scikit-learn 1.6 or newer: ``pip install 'scikit-learn>=1.6'``.

Table of contents
-----------------
`SparseRandomProjection`
    Project with a sparse sign matrix: the same number of non-zeros for every feature.
`GaussianRandomProjection`
    Project with a matrix of Gaussian entries that is never stored.
`johnson_lindenstrauss_min_dim`
    scikit-learn's bound; `corekit.projection.min_components` has better ones.
"""

from corekit.errors import MissingPackageError as _MissingPackageError

try:
    # The youngest of all that is needed, so that a version too old is told apart here.
    from sklearn.utils.validation import validate_data as _validate_data  # noqa: F401
except ImportError as _error:
    raise _MissingPackageError(
        "corekit.sklearn needs scikit-learn 1.6 or newer: pip install 'scikit-learn>=1.6'",
        name=_error.name,
    ) from _error

from corekit.sklearn._bound import johnson_lindenstrauss_min_dim
from corekit.sklearn._gaussian import GaussianRandomProjection
from corekit.sklearn._sparse import SparseRandomProjection

__all__ = [
    "GaussianRandomProjection",
    "SparseRandomProjection",
    "johnson_lindenstrauss_min_dim",
]

# A pickle names a class by its module, and help() shows it: the public one.
for _name in __all__:
    globals()[_name].__module__ = __name__
