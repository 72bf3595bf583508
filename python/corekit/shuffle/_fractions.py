"""Fractions of the records, kept exact, and the cuts in key space that they stand for.

Keys are 64-bit numbers, so the fraction P of all records are those with keys below
``floor(P * 2**64)``. The product is formed of whole numbers: a float in between would move
the cut, and records with it, from one machine's rounding to another's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias, Union

from corekit import _checks
from corekit.errors import InvalidArgumentError

# Few calls have fractions, and the modules are slow to import.
if TYPE_CHECKING:
    from decimal import Decimal
    from fractions import Fraction

Exact: TypeAlias = Union[str, float, "Decimal", "Fraction"]

WHOLE = 1 << 64

# The exponent has few digits because 10 to its power is computed.
_NUMBER = re.compile(
    r"\s*[+-]?(?:[0-9]+/[0-9]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*", re.ASCII
)
_LONGEST = 1000

_NAME = re.compile("[A-Za-z0-9_.-]+", re.ASCII)


def exact(name: str, value: object) -> Fraction:
    """Return a number from 0 to 1 as it was written: the text, and the float, 0.1 is 1/10.

    A float stands for the shortest decimal that reads as it. What it is in binary,
    0.1000000000000000055..., is never what somebody meant.
    """
    from decimal import Decimal
    from fractions import Fraction

    if isinstance(value, Fraction):
        number = value
    elif isinstance(value, float):
        number = _read(name, repr(float(value)), value)  # float() takes NumPy's name off
    elif isinstance(value, (str, Decimal)):
        number = _read(name, str(value), value)
    elif isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = Fraction(_checks.integer(name, value, low=0))
    else:
        raise _checks.wrong_type(
            name, "a str, a Decimal, a Fraction, an int or a float from 0 to 1", value
        )
    if not 0 <= number <= 1:
        raise InvalidArgumentError(f"{name} must be from 0 to 1, {_checks.given(value)}")
    return number


def _read(name: str, text: str, value: object) -> Fraction:
    from fractions import Fraction

    if len(text) <= _LONGEST and _NUMBER.fullmatch(text):
        try:
            return Fraction(text)
        except ZeroDivisionError:
            pass
    needed = 'a number from 0 to 1, such as "0.1" or "1/3"'
    raise InvalidArgumentError(f"{name} must be {needed}, {_checks.given(value)}")


def cut(name: str, value: object) -> int:
    """Return the key below which the fraction of all keys lies, 0 to 2**64."""
    number = exact(name, value)
    return number.numerator * WHOLE // number.denominator


def splits(value: object) -> list[tuple[str, int]]:
    """Return the name and the upper cut of every split, in the order given."""
    if not isinstance(value, Mapping):
        raise _checks.wrong_type("splits", "a mapping of names to fractions", value)
    return named_cuts(value.items())


def named_cuts(items: Iterable[tuple[object, object]]) -> list[tuple[str, int]]:
    """Return the upper cuts of named fractions, of which the last one is the whole.

    Cuts are made of the partial sums. Sums of cuts would lose a key with each split.
    """
    from fractions import Fraction

    total = Fraction(0)
    cuts: list[tuple[str, int]] = []
    for name, value in items:
        if not isinstance(name, str):
            raise _checks.wrong_type("splits", "a mapping whose names are str", name)
        if not _NAME.fullmatch(name):
            needed = "a mapping whose names are of letters, digits, '_', '.' and '-'"
            raise InvalidArgumentError(f"splits must be {needed}, got the name {name!r}")
        if any(name == other for other, _ in cuts):
            raise InvalidArgumentError(f"splits must be of different names, got {name!r} twice")
        total += exact(f"splits[{name!r}]", value)
        cuts.append((name, total.numerator * WHOLE // total.denominator))
    if not cuts:
        raise InvalidArgumentError("splits must be at least one, got none")
    if total != 1:
        raise InvalidArgumentError(
            f"splits must be fractions that sum to exactly 1, got {total} ({float(total)})"
        )
    return cuts
