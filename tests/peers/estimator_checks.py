"""Run ``check_estimator`` on our classes and print what came of every check, as JSON."""

from __future__ import annotations

import json
import warnings
from typing import Any

from sklearn.utils.estimator_checks import check_estimator

from corekit.sklearn import GaussianRandomProjection, SparseRandomProjection

# The checks' data has few features, sometimes one: "auto" would ask for more components.
ESTIMATORS = {
    "sparse": SparseRandomProjection(n_components=2),
    "sparse-dense-output": SparseRandomProjection(n_components=2, dense_output=True),
    "sparse-inverse": SparseRandomProjection(n_components=2, compute_inverse_components=True),
    "gaussian": GaussianRandomProjection(n_components=2),
    "gaussian-inverse": GaussianRandomProjection(n_components=2, compute_inverse_components=True),
}


def checked(estimator: Any) -> dict[str, str]:
    """Return how every check ended, with the reason where it did not pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    return {
        result["check_name"]: result["status"]
        if result["status"] == "passed"
        else f"{result['status']}: {result['exception']!r}"
        for result in results
    }


if __name__ == "__main__":
    print(json.dumps({name: checked(estimator) for name, estimator in ESTIMATORS.items()}))
