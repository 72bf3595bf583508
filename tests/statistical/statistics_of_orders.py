"""Four looks at an order: close by, from afar, and twice between neighbours.

An order is an array: position p of the output holds record order[p].
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from statistical.judge import chi_square, is_normal, is_random, table

Order = npt.NDArray[np.int64]

SIX = 6
ORDERS_OF_SIX = math.factorial(SIX)


def ranks_of_orders(orders: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number each row, an order of six, from 0 to 719 (by its Lehmer code)."""
    rank = np.zeros(len(orders), dtype=np.int64)
    for i in range(SIX):
        smaller = (orders[:, i + 1 :] < orders[:, i : i + 1]).sum(axis=1)
        rank = rank * (SIX - i) + smaller
    return rank


def all_orders_are_equally_likely(name: str, orders: npt.ArrayLike) -> bool:
    """Whether the rows, orders of six records each, fall evenly on all 720."""
    ranks = ranks_of_orders(np.asarray(orders, dtype=np.int64))
    counts = np.bincount(ranks, minlength=ORDERS_OF_SIX)
    statistic = chi_square(counts, len(ranks) / ORDERS_OF_SIX)
    return is_random(name, statistic, ORDERS_OF_SIX - 1)


def neighbours_part(name: str, order: Order) -> bool:
    """Whether six records that stood together come out in all 720 orders alike.

    In a uniform order of n records the orders of disjoint groups are uniform and
    independent, so one shuffle of n records is n/6 shuffles of six.
    """
    position = np.argsort(order).reshape(-1, SIX)
    return all_orders_are_equally_likely(name, np.argsort(position, axis=1))


def records_go_everywhere(name: str, order: Order, parts: int = 50) -> bool:
    """Whether each part of the input is spread over all parts of the output by chance."""
    n = len(order)
    statistic = table(order * parts // n, np.arange(n) * parts // n, parts, parts)
    return is_random(name, statistic, (parts - 1) ** 2)


def chunks_mix(name: str, order: Order, chunk: int) -> bool:
    """Whether as many neighbours in the output come from one chunk of the input as should.

    Mean and variance of the number of runs in a random arrangement of several kinds: Mood,
    The distribution theory of runs, Annals of Mathematical Statistics 11 (1940).
    """
    n = len(order)
    assert n % chunk == 0
    kinds = order // chunk
    same = int((kinds[1:] == kinds[:-1]).sum())
    squares, cubes = float(n * chunk), float(n * chunk**2)  # sums over the kinds
    mean = squares / n - 1
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - float(n) ** 3) / (
        float(n) ** 2 * (n - 1)
    )
    return is_normal(name, same, mean, variance)


def goes_up_as_often_as_down(name: str, order: Order) -> bool:
    """Whether the next record of the output comes later in the input as often as not.

    Records whose keys tie keep the input's order, so this sees keys that are too short. The
    variance of the number of ascents in a random order is (n + 1)/12 (the Eulerian numbers).
    """
    n = len(order)
    ascents = int((order[1:] > order[:-1]).sum())
    return is_normal(name, ascents, (n - 1) / 2, (n + 1) / 12)


def orders_are_unrelated(name: str, one: Order, other: Order, parts: int = 50) -> bool:
    """Whether where a record stands in one order says nothing of where it stands in the other."""
    n = len(one)
    statistic = table(np.argsort(one) * parts // n, np.argsort(other) * parts // n, parts, parts)
    return is_random(name, statistic, (parts - 1) ** 2)
