"""The promise: every law is what it is said to be, its moments and its tails included.

E ‖Ax‖² = ‖x‖², the variance is the closed form of `docs/projection-mathematics.md` for
even and ragged k, the whole distribution is the exact one where that can be
written down (two equal features), and single draws are uniform and unrelated. The rate of false
alarms is that of `chance.py`: 1e-6 for all of this together. Laws that are wrong by little
(`careless.py`) are caught by the same tests.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from projection import careless, formula
from projection.chance import are_frequencies, is_mean, is_variance
from projection.formula import KINDS, Matrix
from projection.operators import make

RAGGED = [10, 100, 192, 300, 1000]
WIDE = 32  # features of one draw: a multiple of every block
INPUTS = {
    "flat": np.full(WIDE, 1 / np.sqrt(WIDE)),
    "spiky": 0.75 ** np.arange(WIDE) / np.sqrt((0.75 ** (2 * np.arange(WIDE))).sum()),
}
EVERY = np.array(list(INPUTS.values()))


def lengths(
    kind: str, k: int, inputs: Matrix, n: int, s: int | None = None, p: float | None = None
) -> Matrix:
    """Return n independent draws of ‖Ax‖² for every row x of the inputs.

    Blocks of features are independent, so one wide matrix has many draws; its seed follows
    from what is asked. The SRHT's features depend on each other: every draw has a seed.
    """
    options: dict[str, Any] = {"column_nnz": s} if s else {"density": p} if p else {}
    d = inputs.shape[1]
    if kind == "srht":
        outputs = np.array([make(kind, d, k, seed=seed).project(inputs) for seed in range(n)])
        return np.asarray((outputs**2).sum(axis=2).T)
    seed = sum(map(ord, kind)) + 1000 * k
    wide = -(-d // 16) * 16
    padded = np.pad(inputs, [(0, 0), (0, wide - d)])
    at_once = max(1, 4_000_000 // (wide * k))
    parts = []
    for part, start in enumerate(range(0, n, at_once)):
        count = min(at_once, n - start)
        A = make(kind, wide * count, k, seed=seed + (part << 64), **options).to_dense()
        outputs = A.reshape(k * count, wide) @ padded.T
        parts.append((outputs.reshape(k, count, -1) ** 2).sum(axis=0))
    return np.concatenate(parts).T


def variance(kind: str, k: int, x: Matrix, **options: Any) -> float:
    return formula.variance(make(kind, len(x), k, **options), x)


@pytest.mark.parametrize("k", RAGGED)
@pytest.mark.parametrize("kind", KINDS)
def test_moments(kind: str, k: int) -> None:
    # An SRHT of all rows would lose nothing: it gets more features than there are outputs.
    inputs = np.pad(EVERY, [(0, 0), (0, 1024 - WIDE)]) if kind == "srht" else EVERY
    n = 20_000 if k == 10 and kind != "srht" else 3000
    for name, x, got in zip(INPUTS, inputs, lengths(kind, k, inputs, n), strict=True):
        where = f"{kind} {k} {name}"
        exact = variance(kind, k, x)
        assert is_mean(f"mean {where}", got, 1, exact)
        assert is_variance(f"variance {where}", got, 1, exact)


@pytest.mark.parametrize(("k", "s"), [(10, 3), (10, 4), (7, 2), (33, 2), (50, 3), (17, 1)])
@pytest.mark.parametrize("kind", ["block-stack", "stack"])
def test_moments_of_uneven_strata(kind: str, k: int, s: int) -> None:
    x = INPUTS["flat"]
    exact = variance(kind, k, x, column_nnz=s)
    (got,) = lengths(kind, k, x[None], 20_000, s)
    assert is_mean(f"mean {kind} {k} {s}", got, 1, exact)
    assert is_variance(f"variance {kind} {k} {s}", got, 1, exact)


@pytest.mark.parametrize("p", [1.0, 0.1])
def test_moments_of_densities(p: float) -> None:
    for name, x, got in zip(INPUTS, EVERY, lengths("iid", 40, EVERY, 20_000, p=p), strict=True):
        exact = variance("iid", 40, x, density=p)
        assert is_mean(f"mean iid {p} {name}", got, 1, exact)
        assert is_variance(f"variance iid {p} {name}", got, 1, exact)


def test_features_of_one_block_never_meet() -> None:
    x = np.append(np.random.default_rng(1).standard_normal(16), np.zeros(16))
    (got,) = lengths("block-stack", 300, x[None], 1000)
    np.testing.assert_allclose(got, (x**2).sum(), rtol=1e-13)


def pair_of_a_stack(k: int, s: int, kind: str) -> dict[float, float]:
    """Return the exact law of ‖Ax‖² for two equal features in different blocks.

    In stratum r they share an output with chance c_r; then they add or cancel: ±a_r².
    """
    w = formula.width(k, s, kind)
    first = formula.strata(k, s, w)
    chances = []
    for r in range(s):
        covered = np.zeros(k)
        for group in range(first[r], first[r + 1]):
            start = min(group * w, k - w)
            covered[start : start + w] += 1 / (w * (first[r + 1] - first[r]))
        chances.append((covered**2).sum())
    law: dict[float, float] = {}
    squares = formula.weights(k, s, w) ** 2
    for signs in itertools.product([-1, 0, 1], repeat=s):
        each = [c / 2 if sign else 1 - c for sign, c in zip(signs, chances, strict=True)]
        value = round(1 + float(squares @ np.array(signs)), 9)
        law[value] = law.get(value, 0) + math.prod(each)
    return law


def pair_of_an_iid_law(k: int, p: float) -> dict[float, float]:
    """One output is 0, 1/2 or 2 times 1/(pk): none or two that cancel, one, two that add up."""
    one = {0: (1 - p) ** 2 + p**2 / 2, 1: 2 * p * (1 - p), 4: p**2 / 2}
    law = {0: 1.0}
    for _ in range(k):
        more: dict[int, float] = {}
        for (a, chance), (b, other) in itertools.product(law.items(), one.items()):
            more[a + b] = more.get(a + b, 0) + chance * other
        law = more
    return {round(value / (2 * p * k), 9): chance for value, chance in law.items()}


def pair_of_an_srht(k: int, n: int) -> dict[float, float]:
    """Half of the n rows have both with one sign: a hypergeometric number of them is drawn."""
    half = n // 2
    counts = range(max(0, k - half), min(k, half) + 1)
    chances = [math.comb(half, i) * math.comb(half, k - i) / math.comb(n, k) for i in counts]
    return {round(2 * i / k, 9): chance for i, chance in zip(counts, chances, strict=True)}


def is_law(name: str, got: Matrix, law: dict[float, float]) -> bool:
    """Whether draws have an exact discrete law: no other value, and each as often as it should."""
    counts = Counter(np.round(got, 9).tolist())
    rest = sum(count for value, count in counts.items() if value not in law)
    values = [value for value in law if law[value] * len(got) > 1]
    rare = 1 - sum(law[value] for value in values)
    found = [counts[value] for value in values] + [rest]
    found += [len(got) - sum(found)]
    chances = [law[value] for value in values] + [0.0, max(rare, 0.0)]
    if rare < 1e-12:
        found.pop(), chances.pop()
    return are_frequencies(name, found, len(got), chances)


PAIR = np.zeros(WIDE)
PAIR[[0, 16]] = np.sqrt(0.5)

PAIRS: list[tuple[str, int, dict[str, Any], Callable[[], dict[float, float]]]] = [
    ("block-stack", 16, {"s": 4}, lambda: pair_of_a_stack(16, 4, "block-stack")),
    ("block-stack", 10, {"s": 3}, lambda: pair_of_a_stack(10, 3, "block-stack")),
    ("block-stack", 70, {"s": 4}, lambda: pair_of_a_stack(70, 4, "block-stack")),
    ("block-stack", 100, {"s": 8}, lambda: pair_of_a_stack(100, 8, "block-stack")),
    ("stack", 10, {"s": 3}, lambda: pair_of_a_stack(10, 3, "stack")),
    ("stack", 30, {"s": 8}, lambda: pair_of_a_stack(30, 8, "stack")),
    ("countsketch", 10, {}, lambda: pair_of_a_stack(10, 1, "countsketch")),
    ("countsketch", 100, {}, lambda: pair_of_a_stack(100, 1, "countsketch")),
    ("iid", 10, {"p": 0.5}, lambda: pair_of_an_iid_law(10, 0.5)),
    ("iid", 40, {"p": 0.125}, lambda: pair_of_an_iid_law(40, 0.125)),
    ("iid", 40, {"p": 1.0}, lambda: pair_of_an_iid_law(40, 1.0)),
    ("srht", 10, {}, lambda: pair_of_an_srht(10, WIDE)),
    ("srht", 20, {}, lambda: pair_of_an_srht(20, WIDE)),
]


@pytest.mark.parametrize(
    ("kind", "k", "options", "law"), PAIRS, ids=[f"{kind} {k}" for kind, k, *_ in PAIRS]
)
def test_tails_of_two_equal_features(
    kind: str, k: int, options: dict[str, Any], law: Callable[[], dict[float, float]]
) -> None:
    n = 4000 if kind == "srht" else 40_000
    exact = law()
    assert math.isclose(sum(exact.values()), 1, rel_tol=1e-12)
    mean = sum(value * chance for value, chance in exact.items())
    spread = sum((value - mean) ** 2 * chance for value, chance in exact.items())
    named = {"column_nnz": options.get("s"), "density": options.get("p")}
    named = {name: value for name, value in named.items() if value}
    # The closed forms, once more, from the whole law.
    assert math.isclose(mean, 1, rel_tol=1e-7)
    assert math.isclose(spread, variance(kind, k, PAIR, **named), rel_tol=1e-6)
    (got,) = lengths(kind, k, PAIR[None], n, **options)
    assert is_law(f"pair {kind} {k} {options}", got, exact)


def chi_square_survival(x: float, k: int) -> float:
    """Return P(χ² > x) for even k: a sum of Poisson probabilities."""
    terms = (i * math.log(x / 2) - math.lgamma(i + 1) - x / 2 for i in range(k // 2))
    return math.fsum(map(math.exp, terms))


@pytest.mark.parametrize("k", [2, 10, 100])
def test_tails_of_the_gaussian_law(k: int) -> None:
    # k ‖Ax‖² is a chi-square variable of k degrees of freedom, whatever the unit vector.
    n = 20_000
    for name, got in zip(INPUTS, k * lengths("gaussian", k, EVERY, n), strict=True):
        edges = k + np.sqrt(2 * k) * np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
        edges = edges[edges > 0]
        above = [(got > edge).sum() for edge in edges]
        chances = [chi_square_survival(edge, k) for edge in edges]
        assert are_frequencies(f"gaussian tails {k} {name}", above, n, chances)


@pytest.mark.parametrize(("kind", "k"), [("block-stack", 300), ("stack", 300), ("srht", 300)])
def test_tails_on_dense_input_are_those_of_the_gaussian_law(kind: str, k: int) -> None:
    # Not a theorem: sums of many small terms. The shares beyond 2 and 3 sigma are those of
    # chi-square but for a tenth of them, of which the bound takes no notice here.
    n, d = 4000, 256
    x = np.random.default_rng(5).standard_normal(d)
    x /= np.sqrt((x**2).sum())
    if kind == "srht":
        x = np.append(x, np.zeros(16384 - d))
        n = 2000
    sigma = math.sqrt(variance(kind, k, x))
    got = np.abs(lengths(kind, k, x[None], n)[0] - 1) / sigma
    edges = [1.0, 2.0, 3.0]
    scale = math.sqrt(2 * k)
    chances = [
        chi_square_survival(k + t * scale, k) + 1 - chi_square_survival(k - t * scale, k)
        for t in edges
    ]
    assert are_frequencies(f"tails {kind}", [(got > t).sum() for t in edges], n, chances)


def placements(k: int, s: int, blocks: int, seed: int) -> tuple[Any, Any, Any]:
    """Return of each block and stratum: its group, the lane of each feature, their signs."""
    w = formula.width(k, s)
    first = formula.strata(k, s, w)
    A = make("block-stack", w * blocks, k, column_nnz=s, seed=seed).to_dense()
    groups, lanes, signs = [], [], []
    for r in range(s):
        start = first[r] * w
        part = A[start : min(first[r + 1] * w, k)]
        outputs = np.abs(part).argmax(axis=0)
        signs.append(np.sign(part[outputs, np.arange(w * blocks)]).reshape(blocks, w))
        outputs = start + outputs.reshape(blocks, w)
        groups.append(-(-outputs.min(axis=1) // w) - first[r])
        lanes.append(outputs - outputs.min(axis=1, keepdims=True))
    return np.array(groups), np.array(lanes), np.array(signs)


@pytest.mark.parametrize(("k", "s"), [(100, 3), (128, 8), (44, 5), (9, 4), (5, 5)])
def test_draws_of_blocks(k: int, s: int) -> None:
    n = 6000
    w = formula.width(k, s)
    sizes = np.diff(formula.strata(k, s, w))
    groups, lanes, signs = placements(k, s, n, seed=k)
    where = f"{k} {s}"
    for r in range(min(s, 3)):
        counts = np.bincount(groups[r], minlength=sizes[r])
        assert len(counts) == sizes[r]
        assert are_frequencies(f"groups {where} {r}", counts, n, 1 / sizes[r])
        # One after another, and one beside another.
        for name, other, n_other in [
            ("next", np.roll(groups[r], 1), sizes[r]),
            ("beside", groups[(r + 1) % s], sizes[(r + 1) % s]),
        ]:
            if name == "beside" and s == 1:
                continue
            cells = np.bincount(groups[r] * n_other + other, minlength=sizes[r] * n_other)
            assert are_frequencies(f"{name} {where} {r}", cells, n, 1 / (sizes[r] * n_other))
        # Every feature is on every lane.
        places = [(lanes[r] == lane).sum(axis=0) for lane in range(w)]
        assert are_frequencies(f"lanes {where} {r}", places, n, 1 / w)
        # No sign goes with a group.
        both = [(signs[r][groups[r] == group] > 0).sum(axis=0) for group in range(sizes[r])]
        assert are_frequencies(f"signs of groups {where} {r}", both, n, 0.5 / sizes[r])
    # Signs are even, and no two agree more or less often than they should: within a
    # block, between strata, and from a block to the next.
    flat = signs.transpose(1, 0, 2).reshape(n, -1)
    flat = np.concatenate([flat, np.roll(flat, 1, axis=0)], axis=1)
    agree = (flat.T @ flat + n) / 2
    pairs = agree[np.triu_indices(len(agree), 1)]
    assert are_frequencies(f"signs {where}", (flat > 0).sum(axis=0), n, 0.5)
    assert are_frequencies(f"pairs of signs {where}", pairs, n, 0.5)


def test_all_orders_of_four_lanes() -> None:
    n = 12_000
    _, lanes, _ = placements(20, 5, n, seed=3)
    orders = Counter(map(tuple, lanes[0].tolist()))
    assert len(orders) == 24
    assert are_frequencies("orders of four", list(orders.values()), n, 1 / 24)


def test_halves_of_sixteen_lanes() -> None:
    n = 12_000
    _, lanes, _ = placements(64, 4, n, seed=3)
    for r in range(2):
        low = (lanes[r] < 8).sum(axis=0)
        assert are_frequencies(f"halves {r}", low, n, 0.5)
        # Of two features of one half every pair of places is as likely; so of two halves.
        for a, b, places in [(0, 1, 56), (0, 9, 64), (5, 7, 56)]:
            cells = np.bincount(lanes[r, :, a] % 8 * 8 + lanes[r, :, b] % 8, minlength=64)
            cells = cells[cells > 0] if places == 56 else cells
            assert len(cells) == places
            assert are_frequencies(f"two of sixteen {r} {a} {b}", cells, n, 1 / places)
    both = ((lanes[0, :, 0] < 8) == (lanes[1, :, 0] < 8)).sum()
    assert are_frequencies("halves of two strata", [both], n, 0.5)


@pytest.mark.parametrize("step", [1, 1 << 64, 1 << 127])
def test_seeds_are_unrelated(step: int) -> None:
    n = 6000
    one, other = placements(64, 4, n, seed=5), placements(64, 4, n, seed=5 + step)
    # Four groups in all, one a stratum: what can agree are lanes and signs.
    assert are_frequencies(f"lanes of seeds {step}", (one[1] == other[1]).sum(axis=1), n, 1 / 16)
    assert are_frequencies(f"signs of seeds {step}", (one[2] == other[2]).sum(axis=1), n, 0.5)


@pytest.mark.parametrize("p", [1 / 3, 0.02, 1.0])
def test_draws_of_the_iid_law(p: float) -> None:
    n, k = 20_000, 7
    A = make("iid", n, k, density=p, seed=11).to_dense()
    entries = A != 0
    assert are_frequencies(f"iid entries {p}", entries.sum(axis=1), n, p)
    positive = (A > 0).sum(axis=1)
    assert are_frequencies(f"iid signs {p}", positive, n, p / 2)
    lower = (entries[:-1] & entries[1:]).sum(axis=1)
    after = (entries[:, :-1] & entries[:, 1:]).sum(axis=1)
    assert are_frequencies(f"iid neighbours {p}", lower, n, p**2)
    assert are_frequencies(f"iid features {p}", after, n - 1, p**2)
    agree = ((A[:-1] * A[1:]) > 0).sum(axis=1)
    assert are_frequencies(f"iid pairs of signs {p}", agree, n, p**2 / 2)


def test_draws_of_the_gaussian_law() -> None:
    n, k = 20_000, 8
    A = make("gaussian", n, k, seed=11).to_dense() * np.sqrt(k)
    bins = 64
    edges = [NormalDist().inv_cdf(i / bins) for i in range(1, bins)]
    for output in range(k):
        counts = np.bincount(np.searchsorted(edges, A[output]), minlength=bins)
        assert are_frequencies(f"gaussian {output}", counts, n, 1 / bins)
    for name, one, other in [
        ("outputs", A[:-1], A[1:]),
        ("features", A[:, :-1], A[:, 1:]),
    ]:
        cells = ((one > 0) & (other > 0)).sum(axis=1)
        assert are_frequencies(f"gaussian {name}", cells, one.shape[1], 0.25)


def test_draws_of_the_srht() -> None:
    # Only differences of rows are seen: to shift all of them is to change the signs.
    n, d, k = 3000, 16, 3
    H = np.array([[(-1) ** (i & f).bit_count() for f in range(d)] for i in range(d)])
    differences: Counter[int] = Counter()
    signs = np.zeros(d)
    for seed in range(n):
        A = np.sign(make("srht", d, k, seed=seed).to_dense())
        signs += A[0] > 0
        for j in (1, 2):
            (difference,) = np.flatnonzero((A[0] * A[j] == H).all(axis=1))
            differences[int(difference) + d * j] += 1
    assert are_frequencies("srht signs", signs, n, 0.5)
    expected = [i + d * j for j in (1, 2) for i in range(1, d)]
    assert set(differences) <= set(expected)
    assert are_frequencies("srht rows", [differences[i] for i in expected], n, 1 / (d - 1))


SPARSE = INPUTS["spiky"]
CARELESS = {
    "binomial_columns": (SPARSE, 64, 8, 5000),
    "equal_weights": (INPUTS["flat"], 10, 3, 60_000),
    "one_sign_a_feature": (INPUTS["flat"], 10, 3, 60_000),
    "one_sign_a_block": (INPUTS["flat"], 32, 2, 20_000),
}


@pytest.mark.parametrize("wrong", careless.WRONG, ids=lambda law: law.__name__)
def test_careless_laws_are_caught(wrong: Callable[..., Matrix]) -> None:
    x, k, s, n = CARELESS[wrong.__name__]
    exact = variance("block-stack", k, x, column_nnz=s)
    right = careless.stack(x, k, s, n)
    assert is_mean(f"power: {wrong.__name__}, right mean", right, 1, exact)
    assert is_variance(f"power: {wrong.__name__}, right variance", right, 1, exact)
    got = wrong(x, k, s, n)
    # They are no bias, which is why they are so easily overlooked.
    assert not is_variance(f"power: {wrong.__name__}", got, 1, exact)


@pytest.mark.parametrize("wrong", careless.WRONG, ids=lambda law: law.__name__)
def test_careless_laws_have_no_such_pairs(wrong: Callable[..., Matrix]) -> None:
    k, s, n = 10, 3, 40_000
    exact = pair_of_a_stack(k, s, "block-stack")
    assert is_law(f"power: right pairs for {wrong.__name__}", careless.stack(PAIR, k, s, n), exact)
    if wrong is careless.one_sign_a_block:
        return  # each of the two is alone in its block
    assert not is_law(f"power: pairs {wrong.__name__}", wrong(PAIR, k, s, n), exact)


def test_orders_that_do_not_change_are_caught() -> None:
    assert not are_frequencies("power: lanes", 6000 * np.eye(16), 6000, 1 / 16)


def test_small_deviations_are_caught() -> None:
    # What 20000 draws can tell of an event with chance 1/3: 3 % of it.
    assert are_frequencies("power: even", [6667], 20_000, 1 / 3)
    assert not are_frequencies("power: uneven", [6667 + 430], 20_000, 1 / 3)
