"""Random projections that keep distances, and functions that compute the lemma's guarantees.

Johnson and Lindenstrauss: n points keep their distances to within 1 ± eps in O(log n / eps²)
dimensions, under a random linear map that does not depend on them. Here the map is
sparse, drawn where it is needed and never stored, so that projecting a dense matrix takes a
small multiple of the time of reading and writing it.

Table of contents
-----------------
`SparseProjection`
    The random matrix: `~SparseProjection.project`, `~SparseProjection.adjoint`,
    `~SparseProjection.left`, `~SparseProjection.project_file`.
`min_components`, `epsilon_for`, `failure_for`
    How many components keep the distances of n points, how well, and how probably.
`distortion`, `DistortionReport`, `PairError`
    What a projection did to the distances of given data.
`recommend_column_nnz`
    How many non-zeros a column needs for given data.
"""

from corekit.projection._bounds import epsilon_for, failure_for, min_components
from corekit.projection._distortion import DistortionReport, PairError, distortion
from corekit.projection._operator import SparseProjection
from corekit.projection._recommend import recommend_column_nnz

__all__ = [
    "DistortionReport",
    "PairError",
    "SparseProjection",
    "distortion",
    "epsilon_for",
    "failure_for",
    "min_components",
    "recommend_column_nnz",
]

# A pickle names a class by its module, and help() shows it: the public one.
for _name in __all__:
    globals()[_name].__module__ = __name__
