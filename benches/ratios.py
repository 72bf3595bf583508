"""How many times as long one row takes as another, in the one way that all suites have for it.

Neighbours on a shared machine slow down whole minutes, but the tools of a round run in the same
ones. So the ratio is taken in every round that both rows have; the figure is the median of these
ratios, and its range is theirs. With the medians of each row's own rounds in its place, a tool of
few rounds would be compared with rounds that it took no part in.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def paired(over: Iterable[float | None], under: Iterable[float | None]) -> list[float]:
    """Return the ratio in each round that both rows have, in their order.

    A place is the number of a round, for rows with fewer rounds have the first ones; None stands
    for a round without a figure.
    """
    pairs = zip(over, under, strict=False)
    return [above / below for above, below in pairs if above is not None and below is not None]


def shown(ratios: Sequence[float]) -> str:
    """Return the median of the rounds, and of more than one round their range; "" of none."""
    if not ratios:
        return ""
    ends = f" ({times(min(ratios))}-{times(max(ratios))})" if len(ratios) > 1 else ""
    return f"{times(statistics.median(ratios))}x{ends}"


def times(ratio: float) -> str:
    """Return a ratio with about three figures."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"
