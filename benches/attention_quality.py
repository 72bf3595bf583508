"""Measure how far from softmax attention the feature maps are that tend to it.

    python benches/attention_quality.py               measure, write the results and the plot
    python benches/attention_quality.py --plot        draw the plot of the results there are
    python benches/attention_quality.py --write FILE  put the table between a file's markers
    python benches/attention_quality.py --check FILE  fail if what stands there is not the results

It takes a minute of two CPUs. See `study` for where results, plot and table go.

q, k and v are normal numbers, heads of size 64, and q and k are multiplied so that the scores
x = q·k/√D have a standard deviation of 1/4, 1/2, 1 and 2. Not causal, so that every output is a
mean over all tokens; in float64, so that rounding is not what is seen. The error is the root mean
square of what is off, over that of softmax attention's outputs: 1 is as bad as no output at all.

For the polynomials it is known what to expect. Given q, the scores are normal with variance
σ² |q|²/D, |q|² being a chi-square variable; v has mean 0 and knows nothing of the weights. So the
mean square of what is off is that of the weights: with w = e^x, a = p(x) and their means W and A,
it is E (a/A - w/W)² over E (w/W)², averaged over |q|. Measured figures must be within 30 % of it
where scores are of size 1 at most (high orders live on the few largest scores there are); beyond, a
few weights dominate and 512 tokens are no average.
For `Favor` the rate is 1/√m.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from corekit.attention import (
    ExponentialLimit,
    Favor,
    FeatureMap,
    Taylor,
    linear_attention,
    softmax_attention,
)
from drawing import COLOURS, GREY, RULE, dots, label, line, picture
from study import Record, Study, measured_with
from tables import markdown

TOKENS, HEADS, DIM = 512, 8, 64
SIZES = (0.25, 0.5, 1.0, 2.0)  # standard deviations of scores
ORDERS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FEATURES = (64, 256, 1024, 4096)
SEEDS = 10

# Below this, what is measured is rounding.
ROUNDING = 1e-13
WITHIN = 0.3
JUDGED = 1.0

Floats = npt.NDArray[Any]


def inputs(size: float) -> tuple[Floats, Floats, Floats]:
    """Return q, k and v with scores of a standard deviation."""
    random = np.random.default_rng(0)
    q, k, v = random.standard_normal((3, 1, TOKENS, HEADS, DIM))
    return math.sqrt(size) * q, math.sqrt(size) * k, v


def expected(size: float, polynomial: Callable[[Floats], Floats]) -> float:
    """Return the error that follows from the polynomial."""
    z = np.linspace(-14, 14, 5601)
    normal = np.exp(-z * z / 2)
    # |q|/√D at evenly spread ranks: the square root of a chi-square variable over D.
    lengths = np.sqrt(np.random.default_rng(1).chisquare(DIM, 400) / DIM)
    off = whole = 0.0
    for length in np.sort(lengths):
        x = size * length * z
        exact, near = np.exp(x), polynomial(x)
        exact, near = (weight / (weight * normal).sum() for weight in (exact, near))
        off += float(((near - exact) ** 2 * normal).sum())
        whole += float((exact**2 * normal).sum())
    return math.sqrt(off / whole)


def taylor(order: int) -> Callable[[Floats], Floats]:
    """Return the sum of x^j/j! up to an order."""
    coefficients = [1 / math.factorial(j) for j in range(order + 1)]
    return lambda x: np.polynomial.polynomial.polyval(x, coefficients)


def limit(n: int) -> Callable[[Floats], Floats]:
    """Return (1 + x/n)^n."""
    return lambda x: (1 + x / n) ** n


def rows() -> Iterator[Record]:
    """Yield the error of each map, for each size of scores."""
    for size in SIZES:
        q, k, v = inputs(size)
        exact = softmax_attention(q, k, v, causal=False)
        square = partial(mean_square, q, k, v, exact)
        for name, make, parameters, polynomial in (
            ("Taylor", Taylor, ORDERS, taylor),
            ("ExponentialLimit", ExponentialLimit, POWERS, limit),
        ):
            for parameter in parameters:
                yield {
                    "map": name,
                    "parameter": parameter,
                    "size": size,
                    "error": math.sqrt(square(make(parameter))),
                    "expected": expected(size, polynomial(parameter)),
                }
        for orthogonal, m in itertools.product((True, False), FEATURES):
            maps = [Favor(m, orthogonal=orthogonal, seed=seed) for seed in range(SEEDS)]
            yield {
                "map": "Favor" if orthogonal else "Favor, not orthogonal",
                "parameter": m,
                "size": size,
                "error": math.sqrt(statistics.mean(map(square, maps))),
            }


def mean_square(q: Floats, k: Floats, v: Floats, exact: Floats, feature_map: FeatureMap) -> float:
    """Return the square of the error of a map."""
    near = linear_attention(q, k, v, causal=False, feature_map=feature_map, normalize=True)
    return float(((near - exact) ** 2).mean() / (exact**2).mean())


def measured() -> Record:
    """Return all figures."""
    found = list(rows())
    judged = [
        row
        for row in found
        if "expected" in row and row["size"] <= JUDGED and row["expected"] > ROUNDING
    ]
    off = max(abs(row["error"] / row["expected"] - 1) for row in judged)
    return {
        "tokens": TOKENS,
        "heads": HEADS,
        "dim": DIM,
        "seeds": SEEDS,
        "rows": found,
        "judged": len(judged),
        "farthest": off,
        "as_expected": off < WITHIN,
    }


def curve(found: Record, name: str, size: float, key: str = "error") -> list[tuple[int, float]]:
    """Return parameters and errors of a map, those that are rounding left out."""
    return [
        (row["parameter"], row[key])
        for row in found["rows"]
        if row["map"] == name and row["size"] == size and row["error"] > ROUNDING
    ]


SHOWN = (
    ("Taylor", (1, 2, 3, 4, 6, 8, 12)),
    ("ExponentialLimit", (2, 16, 128, 1024)),
    ("Favor", (256, 1024, 4096)),
    ("Favor, not orthogonal", (256, 1024, 4096)),
)


def document(found: Record) -> str:
    """Return the table as Markdown."""
    return "\n\n".join(
        [
            f"Heads of {DIM}, {TOKENS} tokens, not causal, normal numbers. Columns are standard "
            "deviations of the scores q·k/√D; an error is the root mean square of what is off, "
            "over that of softmax attention's outputs.",
            markdown(list(_table(found))),
            f"{found['judged']} figures of polynomials are judged by what theory expects; the "
            f"farthest is off it by {100 * found['farthest']:.0f} %. Those of `Favor` are means "
            f"over {found['seeds']} seeds.",
            measured_with(found),
        ]
    )


def _table(found: Record) -> Iterator[list[str]]:
    yield ["map", "features", "state of a head", *(f"{size:g}" for size in SIZES)]
    of = {(row["map"], row["parameter"], row["size"]): row["error"] for row in found["rows"]}
    for name, parameters in SHOWN:
        for parameter in parameters:
            m = parameter if name.startswith("Favor") else math.comb(DIM + parameter, DIM)
            state = 4 * m * (DIM + 1)
            kept = state <= 64 << 20
            yield [
                f"`Favor({parameter})`{name.removeprefix('Favor')}"
                if name.startswith("Favor")
                else f"`{name}({parameter})`",
                _count(m),
                _bytes(state) if kept else "none: pairs",
                *(f"{of[name, parameter, size]:.2g}" for size in SIZES),
            ]


def _count(m: int) -> str:
    if m < 10**6:
        return f"{m:,}"
    digit, power = f"{m:.0e}".split("e+")
    return f"{digit}·10<sup>{int(power)}</sup>"


def _bytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


WIDTH, HEIGHT = 860, 360
TOP, BOTTOM = 40, 305


def drawn(found: Record) -> str:
    """Return the plot as SVG: the error of each map by its parameter."""
    title = "Errors of feature maps that tend to softmax attention"
    return picture(WIDTH, HEIGHT, title, _panels(found))


def _panels(found: Record) -> Iterator[str]:
    yield from _panel(found, (55, 285), "Taylor", "order", ORDERS, (1e-13, 10.0))
    yield from _panel(found, (345, 575), "ExponentialLimit", "n", POWERS, (1e-5, 10.0))
    yield from _panel(found, (635, 850), "Favor", "m", FEATURES, (0.03, 10.0))
    for size, colour in zip(SIZES, COLOURS, strict=True):
        yield label(62, BOTTOM - 62 + 16 * SIZES.index(size), f"scores ±{size:g}", "start", colour)


def _panel(
    found: Record,
    edges: tuple[int, int],
    name: str,
    parameter: str,
    ticks: tuple[int, ...],
    span: tuple[float, float],
) -> Iterator[str]:
    left, right = edges
    low, high = span
    logarithmic = name != "Taylor"

    def x(value: float) -> float:
        ends = [math.log(end) if logarithmic else end for end in (ticks[0], ticks[-1])]
        share = ((math.log(value) if logarithmic else value) - ends[0]) / (ends[1] - ends[0])
        return left + 14 + (right - left - 28) * share

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log(value / low) / math.log(high / low)

    yield label((left + right) / 2, 22, f"{name}({parameter})", "middle", weight="bold")
    for power in range(math.ceil(math.log10(low)), round(math.log10(high)) + 1):
        if (power - 1) % (3 if high / low > 1e9 else 1) == 0:
            yield line([(left, y(10.0**power)), (right, y(10.0**power))], RULE)
            yield label(left - 6, y(10.0**power) + 4, f"1e{power}" if power else "1", "end")
    for value in ticks[:: 2 if len(ticks) > 9 else 1]:
        yield label(x(value), BOTTOM + 18, str(value), "middle")
    yield label((left + right) / 2, BOTTOM + 40, parameter, "middle")
    for size, colour in zip(SIZES, COLOURS, strict=True):
        if name == "Favor":
            theory = curve(found, "Favor, not orthogonal", size)
        else:
            theory = curve(found, name, size, "expected")
        yield line([(x(at), y(value)) for at, value in theory], colour, dashes="5 4")
        points = [(x(at), y(value)) for at, value in curve(found, name, size)]
        if name == "Favor":
            yield line(points, colour, width=2)
        yield dots(points, colour)
    if name == "Favor":
        guide = [(x(m), y(0.33 * math.sqrt(ticks[0] / m))) for m in (ticks[0], ticks[-1])]
        yield line(guide, GREY, width=1.5)
        yield label(guide[0][0] + 2, guide[0][1] + 30, "1/√m", "start", GREY)


STUDY = Study("attention-quality", measured, document, drawn)

if __name__ == "__main__":
    raise SystemExit(STUDY.main(str(__doc__).splitlines()[0]))
