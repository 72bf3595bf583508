"""`measure_crossover`: from which length linear attention pays on this machine."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corekit import _arrays as arrays
from corekit import _checks, _figure, _threads
from corekit.attention import _maps
from corekit.attention._forward import linear_attention
from corekit.attention._layer import Layer
from corekit.attention._maps import FeatureMap
from corekit.attention._softmax import softmax_attention
from corekit.errors import InvalidArgumentError

LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

# Of a length: both take turns until there were so many rounds, and until so much time is over.
_ROUNDS = 3
_MOST_ROUNDS = 200
_SECONDS = 0.2

_MOST_LENGTH = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossoverReport:
    """Softmax attention and linear attention, timed side by side.

    Attributes
    ----------
    heads, dim : int
        Heads, and their size.
    feature_map : str
        The feature map, as it is written.
    n_features : int
        The features of a head.
    normalize, causal : bool
        As in `linear_attention`.
    dtype : str
        Of q, k and v.
    threads : int
        The most threads.
    lengths : tuple of int
        The lengths measured, rising.
    softmax_seconds, linear_seconds : tuple of float
        The median time of a call, for each length.
    crossover : float or None
        The length at which both take the same time: between the last length at which
        softmax attention is quicker and the next, on a straight line of logarithms. None
        when one of them is quicker at all lengths, or softmax at the longest.
    pays_from : int or None
        The smallest of the lengths from which on linear attention is quicker; None when it
        is not at the longest.
    expected : int
        The length at which both cores have as many multiplications.
    """

    heads: int
    dim: int
    feature_map: str
    n_features: int
    normalize: bool
    causal: bool
    dtype: str
    threads: int
    lengths: tuple[int, ...]
    softmax_seconds: tuple[float, ...]
    linear_seconds: tuple[float, ...]
    crossover: float | None
    pays_from: int | None
    expected: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that JSON can hold."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict())

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the time of both by length, with what was expected.

        Parameters
        ----------
        path
            Where to save the figure, in the format that the name ends in. A file there
            is replaced in one step.

        Returns
        -------
        matplotlib.figure.Figure
            The figure, which a notebook shows.

        Raises
        ------
        MissingPackageError
            matplotlib is not installed.
        InvalidArgumentError
            The name does not end in a format that matplotlib writes.
        FileError
            The figure cannot be saved.
        """
        return _figure.drawn(self._draw, path)

    def _draw(self, axes: Any) -> None:
        for label, seconds in (
            ("softmax attention", self.softmax_seconds),
            (f"linear attention, {self.feature_map}", self.linear_seconds),
        ):
            axes.loglog(self.lengths, [1e3 * value for value in seconds], "o-", label=label)
        axes.axvline(
            self.expected,
            color="black",
            linestyle="--",
            linewidth=1,
            label=f"as many multiplications: {self.expected:,}",
        )
        if self.crossover is not None:
            axes.axvline(
                self.crossover,
                color="black",
                linewidth=1,
                label=f"as much time: {self.crossover:,.0f}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xlabel("tokens")
        axes.set_ylabel("milliseconds")
        axes.set_title(self._what())
        axes.legend()

    def _what(self) -> str:
        kind = "causal" if self.causal else "not causal"
        heads, threads = _counted(self.heads, "head"), _counted(self.threads, "thread")
        return f"{heads} of {self.dim}, {kind}, {self.dtype}, {threads}"

    def __str__(self) -> str:
        normalized = ", normalised" if self.normalize else ""
        if self.pays_from is None:
            pays = f"not up to {self.lengths[-1]:,} tokens"
        elif self.crossover is None:
            pays = f"at every length measured, from {self.lengths[0]:,} tokens"
        else:
            pays = f"from about {self.crossover:,.0f} tokens"
        table = [
            f"{length:>10,}{1e3 * slow:>12.3f}{1e3 * quick:>12.3f}{slow / quick:>11.2f}x"
            for length, slow, quick in zip(
                self.lengths, self.softmax_seconds, self.linear_seconds, strict=True
            )
        ]
        return "\n".join(
            [
                f"layer         {self._what()}",
                f"linear        {self.feature_map}, {self.n_features:,} features{normalized}",
                f"{'tokens':>10}{'softmax ms':>12}{'linear ms':>12}{'ratio':>12}",
                *table,
                f"linear pays   {pays}",
                f"expected      from {self.expected:,} tokens, by multiplications",
            ]
        )


def measure_crossover(
    *,
    heads: int = 8,
    dim: int = 64,
    lengths: Sequence[int] | None = None,
    feature_map: FeatureMap = "elu1",
    normalize: bool = True,
    causal: bool = True,
    dtype: npt.DTypeLike = "float32",
    threads: int | None = None,
) -> CrossoverReport:
    """Time softmax attention and linear attention by length.

    Parameters
    ----------
    heads, dim
        Heads, and their size.
    lengths
        Numbers of tokens, rising; powers of two from 16 to 4096 unless given.
    feature_map, normalize, causal
        As in `linear_attention`.
    dtype
        Of q, k and v: float16, float32 or float64.
    threads
        The most threads to use; COREKIT_NUM_THREADS or all CPUs unless given.

    Returns
    -------
    CrossoverReport
        Both times for each length, and from which length linear attention pays.

    Raises
    ------
    InvalidArgumentError
        An option out of its range.
    ArgumentTypeError
        An argument of a type that is not taken.
    OutOfMemoryError
        The system has no memory for sequences of these lengths.

    Notes
    -----
    The two take turns, into outputs that are there, on normal numbers of a fixed seed: three
    rounds of each length at least, and more while they are short. The first is not
    counted. Medians are reported. It takes about two seconds and three times what
    the longest length takes.

    Examples
    --------
    >>> from corekit.attention.cost import measure_crossover
    >>> report = measure_crossover(heads=2, dim=16, lengths=[32, 64], threads=1)
    >>> report.lengths, report.expected
    ((32, 64), 31)
    """
    applied = _maps.check(feature_map)
    layer = Layer(heads, dim, causal)
    m = _maps.n_features(applied, layer.dim)
    wanted = _lengths(LENGTHS if lengths is None else lengths)
    of = arrays.dtype_name("dtype", dtype, "float16", "float32", "float64")
    normalized = _checks.switch("normalize", normalize)
    count = _threads.count(threads)
    pairs = [_timed(layer, length, applied, normalized, of, count) for length in wanted]
    softmax, linear = ([pair[i] for pair in pairs] for i in (0, 1))
    return CrossoverReport(
        heads=layer.heads,
        dim=layer.dim,
        feature_map=applied if isinstance(applied, str) else repr(applied),
        n_features=m,
        normalize=normalized,
        causal=layer.causal,
        dtype=of,
        threads=count,
        lengths=wanted,
        softmax_seconds=tuple(softmax),
        linear_seconds=tuple(linear),
        crossover=_crossing(wanted, softmax, linear),
        pays_from=_pays_from(wanted, softmax, linear),
        expected=layer.linear_pays(n_features=m),
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _lengths(given: Sequence[int]) -> tuple[int, ...]:
    try:
        each = list(given)
    except TypeError:
        raise _checks.wrong_type("lengths", "a sequence of ints", given) from None
    wanted = [_checks.integer("lengths", n, low=1, high=_MOST_LENGTH) for n in each]
    if not wanted or any(after <= before for before, after in itertools.pairwise(wanted)):
        raise InvalidArgumentError(f"lengths must be at least one, and rise, got {wanted}")
    return tuple(wanted)


def _timed(
    layer: Layer,
    length: int,
    feature_map: _maps.Checked,
    normalize: bool,
    dtype: str,
    threads: int,
) -> tuple[float, float]:
    """Return the seconds of softmax attention and of linear attention."""
    random = np.random.default_rng(0)
    shape = (1, length, layer.heads, layer.dim)
    q, k, v = (_drawn(random, shape, dtype) for _ in range(3))
    out = arrays.empty(shape, dtype)

    def softmax() -> None:
        softmax_attention(q, k, v, causal=layer.causal, out=out, threads=threads)

    def linear() -> None:
        linear_attention(
            q,
            k,
            v,
            causal=layer.causal,
            feature_map=feature_map,
            normalize=normalize,
            out=out,
            threads=threads,
        )

    calls: tuple[Callable[[], None], ...] = (softmax, linear)
    taken: tuple[list[float], list[float]] = ([], [])
    end = None
    while end is None or (
        len(taken[0]) < _ROUNDS or (time.perf_counter() < end and len(taken[0]) < _MOST_ROUNDS)
    ):
        for call, times in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            if end is not None:
                times.append(time.perf_counter() - start)
        end = end or time.perf_counter() + _SECONDS
    return statistics.median(taken[0]), statistics.median(taken[1])


def _drawn(
    random: np.random.Generator, shape: tuple[int, ...], dtype: str
) -> npt.NDArray[np.floating]:
    numbers = arrays.empty(shape, np.float32)
    random.standard_normal(dtype=np.float32, out=numbers)
    if dtype == "float32":
        return numbers
    converted = arrays.empty(shape, dtype)
    converted[...] = numbers
    return converted


def _pays_from(
    lengths: Sequence[int], softmax: Sequence[float], linear: Sequence[float]
) -> int | None:
    found = None
    for length, slow, quick in reversed(list(zip(lengths, softmax, linear, strict=True))):
        if quick >= slow:
            break
        found = length
    return found


def _crossing(
    lengths: Sequence[int], softmax: Sequence[float], linear: Sequence[float]
) -> float | None:
    """Return where the last change for the better is, on a line of logarithms."""
    after = _pays_from(lengths, softmax, linear)
    if after is None or after == lengths[0]:
        return None
    at = lengths.index(after)
    gap = [math.log(linear[i] / softmax[i]) for i in (at - 1, at)]
    share = gap[0] / (gap[0] - gap[1])
    before = lengths[at - 1]
    return float(before * (after / before) ** share)
