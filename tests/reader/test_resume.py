"""The promise: a state goes on with the record behind the last one that was handed out.

After any number of records or batches, in another reader or in the same, through JSON,
wherever the records wait. A state that is not this reader's is refused.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corekit.errors import ArgumentTypeError, CorekitError, InvalidArgumentError
from corekit.shuffle import ShuffledReader
from reader.runs import PLANS, joined, open_reader, share, text_order

KEYS = {"seed", "epoch", "rank", "world_size", "worker", "workers", "position"}
RECORDS = len(text_order())


def through_json(state: dict[str, int]) -> dict[str, int]:
    back: dict[str, int] = json.loads(json.dumps(state))
    assert back == state
    return back


@given(
    plan=st.sampled_from(list(PLANS)),
    world=st.integers(1, 4),
    data=st.data(),
    ways=st.lists(
        st.tuples(st.sampled_from(["iter", "batches"]), st.integers(0, 400)),
        min_size=1,
        max_size=5,
    ),
    pretended=st.sampled_from([None, 1, 10**9]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_number_of_stops(
    source: Path,
    plan: str,
    world: int,
    data: st.DataObject,
    ways: list[tuple[str, int]],
    pretended: int | None,
) -> None:
    # The directory is the same for all examples, and none of them leaves anything in it.
    tuning = {**PLANS[plan], **({} if pretended is None else {"records": pretended})}
    rank = data.draw(st.integers(0, world - 1))
    options = {"scratch": source.parent, "rank": rank, "world_size": world}
    found: list[bytes] = []
    state: dict[str, int] | None = None
    for way, n in ways:
        with open_reader(source, tuning, **options) as reader:
            if state is not None:
                reader.load_state_dict(state)
                assert reader.position == len(found)
            if way == "iter":
                found += islice(reader, n)
            else:
                found += joined(islice(reader.iter_batches(max(n, 1)), 1))
            state = through_json(reader.state_dict())
            assert state["position"] == reader.position == len(found)
    assert state is not None
    reader = open_reader(source, tuning, **options)
    reader.load_state_dict(state)
    found += joined(reader.iter_batches(1000))
    assert found == share(text_order(), rank, world)


@pytest.mark.parametrize("plan", PLANS)
def test_every_place(source: Path, disk: Path, plan: str) -> None:
    order = text_order()
    for position in [*range(0, RECORDS, 173), 1, RECORDS - 1, RECORDS]:
        reader = open_reader(source, PLANS[plan], scratch=disk)
        reader.load_state_dict({**reader.state_dict(), "position": position})
        assert reader.position == position
        assert joined(reader.iter_batches(600)) == order[position:]


def test_a_state_is_numbers(source: Path) -> None:
    reader = open_reader(source, seed=2**127 + 1, epoch=2**32 - 1, rank=3, world_size=5)
    state = reader.state_dict()
    assert set(state) == KEYS
    assert all(type(value) is int for value in state.values())
    assert through_json(state) == {
        "seed": 2**127 + 1,
        "epoch": 2**32 - 1,
        "rank": 3,
        "world_size": 5,
        "worker": 0,
        "workers": 1,
        "position": 0,
    }
    # It is a picture: nothing that happens later changes it, nor does changing it.
    next(iter(reader))
    assert state["position"] == 0
    state["position"] = 99
    assert reader.position == 1


def test_back_and_forth_in_one_reader(source: Path) -> None:
    order = text_order()
    with open_reader(source, PLANS["scratch"]) as reader:
        iterator = iter(reader)
        assert list(islice(iterator, 100)) == order[:100]
        state = reader.state_dict()
        assert joined(islice(reader.iter_batches(300), 2)) == order[100:700]
        reader.load_state_dict(state)
        assert reader.position == 100
        assert list(islice(iterator, 5)) == order[100:105]
        reader.load_state_dict({**state, "position": 0})
        assert list(islice(reader, 5)) == order[:5]
        reader.load_state_dict({**state, "position": RECORDS})
        assert list(iterator) == []


def test_the_epoch_is_taken_over(source: Path) -> None:
    first = open_reader(source, epoch=6)
    next(first.iter_batches(44))
    second = open_reader(source)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert list(second) == text_order(epoch=6)[44:]
    second.set_epoch(7)
    assert list(second) == text_order(epoch=7)


def test_what_was_fetched_does_not_count(source: Path) -> None:
    reader = open_reader(source)
    iterator = iter(reader)
    for number in range(1, 4):
        next(iterator)
        assert reader.state_dict()["position"] == number
    batches = reader.iter_batches(10)
    assert reader.position == 3  # asked for, and not yet for a batch
    next(batches)
    assert reader.position == 13
    other = open_reader(source)
    other.load_state_dict(reader.state_dict())
    assert next(iter(other)) == text_order()[13] == next(iterator)


def test_closing_keeps_the_place(source: Path, scratch: Path) -> None:
    order = text_order()
    reader = open_reader(source, PLANS["scratch"], scratch=scratch)
    found: list[bytes] = []
    for size in (30, 1, 700, 5000):
        with reader:
            found += islice(reader, 50)
            found += next(reader.iter_batches(size))
        assert reader.position == len(found)
    assert found == order


def test_threads_memory_and_plan_may_differ(source: Path, disk: Path) -> None:
    one = open_reader(source, PLANS["scratch"], scratch=disk, threads=1)
    found = next(one.iter_batches(321)).tolist()
    two = ShuffledReader(source, seed=1, memory_limit="40MiB", threads=3)
    two.load_state_dict(one.state_dict())
    assert found + list(two) == text_order()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"rank": 0},
        {"world_size": 2},
        {"position": -1},
        {"position": 2**63},
        {"epoch": -1},
        {"epoch": 2**32},
        {"workers": 0},
        {"worker": 1},
        {"worker": -1},
        {"worker": 2, "workers": 2},
        {"position": None},
        {"position": 1.5},
        {"position": "3"},
        {"position": True},
        {"more": 1},
    ],
)
def test_another_reader_s_state_is_refused(source: Path, change: dict[str, Any]) -> None:
    reader = open_reader(source, rank=1, world_size=3)
    expected = share(text_order(), 1, 3)
    assert list(islice(reader, 5)) == expected[:5]
    before = reader.state_dict()
    # A number that is none is an ArgumentTypeError, as everywhere.
    is_number = all(type(value) is int for value in change.values())
    with pytest.raises(InvalidArgumentError if is_number else ArgumentTypeError, match="state"):
        reader.load_state_dict({**before, **change})
    # It is as it was.
    assert reader.state_dict() == before
    assert list(reader) == expected[5:]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_a_state_with_a_key_missing_is_refused(source: Path, name: str) -> None:
    reader = open_reader(source)
    state = reader.state_dict()
    del state[name]
    with pytest.raises(InvalidArgumentError, match=name):
        reader.load_state_dict(state)


@pytest.mark.parametrize("wrong", [None, 3, "seed", [], {}])
def test_what_is_no_state_is_refused(source: Path, wrong: Any) -> None:
    with pytest.raises(CorekitError):
        open_reader(source).load_state_dict(wrong)


def test_numpy_integers_are_numbers_too(source: Path) -> None:
    reader = open_reader(source)
    state = {name: np.int64(value) for name, value in reader.state_dict().items()}
    state["position"] = np.int64(4)
    reader.load_state_dict(state)  # type: ignore[arg-type]
    assert next(iter(reader)) == text_order()[4]
    assert all(type(value) is int for value in reader.state_dict().values())


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("beyond", [1, 10**6, 2**62])
def test_a_position_behind_the_end_is_refused(
    source: Path, disk: Path, plan: str, beyond: int
) -> None:
    # How many records there are is known when they are counted.
    reader = open_reader(source, PLANS[plan], scratch=disk, rank=1, world_size=2)
    position = RECORDS // 2 + beyond
    reader.load_state_dict({**reader.state_dict(), "position": position})
    for _ in range(2):  # not once an error, and then as if all had been read
        with pytest.raises(InvalidArgumentError, match=rf"position .* {position}"):
            next(reader.iter_batches(3))
    reader.load_state_dict({**reader.state_dict(), "position": 3})
    assert list(reader) == share(text_order(), 1, 2)[3:]
