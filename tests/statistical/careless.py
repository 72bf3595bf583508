"""Shufflers that are known to be wrong, for the tests to catch.

Each returns the order of n records: position p of the output holds record order[p].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Order = npt.NDArray[np.int64]
Shuffler = Callable[[int, np.random.Generator], Order]


def uniform(n: int, random: np.random.Generator) -> Order:
    """The right one, to show that the tests let it pass."""
    return random.permutation(n)


def through_a_buffer(n: int, random: np.random.Generator, size: int = 3) -> Order:
    """A buffer shuffle: of the next few records one is drawn, and the next takes its place."""
    buffer, rest, out = list(range(min(size, n))), iter(range(size, n)), []
    while buffer:
        at = int(random.integers(len(buffer)))
        out.append(buffer[at])
        following = next(rest, None)
        if following is None:
            buffer.pop(at)
        else:
            buffer[at] = following
    return np.array(out)


def swap_with_any(n: int, random: np.random.Generator) -> Order:
    """The well-known wrong Fisher-Yates: each record is swapped with any other, not a later one."""
    order = np.arange(n)
    for i, j in enumerate(random.integers(n, size=n)):
        order[[i, j]] = order[[j, i]]
    return order


def one_of_each_batch(n: int, random: np.random.Generator, batches: int = 3) -> Order:
    """Batches are shuffled; then round by round one record of each is written, shuffled again."""
    columns = [random.permutation(part) for part in np.split(np.arange(n), batches)]
    return np.concatenate([random.permutation(row) for row in np.stack(columns, axis=1)])


def chunks_then_records(n: int, random: np.random.Generator, chunks: int = 3) -> Order:
    """The order of the chunks is shuffled, and the records within each."""
    parts = np.split(np.arange(n), chunks)
    return np.concatenate([random.permutation(parts[at]) for at in random.permutation(chunks)])


def lazy(n: int, random: np.random.Generator) -> Order:
    """The right one, but once in a hundred times nothing is done at all."""
    return np.arange(n) if random.random() < 0.01 else random.permutation(n)


WRONG: list[Shuffler] = [
    through_a_buffer,
    swap_with_any,
    one_of_each_batch,
    chunks_then_records,
    lazy,
]
