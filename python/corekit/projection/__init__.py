"""Random projections that keep distances, with the guarantees of the lemma made computable.

Johnson and Lindenstrauss: n points keep their distances to within 1 ± eps in O(log n / eps²)
dimensions, under a random linear map that knows nothing of them. Here the map is sparse,
drawn where it is needed and never stored, so that projecting costs little more than reading
the data.

Table of contents
-----------------
`SparseProjection`
    The random matrix: `~SparseProjection.project`, `~SparseProjection.adjoint`,
    `~SparseProjection.left`, `~SparseProjection.project_file`.
`min_components`, `epsilon_for`, `failure_for`
    How many components keep the distances of n points, how well, and with which certainty.
"""

from corekit.projection._bounds import epsilon_for, failure_for, min_components
from corekit.projection._operator import SparseProjection

__all__ = ["SparseProjection", "epsilon_for", "failure_for", "min_components"]
