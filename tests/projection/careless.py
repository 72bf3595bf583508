"""Laws that are known to be wrong, for the tests to catch: each gives draws of ‖Ax‖²."""

from __future__ import annotations

import numpy as np

from projection import formula
from projection.formula import Matrix


def _groups(k: int, s: int, n: int, blocks: int, random: np.random.Generator) -> Matrix:
    """Return the first output of every block in every stratum: draws x blocks x strata."""
    w = formula.width(k, s)
    first = np.array(formula.strata(k, s, w))
    groups = first[:-1] + random.integers(0, np.diff(first), (n, blocks, s))
    return np.minimum(groups * w, k - w)


def stack(
    x: Matrix,
    k: int,
    s: int,
    n: int,
    *,
    weights: Matrix | None = None,
    signs_of: str = "every entry",
    seed: int = 1,
) -> Matrix:
    """A block-stack drawn with NumPy's own generator: the right one, unless told otherwise."""
    random = np.random.default_rng(seed)
    w = formula.width(k, s)
    blocks = -(-len(x) // w)
    padded = np.append(x, np.zeros(-len(x) % w)).reshape(blocks, w)
    weights = formula.weights(k, s, w) if weights is None else weights
    starts = _groups(k, s, n, blocks, random)
    lanes = random.permuted(np.broadcast_to(np.arange(w), (n, blocks, s, w)), axis=-1)
    shapes = {
        "every entry": (n, blocks, s, w),
        "every feature": (n, blocks, 1, w),
        "every block": (n, blocks, s, 1),
    }
    signs = random.choice([-1.0, 1.0], shapes[signs_of])
    values = signs * weights[:, None] * padded[:, None, :]
    outputs = starts[..., None] + lanes + np.arange(n)[:, None, None, None] * k
    sums = np.bincount(outputs.ravel(), values.ravel(), minlength=n * k).reshape(n, k)
    return np.asarray((sums**2).sum(axis=1))


def binomial_columns(x: Matrix, k: int, s: int, n: int) -> Matrix:
    """An iid law of density s/k: s entries in a column on the average, and often none."""
    random = np.random.default_rng(1)
    A = (random.random((n, k, len(x))) < s / k) * random.choice([-1.0, 1.0], (n, k, len(x)))
    return np.asarray(((A @ x) ** 2).sum(axis=1) / s)


def equal_weights(x: Matrix, k: int, s: int, n: int) -> Matrix:
    """1/√s in every stratum, however large it is."""
    return stack(x, k, s, n, weights=np.full(s, 1 / np.sqrt(s)))


def one_sign_a_feature(x: Matrix, k: int, s: int, n: int) -> Matrix:
    """The same signs in all strata."""
    return stack(x, k, s, n, signs_of="every feature")


def one_sign_a_block(x: Matrix, k: int, s: int, n: int) -> Matrix:
    """Blocks of features keep together with their signs."""
    return stack(x, k, s, n, signs_of="every block")


WRONG = [binomial_columns, equal_weights, one_sign_a_feature, one_sign_a_block]
