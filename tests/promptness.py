"""How soon a call ends after Ctrl-C, held to what is promised.

A child measures it, from sending the signal to KeyboardInterrupt, so that no interpreter's start
or end counts. A busy machine may keep any process waiting for longer than is promised, but hardly
each time; a call that looks for signals too seldom takes too long each time. So the quickest of a
few counts.
"""

from __future__ import annotations

from collections.abc import Callable

PROMISED = 1.0  # seconds
ATTEMPTS = 4


def ends_promptly(attempt: Callable[[int], float]) -> None:
    """Check a call that an attempt interrupts; the attempt is numbered and returns the seconds."""
    waited: list[float] = []
    while len(waited) < ATTEMPTS:
        waited.append(attempt(len(waited)))
        if waited[-1] < PROMISED:
            return
    raise AssertionError(f"it went on for {waited} seconds after Ctrl-C, promised is {PROMISED}")


def seconds(said: str) -> float:
    """Return the number of the line that a child ends with."""
    assert said.startswith("KeyboardInterrupt after ")
    return float(said.split()[2])
