"""Checks of single arguments, with one wording: subject, what is needed, what was given."""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
import sys
from typing import SupportsIndex

from corekit.errors import ArgumentTypeError, InvalidArgumentError


def given(value: object) -> str:
    """Describe a value for the end of a message: what it is, and shortly how it looks."""
    return f"got {reprlib.repr(value)} ({type(value).__name__})"


def wrong_type(name: str, needed: str, value: object) -> ArgumentTypeError:
    """Make the error for an argument of a type that is not taken."""
    return ArgumentTypeError(f"{name} must be {needed}, {given(value)}")


def integer(name: str, value: object, *, low: int, high: int | None = None) -> int:
    """Return `value` as a plain int in ``low <= value < high``.

    NumPy's integers are taken (anything with `__index__` is). Booleans are
    refused: ``threads=True`` is a mistake, not one thread.
    """
    if type(value) is int:  # to ask for a protocol takes two microseconds
        number = value
    elif isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise wrong_type(name, "an int", value)
    else:
        try:
            number = operator.index(value)
        except TypeError:
            # NumPy arrays have the method and refuse to use it.
            raise wrong_type(name, "an int", value) from None
    if number < low or (high is not None and number >= high):
        wanted = f"at least {low}" if high is None else f"at least {low} and below {_bound(high)}"
        raise InvalidArgumentError(f"{name} must be {wanted}, got {number}")
    return number


def real(name: str, value: object) -> float:
    """Return `value` as a float, which must be finite.

    NumPy's numbers are taken. Booleans are refused, as in `integer`.
    """
    if type(value) is float and math.isfinite(value):
        return value
    number = _number(name, value)
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name} must be finite, got {number}")
    return number


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise wrong_type(name, "a number", value)
    try:
        return float(value)
    except OverflowError:
        return math.inf


def fraction(name: str, value: object) -> float:
    """Return `value` as a float, which must be above 0 and below 1."""
    number = _number(name, value)
    if not 0 < number < 1:
        raise InvalidArgumentError(f"{name} must be above 0 and below 1, {given(value)}")
    return number


def switch(name: str, value: object) -> bool:
    """Return `value`, which must be a bool: what else counts as true is too often a mistake.

    NumPy's is taken, which comparisons of its numbers give.
    """
    if isinstance(value, bool):
        return value
    numpy = sys.modules.get("numpy")  # whoever has such a bool has loaded it
    if numpy is None or not isinstance(value, numpy.bool_):
        raise wrong_type(name, "a bool", value)
    return bool(value)


def exclusive(**options: object) -> None:
    """Refuse more than one of the options: None means that one is not given."""
    first, *others = [name for name, value in options.items() if value is not None] or [""]
    if others:
        raise InvalidArgumentError(f"{first} must be given without {others[0]}, got both")


def _bound(high: int) -> str:
    """Write a power of two as one: 2**128 is easier to read than its 39 digits."""
    power = high.bit_length() - 1
    return f"2**{power}" if high == 1 << power and power >= 16 else str(high)
