"""`Layer`: how many multiplications a transformer layer needs."""

from __future__ import annotations

from dataclasses import dataclass

from corekit import _checks


@dataclass(frozen=True, slots=True)
class Layer:
    """The multiplications of a transformer layer: scalar ones, on one sequence.

    Parameters
    ----------
    heads
        h.
    dim
        d, the size of a head. The layer is hd wide.
    causal
        Whether tokens attend only to earlier tokens. Softmax attention then skips half of
        the pairs; linear attention's count is the same.

    Raises
    ------
    InvalidArgumentError
        A size below 1.
    ArgumentTypeError
        An argument of a type that is not taken.

    Examples
    --------
    >>> from corekit.attention.cost import Layer
    >>> layer = Layer(heads=12, dim=64)
    >>> layer.attention_passes_feed_forward, layer.core_passes_all_else
    (1536, 4608)
    >>> layer.linear_pays(), layer.linear_pays(ratio=4)
    (64, 1024)
    >>> layer.softmax(1024) == layer.linear(1024, ratio=4)
    True
    """

    heads: int
    dim: int
    causal: bool = False

    def __post_init__(self) -> None:
        for name in ("heads", "dim"):
            number = _checks.integer(name, getattr(self, name), low=1)
            object.__setattr__(self, name, number)
        object.__setattr__(self, "causal", _checks.switch("causal", self.causal))

    @property
    def width(self) -> int:
        """The numbers of a token: hd."""
        return self.heads * self.dim

    def projections(self, n: int) -> int:
        """Return the count of the projections to q, k and v and out of the heads: 4 n (hd)²."""
        return 4 * _length(n) * self.width**2

    def feed_forward(self, n: int) -> int:
        """Return the count of a feed-forward part of four times the width: 8 n (hd)²."""
        return 8 * _length(n) * self.width**2

    def softmax(self, n: int) -> int:
        """Return the count of softmax attention's core: 2 n² hd, causally n (n + 1) hd."""
        return (_length(n) + 1 if self.causal else 2 * _length(n)) * n * self.width

    def linear(self, n: int, *, ratio: int = 1, n_features: int | None = None) -> int:
        """Return the count of linear attention's core, token by token.

        Parameters
        ----------
        n
            Tokens.
        ratio
            r: heads are of size r d.
        n_features
            m, the features of a head of q and k; r d unless given.

        Returns
        -------
        int
            2 n m r d a head, which is 2 n r² d² with the features of the names.

        Notes
        -----
        Taking tokens in chunks of c adds about c (m + r d) / 2 a token and head, and makes
        products of matrices of it, which run far quicker.
        """
        size = _checks.integer("ratio", ratio, low=1) * self.dim
        return 2 * _length(n) * _features(n_features, size) * size * self.heads

    @property
    def attention_passes_feed_forward(self) -> int:
        """The length at which softmax attention, projections and core, is as much as the rest.

        4 n (hd)² + 2 n² hd = 8 n (hd)² at n = 2 hd; causally 4 hd, less 1.
        """
        return self._as_many(4 * self.width)

    @property
    def core_passes_all_else(self) -> int:
        """The length at which softmax attention's core is half of the layer.

        2 n² hd = 12 n (hd)² at n = 6 hd; causally 12 hd, less 1.
        """
        return self._as_many(12 * self.width)

    def linear_pays(self, *, ratio: int = 1, n_features: int | None = None) -> int:
        """Return the length at which both cores are equal.

        Parameters
        ----------
        ratio, n_features
            As in `linear`.

        Returns
        -------
        int
            r² d: 2 n² d = 2 n (r d)²; with m features m r; causally twice that, less 1.
        """
        size = _checks.integer("ratio", ratio, low=1) * self.dim
        return self._as_many(2 * _features(n_features, size) * size // self.dim)

    def _as_many(self, per_token: int) -> int:
        """Return n of the core equal to n `per_token` hd."""
        return max(1, per_token - 1) if self.causal else per_token // 2


def _length(n: int) -> int:
    return _checks.integer("n", n, low=0)


def _features(n_features: int | None, size: int) -> int:
    return size if n_features is None else _checks.integer("n_features", n_features, low=1)
