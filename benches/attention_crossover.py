"""Measure from which length linear attention pays, beside what counting multiplications expects.

    python benches/attention_crossover.py               measure, write the results and the plot
    python benches/attention_crossover.py --plot        draw the plot of the results there are
    python benches/attention_crossover.py --write FILE  put the table between a file's markers
    python benches/attention_crossover.py --check FILE  fail if what stands there is not the results

It takes two minutes of a quiet machine, all CPUs. See `study` for where results, plot and table go.

Softmax attention, causal or not, and linear attention take turns at each length
(`corekit.attention.cost.measure_crossover`; `corekit attention crossover` is the first row). Three
more questions of the cost model are put to the clock alike: linear attention with heads of four
times the size; and a layer's parts, with its matrix products by NumPy's matmul on contiguous
float32. Where two lines of logarithms cross is the crossover.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corekit.attention import Favor, Taylor, linear_attention, softmax_attention
from corekit.attention.cost import Layer, measure_crossover
from drawing import COLOURS, GREY, RULE, dots, label, line, picture
from machine import cpus
from study import Record, Study, measured_with
from tables import caption, markdown

ALL = tuple(2**i for i in range(4, 15))
SHORT = tuple(2**i for i in range(4, 13))
LONG = tuple(2**i for i in range(8, 15))
PARTS = tuple(2**i for i in range(9, 15))

ROUNDS = 3
SECONDS = 0.3  # of each length, more rounds while they are short

LAYER = Layer(heads=8, dim=64, causal=True)
RATIO = 4


Call = Callable[[], object]


@dataclass(frozen=True)
class Question:
    """From which length one of two takes less time than the other, or is less than it."""

    name: str
    what: str
    measure: Callable[[], Record]
    label: str  # in the plot
    beside: str = "left"


def attention(
    heads: int, dim: int, feature_map: Any, lengths: Sequence[int], *, causal: bool = True
) -> Callable[[], Record]:
    """Return how softmax attention and linear attention are timed."""

    def measure() -> Record:
        report = measure_crossover(
            heads=heads, dim=dim, feature_map=feature_map, lengths=lengths, causal=causal
        )
        return {
            "lengths": list(report.lengths),
            "slow": list(report.softmax_seconds),
            "quick": list(report.linear_seconds),
            "expected": report.expected,
        }

    return measure


def larger_heads() -> Record:
    """Time softmax attention, and linear attention with larger heads."""

    def pair(n: int) -> tuple[Call, Call]:
        q, k, v, out = drawn_arrays(n, LAYER.dim)
        wide_q, wide_k, wide_v, wide = drawn_arrays(n, RATIO * LAYER.dim)
        return (
            lambda: softmax_attention(q, k, v, out=out),
            lambda: linear_attention(
                wide_q, wide_k, wide_v, feature_map="elu1", normalize=True, out=wide
            ),
        )

    return {**timed(pair, LONG), "expected": LAYER.linear_pays(ratio=RATIO)}


def feed_forward() -> Record:
    """Time softmax attention with its projections, and the feed-forward part."""

    def pair(n: int) -> tuple[Call, Call]:
        q, k, v, out = drawn_arrays(n, LAYER.dim)

        def with_projections() -> None:
            softmax_attention(q, k, v, out=out)
            product(n, 4)

        return with_projections, lambda: product(n, 8)

    return {**timed(pair, PARTS), "expected": LAYER.attention_passes_feed_forward}


def all_else() -> Record:
    """Time softmax attention's core, and all the rest of the layer."""

    def pair(n: int) -> tuple[Call, Call]:
        q, k, v, out = drawn_arrays(n, LAYER.dim)
        return lambda: softmax_attention(q, k, v, out=out), lambda: product(n, 12)

    return {**timed(pair, PARTS), "expected": LAYER.core_passes_all_else}


def drawn_arrays(n: int, dim: int) -> list[Any]:
    """Return q, k and v, and room for the outputs."""
    random = np.random.default_rng(0)
    shape = (1, n, LAYER.heads, dim)
    return [*(random.standard_normal(shape, np.float32) for _ in range(3)), np.zeros(shape, "f4")]


def product(n: int, squares: int) -> None:
    """Multiply n tokens by so many square matrices of the layer's width."""
    np.matmul(TOKENS[:n], WEIGHTS[:, : squares * LAYER.width], out=PRODUCTS[squares][:n])


TOKENS = np.ones((max(PARTS), LAYER.width), np.float32)
WEIGHTS = np.ones((LAYER.width, 12 * LAYER.width), np.float32)
PRODUCTS = {i: np.ones((max(PARTS), i * LAYER.width), np.float32) for i in (4, 8, 12)}


def timed(
    pair: Callable[[int], tuple[Call, Call]],
    lengths: Sequence[int],
) -> Record:
    """Return the median seconds of both at each length, in turns."""
    found: Record = {"lengths": list(lengths), "slow": [], "quick": []}
    for n in lengths:
        calls = pair(n)
        taken: tuple[list[float], list[float]] = ([], [])
        for call in calls:
            call()
        end = time.perf_counter() + SECONDS
        while len(taken[0]) < ROUNDS or time.perf_counter() < end:
            for call, times in zip(calls, taken, strict=True):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
        found["slow"].append(statistics.median(taken[0]))
        found["quick"].append(statistics.median(taken[1]))
    return found


def crossing(found: Record) -> float | None:
    """Return the last length at which what grows faster becomes the slower one."""
    ratios = [math.log(q / s) for q, s in zip(found["quick"], found["slow"], strict=True)]
    steps = list(zip(itertools.pairwise(found["lengths"]), itertools.pairwise(ratios), strict=True))
    for (before, after), (gap, next_gap) in reversed(steps):
        if next_gap < 0 <= gap:
            return float(before * (after / before) ** (gap / (gap - next_gap)))
    return None


QUESTIONS = (
    Question("elu1", "8 x 64, elu + 1", attention(8, 64, "elu1", ALL), "elu + 1"),
    Question(
        "full",
        "8 x 64, elu + 1, not causal",
        attention(8, 64, "elu1", SHORT, causal=False),
        "not causal",
        beside="right",
    ),
    Question("wide", "16 x 128, elu + 1", attention(16, 128, "elu1", SHORT), "16 x 128"),
    Question(
        "favor", "8 x 64, Favor(256)", attention(8, 64, Favor(256, seed=1), ALL), "Favor(256)"
    ),
    Question(
        "small-taylor", "8 x 16, Taylor(2)", attention(8, 16, Taylor(2), SHORT), "8 x 16, Taylor(2)"
    ),
    Question("taylor", "8 x 64, Taylor(2)", attention(8, 64, Taylor(2), LONG), "Taylor(2)"),
    Question("ratio", "8 x 64 against linear 8 x 256, elu + 1", larger_heads, "against 8 x 256"),
    Question(
        "feed-forward",
        "8 x 64: attention passes the feed-forward part",
        feed_forward,
        "feed-forward",
        beside="right",
    ),
    Question("all-else", "8 x 64: core passes all else", all_else, "all else"),
)


def measured() -> Record:
    """Return all figures."""
    rows = []
    for question in QUESTIONS:
        found = question.measure()
        row = {"name": question.name, "what": question.what, **found, "crossover": crossing(found)}
        rows.append(row)
        print(f"{question.what}: {row['crossover']}", flush=True)
    return {"threads": cpus(), "rows": rows, "as_expected": True}


def of(found: Record, name: str) -> Record:
    """Return the answer to a question."""
    row: Record = next(row for row in found["rows"] if row["name"] == name)
    return row


def document(found: Record) -> str:
    """Return the table as Markdown."""
    return "\n\n".join(
        [
            f"{caption(found['machine']).removesuffix(':')}, {found['threads']} threads; float32, "
            "causal unless said otherwise:",
            markdown(list(_table(found))),
            measured_with(found),
        ]
    )


def _table(found: Record) -> Iterator[list[str]]:
    yield ["heads x size", "by multiplications", "by the clock", "ratio"]
    for row in found["rows"]:
        at, expected = row["crossover"], row["expected"]
        if at is None:
            whether = all(q < s for q, s in zip(row["quick"], row["slow"], strict=True))
            bound = row["lengths"][0 if whether else -1]
            text = f"below {bound:,}" if whether else f"above {bound:,}"
        else:
            text = f"{at:,.0f}"
        yield [row["what"], f"{expected:,}", text, f"{at / expected:.2f}" if at else ""]


WIDTH, HEIGHT = 860, 380
TOP, BOTTOM = 40, 325
LINES = (  # rows, and the time of which of the two
    ("elu1", "slow", "softmax", "#222"),
    ("elu1", "quick", "elu + 1", COLOURS[0]),
    ("favor", "quick", "Favor(256)", COLOURS[1]),
    ("taylor", "quick", "Taylor(2)", COLOURS[2]),
)


def drawn(found: Record) -> str:
    """Return the plot as SVG: time by length, and crossovers beside what is expected."""
    title = "From which length linear attention pays, measured and expected"
    return picture(WIDTH, HEIGHT, title, [*_times(found), *_crossovers(found)])


def _times(found: Record) -> Iterator[str]:
    left, right = 60, 390
    low, high = 1e-2, 3e3  # milliseconds
    first, last = ALL[0], ALL[-1]

    def x(n: float) -> float:
        return left + 15 + (right - left - 30) * math.log(n / first) / math.log(last / first)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log(value / low) / math.log(high / low)

    yield label(
        (left + right) / 2, 22, "Time of a call, 8 heads of 64, causal", "middle", weight="bold"
    )
    for value in (0.01, 0.1, 1, 10, 100, 1000):
        yield line([(left, y(value)), (right, y(value))], RULE)
        yield label(left - 6, y(value) + 4, f"{value:g} ms", "end")
    for n in (16, 64, 256, 1024, 4096, 16384):
        yield label(x(n), BOTTOM + 18, f"{n}", "middle")
    yield label((left + right) / 2, BOTTOM + 40, "tokens", "middle")
    for name, which, words, colour in LINES:
        row = of(found, name)
        times = zip(row["lengths"], row[which], strict=True)
        points = [(x(n), y(1e3 * seconds)) for n, seconds in times]
        yield line(points, colour, width=2)
        yield dots(points, colour, radius=3)
        yield label(points[-1][0] + 7, points[-1][1] + 4, words, "start", colour)


def _crossovers(found: Record) -> Iterator[str]:
    left, right = 520, 835
    low, high = 16, 16384

    def x(n: float) -> float:
        return left + (right - left) * math.log(n / low) / math.log(high / low)

    def y(n: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log(n / low) / math.log(high / low)

    yield label((left + right) / 2, 22, "Crossover: tokens", "middle", weight="bold")
    for n in (16, 64, 256, 1024, 4096, 16384):
        yield line([(left, y(n)), (right, y(n))], RULE)
        yield label(left - 6, y(n) + 4, f"{n}", "end")
        yield label(x(n), BOTTOM + 18, f"{n}", "middle")
    yield label((left + right) / 2, BOTTOM + 40, "by multiplications", "middle")
    yield label(left + 6, TOP + 12, "by the clock", "start")
    yield line([(left, BOTTOM), (right, TOP)], GREY, dashes="5 4")
    for question in QUESTIONS:
        row = of(found, question.name)
        if row["crossover"] is not None:
            at = (x(row["expected"]), y(row["crossover"]))
            yield dots([at], COLOURS[0])
            if question.beside == "left":
                yield label(at[0] - 8, at[1] + 2, question.label, "end")
            else:
                yield label(at[0] + 8, at[1] + 14, question.label, "start")


STUDY = Study("attention-crossover", measured, document, drawn)

if __name__ == "__main__":
    raise SystemExit(STUDY.main(str(__doc__).splitlines()[0]))
