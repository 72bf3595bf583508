"""The promise: a reader may be copied to other processes, and be read by several threads.

A copy, forked or pickled, starts a shuffle of its own at the position that it was copied at;
the original goes on undisturbed, and nobody hangs, whatever the original's threads were doing.
The workers of a DataLoader share what their rank has.
"""

from __future__ import annotations

import atexit
import copy
import ctypes
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from corekit.errors import InvalidArgumentError
from corekit.shuffle import ShuffledReader
from reader import loader
from reader.runs import (
    PATIENCE,
    PLANS,
    exit_code,
    fork,
    joined,
    open_reader,
    share,
    text_order,
)

# Python 3.12 and later warn of what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

METHODS = ["fork", "spawn", "forkserver"]


def must(condition: bool) -> None:
    assert condition


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("way", ["iter", "batches"])
def test_a_forked_child_reads_for_itself(source: Path, scratch: Path, plan: str, way: str) -> None:
    order = text_order()
    reader = open_reader(source, PLANS[plan], scratch=scratch)
    iterator = iter(reader)
    assert list(islice(iterator, 70)) == order[:70]

    def child() -> None:
        assert reader.position == 70
        if way == "iter":
            assert list(iterator) == order[70:]  # the generator goes on, too
        else:
            assert joined(reader.iter_batches(90)) == order[70:]
        reader.close()

    children = [fork(child), fork(child)]
    assert joined(islice(reader.iter_batches(200), 2)) == order[70:470]
    children.append(fork(lambda: must(list(reader) == order[470:])))
    assert [exit_code(pid) for pid in children] == [0, 0, 0]
    assert list(reader) == order[470:]


@pytest.mark.parametrize("leave", [os._exit, sys.exit], ids=["at once", "as an interpreter"])
def test_a_child_that_does_not_read(
    source: Path, scratch: Path, leave: Callable[[int], object]
) -> None:
    reader = open_reader(source, PLANS["scratch"], scratch=scratch)
    next(iter(reader))

    def drop() -> None:
        nonlocal reader
        del reader

    actions: list[Callable[[], object]] = [
        drop,
        lambda: None,
        lambda: reader.close(),
        lambda: reader.set_epoch(3),
        lambda: reader.load_state_dict(reader.state_dict()),
        lambda: reader.records,
        lambda: pickle.dumps(reader),
    ]
    children = [fork(action, leave=leave if leave is os._exit else _finalize) for action in actions]
    assert [exit_code(pid) for pid in children] == [0] * len(actions)
    assert reader.position == 1
    assert list(reader) == text_order()[1:]


def _finalize(code: int) -> None:
    """End as an interpreter does, without pytest's own ending."""
    sys.stdout = sys.stderr = None
    # Py_FinalizeEx would run pytest's and xdist's exit handlers: those are not the child's.
    atexit._clear()
    setattr(threading, "_shutdown", lambda: None)  # noqa: B010 -- it is not a public one
    ctypes.pythonapi.Py_Exit(code)


@contextmanager
def a_waiting_reader(disk: Path) -> Iterator[ShuffledReader]:
    """A reader that another thread waits in, for an input that delivers nothing."""
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    writing = os.open(fifo, os.O_RDWR)
    reader = open_reader(fifo)
    found: list[list[bytes]] = []
    thread = threading.Thread(target=lambda: found.append(list(reader)), daemon=True)
    thread.start()
    time.sleep(0.1)
    try:
        yield reader
    finally:
        os.write(writing, b"a\nb\n")
        os.close(writing)
        thread.join(PATIENCE)
    assert sorted(joined(found)) == [b"a", b"b"], "the parent's reader was disturbed"


@pytest.mark.parametrize(
    "action",
    [
        lambda reader: None,
        lambda reader: reader.state_dict(),
        lambda reader: reader.records,
        lambda reader: reader.close(),
        lambda reader: reader.set_epoch(1),
        lambda reader: reader.load_state_dict(reader.state_dict()),
        lambda reader: reader.__exit__(None, None, None),
        lambda reader: setattr(reader, "_core", None),
    ],
    ids=["nothing", "state", "records", "close", "epoch", "load", "with", "drop"],
)
def test_a_child_forked_while_a_thread_waits(
    disk: Path, action: Callable[[ShuffledReader], object]
) -> None:
    # The thread holds locks that nobody in the child will ever give back.
    with a_waiting_reader(disk) as reader:
        children = [fork(lambda: action(reader)) for _ in range(4)]
        codes = [exit_code(pid, patience=2) for pid in children]
    assert codes == [0] * 4


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_copies_go_on_by_themselves(source: Path, protocol: int) -> None:
    order = text_order()
    reader = open_reader(source, PLANS["memory"])
    assert list(islice(reader, 33)) == order[:33]
    other = pickle.loads(pickle.dumps(reader, protocol))
    third = copy.copy(reader)
    assert other.position == third.position == 33
    assert list(other) == list(third) == list(reader) == order[33:]


def _in_workers(
    method: str,
    reader: ShuffledReader,
    workers: int,
    size: int = 0,
    stop: int | None = None,
    states: list[dict[str, int]] | None = None,
) -> list[tuple[Any, Any]]:
    """Give copies of the reader to workers; return what each of them found, and its state."""
    context: Any = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    processes = []
    for number in range(workers):
        if states is not None:
            reader.load_state_dict(states[number])
        info = loader.WorkerInfo(number, workers)
        arguments = (reader, info, size, stop, results)
        processes.append(context.Process(target=loader.work, args=arguments, daemon=True))
        processes[-1].start()
    found = sorted((results.get() for _ in processes), key=lambda result: int(result[0]))
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    return [(records, state) for _, records, state in found]


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing(source: Path, scratch: Path, method: str) -> None:
    order = text_order()
    reader = open_reader(source, PLANS["scratch"], scratch=scratch)
    assert joined(islice(reader.iter_batches(40), 1)) == order[:40]
    ((found, state),) = _in_workers(method, reader, 1, size=100)
    assert found == order[40:]
    assert state == {**reader.state_dict(), "position": len(order)}
    assert list(reader) == order[40:]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 3)])
def test_workers_share_what_their_rank_has(
    source: Path, method: str, rank: int, world: int
) -> None:
    mine = share(text_order(), rank, world)
    reader = open_reader(source, PLANS["memory"], rank=rank, world_size=world)
    for workers, size in [(2, 0), (3, 64)] if method == "fork" else [(2, 64)]:
        found = _in_workers(method, reader, workers, size)
        assert [records for records, _ in found] == [
            share(mine, number, workers) for number in range(workers)
        ]
        for number, (records, state) in enumerate(found):
            expected = {"worker": number, "workers": workers, "position": len(records)}
            assert state == {**reader.state_dict(), **expected}


def test_workers_go_on_where_they_were(source: Path) -> None:
    mine = share(text_order(), 1, 2)
    reader = open_reader(source, PLANS["rescan"], rank=1, world_size=2, scratch="none")
    first = _in_workers("fork", reader, 3, size=50, stop=100)
    second = _in_workers("fork", reader, 3, size=50, states=[state for _, state in first])
    for number in range(3):
        assert len(first[number][0]) == 100
        assert first[number][0] + second[number][0] == share(mine, number, 3)


def test_a_worker_does_not_go_on_as_another(source: Path) -> None:
    reader = open_reader(source)
    first = _in_workers("fork", reader, 2, size=50, stop=50)
    # Two states that changed places, and one of a rank that was not divided.
    swapped = [first[1][1], first[0][1]]
    for error, _ in _in_workers("fork", reader, 2, size=50, states=swapped):
        assert isinstance(error, InvalidArgumentError)
        assert "worker" in str(error)
    reader.load_state_dict({**reader.state_dict(), "worker": 0, "workers": 1, "position": 5})
    for error, _ in _in_workers("fork", reader, 2, size=50):
        assert isinstance(error, InvalidArgumentError)
    assert list(reader) == text_order()[5:]


def test_epochs_of_workers(source: Path) -> None:
    reader = open_reader(source, PLANS["memory"])
    for epoch in (0, 5):
        reader.set_epoch(epoch)
        found = _in_workers("fork", reader, 2, size=100)
        assert joined(records for records, _ in found) == text_order(epoch=epoch)


def test_a_reader_is_a_dataset(source: Path) -> None:
    def child() -> None:
        loader.install()
        assert isinstance(ShuffledReader(source, seed=1), loader.IterableDataset)
        assert not isinstance(3, loader.IterableDataset)
        # In the main process it is undivided.
        assert list(open_reader(source)) == text_order()
        context = multiprocessing.get_context("spawn")
        results = context.SimpleQueue()
        process = context.Process(target=_dataset_there, args=(open_reader(source), results))
        process.start()
        assert results.get() is True
        process.join(PATIENCE)

    assert exit_code(fork(child)) == 0


def _dataset_there(reader: ShuffledReader, results: Any) -> None:
    loader.install()
    loader.is_dataset(pickle.loads(pickle.dumps(reader)), results)


@contextmanager
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("started", [True, False], ids=["running", "not yet started"])
@pytest.mark.parametrize("way", ["iter", "batches", "both"])
def test_threads_share_the_records(source: Path, started: bool, way: str) -> None:
    order = sorted(text_order() * 4)
    for _ in range(5):
        reader = open_reader([source] * 4, PLANS["memory"])
        found = [next(iter(reader))] if started else []
        errors = _read_by_threads(reader, way, found)
        assert errors == []
        assert sorted(found) == order, f"{len(found)} of {len(order)} records"
        assert reader.position == len(order)


def _read_by_threads(reader: ShuffledReader, way: str, found: list[bytes]) -> list[BaseException]:
    """Let three threads read at the same time; return their errors."""
    errors: list[BaseException] = []
    begin = threading.Barrier(3)

    def run(number: int) -> None:
        begin.wait()
        try:
            if way == "iter" or (way == "both" and number):
                found.extend(iter(reader))
            else:
                for batch in reader.iter_batches(7 + number):
                    found.extend(batch)
        except BaseException as error:  # noqa: BLE001 -- the test wants to see it
            errors.append(error)

    with frequent_switches():
        pool = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join(PATIENCE)
    return errors


def test_closing_in_another_thread(disk: Path) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    writing = os.open(fifo, os.O_RDWR)
    reader = open_reader(fifo)
    thread = threading.Thread(target=lambda: list(reader), daemon=True)
    thread.start()
    time.sleep(0.2)
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 1
    os.write(writing, b"a\n")
    os.close(writing)
    thread.join(PATIENCE)
    assert not thread.is_alive()
