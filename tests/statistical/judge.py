"""When a count is too far from what chance gives: chi-square and normal bounds.

The whole folder raises a false alarm with probability 1e-6 at most over the choice of its seeds,
which are fixed, so a test that has passed once passes always. Each statistic gets an
equal share, half of it for either side: too uneven, and too even to be random. Who takes
more shares than there are is told so.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FALSE_ALARM = 1e-6
STATISTICS = 50  # shares; the folder takes a few less
SHARE = FALSE_ALARM / STATISTICS
SIGMAS = NormalDist().inv_cdf(1 - SHARE / 2)  # 5.6

_taken: set[str] = set()


def chi_square_bounds(df: int) -> tuple[float, float]:
    """Return the values that a chi-square variable stays between but for a share.

    By Wilson and Hilferty (1931): the cube root of x/df is normal with mean 1 - 2/(9 df) and
    variance 2/(9 df). So far out these bounds are a little wider than the exact ones: by
    less than 0.1 % for 361 degrees of freedom and more.
    """
    mean, sd = 1 - 2 / (9 * df), math.sqrt(2 / (9 * df))
    return df * (mean - SIGMAS * sd) ** 3, df * (mean + SIGMAS * sd) ** 3


def chi_square(counts: npt.ArrayLike, expected: float) -> float:
    """Return Pearson's statistic of counts that should all be `expected`."""
    counts = np.asarray(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def is_random(name: str, statistic: float, df: int) -> bool:
    """Whether a chi-square statistic may well be chance; takes a share under this name."""
    take(name)
    low, high = chi_square_bounds(df)
    return low < statistic < high


def is_normal(name: str, value: float, mean: float, variance: float) -> bool:
    """Whether a normal variable may well be chance; takes a share under this name."""
    take(name)
    return abs(value - mean) < SIGMAS * math.sqrt(variance)


def take(name: str) -> None:
    """Take a share of the false alarms."""
    _taken.add(name)
    assert len(_taken) <= STATISTICS, "too many statistics for the stated rate of false alarms"


def table(rows: npt.ArrayLike, columns: npt.ArrayLike, n_rows: int, n_columns: int) -> float:
    """Return the statistic of a table whose margins are fixed and equal, as in a permutation.

    Where chance only decides which of n things goes to which of n places, the counts vary by
    n/(n-1) more than in a table with free margins; degrees of freedom are (rows - 1) (columns - 1).
    """
    cells = np.asarray(rows, dtype=np.int64) * n_columns + np.asarray(columns, dtype=np.int64)
    n = cells.size
    counts = np.bincount(cells.ravel(), minlength=n_rows * n_columns)
    return chi_square(counts, n / (n_rows * n_columns)) * (n - 1) / n
