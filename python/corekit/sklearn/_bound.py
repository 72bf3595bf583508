"""scikit-learn's bound on the number of components."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from corekit import _checks
from corekit.errors import InvalidArgumentError


def johnson_lindenstrauss_min_dim(
    n_samples: npt.ArrayLike, *, eps: npt.ArrayLike = 0.1
) -> np.int64 | npt.NDArray[np.int64]:
    """Return how many components scikit-learn takes for distances within 1 ± eps.

    It is ``4 log(n_samples) / (eps**2 / 2 - eps**3 / 3)``, rounded down. For eps = 0.1 and a
    Gaussian matrix all squared distances then stay within 1 ± eps with probability 95 to 98 %.
    `corekit.projection.min_components` takes the probability as an argument.

    Parameters
    ----------
    n_samples
        How many samples, at least one; or an array of such numbers.
    eps
        The distortion, ``0 < eps < 1``; or an array, of a shape that fits `n_samples`.

    Returns
    -------
    numpy.int64 or numpy.ndarray
        The number of components, for each of the given numbers.

    References
    ----------
    Sanjoy Dasgupta and Anupam Gupta, 2003, "An elementary proof of a theorem of Johnson
    and Lindenstrauss", Random Structures & Algorithms 22(1), theorem 2.1.

    Examples
    --------
    >>> int(johnson_lindenstrauss_min_dim(1e6, eps=0.5))
    663
    >>> johnson_lindenstrauss_min_dim([1e4, 1e5, 1e6], eps=0.1).tolist()
    [7894, 9868, 11841]
    """
    samples = _numbers("n_samples", n_samples)
    distortion = _numbers("eps", eps)
    # Written so that NaN is refused too.
    if not np.all(samples >= 1):
        raise InvalidArgumentError(f"n_samples must be at least 1, got {n_samples!r}")
    if not np.all((distortion > 0) & (distortion < 1)):
        raise InvalidArgumentError(f"eps must be above 0 and below 1, got {eps!r}")
    try:
        components = 4 * np.log(samples) / (distortion**2 / 2 - distortion**3 / 3)
    except ValueError:
        raise InvalidArgumentError(
            "n_samples and eps must have shapes that fit each other, "
            f"got {samples.shape} and {distortion.shape}"
        ) from None
    if not np.all(components < 2.0**63):
        raise InvalidArgumentError(
            f"eps must allow for less than 2**63 components, got {eps!r} for {n_samples!r} samples"
        )
    floored: np.int64 | npt.NDArray[np.int64] = components.astype(np.int64)
    return floored


def _numbers(name: str, value: Any) -> npt.NDArray[Any]:
    """Return the value or the values as an array of real numbers."""
    try:
        numbers = np.asarray(value)
    except ValueError:
        raise _checks.wrong_type(name, "a number or an array of numbers", value) from None
    if numbers.dtype.kind not in "iuf":
        raise _checks.wrong_type(name, "a number or an array of numbers", value)
    return numbers
