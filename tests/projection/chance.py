"""When a frequency or a moment is too far from what its law gives.

A run of all tests of `test_statistics.py` raises a false alarm with probability 1e-6 at most over
the choice of its seeds, which are fixed: what has passed once passes always. Every
statistic takes an equal share under its name; who takes more shares than there are is told so.

Frequencies are judged by Chernoff's bound, P(count/n beyond q) <= exp(-n KL(q, p)), which holds
for every n. Moments are judged by the normal law. So far out it can be wrong by a factor:
these counts are thousands of draws, the skewness of ‖Ax‖² is below 2, and by Cramér's series
the factor is then below 10; moments get a tenth of a share.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FALSE_ALARM = 1e-6
STATISTICS = 400  # shares; the tests take a few less
SHARE = FALSE_ALARM / STATISTICS
SIGMAS = NormalDist().inv_cdf(1 - SHARE / 20)  # 6.3

_taken: set[str] = set()


def take(name: str) -> None:
    """Take a share of the false alarms."""
    _taken.add(name)
    assert len(_taken) <= STATISTICS, "too many statistics for the stated rate of false alarms"


def divergence(q: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return KL(q, p) of two coins."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(q > 0, q * np.log(q / p), 0)
        tails = np.where(q < 1, (1 - q) * np.log((1 - q) / (1 - p)), 0)
    return np.asarray(heads + tails)


def are_frequencies(name: str, counts: npt.ArrayLike, n: int, chances: npt.ArrayLike) -> bool:
    """Whether each count may be that of an event of its chance in n draws; takes one share.

    The events may depend on each other: the share is divided among them.
    """
    take(name)
    counts = np.asarray(counts, dtype=np.float64)
    p = np.broadcast_to(np.asarray(chances, dtype=np.float64), counts.shape)
    return bool((n * divergence(counts / n, p) < math.log(2 * counts.size / SHARE)).all())


def is_mean(name: str, draws: npt.NDArray[np.float64], mean: float, variance: float) -> bool:
    """Whether draws may have this mean, given their variance."""
    take(name)
    slack = 1e-12 * max(abs(mean), 1)
    far = abs(draws.mean() - mean)
    return bool(far <= SIGMAS * math.sqrt(variance / draws.size) + slack)


def is_variance(name: str, draws: npt.NDArray[np.float64], mean: float, variance: float) -> bool:
    """Whether draws of this mean may have this variance."""
    take(name)
    squares = (draws - mean) ** 2
    far = abs(squares.mean() - variance)
    return bool(far <= SIGMAS * squares.std() / math.sqrt(draws.size) + 1e-20)
