"""How many components, how large an error, how likely: one relation, solved for each.

A bound is one function, the logarithm of the probability that a pair is off by more than eps
after a projection to k components. The sum over the pairs and the searches are the same for
all bounds, so the three answers agree with each other to the last integer and the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from corekit import _checks, _core
from corekit.errors import InvalidArgumentError

Bound: TypeAlias = Literal["exact", "dasgupta-gupta", "scikit-learn", "chernoff"]
Target: TypeAlias = Literal["distances", "inner-products"]

DEFAULT_FAILURE = 0.05

# Larger numbers of components are not told apart in float64.
_MOST = (1 << 53) - 1
_LARGEST_EPS = math.nextafter(1.0, 0.0)

_LogTail: TypeAlias = Callable[[int, float], float]


def min_components(
    n_samples: int | None,
    eps: float,
    *,
    failure: float | None = None,
    bound: Bound = "exact",
    target: Target = "distances",
    pairs: int | None = None,
    quantile: float | None = None,
) -> int:
    """Return the smallest number of components that keeps what is asked for.

    With the target "distances" a pair of samples is kept when its squared distance after
    the projection is within ``1 - eps`` and ``1 + eps`` times the one before; with
    "inner-products", when its inner product is within `eps` of the one before, for samples
    of norm 1. All pairs are kept at once with probability ``1 - failure`` or more over the
    choice of the seed. This is proved for a Gaussian matrix, on any data; for sparse ones it
    is a heuristic, good where no few coordinates dominate; `distortion` measures it.

    Parameters
    ----------
    n_samples
        How many samples, of any size. Their pairs are ``n_samples * (n_samples - 1) / 2``;
        one sample has none, and one component is enough. It may be None where `pairs` or
        `quantile` is given. With `quantile` it plays no part.
    eps
        The error, ``0 < eps < 1``.
    failure
        The probability, above 0 and below 1, that some pair is not kept. 0.05 when None.
    bound
        - "exact": chi-square tails and the union bound. Of the bounds that know `failure`
          none gives less.
        - "dasgupta-gupta": ``2 * log(2 * P / failure) / (eps**2 / 2 - eps**3 / 3)`` for P
          pairs, rounded up.
        - "chernoff": ``8 * log(2 * P / failure) / eps**2``, rounded up.
        - "scikit-learn": ``4 * log(n_samples) / (eps**2 / 2 - eps**3 / 3)``, rounded down
          as scikit-learn does, but at least 1. It knows no failure and no pairs, so
          `failure`, `pairs`, `quantile` and inner products are refused.
    target
        "distances" or "inner-products". For inner products "dasgupta-gupta" and "chernoff"
        take P twice, once for the sum and once for the difference of each pair.
    pairs
        How many pairs have to be kept, where that is not all of them: ``n * c`` for
        distances from n samples to c others. At most as many as `n_samples` has, if given.
    quantile
        ``0 < quantile < 1``: each pair is kept with this probability, so on average this
        share of them, however many there are. Not with `failure` or `pairs`.

    Returns
    -------
    int
        The smallest number of components, at least 1.

    Raises
    ------
    InvalidArgumentError
        An argument is out of its range, there are two that exclude each other, or it would
        take 2**53 components or more.
    ArgumentTypeError
        An argument is of a type that is not taken.

    See Also
    --------
    epsilon_for, failure_for

    References
    ----------
    Sanjoy Dasgupta and Anupam Gupta, 2003, "An elementary proof of a theorem of Johnson
    and Lindenstrauss", Random Structures & Algorithms 22(1), for "dasgupta-gupta" and, by
    its theorem 2.1, "scikit-learn". The page on bounds proves the other two.

    Examples
    --------
    >>> min_components(10_000, 0.1)
    7688
    >>> min_components(10_000, 0.1, bound="chernoff")
    17134
    >>> min_components(None, 0.1, quantile=0.99)
    1330
    """
    error = _checks.fraction("eps", eps)
    if _chosen("bound", bound, _BOUNDS) == "scikit-learn":
        n = _scikit_learns(n_samples, failure, target, pairs, quantile)
        components = _scikit_learn(n, error)
        if components > _MOST:
            raise _too_small(error)
        return max(1, int(components))
    promise = _promise(n_samples, failure, bound, target, pairs, quantile)

    low, high = 0, 1
    while not promise.kept(high, error):
        if high == _MOST:
            raise _too_small(error)
        low, high = high, min(2 * high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if promise.kept(middle, error) else (middle, high)
    return high


def epsilon_for(
    n_samples: int | None,
    n_components: int,
    *,
    failure: float | None = None,
    bound: Bound = "exact",
    target: Target = "distances",
    pairs: int | None = None,
    quantile: float | None = None,
) -> float:
    """Return the smallest error that a number of components promises.

    Parameters
    ----------
    n_samples, failure, bound, target, pairs, quantile
        As in `min_components`.
    n_components
        How many components, at least 1 and below 2**53.

    Returns
    -------
    float
        The smallest eps below 1 for which the bound holds; 0.0 where there is no pair.

    Raises
    ------
    InvalidArgumentError
        An argument is out of its range, there are two that exclude each other, or no eps
        below 1 is promised by so few components; the message says how many it takes.
    ArgumentTypeError
        An argument is of a type that is not taken.

    References
    ----------
    Those of `min_components`.

    Examples
    --------
    >>> round(epsilon_for(10_000, 1024), 4)
    0.2882
    >>> round(epsilon_for(None, 1024, quantile=0.99), 4)
    0.1139
    """
    k = _components(n_components)
    if _chosen("bound", bound, _BOUNDS) == "scikit-learn":
        n = _scikit_learns(n_samples, failure, target, pairs, quantile)
        if n == 1:
            return 0.0
        return _smallest_eps(
            k,
            lambda eps: _scikit_learn(n, eps) < k + 1,
            lambda: int(_scikit_learn(n, _LARGEST_EPS)),
        )
    promise = _promise(n_samples, failure, bound, target, pairs, quantile)
    if promise.log_pairs == -math.inf:
        return 0.0
    return _smallest_eps(
        k,
        lambda eps: promise.kept(k, eps),
        lambda: min_components(
            n_samples,
            _LARGEST_EPS,
            failure=failure,
            bound=bound,
            target=target,
            pairs=pairs,
            quantile=quantile,
        ),
    )


def failure_for(
    n_samples: int | None,
    n_components: int,
    eps: float,
    *,
    bound: Bound = "exact",
    target: Target = "distances",
    pairs: int | None = None,
) -> float:
    """Return the probability, at most, that some pair is off by more than eps.

    Parameters
    ----------
    n_samples, eps, target, pairs
        As in `min_components`. ``pairs=1`` asks about a single pair: with the bound "exact"
        and the target "distances" this is its very probability.
    n_components
        How many components, at least 1 and below 2**53.
    bound
        As in `min_components`, but for "scikit-learn", whose formula knows no failure: ask
        "exact" what becomes of its number of components.

    Returns
    -------
    float
        The sum of the pairs' probabilities, but not more than 1; 0.0 where it is below the
        smallest float, and where there is no pair.

    Raises
    ------
    InvalidArgumentError
        An argument is out of its range, or the bound is "scikit-learn".
    ArgumentTypeError
        An argument is of a type that is not taken.

    References
    ----------
    Those of `min_components`.

    Examples
    --------
    >>> round(failure_for(10_000, 7894, 0.1), 4)
    0.0303
    >>> round(failure_for(None, 1024, 0.1, pairs=1), 4)
    0.0236
    """
    k = _components(n_components)
    error = _checks.fraction("eps", eps)
    if _chosen("bound", bound, _BOUNDS) == "scikit-learn":
        others = ", ".join(repr(name) for name in _BOUNDS if name != "scikit-learn")
        raise InvalidArgumentError(
            f"bound must be one of {others}, which have a failure, got {bound!r}"
        )
    return _union(n_samples, bound, target, pairs).failure(k, error)


@dataclass(frozen=True, slots=True)
class _Union:
    """The union bound: so many pairs, each with the same tail."""

    log_tail: _LogTail
    log_pairs: float

    def failure(self, n_components: int, eps: float) -> float:
        # The sum of logarithms: the number of pairs may be beyond any float.
        log = self.log_pairs + self.log_tail(n_components, eps)
        return math.exp(log) if log < 0 else 1.0


@dataclass(frozen=True, slots=True)
class _Promise(_Union):
    """A union bound, and the failure that is allowed."""

    allowed: float

    def kept(self, n_components: int, eps: float) -> bool:
        return self.failure(n_components, eps) <= self.allowed


def _exact(n_components: int, eps: float) -> float:
    lower, upper = _core.chi_square_log_tails(n_components, eps)
    more, less = max(lower, upper), min(lower, upper)
    return more + math.log1p(math.exp(less - more))


def _exact_products(n_components: int, eps: float) -> float:
    # That equal samples are the worst pair is true from two components on; one has the
    # sum and the difference to fall back on.
    return _exact(n_components, eps) + (math.log(2) if n_components == 1 else 0.0)


def _dasgupta_gupta(n_components: int, eps: float) -> float:
    return math.log(2) - n_components * _cubic(eps) / 2


def _chernoff(n_components: int, eps: float) -> float:
    return math.log(2) - n_components * (eps * eps) / 8


def _cubic(eps: float) -> float:
    return eps**2 / 2 - eps**3 / 3


def _twice(log_tail: _LogTail) -> _LogTail:
    return lambda n_components, eps: math.log(2) + log_tail(n_components, eps)


_LOG_TAILS: dict[str, dict[str, _LogTail]] = {
    "exact": {"distances": _exact, "inner-products": _exact_products},
    "dasgupta-gupta": {"distances": _dasgupta_gupta, "inner-products": _twice(_dasgupta_gupta)},
    "chernoff": {"distances": _chernoff, "inner-products": _twice(_chernoff)},
}
_BOUNDS = ("exact", "dasgupta-gupta", "scikit-learn", "chernoff")
_TARGETS = ("distances", "inner-products")


def _union(n_samples: object, bound: str, target: object, pairs: object) -> _Union:
    tail = _LOG_TAILS[bound][_chosen("target", target, _TARGETS)]
    count = _count(n_samples, pairs, "pairs is")
    return _Union(tail, math.log(count) if count else -math.inf)


def _promise(
    n_samples: object, failure: object, bound: str, target: object, pairs: object, quantile: object
) -> _Promise:
    _checks.exclusive(quantile=quantile, failure=failure)
    _checks.exclusive(quantile=quantile, pairs=pairs)
    tail = _LOG_TAILS[bound][_chosen("target", target, _TARGETS)]
    if quantile is not None:
        if n_samples is not None:
            _checks.integer("n_samples", n_samples, low=1)
        return _Promise(tail, 0.0, 1 - _checks.fraction("quantile", quantile))
    allowed = DEFAULT_FAILURE if failure is None else _checks.fraction("failure", failure)
    count = _count(n_samples, pairs, "pairs or quantile is")
    return _Promise(tail, math.log(count) if count else -math.inf, allowed)


def _count(n_samples: object, pairs: object, unless: str) -> int:
    """Return the number of pairs, a plain int of any size."""
    if n_samples is None and pairs is None:
        raise _checks.wrong_type("n_samples", f"an int unless {unless} given", n_samples)
    if n_samples is None:
        return _checks.integer("pairs", pairs, low=1)
    n = _checks.integer("n_samples", n_samples, low=1)
    every = n * (n - 1) // 2
    if pairs is None:
        return every
    some = _checks.integer("pairs", pairs, low=1)
    if some > every:
        raise InvalidArgumentError(
            f"pairs must be at most {every}, all there are of {n} samples, got {some}"
        )
    return some


def _scikit_learn(n_samples: int, eps: float) -> float:
    """Return scikit-learn's number before it is rounded down."""
    cubic = _cubic(eps)
    return 4 * math.log(n_samples) / cubic if cubic > 0 else math.inf


def _scikit_learns(
    n_samples: object, failure: object, target: object, pairs: object, quantile: object
) -> int:
    """Return the number of samples; refuse what scikit-learn's formula does not know."""
    for name, value in (("failure", failure), ("pairs", pairs), ("quantile", quantile)):
        if value is not None:
            raise InvalidArgumentError(
                f"{name} must be left out with bound 'scikit-learn', {_checks.given(value)}"
            )
    if _chosen("target", target, _TARGETS) != "distances":
        raise InvalidArgumentError(
            f"target must be 'distances' with bound 'scikit-learn', got {target!r}"
        )
    return _checks.integer("n_samples", n_samples, low=1)


def _smallest_eps(
    n_components: int, kept: Callable[[float], bool], least: Callable[[], int]
) -> float:
    if not kept(_LARGEST_EPS):
        raise InvalidArgumentError(
            f"n_components must be at least {least()} for an eps below 1, got {n_components}"
        )
    low, high = 0.0, _LARGEST_EPS
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if kept(middle) else (middle, high)
    return high


def _too_small(eps: float) -> InvalidArgumentError:
    return InvalidArgumentError(f"eps must allow for less than 2**53 components, got {eps}")


def _components(value: object) -> int:
    return _checks.integer("n_components", value, low=1, high=_MOST + 1)


def _chosen(name: str, value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise _checks.wrong_type(name, "a str", value)
    if value not in choices:
        named = ", ".join(map(repr, choices))
        raise InvalidArgumentError(f"{name} must be one of {named}, got {value!r}")
    return value
