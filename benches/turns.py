"""Rounds that are interleaved: who takes a turn when, and what comes of it.

All tools of a case take their turn in each round, and each round starts one tool later than the one
before, so that a noisy minute or a predecessor that fills the memory does not always hit the same
tool. A tool that fails once is not run again: its row is red and has no time.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from workers import SETTLE_SECONDS, FailedError, MissingError, Worker, scrubbed

# In these a worker starts anew: they give the first call and the memory.
FRESH_ROUNDS = 3


@dataclass(kw_only=True)
class Row(ABC):
    """One entry of a case with all its rounds, as the results file holds it."""

    tool: str
    role: str
    status: str = "ok"  # or "failed", "absent"
    reason: str | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def give_up(self, status: str, reason: str) -> None:
        """Leave the row without times."""
        self.status, self.reason = status, reason
        self.rounds.clear()

    def line(self, case: str, number: int) -> str:
        """Return what came of the row's turn in a round."""
        told = self.told() if self.status == "ok" else f"{self.status}: {self.reason}"
        return f"{case} round {number + 1}: {self.called()}: {told}"

    @abstractmethod
    def called(self) -> str:
        """Return which row of its case this is."""

    @abstractmethod
    def told(self) -> str:
        """Return the last round in words."""


@dataclass(kw_only=True)
class WorkerRow(Row):
    """The same of a tool that is run by workers."""

    name: str
    layout: str
    environment: Mapping[str, str]
    version: str | None = None
    modes: tuple[str, ...] = ()

    def learn(self, facts: Mapping[str, Any]) -> None:
        """Take down what a worker says of itself."""
        self.version, self.modes = facts["version"], tuple(facts["modes"])

    def called(self) -> str:
        """Return which row of its case this is."""
        return self.name

    def told(self) -> str:
        """Return the last round in words."""
        steps = {step: taken for step, taken in self.rounds[-1].items() if step != "fresh"}
        return ", ".join(f"{step} {1e3 * each['seconds']:.4g} ms" for step, each in steps.items())


class Named(Protocol):
    """An entry of a case that is run by workers."""

    @property
    def name(self) -> str: ...


EntryT = TypeVar("EntryT")
RowT = TypeVar("RowT", bound=Row)
NamedT = TypeVar("NamedT", bound=Named)
WorkerRowT = TypeVar("WorkerRowT", bound=WorkerRow)


def interleaved(
    entries: Sequence[EntryT], rows: Sequence[RowT], rounds: Sequence[int]
) -> Iterator[tuple[int, EntryT, RowT]]:
    """Yield the turns, each with the number of its round; `rounds` are those of every entry.

    An entry with fewer rounds has the first ones, so that a place among a row's rounds is a
    round's number.
    """
    turns = list(zip(entries, rows, rounds, strict=True))
    for number in range(max(rounds)):
        start = number % len(turns)
        for entry, row, most in turns[start:] + turns[:start]:
            if number < most and row.status == "ok":
                yield number, entry, row


def with_workers(
    turns: Iterable[tuple[int, NamedT, WorkerRowT]],
    start: Callable[[NamedT], Worker],
    take: Callable[[WorkerRowT, Worker, int], dict[str, Any]],
    say: Callable[[int, WorkerRowT], None],
) -> None:
    """Have workers take the turns: `start` one, `take` a turn, `say` what came of it."""
    workers: dict[str, Worker] = {}
    try:
        for number, entry, row in turns:
            time.sleep(SETTLE_SECONDS)
            fresh = number < FRESH_ROUNDS
            try:
                if fresh:
                    if entry.name in workers:
                        workers.pop(entry.name).close()
                    worker = workers[entry.name] = start(entry)
                    row.learn(worker.ask())
                row.rounds.append({"fresh": fresh, **take(row, workers[entry.name], number)})
            except FailedError as error:
                row.give_up("failed", scrubbed(str(error)))
            except MissingError as error:
                row.give_up("absent", scrubbed(str(error)))
            if row.status != "ok":
                workers.pop(entry.name).close()
            say(number, row)
    finally:
        for worker in workers.values():
            worker.close()
