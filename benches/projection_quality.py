"""Measure how well random projections keep distances on real data, beside scikit-learn's.

    python benches/projection_quality.py               measure, write the results and the plot
    python benches/projection_quality.py --plot        draw the plot of the results there are
    python benches/projection_quality.py --write FILE  put the tables between a file's markers
    python benches/projection_quality.py --check FILE  fail if what stands there is not the results

The markers are ``<!-- bench:projection-quality -->`` and ``<!-- /bench -->``, each on a line of its
own. Results go to ``results/projection-quality.json``, the plot to
``docs/images/projection-quality.svg``. Run it with the interpreter of ``.venv``: the measurement,
four minutes of one CPU, takes place in the peers' environment (``build/bench/env``, see
`environment`), with the wheel in ``target/wheels`` or that of ``--wheel``.

Two sets of data that come with Python and scikit-learn:

- digits: 1797 images of 8 x 8 pixels, dense;
- text: the sources of the standard library, a row for each file, tf-idf weights of its words and
  pairs of neighbouring words, CSR. Rows and features depend on the Python.

The error of a pair of rows is |Ay - Ax|^2 / |y - x|^2 - 1. All pairs of 400 rows are taken, the
same ones for all laws. Seeds are fixed.

What a law ought to do is known: the mean square of the error over seeds is the variance of the
law, which follows from how the differences of the pairs are spread over features (see the
mathematics page). Every law is judged by that, scikit-learn's too. Each statistic takes an equal
share of a false alarm probability of 1e-6, half of it for either side.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import machine
import pinned
from drawing import COLOURS, GREY, RULE, dots, label, line, picture
from environment import AbsentError, PeerEnvironment
from projections import peers
from tables import markdown

BENCHES = Path(__file__).resolve().parent
REPOSITORY = BENCHES.parent
RESULTS = BENCHES / "results" / "projection-quality.json"
PLOT = REPOSITORY / "docs" / "images" / "projection-quality.svg"
MARKED = re.compile(r"(<!-- bench:projection-quality -->\n).*?(<!-- /bench -->)", re.DOTALL)

FALSE_ALARM = 1e-6
ROWS = 400
EPS = 0.1
# Squared distances below this share of the squared lengths are rounding errors of the Gram matrix.
SAME = 1e-9
# Of how many pairs at most the differences are looked at, for what a law ought to do.
DIFFERENCES = 20_000
# Of how many features at most the non-zeros are counted in corekit's matrices.
COUNTED = 20_000

COMPONENTS = {"digits": (32,), "text": (64, 128, 256, 512, 1000)}
SEEDS = {"digits": 200, "text": 20}
SHOWN = 512  # components of the text's table of laws and of the histogram
HALF_BINS = 50  # of the histogram, on either side of 0 up to an error of 1

OURS = "corekit block-stack, s = 8"
THEIRS = "scikit-learn sparse, density auto"

Floats = npt.NDArray[np.float64]
Record = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """Some rows of a data set, dense or CSR, and all their pairs."""

    name: str
    rows: Any
    of: int  # rows of the whole

    @property
    def features(self) -> int:
        return int(self.rows.shape[1])

    @cached_property
    def gram(self) -> Floats:
        gram = self.rows @ self.rows.T
        return np.asarray(gram.toarray() if hasattr(gram, "toarray") else gram, dtype=np.float64)

    @cached_property
    def distances(self) -> Floats:
        return _distances(self.gram)

    @cached_property
    def apart(self) -> npt.NDArray[np.bool_]:
        """Which pairs have a distance."""
        lengths, (first, second) = np.diagonal(self.gram), _pairs(len(self.gram))
        return np.asarray(self.distances > SAME * (lengths[first] + lengths[second]))

    @cached_property
    def coordinates(self) -> Any:
        """The rows in an orthonormal basis of what they span, where that is smaller."""
        if self.features <= len(self.gram):
            return self.rows
        values, vectors = np.linalg.eigh(self.gram)
        return vectors * np.sqrt(np.maximum(values, 0))

    def errors(self, projected: Floats) -> Floats:
        """Return the relative errors of the squared distances after projecting."""
        after = _distances(projected @ projected.T)
        return after[self.apart] / self.distances[self.apart] - 1

    def concentration(self, width: int) -> float:
        """Return the mean over pairs of the sum of |u_B|^4 over blocks B of so many features.

        u is the difference of the pair, of length 1.
        """
        sparse = importlib.import_module("scipy.sparse")
        rows = sparse.csr_array(self.rows)
        first, second = (end[self.apart] for end in _pairs(rows.shape[0]))
        if len(first) > DIFFERENCES:
            some = np.random.default_rng(2).choice(len(first), DIFFERENCES, replace=False)
            first, second = first[some], second[some]
        total = 0.0
        for at in range(0, len(first), 1000):
            part = slice(at, at + 1000)
            squares = rows[first[part]] - rows[second[part]]
            squares.data **= 2
            lengths = squares.sum(axis=1)
            shape = (squares.shape[0], -(-self.features // width))
            blocks = sparse.csr_array(
                (squares.data, squares.indices // width, squares.indptr), shape=shape
            )
            blocks.sum_duplicates()
            blocks.data **= 2
            total += float((blocks.sum(axis=1) / lengths**2).sum())
        return total / len(first)


def _pairs(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    first, second = np.triu_indices(count, 1)
    return first, second


def _distances(gram: Floats) -> Floats:
    lengths = np.diagonal(gram)
    squares = lengths[:, None] + lengths[None, :] - 2 * gram
    return np.asarray(squares[_pairs(len(gram))], dtype=np.float64)


def digits() -> Data:
    """Return some of the images of digits."""
    images = importlib.import_module("sklearn.datasets").load_digits().data
    return _some("digits", images)


def text() -> Data:
    """Return some of the sources of the standard library; files without a word are left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = [
        path
        for path in sorted(folder.rglob("*.py"))
        if "-packages" not in str(path.relative_to(folder))
    ]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    vectorizer = importlib.import_module("sklearn.feature_extraction.text").TfidfVectorizer
    rows = vectorizer(ngram_range=(1, 2)).fit_transform(texts)
    return _some("text", rows[np.diff(rows.indptr) > 0])


def _some(name: str, x: Any) -> Data:
    chosen = np.random.default_rng(1).choice(x.shape[0], min(ROWS, x.shape[0]), replace=False)
    return Data(name, x[np.sort(chosen)], int(x.shape[0]))


# What a projection made of the rows, for each number of components; and of sparse matrices how many
# non-zeros their features have.
Projected = Iterator[tuple[int, Floats, npt.NDArray[np.int64] | None]]


@dataclass(frozen=True)
class Law:
    """A law of random matrices: how to project by it, and the variance that it ought to have."""

    name: str
    project: Callable[[Data, Sequence[int], int], Projected]
    variance: Callable[[Data, int, Mapping[int, float]], float]
    width: Callable[[int], int] = lambda k: 1


def stack(kind: str, s: int) -> Law:
    """Return a law of exactly s non-zeros a feature."""

    def width(k: int) -> int:
        return 1 << min(16, k // s).bit_length() - 1 if kind == "block-stack" else 1

    def variance(data: Data, k: int, spread: Mapping[int, float]) -> float:
        # Up to 0.6 % more for the k that blocks do not divide.
        return 2 / k * (1 - spread[width(k)])

    name = f"corekit {kind}, s = {s}"
    return Law(name, _drawn(kind, column_nnz=lambda _: s), variance, width)


def _drawn(kind: str, **options: Callable[[Data], object]) -> Callable[..., Projected]:
    """Return how corekit projects by a sparse law, a matrix for each number of components."""

    def project(data: Data, components: Sequence[int], seed: int) -> Projected:
        for k in components:
            matrix = _operator(data, k, seed, kind, options)
            chosen = np.arange(min(data.features, COUNTED))
            counts = np.bincount(matrix.submatrix(chosen).indices, minlength=len(chosen))
            yield k, matrix.project(data.rows, threads=1), counts

    return project


def _first(kind: str) -> Callable[..., Projected]:
    """Return how corekit projects by a dense law: fewer components are the first of more."""

    def project(data: Data, components: Sequence[int], seed: int) -> Projected:
        most = max(components)
        projected = _operator(data, most, seed, kind, {}).project(data.rows, threads=1)
        for k in components:
            yield k, projected[:, :k] * math.sqrt(most / k), None

    return project


def _operator(
    data: Data, k: int, seed: int, kind: str, options: Mapping[str, Callable[[Data], object]]
) -> Any:
    module = importlib.import_module("corekit.projection")
    given = {name: option(data) for name, option in options.items()}
    return module.SparseProjection(data.features, k, kind=kind, seed=seed, **given)


def _sklearn_sparse(data: Data, components: Sequence[int], seed: int) -> Projected:
    peer = importlib.import_module("sklearn.random_projection")
    for k in components:
        tool = peer.SparseRandomProjection(k, density="auto", dense_output=True, random_state=seed)
        projected = tool.fit_transform(data.rows)
        yield k, projected, np.bincount(tool.components_.indices, minlength=data.features)


def _sklearn_gaussian(data: Data, components: Sequence[int], seed: int) -> Projected:
    """Project in the space that the rows span: its matrix for all features would take gigabytes.

    The Gaussian law is the same in every orthonormal basis, so the errors have the same law.
    """
    peer = importlib.import_module("sklearn.random_projection")
    for k in components:
        with warnings.catch_warnings():
            # That the rows span fewer dimensions than they are projected to.
            warnings.simplefilter("ignore", category=_dimensionality())
            tool = peer.GaussianRandomProjection(k, random_state=seed)
            projected = tool.fit_transform(data.coordinates)
        yield k, projected, None


def _dimensionality() -> type[Warning]:
    found: type[Warning] = importlib.import_module("sklearn.exceptions").DataDimensionalityWarning
    return found


def _iid(data: Data, k: int, spread: Mapping[int, float]) -> float:
    density = _li(data)
    return 2 / k * (1 - spread[1]) + (1 - density) / (k * density) * spread[1]


def _gaussian(data: Data, k: int, spread: Mapping[int, float]) -> float:
    return 2 / k


def _srht(data: Data, k: int, spread: Mapping[int, float]) -> float:
    order = 1 << (data.features - 1).bit_length()
    return 2 / k * (order - k) / (order - 1) * (1 - spread[1])


def _li(data: Data) -> float:
    return 1 / math.sqrt(data.features)


LAWS = (
    stack("block-stack", 1),
    stack("block-stack", 4),
    stack("block-stack", 8),
    stack("stack", 8),
    Law("corekit gaussian", _first("gaussian"), _gaussian),
    Law("corekit srht", _first("srht"), _srht),
    Law("corekit iid, density 1/√d", _drawn("iid", density=_li), _iid),
    Law("scikit-learn Gaussian", _sklearn_gaussian, _gaussian),
    Law(THEIRS, _sklearn_sparse, _iid),
)


def measured() -> Record:
    """Return all figures; in the peers' environment."""
    found: Record = {"data": {}, "rows": [], "histogram": {"components": SHOWN, "counts": {}}}
    for data in (digits(), text()):
        components = COMPONENTS[data.name]
        widths = {1, *(law.width(k) for law in LAWS for k in components)}
        spread = {width: data.concentration(width) for width in sorted(widths)}
        found["data"][data.name] = {
            "rows": data.of,
            "features": data.features,
            "sampled_rows": len(data.gram),
            "pairs": int(data.apart.sum()),
            "concentration": {str(width): value for width, value in spread.items()},
        }
        for law in LAWS:
            print(f"{data.name}: {law.name}", file=sys.stderr, flush=True)
            tallies = {k: Tally() for k in components}
            for seed in range(SEEDS[data.name]):
                for k, projected, counts in law.project(data, components, seed):
                    tallies[k].add(data.errors(projected), counts)
            for k in components:
                expected = law.variance(data, k, spread)
                row = {"data": data.name, "law": law.name, "components": k}
                found["rows"].append({**row, **tallies[k].summary(expected)})
            if data.name == "text" and law.name in (OURS, THEIRS):
                found["histogram"]["counts"][law.name] = tallies[SHOWN].histogram.tolist()
    student = importlib.import_module("scipy.stats").t
    judged = len(found["rows"])
    for row in found["rows"]:
        row["limit_sigmas"] = float(student.isf(FALSE_ALARM / judged / 2, row["seeds"] - 1))
    found["as_expected"] = all(abs(row["sigmas"]) < row["limit_sigmas"] for row in found["rows"])
    names = ("numpy", "scipy", "scikit-learn")
    versions = pinned.versions(Path(sys.executable), peers.PINS)
    found["versions"] = {
        "python": platform.python_version(),
        **{name: versions[name] for name in names},
        "corekit": importlib.import_module("corekit").__version__,
    }
    result: Record = rounded(found)
    return result


class Tally:
    """The errors of one law and one number of components, seed by seed."""

    def __init__(self) -> None:
        self.squares: list[float] = []
        self.largest: list[float] = []
        self.outside: list[float] = []
        self.histogram = np.zeros(2 * HALF_BINS, dtype=np.int64)
        self.least, self.most, self.mean, self.empty = math.inf, 0, 0.0, 0.0
        self.counted = False

    def add(self, errors: Floats, counts: npt.NDArray[np.int64] | None) -> None:
        """Add the errors of a seed, and the non-zeros of its features."""
        self.squares.append(float(np.mean(errors**2)))
        self.largest.append(float(np.abs(errors).max()))
        self.outside.append(float(np.mean(np.abs(errors) > EPS)))
        # No squared distance is below 0, so no error below -1; those above 1 go to the last bin.
        bins = np.clip(np.floor((errors + 1) * HALF_BINS), 0, 2 * HALF_BINS - 1).astype(np.int64)
        self.histogram += np.bincount(bins, minlength=2 * HALF_BINS)
        if counts is not None:
            self.counted = True
            self.least = min(self.least, int(counts.min()))
            self.most = max(self.most, int(counts.max()))
            self.mean += float(counts.mean())
            self.empty += float(np.mean(counts == 0))

    def summary(self, variance: float) -> Record:
        """Return the figures, beside the variance that is expected."""
        seeds, square = len(self.squares), float(np.mean(self.squares))
        standard_error = float(np.std(self.squares, ddof=1)) / math.sqrt(seeds)
        found: Record = {
            "seeds": seeds,
            "rms": math.sqrt(square),
            "rms_of_seeds": [math.sqrt(min(self.squares)), math.sqrt(max(self.squares))],
            "expected_rms": math.sqrt(variance),
            "sigmas": (square - variance) / standard_error,
            "largest": float(np.mean(self.largest)),
            "largest_of_all": max(self.largest),
            "outside": float(np.mean(self.outside)),
        }
        if self.counted:
            found["nonzeros"] = [self.least, self.mean / seeds, self.most]
            found["without_nonzero"] = self.empty / seeds
        return found


def rounded(value: Any) -> Any:
    """Return figures without the digits in which one machine may differ from another."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def of(found: Record, data: str, law: str, k: int) -> Record:
    """Return a row of the results."""
    wanted = (data, law, k)
    rows: list[Record] = found["rows"]
    return next(row for row in rows if (row["data"], row["law"], row["components"]) == wanted)


def document(found: Record) -> str:
    """Return the tables as Markdown."""
    images, sources = found["data"]["digits"], found["data"]["text"]
    (k,) = COMPONENTS["digits"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    judged = found["rows"]
    farthest = max(abs(row["sigmas"]) / row["limit_sigmas"] for row in judged)
    return "\n\n".join(
        [
            f"**Digits** to {k} components: {images['features']} features, "
            f"{images['pairs']:,} pairs of {images['sampled_rows']} rows of {images['rows']:,}, "
            f"{SEEDS['digits']} seeds. √(2/{k}) is {math.sqrt(2 / k):.3f}.",
            markdown(list(_laws(found, "digits", k))),
            f"**Text** to {SHOWN} components: {sources['features']:,} words and pairs of words, "
            f"{sources['pairs']:,} pairs of {sources['sampled_rows']} files of "
            f"{sources['rows']:,}, {SEEDS['text']} seeds. √(2/{SHOWN}) is "
            f"{math.sqrt(2 / SHOWN):.3f}.",
            markdown(list(_laws(found, "text", SHOWN))),
            "The same text, RMS error by the number of components:",
            markdown(list(_by_components(found))),
            f"*Expected* is what the variance of the law gives for these pairs. {len(judged)} "
            f"figures are judged by it, {sum(row['data'] == 'text' for row in judged)} of them on "
            f"text; the farthest is at {farthest:.0%} of what chance leaves with a probability of "
            "1e-6.".replace("%", " %"),
            f"Measured with {versions}.",
        ]
    )


def _laws(found: Record, data: str, k: int) -> Iterator[list[str]]:
    yield [
        "law",
        "non-zeros of a feature",
        "features without",
        "RMS error",
        "expected",
        "largest error",
        f"outside ±{EPS}",
    ]
    for law in LAWS:
        row = of(found, data, law.name, k)
        yield [
            law.name,
            _nonzeros(row.get("nonzeros"), k),
            _share(row.get("without_nonzero", 0.0)),
            f"{row['rms']:.3f}",
            f"{row['expected_rms']:.3f}",
            f"{row['largest']:.2f}",
            _share(row["outside"]),
        ]


def _by_components(found: Record) -> Iterator[list[str]]:
    yield ["components", "√(2/k)", OURS, THEIRS, "ratio", "components that make up for it"]
    for k in COMPONENTS["text"]:
        ours, theirs = (of(found, "text", law, k)["rms"] for law in (OURS, THEIRS))
        yield [
            str(k),
            f"{math.sqrt(2 / k):.3f}",
            f"{ours:.3f}",
            f"{theirs:.3f}",
            f"{theirs / ours:.1f}",
            f"{(theirs / ours) ** 2:.1f} times as many",
        ]


def _nonzeros(counts: Sequence[float] | None, k: int) -> str:
    if counts is None:
        return f"all {k}"
    least, mean, most = counts
    return f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}, mean {mean:.2f}"


def _share(value: float) -> str:
    return f"{value:.1%}".replace("%", " %") if value else "0"


def drawn(found: Record) -> str:
    """Return the plot as SVG: the RMS error by components, and the errors of the pairs."""
    title = "Errors of squared distances after random projection of tf-idf rows"
    return picture(WIDTH, HEIGHT, title, [*_rms_panel(found), *_error_panel(found)])


WIDTH, HEIGHT = 800, 340
TOP, BOTTOM = 40, 290
OUR_COLOUR, THEIR_COLOUR, THEORY_COLOUR = *COLOURS[:2], GREY


def _rms_panel(found: Record) -> Iterator[str]:
    left, right = 60, 380
    components = COMPONENTS["text"]
    low, high = 0.03, 1.5

    def x(k: float) -> float:
        return left + 20 + (right - left - 40) * math.log(k / 64) / math.log(1000 / 64)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log(value / low) / math.log(high / low)

    yield label((left + right) / 2, 22, "RMS error, text", "middle", weight="bold")
    for value in (0.05, 0.1, 0.2, 0.5, 1):
        yield line([(left, y(value)), (right, y(value))], RULE)
        yield label(left - 6, y(value) + 4, f"{value}", "end")
    for k in components:
        yield label(x(k), BOTTOM + 18, str(k), "middle")
    yield label((left + right) / 2, BOTTOM + 38, "components k", "middle")
    theory = [(x(k), y(math.sqrt(2 / k))) for k in components]
    yield line(theory, THEORY_COLOUR, width=2, dashes="5 4")
    for law, colour in ((THEIRS, THEIR_COLOUR), (OURS, OUR_COLOUR)):
        rows = [of(found, "text", law, k) for k in components]
        points = [(x(row["components"]), y(row["rms"])) for row in rows]
        yield line(points, colour, width=2)
        for row, (at, _) in zip(rows, points, strict=True):
            yield line([(at, y(value)) for value in row["rms_of_seeds"]], colour, width=1)
        yield dots(points, colour)
    yield label(x(300), y(0.4), "scikit-learn sparse", "start", THEIR_COLOUR)
    yield label(x(80), y(0.075), "corekit, s = 8", "start", OUR_COLOUR)
    yield label(x(560), y(0.068), "√(2/k)", "start", THEORY_COLOUR)


def _error_panel(found: Record) -> Iterator[str]:
    left, right = 440, 780
    counts = found["histogram"]["counts"]
    shares = {law: np.asarray(counts[law]) / sum(counts[law]) for law in (THEIRS, OURS)}
    top = 1.05 * max(float(share.max()) for share in shares.values())
    k = found["histogram"]["components"]

    def x(error: float) -> float:
        return left + (right - left) * (error + 1) / 2

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / top

    yield label(
        (left + right) / 2, 22, f"Errors of the pairs, text, k = {k}", "middle", weight="bold"
    )
    for error in (-1, -0.5, 0, 0.5, 1):
        yield line([(x(error), TOP), (x(error), BOTTOM)], RULE)
        yield label(x(error), BOTTOM + 18, f"{error:+g}".replace("+0", "0", error == 0), "middle")
    yield label((left + right) / 2, BOTTOM + 38, "relative error of the squared distance", "middle")
    for law, colour in ((THEIRS, THEIR_COLOUR), (OURS, OUR_COLOUR)):
        outline = [(x(-1), y(0))]
        for number, share in enumerate(shares[law]):
            edges = (x(number / HALF_BINS - 1), x((number + 1) / HALF_BINS - 1))
            outline += [(edge, y(float(share))) for edge in edges]
        outline.append((x(1), y(0)))
        yield line(outline, colour, width=1.5, fill=colour)
    yield label(x(0.17), y(top * 0.8), "corekit, s = 8", "start", OUR_COLOUR)
    yield label(x(0.28), y(top * 0.25), "scikit-learn sparse", "start", THEIR_COLOUR)


def run(wheel: Path | None, directory: Path) -> int:
    """Measure in the peers' environment; write the results and the plot."""
    commit = machine.commit(REPOSITORY)
    machine.refuse_changed(commit)
    corekit = pinned.unpacked(wheel or pinned.newest_wheel(REPOSITORY), directory / "corekit")
    try:
        python = _python(PeerEnvironment(directory / "env"))
    except AbsentError as error:
        raise SystemExit(str(error)) from error
    settings = {
        "PYTHONPATH": os.pathsep.join([str(corekit), str(BENCHES)]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    told = subprocess.check_output(
        [str(python), __file__, "--measure"], env={**os.environ, **settings}
    )
    found: Record = {
        "job": "projection-quality",
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "commit": commit,
        "machine": machine.describe(directory),
        **json.loads(told),
    }
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(drawn(found))
    print(document(found))
    for row in found["rows"]:
        if abs(row["sigmas"]) >= row["limit_sigmas"]:
            print(f"not as expected: {row}", file=sys.stderr)
    return int(not found["as_expected"])


def _python(environment: PeerEnvironment) -> Path:
    """Return an interpreter that has what is measured here, in the versions of the other bench."""
    python = environment.python_with("pip")
    pins = {name: peers.PINS[name] for name in peers.NEEDED}
    if any(pinned.versions(python, peers.PINS)[name] != version for name, version in pins.items()):
        wanted = [f"{name}=={version}" for name, version in pins.items()]
        done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted])
        if done.returncode != 0:
            raise AbsentError("scikit-learn could not be installed")
    return python


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--wheel", type=Path, help="of corekit; default: that in target/wheels")
    parser.add_argument(
        "--dir", type=Path, default=REPOSITORY / "build" / "bench", help="for the peers"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--plot", action="store_true")
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    action.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        json.dump(measured(), sys.stdout)
        return 0
    target: Path | None = options.write or options.check
    if target is None and not options.plot:
        directory: Path = options.dir.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        return run(options.wheel, directory)
    if not RESULTS.exists():
        parser.error(f"there are no results yet: run {Path(__file__).name} without arguments")
    found = json.loads(RESULTS.read_text())
    if target is None:
        PLOT.write_text(drawn(found))
        return 0
    old = target.read_text()
    if not MARKED.search(old):
        parser.error(f"{target} has no <!-- bench:projection-quality --> ... <!-- /bench -->")
    new = MARKED.sub(lambda marks: f"{marks[1]}\n{document(found)}\n\n{marks[2]}", old)
    if options.write:
        target.write_text(new)
    elif new != old or PLOT.read_text() != drawn(found):
        print(f"{target}: its figures are not those of the results file", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
