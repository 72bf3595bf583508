"""Values of options: from a word to what the library takes, or a usage error."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

from corekit import _seed
from corekit.errors import CorekitError

_T = TypeVar("_T")


def usage(function: Callable[[str], _T]) -> Callable[[str], _T]:
    """Let argparse show the reason that a check gives, instead of its own general one."""

    def converted(text: str) -> _T:
        try:
            return function(text)
        except CorekitError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def number(text: str) -> int:
    """Read a whole number."""
    if not re.fullmatch("[0-9]+", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 0, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Read a number with a point, or a fraction."""
    try:
        return float(Fraction(text) if "/" in text else text)
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def seed_number(text: str) -> int:
    """Read a seed, decimal or hexadecimal."""
    if not re.fullmatch("[0-9]+|0[xX][0-9a-fA-F]+", text):
        raise argparse.ArgumentTypeError(f"must be a decimal or 0x... number, got {text!r}")
    return _seed.resolve(int(text, 16 if text[:2] in ("0x", "0X") else 10))
