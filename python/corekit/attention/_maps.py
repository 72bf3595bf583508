"""Feature maps: a name, or a small object that is its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from corekit import _checks, _core, _seed
from corekit.errors import InvalidArgumentError, OutOfMemoryError

Name: TypeAlias = Literal["identity", "elu1", "relu", "squared_relu", "exp", "softmax"]

NAMES: Final[tuple[Name, ...]] = get_args(Name)
_NAMED: Final[dict[str, Name]] = {name: name for name in NAMES}

# Of a head's state. Beyond it, polynomials are taken pair by pair.
MOST_STATE_BYTES: Final = 64 << 20

_MOST_FEATURES: Final = 1 << 24
_MOST_ORDER: Final = 1024


@dataclass(frozen=True, init=False)
class Favor:
    """Positive random features of softmax attention (Performer's FAVOR+).

    phi_j(x) = exp(w_j·x - |x|²/2) / sqrt(m), so that the mean of phi(q)·phi(k) over draws
    of w is exp(q·k). The rows w_j are standard normal. The error of a weight falls as
    1/sqrt(m), and grows as exp(|q + k|²/2).

    Parameters
    ----------
    n_features
        m, how many features. 1 to 2**24.
    orthogonal
        Whether rows are made orthogonal in blocks of D, each with the length that it had:
        the same mean, a smaller variance.
    seed
        The key of the generator, from 0 to 2**128 - 1. With None one is drawn: read it
        from `seed`.

    Raises
    ------
    InvalidArgumentError
        A parameter out of its range.
    ArgumentTypeError
        A parameter of a type that is not taken.

    Notes
    -----
    A call is O(T m (D + V)). States hold features divided by exp(log_scale), and nothing
    overflows, whatever the size of q and k. Decays must be one value a head. The matrix, in
    its forms at least 16 m D bytes, is kept for further calls: of the 16 maps that were used
    last, and for the size of heads that came last.

    References
    ----------
    Choromanski et al., "Rethinking attention with Performers", ICLR 2021.
    https://arxiv.org/abs/2009.14794

    Examples
    --------
    >>> from corekit.attention import Favor
    >>> favor = Favor(256, seed=1)
    >>> favor.n_features_for(64), favor.projection(64).shape
    (256, (256, 64))
    """

    n_features: int
    orthogonal: bool
    seed: int

    def __init__(self, n_features: int, *, orthogonal: bool = True, seed: int | None) -> None:
        m = _checks.integer("n_features", n_features, low=1, high=_MOST_FEATURES + 1)
        object.__setattr__(self, "n_features", m)
        object.__setattr__(self, "orthogonal", _checks.switch("orthogonal", orthogonal))
        object.__setattr__(self, "seed", _seed.resolve(seed))

    def n_features_for(self, key_dim: int) -> int:
        """Return m, whatever the size of the head."""
        _checks.integer("key_dim", key_dim, low=0)
        return self.n_features

    def projection(self, key_dim: int) -> npt.NDArray[np.float64]:
        """Return the rows w_j for heads of size D.

        Parameters
        ----------
        key_dim
            D, the size of a head of q and k.

        Returns
        -------
        ndarray of float64, shape (m, D)
            The rows. They are a published formula of ``numpy.random.Philox``: the
            mathematics page has it.

        Raises
        ------
        OutOfMemoryError
            The system has no memory for them.
        """
        return core_of(self).projection(_checks.integer("key_dim", key_dim, low=0))


@dataclass(frozen=True)
class Taylor:
    """The Taylor polynomial of softmax attention's exponential.

    phi(q)·phi(k) = sum over j <= p of (q·k)ʲ/j!, exactly. Features are the monomials up to
    degree p, C(D + p, p) of them. Of even order all weights are positive.

    Parameters
    ----------
    order
        p, from 1 to 1024.

    Raises
    ------
    InvalidArgumentError
        `order` out of its range.
    ArgumentTypeError
        `order` is no int.

    Notes
    -----
    With x = scale q·k the error of a weight is at most |x|ᵖ⁺¹/(p + 1)! e^|x|.

    Feature i of degree j is x^a / sqrt(a!) for a multiset a of j of the D coordinates: by
    degree, and within one in lexicographic order of the sorted multisets.

    Where the state of a head, m (V + 1) numbers, would pass 64 MiB, pairs of tokens are
    taken one by one: O(T²) time, no state.

    References
    ----------
    Arora et al., "Simple linear attention language models balance the recall-throughput
    tradeoff" (Based), ICML 2024. https://arxiv.org/abs/2402.18668

    Examples
    --------
    >>> from corekit.attention import Taylor
    >>> Taylor(2).n_features_for(16)
    153
    """

    order: int

    def __post_init__(self) -> None:
        order = _checks.integer("order", self.order, low=1, high=_MOST_ORDER + 1)
        object.__setattr__(self, "order", order)

    def n_features_for(self, key_dim: int) -> int:
        """Return C(D + p, p), the features of a head of size D."""
        return math.comb(_checks.integer("key_dim", key_dim, low=0) + self.order, self.order)


@dataclass(frozen=True)
class ExponentialLimit:
    """Softmax attention's exponential as the limit of (1 + q·k/n)ⁿ.

    phi(q)·phi(k) = (1 + q·k/n)ⁿ, exactly: the n-th tensor power of (1, x/sqrt(n)), with
    C(D + n, n) features. Of even n all weights are positive.

    Parameters
    ----------
    n
        The power, from 1 to 1024.

    Raises
    ------
    InvalidArgumentError
        `n` out of its range.
    ArgumentTypeError
        `n` is no int.

    Notes
    -----
    With x = scale q·k the relative error of a weight is about x²/(2n): slower than
    `Taylor`, but the weights of very negative x vanish for n > |x| as they should.

    Features are ordered as those of `Taylor`; large states likewise.

    Examples
    --------
    >>> from corekit.attention import ExponentialLimit
    >>> ExponentialLimit(2).n_features_for(16)
    153
    """

    n: int

    def __post_init__(self) -> None:
        n = _checks.integer("n", self.n, low=1, high=_MOST_ORDER + 1)
        object.__setattr__(self, "n", n)

    def n_features_for(self, key_dim: int) -> int:
        """Return C(D + n, n), the features of a head of size D."""
        return math.comb(_checks.integer("key_dim", key_dim, low=0) + self.n, self.n)


FeatureMap: TypeAlias = Name | Favor | Taylor | ExponentialLimit | None
Checked: TypeAlias = Name | Favor | Taylor | ExponentialLimit


def check(given: object) -> Checked:
    """Return the map given, which must be a name, None or one of the classes."""
    if given is None:
        return "identity"
    if not isinstance(given, str):
        if isinstance(given, (Favor, Taylor, ExponentialLimit)):
            return given
        raise _checks.wrong_type(
            "feature_map", "None, a str, a Favor, a Taylor or an ExponentialLimit", given
        )
    if given in _NAMED:
        return _NAMED[given]
    names = ", ".join(map(repr, NAMES))
    raise InvalidArgumentError(f"feature_map must be one of {names}, got {given!r}")


def n_features(feature_map: Checked, key_dim: int) -> int:
    """Return m, the features of a head of size `key_dim`."""
    return key_dim if isinstance(feature_map, str) else feature_map.n_features_for(key_dim)


def approximates_softmax(feature_map: Checked) -> bool:
    """Whether the scale belongs into the exponent."""
    return not isinstance(feature_map, str)


def keeps_log_scale(feature_map: Checked) -> bool:
    """Whether states are stabilised."""
    return isinstance(feature_map, Favor)


def refuse_large_state(
    feature_map: Checked,
    key_dim: int,
    value_dim: int,
    dtype: npt.DTypeLike,
    needed_for: str,
) -> None:
    """Refuse what needs a state where polynomials have none."""
    if not isinstance(feature_map, (Taylor, ExponentialLimit)):
        return
    m = n_features(feature_map, key_dim)
    size = m * (value_dim + 1) * np.dtype(dtype).itemsize
    if size > MOST_STATE_BYTES:
        raise OutOfMemoryError(
            f"{needed_for} must have a state of at most {MOST_STATE_BYTES} bytes a head, got "
            f"{size} bytes: {feature_map!r} makes {m} features of {key_dim} coordinates"
        )


def core_of(feature_map: Checked) -> _core.FeatureMap:
    """Return the core's map; a Favor's keeps its rows."""
    return _cores(feature_map)


def _new_core(feature_map: Checked) -> _core.FeatureMap:
    match feature_map:
        case Favor(n_features=m, orthogonal=orthogonal, seed=seed):
            return _core.FeatureMap("favor", n_features=m, orthogonal=orthogonal, seed=seed)
        case Taylor(order=order):
            return _core.FeatureMap("taylor", order=order)
        case ExponentialLimit(n=n):
            return _core.FeatureMap("exponential_limit", order=n)
        case name:
            return _core.FeatureMap(name)


_cores = lru_cache(16)(_new_core)


def scale_of(given: object, key_dim: int, feature_map: Checked | None = None) -> float:
    """Return the scale, D**-0.5 unless given; above 0 where it goes into an exponent."""
    if given is None:
        # No coordinates: every product is 0, whatever the scale.
        return key_dim**-0.5 if key_dim > 0 else 1.0
    scale = _checks.real("scale", given)
    if scale <= 0 and feature_map is not None and approximates_softmax(feature_map):
        raise InvalidArgumentError(
            f"scale must be above 0 with feature_map {feature_map!r}, got {scale}"
        )
    return scale
