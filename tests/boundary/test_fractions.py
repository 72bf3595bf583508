"""Fractions mean what was written, and their cuts are those of exact arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.shuffle import _fractions

WHOLE = 2**64


@pytest.mark.parametrize(
    ("value", "fraction"),
    [
        ("0", Fraction(0)),
        ("1", Fraction(1)),
        ("1.0", Fraction(1)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        (" 0.25 ", Fraction(1, 4)),
        ("1e-3", Fraction(1, 1000)),
        ("2.5E-1", Fraction(1, 4)),
        ("1/3", Fraction(1, 3)),
        ("0.10000000000000000000000000001", Fraction(10**28 + 1, 10**29)),
        (0, Fraction(0)),
        (1, Fraction(1)),
        (np.int64(1), Fraction(1)),
        (0.1, Fraction(1, 10)),
        (1e-05, Fraction(1, 100_000)),
        (5e-324, Fraction(5, 10**324)),
        (np.float64(0.1), Fraction(1, 10)),
        (Decimal("0.1"), Fraction(1, 10)),
        (Decimal("1E-7"), Fraction(1, 10**7)),
        (Fraction(2, 3), Fraction(2, 3)),
        (-0.0, Fraction(0)),
    ],
)
def test_a_number_is_what_was_written(value: object, fraction: Fraction) -> None:
    assert _fractions.exact("fraction", value) == fraction
    assert _fractions.cut("fraction", value) == int(fraction * WHOLE)


def test_cuts_do_not_go_through_floats() -> None:
    assert _fractions.cut("fraction", "0.1") == 1844674407370955161
    assert _fractions.cut("fraction", "0.1") != int(0.1 * WHOLE)
    assert _fractions.cut("fraction", Fraction(1, WHOLE)) == 1
    assert _fractions.cut("fraction", Fraction(1, WHOLE + 1)) == 0
    assert _fractions.cut("fraction", Fraction(WHOLE - 1, WHOLE)) == WHOLE - 1


@pytest.mark.parametrize(
    "value",
    [
        "",
        "half",
        "50%",
        "0,5",
        "1_0",
        "1/0",
        "1/3/5",
        "1e-9999999",
        "nan",
        "inf",
        "٣",
        "0." + "1" * 2000,
        "1.0000001",
        "-0.1",
        "2/1",
        1.5,
        -0.1,
        float("nan"),
        float("inf"),
        2,
        Fraction(3, 2),
        Fraction(-1, 2),
        Decimal("1.1"),
        Decimal("NaN"),
        Decimal("1E-999999999"),
    ],
)
def test_what_is_no_number_from_0_to_1_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^fraction must be .*0 to 1.*, got "):
        _fractions.exact("fraction", value)


@pytest.mark.parametrize("value", [-1, -(10**30)])
def test_negative_ints_are_refused(value: int) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^fraction must be .*, got "):
        _fractions.exact("fraction", value)


@pytest.mark.parametrize("value", [True, b"0.1", [0.1], 0.1j, np.float32(0.1), object()])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^fraction must be .*, got "):
        _fractions.exact("fraction", value)


def test_splits_are_cut_at_partial_sums() -> None:
    assert _fractions.splits({"train": 0.8, "valid": "0.1", "test": Decimal("0.1")}) == [
        ("train", 8 * WHOLE // 10),
        ("valid", 9 * WHOLE // 10),
        ("test", WHOLE),
    ]
    assert _fractions.splits({"a": "1/3", "b": "1/3", "c": "1/3"}) == [
        ("a", WHOLE // 3),
        ("b", 2 * WHOLE // 3),
        ("c", WHOLE),
    ]
    assert _fractions.splits({"A-z_0.9": 1}) == [("A-z_0.9", WHOLE)]


def test_splits_may_be_empty() -> None:
    assert _fractions.splits({"none": 0, "all": 1, "nothing": 0}) == [
        ("none", 0),
        ("all", WHOLE),
        ("nothing", WHOLE),
    ]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_cuts_rise_to_the_whole(weights: list[int]) -> None:
    total = sum(weights)
    cuts = _fractions.splits({f"s{n}": Fraction(w, total) for n, w in enumerate(weights)})
    ends = [end for _, end in cuts]
    assert ends == sorted(ends)
    assert ends[-1] == WHOLE
    sums = [Fraction(sum(weights[: n + 1]), total) for n in range(len(weights))]
    assert ends == [int(part * WHOLE) for part in sums]


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ({"a": 0.9, "b": 0.2}, "got 11/10 (1.1)"),
        ({"a": "0.333", "b": "0.333", "c": "0.333"}, "got 999/1000 (0.999)"),
        ({"a": 1 / 3, "b": 2 / 3}, "sum to exactly 1"),
        ({"a": 0}, "got 0 (0.0)"),
        ({}, "at least one"),
        ({"a b": 1}, "'a b'"),
        ({"": 1}, "''"),
        ({"é": 1}, "'é'"),
        ({"a/b": 1}, "'a/b'"),
    ],
)
def test_splits_that_are_refused(splits: Mapping[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^splits must be .*, got ") as caught:
        _fractions.splits(splits)
    assert told in str(caught.value)


def test_a_bad_fraction_of_a_split_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^splits\['a'\] must be .*, got 1.5"):
        _fractions.splits({"a": 1.5, "b": 0})
    with pytest.raises(ArgumentTypeError, match=r"^splits\['a'\] must be .*, got None"):
        _fractions.splits({"a": None})


def test_a_name_that_is_given_twice() -> None:
    with pytest.raises(InvalidArgumentError, match="'a' twice"):
        _fractions.named_cuts([("a", "0.5"), ("a", "0.5")])
