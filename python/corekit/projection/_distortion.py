"""What a projection did to the distances between the rows of some data.

The sample is a public formula over words of
``numpy.random.Philox(key=seed, counter=[0, 0, stream, 2**32 + 1])``. Nothing else uses
this last counter word, so a seed may be shared with the projection that is measured. A
word w draws number ``w * m >> 64`` out of m; the sample is the first distinct numbers
that a stream draws. Stream 0 draws pairs of rows, numbered ``j * (j - 1) / 2 + i`` for
i < j; stream 1 draws the rows whose neighbours are searched for.

All is float64 and goes block by block. A step takes some milliseconds, so Ctrl-C is heard
soon.
"""

# Without `annotations` of the future: as strings they would be looked up in the public module,
# which does not have these names.
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corekit import _checks, _figure, _seed
from corekit.errors import InvalidArgumentError
from corekit.projection._bounds import failure_for
from corekit.projection._neighbours import recall_of
from corekit.projection._rows import Projected, Rows, parts, rows_of, squared_distances

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WORST = 5
NEIGHBOURS = 10

_DOMAIN = (1 << 32) + 1
_PAIRS, _QUERIES = 0, 1


class PairError(NamedTuple):
    """Two rows, i < j, and the relative error of their squared distance."""

    i: int
    j: int
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DistortionReport:
    """What a projection did to the squared distances between sampled pairs of rows.

    The error of a pair is ``|y_i - y_j|**2 / |x_i - x_j|**2 - 1``. What is expected is
    what k independent Gaussian components do to any data: ``k * (1 + error)`` has the
    chi-square distribution of k degrees, so errors have mean 0 and variance 2/k.

    Attributes
    ----------
    n_rows, n_features, n_components : int
        Rows, and columns before and after.
    eps : float
        The error that counts as too large.
    seed : int
        The seed of the sample: the one given, or the one that was drawn.
    n_pairs : int
        Pairs that were measured.
    zero_pairs : int
        Pairs that were drawn and left out, because their rows are equal.
    bias, rms : float
        Mean of the errors, and the root of the mean of their squares.
    max_error : float
        Largest magnitude of an error.
    quantiles : mapping of float to float
        Quantiles of the errors, by level.
    outside : float
        Share of the pairs with an error beyond ±eps.
    worst : tuple of PairError
        The pairs with the errors largest in magnitude, the largest first.
    expected_rms, expected_outside : float
        What k Gaussian components would give.
    n_neighbours, n_queries : int
        Nearest neighbours searched for, and rows whose neighbours were searched for.
    recall : float or None
        Share of the neighbours after projection that are neighbours before it; None
        without queries.
    pairs : ndarray of int64, shape (n_pairs, 2)
        The pairs that were measured, i < j, by j and then by i. Read-only, neither
        compared nor part of `to_dict`, and so are `errors`.
    errors : ndarray of float64, shape (n_pairs,)
        Their errors.
    """

    n_rows: int
    n_features: int
    n_components: int
    eps: float
    seed: int
    n_pairs: int
    zero_pairs: int
    bias: float
    rms: float
    max_error: float
    quantiles: Mapping[float, float] = field(hash=False)  # a dict, which has no hash
    outside: float
    worst: tuple[PairError, ...]
    expected_rms: float
    expected_outside: float
    n_neighbours: int
    n_queries: int
    recall: float | None
    pairs: NDArray[np.int64] = field(repr=False, compare=False)
    errors: NDArray[np.float64] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that JSON can hold, without the single errors.

        The seed is a string, because most readers of JSON keep 53 bits of a number.
        """
        result = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        del result["pairs"], result["errors"]
        result["seed"] = str(self.seed)
        result["quantiles"] = {f"{level:g}": error for level, error in self.quantiles.items()}
        result["worst"] = [pair._asdict() for pair in self.worst]
        return result

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict())

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw a histogram of the errors, with ±eps and the density that is expected.

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
        axes.hist(self.errors, bins=_edges(self.errors), density=True, alpha=0.5, label="measured")
        k = self.n_components
        reach = 1.05 * max(self.max_error, self.eps, 4 * self.expected_rms)
        errors = np.linspace(max(-1.0, -reach), reach, 1001)[1:]
        axes.plot(errors, _density(errors, k), label=f"expected of {k:,} components")
        for edge in (-self.eps, self.eps):
            axes.axvline(edge, color="black", linestyle="--", linewidth=1)
        axes.set_xlabel("relative error of the squared distance")
        axes.set_ylabel("density")
        axes.set_title(
            f"{self.n_pairs:,} pairs, {self.outside:.2%} outside ±{self.eps:.3g}, "
            f"{self.expected_outside:.2%} expected"
        )
        axes.legend()

    def __str__(self) -> str:
        compared = (
            ("", "measured", "expected"),
            ("bias", f"{self.bias:+.4f}", "0"),
            ("RMS", f"{self.rms:.4f}", f"{self.expected_rms:.4f}"),
            (f"outside ±{self.eps:.3g}", f"{self.outside:.2%}", f"{self.expected_outside:.2%}"),
            ("largest", f"{self.max_error:.4f}", ""),
        )
        worst = [f"{pair.error:+9.4f}  rows {pair.i} and {pair.j}" for pair in self.worst]
        found = "" if self.recall is None else f"{self.recall:9.1%}  of "
        every = self.n_rows * (self.n_rows - 1) // 2
        rows = [
            (
                "data",
                f"{self.n_rows:,} rows, {self.n_features:,} features, "
                f"{self.n_components:,} components",
            ),
            ("pairs", f"{self.n_pairs:,} of {every:,}; {self.zero_pairs:,} of equal rows left out"),
            ("error", "|y_i - y_j|^2 / |x_i - x_j|^2 - 1"),
            *((label, f"{measured:>9}{expected:>10}") for label, measured, expected in compared),
            ("quantiles", "".join(f"{level:>9.0%}" for level in self.quantiles)),
            ("", "".join(f"{error:>+9.4f}" for error in self.quantiles.values())),
            *(("" if number else "worst pairs", text) for number, text in enumerate(worst)),
            (f"recall at {self.n_neighbours}", f"{found}{self.n_queries:,} queries"),
            ("seed", str(self.seed)),
        ]
        return "\n".join(f"{label:<15} {text}".rstrip() for label, text in rows)


def distortion(
    X: Any,
    projection_or_Y: Any,
    *,
    eps: float = 0.1,
    n_pairs: int = 10_000,
    n_queries: int = 200,
    seed: int | None,
) -> DistortionReport:
    """Measure what a projection did to the distances between the rows of X.

    Parameters
    ----------
    X
        The data, a row for each point, in any kind of array that `SparseProjection`
        takes: of NumPy (memory maps, any order and strides), scipy.sparse, torch on the
        CPU, or with DLPack. Sparse data stay sparse; what is not CSR is copied to CSR.
    projection_or_Y
        The projection of X: an array with as many rows, of any of these kinds, or an
        object with ``project(rows)``, such as a `SparseProjection`. Then only those rows
        are projected that are needed, a block at a time.
    eps
        The error that counts as too large, above 0 and below 1.
    n_pairs
        Pairs to sample, uniformly and without repetition; all pairs when there are no
        more.
    n_queries
        Rows, sampled likewise, whose 10 nearest neighbours are searched for among all
        rows, once in X and once after projection. 0 leaves this out, and with it the
        only need to read all rows.
    seed
        The seed of the sample, below 2**128; None draws one, which is in the report. The
        module's head says how the sample follows from it.

    Returns
    -------
    DistortionReport
        Bias, RMS, quantiles, worst pairs and what is expected of them, and the recall.

    Raises
    ------
    InvalidArgumentError
        An array is not two-dimensional, has no columns, fewer than 2 rows, a value that
        is not finite among those that are read, or damaged indices; the numbers of rows
        differ; all pairs are at distance zero; an option is out of its range.
    ArgumentTypeError
        An argument is of a type that is not taken.

    Notes
    -----
    A pair of equal rows has no relative error. It is left out and counted.

    The recall is the share of the neighbours after projection that are no farther away
    in X than the 10th nearest there, to 9 digits. So it does not matter which of several
    rows at one distance counts as the 10th in X. After projection, those of them that
    come first are taken. A row is not its own neighbour. With fewer than 11 rows
    all others are neighbours and the recall is 1.

    Memory is some blocks of 8 MiB, 64 MiB of queries, and a few words for each pair. Time is
    dominated by ``2 * n_rows * n_queries * (n_features + n_components)`` operations of
    matrix products.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(4)
    >>> report = distortion(X, X[:, :2] * 2, n_queries=0, seed=7)
    >>> report.n_pairs, report.bias, report.max_error
    (6, 1.0, 3.0)
    >>> report.errors.tolist()
    [3.0, 1.0, 1.0, 1.0, 1.0, -1.0]
    """
    x = rows_of("X", X)
    if hasattr(projection_or_Y, "project") and not isinstance(projection_or_Y, type):
        y: Rows = Projected("the projection of X", x, projection_or_Y)
    else:
        y = rows_of("Y", projection_or_Y)
    return measure(x, y, eps=eps, n_pairs=n_pairs, n_queries=n_queries, seed=seed)


def measure(
    x: Rows, y: Rows, *, eps: object, n_pairs: object, n_queries: object, seed: object
) -> DistortionReport:
    """Do what `distortion` does, with rows whose names the errors are to show."""
    limit = _checks.fraction("eps", eps)
    wanted = _checks.integer("n_pairs", n_pairs, low=1)
    asked = _checks.integer("n_queries", n_queries, low=0)
    key = _seed.resolve(seed)
    n = x.n_rows
    x.check_length(2)
    if y.n_rows != n:
        raise InvalidArgumentError(
            f"{y.name} must have as many rows as {x.name}, {n}, got {y.n_rows}"
        )
    pairs, errors, zero = _pair_errors(x, y, _pairs(key, n, wanted))
    queries = _sample(key, _QUERIES, n, asked)
    count = min(NEIGHBOURS, n - 1)
    magnitudes = np.abs(errors)
    # Stable, so that of equal errors the first pair comes first.
    largest = np.argsort(-magnitudes, kind="stable")[:WORST]
    for array in (pairs, errors):
        array.flags.writeable = False
    return DistortionReport(
        n_rows=n,
        n_features=x.n_columns,
        n_components=y.n_columns,
        eps=limit,
        seed=key,
        n_pairs=len(errors),
        zero_pairs=zero,
        bias=float(errors.mean()),
        rms=math.sqrt(float(np.square(errors).mean())),
        max_error=float(magnitudes.max()),
        quantiles=dict(zip(QUANTILES, np.quantile(errors, QUANTILES).tolist(), strict=True)),
        outside=float((magnitudes > limit).mean()),
        worst=tuple(
            PairError(int(i), int(j), float(error))
            for (i, j), error in zip(pairs[largest], errors[largest], strict=True)
        ),
        expected_rms=math.sqrt(2 / y.n_columns),
        expected_outside=failure_for(None, y.n_columns, limit, pairs=1),
        n_neighbours=count,
        n_queries=len(queries),
        recall=recall_of(x, y, queries, count) if len(queries) else None,
        pairs=pairs,
        errors=errors,
    )


# The sample.


def _pairs(seed: int, n_rows: int, count: int) -> NDArray[np.int64]:
    """Draw pairs of rows, by number."""
    number = _sample(seed, _PAIRS, n_rows * (n_rows - 1) // 2, count)
    # The root is off by one at most, where rounding lifts it over a whole number or not.
    j = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > number
    j += j * (j + 1) // 2 <= number
    return np.stack((number - j * (j - 1) // 2, j), axis=1)


def _sample(seed: int, stream: int, population: int, count: int) -> NDArray[np.int64]:
    """Draw distinct numbers below `population`, in ascending order."""
    if count >= population:
        return np.arange(population, dtype=np.int64)
    words = np.random.Philox(key=seed, counter=[0, 0, stream, _DOMAIN])
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:
        more = _scaled(words.random_raw(count), population).astype(np.int64)
        drawn = np.concatenate((drawn, more))
        first = np.unique(drawn, return_index=True)[1]
        drawn = drawn[np.sort(first)]
    return np.sort(drawn[:count])


def _scaled(words: NDArray[np.uint64], population: int) -> NDArray[np.uint64]:
    """Return ``words * population >> 64``, from products of halves that fit 64 bits."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    upper, lower = np.uint64(population >> 32), np.uint64(population & 0xFFFFFFFF)
    middle = (words >> half) * lower + ((words & low) * lower >> half)
    rest = (middle & low) + (words & low) * upper
    scaled: NDArray[np.uint64] = (words >> half) * upper + (middle >> half) + (rest >> half)
    return scaled


# Pairs.


def _pair_errors(
    x: Rows, y: Rows, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Return the pairs of unequal rows, their errors, and how many others there are."""
    i, j = np.ascontiguousarray(pairs.T)
    errors = np.empty(len(pairs))
    apart = np.empty(len(pairs), dtype=np.bool_)
    for part in parts(x.cells(i) + x.cells(j) + y.cells(i) + y.cells(j)):
        before, before_power = squared_distances(x, i[part], j[part])
        after, after_power = squared_distances(y, i[part], j[part])
        apart[part] = before > 0
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            errors[part] = np.ldexp(after / before, after_power - before_power) - 1
    if not apart.any():
        raise InvalidArgumentError(
            f"{x.name} must have rows that differ, got {len(pairs)} pairs of equal rows"
        )
    errors = errors[apart]
    # The squares of errors are summed.
    if not (np.abs(errors) < 2.0**500).all():
        raise InvalidArgumentError(
            f"{y.name} must have distances of the scale of those of {x.name}, got some "
            "larger by 2**500"
        )
    return pairs[apart], errors, int(len(pairs) - len(errors))


# Figures.


def _density(errors: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the density of a chi-square variable of k degrees, over k, less 1."""
    half = k / 2
    logs = (half - 1) * np.log1p(errors) - half * errors
    constant = half * math.log(half) - half - math.lgamma(half)
    density: NDArray[np.float64] = np.exp(logs + constant)
    return density


def _edges(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of a histogram's bins: by Freedman and Diaconis, up to 200."""
    edges = np.histogram_bin_edges(errors, "fd") if len(errors) > 1 else errors
    if 2 <= len(edges) <= 201:
        return edges
    return np.histogram_bin_edges(errors, min(200, max(1, len(edges) - 1)))
