"""How many components, how large an error, how likely: three functions of one relation.

All simulations together raise a false alarm with probability 1e-6 at most over the choice of
their seeds, which are fixed: a test that has passed once passes always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.projection import epsilon_for, failure_for, min_components

# False alarms are shared by 20 + 2 + 112 counts, each with two sides.
SHARE = 1e-6 / 134 / 2

# samples, eps; "exact" for failure 1/n, for failure 0.05, and for 99 % of pairs. Computed with
# scipy.stats.chi2.
TABLE = [
    (10**2, 0.1, 4597, 3958, 1330),
    (10**2, 0.2, 1199, 1028, 334),
    (10**2, 0.5, 222, 190, 56),
    (10**3, 0.05, 29011, 22839, 5310),
    (10**3, 0.1, 7403, 5806, 1330),
    (10**3, 0.2, 1952, 1524, 334),
    (10**3, 0.3, 916, 714, 150),
    (10**3, 0.5, 364, 283, 56),
    (10**4, 0.05, 40031, 30112, 5310),
    (10**4, 0.1, 10262, 7688, 1330),
    (10**4, 0.2, 2716, 2029, 334),
    (10**4, 0.3, 1274, 952, 150),
    (10**4, 0.5, 507, 378, 56),
    (10**5, 0.05, 51154, 37453, 5310),
    (10**5, 0.1, 13148, 9592, 1330),
    (10**5, 0.2, 3484, 2537, 334),
    (10**5, 0.3, 1635, 1191, 150),
    (10**5, 0.5, 650, 473, 56),
    (10**6, 0.05, 62348, 44845, 5310),
    (10**6, 0.1, 16049, 11511, 1330),
    (10**6, 0.2, 4254, 3048, 334),
    (10**6, 0.3, 1997, 1431, 150),
    (10**6, 0.5, 794, 569, 56),
    (10**7, 0.1, 18959, 13439, 1330),
    (10**7, 0.2, 5026, 3561, 334),
    (10**7, 0.5, 939, 665, 56),
]

WITH_FAILURE: Any = ["exact", "dasgupta-gupta", "chernoff"]
TARGETS: Any = ["distances", "inner-products"]

samples = st.integers(2, 10**6) | st.integers(2, 2**70)
errors = st.floats(0.001, 0.999)
failures = st.floats(1e-12, 0.99)
bounds = st.sampled_from(WITH_FAILURE)
targets = st.sampled_from(TARGETS)


@pytest.mark.parametrize(("n", "eps", "for_one_in_n", "for_default", "for_quantile"), TABLE)
def test_exact_bound_is_that_of_the_chi_square_distribution(
    n: int, eps: float, for_one_in_n: int, for_default: int, for_quantile: int
) -> None:
    assert min_components(n, eps, failure=1 / n) == for_one_in_n
    assert min_components(n, eps) == for_default
    assert min_components(n, eps, failure=0.05) == for_default
    assert min_components(None, eps, quantile=0.99) == for_quantile


@pytest.mark.parametrize(
    ("n", "eps", "wanted"),
    [
        (10**6, 0.5, 663),
        (10**6, 0.1, 11841),
        (10**6, 0.01, 1112658),
        (10**4, 0.1, 7894),
        (10**5, 0.1, 9868),
        (10**3, 0.1, 5920),
        (2, 0.99, 16),
        (1, 0.5, 1),  # scikit-learn's own answer is 0
    ],
)
def test_scikit_learns_formula(n: int, eps: float, wanted: int) -> None:
    assert min_components(n, eps, bound="scikit-learn") == wanted


def test_what_scikit_learns_formula_really_gives() -> None:
    for n, eps, failure in [
        (10**3, 0.1, 0.037694350840495),
        (10**4, 0.1, 0.03027391356104169),
        (10**6, 0.1, 0.022669470731130528),
        (10**6, 0.5, 0.0005283558643698026),
    ]:
        k = min_components(n, eps, bound="scikit-learn")
        assert failure_for(n, k, eps) == pytest.approx(failure, rel=1e-9)


@given(samples, errors, failures)
def test_closed_forms(n: int, eps: float, failure: float) -> None:
    # Within one, because the formulas round differently from the search.
    log = math.log(n * (n - 1)) - math.log(failure)
    chernoff = math.ceil(8 * log / eps**2)
    cubic = math.ceil(2 * log / (eps**2 / 2 - eps**3 / 3))
    options: Any = {"failure": failure}
    assert abs(min_components(n, eps, bound="chernoff", **options) - chernoff) <= 1
    assert abs(min_components(n, eps, bound="dasgupta-gupta", **options) - cubic) <= 1


def test_chernoff_with_failure_one_in_n_is_the_textbooks() -> None:
    for n in (10**2, 10**4, 10**8):
        k = min_components(n, 0.1, failure=1 / n, bound="chernoff")
        assert k == pytest.approx(24 * math.log(n) / 0.1**2, rel=1e-3)


@given(samples, errors, failures, bounds, targets)
def test_number_of_components_is_the_smallest(
    n: int, eps: float, failure: float, bound: Any, target: Any
) -> None:
    options: Any = {"bound": bound, "target": target}
    k = min_components(n, eps, failure=failure, **options)
    assert failure_for(n, k, eps, **options) <= failure
    assert k == 1 or failure_for(n, k - 1, eps, **options) > failure


@given(samples, st.integers(1, 10**9), failures, bounds, targets)
def test_eps_is_the_smallest(n: int, k: int, failure: float, bound: Any, target: Any) -> None:
    options: Any = {"bound": bound, "target": target}
    least = min_components(n, math.nextafter(1, 0), failure=failure, **options)
    if least > k:
        message = f"n_components must be at least {least} for an eps below 1, got {k}"
        with pytest.raises(InvalidArgumentError, match=message):
            epsilon_for(n, k, failure=failure, **options)
        return
    eps = epsilon_for(n, k, failure=failure, **options)
    assert failure_for(n, k, eps, **options) <= failure
    assert failure_for(n, k, math.nextafter(eps, 0), **options) > failure
    assert min_components(n, eps, failure=failure, **options) == k


@given(samples, st.integers(1, 10**9))
def test_eps_of_scikit_learns_formula_is_the_smallest(n: int, k: int) -> None:
    least = min_components(n, math.nextafter(1, 0), bound="scikit-learn")
    if least > k:
        message = f"n_components must be at least {least} for an eps below 1, got {k}"
        with pytest.raises(InvalidArgumentError, match=message):
            epsilon_for(n, k, bound="scikit-learn")
        return
    eps = epsilon_for(n, k, bound="scikit-learn")
    assert min_components(n, eps, bound="scikit-learn") <= k
    assert min_components(n, math.nextafter(eps, 0), bound="scikit-learn") > k


@given(samples, errors, failures, bounds, targets, st.data())
def test_more_asked_takes_more_components(
    n: int, eps: float, failure: float, bound: Any, target: Any, data: st.DataObject
) -> None:
    options: Any = {"bound": bound, "target": target}
    k = min_components(n, eps, failure=failure, **options)
    more = data.draw(st.integers(n, n**2))
    assert min_components(more, eps, failure=failure, **options) >= k
    smaller = data.draw(st.floats(0.0005, eps))
    assert min_components(n, smaller, failure=failure, **options) >= k
    rarer = data.draw(st.floats(1e-13, failure))
    assert min_components(n, eps, failure=rarer, **options) >= k
    assert min_components(n, eps, failure=failure, bound=bound, target="inner-products") >= k


@given(samples, errors, st.integers(1, 10**6), failures, targets)
def test_no_bound_is_below_the_exact_one(
    n: int, eps: float, k: int, failure: float, target: Any
) -> None:
    exact = min_components(n, eps, failure=failure, target=target)
    for bound in WITH_FAILURE[1:]:
        assert exact <= min_components(n, eps, failure=failure, target=target, bound=bound)
        assert failure_for(n, k, eps, target=target) <= failure_for(
            n, k, eps, target=target, bound=bound
        )


@given(st.integers(2, 10**6), errors, failures, bounds)
def test_pairs_stand_for_those_of_the_samples(
    n: int, eps: float, failure: float, bound: Any
) -> None:
    pairs = n * (n - 1) // 2
    k = min_components(n, eps, failure=failure, bound=bound)
    assert min_components(None, eps, failure=failure, bound=bound, pairs=pairs) == k
    assert min_components(n, eps, failure=failure, bound=bound, pairs=pairs) == k
    assert min_components(n, eps, failure=failure, bound=bound, pairs=1) <= k
    assert failure_for(None, k, eps, bound=bound, pairs=pairs) == failure_for(
        n, k, eps, bound=bound
    )
    doubled = min_components(None, eps, failure=failure, bound="chernoff", pairs=2 * pairs)
    products: Any = {"failure": failure, "bound": "chernoff", "target": "inner-products"}
    # log(2) + log(P) is a rounding away from log(2P).
    assert abs(min_components(n, eps, **products) - doubled) <= 1


@given(errors, st.floats(0.001, 0.999), bounds, targets)
def test_a_quantile_is_the_failure_of_one_pair(
    eps: float, quantile: float, bound: Any, target: Any
) -> None:
    options: Any = {"bound": bound, "target": target}
    k = min_components(None, eps, quantile=quantile, **options)
    assert k == min_components(None, eps, failure=1 - quantile, pairs=1, **options)
    assert k == min_components(10**9, eps, quantile=quantile, **options)
    assert epsilon_for(None, k, quantile=quantile, **options) <= eps


def test_one_sample_has_no_pairs() -> None:
    for bound in WITH_FAILURE:
        assert min_components(1, 0.1, bound=bound) == 1
        assert epsilon_for(1, 1, bound=bound) == 0
        assert failure_for(1, 1, 0.1, bound=bound) == 0
    assert epsilon_for(1, 1, bound="scikit-learn") == 0


def test_numbers_beyond_any_float() -> None:
    for n in (2**63, 2**64 + 1, 10**400):
        for bound in WITH_FAILURE:
            k = min_components(n, 0.1, bound=bound)
            assert failure_for(n, k, 0.1, bound=bound) <= 0.05
            assert failure_for(n, 1, 0.1, bound=bound) == 1
        assert min_components(n, 0.1, bound="scikit-learn") < k
    assert failure_for(10, 10**9, 0.5) == 0
    assert min_components(10, 0.5, failure=1e-300) > 1000
    assert min_components(10**18, 1e-6) < min_components(10**18, 1e-6, bound="chernoff")


def test_arguments_of_other_numeric_types() -> None:
    n: Any = np.int64(10**4)
    k: Any = np.int64(5000)
    for eps in [np.float32(0.125), Fraction(1, 8)]:
        number: Any = eps
        assert min_components(n, number) == min_components(10**4, 0.125)
        assert type(min_components(n, number)) is int
        assert failure_for(n, k, number) == failure_for(10**4, 5000, 0.125)
        assert type(failure_for(n, k, number)) is float
    assert epsilon_for(n, k) == epsilon_for(10**4, 5000)
    assert type(epsilon_for(n, k)) is float


def expected(count: int, trials: int, probability: float) -> bool:
    """Whether a binomial count may well be chance, by Chernoff's bound on either side."""
    share = count / trials
    divergence = sum(
        a * math.log(a / b) for a, b in [(share, probability), (1 - share, 1 - probability)] if a
    )
    return math.exp(-trials * divergence) > SHARE


def at_most(count: int, trials: int, probability: float) -> bool:
    return count <= trials * probability or expected(count, trials, probability)


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_single_pairs_fail_as_often_as_computed(k: int) -> None:
    trials = 100_000
    source = np.random.Generator(np.random.PCG64(k))
    pair = source.standard_normal((2, 3))
    difference = pair[0] - pair[1]
    ratios = np.empty(trials)
    for start in range(0, trials, 10_000):
        matrices = source.standard_normal((10_000, k, 3)) / math.sqrt(k)
        ratios[start : start + 10_000] = ((matrices @ difference) ** 2).sum(1)
    ratios /= difference @ difference
    for eps in (0.1, 0.3, 0.5, 0.7, 0.9):
        outside = int(np.count_nonzero(abs(ratios - 1) >= eps))
        assert expected(outside, trials, failure_for(None, k, eps, pairs=1))


@pytest.mark.parametrize(("n", "eps", "failure"), [(6, 0.5, 0.3), (20, 0.4, 0.1)])
def test_all_pairs_are_kept_as_often_as_promised(n: int, eps: float, failure: float) -> None:
    trials, d = 3000, 8
    source = np.random.Generator(np.random.PCG64(n))
    points = source.standard_normal((n, d))
    first, second = np.triu_indices(n, 1)
    differences = (points[first] - points[second]).T
    before = (differences**2).sum(0)
    k = min_components(n, eps, failure=failure)
    failed = 0
    for _ in range(trials):
        after = ((source.standard_normal((k, d)) @ differences) ** 2).sum(0) / k
        failed += bool((abs(after / before - 1) >= eps).any())
    assert at_most(failed, trials, failure)
    # Not an idle promise: union bounds lose a factor that is small for few pairs.
    assert failed > trials * failure / 10


@pytest.mark.parametrize("k", [1, 2, 3, 20])
@pytest.mark.parametrize("correlation", [-1.0, -0.6, 0.0, 0.5, 0.9, 0.99, 1.0])
def test_inner_products_fail_at_most_as_often_as_computed(k: int, correlation: float) -> None:
    trials = 50_000
    source = np.random.Generator(np.random.PCG64(k))
    first, other = source.standard_normal((2, trials, k)) / math.sqrt(k)
    second = correlation * first + math.sqrt(1 - correlation**2) * other
    off = abs((first * second).sum(1) - correlation)
    for eps in (0.2, 0.6, 0.9, 0.999):
        probability = failure_for(None, k, eps, pairs=1, target="inner-products")
        assert at_most(int(np.count_nonzero(off >= eps)), trials, probability)


@pytest.mark.parametrize("k", [2, 4, 8, 16])
def test_equal_samples_are_the_worst_of_inner_products(k: int) -> None:
    # The error is w (X - 1) - (1 - w) (Y - 1) for independent X and Y, chi-square over k, whose
    # tails are finite sums for even k; what is left is an integral over Y.
    a, step = k // 2, 0.002
    y = np.arange(step / 2, 40, step)
    weight = step * (a * y) ** (a - 1) * np.exp(-a * y) * a / math.factorial(a - 1)

    def above(x: Any) -> Any:
        z = a * np.maximum(x, 0)
        return sum(z**i / math.factorial(i) for i in range(a)) * np.exp(-z)

    for rho in np.linspace(0, 0.99, 12):
        w = (1 + rho) / 2
        for eps in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999):
            over = above((rho + eps + (1 - w) * y) / w)
            under = 1 - above((rho - eps + (1 - w) * y) / w)
            off = float(((over + under) * weight).sum())
            assert off < failure_for(None, k, eps, pairs=1, target="inner-products")


def test_one_component_takes_two_pairs_for_an_inner_product() -> None:
    # Products of correlation 0.9 are off by 0.999 with probability 0.21, equal ones 0.18.
    assert failure_for(None, 1, 0.999, pairs=1) < 0.19
    assert failure_for(None, 1, 0.999, pairs=1, target="inner-products") > 0.36
    once = failure_for(None, 2, 0.5, pairs=1)
    assert failure_for(None, 2, 0.5, pairs=1, target="inner-products") == once


CALLS: list[Callable[..., object]] = [
    min_components,
    lambda n, eps, **options: epsilon_for(n, 10**9, **options),
]


@pytest.mark.parametrize("call", CALLS, ids=["min_components", "epsilon_for"])
@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (0, {}, "n_samples must be at least 1, got 0"),
        (-5, {}, "n_samples must be at least 1, got -5"),
        (0, {"quantile": 0.5}, "n_samples must be at least 1, got 0"),
        (9, {"failure": 0}, "failure must be above 0 and below 1, got 0 (int)"),
        (9, {"failure": 1.0}, "failure must be above 0 and below 1, got 1.0 (float)"),
        (9, {"failure": math.nan}, "failure must be above 0 and below 1, got nan (float)"),
        (9, {"quantile": 1.5}, "quantile must be above 0 and below 1, got 1.5 (float)"),
        (9, {"quantile": math.inf}, "quantile must be above 0 and below 1, got inf (float)"),
        (9, {"quantile": 0.9, "failure": 0.1}, "quantile must be given without failure, got both"),
        (9, {"quantile": 0.9, "pairs": 3}, "quantile must be given without pairs, got both"),
        (None, {"pairs": 0}, "pairs must be at least 1, got 0"),
        (3, {"pairs": 4}, "pairs must be at most 3, all there are of 3 samples, got 4"),
        (1, {"pairs": 1}, "pairs must be at most 0, all there are of 1 samples, got 1"),
        (
            9,
            {"bound": "sklearn"},
            "bound must be one of 'exact', 'dasgupta-gupta', 'scikit-learn', 'chernoff', "
            "got 'sklearn'",
        ),
        (
            9,
            {"target": "norms"},
            "target must be one of 'distances', 'inner-products', got 'norms'",
        ),
        (
            9,
            {"bound": "scikit-learn", "failure": 0.1},
            "failure must be left out with bound 'scikit-learn', got 0.1 (float)",
        ),
        (
            9,
            {"bound": "scikit-learn", "pairs": 3},
            "pairs must be left out with bound 'scikit-learn', got 3 (int)",
        ),
        (
            9,
            {"bound": "scikit-learn", "quantile": 0.9},
            "quantile must be left out with bound 'scikit-learn', got 0.9 (float)",
        ),
        (
            9,
            {"bound": "scikit-learn", "target": "inner-products"},
            "target must be 'distances' with bound 'scikit-learn', got 'inner-products'",
        ),
        (0, {"bound": "scikit-learn"}, "n_samples must be at least 1, got 0"),
    ],
)
def test_values_that_are_refused(
    call: Callable[..., object], n: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        call(n, 0.1, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("call", CALLS, ids=["min_components", "epsilon_for"])
@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (None, {}, "n_samples must be an int unless pairs or quantile is given, got None"),
        (None, {"bound": "scikit-learn"}, "n_samples must be an int, got None"),
        (1e6, {}, "n_samples must be an int, got 1000000.0 (float)"),
        (True, {}, "n_samples must be an int, got True (bool)"),
        (9, {"pairs": 2.0}, "pairs must be an int, got 2.0 (float)"),
        (9, {"failure": "0.1"}, "failure must be a number, got '0.1' (str)"),
        (9, {"quantile": True}, "quantile must be a number, got True (bool)"),
        (9, {"bound": None}, "bound must be a str, got None (NoneType)"),
        (9, {"target": 1}, "target must be a str, got 1 (int)"),
    ],
)
def test_types_that_are_refused(
    call: Callable[..., object], n: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        call(n, 0.1, **options)
    assert str(caught.value).startswith(message)


REFUSING_EPS: list[Callable[[Any], object]] = [
    lambda eps: min_components(10, eps),
    lambda eps: failure_for(10, 100, eps),
]
REFUSING_COMPONENTS: list[Callable[[Any], object]] = [
    lambda k: epsilon_for(10, k),
    lambda k: failure_for(10, k, 0.1),
]


@pytest.mark.parametrize("eps", [0, 1, 0.0, 1.0, -0.1, 1.5, math.nan, math.inf, 10**400])
def test_eps_out_of_range(eps: float) -> None:
    for call in REFUSING_EPS:
        with pytest.raises(InvalidArgumentError, match="eps must be above 0 and below 1, got"):
            call(eps)


@pytest.mark.parametrize("eps", ["0.1", None, True, 0.1j, np.array([0.1, 0.2])])
def test_eps_of_another_type(eps: Any) -> None:
    for call in REFUSING_EPS:
        with pytest.raises(ArgumentTypeError, match="eps must be a number, got"):
            call(eps)


@pytest.mark.parametrize("k", [0, -1, 2**53])
def test_components_out_of_range(k: int) -> None:
    for call in REFUSING_COMPONENTS:
        with pytest.raises(InvalidArgumentError, match="n_components must be at least 1 and below"):
            call(k)


@pytest.mark.parametrize("bound", [*WITH_FAILURE, "scikit-learn"])
@pytest.mark.parametrize("eps", [1e-8, 1e-200, 5e-324])
def test_eps_that_takes_too_many_components(bound: Any, eps: float) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        min_components(10, eps, bound=bound)
    assert str(caught.value) == f"eps must allow for less than 2**53 components, got {eps}"


@pytest.mark.parametrize(("bound", "least"), [("exact", 29), ("scikit-learn", 55)])
def test_components_that_promise_nothing(bound: Any, least: int) -> None:
    message = f"n_components must be at least {least} for an eps below 1, got 3"
    with pytest.raises(InvalidArgumentError, match=message):
        epsilon_for(10, 3, bound=bound)
    assert epsilon_for(10, least, bound=bound) < 1


def test_failure_is_not_known_to_scikit_learns_formula() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        failure_for(10, 100, 0.1, bound="scikit-learn")
    assert str(caught.value) == (
        "bound must be one of 'exact', 'dasgupta-gupta', 'chernoff', which have a failure, "
        "got 'scikit-learn'"
    )
    with pytest.raises(ArgumentTypeError, match="n_samples must be an int unless pairs is given"):
        failure_for(None, 100, 0.1)
