"""The text of ``--split``: ``NAME=FRACTION,...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corekit.errors import InvalidArgumentError
from corekit.shuffle import _fractions

if TYPE_CHECKING:
    from fractions import Fraction


def fraction(text: str) -> Fraction:
    """Return the number that the text of ``--fraction`` is, exactly."""
    return _fractions.exact("fraction", text)


def read(text: str) -> dict[str, str]:
    """Return the fraction of every split by its name, in the order written."""
    items: list[tuple[str, str]] = []
    for item in text.split(","):
        name, equals, number = item.partition("=")
        if not equals:
            raise InvalidArgumentError(f"must be NAME=FRACTION,..., got {item!r}")
        items.append((name, number))
    # Before the names become keys: a dictionary keeps the last of two that are equal.
    _fractions.named_cuts(items)
    return dict(items)
