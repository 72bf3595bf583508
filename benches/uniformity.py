"""Measure how uniform ways to shuffle are, with fixed seeds: the same figures on every machine.

    python benches/uniformity.py               measure, write results/uniformity.json, print
    python benches/uniformity.py --write FILE  put the tables between the markers of a Markdown file
    python benches/uniformity.py --check FILE  fail if what stands there is not what the results say

The markers are ``<!-- bench:uniformity -->`` and ``<!-- /bench -->``, each on a line of its own.
The measurement takes about a minute.

Two kinds of figures are taken. All 720 orders of six records are counted and judged by
chi-square: nothing about the order can hide from that. And for 100,000 records there are figures
that say what is wrong in the terms of a corpus: where records come out.

What ought to be uniform is judged. Each judged statistic takes an equal share of a false alarm
probability of 1e-6 in all, half of it for either side; seeds are fixed, so what passed once
passes always. The shufflers that are simulated draw from the Mersenne Twister, by
``random.random`` alone, of which Python keeps the values, and so have no bit in common with
Philox.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from corekit.shuffle import permutation

RESULTS = Path(__file__).resolve().parent / "results" / "uniformity.json"
MARKED = re.compile(r"(<!-- bench:uniformity -->\n).*?(<!-- /bench -->)", re.DOTALL)

SEED = 2026
FALSE_ALARM = 1e-6

SIX = 6
PER_ORDER = 500  # expected count of each of the 720 orders

N = 100_000
RUNS = 10
CHUNK = 10_000  # records that the recipe shuffles at a time
WINDOW = 100
LAST = 2_000  # records of a last chunk that is not full

Order = npt.NDArray[np.int64]
Record = dict[str, Any]
# The order of n records in the run of this number: place p has record order[p].
Shuffler = Callable[[int, int], Sequence[int] | Order]


def below(random: Random, k: int) -> int:
    """Return a number below k; the bias is k / 2^53."""
    return int(random.random() * k)


def mixed(items: Sequence[int], random: Random) -> list[int]:
    """Return the items shuffled, by Fisher and Yates."""
    order = list(items)
    for i in range(len(order) - 1, 0, -1):
        j = below(random, i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def corekit(n: int, run: int) -> Order:
    """Return what `shuffle_files` writes of a file of n records: each run has a stream."""
    return permutation(n, seed=SEED, stream=run, threads=1).astype(np.int64)


def fisher_yates(n: int, run: int) -> list[int]:
    """Return the control."""
    return mixed(range(n), Random(f"control {SEED} {n} {run}"))


def through_a_buffer(size: int) -> Shuffler:
    """Return the shuffle of data loaders: one of a buffer is drawn, the next takes its place."""

    def shuffle(n: int, run: int) -> list[int]:
        random = Random(f"buffer {size} {SEED} {n} {run}")
        buffer, order = list(range(min(size, n))), []
        for following in range(size, n):
            at = below(random, len(buffer))
            order.append(buffer[at])
            buffer[at] = following
        return order + mixed(buffer, random)

    return shuffle


def in_rounds(chunk: int) -> Shuffler:
    """Return the recipe: chunks are shuffled; each round takes one of each, in random order."""

    def shuffle(n: int, run: int) -> list[int]:
        random = Random(f"rounds {chunk} {SEED} {n} {run}")
        chunks = [mixed(range(at, min(at + chunk, n)), random) for at in range(0, n, chunk)]
        order: list[int] = []
        for place in range(chunk):
            order += mixed([rest[place] for rest in chunks if place < len(rest)], random)
        return order

    return shuffle


def six(shuffle: Shuffler) -> Record:
    """Count all orders of six records."""
    index = {order: number for number, order in enumerate(itertools.permutations(range(SIX)))}
    counts = [0] * len(index)
    for run in range(PER_ORDER * len(index)):
        counts[index[tuple(map(int, shuffle(SIX, run)))]] += 1
    statistic = sum((count - PER_ORDER) ** 2 for count in counts) / PER_ORDER
    return {
        "orders": sum(count > 0 for count in counts),
        "chi_square": statistic,
        "sigmas": normal(statistic, len(index) - 1),
    }


def normal(chi_square: float, df: int) -> float:
    """Return the normal deviate of a chi-square value, after Wilson and Hilferty (1931)."""
    mean, sd = 1 - 2 / (9 * df), math.sqrt(2 / (9 * df))
    return float(((chi_square / df) ** (1 / 3) - mean) / sd)


def large(shuffle: Shuffler) -> Record:
    """Measure where the records of a large file come out."""
    orders = [np.asarray(shuffle(N, run), np.int64) for run in range(RUNS)]
    tenth = N // 10
    correlation = float(np.mean([correlated(order) for order in orders]))
    stayed = float(np.mean([np.count_nonzero(order[:tenth] < tenth) / tenth for order in orders]))
    last = min(int(np.flatnonzero(order == N - 1)[0]) for order in orders)
    # Under chance: a correlation has variance 1 / (n - 1), the count is hypergeometric.
    spread = math.sqrt(0.1 * 0.9 * 0.9 / (N - 1) * N / tenth)
    return {
        "correlation": correlation,
        "correlation_sigmas": correlation * math.sqrt((N - 1) * RUNS),
        "tenth_stayed": stayed,
        "tenth_stayed_sigmas": (stayed - 0.1) / spread * math.sqrt(RUNS),
        "last_record_earliest": last / N,
        "window_variance": float(np.mean([window_variance(order) for order in orders])),
        "same_chunk_neighbours": float(np.mean([neighbours(order) for order in orders])),
    }


def correlated(order: Order) -> float:
    """Return the correlation of places in the output and places in the input."""
    n = len(order)
    # In whole numbers, so that it is the same on every machine.
    total = sum(place * int(record) for place, record in enumerate(order.tolist()))
    return (12 * total - 3 * n * (n - 1) ** 2) / (n * (n * n - 1))


def window_variance(order: Order) -> float:
    """Return the mean square of how far a chunk's count in a window is off its expectation."""
    chunks = N // CHUNK
    squares = 0
    for chunk in range(chunks):
        before = np.concatenate([[0], np.cumsum(order // CHUNK == chunk)])
        counts = before[WINDOW:] - before[:-WINDOW]
        squares += int(((counts * chunks - WINDOW) ** 2).sum())
    return squares / chunks**3 / (N - WINDOW + 1)


def window_variance_of_chance() -> float:
    """Return what it is in a uniform order: the variance of a hypergeometric count."""
    share = CHUNK / N
    return WINDOW * share * (1 - share) * (N - WINDOW) / (N - 1)


def neighbours(order: Order) -> float:
    """Return the share of neighbours in the output that come from one chunk."""
    chunk = order // CHUNK
    return int(np.count_nonzero(chunk[1:] == chunk[:-1])) / (len(order) - 1)


def ragged(shuffle: Shuffler) -> Record:
    """Measure where the records of a last chunk that is not full come out."""
    n = N - CHUNK + LAST
    half, places = n // 2, []
    for run in range(RUNS):
        order = np.asarray(shuffle(n, RUNS + run), np.int64)
        places.append(np.flatnonzero(order >= n - LAST))
    late = sum(int(np.count_nonzero(found >= half)) for found in places) / (LAST * RUNS)
    share = (n - half) / n
    spread = math.sqrt(share * (1 - share) / LAST * (n - LAST) / (n - 1))
    return {
        "second_half": late,
        "second_half_sigmas": (late - share) / spread * math.sqrt(RUNS),
        "latest": max(int(found[-1]) for found in places) / (n - 1),
    }


def measured() -> Record:
    """Return all figures."""
    found: Record = {
        "seed": SEED,
        "six": {
            "corekit": six(corekit),
            "Fisher-Yates (control)": six(fisher_yates),
            "buffer of 3": six(through_a_buffer(3)),
            "chunks of 2, in rounds": six(in_rounds(2)),
        },
        "large": {
            "corekit": large(corekit),
            "Fisher-Yates (control)": large(fisher_yates),
            "buffer of 100,000 (all)": large(through_a_buffer(N)),
            "buffer of 10,000 (10 %)": large(through_a_buffer(N // 10)),
            "buffer of 1,000 (1 %)": large(through_a_buffer(N // 100)),
            "chunks of 10,000, in rounds": large(in_rounds(CHUNK)),
        },
        "ragged": {
            "corekit": ragged(corekit),
            "Fisher-Yates (control)": ragged(fisher_yates),
            "chunks of 10,000, in rounds": ragged(in_rounds(CHUNK)),
        },
    }
    limit = sigmas(sum(1 for _ in judged(found)))
    found["limit_sigmas"] = limit
    found["uniform"] = all(abs(value) < limit for _, value in judged(found))
    result: Record = rounded(found)
    return result


def sigmas(statistics: int) -> float:
    """Return how many standard deviations chance may be off, with this many statistics."""
    return NormalDist().inv_cdf(1 - FALSE_ALARM / statistics / 2)


FAIR = ("corekit", "Fisher-Yates (control)", "buffer of 100,000 (all)")


def judged(found: Record) -> Iterator[tuple[str, float]]:
    """Yield the statistics that must look like chance."""
    for part, keys in (
        ("six", ["sigmas"]),
        ("large", ["correlation_sigmas", "tenth_stayed_sigmas"]),
        ("ragged", ["second_half_sigmas"]),
    ):
        for name in FAIR:
            if name in found[part]:
                yield from ((f"{part}, {name}: {key}", found[part][name][key]) for key in keys)


def rounded(value: Any) -> Any:
    """Return figures without the digits in which one machine may differ from another."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def document(found: Record) -> str:
    """Return the tables as Markdown."""
    limit, count = found["limit_sigmas"], sum(1 for _ in judged(found))
    n = N - CHUNK + LAST
    return "\n\n".join(
        [
            f"Six records, {PER_ORDER * math.factorial(SIX):,} shuffles: how often each of the "
            f"{math.factorial(SIX)} orders came, by chi-square with {math.factorial(SIX) - 1} "
            "degrees of freedom. *Off* is how many standard deviations that is away from what "
            "chance gives:",
            markdown(
                ["shuffle", "orders that came", "chi-square", "off"],
                (
                    [name, str(row["orders"]), f"{row['chi_square']:,.0f}", off(row["sigmas"])]
                    for name, row in found["six"].items()
                ),
            ),
            f"{N:,} records, the mean of {RUNS} shuffles. A chunk is {CHUNK:,} records that lie "
            f"together in the input, a window any {WINDOW} that lie together in the output:",
            markdown(
                [
                    "shuffle",
                    "correlation of input and output place",
                    "first tenth of the output that is first tenth of the input",
                    "earliest place of the last record in any",
                    "a chunk's count in a window: mean square off its expectation",
                    "neighbours of one chunk",
                ],
                itertools.chain(
                    [["*uniform*", "0", "10 %", "", f"{window_variance_of_chance():.2f}", "10 %"]],
                    (
                        [
                            name,
                            f"{row['correlation']:.3f}".replace("-0.000", "0.000"),
                            f"{row['tenth_stayed']:.1%}".replace("%", " %"),
                            f"{row['last_record_earliest']:.1%}".replace("%", " %"),
                            f"{row['window_variance']:.2f}",
                            f"{row['same_chunk_neighbours']:.1%}".replace("%", " %"),
                        ]
                        for name, row in found["large"].items()
                    ),
                ),
            ),
            f"{n:,} records, of which the last chunk has only {LAST:,}:",
            markdown(
                [
                    "shuffle",
                    "of the last chunk, in the second half",
                    "latest place of one of them in any shuffle",
                ],
                itertools.chain(
                    [["*uniform*", "50 %", "the end"]],
                    (
                        [
                            name,
                            f"{row['second_half']:.1%}".replace("%", " %"),
                            f"{row['latest']:.1%}".replace("%", " %"),
                        ]
                        for name, row in found["ragged"].items()
                    ),
                ),
            ),
            f"What ought to be uniform (corekit, the control, a buffer that holds everything) is "
            f"judged by {count} statistics. By chance one of them would be more than {limit:.1f} "
            f"standard deviations off with probability {FALSE_ALARM:.0e}".replace("e-06", "e-6")
            + f"; the farthest is {max(abs(value) for _, value in judged(found)):.1f}.",
        ]
    )


def off(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 100 else "> 100"


def markdown(head: Sequence[str], rows: Iterator[list[str]] | itertools.chain[list[str]]) -> str:
    ruled = [list(head), ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    options = parser.parse_args()
    target: Path | None = options.write or options.check
    if target is None:
        found = measured()
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")
        print(document(found))
        for name, value in judged(found):
            if abs(value) >= found["limit_sigmas"]:
                print(f"{name}: {value}", file=sys.stderr)
        return int(not found["uniform"])
    if not RESULTS.exists():
        parser.error(f"there are no results yet: run {Path(__file__).name} without arguments")
    found = json.loads(RESULTS.read_text())
    old = target.read_text()
    if not MARKED.search(old):
        parser.error(f"{target} has no <!-- bench:uniformity --> ... <!-- /bench -->")
    new = MARKED.sub(lambda marks: f"{marks[1]}\n{document(found)}\n\n{marks[2]}", old)
    if options.write:
        target.write_text(new)
    elif new != old:
        print(f"{target}: its figures are not those of the results file", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
